//! Link evidence: which hardware address was last seen at which source address.
//!
//! Owns the last neighbour snapshot, by address and by machine. It draws no conclusions; [`super::state`]
//! decides what a shared or a changed hardware address means.

use std::collections::BTreeSet;
use std::net::IpAddr;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};

use super::mac::Mac;

/// Neighbours kept; further ones of a snapshot are left out.
pub const MAX_NEIGHBOURS: usize = 65_536;

/// One row of the neighbour tables of runner-facing interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// The machine that answers for it.
    pub mac: Mac,
    /// Name of the network.
    pub network: CompactString,
}

/// A machine on a link: hardware addresses mean nothing beyond their own network.
pub(super) type Machine = (CompactString, Mac);

/// The last snapshot.
#[derive(Debug, Default)]
pub(super) struct Link {
    seen: HashMap<IpAddr, Machine>,
    by_machine: HashMap<Machine, BTreeSet<IpAddr>>,
    evident: HashSet<CompactString>,
}

/// One difference between two snapshots.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) address: IpAddr,
    pub(super) before: Option<Machine>,
    pub(super) after: Option<Machine>,
}

impl Link {
    /// The machine last seen at an address.
    pub(super) fn machine(&self, address: IpAddr) -> Option<&Machine> {
        self.seen.get(&address)
    }

    /// The addresses last seen at a machine.
    pub(super) fn addresses(&self, machine: &Machine) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_machine.get(machine).into_iter().flatten().copied()
    }

    /// True when the network ever had a row in a snapshot: it is adjacent, and silence about an address
    /// means something.
    pub(super) fn is_evident(&self, network: &str) -> bool {
        self.evident.contains(network)
    }

    /// Every row of the last snapshot.
    pub(super) fn rows(&self) -> impl Iterator<Item = (IpAddr, &Machine)> {
        self.seen.iter().map(|(address, machine)| (*address, machine))
    }

    /// Forgets the rows for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl Fn(IpAddr, &Machine) -> bool) {
        let rows: Vec<(IpAddr, Machine)> = self
            .rows()
            .filter(|(address, machine)| keep(*address, machine))
            .map(|(at, one)| (at, one.clone()))
            .collect();
        self.replace(rows.into_iter());
    }

    /// Replaces the snapshot and says what differs.
    pub(super) fn replace(&mut self, rows: impl Iterator<Item = (IpAddr, Machine)>) -> Vec<Moved> {
        let seen: HashMap<IpAddr, Machine> = rows.take(MAX_NEIGHBOURS).collect();
        let before = std::mem::replace(&mut self.seen, seen);
        let gone = before
            .iter()
            .filter(|(address, _)| !self.seen.contains_key(*address));
        let mut moved: Vec<Moved> = gone
            .map(|(address, machine)| Moved {
                address: *address,
                before: Some(machine.clone()),
                after: None,
            })
            .collect();
        moved.extend(
            self.seen
                .iter()
                .filter(|(address, machine)| before.get(*address) != Some(*machine))
                .map(|(address, machine)| Moved {
                    address: *address,
                    before: before.get(address).cloned(),
                    after: Some(machine.clone()),
                }),
        );
        for change in &moved {
            self.index(change);
        }
        moved
    }

    /// Takes in one row beside the last snapshot, until the next one; says what differs.
    pub(super) fn add(&mut self, address: IpAddr, machine: Machine) -> Option<Moved> {
        if self.seen.len() >= MAX_NEIGHBOURS && !self.seen.contains_key(&address) {
            return None;
        }
        let before = self.seen.insert(address, machine.clone());
        if before.as_ref() == Some(&machine) {
            return None;
        }
        let moved = Moved {
            address,
            before,
            after: Some(machine),
        };
        self.index(&moved);
        Some(moved)
    }

    fn index(&mut self, change: &Moved) {
        if let Some(machine) = &change.before
            && let Some(addresses) = self.by_machine.get_mut(machine)
        {
            addresses.remove(&change.address);
            if addresses.is_empty() {
                self.by_machine.remove(machine);
            }
        }
        if let Some(machine) = &change.after {
            self.evident.insert(machine.0.clone());
            self.by_machine
                .entry(machine.clone())
                .or_default()
                .insert(change.address);
        }
    }
}
