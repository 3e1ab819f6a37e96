//! What the neighbour tables say: addresses of one machine are one job, and another machine is another.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::link::{Machine, Moved, Neighbour};
use super::mac::Mac;
use super::state::{Hold, Key, Source, State, canonical};
use super::{Lease, MAX_JOINED};
use crate::special;

/// Whom the further addresses of a machine join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Lease(Key),
    Beside(Key, IpAddr),
}

impl State {
    pub(super) fn observe_neighbours(&mut self, snapshot: &[Neighbour]) -> Vec<IpAddr> {
        let rows: Vec<(IpAddr, Machine)> = snapshot.iter().filter_map(|row| self.row(row)).collect();
        let moved = self.link.replace(rows.into_iter());
        let mut changed: Vec<IpAddr> = self.bind_unbound_sources();
        let mut machines: BTreeSet<Machine> = BTreeSet::new();
        let mut networks: BTreeSet<_> = BTreeSet::new();
        for change in &moved {
            changed.extend(self.note_move(change));
            machines.extend(change.before.iter().chain(&change.after).cloned());
        }
        for machine in &machines {
            changed.extend(self.rejoin(machine));
            networks.insert(machine.0.clone());
        }
        for network in &networks {
            changed.extend(self.recheck(network));
        }
        canonical(&changed)
    }

    /// Takes in one row that was asked for between two snapshots.
    pub(super) fn observe_neighbour(&mut self, row: &Neighbour) {
        let Some((address, machine)) = self.row(row) else {
            return;
        };
        let Some(moved) = self.link.add(address, machine) else {
            return;
        };
        let mut changed = self.note_move(&moved);
        for machine in moved.before.iter().chain(&moved.after) {
            changed.extend(self.rejoin(machine));
            changed.extend(self.recheck_machine(machine));
        }
        self.owed.extend(changed);
    }

    /// A row whose address lies in the network that it was seen in.
    fn row(&self, row: &Neighbour) -> Option<(IpAddr, Machine)> {
        let address = special::canonical(row.address);
        let network = self.network_of(address)?;
        (network.name == row.network).then(|| (address, (row.network.clone(), row.mac)))
    }

    /// Binds registered sources to the machines that are seen at them for the first time since.
    fn bind_unbound_sources(&mut self) -> Vec<IpAddr> {
        let mut found: Vec<(Key, IpAddr, Machine)> = Vec::new();
        for (key, entry) in &self.leases {
            let loose = entry.sources.iter().filter(|(_, source)| source.mac.is_none());
            found.extend(
                loose.filter_map(|(address, _)| Some((*key, *address, self.link.machine(*address)?.clone()))),
            );
        }
        let mut changed = Vec::new();
        for (key, address, machine) in found {
            self.attach(
                key,
                address,
                Source {
                    mac: Some(machine.1),
                    ..Source::default()
                },
            );
            changed.extend(self.rejoin(&machine));
        }
        changed
    }

    /// Binds registered sources of a lease, at which nobody was seen yet, to the machine that asks from there.
    pub(super) fn bind_loose(&mut self, lease: &Lease, sources: &[IpAddr], mac: Mac) -> Vec<IpAddr> {
        let (key, machine) = (lease.subject.id, (lease.network.clone(), mac));
        let held = self.leases.get(&key).map(|entry| entry.sources.clone());
        let held = held.unwrap_or_default();
        let is_loose = |source: &&IpAddr| held.get(source).is_some_and(|held| held.mac.is_none());
        let loose: Vec<IpAddr> = sources.iter().filter(is_loose).copied().collect();
        if loose.is_empty() {
            return loose;
        }
        for address in loose {
            let bound = Source {
                mac: Some(mac),
                ..Source::default()
            };
            self.attach(key, address, bound);
        }
        let mut changed = self.rejoin(&machine);
        changed.extend(self.recheck(&machine.0));
        canonical(&changed)
    }

