//! Audit: queries to a foreign server are relayed to it unchanged, and its answers read for tickets.
//!
//! Audit is inert, so nothing is filtered here but what the global block list refuses. A datagram gets a
//! socket of its own and one answer; what waits is bounded by the socket loop that brought it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::Moment;
use tidegate_policy::detection::{Detection, OpaqueReason};
use tidegate_policy::endpoint::Transport as FlowTransport;
use tidegate_policy::judge::flow::{Evidence, Flow, FlowRuling, Route, judge_flow};
use tidegate_policy::judge::permit::{DialPermit, QueryPermit};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::special;
use tidegate_policy::subject::Subject;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::ask::{Ask, End, listed};
use super::client::{Client, Transport};
use super::handler::DnsHandler;
use super::metrics::Source;
use super::steps::{Ruled, Step, unsupported};
use crate::answer::emit::{self, Age};
use crate::answer::share::{Case, Shared};
use crate::resolver::Question;
use crate::resolver::answer::Answer;
use crate::wire::{Rcode, flag, u16_at};

/// How long a foreign server may take: what stub resolvers wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// A message on its way to a foreign server.
pub(super) struct Watch {
    dial: DialPermit,
    content: Content,
}

/// What the message is.
enum Content {
    /// A query; with the permit by which its answer gives tickets.
    Query {
        ask: Box<Ask>,
        permit: Option<QueryPermit>,
        judgement: Judgement,
    },
    /// No query: DNSCrypt, say. Relayed all the same.
    Raw { client: Client, judgement: Judgement },
}

impl Watch {
    /// The id by which its answer is known.
    pub(super) fn id(&self) -> Option<u16> {
        match &self.content {
            Content::Query { ask, .. } => Some(ask.query.id),
            Content::Raw { .. } => None,
        }
    }
}

/// Judges the server itself as a flow to port 53.
fn judge_server(client: &Client, subject: &Subject, book: &Rulebook, now: Moment) -> FlowRuling {
    let transport = match client.transport {
        Transport::Udp => FlowTransport::Udp,
        Transport::Tcp | Transport::Tls | Transport::Https => FlowTransport::Tcp,
    };
    let flow = Flow {
        transport,
        address: client.asked.ip(),
        port: client.asked.port(),
    };
    let evidence = Evidence {
        tickets: subject.tickets(),
        proven: None,
        now,
    };
    judge_flow(
        book,
        flow,
        &Detection::Opaque(OpaqueReason::UnknownProtocol),
        evidence,
    )
}

/// The permit to dial the server, when it may be dialled.
fn dialled(ruling: FlowRuling) -> Option<(DialPermit, Judgement)> {
    match ruling.route {
        Route::Dial(dial) => Some((dial, ruling.judgement)),
        Route::Confirm { otherwise, .. } => match otherwise.route {
            Route::Dial(dial) => Some((dial, otherwise.judgement)),
            Route::Closed | Route::Resolve(_) | Route::Confirm { .. } => None,
        },
        Route::Closed | Route::Resolve(_) => None,
    }
}

/// How bytes that are no query are to be relayed, when they may be.
pub(super) fn watch_raw(
    client: &Client,
    subject: Arc<Subject>,
    book: &Rulebook,
    now: Moment,
) -> Option<Watch> {
    let (dial, judgement) = dialled(judge_server(client, &subject, book, now))?;
    Some(Watch {
        dial,
        content: Content::Raw {
            client: *client,
            judgement,
        },
    })
}

/// The permit to dial the server that a client of audit chose.
pub(super) fn server(client: &Client, subject: &Subject, book: &Rulebook, now: Moment) -> Option<DialPermit> {
    dialled(judge_server(client, subject, book, now)).map(|(dial, _)| dial)
}

