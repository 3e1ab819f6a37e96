//! Which endpoints of a list repeat others or lie inside of them: what a tidy policy would not hold.
//!
//! Only for diagnostics; decisions never look here. Linear in the list: every endpoint looks up the few
//! hosts that can contain its own, and buckets are cut at a bound, past which a note may be missing.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::{Endpoint, Host, LabelPattern, NamePattern, Ports, Protocols};

/// Patterns with a wildcard elsewhere than leftmost that are compared with every endpoint.
const MAX_IRREGULAR: usize = 256;
/// Endpoints of the same host that are compared with each other.
const MAX_SAME_HOST: usize = 64;

/// Why an endpoint adds nothing to its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It equals an earlier one.
    Repeats(usize),
    /// Another one covers everything that it covers, and more.
    CoveredBy(usize),
}

/// Finds the endpoints that add nothing, by index, in order; each is named once.
pub fn overlaps(endpoints: &[Endpoint]) -> Vec<(usize, Overlap)> {
    let index = Index::build(endpoints);
    let of = |at| index.overlap(endpoints, at).map(|overlap| (at, overlap));
    (0..endpoints.len()).filter_map(of).collect()
}

/// Finds the endpoints of `list` that one of `wider` covers whole: pairs of indices into the two.
pub fn covered_by(list: &[Endpoint], wider: &[Endpoint]) -> Vec<(usize, usize)> {
    let index = Index::build(wider);
    let of = |(at, one)| {
        index
            .covering(wider, one, |other| other.includes(one))
            .map(|by| (at, by))
    };
    list.iter().enumerate().filter_map(of).collect()
}

impl Endpoint {
    /// True when every flow that `other` covers is covered by `self`. Never true by mistake; may be
    /// false for two entangled wildcards.
    pub fn includes(&self, other: &Self) -> bool {
        let hosts = match (&self.host, &other.host) {
            (Host::Name(mine), Host::Name(theirs)) => mine.includes(theirs),
            (Host::Net(mine), Host::Net(theirs)) => mine.contains(theirs),
            (Host::Name(_), Host::Net(_)) | (Host::Net(_), Host::Name(_)) => false,
        };
        hosts && self.ports.include(other.ports) && self.protocols.include(other.protocols)
    }
}

impl Ports {
    /// True when every port of `other` lies in the range.
    pub const fn include(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl Protocols {
    /// True when every transport that `other` covers is covered.
    pub fn include(self, other: Self) -> bool {
        self == Self::Any || self == other
    }
}

impl NamePattern {
    /// True when every name that `other` matches is matched by `self`. Never true by mistake.
    pub fn includes(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.labels.len(), other.labels.len());
        let deep_enough = match (self.below, other.below) {
            (true, true) => theirs >= mine,
            (true, false) => theirs > mine,
            (false, false) => theirs == mine,
            (false, true) => false,
        };
        let skip = theirs.saturating_sub(mine);
        deep_enough
            && self
                .labels
                .iter()
                .zip(other.labels.iter().skip(skip))
                .all(|(a, b)| a.includes(b))
    }

    /// The labels without a leftmost star, joined; suffixes of it at dots are the hosts above.
    fn base(&self) -> String {
        Self {
            below: false,
            labels: self.labels.clone(),
        }
        .to_string()
    }

    fn is_regular(&self) -> bool {
        self.labels
            .iter()
            .all(|label| matches!(label, LabelPattern::Literal(_)))
    }
}

impl LabelPattern {
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One, _) => true,
            (_, Self::One) => false,
            // A star of the other's is a byte that only a star of ours can swallow.
            (_, Self::Literal(bytes) | Self::Glob(bytes)) => self.matches(bytes),
        }
    }
}

/// Endpoints of a list by host.
struct Index {
    first: HashMap<Endpoint, usize>,
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
    irregular: Vec<usize>,
    nets: HashMap<IpNet, Vec<usize>>,
}

impl Index {
    fn build(endpoints: &[Endpoint]) -> Self {
        let mut index = Self {
            first: HashMap::new(),
            exact: HashMap::new(),
            below: HashMap::new(),
            irregular: Vec::new(),
            nets: HashMap::new(),
        };
        for (at, endpoint) in endpoints.iter().enumerate() {
            index.first.entry(endpoint.clone()).or_insert(at);
            let bucket = match &endpoint.host {
                Host::Net(net) => index.nets.entry(*net).or_default(),
                Host::Name(name) if !name.is_regular() => &mut index.irregular,
                Host::Name(name) if name.below => index.below.entry(name.base()).or_default(),
                Host::Name(name) => index.exact.entry(name.base()).or_default(),
            };
            if bucket.len() < MAX_IRREGULAR {
                bucket.push(at);
            }
        }
        index
    }

