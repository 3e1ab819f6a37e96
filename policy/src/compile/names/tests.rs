//! The trie against the naive matcher, and the grammar table's rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

type Rule = (NamePattern, Ports, Protocols, RuleId);

/// A pattern as the grammar reads it, for names without its odd cases.
fn pattern(text: &str) -> NamePattern {
    let (below, rest) = match text.strip_prefix("*.") {
        _ if text == "*" => (true, ""),
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let label = |label: &str| match label {
        "*" => LabelPattern::One,
        glob if glob.contains('*') => LabelPattern::Glob(glob.as_bytes().into()),
        literal => LabelPattern::Literal(literal.as_bytes().into()),
    };
    NamePattern {
        below,
        labels: rest
            .split('.')
            .filter(|label| !label.is_empty())
            .map(label)
            .collect(),
    }
}

fn name(text: &str) -> DnsName {
    if text.is_empty() {
        DnsName::root()
    } else {
        DnsName::parse(text).unwrap()
    }
}

/// Rules on port 443, numbered in order.
fn rules(patterns: &[&str]) -> Vec<Rule> {
    let number =
        |(id, text): (usize, &&str)| (pattern(text), Ports::one(443), Protocols::Tcp, RuleId(id as u32));
    patterns.iter().enumerate().map(number).collect()
}

fn trie(patterns: &[&str]) -> NameTrie {
    NameTrie::build(rules(patterns))
}

/// Which of the patterns is found for a name on TCP 443.
fn found<'a>(patterns: &[&'a str], asked: &str) -> Option<&'a str> {
    let rule = trie(patterns).find(&name(asked), 443, Transport::Tcp);
    rule.map(|rule| patterns[rule.0 as usize])
}

/// The definitions, one rule at a time.
mod naive {
    use super::*;

    pub(super) fn find(rules: &[Rule], name: &DnsName, port: u16, transport: Transport) -> Option<RuleId> {
        let covers = |rule: &&Rule| rule.0.matches(name) && rule.1.contain(port) && rule.2.cover(transport);
        let rank = |rule: &&Rule| (rule.0.as_exact().is_some(), rule.0.labels.len(), Reverse(rule.3));
        rules.iter().filter(covers).max_by_key(rank).map(|rule| rule.3)
    }

    pub(super) fn matches(rules: &[Rule], name: &DnsName) -> BTreeSet<(RuleId, Ports, Protocols)> {
        rules
            .iter()
            .filter(|rule| rule.0.matches(name))
            .map(|rule| (rule.3, rule.1, rule.2))
            .collect()
    }

    pub(super) fn shared(pattern: &NamePattern, name: &DnsName) -> usize {
        let labels = name.labels();
        let pairs = pattern.labels.iter().rev().zip(labels.iter().rev());
        pairs
            .take_while(|(pattern, label)| pattern.matches(label))
            .count()
    }

    pub(super) fn has_descendant(rules: &[Rule], name: &DnsName) -> bool {
        let count = name.labels().len();
        let above = |pattern: &NamePattern| {
            count < pattern.labels.len() + usize::from(pattern.below) && shared(pattern, name) == count
        };
        rules.iter().any(|rule| above(&rule.0))
    }
}

fn any_label() -> impl Strategy<Value = &'static str> {
    select(vec![
        "a",
        "b",
        "ab",
        "ba",
        "aab",
        "example",
        "a-rather-long-label-that-leaves-its-node",
        "_x",
    ])
}

fn any_pattern_label() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        5 => any_label(),
        1 => Just("*"),
        2 => select(vec!["a*", "*b", "a*b", "*a*", "ab*", "*-node", "a-rather*", "**", "*ample", "e*a*e", "a**b"]),
    ]
}

fn any_name() -> impl Strategy<Value = DnsName> {
    vec(any_label(), 0..6).prop_map(|labels| name(&labels.join(".")))
}

fn any_protocols() -> impl Strategy<Value = Protocols> {
    select(vec![Protocols::Tcp, Protocols::Udp, Protocols::Any])
}

