//! The names, addresses, sources and policy that all subjects serve alike, and a lab that knows them.
//!
//! Owns the equality of the comparison: whatever differs between subjects is not made here.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Context as _, Result};
use tidegate_lab::{Lab, plan};

/// Names that are asked for, and cached by every resolver.
pub const DNS_NAMES: usize = 1_000;
/// Names on the allowlist of every subject.
pub const ALLOWED_NAMES: usize = 1_001;
/// Addresses that answer small flows; several, so that no pair of addresses runs out of ports.
pub const SMALL_ORIGINS: usize = 8;
/// Index of the name whose origin answers and then holds the connection.
pub const HOLD: usize = ALLOWED_NAMES - 1;
/// Indices of the names whose origins send one gibibyte, shared by so many flows.
pub const BULKS: [Bulk; 3] = [
    Bulk::new(ALLOWED_NAMES - 2, 1),
    Bulk::new(ALLOWED_NAMES - 3, 16),
    Bulk::new(ALLOWED_NAMES - 4, 200),
];
/// Indices of names of small flows.
pub const SMALL: std::ops::Range<usize> = 0..ALLOWED_NAMES - 4;
/// Where the sources lie that ask for names: behind the runner.
pub const SOURCES: &str = "10.78.0.0/16";
/// The gateway's address among them, which is none of them.
const AMONG_SOURCES: &str = "10.78.255.254/16";
/// Sources in one octet of [`SOURCES`].
const OCTET: usize = 250;

/// A download: whose name, how many at once, how many bytes each.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    /// Index of the name.
    pub name: usize,
    /// Flows at once.
    pub flows: usize,
    /// Bytes that each flow gets after its first answer.
    pub bytes: u64,
}

impl Bulk {
    const fn new(name: usize, flows: usize) -> Self {
        Self {
            name,
            flows,
            bytes: (1_u64 << 30).div_ceil(flows as u64),
        }
    }
}

/// Name number `index` of the allowlist.
pub fn name(index: usize) -> String {
    format!("host-{index:04}.bench.test")
}

/// The names of an index range.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// Names that nobody is allowed.
pub fn refused_names(count: usize) -> Vec<String> {
    (0..count)
        .map(|index| format!("other-{index:04}.bench.test"))
        .collect()
}

/// Where name `index` lives: port 443 of one of twelve addresses.
pub fn address(index: usize) -> SocketAddr {
    let host = match BULKS.iter().position(|bulk| bulk.name == index) {
        Some(bulk) => 121 + bulk as u8,
        None if index == HOLD => 120,
        None => 101 + (index % SMALL_ORIGINS) as u8,
    };
    (Ipv4Addr::new(192, 0, 2, host), 443).into()
}

/// Source number `index` of those that ask for names.
pub fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, (index / OCTET) as u8, (index % OCTET) as u8 + 1)
}

/// The runner's policy: block, and these names on port 443 alone.
pub fn policy() -> String {
    let mut text = String::from("egress-policy: block\nplatform: none\nallowed-endpoints:\n");
    for name in names(ALLOWED_NAMES) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  - {name}:443");
    }
    text
}

/// A lab with one runner, behind which all [`SOURCES`] are, and a resolver that knows every name for longer than a
/// benchmark takes.
pub fn lab() -> Result<Lab> {
    let lab = Lab::builder()
        .runners(1)
        .build()
        .context("can't build the lab; are you root?")?;
    for index in 0..ALLOWED_NAMES {
        let record = format!("86400 A {}", address(index).ip());
        lab.dns().set(&name(index), &[&record])?;
    }
    lab.runner(0).ip(&format!("route add local {SOURCES} dev lo\n"))?;
    let runner = plan::runner_v4(0, 0);
    // An address tells the gateway that they are its network's; the route, that they are one machine's.
    lab.gw().ip(&format!(
        "addr add {AMONG_SOURCES} dev runners0 noprefixroute\nroute add {SOURCES} via {runner} dev runners0\n"
    ))?;
    for machine in [lab.runner(0), lab.gw()] {
        machine.sysctl("net/ipv4/ip_local_port_range", "1025 65000")?;
    }
    Ok(lab)
}

/// Where runners ask: the gateway's address on their network.
pub fn resolver() -> SocketAddrV4 {
    SocketAddrV4::new(plan::gateway_v4(0), 53)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_differ_and_lie_in_their_range() {
        let sources: HashSet<_> = (0..10_000).map(source).collect();
        assert_eq!(sources.len(), 10_000);
        assert!(sources.iter().all(|source| source.octets()[..2] == [10, 78]));
    }

    #[test]
    fn names_of_small_flows_share_no_address_with_the_others() {
        let small: HashSet<_> = SMALL.map(address).collect();
        assert_eq!(small.len(), SMALL_ORIGINS);
        let others = (SMALL.end..ALLOWED_NAMES).map(address);
        let others: HashSet<_> = others.collect();
        assert_eq!(others.len(), ALLOWED_NAMES - SMALL.end);
        assert!(small.is_disjoint(&others));
    }
}
