//! The semantics of judging: every row of policy-semantics.md's tables that is pure, by the row's name,
//! and a naive reading of the same tables that random policies are compared with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod dns;
mod flows;
mod harden_runner;
mod nameless;
mod order;
mod proxied;
mod reference;

use std::net::IpAddr;
use std::time::Duration;

use super::flow::{Evidence, Flow, FlowRuling, Route, judge_flow};
use super::query::{QueryAction, QueryRuling, judge_query, rtype};
use crate::Moment;
use crate::detection::{Authority, Detection, Ech, Hello, HttpHost, OpaqueReason, Prefix, Sni};
use crate::endpoint::Transport;
use crate::fixture::{at, ip, name};
use crate::rulebook::Rulebook;
use crate::ticket::{Grant, TicketTable};
use crate::verdict::{Judgement, Reason, Verdict};

const HOLD: Duration = Duration::from_hours(1);
const NOW: Moment = at(1_000);

/// A job under a rulebook, with its tickets.
struct Scene {
    book: Rulebook,
    tickets: TicketTable,
}

impl Scene {
    fn new(book: Rulebook) -> Self {
        Self {
            book,
            tickets: TicketTable::default(),
        }
    }

    fn block(policy: &str) -> Self {
        Self::new(crate::fixture::book(policy))
    }

    /// Gives the job a ticket.
    fn ticket(self, asked: &str, address: &str) -> Self {
        let (asked, addresses) = (name(asked), [ip(address)]);
        let grant = Grant {
            asked: &asked,
            chain: &[],
            addresses: &addresses,
            ttl: HOLD,
        };
        self.tickets.grant(&grant, HOLD, NOW);
        self
    }

    /// Gives the job a ticket by an answer with a chain.
    fn chain(self, asked: &str, chain: &[&str], address: &str) -> Self {
        let (asked, addresses) = (name(asked), [ip(address)]);
        let chain: Vec<_> = chain.iter().map(|one| name(one)).collect();
        let grant = Grant {
            asked: &asked,
            chain: &chain,
            addresses: &addresses,
            ttl: HOLD,
        };
        self.tickets.grant(&grant, HOLD, NOW);
        self
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            tickets: &self.tickets,
            proven: None,
            now: NOW,
        }
    }

    /// Judges a TCP flow to `address:port`.
    fn tcp(&self, to: &str, detection: Detection) -> FlowRuling {
        judge_flow(&self.book, tcp(to), &detection, self.evidence())
    }

    fn udp(&self, to: &str) -> FlowRuling {
        let flow = Flow {
            transport: Transport::Udp,
            ..tcp(to)
        };
        judge_flow(&self.book, flow, &opaque(), self.evidence())
    }

    fn quic(&self, to: &str, sni: &str) -> FlowRuling {
        let flow = Flow {
            transport: Transport::Quic,
            ..tcp(to)
        };
        judge_flow(&self.book, flow, &Detection::Quic(hello(sni)), self.evidence())
    }

    fn ask(&self, asked: &str) -> QueryRuling {
        self.ask_type(asked, rtype::A)
    }

    fn ask_type(&self, asked: &str, qtype: u16) -> QueryRuling {
        judge_query(&self.book, &name(asked), qtype, &self.tickets, NOW)
    }
}

/// `address:port`, by TCP.
fn tcp(to: &str) -> Flow {
    let to: std::net::SocketAddr = to.parse().unwrap();
    Flow {
        transport: Transport::Tcp,
        address: to.ip(),
        port: to.port(),
    }
}

fn hello(sni: &str) -> Hello {
    Hello {
        sni: Sni::Name(name(sni)),
        ech: Ech::Absent,
    }
}

fn tls(sni: &str) -> Detection {
    Detection::Tls(hello(sni))
}

fn tls_without_sni() -> Detection {
    Detection::Tls(Hello {
        sni: Sni::Absent,
        ech: Ech::Absent,
    })
}

