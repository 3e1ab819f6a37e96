//! A naive reading of the tables, list by list and row by row, that random policies are compared with.
//!
//! Shares with the judge only the endpoint grammar, label-by-label matching and the special addresses.

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::endpoint::parse::{Role, parse_endpoint};
use crate::endpoint::{Endpoint, Host, NamePattern};
use crate::fixture::{book_in, world};
use crate::name::DnsName;
use crate::rulebook::{Destination, World};
use crate::special::{is_never_dial, is_not_public, spellings};

pub(super) const NAMES: [&str; 7] = [
    "a.test",
    "x.a.test",
    "y.x.a.test",
    "xy.a.test",
    "b.test",
    "test",
    "c.example",
];
const PATTERNS: [&str; 9] = [
    "a.test",
    "x.a.test",
    "b.test",
    "c.example",
    "*.a.test",
    "*.test",
    "x*.a.test",
    "y.*.a.test",
    "*",
];
const NETS: [&str; 5] = [
    "192.0.2.0/24",
    "192.0.2.1",
    "10.0.0.0/8",
    "[2001:db8::/32]",
    "0.0.0.0/0",
];
const PORTS: [&str; 6] = [":443", ":80", ":22", ":20-100", ":123/udp", ":443/udp"];
pub(super) const ADDRESSES: [&str; 9] = [
    "192.0.2.1",
    "192.0.2.200",
    "198.51.100.1",
    "10.0.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "2001:db8::1",
    "::ffff:192.0.2.1",
    "64:ff9b::192.0.2.200",
];
const FLOW_PORTS: [u16; 5] = [22, 80, 443, 123, 8080];
const BLOCKED: [&str; 4] = ["b.test", "*.x.a.test", "192.0.2.128/25", "c.example"];

/// Everything that a judgement depends on, as plain lists.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) allowed: Vec<String>,
    pub(super) denied: Vec<String>,
    pub(super) blocked: Vec<&'static str>,
    pub(super) ticket_only: bool,
    pub(super) ech: Vec<(usize, usize)>,
    pub(super) tickets: Vec<(usize, usize)>,
}

impl Plain {
    pub(super) fn scene(&self, mode: &str) -> Scene {
        let list = |key: &str, lines: &[String]| {
            if lines.is_empty() {
                String::new()
            } else {
                format!("{key}: '{}'\n", lines.join(" "))
            }
        };
        let policy = format!(
            "egress-policy: {mode}\nicmp: true\n{}{}",
            list("allowed-endpoints", &self.allowed),
            list("denied-endpoints", &self.denied)
        );
        let destination = if self.ticket_only {
            Destination::TicketOnly
        } else {
            Destination::Resolve
        };
        let world = World {
            destination,
            ..world(&self.blocked.join("\n"))
        };
        for (at_name, at_address) in &self.ech {
            world.ech.note_name(&name(NAMES[*at_name]), &[7]);
            world
                .ech
                .note_address(&name(NAMES[*at_name]), ip(ADDRESSES[*at_address]));
        }
        let scene = Scene::new(book_in(world, &policy));
        self.tickets.iter().fold(scene, |scene, (at_name, at_address)| {
            scene.ticket(NAMES[*at_name], ADDRESSES[*at_address])
        })
    }

    fn endpoints(lines: &[String], role: Role) -> Vec<Endpoint> {
        lines
            .iter()
            .map(|line| parse_endpoint(line, role).unwrap().0)
            .collect()
    }