    /// One address is at another machine than before, or seen for the first time, or seen no more.
    fn note_move(&mut self, change: &Moved) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        let Some(machine) = &change.after else {
            return changed;
        };
        let record = self
            .quarantine
            .get(change.address)
            .map(|record| record.machine.clone());
        match record {
            Some(Some(before)) if before != *machine => {
                self.quarantine.lift(change.address);
                changed.push(change.address);
            }
            Some(None) => self.quarantine.attribute(change.address, machine),
            Some(Some(_)) | None => {}
        }
        changed.extend(self.bind_presumed(change.address, machine));
        // A joined address belongs to its machine; a registered one to its lease, whatever is seen there.
        let joined_elsewhere = match self.held.get(&change.address) {
            Some(Hold::Lease(key)) => {
                let source = self
                    .leases
                    .get(key)
                    .and_then(|entry| entry.sources.get(&change.address));
                source.is_some_and(|source| source.joined && source.mac != Some(machine.1))
            }
            Some(Hold::Beside(first)) => self.link.machine(*first) != Some(machine),
            None => false,
        };
        if joined_elsewhere {
            self.detach(change.address);
            changed.push(change.address);
        }
        changed
    }

    /// The next machine that shows itself at an address which was given away is the lease's, once: until then only the
    /// machine of the lease before was seen there.
    fn bind_presumed(&mut self, address: IpAddr, machine: &Machine) -> Option<IpAddr> {
        let Some(Hold::Lease(key)) = self.held.get(&address).copied() else {
            return None;
        };
        let source = self.leases.get(&key)?.sources.get(&address)?;
        if source.joined || !source.is_presumed() {
            return None;
        }
        self.detach(address);
        let bound = Source {
            mac: Some(machine.1),
            ..Source::default()
        };
        self.attach(key, address, bound);
        Some(address)
    }

    /// Lets every further address of a machine join the one lease that the machine holds, or leave when
    /// it holds none, or several, or is quarantined. Gives back the addresses that changed.
    pub(super) fn rejoin(&mut self, machine: &Machine) -> Vec<IpAddr> {
        let host = self.host_of(machine);
        let loose: Vec<IpAddr> = self
            .link
            .addresses(machine)
            .filter(|one| self.is_loose(*one))
            .collect();
        let mut changed = Vec::new();
        for address in loose {
            let wanted = host
                .filter(|host| self.may_join(*host, address))
                .map(|host| match host {
                    Host::Lease(key) => Hold::Lease(key),
                    Host::Beside(_, first) => Hold::Beside(first),
                });
            if self.held.get(&address).copied() == wanted {
                continue;
            }
            self.detach(address);
            self.displace(address);
            match wanted {
                Some(Hold::Lease(key)) => {
                    self.attach(
                        key,
                        address,
                        Source {
                            joined: true,
                            mac: Some(machine.1),
                            left: None,
                        },
                    );
                }
                Some(hold @ Hold::Beside(_)) => {
                    self.held.insert(address, hold);
                }
                None => {}
            }
            changed.push(address);
        }
        changed
    }

    /// Takes out the addresses that stand beside a source which no static range holds any more.
    pub(super) fn drop_orphans(&mut self) -> Vec<IpAddr> {
        let orphan = |(address, hold): (&IpAddr, &Hold)| match hold {
            Hold::Beside(first) => Some(*address).filter(|_| !self.in_range_only(*first)),
            Hold::Lease(_) => None,
        };
        let orphans: Vec<IpAddr> = self.held.iter().filter_map(orphan).collect();
        for address in &orphans {
            self.detach(*address);
        }
        orphans
    }

    /// The one lease that a machine holds by registered sources or by static ranges.
    fn host_of(&self, machine: &Machine) -> Option<Host> {
        if self.quarantine.has_machine(machine) {
            return None;
        }
        let registered = self
            .bound
            .get(machine)
            .into_iter()
            .flatten()
            .filter_map(|address| match self.held.get(address)? {
                Hold::Lease(key) => Some(Host::Lease(*key)),
                Hold::Beside(_) => None,
            });
        let ranged = self
            .link
            .addresses(machine)
            .filter(|one| self.in_range_only(*one));
        let ranged = ranged.filter_map(|address| Some(Host::Beside(self.range_of(address)?.key, address)));
        let mut hosts = registered.chain(ranged);
        let first = hosts.next()?;
        hosts.all(|other| other.key() == first.key()).then_some(first)
    }

    /// True for an address that no registration, no static range and no quarantine speaks for.
    fn is_loose(&self, address: IpAddr) -> bool {
        if self.quarantine.get(address).is_some() {
            return false;
        }
        match self.held.get(&address) {
            Some(Hold::Lease(key)) => {
                let source = self.leases.get(key).and_then(|entry| entry.sources.get(&address));
                source.is_some_and(|source| source.joined)
            }
            Some(Hold::Beside(_)) => true,
            None => self.range_of(address).is_none(),
        }
    }

    /// True while the lease has room for one more joined address, or has this one already.
    fn may_join(&self, host: Host, address: IpAddr) -> bool {
        match host {
            Host::Lease(key) => self.leases.get(&key).is_some_and(|entry| {
                entry.sources.get(&address).is_some_and(|source| source.joined)
                    || entry.sources.values().filter(|source| source.joined).count() < MAX_JOINED
            }),
            Host::Beside(_, first) => {
                self.held.get(&address) == Some(&Hold::Beside(first))
                    || self
                        .held
                        .values()
                        .filter(|hold| **hold == Hold::Beside(first))
                        .count()
                        < MAX_JOINED
            }
        }
    }
}

impl Host {
    const fn key(self) -> Key {
        match self {
            Self::Lease(key) | Self::Beside(key, _) => key,
        }
    }
}