fn tls_with_ech(sni: &str, config_id: u8) -> Detection {
    Detection::Tls(Hello {
        ech: Ech::Outer { config_id },
        ..hello(sni)
    })
}

fn http(host: &str) -> Detection {
    Detection::Http(Authority {
        host: HttpHost::Name(name(host)),
        port: None,
    })
}

fn http_to_address(host: &str) -> Detection {
    Detection::Http(Authority {
        host: HttpHost::Address(ip(host)),
        port: None,
    })
}

fn server_first() -> Detection {
    Detection::Opaque(OpaqueReason::ServerFirst)
}

fn opaque() -> Detection {
    Detection::Opaque(OpaqueReason::UnknownProtocol)
}

fn malformed(prefix: Prefix) -> Detection {
    Detection::Malformed {
        prefix,
        what: "by a test",
    }
}

/// What a ruling comes to, in one word that reads well in an assertion.
#[derive(Debug, PartialEq, Eq)]
enum Does {
    /// Dials this address.
    Dials(IpAddr),
    /// Resolves this name.
    Resolves(String),
    /// Resolves these exact names to confirm the flow's address.
    Confirms(Vec<String>),
    /// Closes the flow.
    Closes(Reason),
    /// Dials this address, though block mode would not.
    Observes(IpAddr, Reason),
}

fn does(ruling: &FlowRuling) -> Does {
    match (&ruling.route, &ruling.judgement) {
        (Route::Closed, Judgement::Refuse(refusal)) => Does::Closes(refusal.reason),
        (Route::Dial(permit), Judgement::Permit(_)) => Does::Dials(permit.address()),
        (Route::Dial(permit), Judgement::WouldRefuse(refusal)) => {
            Does::Observes(permit.address(), refusal.reason)
        }
        (Route::Resolve(permit), Judgement::Permit(_)) => Does::Resolves(permit.query().name().to_string()),
        (Route::Confirm { permit, .. }, Judgement::Permit(_)) => Does::Confirms(
            permit
                .candidates()
                .iter()
                .map(|one| one.name().to_string())
                .collect(),
        ),
        _ => panic!("a route that does not fit its judgement: {ruling:?}"),
    }
}

fn dials(address: &str) -> Does {
    Does::Dials(ip(address))
}

fn resolves(asked: &str) -> Does {
    Does::Resolves(asked.into())
}

fn confirms(names: &[&str]) -> Does {
    Does::Confirms(names.iter().map(|one| String::from(*one)).collect())
}

/// The rule that a ruling names, as written.
fn rule(judgement: &Judgement) -> &str {
    judgement
        .rule()
        .map(crate::compile::rules::RuleRef::text)
        .unwrap_or_default()
}

/// How a question is answered.
#[derive(Debug, PartialEq, Eq)]
enum Answers {
    /// From upstream, with tickets for this name.
    Resolved(String),
    /// NXDOMAIN.
    Refused(Reason),
    /// An empty answer, with the reason when it is a refusal.
    NoData(Option<Reason>),
    /// RFC 8482.
    Minimal,
}

fn answers(ruling: &QueryRuling) -> Answers {
    let reason = ruling.judgement.refusal().map(|refusal| refusal.reason);
    match (&ruling.action, ruling.judgement.verdict()) {
        (QueryAction::Resolve(permit), Verdict::Permit | Verdict::WouldRefuse) => {
            Answers::Resolved(permit.owner().to_string())
        }
        (QueryAction::Refuse, Verdict::Refuse) => Answers::Refused(reason.unwrap()),
        (QueryAction::NoData, _) => Answers::NoData(reason),
        (QueryAction::MinimalAny, _) => Answers::Minimal,
        _ => panic!("an action that does not fit its judgement: {ruling:?}"),
    }
}

fn resolved(owner: &str) -> Answers {
    Answers::Resolved(owner.into())
}