    fn held(&self, address: IpAddr) -> Vec<DnsName> {
        let at = |(_, at_address): &&(usize, usize)| {
            ip(ADDRESSES[*at_address]).to_canonical() == address.to_canonical()
        };
        let mut names: Vec<DnsName> = self
            .tickets
            .iter()
            .filter(at)
            .map(|(at_name, _)| name(NAMES[*at_name]))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

pub(super) fn plain() -> impl Strategy<Value = Plain> {
    let endpoint = || {
        let host =
            prop_oneof![3 => prop::sample::select(&PATTERNS[..]), 1 => prop::sample::select(&NETS[..])];
        (host, prop::sample::select(&PORTS[..])).prop_map(|(host, port)| format!("{host}{port}"))
    };
    let bare = prop::sample::select(&PATTERNS[..8]).prop_map(String::from);
    let denied =
        prop_oneof![2 => endpoint(), 1 => bare, 1 => prop::sample::select(&NETS[..4]).prop_map(String::from)];
    let tickets = || prop::collection::vec((0..NAMES.len(), 0..ADDRESSES.len()), 0..8);
    let ech = prop::collection::vec((0..NAMES.len(), 0..ADDRESSES.len()), 0..2);
    (
        prop::collection::vec(endpoint(), 0..6),
        prop::collection::vec(denied, 0..3),
        prop::sample::subsequence(&BLOCKED[..], 0..3),
        any::<bool>(),
        ech,
        tickets(),
    )
        .prop_map(|(allowed, denied, blocked, ticket_only, ech, tickets)| Plain {
            allowed,
            denied,
            blocked,
            ticket_only,
            ech,
            tickets,
        })
}

pub(super) fn detection() -> impl Strategy<Value = (Transport, Detection)> {
    let sni = || {
        prop_oneof![
            6 => prop::sample::select(&NAMES[..]).prop_map(|one| Sni::Name(name(one))),
            1 => Just(Sni::Absent),
            1 => prop::sample::select(&ADDRESSES[..]).prop_map(|one| Sni::Address(ip(one))),
        ]
    };
    let ech =
        || prop_oneof![4 => Just(Ech::Absent), 1 => Just(Ech::Outer { config_id: 7 }), 1 => Just(Ech::Esni)];
    let hello = || (sni(), ech()).prop_map(|(sni, ech)| Hello { sni, ech });
    let host = sni().prop_map(|sni| match sni {
        Sni::Name(name) => HttpHost::Name(name),
        Sni::Address(address) => HttpHost::Address(address),
        Sni::Absent => HttpHost::Absent,
    });
    let prefix = || prop::sample::select(&[Prefix::Nothing, Prefix::Tls, Prefix::Http, Prefix::Quic][..]);
    let opaque = || prop::sample::select(&[OpaqueReason::ServerFirst, OpaqueReason::UnknownProtocol][..]);
    prop_oneof![
        4 => hello().prop_map(|hello| (Transport::Tcp, Detection::Tls(hello))),
        2 => hello().prop_map(|hello| (Transport::Quic, Detection::Quic(hello))),
        3 => host.prop_map(|host| (Transport::Tcp, Detection::Http(Authority { host, port: None }))),
        3 => opaque().prop_map(|reason| (Transport::Tcp, Detection::Opaque(reason))),
        1 => opaque().prop_map(|reason| (Transport::Udp, Detection::Opaque(reason))),
        1 => prefix().prop_map(|prefix| (Transport::Tcp, Detection::Malformed { prefix, what: "by a test" })),
        1 => prefix().prop_map(|prefix| (Transport::Tcp, Detection::Undecided { prefix })),
    ]
}

pub(super) fn flow() -> impl Strategy<Value = (Flow, Detection)> {
    let (address, port) = (
        prop::sample::select(&ADDRESSES[..]),
        prop::sample::select(&FLOW_PORTS[..]),
    );
    (address, port, detection()).prop_map(|(address, port, (transport, detection))| {
        (
            Flow {
                transport,
                address: ip(address),
                port,
            },
            detection,
        )
    })
}

/// The naive judge.
struct Naive<'a> {
    plain: &'a Plain,
    allowed: Vec<Endpoint>,
    denied: Vec<Endpoint>,
    flow: Flow,
    held: Vec<DnsName>,
}

type Said = Result<Does, Reason>;

impl<'a> Naive<'a> {
    fn new(plain: &'a Plain, flow: Flow) -> Self {
        let allowed = Plain::endpoints(&plain.allowed, Role::Allowed);
        let denied = Plain::endpoints(&plain.denied, Role::Denied);
        Self {
            plain,
            allowed,
            denied,
            flow,
            held: plain.held(flow.address),
        }
    }

    fn blocks_name(&self, asked: &DnsName) -> bool {
        self.plain
            .blocked
            .iter()
            .any(|entry| match entry.strip_prefix("*.") {
                Some(base) => asked.is_below(&name(base)),
                None => DnsName::parse(entry).is_ok_and(|entry| entry == *asked),
            })
    }

