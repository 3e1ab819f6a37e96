//! Names against many patterns at once.

use crate::compile::rules::RuleId;
use crate::endpoint::{NamePattern, Ports, Protocols, Transport};
use crate::name::DnsName;

/// Immutable matcher of name patterns, each with ports, protocols and the rule it came from.
#[derive(Debug, Default)]
pub struct NameTrie {
    rules: Vec<(NamePattern, Ports, Protocols, RuleId)>,
}

impl NameTrie {
    /// Compiles the patterns.
    pub fn build(rules: impl IntoIterator<Item = (NamePattern, Ports, Protocols, RuleId)>) -> Self {
        Self { rules: rules.into_iter().collect() }
    }

    /// The rule that covers this name on this port: an exact name before wildcards, a pattern with more
    /// labels before one with fewer, then the lowest id.
    pub fn find(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleId> {
        self.rules
            .iter()
            .filter(|(pattern, ports, protocols, _)| {
                ports.contain(port) && protocols.cover(transport) && pattern.matches(name)
            })
            .max_by_key(|(pattern, _, _, rule)| {
                (pattern.as_exact().is_some(), pattern.labels.len(), std::cmp::Reverse(*rule))
            })
            .map(|(_, _, _, rule)| *rule)
    }

    /// Calls `seen` for every rule whose pattern matches the name, in no particular order.
    pub fn for_each_match(&self, name: &DnsName, mut seen: impl FnMut(RuleId, Ports, Protocols)) {
        for (pattern, ports, protocols, rule) in &self.rules {
            if pattern.matches(name) {
                seen(*rule, *ports, *protocols);
            }
        }
    }

    /// True when the name is a proper ancestor of a pattern: `*.example.com` has `example.com`, `com` and
    /// the root; `ec2.*.amazonaws.com` has any `x.amazonaws.com` too; `*` has the root only.
    pub fn has_descendant(&self, name: &DnsName) -> bool {
        let labels = name.labels();
        self.rules.iter().any(|(pattern, ..)| {
            labels.len() < pattern.labels.len() + usize::from(pattern.below)
                && pattern.labels.iter().rev().zip(labels.iter().rev()).all(|(pattern, label)| pattern.matches(label))
        })
    }

    /// The rule that a reader would call the nearest to a refused name; `None` when nothing is near.
    pub fn nearest(&self, name: &DnsName) -> Option<RuleId> {
        let labels = name.labels();
        self.rules
            .iter()
            .map(|(pattern, _, _, rule)| {
                let pairs = pattern.labels.iter().rev().zip(labels.iter().rev());
                (pairs.take_while(|(pattern, label)| pattern.matches(label)).count(), *rule)
            })
            .filter(|(shared, _)| *shared >= 2)
            .max_by_key(|(shared, rule)| (*shared, std::cmp::Reverse(*rule)))
            .map(|(_, rule)| rule)
    }

    /// Exact (not wildcard) names allowed on this port; the caller bounds how many it takes.
    pub fn exact_names_on_port(&self, port: u16, transport: Transport) -> impl Iterator<Item = (DnsName, RuleId)> + '_ {
        self.rules
            .iter()
            .filter(move |(_, ports, protocols, _)| ports.contain(port) && protocols.cover(transport))
            .filter_map(|(pattern, _, _, rule)| Some((pattern.as_exact()?, *rule)))
    }
}
