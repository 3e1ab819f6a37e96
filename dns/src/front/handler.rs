//! The one handler before which all fronts stand: from a query's bytes to an answer's bytes.
//!
//! The order of steps for a query is here and nowhere else. What can be answered without an upstream is
//! answered at once, on the caller's stack; the rest becomes a [`Pending`] that the caller awaits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashSet;
use tidegate_policy::DnsName;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::EventSink;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::judge::query::{PointerRuling, QueryAction, TypeClass, judge_pointer, judge_query};
use tidegate_policy::special;
use tidegate_policy::ticket::Grant;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};

use super::ask::{Ask, End, listed};
use super::budget::{BudgetConfig, Budgets};
use super::client::{Client, Transport};
use super::limits::Limit;
use super::metrics::{Dropped, FrontMetrics, Source};
use crate::answer::emit::{self, Age};
use crate::answer::local::{self, Hosts};
use crate::answer::share::{Case, Shared};
use crate::answer::{explain, reverse};
use crate::clock::Clock;
use crate::resolver::{Found, ResolveError, Resolver};
use crate::subjects::Subjects;
use crate::wire::query::{self, Query, Unreadable};
use crate::wire::reply::{self, Ede};
use crate::wire::{Rcode, rtype};

/// Datagrams that may wait for upstreams at once.
const MAX_IN_FLIGHT: usize = 8_192;
/// The same of one source.
const MAX_IN_FLIGHT_A_SOURCE: usize = 512;
/// TCP connections open at once.
const MAX_CONNECTIONS: usize = 4_096;
/// The same of one source.
const MAX_CONNECTIONS_A_SOURCE: usize = 64;

/// What the handler is told; may change at every reload.
#[derive(Clone, Debug)]
pub struct HandlerConfig {
    /// Names answered from here, to every job.
    pub hosts: Vec<(DnsName, Vec<IpAddr>)>,
    /// The least life of a ticket (`proxy.ticket-hold`).
    pub ticket_hold: Duration,
    /// The gateway's own addresses: queries to any other server are foreign.
    pub own: HashSet<IpAddr>,
    /// The DNS budget of a job.
    pub budget: BudgetConfig,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            ticket_hold: Duration::from_secs(3_600),
            own: HashSet::new(),
            budget: BudgetConfig::default(),
        }
    }
}

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

struct Live {
    config: HandlerConfig,
    hosts: Hosts,
}

/// The handler. Shared by all threads and fronts.
pub struct DnsHandler {
    pub(super) resolver: Arc<Resolver>,
    subjects: Arc<dyn Subjects>,
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) clock: Clock,
    pub(super) metrics: FrontMetrics,
    /// Datagrams that wait for an upstream.
    pub(super) in_flight: Arc<Limit>,
    /// Open TCP connections.
    pub(super) connections: Arc<Limit>,
    budgets: Budgets,
    live: ArcSwap<Live>,
}

/// What became of a query at once.
pub enum Begun {
    /// These bytes are the answer; `None`: there is none to give.
    Done(Option<Vec<u8>>),
    /// An upstream must be asked.
    Later(Box<Pending>),
}

/// A query that waits for an upstream.
pub struct Pending {
    handler: Arc<DnsHandler>,
    ask: Ask,
    permit: QueryPermit,
    judgement: Judgement,
}