    fn blocks_address(&self, address: IpAddr) -> bool {
        let nets: Vec<IpNet> = self
            .plain
            .blocked
            .iter()
            .filter_map(|entry| entry.parse().ok())
            .collect();
        spellings(address)
            .iter()
            .any(|one| nets.iter().any(|net| net.contains(one)))
    }

    fn covers(&self, endpoint: &Endpoint) -> bool {
        endpoint.covers(self.flow.port, self.flow.transport)
    }

    fn lists(&self, list: &[Endpoint], asked: &DnsName) -> bool {
        list.iter()
            .any(|one| self.covers(one) && matches!(&one.host, Host::Name(pattern) if pattern.matches(asked)))
    }

    fn lists_address(&self, list: &[Endpoint], address: IpAddr) -> bool {
        list.iter()
            .any(|one| self.covers(one) && one.contains_address(address))
    }

    fn denies_address(&self, address: IpAddr) -> bool {
        spellings(address)
            .iter()
            .any(|one| self.lists_address(&self.denied, *one))
    }

    fn allows(&self, asked: &DnsName) -> bool {
        self.lists(&self.allowed, asked) && !self.lists(&self.denied, asked)
    }

    fn all_blocked(&self) -> bool {
        !self.held.is_empty() && self.held.iter().all(|name| self.blocks_name(name))
    }

    /// Steps 1 and 2, which hold in audit too.
    fn absolute(&self, detection: &Detection) -> Option<Reason> {
        if is_never_dial(self.flow.address) {
            return Some(Reason::NeverDial);
        }
        let carried = match detection {
            Detection::Tls(Hello {
                sni: Sni::Name(name), ..
            })
            | Detection::Quic(Hello {
                sni: Sni::Name(name), ..
            }) => self.blocks_name(name),
            Detection::Http(Authority {
                host: HttpHost::Name(name),
                ..
            }) => self.blocks_name(name),
            Detection::Tls(Hello {
                sni: Sni::Address(address),
                ..
            })
            | Detection::Quic(Hello {
                sni: Sni::Address(address),
                ..
            })
            | Detection::Http(Authority {
                host: HttpHost::Address(address),
                ..
            }) => self.blocks_address(*address),
            Detection::Tls(_) | Detection::Quic(_) | Detection::Http(_) | Detection::Opaque(_) => {
                self.all_blocked()
            }
            Detection::Malformed { .. } | Detection::Undecided { .. } => self.all_blocked(),
        };
        (carried || self.blocks_address(self.flow.address)).then_some(Reason::GlobalBlock)
    }

    /// Steps 3 to 6 as block mode has them.
    fn block(&self, detection: &Detection) -> Said {
        let own = Does::Dials(self.flow.address.to_canonical());
        if self.denies_address(self.flow.address) {
            return Err(Reason::Denied);
        }
        let (carried, address, ech) = match detection {
            Detection::Tls(hello) | Detection::Quic(hello) => match &hello.sni {
                Sni::Name(name) => (Some(name), None, hello.ech),
                Sni::Address(address) => (None, Some(*address), hello.ech),
                Sni::Absent => (None, None, hello.ech),
            },
            Detection::Http(Authority { host, .. }) => match host {
                HttpHost::Name(name) => (Some(name), None, Ech::Absent),
                HttpHost::Address(address) => (None, Some(*address), Ech::Absent),
                HttpHost::Absent => (None, None, Ech::Absent),
            },
            Detection::Opaque(_) | Detection::Malformed { .. } | Detection::Undecided { .. } => {
                (None, None, Ech::Absent)
            }
        };
        if carried.is_some_and(|name| self.lists(&self.denied, name)) {
            return Err(Reason::Denied);
        }
        let hidden = self.hides(ech, carried);
        let unreadable = hidden
            || matches!(detection, Detection::Malformed { .. })
            || matches!(detection, Detection::Undecided { prefix } if *prefix != Prefix::Nothing);
        let denies_names = self.denied.iter().any(|one| matches!(one.host, Host::Name(_)));
        let covered = self.lists_address(&self.allowed, self.flow.address.to_canonical());
        if covered && !(unreadable && denies_names) {
            // Whatever it carries, unless an HTTP authority is a denied address (an SNI that is an
            // address counts as absent).
            return match address.filter(|_| matches!(detection, Detection::Http(_))) {
                Some(address) if self.denies_address(address) => Err(Reason::Denied),
                Some(_) | None => Ok(own),
            };
        }
        match detection {
            Detection::Malformed { prefix, .. } => Err(match prefix {
                Prefix::Nothing | Prefix::Tls => Reason::MalformedTls,
                Prefix::Http => Reason::MalformedHttp,
                Prefix::Quic => Reason::MalformedQuic,
            }),
            Detection::Undecided {
                prefix: Prefix::Nothing,
            } => Err(Reason::Silent),
            Detection::Undecided { .. } => Err(Reason::DetectTimeout),
            Detection::Opaque(reason) => self.opaque(*reason),
            Detection::Tls(_) | Detection::Quic(_) | Detection::Http(_) => match (carried, address) {
                (Some(name), _) => self.named(name, hidden),
                (None, _) if hidden => Err(Reason::Ech),
                (None, Some(address)) if self.denies_address(address) => Err(Reason::Denied),
                (None, Some(address)) if address.to_canonical() != self.flow.address.to_canonical() => {
                    Err(Reason::NoName)
                }
                (None, _) => self.unnamed(),
            },
        }
    }

