//! One allow or deny list, compiled: names and addresses.
//!
//! Owns the question that needs two lists at once: is anything left of a name's ports once the denied ones are
//! taken away. Built by [`crate::rulebook`], asked by [`crate::judge`].

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::compile::NameView;
use crate::compile::names::{NameTrie, Rank};
use crate::compile::nets::NetTrie;
use crate::compile::rules::RuleId;
use crate::endpoint::{Endpoint, Host, Ports, Protocols, Transport};
use crate::name::DnsName;

/// What an allow list says of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<R> {
    /// The most specific rule by which some port and transport of it is left.
    pub(crate) rule: Option<R>,
    /// The name is a proper ancestor of a pattern ([`NameTrie::has_descendant`]).
    pub(crate) above: bool,
}

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
        let names = endpoints
            .into_iter()
            .filter_map(|(endpoint, rule)| match endpoint.host {
                Host::Name(pattern) => Some((pattern, endpoint.ports, endpoint.protocols, rule)),
                Host::Net(net) => {
                    nets.push((net, endpoint.ports, endpoint.protocols, rule));
                    None
                }
            });
        let names = NameTrie::build(names);
        Self {
            names,
            nets: NetTrie::build(nets),
        }
    }

    /// The most specific rule for this name on this port (see [`NameTrie::find`]).
    pub fn find_name(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleId> {
        self.names.find(name, port, transport)
    }

    /// The most specific rule for this address on this port (see [`NetTrie::find`]).
    pub fn find_address(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleId> {
        self.nets.find(address, port, transport)
    }

    /// The most specific rule by which some port and transport is allowed for this name and not denied by
    /// `denied`; `None` when nothing is left (policy-semantics.md, DNS: the first row).
    pub fn any_port_permitted(&self, name: &DnsName, denied: &Self) -> Option<RuleId> {
        self.offer(&NameView::new(name), denied).rule
    }

    /// What is said of a name by its own patterns and by those below it, in one walk.
    pub(crate) fn offer(&self, name: &NameView<'_>, denied: &Self) -> Offer<RuleId> {
        let mut best = None;
        if denied.names.is_empty() {
            let above = self.names.survey(name, |rank, _, _| best = best.max(Some(rank)));
            let rule = best.map(Rank::rule);
            return Offer { rule, above };
        }
        let mut refused: SmallVec<[(Ports, Protocols); 8]> = SmallVec::new();
        denied
            .names
            .for_each_ranked(name, |_, ports, protocols| refused.push((ports, protocols)));
        let refused = [Transport::Tcp, Transport::Udp, Transport::Quic]
            .map(|transport| Refused::of(transport, &refused));
        let above = self.names.survey(name, |rank, ports, protocols| {
            if best < Some(rank)
                && refused
                    .iter()
                    .any(|refused| refused.leaves_some(ports, protocols))
            {
                best = Some(rank);
            }
        });
        let rule = best.map(Rank::rule);
        Offer { rule, above }
    }

    /// Heap memory in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.names.heap_bytes() + self.nets.heap_bytes()
    }
}

/// What is refused of one transport: sorted ranges with a gap between each two.
struct Refused {
    transport: Transport,
    ranges: SmallVec<[Ports; 8]>,
}

impl Refused {
    fn of(transport: Transport, all: &[(Ports, Protocols)]) -> Self {
        let mut sorted: SmallVec<[Ports; 8]> = all
            .iter()
            .filter(|(_, protocols)| protocols.cover(transport))
            .map(|(ports, _)| *ports)
            .collect();
        sorted.sort_unstable();
        let mut ranges: SmallVec<[Ports; 8]> = SmallVec::new();
        for next in sorted {
            match ranges.last_mut() {
                Some(last) if next.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(next.last);
                }
                Some(_) | None => ranges.push(next),
            }
        }
        Self { transport, ranges }
    }

    /// True when a port of an allowed range stays open. The gaps being real, a range that is wholly refused lies
    /// in one refused range.
    fn leaves_some(&self, ports: Ports, protocols: Protocols) -> bool {
        let after = self
            .ranges
            .partition_point(|refused| refused.first <= ports.first);
        let around = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        protocols.cover(self.transport) && around.is_none_or(|refused| refused.last < ports.last)
    }
}
