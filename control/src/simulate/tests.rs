//! Predictions against what gateways decide: calls are made under one policy, recorded as gateways record them, judged anew
//! by a candidate, and the outcome is compared with the same calls made under the candidate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rows;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tidegate_control_wire::event::{EventJob, EventRecord};
use tidegate_policy::compile::block::{BlockEntry, GlobalBlock, GlobalBlocks};
use tidegate_policy::detection::{Authority, Detection, Ech, Hello, HttpHost, OpaqueReason, Sni};
use tidegate_policy::document::{ParseOptions, PolicyDocument};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::job::{Assurance, Scope};
use tidegate_policy::judge::flow::{Evidence, Flow, FlowRuling, Route, judge_flow};
use tidegate_policy::judge::query::{judge_query, rtype};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::ticket::{Grant, TicketTable};
use tidegate_policy::verdict::{Judgement, Mode, Verdict};
use tidegate_policy::{DnsName, Moment};

use super::{Call, Candidate, Foreseen, foresee};

const NOW: Moment = Moment::from_millis(1);
const NAMES: [&str; 5] = ["a.test", "b.test", "x.a.test", "blocked.test", "c.example"];
const RULES: [&str; 12] = [
    "a.test:443",
    "a.test:5432",
    "*.a.test:443",
    "b.test:443",
    "b.test:*",
    "c.example:80",
    "c.example:443/udp",
    "192.0.2.1:443",
    "192.0.2.0/24:5432",
    "198.51.100.0/24:443",
    "blocked.test:443",
    "*:443",
];
const DENIED: [&str; 4] = ["x.a.test", "b.test:443", "198.51.100.7", "c.example:80"];
/// An address that no name has.
const FOREIGN: &str = "198.51.100.7";

/// The address of a name.
fn address_of(name: &str) -> IpAddr {
    let at = NAMES.iter().position(|known| *known == name).unwrap();
    format!("192.0.2.{}", at + 1).parse().unwrap()
}

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn candidate(yaml: &str) -> Candidate {
    let document = PolicyDocument::parse(yaml, &ParseOptions::default())
        .document
        .unwrap();
    let blocked = BlockEntry::Name {
        name: name("blocked.test"),
        below: false,
    };
    let global = GlobalBlocks::new([Arc::new(GlobalBlock::build([blocked]))]);
    Candidate::new(&document, &HashMap::new(), &web(), global).unwrap()
}

fn web() -> Scope {
    "repo:acme/web".parse().unwrap()
}