    fn hides(&self, ech: Ech, carried: Option<&DnsName>) -> bool {
        let published = |(at_name, at_address): &(usize, usize)| {
            carried == Some(&name(NAMES[*at_name]))
                || ip(ADDRESSES[*at_address]).to_canonical() == self.flow.address.to_canonical()
        };
        match ech {
            Ech::Absent => false,
            Ech::Esni => true,
            Ech::Outer { .. } => self.plain.ech.iter().any(published),
        }
    }

    fn named(&self, asked: &DnsName, hidden: bool) -> Said {
        if !self.allows(asked) {
            return Err(Reason::NotAllowed);
        }
        if hidden {
            return Err(Reason::Ech);
        }
        if self.held.contains(asked) {
            return Ok(Does::Dials(self.flow.address.to_canonical()));
        }
        if self.plain.ticket_only {
            Err(Reason::Unticketed)
        } else {
            Ok(Does::Resolves(asked.to_string()))
        }
    }

    fn unnamed(&self) -> Said {
        // Which of several disqualifying names is met first is not the table's business.
        if self
            .held
            .iter()
            .all(|name| self.allows(name) && !self.blocks_name(name))
            && !self.held.is_empty()
        {
            return Ok(Does::Dials(self.flow.address.to_canonical()));
        }
        Err(Reason::NoName)
    }

