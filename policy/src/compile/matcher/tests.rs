//! What is left of a name's ports after denials, against trying every port.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::endpoint::{LabelPattern, NamePattern};

fn pattern(below: bool, labels: &[&str]) -> NamePattern {
    let label = |label: &&str| match *label {
        "*" => LabelPattern::One,
        literal => LabelPattern::Literal(literal.as_bytes().into()),
    };
    NamePattern {
        below,
        labels: labels.iter().map(label).collect(),
    }
}

fn name() -> DnsName {
    DnsName::parse("a.example").expect("a name")
}

fn endpoint(below: bool, labels: &[&str], ports: Ports, protocols: Protocols) -> Endpoint {
    Endpoint {
        host: Host::Name(pattern(below, labels)),
        ports,
        protocols,
    }
}

fn matcher(endpoints: &[Endpoint]) -> Matcher {
    Matcher::build(endpoints.iter().cloned().zip((0..).map(RuleId)))
}

/// Endpoints that mostly match `a.example`, with ports at both ends of the range.
fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let patterns = select(vec![
        (false, vec!["a", "example"]),
        (true, vec!["example"]),
        (true, vec![]),
        (false, vec!["*", "example"]),
        (false, vec!["b"]),
    ]);
    let low = (1_u16..8, 0_u16..4).prop_map(|(first, more)| Ports {
        first,
        last: first + more,
    });
    let high = (65530_u16..=65535, 0_u16..4).prop_map(|(first, more)| Ports {
        first,
        last: first.saturating_add(more),
    });
    let ports =
        prop_oneof![4 => low, 3 => high, 1 => Just(Ports::ALL), 1 => Just(Ports { first: 4, last: 65533 })];
    let protocols = select(vec![Protocols::Tcp, Protocols::Udp, Protocols::Any]);
    (patterns, ports, protocols)
        .prop_map(|((below, labels), ports, protocols)| endpoint(below, &labels, ports, protocols))
}

/// Ports at which an endpoint of the strategy can begin or end, and their neighbours.
fn telling_ports() -> impl Iterator<Item = u16> {
    (1..16).chain(65520..=65535)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn something_is_permitted_exactly_when_some_port_is(allowed in vec(any_endpoint(), 0..6), denied in vec(any_endpoint(), 0..12)) {
        let (allow, deny) = (matcher(&allowed), matcher(&denied));
        let transports = [Transport::Tcp, Transport::Udp, Transport::Quic];
        let open = |endpoint: &Endpoint| {
            telling_ports().any(|port| transports.into_iter().any(|transport| {
                endpoint.covers(port, transport) && deny.find_name(&name(), port, transport).is_none()
            }))
        };
        let matching = |endpoint: &Endpoint| matches!(&endpoint.host, Host::Name(pattern) if pattern.matches(&name()));
        let wanted = allowed.iter().any(|endpoint| matching(endpoint) && open(endpoint));
        let rule = allow.any_port_permitted(&name(), &deny);
        prop_assert_eq!(rule.is_some(), wanted);
        if let Some(rule) = rule {
            let endpoint = &allowed[rule.0 as usize];
            prop_assert!(matching(endpoint) && open(endpoint), "{} is denied", endpoint);
        }
    }
}

#[test]
fn dns_row_a_name_denied_on_its_only_port_has_nothing_left() {
    let allow = matcher(&[endpoint(
        false,
        &["a", "example"],
        Ports::one(443),
        Protocols::Tcp,
    )]);
    let deny = |ports, protocols| matcher(&[endpoint(false, &["a", "example"], ports, protocols)]);
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(Ports::ALL, Protocols::Any)),
        None
    );
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(Ports::one(443), Protocols::Any)),
        None
    );
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(Ports::one(80), Protocols::Any)),
        Some(RuleId(0))
    );
    // Denied UDP takes QUIC away; TCP is left.
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(Ports::ALL, Protocols::Udp)),
        Some(RuleId(0))
    );
}

#[test]
fn touching_denials_close_a_range_together() {
    let allow = matcher(&[endpoint(
        true,
        &["example"],
        Ports {
            first: 8000,
            last: 8100,
        },
        Protocols::Tcp,
    )]);
    let deny = |ports: &[(u16, u16)]| {
        let all: Vec<Endpoint> = ports
            .iter()
            .map(|(first, last)| {
                endpoint(
                    true,
                    &[],
                    Ports {
                        first: *first,
                        last: *last,
                    },
                    Protocols::Any,
                )
            })
            .collect();
        matcher(&all)
    };
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(&[(8050, 9000), (1, 8049)])),
        None
    );
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(&[(8051, 9000), (1, 8049)])),
        Some(RuleId(0))
    );
    assert_eq!(
        allow.any_port_permitted(&name(), &deny(&[(8000, 8099)])),
        Some(RuleId(0))
    );
}

#[test]
fn the_most_specific_rule_that_is_left_is_named() {
    let allow = matcher(&[
        endpoint(true, &["example"], Ports::one(8443), Protocols::Tcp),
        endpoint(false, &["a", "example"], Ports::one(443), Protocols::Tcp),
    ]);
    assert_eq!(
        allow.any_port_permitted(&name(), &Matcher::default()),
        Some(RuleId(1))
    );
    let deny = matcher(&[endpoint(
        false,
        &["a", "example"],
        Ports::one(443),
        Protocols::Any,
    )]);
    assert_eq!(allow.any_port_permitted(&name(), &deny), Some(RuleId(0)));
}

#[test]
fn addresses_and_names_are_matched_apart() {
    let net = Endpoint {
        host: Host::Net("0.0.0.0/0".parse().expect("a net")),
        ports: Ports::one(443),
        protocols: Protocols::Tcp,
    };
    let matcher = matcher(&[net]);
    assert_eq!(
        matcher.find_address("192.0.2.1".parse().expect("an address"), 443, Transport::Tcp),
        Some(RuleId(0))
    );
    assert_eq!(matcher.find_name(&name(), 443, Transport::Tcp), None);
}
