//! Which machine may use which source address, as the ruleset sees it: owns the
//! table of (address, MAC) and the nft text that changes it; never runs nft.
//!
//! The kernel can't know leases. It is told the MAC of each leased address on an
//! adjacent network, and marks datagrams that carry another one, so that the UDP
//! sockets see the spoof (`SO_RCVMARK`). TCP needs no help: its handshake proves
//! the return path.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use super::ruleset::TABLE;
use crate::link::Mac;

/// Most addresses bound at once, in both families together.
pub const MAX_BINDINGS: usize = 65_536;

/// The table is full; the address stays unbound (its spoofs go unseen, and
/// `status` counts it among the unbound sources).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_BINDINGS} addresses are bound already")]
pub struct BindingsFull;

/// The bound addresses and their machines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BindingTable {
    bound: BTreeMap<IpAddr, Mac>,
}

impl BindingTable {
    /// Binds, rebinds (`Some`) or unbinds (`None`) an address. Returns the nft
    /// script that does the same to the installed table, `None` if nothing changed.
    pub fn set(&mut self, address: IpAddr, mac: Option<Mac>) -> Result<Option<String>, BindingsFull> {
        let old = self.bound.get(&address).copied();
        if old == mac {
            return Ok(None);
        }
        if old.is_none() && self.bound.len() >= MAX_BINDINGS {
            return Err(BindingsFull);
        }
        let mut script = String::new();
        if let Some(old) = old {
            script.push_str(&change("delete", address, old));
            self.bound.remove(&address);
        }
        if let Some(new) = mac {
            script.push_str(&change("add", address, new));
            self.bound.insert(address, new);
        }
        Ok(Some(script))
    }

    /// The machine an address is bound to.
    pub fn get(&self, address: IpAddr) -> Option<Mac> {
        self.bound.get(&address).copied()
    }

    /// How many addresses are bound.
    pub fn len(&self) -> usize {
        self.bound.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// The script that fills freshly made sets, empty when nothing is bound.
    pub(super) fn fill_script(&self) -> String {
        let mut script = String::new();
        for v4 in [true, false] {
            let family = if v4 { 4 } else { 6 };
            let mut sources = String::new();
            let mut pairs = String::new();
            for (address, mac) in self.bound.iter().filter(|(a, _)| a.is_ipv4() == v4) {
                // Writing to a String can't fail.
                let _ = write!(sources, "{address}, ");
                let _ = write!(pairs, "{address} . {mac}, ");
            }
            if !sources.is_empty() {
                let _ = writeln!(
                    script,
                    "add element inet {TABLE} bound_sources{family} {{ {sources}}}"
                );
                let _ = writeln!(script, "add element inet {TABLE} bound{family} {{ {pairs}}}");
            }
        }
        script
    }
}

fn change(verb: &str, address: IpAddr, mac: Mac) -> String {
    let family = if address.is_ipv4() { 4 } else { 6 };
    format!(
        "{verb} element inet {TABLE} bound_sources{family} {{ {address} }}\n\
         {verb} element inet {TABLE} bound{family} {{ {address} . {mac} }}\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    #[test]
    fn a_change_of_machine_is_one_transaction() {
        let mut table = BindingTable::default();
        let address: IpAddr = "10.77.1.2".parse().unwrap();
        assert!(
            table
                .set(address, Some(A))
                .unwrap()
                .unwrap()
                .starts_with("add element")
        );
        assert_eq!(table.set(address, Some(A)), Ok(None));
        let script = table.set(address, Some(B)).unwrap().unwrap();
        assert_eq!(
            script,
            "delete element inet tidegate bound_sources4 { 10.77.1.2 }\n\
             delete element inet tidegate bound4 { 10.77.1.2 . 02:00:00:00:00:0a }\n\
             add element inet tidegate bound_sources4 { 10.77.1.2 }\n\
             add element inet tidegate bound4 { 10.77.1.2 . 02:00:00:00:00:0b }\n"
        );
        assert_eq!(table.get(address), Some(B));
        assert!(table.set(address, None).unwrap().is_some());
        assert!(table.is_empty());
        assert_eq!(table.set(address, None), Ok(None));
    }

    #[test]
    fn at_the_bound_a_new_address_is_refused_and_a_known_one_still_changes() {
        let mut table = BindingTable::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..MAX_BINDINGS as u32 {
            table.set(address(n), Some(A)).unwrap();
        }
        assert_eq!(
            table.set(address(MAX_BINDINGS as u32), Some(A)),
            Err(BindingsFull)
        );
        assert!(table.set(address(7), Some(B)).unwrap().is_some());
        assert!(table.set(address(7), None).unwrap().is_some());
        assert!(
            table
                .set(address(MAX_BINDINGS as u32), Some(A))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn a_reinstall_carries_both_families() {
        let mut table = BindingTable::default();
        assert_eq!(table.fill_script(), "");
        table.set("10.77.1.2".parse().unwrap(), Some(A)).unwrap();
        table.set("fd77:1::2".parse().unwrap(), Some(A)).unwrap();
        assert_eq!(
            table.fill_script(),
            "add element inet tidegate bound_sources4 { 10.77.1.2, }\n\
             add element inet tidegate bound4 { 10.77.1.2 . 02:00:00:00:00:0a, }\n\
             add element inet tidegate bound_sources6 { fd77:1::2, }\n\
             add element inet tidegate bound6 { fd77:1::2 . 02:00:00:00:00:0a, }\n"
        );
    }
}