    fn opaque(&self, reason: OpaqueReason) -> Said {
        let web = [80, 8000, 8080].contains(&self.flow.port) && self.flow.transport == Transport::Tcp;
        if web && reason == OpaqueReason::UnknownProtocol {
            return Err(Reason::UnknownProtocol);
        }
        if self
            .held
            .iter()
            .any(|name| self.allows(name) && !self.blocks_name(name))
        {
            return Ok(Does::Dials(self.flow.address.to_canonical()));
        }
        let public = !is_not_public(self.flow.address);
        let exact = |one: &Endpoint| match &one.host {
            Host::Name(pattern) => NamePattern::as_exact(pattern).filter(|_| self.covers(one)),
            Host::Net(_) => None,
        };
        let mut candidates: Vec<String> = self
            .allowed
            .iter()
            .filter_map(exact)
            .filter(|name| self.allows(name) && !self.blocks_name(name) && public)
            .map(|name| name.to_string())
            .collect();
        candidates.sort();
        candidates.dedup();
        if !candidates.is_empty() {
            return Ok(Does::Confirms(candidates));
        }
        Err(if self.held.is_empty() {
            Reason::NoName
        } else {
            Reason::NotAllowed
        })
    }
}

/// What the naive judge expects in a mode.
fn expected(plain: &Plain, mode: &str, flow: Flow, detection: &Detection) -> Does {
    let naive = Naive::new(plain, flow);
    let own = flow.address.to_canonical();
    if let Some(reason) = naive.absolute(detection) {
        return Does::Closes(reason);
    }
    match (mode, naive.block(detection)) {
        ("block", Ok(does)) => does,
        ("block", Err(reason)) => Does::Closes(reason),
        (_, Ok(Does::Confirms(names))) => Does::Confirms(names),
        (_, Ok(_)) => Does::Dials(own),
        (_, Err(reason)) => Does::Observes(own, reason),
    }
}

/// The reason that differs only by which of two names was met first.
fn same(one: &Does, other: &Does) -> bool {
    let either = |reason: &Reason| matches!(reason, Reason::NoName | Reason::GlobalBlock);
    match (one, other) {
        (Does::Closes(one), Does::Closes(other)) => one == other || (either(one) && either(other)),
        (Does::Observes(at, one), Does::Observes(there, other)) => {
            at == there && (one == other || (either(one) && either(other)))
        }
        (one, other) => one == other,
    }
}

/// Some port of a name is left: tried port by port, where lists can differ.
fn some_port(plain: &Plain, asked: &DnsName) -> bool {
    let ports = [
        1, 19, 20, 21, 22, 23, 79, 80, 81, 99, 100, 101, 122, 123, 124, 442, 443, 444, 65_535,
    ];
    let transports = [Transport::Tcp, Transport::Udp, Transport::Quic];
    ports.iter().any(|port| {
        transports.iter().any(|transport| {
            Naive::new(
                plain,
                Flow {
                    transport: *transport,
                    address: ip("192.0.2.1"),
                    port: *port,
                },
            )
            .allows(asked)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flows_are_judged_as_a_naive_reading_of_the_tables_says(plain in plain(), (flow, detection) in flow()) {
        for mode in ["block", "audit"] {
            let scene = plain.scene(mode);
            let mut found = does(&judge_flow(&scene.book, flow, &detection, scene.evidence()));
            if let Does::Confirms(names) = &mut found {
                names.sort();
                names.dedup();
            }
            let wanted = expected(&plain, mode, flow, &detection);
            prop_assert!(same(&found, &wanted), "{mode}: found {found:?}, wanted {wanted:?}");
        }
    }

    #[test]
    fn questions_are_judged_as_a_naive_reading_of_the_tables_says(plain in plain(), asked in prop::sample::select(&NAMES[..])) {
        let scene = plain.scene("block");
        let naive = Naive::new(&plain, tcp("192.0.2.1:443"));
        let ruling = scene.ask(asked);
        let asked = name(asked);
        let wanted = !naive.blocks_name(&asked) && some_port(&plain, &asked);
        prop_assert_eq!(matches!(ruling.action, QueryAction::Resolve(_)), wanted, "{:?}", ruling);
        if !wanted {
            let below = naive.allowed.iter().any(|one| match &one.host {
                Host::Name(pattern) => is_above(&asked, pattern),
                Host::Net(_) => false,
            });
            prop_assert_eq!(matches!(ruling.action, QueryAction::NoData), below, "{:?}", ruling);
        }
    }
}

/// True when something that the pattern matches lies below the name; tried on names that are long enough.
fn is_above(asked: &DnsName, pattern: &NamePattern) -> bool {
    let fill = |label: &crate::endpoint::LabelPattern| match label {
        crate::endpoint::LabelPattern::Literal(bytes) => bytes.to_vec(),
        crate::endpoint::LabelPattern::One => b"y".to_vec(),
        crate::endpoint::LabelPattern::Glob(glob) => {
            glob.iter().copied().filter(|byte| *byte != b'*').collect()
        }
    };
    let labels: Vec<Vec<u8>> = pattern.labels.iter().map(fill).collect();
    let wild = [&b"q"[..]].into_iter().filter(|_| pattern.below);
    let below = DnsName::from_labels(wild.chain(labels.iter().map(Vec::as_slice))).unwrap();
    // `*` alone stands above everything; what is asked is never the root here.
    let everywhere = pattern.below && pattern.labels.is_empty();
    let middle = pattern
        .labels
        .iter()
        .any(|label| !matches!(label, crate::endpoint::LabelPattern::Literal(_)));
    below.is_below(asked) || (!everywhere && middle && fits_suffix(asked, pattern))
}

/// For patterns with wildcards in the middle: the name matches a proper suffix of the pattern.
fn fits_suffix(asked: &DnsName, pattern: &NamePattern) -> bool {
    (1..=pattern.labels.len()).any(|skip| {
        let rest: Vec<_> = pattern.labels.iter().skip(skip).cloned().collect();
        !rest.is_empty()
            && NamePattern {
                below: false,
                labels: rest,
            }
            .matches(asked)
    })
}