impl DnsHandler {
    /// Judges a query to a foreign server in audit, for the record and by the global block list.
    pub(super) fn watch(&self, mut ask: Ask) -> Step {
        // What follows depends on the server, too: nothing to be repeated.
        ask.teach = None;
        let ruling = judge_server(&ask.client, &ask.subject, &ask.book, ask.begun);
        if let Judgement::Refuse(refusal) = &ruling.judgement
            && refusal.reason != Reason::NeverDial
        {
            return Step::Reply(self.refuse(&ask, refusal.clone()).into());
        }
        // What is never dialled has no server to relay to; the gateway answers in its stead.
        let Some((dial, _)) = dialled(ruling) else {
            return self.decide(ask);
        };
        if let Some((_, reason, _)) = unsupported(&ask.query) {
            let judgement = Judgement::WouldRefuse(Refusal::because(reason));
            let content = Content::Query {
                ask: Box::new(ask),
                permit: None,
                judgement,
            };
            return Step::Relay(Watch { dial, content });
        }
        match self.rule(&ask) {
            Ruled::Reply(reply) => Step::Reply(reply),
            Ruled::Resolve(permit, judgement) => {
                let content = Content::Query {
                    ask: Box::new(ask),
                    permit: Some(permit),
                    judgement,
                };
                Step::Relay(Watch { dial, content })
            }
        }
    }

    /// A foreign server's answer, or its silence: what goes to the client, its tickets stored before.
    pub(super) fn relayed(&self, watch: Watch, answer: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let (ask, permit, judgement) = match watch.content {
            Content::Query {
                ask,
                permit,
                judgement,
            } => (ask, permit, judgement),
            Content::Raw { client, judgement } => {
                self.record_malformed(&client, "relayed: not a DNS query", None, &judgement);
                return answer;
            }
        };
        if let Some(bytes) = answer {
            return Some(self.read_answer(&ask, permit.as_ref(), judgement, bytes));
        }
        let mut end = End::new(self.sink.mint(), &judgement, Rcode::SERVFAIL);
        end.rcode = None;
        end.note = Some("the server did not answer".into());
        ask.end(self, end);
        None
    }

    fn read_answer(
        &self,
        ask: &Ask,
        permit: Option<&QueryPermit>,
        judgement: Judgement,
        bytes: Vec<u8>,
    ) -> Vec<u8> {
        let now = self.clock.now();
        let rcode = Rcode(u16_at(&bytes, 2).unwrap_or_default() & flag::RCODE);
        let accepted = permit.and_then(|permit| {
            let question = Question::new(permit, ask.asked());
            Some((permit, Answer::accept(&question, bytes.clone(), now).ok()?))
        });
        let end = |judgement, answers| {
            let end = End::new(self.sink.mint(), judgement, rcode);
            ask.end(
                self,
                End {
                    source: Source::Miss,
                    answers,
                    ..end
                },
            );
        };
        let Some((permit, answer)) = accepted else {
            end(&judgement, smallvec::SmallVec::new());
            return bytes;
        };
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
        let reply = if share.is_whole() {
            bytes
        } else {
            emit::answer(&answer, &share, &ask.query, Age::Fresh(0))
        };
        case.grant(
            &share,
            ask.subject.tickets(),
            self.live.load().config.ticket_hold,
            now,
        );
        let judgement = case.judgement_in_audit(judgement);
        end(&judgement, listed(&answer, &share.addresses));
        reply
    }
}

/// Sends one datagram to the server that the client chose and waits for its answer.
pub(super) async fn exchange(handler: &Arc<DnsHandler>, bytes: Vec<u8>, watch: Watch) -> Option<Vec<u8>> {
    let answer = timeout(PATIENCE, converse(&bytes, &watch))
        .await
        .ok()
        .and_then(Result::ok);
    handler.relayed(watch, answer)
}

async fn converse(bytes: &[u8], watch: &Watch) -> std::io::Result<Vec<u8>> {
    let server = SocketAddr::new(watch.dial.address(), watch.dial.port());
    let socket = UdpSocket::bind(SocketAddr::new(special::unspecified(server.is_ipv6()), 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if watch.id().is_none_or(|id| u16_at(answer, 0) == Some(id)) {
            return Ok(answer.to_vec());
        }
    }
}
