//! Tests of the ruleset's text: reviewed whole, and rule by rule where an order matters.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::intercept::plan::{InterfaceName, Steering};

/// The whole text for [`plan`], as an operator would read it.
const GOLDEN: &str = include_str!("golden.nft");

fn network(name: &str, interface: &str, addresses: &[&str]) -> NetworkPlan {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    NetworkPlan::new(name, InterfaceName::parse(interface).unwrap(), addresses)
}

fn plan() -> InterceptPlan {
    InterceptPlan {
        networks: vec![
            network("vms", "runners0", &["10.77.1.1", "fd77:1::1"]),
            network("pods", "br-ci.7", &["10.77.2.1"]),
        ],
        tcp_port: 15_001,
        udp_port: 15_002,
        runner_api: vec![
            "10.77.1.1:443".parse().unwrap(),
            "[fd77:1::1]:443".parse().unwrap(),
        ],
        refuse_v6_tcp: false,
        preserve_source: false,
        steering: Steering::default(),
    }
}

/// The rules of one chain, its hook left out.
fn rules<'a>(text: &'a str, chain: &str) -> Vec<&'a str> {
    let start = format!("\tchain {chain} {{\n");
    let (_, rest) = text.split_once(&start).expect("the chain exists");
    let (body, _) = rest.split_once("\t}\n").expect("the chain ends");
    let lines = body.lines().map(str::trim);
    lines.filter(|line| !line.starts_with("type ")).collect()
}

#[test]
fn the_whole_ruleset_is_as_reviewed() {
    let ruleset = Ruleset::compile(&plan()).unwrap();
    assert_eq!(
        ruleset.text(),
        GOLDEN,
        "review the change, then update golden.nft"
    );
}

#[test]
fn reinstalling_is_one_transaction() {
    let ruleset = Ruleset::compile(&plan()).unwrap();
    let script = ruleset.script(&BindingTable::default());
    assert!(
        script.starts_with("add table inet tidegate\ndelete table inet tidegate\ntable inet tidegate {\n")
    );
    assert_eq!(script.matches("table inet tidegate {").count(), 1);
}

#[test]
fn the_mark_is_set_only_after_a_socket_was_found() {
    let ruleset = Ruleset::compile(&plan()).unwrap();
    let mark = "meta mark set meta mark | 0x01000000";
    let marking: Vec<_> = ruleset
        .text()
        .lines()
        .filter(|line| line.contains(mark))
        .collect();
    assert!(marking.len() >= 10);
    for line in marking {
        let found = ["tproxy ", "socket transparent 1", "icmp type", "icmpv6 type"]
            .iter()
            .filter_map(|evidence| line.find(evidence))
            .min();
        assert!(found.is_some_and(|at| at < line.find(mark).unwrap()), "{line}");
    }
}

#[test]
fn every_chain_that_judges_ends_in_a_counted_drop() {
    let ruleset = Ruleset::compile(&plan()).unwrap();
    for (chain, counter) in [
        ("from_runner", "not_diverted"),
        ("to_gateway", "closed"),
        ("dns_0", "not_diverted"),
        ("dns_1", "not_diverted"),
        ("forward", "forwarded"),
    ] {
        let last = *rules(ruleset.text(), chain).last().unwrap();
        assert!(
            last.ends_with(&format!("counter name {counter} drop")),
            "{chain}: {last}"
        );
    }
}

#[test]
fn a_network_without_ipv6_has_no_ipv6_dns() {
    let ruleset = Ruleset::compile(&plan()).unwrap();
    let rules = rules(ruleset.text(), "dns_1");
    assert_eq!(rules.len(), 3, "{rules:?}");
    assert!(rules.iter().all(|rule| !rule.contains("ipv6")));
}

#[test]
fn refused_ipv6_comes_before_its_diversion_and_after_open_flows_and_dns() {
    let refusing = InterceptPlan {
        refuse_v6_tcp: true,
        ..plan()
    };
    let ruleset = Ruleset::compile(&refusing).unwrap();
    let rules = rules(ruleset.text(), "from_runner");
    let at = |what: &str| rules.iter().position(|rule| rule.contains(what)).unwrap();
    let reject = at("reject with tcp reset");
    assert!(
        at("socket transparent") < reject
            && at("tcp dport 53") < reject
            && reject < at("tproxy ip6 to [::1]")
    );
}

#[test]
fn preserved_sources_are_steered_only_when_asked_and_only_to_open_sockets() {
    let steered = |preserve_source| {
        let ruleset = Ruleset::compile(&InterceptPlan {
            preserve_source,
            ..plan()
        })
        .unwrap();
        rules(ruleset.text(), "divert").len()
    };
    assert_eq!((steered(false), steered(true)), (1, 2));
}

#[test]
fn without_an_api_or_addresses_nothing_is_opened_for_them() {
    let mut bare = plan();
    bare.runner_api.clear();
    for network in &mut bare.networks {
        network.addresses.clear();
    }
    let ruleset = Ruleset::compile(&bare).unwrap();
    let rules = rules(ruleset.text(), "to_gateway");
    assert!(
        rules
            .iter()
            .all(|rule| !rule.contains("daddr") && !rule.contains("echo-request")),
        "{rules:?}"
    );
}

#[test]
fn a_plan_that_contradicts_itself_has_no_ruleset() {
    let mut wrong = plan();
    wrong.tcp_port = 0;
    assert_eq!(Ruleset::compile(&wrong), Err(PlanError::NoPort("TCP")));
}