fn any_ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        2 => Just(Ports::one(443)),
        1 => Just(Ports::ALL),
        1 => (1_u16..6, 0_u16..4).prop_map(|(first, more)| Ports { first, last: first + more }),
    ]
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = (
        any::<bool>(),
        vec(any_pattern_label(), 0..5),
        any_ports(),
        any_protocols(),
    );
    let rule = one.prop_map(|(below, labels, ports, protocols)| {
        let text = labels.join(".");
        let mut pattern = pattern(&format!("x.{text}"));
        pattern.labels.remove(0);
        pattern.below = below;
        (pattern, ports, protocols)
    });
    vec(rule, 0..40).prop_map(|rules| {
        let numbered = rules.into_iter().zip(0..);
        numbered
            .map(|((pattern, ports, protocols), id)| (pattern, ports, protocols, RuleId(id)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn finds_what_the_definition_finds(rules in any_rules(), names in vec(any_name(), 1..20), port in select(vec![1_u16, 3, 5, 443, 65535])) {
        let trie = NameTrie::build(rules.clone());
        for name in &names {
            for transport in [Transport::Tcp, Transport::Udp, Transport::Quic] {
                prop_assert_eq!(trie.find(name, port, transport), naive::find(&rules, name, port, transport), "{}", name);
            }
        }
    }

    #[test]
    fn sees_every_match_of_a_name_once(rules in any_rules(), names in vec(any_name(), 1..20)) {
        let trie = NameTrie::build(rules.clone());
        for name in &names {
            let mut seen = Vec::new();
            trie.for_each_match(name, |rule, ports, protocols| seen.push((rule, ports, protocols)));
            let distinct: BTreeSet<_> = seen.iter().copied().collect();
            prop_assert_eq!(distinct.len(), seen.len(), "{} seen twice", name);
            prop_assert_eq!(distinct, naive::matches(&rules, name), "{}", name);
        }
    }

    #[test]
    fn knows_the_ancestors_of_its_patterns(rules in any_rules(), names in vec(any_name(), 1..20)) {
        let trie = NameTrie::build(rules.clone());
        for name in &names {
            prop_assert_eq!(trie.has_descendant(name), naive::has_descendant(&rules, name), "{}", name);
        }
    }

    #[test]
    fn whatever_matches_may_end_so(rules in any_rules(), names in vec(any_name(), 1..20)) {
        let trie = NameTrie::build(rules.clone());
        for name in &names {
            if let Some(last) = name.labels().last() && !naive::matches(&rules, name).is_empty() {
                prop_assert!(trie.may_end_in(last), "{}", name);
            }
        }
        prop_assert!(!NameTrie::default().may_end_in(b"test"));
    }

    #[test]
    fn nearest_shares_as_many_labels_as_any_rule(rules in any_rules(), name in any_name()) {
        let trie = NameTrie::build(rules.clone());
        let most = rules.iter().map(|rule| naive::shared(&rule.0, &name)).max().unwrap_or(0);
        match trie.nearest(&name) {
            Some(rule) => prop_assert_eq!(naive::shared(&rules[rule.0 as usize].0, &name), most),
            None => prop_assert!(most < 2),
        }
    }

    #[test]
    fn lists_exact_names_of_a_port(rules in any_rules(), port in 1_u16..8) {
        let trie = NameTrie::build(rules.clone());
        let listed: BTreeSet<_> = trie.exact_names_on_port(port, Transport::Tcp).map(|(name, rule)| (rule, name)).collect();
        let wanted = rules.iter().filter(|rule| rule.1.contain(port) && rule.2.cover(Transport::Tcp));
        let wanted: BTreeSet<_> = wanted.filter_map(|rule| Some((rule.3, rule.0.as_exact()?))).collect();
        prop_assert_eq!(listed, wanted);
    }
}

#[test]
fn grammar_row_exact_name() {
    assert_eq!(found(&["github.com"], "github.com"), Some("github.com"));
    assert_eq!(found(&["github.com"], "api.github.com"), None);
    assert_eq!(found(&["github.com"], "com"), None);
    assert_eq!(found(&["github.com"], "evilgithub.com"), None);
}

#[test]
fn grammar_row_leftmost_star_is_any_depth_but_not_the_name_itself() {
    let patterns = ["*.example.com"];
    assert_eq!(found(&patterns, "a.example.com"), Some("*.example.com"));
    assert_eq!(found(&patterns, "a.b.c.example.com"), Some("*.example.com"));
    assert_eq!(found(&patterns, "example.com"), None);
    assert_eq!(found(&patterns, "xexample.com"), None);
}

#[test]
fn grammar_row_glob_stays_inside_its_label() {
    let patterns = ["productionresultssa*.blob.core.windows.net"];
    assert!(found(&patterns, "productionresultssa123.blob.core.windows.net").is_some());
    assert!(found(&patterns, "productionresultssa.blob.core.windows.net").is_some());
    assert!(
        found(
            &patterns,
            "productionresultssaevil.attacker.blob.core.windows.net"
        )
        .is_none()
    );
}

#[test]
fn grammar_row_inner_star_is_one_label() {
    let patterns = ["ec2.*.amazonaws.com"];
    assert!(found(&patterns, "ec2.eu-west-1.amazonaws.com").is_some());
    assert!(found(&patterns, "ec2.amazonaws.com").is_none());
    assert!(found(&patterns, "ec2.a.b.amazonaws.com").is_none());
}

#[test]
fn grammar_row_any_name() {
    assert_eq!(found(&["*"], "a.example"), Some("*"));
    assert_eq!(found(&["*"], "example"), Some("*"));
    assert_eq!(found(&["*"], ""), None);
}

#[test]
fn grammar_row_star_glued_to_a_label_does_not_cross_the_dot() {
    assert_eq!(found(&["*github.com"], "evilgithub.com"), Some("*github.com"));
    assert_eq!(found(&["*github.com"], "a.evilgithub.com"), None);
}

#[test]
fn the_most_specific_rule_wins_then_the_lowest_id() {
    let patterns = ["*", "*.b.example", "a.b.example", "*.example", "a.b.example"];
    assert_eq!(
        trie(&patterns).find(&name("a.b.example"), 443, Transport::Tcp),
        Some(RuleId(2))
    );
    assert_eq!(found(&patterns, "x.b.example"), Some("*.b.example"));
    assert_eq!(found(&patterns, "x.example"), Some("*.example"));
    assert_eq!(
        found(&["a*.example", "ab.example"], "ab.example"),
        Some("ab.example")
    );
    assert_eq!(
        found(&["a*.example", "*b.example"], "ab.example"),
        Some("a*.example")
    );
}

#[test]
fn a_less_specific_rule_is_found_when_the_port_differs() {
    let mut rules = rules(&["a.example", "*.example"]);
    rules[1].1 = Ports::one(8443);
    let trie = NameTrie::build(rules);
    assert_eq!(
        trie.find(&name("a.example"), 8443, Transport::Tcp),
        Some(RuleId(1))
    );
    assert_eq!(trie.find(&name("a.example"), 443, Transport::Udp), None);
    assert_eq!(
        trie.find(&name("a.example"), 443, Transport::Quic),
        Some(RuleId(0))
    );
}

#[test]
fn d15_a_dot_inside_of_a_label_matches_no_rule_that_looks_alike() {
    let trie = trie(&["allowed.test"]);
    let odd = DnsName::from_labels([&b"allowed.test"[..]]).unwrap();
    assert_eq!(trie.find(&odd, 443, Transport::Tcp), None);
    let odd = DnsName::from_labels([&b"allowed\x04test"[..]]).unwrap();
    assert_eq!(trie.find(&odd, 443, Transport::Tcp), None);
}

#[test]
fn ancestors_of_wildcards_are_those_of_the_dns_table() {
    let below = trie(&["*.example.com"]);
    assert!(
        ["example.com", "com", ""]
            .iter()
            .all(|asked| below.has_descendant(&name(asked)))
    );
    assert!(!below.has_descendant(&name("a.example.com")));
    let inner = trie(&["ec2.*.amazonaws.com"]);
    assert!(
        ["amazonaws.com", "x.amazonaws.com"]
            .iter()
            .all(|asked| inner.has_descendant(&name(asked)))
    );
    assert!(!inner.has_descendant(&name("ec2.x.amazonaws.com")));
    let any = trie(&["*"]);
    assert!(any.has_descendant(&name("")) && !any.has_descendant(&name("com")));
}

#[test]
fn names_of_the_greatest_length_and_depth_are_matched() {
    let deep = vec!["a"; 127].join(".");
    let label = "b".repeat(63);
    let long = [label.as_str(), label.as_str(), label.as_str(), &label[..61]].join(".");
    let below = format!("*.{}", vec!["c"; 126].join("."));
    let ones = vec!["*"; 126].join(".");
    let patterns = [deep.as_str(), &long, &below, &format!("d.{ones}")];
    assert_eq!(found(&patterns, &deep), Some(patterns[0]));
    assert_eq!(found(&patterns, &long), Some(patterns[1]));
    assert_eq!(found(&patterns, &vec!["c"; 127].join(".")), Some(patterns[2]));
    assert_eq!(
        found(&patterns, &format!("d.{}", vec!["e"; 126].join("."))),
        Some(patterns[3])
    );
    assert!(trie(&patterns).has_descendant(&name(&vec!["a"; 126].join("."))));
}

#[test]
fn patterns_that_no_name_can_match_are_left_out() {
    let overlong = "a".repeat(64);
    let mut rules = rules(&[&overlong, "a.example", &format!("{overlong}*.example")]);
    rules[0].0.labels.insert(0, LabelPattern::Literal(Box::from([])));
    let trie = NameTrie::build(rules);
    assert_eq!(
        trie.find(&name("a.example"), 443, Transport::Tcp),
        Some(RuleId(1))
    );
    assert_eq!(trie.nodes(), 2);
}

#[test]
fn ten_thousand_globs_beside_each_other_are_told_apart() {
    let patterns: Vec<String> = (0..5000)
        .flat_map(|at| [format!("h{at}x*.example"), format!("*x{at}t.example")])
        .collect();
    let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
    assert_eq!(found(&texts, "h4711xyz.example"), Some("h4711x*.example"));
    assert_eq!(found(&texts, "yx4711t.example"), Some("*x4711t.example"));
    assert_eq!(found(&texts, "h4711.example"), None);
}

#[test]
fn listed_names_are_bounded_for_each_port() {
    let mut rules: Vec<Rule> = (0..LISTED_NAMES + 10)
        .map(|at| {
            (
                pattern(&format!("h{at}.example")),
                Ports::one(22),
                Protocols::Tcp,
                RuleId(at as u32),
            )
        })
        .collect();
    rules.push((
        pattern("db.example"),
        Ports { first: 20, last: 30 },
        Protocols::Tcp,
        RuleId(9999),
    ));
    let trie = NameTrie::build(rules);
    assert_eq!(
        trie.exact_names_on_port(22, Transport::Tcp).count(),
        LISTED_NAMES + 1
    );
    assert_eq!(trie.exact_names_on_port(22, Transport::Udp).count(), 0);
}

/// Which of the patterns is nearest to a name.
fn nearest<'a>(patterns: &[&'a str], asked: &str) -> Option<&'a str> {
    trie(patterns)
        .nearest(&name(asked))
        .map(|rule| patterns[rule.0 as usize])
}

