//! Addresses against many ranges at once.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::compile::rules::RuleId;
use crate::endpoint::{Ports, Protocols, Transport};

/// Immutable matcher of address ranges, each with ports, protocols and the rule it came from.
#[derive(Debug, Default)]
pub struct NetTrie {
    rules: Vec<(IpNet, Ports, Protocols, RuleId)>,
}

impl NetTrie {
    /// Compiles the ranges; host bits are masked.
    pub fn build(rules: impl IntoIterator<Item = (IpNet, Ports, Protocols, RuleId)>) -> Self {
        Self { rules: rules.into_iter().map(|(net, ports, protocols, rule)| (net.trunc(), ports, protocols, rule)).collect() }
    }

    /// The rule with the longest prefix that covers this address on this port, then the lowest id.
    pub fn find(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleId> {
        self.rules
            .iter()
            .filter(|(net, ports, protocols, _)| {
                ports.contain(port) && protocols.cover(transport) && net.contains(&address)
            })
            .max_by_key(|(net, _, _, rule)| (net.prefix_len(), std::cmp::Reverse(*rule)))
            .map(|(_, _, _, rule)| *rule)
    }

    /// True when a range contains the address, whatever the port.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.rules.iter().any(|(net, ..)| net.contains(&address))
    }

    /// Calls `seen` for every rule whose range contains the address, longest prefix first.
    pub fn for_each_match(&self, address: IpAddr, mut seen: impl FnMut(RuleId, Ports, Protocols)) {
        for (net, ports, protocols, rule) in &self.rules {
            if net.contains(&address) {
                seen(*rule, *ports, *protocols);
            }
        }
    }
}