impl Live {
    fn new(config: HandlerConfig) -> Self {
        Self {
            hosts: Hosts::new(&config.hosts),
            config,
        }
    }
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
            budgets: Budgets::default(),
            live: ArcSwap::from_pointee(Live::new(config)),
        })
    }

    /// Takes another configuration; queries under way keep the old one.
    pub fn reconfigure(&self, config: HandlerConfig) {
        self.live.store(Arc::new(Live::new(config)));
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
            Begun::Later(pending) => Some(pending.finish().await),
        }
    }

    /// Takes a query as far as that goes without waiting.
    pub fn begin(self: &Arc<Self>, bytes: &[u8], client: &Client) -> Begun {
        let now = self.clock.now();
        let query = match query::parse(bytes) {
            Ok(query) => query,
            Err(unreadable) => return Begun::Done(self.unreadable(unreadable, client)),
        };
        let subject = self.subjects.subject(client.source.ip(), now);
        let book = subject.rulebook();
        let ask = Ask {
            query,
            client: *client,
            subject,
            book,
            begun: now,
        };
        match self.answer_here(&ask) {
            Step::Reply(reply) => Begun::Done(Some(reply)),
            Step::Resolve(permit, judgement) => match self.resolver.cached(&permit, ask.asked()) {
                Some(found) => Begun::Done(Some(self.answer(&ask, &permit, judgement, found, Source::Hit))),
                None => Begun::Later(Box::new(Pending {
                    handler: Arc::clone(self),
                    ask,
                    permit,
                    judgement,
                })),
            },
        }
    }

    /// FORMERR or NOTIMP to what has a header, silence to the rest.
    fn unreadable(&self, unreadable: Unreadable, client: &Client) -> Option<Vec<u8>> {
        let why = match unreadable {
            Unreadable::Silent(why) => {
                self.metrics.dropped(Dropped::Malformed);
                self.malformed(client, why.0, None);
                return None;
            }
            Unreadable::Answerable { why, .. } => why,
        };
        let Unreadable::Answerable { id, flags, rcode, .. } = unreadable else {
            return None;
        };
        self.malformed(client, why.0, Some(rcode));
        Some(reply::header_only(id, flags, rcode))
    }

    /// Records a message that is none.
    pub(super) fn malformed(&self, client: &Client, why: &'static str, rcode: Option<Rcode>) {
        let subject = self.subjects.subject(client.source.ip(), self.clock.now());
        let judgement = Judgement::Refuse(Refusal::because(Reason::MalformedDns));
        self.metrics.judged(judgement.verdict(), client.transport);
        let kind = tidegate_policy::event::Kind::Dns;
        let mut event = subject.event(self.sink.mint(), kind, client.source.ip());
        event.source_port = client.source.port();
        event.address = Some(client.asked.ip());
        event.port = client.asked.port();
        event.rcode = rcode.map(Rcode::mnemonic);
        event.note = Some(why.into());
        event.judged(&judgement);
        self.sink.emit(event);
    }

    /// Everything before the resolver: protocol, local names, the verdict.
    fn answer_here(&self, ask: &Ask) -> Step {
        if ask.client.spoofed && ask.client.transport == Transport::Udp {
            let judgement = Judgement::Refuse(Refusal::because(Reason::SpoofedSource));
            ask.end(self, End::new(self.sink.mint(), &judgement, Rcode::NOERROR));
            return Step::Reply(reply::truncated(&ask.query, Rcode::NOERROR));
        }
        if let Some((rcode, reason, note)) = unsupported(&ask.query) {
            let judgement = Judgement::Refuse(Refusal::because(reason));
            ask.end(
                self,
                End {
                    note: Some(note.into()),
                    ..End::new(self.sink.mint(), &judgement, rcode)
                },
            );
            return Step::Reply(reply::empty(&ask.query, rcode, None));
        }
        if let Some(reply) = self.local(ask) {
            return Step::Reply(reply);
        }
        let pointed = (ask.query.qtype == rtype::PTR)
            .then(|| reverse::address(&ask.query.name))
            .flatten();
        match pointed {
            Some(address) => self.pointer(ask, address),
            None => self.judge(ask),
        }
    }

    /// `localhost` and the configured hosts, to every job.
    fn local(&self, ask: &Ask) -> Option<Vec<u8>> {
        let (query, live) = (&ask.query, self.live.load());
        let permit = Judgement::Permit(None);
        let id = || self.sink.mint();
        if query.qtype == rtype::PTR {
            let address = reverse::address(&query.name)?;
            let names = match live.hosts.names(address) {
                Some(names) => names.to_vec(),
                None if special::is_loopback(address) => vec![local::localhost_name()],
                None => return None,
            };
            ask.end(self, End::new(id(), &permit, Rcode::NOERROR));
            return Some(local::pointers(query, &names));
        }
        if let Some(loopback) = local::localhost(&query.name) {
            ask.end(self, End::new(id(), &permit, Rcode::NOERROR));
            return Some(local::addresses(query, &loopback).0);
        }
        let (reply, given) = local::addresses(query, live.hosts.get(&query.name)?);
        let grant = Grant {
            asked: &query.name,
            chain: &[],
            addresses: &given,
            ttl: Duration::ZERO,
        };
        ask.subject
            .tickets()
            .grant(&grant, live.config.ticket_hold, ask.begun);
        ask.end(self, End::new(id(), &permit, Rcode::NOERROR));
        Some(reply)
    }

    fn pointer(&self, ask: &Ask, address: IpAddr) -> Step {
        match judge_pointer(
            &ask.book,
            &ask.query.name,
            address,
            ask.subject.tickets(),
            ask.begun,
        ) {
            PointerRuling::Ticketed(names) => {
                ask.end(
                    self,
                    End::new(self.sink.mint(), &Judgement::Permit(None), Rcode::NOERROR),
                );
                Step::Reply(local::pointers(&ask.query, &names))
            }
            PointerRuling::Forward(permit, rule) => Step::Resolve(permit, Judgement::Permit(Some(rule))),
            PointerRuling::Observe(permit) => Step::Resolve(permit, Judgement::Permit(None)),
            PointerRuling::Refuse(refusal) => Step::Reply(self.refuse(ask, refusal)),
        }
    }

    fn judge(&self, ask: &Ask) -> Step {
        let (query, book) = (&ask.query, &ask.book);
        let ruling = judge_query(book, &query.name, query.qtype, ask.subject.tickets(), ask.begun);
        match (ruling.action, ruling.judgement) {
            (QueryAction::Resolve(permit), judgement) => self.within_budget(ask, permit, judgement),
            (QueryAction::MinimalAny, judgement) => {
                ask.end(self, End::new(self.sink.mint(), &judgement, Rcode::NOERROR));
                Step::Reply(explain::minimal_any(query))
            }
            (QueryAction::Refuse, Judgement::Refuse(refusal)) => Step::Reply(self.refuse(ask, refusal)),
            (QueryAction::NoData, Judgement::Refuse(refusal)) => Step::Reply(self.no_data(ask, refusal)),
            (QueryAction::Refuse | QueryAction::NoData, Judgement::Permit(_) | Judgement::WouldRefuse(_)) => {
                Step::Reply(self.refuse(ask, Refusal::because(Reason::NotAllowed)))
            }
        }
    }

    /// Evasion D13: distinct names below a wildcard are payload when there are too many.
    fn within_budget(&self, ask: &Ask, permit: QueryPermit, judgement: Judgement) -> Step {
        let Judgement::Permit(Some(rule)) = &judgement else {
            return Step::Resolve(permit, judgement);
        };
        if permit.owner() != permit.name() || self.charge(ask.subject.id, permit.name(), rule) {
            return Step::Resolve(permit, judgement);
        }
        let refusal = Refusal::by(Reason::DnsBudget, rule.clone());
        if ask.is_audit() {
            return Step::Resolve(permit, Judgement::WouldRefuse(refusal));
        }
        Step::Reply(self.refuse(ask, refusal))
    }

    /// NXDOMAIN with the explanation.
    fn refuse(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        let id = self.sink.mint();
        let reply = explain::refused(&ask.query, &explain::blocked(&ask.book, &refusal, id));
        ask.end(self, End::new(id, &Judgement::Refuse(refusal), Rcode::NXDOMAIN));
        self.fitted(ask, reply, Rcode::NXDOMAIN).0
    }

    /// An empty NOERROR with the explanation.
    fn no_data(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        let id = self.sink.mint();
        let reply = explain::no_data(&ask.query, &explain::blocked(&ask.book, &refusal, id));
        ask.end(self, End::new(id, &Judgement::Refuse(refusal), Rcode::NOERROR));
        self.fitted(ask, reply, Rcode::NOERROR).0
    }

    /// An upstream's answer, as this job gets it. Its tickets are stored before the bytes are returned.
    fn answer(
        &self,
        ask: &Ask,
        permit: &QueryPermit,
        judgement: Judgement,
        found: Found,
        source: Source,
    ) -> Vec<u8> {
        let Found { answer, stale } = found;
        let case = Case {
            book: &ask.book,
            permit,
            answer: &answer,
        };
        case.note_ech(|name| self.resolver.known_addresses(name));
        let share = match case.share() {
            Shared::Records(share) => share,
            Shared::NoAddress(refusal) => return self.no_data(ask, refusal),
            Shared::Refused(refusal) => return self.refuse(ask, refusal),
        };
        let now = self.clock.now();
        let (age, ede, source) = match stale {
            true => (
                Age::Stale,
                Some(Ede::new(Ede::STALE_ANSWER, String::new())),
                Source::Stale,
            ),
            false => (Age::Fresh(answer.age(now)), None, source),
        };
        let reply = if share.is_whole() {
            emit::whole(&answer, &ask.query, age, ede.as_ref())
        } else {
            emit::part(&answer, &share, &ask.query, age, ede.as_ref())
        };
        let (reply, is_whole) = self.fitted(ask, reply, answer.rcode);
        if is_whole {
            case.grant(
                &share,
                ask.subject.tickets(),
                self.live.load().config.ticket_hold,
                now,
            );
        }
        let judgement = match (judgement, ask.is_audit()) {
            (Judgement::Permit(rule), true) => case
                .would_refuse()
                .map_or(Judgement::Permit(rule), Judgement::WouldRefuse),
            (judgement, _) => judgement,
        };
        let note = share.refusal.map(|refusal| {
            compact_str::format_compact!("some addresses were left out: {}", refusal.reason.as_str())
        });
        let answers = listed(&answer, &share.addresses);
        ask.end(
            self,
            End {
                source,
                answers,
                note,
                ..End::new(self.sink.mint(), &judgement, answer.rcode)
            },
        );
        reply
    }

    /// SERVFAIL: the name is allowed, but nobody can tell.
    fn failed(&self, ask: &Ask, judgement: Judgement, error: ResolveError) -> Vec<u8> {
        let (code, text) = match error {
            ResolveError::Timeout | ResolveError::NoUpstream => {
                (Ede::NO_REACHABLE_AUTHORITY, error.to_string())
            }
            ResolveError::Unreachable | ResolveError::Answered(_) | ResolveError::Busy => {
                (Ede::NETWORK_ERROR, error.to_string())
            }
        };
        let note = Some(compact_str::format_compact!("{error}"));
        let end = End {
            source: Source::Miss,
            note,
            ..End::new(self.sink.mint(), &judgement, Rcode::SERVFAIL)
        };
        ask.end(self, end);
        reply::empty(&ask.query, Rcode::SERVFAIL, Some(&Ede::new(code, text)))
    }

    /// The reply, or TC=1 when the client's transport can't take it; and whether it is the reply.
    fn fitted(&self, ask: &Ask, reply: Vec<u8>, rcode: Rcode) -> (Vec<u8>, bool) {
        let limit = match ask.client.transport {
            Transport::Udp => ask.query.udp_limit(),
            Transport::Tcp | Transport::Tls | Transport::Https => usize::from(u16::MAX),
        };
        if reply.len() <= limit {
            (reply, true)
        } else {
            (reply::truncated(&ask.query, rcode), false)
        }
    }
}