/// A call as a client makes it.
#[derive(Clone, Debug)]
enum Made {
    Query(&'static str),
    Flow {
        kind: Kind,
        /// What the client wants.
        wants: &'static str,
        /// It goes to an address that nobody gave it.
        astray: bool,
        /// It says whom it wants.
        says: bool,
        port: u16,
    },
}

/// What a job holds: an answer for every name.
fn tickets() -> TicketTable {
    let table = TicketTable::default();
    for text in NAMES {
        let grant = Grant {
            asked: &name(text),
            chain: &[],
            addresses: &[address_of(text)],
            ttl: Duration::from_mins(10),
        };
        table.grant(&grant, Duration::from_mins(10), NOW);
    }
    table
}

fn flow_of(made: &Made) -> Option<(Flow, Detection)> {
    let Made::Flow {
        kind,
        wants,
        astray,
        says,
        port,
    } = made
    else {
        return None;
    };
    let (transport, detection) = match kind {
        Kind::Tls => (
            Transport::Tcp,
            Detection::Tls(Hello {
                sni: if *says {
                    Sni::Name(name(wants))
                } else {
                    Sni::Absent
                },
                ech: Ech::Absent,
            }),
        ),
        Kind::Http => (
            Transport::Tcp,
            Detection::Http(Authority {
                host: if *says {
                    HttpHost::Name(name(wants))
                } else {
                    HttpHost::Absent
                },
                port: None,
            }),
        ),
        Kind::Tcp => (Transport::Tcp, Detection::Opaque(OpaqueReason::ServerFirst)),
        Kind::Udp | Kind::Dns | Kind::Quic | Kind::Icmp | Kind::Ip => {
            (Transport::Udp, Detection::Opaque(OpaqueReason::UnknownProtocol))
        }
    };
    let address = if *astray {
        FOREIGN.parse().unwrap()
    } else {
        address_of(wants)
    };
    let flow = Flow {
        transport,
        address,
        port: *port,
    };
    Some((flow, detection))
}

/// Makes a call under a policy, as a gateway judges it; the event, and the verdict, `None` when only the network knows.
fn made_under(book: &Rulebook, made: &Made) -> (EventRecord, Option<Verdict>) {
    let tickets = tickets();
    if let Made::Query(asked) = made {
        let judged = judge_query(book, &name(asked), rtype::A, &TicketTable::default(), NOW).judgement;
        let mut event = event(book.mode(), &judged);
        event.kind = Kind::Dns;
        event.name = Some((*asked).into());
        event.name_source = NameSource::Query;
        event.qtype = Some("A".into());
        event.port = 53;
        return (event, Some(judged.verdict()));
    }
    let (flow, detection) = flow_of(made).unwrap();
    let evidence = |proven| Evidence {
        tickets: &tickets,
        proven,
        now: NOW,
    };
    let FlowRuling {
        mut judgement,
        name: shown,
        name_source,
        route,
    } = judge_flow(book, flow, &detection, evidence(None));
    let mut dialled = flow.address;
    let mut known = true;
    match route {
        Route::Resolve(_) => {
            let carried = shown.clone().unwrap();
            dialled = address_of(&carried.to_string());
            let there = Flow {
                address: dialled,
                ..flow
            };
            judgement = judge_flow(book, there, &detection, evidence(Some(&carried))).judgement;
        }
        Route::Confirm { .. } => known = false,
        Route::Closed | Route::Dial(_) => {}
    }
    let mut event = event(book.mode(), &judgement);
    let Made::Flow { kind, port, .. } = made else {
        unreachable!("queries are answered above")
    };
    event.kind = *kind;
    event.name = shown.map(|name| name.to_string().into());
    event.name_source = name_source;
    event.address = Some(dialled);
    event.original_address = (dialled != flow.address).then_some(flow.address);
    event.port = *port;
    (event, known.then(|| judgement.verdict()))
}

/// An event with a judgement, of a job of acme/web.
fn event(mode: Mode, judgement: &Judgement) -> EventRecord {
    let reason = judgement.refusal().map(|refusal| refusal.reason.as_str());
    let rule = judgement.rule().map(|rule| rule.text().to_string());
    let event = serde_json::json!({
        "schema": 1, "time": "2026-11-20T10:00:00Z", "id": "00000001", "gateway": "gw-1", "source": "10.77.0.2",
        "kind": "tls", "mode": mode, "verdict": judgement.verdict(), "reason": reason, "rule": rule,
        "job": job(),
    });
    serde_json::from_value(event).unwrap()
}

fn job() -> EventJob {
    let text = "";
    EventJob {
        id: "job_1".into(),
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: "7".into(),
        run_attempt: 1,
        runner_name: text.into(),
        cluster: "prod".into(),
        event: "push".into(),
        git_ref: text.into(),
        actor: text.into(),
        head_repo: text.into(),
        assurance: Assurance::Signed,
    }
}

fn policy() -> impl Strategy<Value = String> {
    let allowed = subsequence(RULES.to_vec(), 0..RULES.len());
    let denied = subsequence(DENIED.to_vec(), 0..DENIED.len());
    (select(vec!["block", "audit"]), allowed, denied).prop_map(|(mode, allowed, denied)| {
        let list = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| format!("\"{line}\""))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!(
            "egress-policy: {mode}\nplatform: none\nallowed-endpoints: [{}]\ndenied-endpoints: [{}]\n",
            list(&allowed),
            list(&denied)
        )
    })
}

fn call() -> impl Strategy<Value = Made> {
    let flow = (
        select(vec![Kind::Tls, Kind::Http, Kind::Tcp, Kind::Udp]),
        select(NAMES.to_vec()),
        any::<bool>(),
        any::<bool>(),
        select(vec![80, 443, 5432]),
    );
    prop_oneof![
        select(NAMES.to_vec()).prop_map(Made::Query),
        flow.prop_map(|(kind, wants, astray, says, port)| Made::Flow {
            kind,
            wants,
            // A flow that says nothing and goes to nobody's address has no name in any record.
            astray: astray && says && matches!(kind, Kind::Tls | Kind::Http),
            says,
            port,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_prediction_is_what_the_candidate_then_decides(then in policy(), tried in policy(), made in call()) {
        let (recorded, _) = made_under(&candidate(&then).book, &made);
        let tried = candidate(&tried);
        let call = Call::of(&recorded).unwrap();
        let foreseen = foresee(&tried, &call, &[]);
        let (_, truth) = made_under(&tried.book, &made);
        match foreseen {
            Foreseen::Undecided(_) => prop_assert_eq!(truth, None, "what is decided can be foreseen"),
            Foreseen::Judged(_) => prop_assert_eq!(foreseen.verdict(), truth),
        }
    }
}
