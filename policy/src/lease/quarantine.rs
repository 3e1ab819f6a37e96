//! Addresses whose lease ended on a network of ephemeral runners: everything is refused to them until
//! their machine changes.
//!
//! Bounded: at the bound the address that has been quarantined the longest goes. A lease leaves at most
//! a few addresses behind and its job can't take another, so pushing one out takes a thousand machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use compact_str::CompactString;
use hashbrown::HashMap;

use super::link::Machine;
use crate::Moment;

/// Quarantined addresses kept.
pub const MAX_QUARANTINED: usize = 131_072;

/// One quarantined address.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Its network.
    pub(super) network: CompactString,
    /// Whose lease left it behind; empty when that is not known any more.
    pub(super) lease: CompactString,
    /// Its machine; unknown on networks without link evidence, or until it is seen.
    pub(super) machine: Option<Machine>,
    /// When the lease ended.
    pub(super) since: Moment,
    serial: u64,
}

/// The quarantined addresses.
#[derive(Debug)]
pub(super) struct Quarantine {
    capacity: usize,
    records: HashMap<IpAddr, Record>,
    machines: HashMap<Machine, BTreeSet<IpAddr>>,
    order: BTreeMap<u64, IpAddr>,
    counts: HashMap<CompactString, usize>,
    next: u64,
}

impl Quarantine {
    pub(super) fn new(capacity: usize) -> Self {
        let (records, machines) = (HashMap::new(), HashMap::new());
        Self {
            capacity,
            records,
            machines,
            order: BTreeMap::new(),
            counts: HashMap::new(),
            next: 0,
        }
    }

    pub(super) fn get(&self, source: IpAddr) -> Option<&Record> {
        self.records.get(&source)
    }

    pub(super) fn has_machine(&self, machine: &Machine) -> bool {
        self.machines.contains_key(machine)
    }

    pub(super) fn is_in(&self, network: &str) -> bool {
        self.counts.contains_key(network)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Record)> {
        self.records.iter()
    }

    /// Quarantines an address that a lease left behind in a network; gives back the one that had to go for it.
    pub(super) fn add(
        &mut self,
        source: IpAddr,
        (network, lease): (CompactString, CompactString),
        machine: Option<Machine>,
        since: Moment,
    ) -> Option<IpAddr> {
        self.lift(source);
        let serial = self.next;
        self.next += 1;
        if let Some(machine) = &machine {
            self.machines.entry(machine.clone()).or_default().insert(source);
        }
        *self.counts.entry(network.clone()).or_default() += 1;
        self.order.insert(serial, source);
        self.records.insert(
            source,
            Record {
                network,
                lease,
                machine,
                since,
                serial,
            },
        );
        let over = self.records.len() > self.capacity;
        let oldest = over
            .then(|| self.order.first_key_value().map(|(_, oldest)| *oldest))
            .flatten()?;
        self.lift(oldest);
        Some(oldest)
    }

    /// Notes the machine of an address that was quarantined before any was seen there.
    pub(super) fn attribute(&mut self, source: IpAddr, machine: &Machine) {
        if let Some(record) = self.records.get_mut(&source)
            && record.machine.is_none()
        {
            record.machine = Some(machine.clone());
            self.machines.entry(machine.clone()).or_default().insert(source);
        }
    }

    /// Ends the quarantine of one address; true when it was quarantined.
    pub(super) fn lift(&mut self, source: IpAddr) -> bool {
        let Some(record) = self.records.remove(&source) else {
            return false;
        };
        self.order.remove(&record.serial);
        if let Some(count) = self.counts.get_mut(&record.network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&record.network);
            }
        }
        if let Some(machine) = record.machine
            && let Some(addresses) = self.machines.get_mut(&machine)
        {
            addresses.remove(&source);
            if addresses.is_empty() {
                self.machines.remove(&machine);
            }
        }
        true
    }

    /// Ends the quarantine of a machine: of each of its addresses, which are given back.
    pub(super) fn lift_machine(&mut self, machine: &Machine) -> Vec<IpAddr> {
        let addresses: Vec<IpAddr> = self
            .machines
            .get(machine)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for address in &addresses {
            self.lift(*address);
        }
        addresses
    }
}
