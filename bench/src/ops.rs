//! Single steps of the data plane: parsers, lookups, judgements, tickets. Each is prepared once and then done again and again.
//!
//! Owns what is counted as one step, so that `micro` (time) and `instructions` (callgrind) mean the same by a name. Measures
//! nothing. A name is copied afresh, as from a packet, before the step and outside of it.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Result;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tidegate_policy::DnsName;
use tidegate_policy::compile::block::{GlobalBlock, GlobalBlocks};
use tidegate_policy::detection::{Detection, Ech, Hello, Sni};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::judge::flow::{Evidence, Flow, judge_flow};
use tidegate_policy::judge::query::{judge_query, rtype};
use tidegate_policy::rulebook::{Governing, Rulebook, World};
use tidegate_policy::ticket::{Grant, TicketTable};
use tidegate_proxy::detect::tls::{HelloReader, Progress};
use tidegate_proxy::http1::head::{HeadProgress, RequestReader};

use crate::lists::{Random, unlisted, written};
use crate::world;

/// Names on the allow list and on the global block list.
const RULES: usize = 1_000;
const BLOCKED: usize = 10_000;
const LEASES: usize = 1_000;
/// Different inputs of a step; they take turns.
const INPUTS: usize = 256;

/// A step that can be done again and again.
pub type Step = Box<dyn FnMut()>;

/// Makes a step ready.
pub type Prepare = fn() -> Result<Step>;

/// Every step by its name.
pub const OPS: [(&str, Prepare); 17] = [
    ("read a DNS query", dns_query),
    ("read a ClientHello", || hello(false)),
    ("read a post-quantum ClientHello", || hello(true)),
    ("read an HTTP/1 head", http_head),
    ("find a name of 1 000", || find(true)),
    ("miss a name of 1 000", || find(false)),
    ("find a globally blocked name of 10 000", || blocked(true)),
    ("miss a globally blocked name of 10 000", || blocked(false)),
    ("judge a query: permitted", || query(Asked::Allowed, false)),
    ("judge a query: refused", || query(Asked::Unlisted, false)),
    ("judge a query: refused, nearest rule named", || {
        query(Asked::Unlisted, true)
    }),
    ("judge a query: globally blocked", || query(Asked::Blocked, false)),
    ("judge a TLS flow: permitted by ticket", || flow(true)),
    ("judge a TLS flow: refused", || flow(false)),
    ("grant a ticket again", || ticket(true)),
    ("hold a ticket", || ticket(false)),
    ("find the job of a source of 1 000", source),
];

/// The step of a name.
pub fn find_op(name: &str) -> Option<Prepare> {
    OPS.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, prepare)| *prepare)
}

/// A step that takes the next of some inputs each time.
#[expect(
    clippy::unnecessary_wraps,
    reason = "what a preparation gives, and others can fail"
)]
fn in_turn<T: 'static>(inputs: Vec<T>, mut step: impl FnMut(&T) + 'static) -> Result<Step> {
    let mut next = 0;
    Ok(Box::new(move || {
        step(&inputs[next]);
        next = (next + 1) % inputs.len();
    }))
}