    fn overlap(&self, endpoints: &[Endpoint], at: usize) -> Option<Overlap> {
        let endpoint = endpoints.get(at)?;
        if let Some(first) = self.first.get(endpoint).filter(|first| **first != at) {
            return Some(Overlap::Repeats(*first));
        }
        self.covering(endpoints, endpoint, |wider| {
            wider != endpoint && wider.includes(endpoint)
        })
        .map(Overlap::CoveredBy)
    }

    /// The first endpoint that `fits`, of those whose host can contain this one's.
    fn covering(
        &self,
        endpoints: &[Endpoint],
        endpoint: &Endpoint,
        fits: impl Fn(&Endpoint) -> bool,
    ) -> Option<usize> {
        let covers = |other: &&usize| endpoints.get(**other).is_some_and(&fits);
        let bucket = |found: Option<&Vec<usize>>| {
            found.and_then(|all| all.iter().take(MAX_SAME_HOST).find(covers).copied())
        };
        match &endpoint.host {
            Host::Net(net) => supernets(*net).find_map(|wider| bucket(self.nets.get(&wider))),
            Host::Name(name) => {
                let base = name.base();
                let above = suffixes(&base).find_map(|suffix| bucket(self.below.get(suffix)));
                above
                    .or_else(|| bucket(self.exact.get(&base)))
                    .or_else(|| self.irregular.iter().find(covers).copied())
            }
        }
    }
}

/// `a.b.c`, `b.c`, `c` and the empty suffix.
fn suffixes(base: &str) -> impl Iterator<Item = &str> {
    let dots = base.match_indices('.').map(|(dot, _)| dot + 1);
    std::iter::once(0)
        .chain(dots)
        .chain(std::iter::once(base.len()))
        .map(|from| base.get(from..).unwrap_or_default())
}

/// The range itself and every wider one.
fn supernets(net: IpNet) -> impl Iterator<Item = IpNet> {
    let address: IpAddr = net.addr();
    (0..=net.prefix_len())
        .rev()
        .filter_map(move |length| IpNet::new(address, length).ok())
        .map(|wider| wider.trunc())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::parse::{Role, parse_endpoint};
    use super::*;

    fn read(list: &str, role: Role) -> Vec<Endpoint> {
        list.split_whitespace()
            .map(|one| parse_endpoint(one, role).unwrap().0)
            .collect()
    }

    fn found(list: &str) -> Vec<(usize, Overlap)> {
        overlaps(&read(list, Role::Allowed))
    }

    #[test]
    fn the_same_endpoint_twice_in_any_spelling() {
        assert_eq!(
            found("a.example A.example.:443 b.example"),
            [(1, Overlap::Repeats(0))]
        );
    }

    #[test]
    fn one_covered_by_another() {
        assert_eq!(found("a.example *.example:443"), [(0, Overlap::CoveredBy(1))]);
        assert_eq!(found("a.example *:*"), [(0, Overlap::CoveredBy(1))]);
        assert_eq!(
            found("*.b.example *.example *.example:80"),
            [(0, Overlap::CoveredBy(1))]
        );
        assert_eq!(
            found("a.example:8001 a.example:8000-8100"),
            [(0, Overlap::CoveredBy(1))]
        );
        assert_eq!(found("ab*.x.example a*.x.example"), [(0, Overlap::CoveredBy(1))]);
        assert_eq!(found("abc.x.example a*.x.example"), [(0, Overlap::CoveredBy(1))]);
        assert_eq!(found("a.b.x.example *.*.x.example"), [(0, Overlap::CoveredBy(1))]);
        assert_eq!(
            found("10.1.0.0/16 10.0.0.0/8 [2001:db8::1]"),
            [(0, Overlap::CoveredBy(1))]
        );
    }

    #[test]
    fn neighbours_are_not_covered() {
        assert_eq!(found("example *.example"), []);
        assert_eq!(found("a.example a.example/udp"), []);
        assert_eq!(found("a.example b.a.example ba.example"), []);
        assert_eq!(found("*a.x.example a*.x.example *.x.example:80"), []);
        assert_eq!(found("a*.x.example b.a1.x.example"), []);
        assert_eq!(found("10.0.0.0/8:80 11.0.0.0/8 10.0.0.0/16:81"), []);
    }

    #[test]
    fn a_denied_name_without_a_port_covers_its_ports() {
        let all = read("a.example:80/tcp a.example", Role::Denied);
        assert_eq!(overlaps(&all), [(0, Overlap::CoveredBy(1))]);
    }

    #[test]
    fn buckets_are_bounded() {
        let list: Vec<String> = (1..=5000).map(|port| format!("a.example:{port}")).collect();
        assert_eq!(found(&list.join(" ")), []);
    }
}