#[test]
fn nearest_is_what_a_reader_would_call_so() {
    let policy = [
        "github.com",
        "*.npm.example",
        "registry.pypi.example",
        "s3.*.amazonaws.com",
        "*-prod.db.example",
    ];
    assert_eq!(nearest(&policy, "githbu.com"), Some("github.com"));
    assert_eq!(nearest(&policy, "gist.github.com"), Some("github.com"));
    assert_eq!(nearest(&policy, "github.com"), Some("github.com"));
    assert_eq!(nearest(&policy, "npm.example"), Some("*.npm.example"));
    assert_eq!(
        nearest(&policy, "files.pypi.example"),
        Some("registry.pypi.example")
    );
    assert_eq!(
        nearest(&policy, "sts.eu-west-1.amazonaws.com"),
        Some("s3.*.amazonaws.com")
    );
    assert_eq!(nearest(&policy, "a-test.db.example"), Some("*-prod.db.example"));
    assert_eq!(nearest(&policy, "github.con"), Some("github.com"));
    assert_eq!(nearest(&policy, "evil.test"), None);
    assert_eq!(nearest(&policy, "unrelated.com"), None);
    assert_eq!(nearest(&[], "github.com"), None);
}

#[test]
fn nearest_looks_beside_the_asked_label_among_thousands() {
    let patterns: Vec<String> = (0..5000).map(|at| format!("host{at}.example")).collect();
    let mut texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
    texts.push("storage.example");
    assert_eq!(nearest(&texts, "storagf.example"), Some("storage.example"));
    assert_eq!(nearest(&texts, "storages.example"), Some("storage.example"));
    assert_eq!(nearest(&texts, "unlike-anything.example"), None);
}

#[test]
fn a_rule_takes_at_most_64_bytes_in_a_large_list() {
    let patterns: Vec<String> = (0..20_000)
        .map(|at| match at % 5 {
            0..=2 => format!("some-project-{at}.example"),
            3 => format!("*.cdn.some-project-{}.example", at - 1),
            _ => format!("eu-west-1.download.another-project-{at}.test"),
        })
        .collect();
    let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let bytes = trie(&texts).heap_bytes();
    assert!(bytes <= 64 * texts.len(), "{} bytes a rule", bytes / texts.len());
}
