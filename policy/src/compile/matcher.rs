//! One allow or deny list, compiled: names and addresses.

use std::net::IpAddr;

use crate::compile::names::NameTrie;
use crate::compile::nets::NetTrie;
use crate::compile::rules::RuleId;
use crate::endpoint::{Endpoint, Host, Ports, Protocols, Transport};
use crate::name::DnsName;

/// Immutable matcher of endpoints.
#[derive(Debug, Default)]
pub struct Matcher {
    /// The endpoints that are names.
    pub names: NameTrie,
    /// The endpoints that are addresses.
    pub nets: NetTrie,
}

impl Matcher {
    /// Compiles a list of endpoints.
    pub fn build(endpoints: impl IntoIterator<Item = (Endpoint, RuleId)>) -> Self {
        let mut nets = Vec::new();
        let names = endpoints.into_iter().filter_map(|(endpoint, rule)| match endpoint.host {
            Host::Name(pattern) => Some((pattern, endpoint.ports, endpoint.protocols, rule)),
            Host::Net(net) => {
                nets.push((net, endpoint.ports, endpoint.protocols, rule));
                None
            }
        });
        let names = NameTrie::build(names);
        Self { names, nets: NetTrie::build(nets) }
    }

    /// The most specific rule for this name on this port (see [`NameTrie::find`]).
    pub fn find_name(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleId> {
        self.names.find(name, port, transport)
    }

    /// The most specific rule for this address on this port (see [`NetTrie::find`]).
    pub fn find_address(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleId> {
        self.nets.find(address, port, transport)
    }

    /// A rule by which some port and transport is allowed for this name and not denied by `denied`;
    /// `None` when nothing is left (policy-semantics.md, DNS: the first row).
    pub fn any_port_permitted(&self, name: &DnsName, denied: &Self) -> Option<RuleId> {
        let mut refused: Vec<(Ports, Protocols)> = Vec::new();
        denied.names.for_each_match(name, |_, ports, protocols| refused.push((ports, protocols)));
        let mut best = None;
        self.names.for_each_match(name, |rule, ports, protocols| {
            let left = (ports.first..=ports.last).any(|port| {
                [Transport::Tcp, Transport::Udp, Transport::Quic].into_iter().any(|transport| {
                    protocols.cover(transport)
                        && !refused.iter().any(|(ports, protocols)| ports.contain(port) && protocols.cover(transport))
                })
            });
            if left && best.is_none() {
                best = Some(rule);
            }
        });
        best
    }
}
