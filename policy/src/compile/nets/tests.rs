//! Longest prefixes against a linear scan.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cmp::Reverse;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

type Rule = (IpNet, Ports, Protocols, RuleId);

/// Addresses that differ in few bits, so that ranges nest and touch.
fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[bool; 6]>().prop_map(|bits| {
            let at = |bit: usize, shift: u32| u32::from(bits[bit]) << shift;
            IpAddr::V4((at(0, 31) | at(1, 30) | at(2, 16) | at(3, 8) | at(4, 1) | at(5, 0)).into())
        }),
        any::<[bool; 6]>().prop_map(|bits| {
            let at = |bit: usize, shift: u32| u128::from(bits[bit]) << shift;
            IpAddr::V6((at(0, 127) | at(1, 126) | at(2, 64) | at(3, 32) | at(4, 1) | at(5, 0)).into())
        }),
    ]
}

fn any_net() -> impl Strategy<Value = IpNet> {
    (
        any_address(),
        select(vec![0_u8, 1, 2, 15, 16, 24, 31, 32, 63, 64, 96, 127, 128]),
    )
        .prop_map(|(address, prefix)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, prefix.min(most)).unwrap()
        })
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let ports = select(vec![Ports::one(443), Ports::ALL, Ports { first: 5, last: 500 }]);
    let protocols = select(vec![Protocols::Tcp, Protocols::Udp, Protocols::Any]);
    vec((any_net(), ports, protocols), 0..40).prop_map(|rules| {
        rules
            .into_iter()
            .zip(0..)
            .map(|((net, ports, protocols), id)| (net, ports, protocols, RuleId(id)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn finds_what_a_linear_scan_finds(
        rules in any_rules(),
        addresses in vec(any_address(), 1..20),
        port in select(vec![1_u16, 5, 443]),
    ) {
        let trie = NetTrie::build(rules.clone());
        for address in addresses {
            prop_assert_eq!(trie.covers(address), rules.iter().any(|rule| rule.0.contains(&address)));
            let mut wanted: Vec<&Rule> = rules.iter().filter(|rule| rule.0.contains(&address)).collect();
            wanted.sort_by_key(|rule| (Reverse(rule.0.prefix_len()), rule.3));
            let first = wanted.iter().find(|rule| rule.1.contain(port) && rule.2.cover(Transport::Tcp));
            prop_assert_eq!(trie.find(address, port, Transport::Tcp), first.map(|rule| rule.3));
            let mut seen = Vec::new();
            trie.for_each_match(address, |rule, ports, protocols| seen.push((ports, protocols, rule)));
            prop_assert_eq!(seen, wanted.into_iter().map(|rule| (rule.1, rule.2, rule.3)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ranges_are_given_back_masked(nets in vec(any_net(), 0..40)) {
        let ranges = Ranges::build(nets.iter().copied());
        let mut wanted: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let given: Vec<IpNet> = (0..).map_while(|number| ranges.net(number)).collect();
        prop_assert_eq!(given, wanted);
    }
}

#[test]
fn grammar_row_host_bits_are_masked() {
    let net: IpNet = "10.1.2.3/8".parse().unwrap();
    let trie = NetTrie::build([(net, Ports::one(5432), Protocols::Tcp, RuleId(0))]);
    assert_eq!(
        trie.find("10.200.0.1".parse().unwrap(), 5432, Transport::Tcp),
        Some(RuleId(0))
    );
    assert_eq!(trie.find("11.0.0.1".parse().unwrap(), 5432, Transport::Tcp), None);
}

#[test]
fn grammar_row_whole_ipv4_says_nothing_of_ipv6() {
    let trie = NetTrie::build([(
        "0.0.0.0/0".parse().unwrap(),
        Ports::one(443),
        Protocols::Tcp,
        RuleId(0),
    )]);
    assert!(trie.covers("255.255.255.255".parse().unwrap()) && trie.covers("0.0.0.0".parse().unwrap()));
    assert!(!trie.covers("::ffff:1.2.3.4".parse().unwrap()));
}