fn dns_query() -> Result<Step> {
    let query = |name: DnsName| {
        // RD, one question, an OPT record of 1 232 octets (RFC 6891).
        let mut message = vec![0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        message.extend_from_slice(name.as_wire());
        message.extend_from_slice(&[0, 0, 1, 0, 1]);
        message.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
        message
    };
    let queries = written().take(INPUTS).map(|one| query(one.matched())).collect();
    in_turn(queries, |message: &Vec<u8>| {
        black_box(tidegate_dns::wire::query::parse(message).is_ok());
    })
}

/// What rustls sends, with key shares of X25519 alone or of X25519MLKEM768 too.
fn hello(post_quantum: bool) -> Result<Step> {
    let mut provider = default_provider();
    provider.kx_groups = if post_quantum {
        vec![kx_group::X25519MLKEM768, kx_group::X25519]
    } else {
        vec![kx_group::X25519]
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let config = Arc::new(config);
    let make = |one: crate::lists::Written| -> Result<Vec<u8>> {
        let name = ServerName::try_from(one.matched().to_string())?;
        let mut hello = Vec::new();
        ClientConnection::new(Arc::clone(&config), name)?.write_tls(&mut hello)?;
        Ok(hello)
    };
    let hellos = written().take(16).map(make).collect::<Result<Vec<_>>>()?;
    in_turn(hellos, |hello| {
        assert!(matches!(
            black_box(HelloReader::new().push(hello)),
            Progress::Done(_)
        ));
    })
}

fn http_head() -> Result<Step> {
    let head = |one: crate::lists::Written| {
        format!(
            "GET /packages/simple/?page=2 HTTP/1.1\r\nHost: {}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, br\r\nAuthorization: Bearer 0123456789abcdef\r\nConnection: keep-alive\r\n\r\n",
            one.matched()
        )
    };
    let heads: Vec<String> = written().take(INPUTS).map(head).collect();
    in_turn(heads, |head| {
        let read = RequestReader::new().advance(head.as_bytes());
        assert!(matches!(black_box(read), HeadProgress::Done(_)));
    })
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Asked {
    Allowed,
    Unlisted,
    Blocked,
}

impl Asked {
    fn names(self) -> Vec<DnsName> {
        let mut random = Random(1);
        match self {
            Self::Allowed => written()
                .take(RULES)
                .step_by(3)
                .take(INPUTS)
                .map(|one| one.matched())
                .collect(),
            Self::Unlisted => std::iter::repeat_with(|| unlisted(&mut random))
                .take(INPUTS)
                .collect(),
            // Those behind the allowed ones.
            Self::Blocked => written()
                .skip(RULES)
                .take(BLOCKED)
                .step_by(7)
                .take(INPUTS)
                .map(|one| one.matched())
                .collect(),
        }
    }
}

/// A policy that allows [`RULES`] names, below a global block list of [`BLOCKED`] others.
fn book() -> Result<Rulebook> {
    let mut text = String::from("egress-policy: block\nallowed-endpoints:\n");
    written().take(RULES).for_each(|one| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  - {:?}", one.endpoint());
    });
    let policy = world::compile(0, 1, &text, &world::pack())?;
    Ok(Rulebook {
        world: Arc::new(World {
            global: GlobalBlocks::new([Arc::new(list())]),
            ..World::default()
        }),
        governing: Governing::Policy(policy, world::scope(0)),
        host: None,
    })
}

fn list() -> GlobalBlock {
    GlobalBlock::build(written().skip(RULES).take(BLOCKED).map(|one| one.block()))
}

fn find(listed: bool) -> Result<Step> {
    let book = book()?;
    let asked = if listed { Asked::Allowed } else { Asked::Unlisted };
    in_turn(asked.names(), move |name| {
        let rule = book
            .policy()
            .and_then(|(policy, _)| policy.allowed().find_name(name, 443, Transport::Tcp));
        assert!(black_box(rule).is_some() == listed);
    })
}

fn blocked(listed: bool) -> Result<Step> {
    let list = list();
    let asked = if listed { Asked::Blocked } else { Asked::Unlisted };
    in_turn(asked.names(), move |name| {
        assert!(black_box(list.find_name(name)).is_some() == listed);
    })
}

/// `named`: and find the nearest rule, as whoever writes the event does.
fn query(asked: Asked, named: bool) -> Result<Step> {
    let (book, tickets) = (book()?, TicketTable::default());
    let permitted = matches!(asked, Asked::Allowed);
    in_turn(asked.names(), move |name| {
        let ruling = black_box(judge_query(&book, name, rtype::A, &tickets, world::START));
        let refusal = ruling.judgement.refusal();
        assert!(refusal.is_none() == permitted);
        if named {
            black_box(refusal.map(|refusal| refusal.nearest.find()));
        }
    })
}

/// The address of input `number`.
fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number as u8).into()
}

fn given(tickets: &TicketTable, names: &[DnsName]) {
    for (number, name) in names.iter().enumerate() {
        give(tickets, name, address(number));
    }
}

fn give(tickets: &TicketTable, name: &DnsName, address: IpAddr) {
    let grant = Grant {
        asked: name,
        chain: &[],
        addresses: &[address],
        ttl: world::DAY,
    };
    tickets.grant(&grant, world::DAY, world::START);
}

fn flow(permitted: bool) -> Result<Step> {
    let (book, tickets) = (book()?, TicketTable::default());
    let names = if permitted {
        Asked::Allowed
    } else {
        Asked::Unlisted
    }
    .names();
    given(&tickets, &names);
    let with_flow = |(number, name): (usize, DnsName)| {
        let flow = Flow {
            transport: Transport::Tcp,
            address: address(number),
            port: 443,
        };
        let hello = Hello {
            sni: Sni::Name(name),
            ech: Ech::Absent,
        };
        (flow, Detection::Tls(hello))
    };
    let flows: Vec<_> = names.into_iter().enumerate().map(with_flow).collect();
    in_turn(flows, move |(flow, detection)| {
        let evidence = Evidence {
            tickets: &tickets,
            proven: None,
            now: world::START,
        };
        let ruling = black_box(judge_flow(&book, *flow, detection, evidence));
        assert!(!permitted || ruling.judgement.refusal().is_none());
    })
}

fn ticket(granted: bool) -> Result<Step> {
    let tickets = TicketTable::default();
    let names = Asked::Allowed.names();
    given(&tickets, &names);
    let inputs: Vec<_> = names.into_iter().enumerate().collect();
    in_turn(inputs, move |(number, name)| {
        if granted {
            give(&tickets, name, address(*number));
        } else {
            assert!(black_box(tickets.holds(name, address(*number), world::START)));
        }
    })
}

fn source() -> Result<Step> {
    let policy = world::compile(0, 1, &world::text(0, 10), &world::pack())?;
    let table = world::table(world::policies(&Arc::new(World::default()), &[policy]));
    for lease in 0..LEASES {
        table.register(world::registration(lease, 0), world::START)?;
    }
    let sources: Vec<IpAddr> = (0..LEASES).step_by(3).map(world::source).collect();
    in_turn(sources, move |source| {
        assert!(black_box(table.lookup(*source, world::START)).job().is_some());
    })
}
