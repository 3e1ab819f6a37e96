//! The one handler before which all fronts stand: from a query's bytes to an answer's bytes.
//!
//! What can be answered without an upstream is answered at once, on the caller's stack (`steps`);
//! the rest becomes a [`Pending`] that the caller awaits.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_policy::DnsName;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::{EventSink, Kind};
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::subject::Subject;
use tidegate_policy::verdict::{Judgement, Mode, Reason, Refusal};

use super::ask::{Ask, Told};
use super::budget::Budgets;
use super::client::{Client, Transport};
use super::config::{HandlerConfig, Live};
use super::limits::Limit;
use super::metrics::{Dropped, FrontMetrics, Source};
use super::relay::{self, Watch};
use super::steps::Step;
use crate::clock::Clock;
use crate::fast::lesson::{Draft, Epochs};
use crate::fast::seat::Seats;
use crate::resolver::Resolver;
use crate::subjects::Subjects;
use crate::wire::query::{self, Unreadable};
use crate::wire::reply;
use crate::wire::{Rcode, WireError};

/// Datagrams that may wait for upstreams at once.
const MAX_IN_FLIGHT: usize = 8_192;
/// The same of one source.
const MAX_IN_FLIGHT_A_SOURCE: usize = 512;
/// TCP connections open at once.
const MAX_CONNECTIONS: usize = 4_096;
/// The same of one source.
const MAX_CONNECTIONS_A_SOURCE: usize = 64;

/// What the handler works with.
pub struct Parts {
    /// Answers.
    pub resolver: Arc<Resolver>,
    /// Who is asking.
    pub subjects: Arc<dyn Subjects>,
    /// Where verdicts go.
    pub sink: Arc<dyn EventSink>,
    /// What time it is.
    pub clock: Clock,
}

/// The handler. Shared by all threads and fronts.
pub struct DnsHandler {
    pub(super) resolver: Arc<Resolver>,
    pub(crate) subjects: Arc<dyn Subjects>,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) clock: Clock,
    pub(crate) metrics: FrontMetrics,
    /// Datagrams that wait for an upstream.
    pub(super) in_flight: Arc<Limit>,
    /// Open TCP connections.
    pub(super) connections: Arc<Limit>,
    pub(crate) live: ArcSwap<Live>,
    pub(crate) budgets: Budgets,
    /// Of the workers of the fast path.
    pub(crate) seats: Seats,
}

/// What became of a query at once.
pub enum Begun {
    /// These bytes are the answer; `None`: there is none to give.
    Done(Option<Vec<u8>>),
    /// Another server must be asked.
    Later(Box<Pending>),
}

/// A query that waits for another server.
pub struct Pending {
    handler: Arc<DnsHandler>,
    work: Work,
}

enum Work {
    /// One of our upstreams.
    Resolve {
        ask: Ask,
        permit: QueryPermit,
        judgement: Judgement,
    },
    /// The server that the client chose.
    Relay { bytes: Vec<u8>, watch: Watch },
}

impl DnsHandler {
    /// A handler; it listens nowhere yet.
    pub fn new(parts: Parts, config: HandlerConfig) -> Arc<Self> {
        let Parts {
            resolver,
            subjects,
            sink,
            clock,
        } = parts;
        Arc::new(Self {
            resolver,
            subjects,
            sink,
            clock,
            metrics: FrontMetrics::new(),
            in_flight: Limit::new(MAX_IN_FLIGHT, MAX_IN_FLIGHT_A_SOURCE),
            connections: Limit::new(MAX_CONNECTIONS, MAX_CONNECTIONS_A_SOURCE),
            live: ArcSwap::from_pointee(Live::new(config)),
            budgets: Budgets::default(),
            seats: Seats::default(),
        })
    }

    /// Takes another configuration; queries under way keep the old one.
    pub fn reconfigure(&self, config: HandlerConfig) {
        self.live.store(Arc::new(Live::new(config)));
    }

    /// Has the fast path tell what it has counted of these sources but not made an event of yet. Asked for at once; what
    /// comes back ends when every worker has told, and need not be waited for. A worker whose thread is held up holds it
    /// up, too: give it a bound.
    pub fn tell_repeats(&self, sources: &[IpAddr]) -> impl Future<Output = ()> + Send + use<> {
        self.seats.close(sources)
    }

    /// Charges a name that `rule` permits to a subject's DNS budget: for `proxy`, which resolves names
    /// of flows by itself. False when the budget is used up.
    pub fn charge(&self, subject: u64, name: &DnsName, rule: &RuleRef) -> bool {
        self.budgets.charge(
            subject,
            name,
            rule,
            self.live.load().config.budget,
            self.clock.now(),
        )
    }

    /// From a query's bytes to an answer's bytes; `None` when no answer is to be given.
    pub async fn handle_bytes(self: &Arc<Self>, bytes: &[u8], client: &Client) -> Option<Vec<u8>> {
        match self.begin(bytes, client) {
            Begun::Done(answer) => answer,
            Begun::Later(pending) => pending.finish().await,
        }
    }

    /// Takes a query as far as that goes without waiting.
    pub fn begin(self: &Arc<Self>, bytes: &[u8], client: &Client) -> Begun {
        match self.read(bytes, client) {
            Ok(ask) => self.take(ask, bytes).0,
            Err(unreadable) => {
                let raw = self.is_foreign(client).then(|| self.watch_raw(client)).flatten();
                match raw {
                    Some(watch) => self.later(Work::Relay {
                        bytes: bytes.to_vec(),
                        watch,
                    }),
                    None => Begun::Done(self.unreadable(unreadable, client)),
                }
            }
        }
    }

