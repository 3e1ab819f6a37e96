//! The names, addresses and policy that all subjects serve alike, and a lab that knows them.
//!
//! Owns the equality of the comparison: whatever differs between subjects is not made here.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tidegate_lab::{Lab, plan};

/// Names that are asked for, and cached by every resolver.
pub const DNS_NAMES: usize = 1_000;
/// Names on the allowlist of every gateway.
pub const ALLOWED_NAMES: usize = 1_001;
/// Addresses that answer small flows; several, so that no pair of addresses runs out of ports.
pub const SMALL_ORIGINS: usize = 8;
/// Index of the name whose origin sends one bulk answer.
pub const BULK: usize = ALLOWED_NAMES - 2;
/// Index of the name whose origin answers and then holds the connection.
pub const HOLD: usize = ALLOWED_NAMES - 1;

/// Name number `index` of the allowlist.
pub fn name(index: usize) -> String {
    format!("host-{index:04}.bench.test")
}

/// The names of an index range.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// Where name `index` lives: port 443 of one of ten addresses.
pub fn address(index: usize) -> SocketAddr {
    let host = match index {
        BULK => 121,
        HOLD => 122,
        small => 101 + (small % SMALL_ORIGINS) as u8,
    };
    (Ipv4Addr::new(192, 0, 2, host), 443).into()
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

/// A lab with one runner whose resolver knows every name for longer than a benchmark takes.
pub fn lab() -> Result<Lab> {
    let lab = Lab::builder()
        .runners(1)
        .build()
        .context("can't build the lab; are you root?")?;
    for index in 0..ALLOWED_NAMES {
        let record = format!("86400 A {}", address(index).ip());
        lab.dns().set(&name(index), &[&record])?;
    }
    Ok(lab)
}

/// Where runners ask: the gateway's address on their network.
pub fn resolver() -> SocketAddr {
    (plan::gateway_v4(0), 53).into()
}
