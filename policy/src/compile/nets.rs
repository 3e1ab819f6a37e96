//! Addresses against many ranges at once.
//!
//! Owns longest-prefix matching. Ranges either nest or are apart, so sorted by first address they form a tree
//! whose nodes need only the number of the range around them: a lookup bisects to the last range that begins
//! at or before the address and climbs from there, at most once for each prefix length. Rules and the global
//! block list use the same [`Ranges`]. IPv4 and IPv6 are apart: an address inside of another (v4-mapped,
//! NAT64, 6to4) is unwrapped by the caller ([`crate::special`]).

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::compile::rules::RuleId;
use crate::endpoint::{Ports, Protocols, Transport};

/// No range lies around this one.
const NONE: u32 = u32::MAX;

/// Distinct ranges of both families; numbered, IPv4 first, each family by first address, wider ranges first.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    v4: Tree<u32>,
    v6: Tree<u128>,
}

/// The ranges of one family, in three arrays that run side by side.
#[derive(Debug, Default)]
struct Tree<A> {
    firsts: Box<[A]>,
    /// Last addresses.
    lasts: Box<[A]>,
    /// The narrowest range around each one.
    around: Box<[u32]>,
}

impl<A: Copy + Ord> Tree<A> {
    /// From distinct nested-or-apart ranges, sorted by first address, wider first.
    fn new(ranges: &[(A, A)]) -> Self {
        let mut open: Vec<u32> = Vec::new();
        let mut around = Vec::with_capacity(ranges.len());
        for (number, (first, _)) in ranges.iter().enumerate() {
            while open
                .last()
                .is_some_and(|outer| ranges[*outer as usize].1 < *first)
            {
                open.pop();
            }
            around.push(open.last().copied().unwrap_or(NONE));
            open.push(number as u32);
        }
        Self {
            firsts: ranges.iter().map(|(first, _)| *first).collect(),
            lasts: ranges.iter().map(|(_, last)| *last).collect(),
            around: around.into(),
        }
    }

    /// Numbers of the ranges that contain the address, narrowest first.
    fn containing(&self, address: A) -> impl Iterator<Item = u32> {
        let before = self
            .firsts
            .partition_point(|first| *first <= address)
            .checked_sub(1);
        let outwards = |number: &u32| {
            self.around
                .get(*number as usize)
                .copied()
                .filter(|outer| *outer != NONE)
        };
        std::iter::successors(before.map(|number| number as u32), outwards).filter(move |number| {
            self.lasts
                .get(*number as usize)
                .is_some_and(|last| address <= *last)
        })
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.firsts) + size_of_val(&*self.lasts) + size_of_val(&*self.around)
    }
}

impl Ranges {
    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.v4.firsts.is_empty() && self.v6.firsts.is_empty()
    }

    /// From ranges that are masked, sorted and distinct.
    fn new(nets: &[IpNet]) -> Self {
        let v4 = nets.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some((u32::from(net.network()), u32::from(net.broadcast()))),
            IpNet::V6(_) => None,
        });
        let v6 = nets.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some((u128::from(net.network()), u128::from(net.broadcast()))),
            IpNet::V4(_) => None,
        });
        Self {
            v4: Tree::new(&v4.collect::<Vec<_>>()),
            v6: Tree::new(&v6.collect::<Vec<_>>()),
        }
    }

    /// Masks, sorts and removes duplicates.
    pub(super) fn build(nets: impl Iterator<Item = IpNet>) -> Self {
        let mut nets: Vec<IpNet> = nets.map(|net| net.trunc()).collect();
        nets.sort_unstable();
        nets.dedup();
        Self::new(&nets)
    }

    /// Numbers of the ranges that contain the address, narrowest first.
    pub(super) fn containing(&self, address: IpAddr) -> impl Iterator<Item = usize> {
        let (v4, v6) = match address {
            IpAddr::V4(address) => (Some(self.v4.containing(address.into())), None),
            IpAddr::V6(address) => (None, Some(self.v6.containing(address.into()))),
        };
        let before = self.v4.firsts.len();
        let v6 = v6
            .into_iter()
            .flatten()
            .map(move |number| before + number as usize);
        v4.into_iter().flatten().map(|number| number as usize).chain(v6)
    }

    /// The range with this number.
    pub(super) fn net(&self, number: usize) -> Option<IpNet> {
        if let (Some(first), Some(last)) = (self.v4.firsts.get(number), self.v4.lasts.get(number)) {
            let prefix = (first ^ last).leading_zeros() as u8;
            return Ipv4Net::new((*first).into(), prefix).ok().map(IpNet::V4);
        }
        let number = number.checked_sub(self.v4.firsts.len())?;
        let (first, last) = (self.v6.firsts.get(number)?, self.v6.lasts.get(number)?);
        let prefix = (first ^ last).leading_zeros() as u8;
        Ipv6Net::new((*first).into(), prefix).ok().map(IpNet::V6)
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.v4.heap_bytes() + self.v6.heap_bytes()
    }
}

/// Immutable matcher of address ranges, each with ports, protocols and the rule it came from.
#[derive(Debug, Default)]
pub struct NetTrie {
    ranges: Ranges,
    /// Where the rules of each range begin in `rules`; one more entry ends the last.
    starts: Box<[u32]>,
    /// Rules, range by range, each range's by id.
    rules: Box<[(Ports, Protocols, RuleId)]>,
}

impl NetTrie {
    /// Compiles the ranges; host bits are masked.
    pub fn build(rules: impl IntoIterator<Item = (IpNet, Ports, Protocols, RuleId)>) -> Self {
        let masked = rules
            .into_iter()
            .map(|(net, ports, protocols, rule)| (net.trunc(), rule, ports, protocols));
        let mut sorted: Vec<(IpNet, RuleId, Ports, Protocols)> = masked.collect();
        sorted.sort_unstable();
        let (mut nets, mut starts): (Vec<IpNet>, Vec<u32>) = (Vec::new(), Vec::new());
        for (number, (net, ..)) in sorted.iter().enumerate() {
            if nets.last() != Some(net) {
                nets.push(*net);
                starts.push(number as u32);
            }
        }
        starts.push(sorted.len() as u32);
        Self {
            ranges: Ranges::new(&nets),
            starts: starts.into(),
            rules: sorted
                .into_iter()
                .map(|(_, rule, ports, protocols)| (ports, protocols, rule))
                .collect(),
        }
    }

    /// The rule with the longest prefix that covers this address on this port, then the lowest id.
    pub fn find(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleId> {
        self.matches(address)
            .find(|(ports, protocols, _)| ports.contain(port) && protocols.cover(transport))
            .map(|(_, _, rule)| *rule)
    }

    /// True when a range contains the address, whatever the port.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.ranges.containing(address).next().is_some()
    }

    /// Calls `seen` for every rule whose range contains the address: longest prefix first, then by id.
    pub fn for_each_match(&self, address: IpAddr, mut seen: impl FnMut(RuleId, Ports, Protocols)) {
        for (ports, protocols, rule) in self.matches(address) {
            seen(*rule, *ports, *protocols);
        }
    }

    fn matches(&self, address: IpAddr) -> impl Iterator<Item = &(Ports, Protocols, RuleId)> {
        self.ranges.containing(address).flat_map(|number| {
            let bounds = self.starts.get(number).zip(self.starts.get(number + 1));
            bounds
                .and_then(|(from, to)| self.rules.get(*from as usize..*to as usize))
                .unwrap_or_default()
        })
    }

    /// Heap memory in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.ranges.heap_bytes() + size_of_val(&*self.starts) + size_of_val(&*self.rules)
    }
}