impl Pending {
    /// Asks and answers.
    pub async fn finish(self) -> Vec<u8> {
        let Self {
            handler,
            ask,
            permit,
            judgement,
        } = self;
        match handler.resolver.lookup(&permit, ask.asked()).await {
            Ok(found) => handler.answer(&ask, &permit, judgement, found, Source::Miss),
            Err(error) => handler.failed(&ask, judgement, error),
        }
    }
}

/// The next step of a query.
enum Step {
    Reply(Vec<u8>),
    Resolve(QueryPermit, Judgement),
}

/// What is no question that a resolver answers: other opcodes, classes, EDNS versions and meta types.
fn unsupported(query: &Query) -> Option<(Rcode, Reason, &'static str)> {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        // RFC 6891 §6.1.3.
        return Some((Rcode::BADVERS, Reason::MalformedDns, "EDNS version"));
    }
    if !query.is_standard() {
        return Some((Rcode::NOTIMP, Reason::RecordType, "opcode"));
    }
    if !query.is_internet() {
        return Some((Rcode::REFUSED, Reason::RecordType, "class"));
    }
    match (query.qtype, TypeClass::of(query.qtype)) {
        (rtype::AXFR | rtype::IXFR, _) => Some((Rcode::REFUSED, Reason::RecordType, "zone transfer")),
        (_, TypeClass::Meta) => Some((Rcode::NOTIMP, Reason::RecordType, "meta type")),
        (
            _,
            TypeClass::Follows
            | TypeClass::Validation
            | TypeClass::Any
            | TypeClass::Pointer
            | TypeClass::Unforwarded,
        ) => None,
    }
}