    /// The same, with what the answer taught, if it is one that can be repeated.
    pub(crate) fn begin_teaching(
        self: &Arc<Self>,
        bytes: &[u8],
        client: &Client,
    ) -> (Begun, Option<Box<Draft>>) {
        match self.read(bytes, client) {
            Ok(mut ask) => {
                // Before anything is decided: what changes from now on is seen as a change.
                ask.teach = Some(Epochs {
                    budget: self.budgets.epoch(),
                    ech: ask.book.world.ech.epoch(),
                });
                self.take(ask, bytes)
            }
            Err(_) => (self.begin(bytes, client), None),
        }
    }

    fn later(self: &Arc<Self>, work: Work) -> Begun {
        Begun::Later(Box::new(Pending {
            handler: Arc::clone(self),
            work,
        }))
    }

    fn take(self: &Arc<Self>, ask: Ask, bytes: &[u8]) -> (Begun, Option<Box<Draft>>) {
        let client = &ask.client;
        let done = |told: Told| (Begun::Done(Some(told.reply)), told.draft);
        let step = match client.transport {
            Transport::Udp if !client.spoofed && ask.is_audit() && self.is_foreign(client) => self.watch(ask),
            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Https => self.decide(ask),
        };
        match step {
            Step::Reply(told) => done(told),
            Step::Relay(watch) => {
                let bytes = bytes.to_vec();
                (self.later(Work::Relay { bytes, watch }), None)
            }
            Step::Resolve(ask, permit, judgement) => {
                if let Some(found) = self.resolver.cached(&permit, ask.asked()) {
                    return done(self.answer(&ask, &permit, judgement, found, Source::Hit));
                }
                let work = Work::Resolve {
                    ask,
                    permit,
                    judgement,
                };
                (self.later(work), None)
            }
        }
    }

    /// Reads a query and finds out who asks.
    pub(super) fn read(&self, bytes: &[u8], client: &Client) -> Result<Ask, Unreadable> {
        let query = query::parse(bytes)?;
        let (begun, watch) = (self.clock.now(), self.clock.stopwatch());
        let subject = self.subjects.subject(client.source.ip(), begun);
        let book = subject.rulebook();
        Ok(Ask {
            query,
            client: *client,
            subject,
            book,
            begun,
            watch,
            teach: None,
        })
    }

    /// Who asks.
    pub(super) fn subject(&self, client: &Client) -> Arc<Subject> {
        self.subjects.subject(client.source.ip(), self.clock.now())
    }

    /// True when the client asks another server than the gateway.
    pub(super) fn is_foreign(&self, client: &Client) -> bool {
        !self.live.load().config.own.contains(&client.asked.ip())
    }

    /// FORMERR or NOTIMP to what has a header, silence to the rest.
    fn unreadable(&self, unreadable: Unreadable, client: &Client) -> Option<Vec<u8>> {
        match unreadable {
            Unreadable::Silent(WireError(why)) => {
                self.metrics.dropped(Dropped::Malformed, 1);
                self.malformed(client, why, None);
                None
            }
            // Another machine's address: nothing is sent there that a TCP handshake did not ask for.
            Unreadable::Answerable {
                why: WireError(why), ..
            } if client.spoofed => {
                self.malformed(client, why, None);
                None
            }
            Unreadable::Answerable {
                id,
                flags,
                rcode,
                why: WireError(why),
            } => {
                self.malformed(client, why, Some(rcode));
                Some(reply::header_only(id, flags, rcode))
            }
        }
    }

    /// In audit, bytes that are no query, for a foreign server: how they are to be relayed.
    fn watch_raw(&self, client: &Client) -> Option<Watch> {
        let subject = self.subject(client);
        let book = subject.rulebook();
        let relayed = client.transport == Transport::Udp && !client.spoofed && book.mode() == Mode::Audit;
        relayed
            .then(|| relay::watch_raw(client, subject, &book, self.clock.now()))
            .flatten()
    }

    /// Records a message that is none, and that is refused.
    pub(super) fn malformed(&self, client: &Client, why: &'static str, rcode: Option<Rcode>) {
        self.record_malformed(
            client,
            why,
            rcode,
            &Judgement::Refuse(Refusal::because(Reason::MalformedDns)),
        );
    }

    /// Records a message that is none.
    pub(super) fn record_malformed(
        &self,
        client: &Client,
        why: &'static str,
        rcode: Option<Rcode>,
        judgement: &Judgement,
    ) {
        let subject = self.subject(client);
        self.metrics.judged(judgement.verdict(), client.transport);
        let mut event = subject.event(self.sink.mint(), Kind::Dns, client.source.ip());
        event.source_port = client.source.port();
        event.address = Some(client.asked.ip());
        event.port = client.asked.port();
        event.rcode = rcode.map(Rcode::mnemonic);
        event.note = Some(why.into());
        event.judged(judgement);
        self.sink.emit(event);
    }
}

impl Pending {
    /// Asks and answers; `None` when the server that the client chose does not.
    pub async fn finish(self) -> Option<Vec<u8>> {
        let Self { handler, work } = self;
        match work {
            Work::Resolve {
                ask,
                permit,
                judgement,
            } => Some(match handler.resolver.lookup(&permit, ask.asked()).await {
                Ok(found) => {
                    handler
                        .answer(&ask, &permit, judgement, found, Source::Miss)
                        .reply
                }
                Err(error) => handler.failed(&ask, judgement, error),
            }),
            Work::Relay { bytes, watch } => relay::exchange(&handler, bytes, watch).await,
        }
    }
}
