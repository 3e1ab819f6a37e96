//! Granting and ending leases: what becomes of sources, machines and subjects.
//!
//! Whether a lease may be granted is [`super::claim`]'s question.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;

use super::Lease;
use super::link::Machine;
use super::mac::Mac;
use super::register::Registered;
use super::sources::Sources;
use super::state::{Entry, Hold, Key, Source, State, canonical};
use crate::Moment;
use crate::effective::{Asked, Generation};
use crate::event::JobRecord;
use crate::job::JobIdentity;
use crate::subject::{Network, RunnerKind, Standing, Subject};
use crate::verdict::Reason;

/// A lease to be put in place, already allowed.
pub(super) struct Grant {
    pub(super) id: CompactString,
    pub(super) identity: JobIdentity,
    /// The sources, with their machines as far as they are known.
    pub(super) sources: BTreeMap<IpAddr, Option<Mac>>,
    pub(super) began: Generation,
    pub(super) expires: Moment,
}

impl State {
    pub(super) fn grant(
        &mut self,
        grant: Grant,
        network: &Arc<Network>,
        replaced: &[Key],
        now: Moment,
    ) -> Registered {
        let Grant { id, identity, .. } = grant;
        let mut changed: Vec<IpAddr> = grant.sources.keys().copied().collect();
        let (mut held, heir) = self.inherited(&id, &identity, replaced);
        let began = heir
            .as_ref()
            .map_or(grant.began, |old| old.began.min(grant.began));
        let keep: Vec<IpAddr> = grant.sources.keys().chain(held.keys()).copied().collect();
        for key in replaced {
            let succeeded = heir.as_ref().is_some_and(|old| old.subject.id == *key);
            changed.extend(self.replace_lease(*key, &keep, succeeded, now));
        }
        for (source, mac) in grant.sources {
            let left = self.left_machine(source).filter(|_| mac.is_none());
            changed.extend(self.lift(source));
            if let Some(mac) = mac {
                changed.extend(self.quarantine.lift_machine(&(network.name.clone(), mac)));
            }
            let mac = mac.or_else(|| held.get(&source).and_then(|known| known.mac));
            let joined = false;
            held.insert(source, Source { joined, mac, left });
        }
        let job = Arc::new(JobRecord {
            id: id.clone(),
            identity,
        });
        let book = self.books.of(&Asked::leased(&job.identity, began, network));
        let (record, standing) = (Some(Arc::clone(&job)), Standing::Leased);
        let subject = match heir {
            Some(old) => old.subject.succeeded_by(record, standing, book),
            None => Subject::new(Arc::clone(network), record, standing, book),
        };
        let lease = Arc::new(Lease {
            id,
            job,
            network: network.name.clone(),
            since: now,
            began,
            expires: Some(grant.expires),
            pinned: None,
            subject: Arc::new(subject),
        });
        changed.extend(held.keys().copied());
        changed.extend(self.hold(Arc::clone(&lease), held));
        Registered {
            lease,
            changed: canonical(&changed),
        }
    }

    /// What a lease takes over from those that it replaces: of an older form of itself, else of the only one. Two
    /// registrations of one machine: the addresses that only the old one named go over with it, and when it is
    /// the same job, its tickets.
    pub(super) fn inherited(
        &self,
        id: &str,
        identity: &JobIdentity,
        replaced: &[Key],
    ) -> (Sources, Option<Arc<Lease>>) {
        let old = || replaced.iter().filter_map(|key| self.leases.get(key));
        let only = || old().next().filter(|_| replaced.len() == 1);
        let Some(entry) = old().find(|entry| entry.lease.id == id).or_else(only) else {
            return (Sources::default(), None);
        };
        let same = entry.lease.id == id || is_same_job(&entry.lease.job.identity, identity);
        (entry.sources.clone(), same.then(|| Arc::clone(&entry.lease)))
    }

    /// Puts a lease with its sources in place and lets the rest of its machine join it.
    pub(super) fn hold(&mut self, lease: Arc<Lease>, sources: Sources) -> Vec<IpAddr> {
        let (key, network) = (lease.subject.id, lease.network.clone());
        self.by_id.insert(lease.id.clone(), key);
        *self.counts.entry(network.clone()).or_default() += 1;
        self.leases.insert(
            key,
            Entry {
                lease,
                sources: Sources::default(),
            },
        );
        self.take(key, &network, sources)
    }

    /// Gives a lease further sources, whatever they joined before, and lets the rest of their machines join it.
    pub(super) fn take(&mut self, key: Key, network: &CompactString, sources: Sources) -> Vec<IpAddr> {
        let mut machines: Vec<Machine> = Vec::new();
        for (address, mut source) in sources {
            // Whoever let it go may have let it join another lease of its machine.
            self.detach(address);
            self.displace(address);
            // Who was seen there before counts: the neighbour tables may not change again.
            let seen = self.link.machine(address).filter(|seen| seen.0 == *network);
            source.mac = source.mac.or_else(|| seen.map(|seen| seen.1));
            self.attach(key, address, source);
            machines.extend(source.mac.map(|mac| (network.clone(), mac)));
            machines.extend(self.link.machine(address).cloned());
        }
        let mut changed = if self.ranges.is_empty() {
            Vec::new()
        } else {
            self.drop_orphans()
        };
        changed.extend(machines.iter().flat_map(|machine| self.rejoin(machine)));
        changed.extend(self.recheck(network));
        changed
    }

    /// Notes that a lease holds a source.
    pub(super) fn attach(&mut self, key: Key, address: IpAddr, source: Source) {
        let Some(entry) = self.leases.get_mut(&key) else {
            return;
        };
        let network = entry.lease.network.clone();
        entry.sources.insert(address, source);
        self.held.insert(address, Hold::Lease(key));
        let evident = source.mac.is_some() || self.link.machine(address).is_some();
        let seen = source.joined || (evident && !source.is_presumed());
        self.note_unseen(&network, address, address.is_ipv4() && !seen);
        if let (false, Some(mac)) = (source.joined, source.mac) {
            self.bound.entry((network, mac)).or_default().push(address);
        }
    }

    fn note_unseen(&mut self, network: &CompactString, address: IpAddr, unseen: bool) {
        if unseen {
            self.unseen.entry(network.clone()).or_default().insert(address);
        } else if let Some(addresses) = self.unseen.get_mut(network) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.unseen.remove(network);
            }
        }
    }

    /// Takes one source out of whatever holds it.
    pub(super) fn detach(&mut self, address: IpAddr) {
        self.cache.remove(address);
        let Some(Hold::Lease(key)) = self.held.remove(&address) else {
            return;
        };
        let Some(entry) = self.leases.get_mut(&key) else {
            return;
        };
        let Some(source) = entry.sources.remove(&address) else {
            return;
        };
        let network = entry.lease.network.clone();
        self.note_unseen(&network, address, false);
        if let (false, Some(mac)) = (source.joined, source.mac) {
            self.unbind(&(network, mac), address);
        }
    }

    fn unbind(&mut self, machine: &Machine, address: IpAddr) {
        let Some(addresses) = self.bound.get_mut(machine) else {
            return;
        };
        addresses.retain(|one| *one != address);
        if addresses.is_empty() {
            self.bound.remove(machine);
        }
    }

    /// Ends a lease for another one that takes over the sources `keep`; the others are left behind like
    /// those of any lease that ended.
    pub(super) fn replace_lease(
        &mut self,
        key: Key,
        keep: &[IpAddr],
        heir: bool,
        now: Moment,
    ) -> Vec<IpAddr> {
        let Some(entry) = self.remove_lease(key) else {
            return Vec::new();
        };
        self.silence(&entry.lease.subject, Reason::LeaseChanged);
        if !heir {
            entry.lease.subject.tickets().clear();
        }
        let mut changed = Vec::new();
        for (address, source) in &entry.sources {
            if !keep.contains(address) {
                changed.extend(self.leave_behind(*address, *source, &entry.lease, now));
            }
            changed.push(*address);
        }
        changed
    }

    /// Ends a lease. Gives back the sources that stand elsewhere now.
    pub(super) fn end_lease(&mut self, key: Key, reason: Reason, now: Moment) -> Vec<IpAddr> {
        let Some(entry) = self.remove_lease(key) else {
            return Vec::new();
        };
        self.retire(&entry.lease.subject, reason);
        let mut changed = Vec::new();
        for (address, source) in &entry.sources {
            if entry.lease.expires.is_some() {
                changed.extend(self.leave_behind(*address, *source, &entry.lease, now));
            }
            changed.push(*address);
        }
        changed.extend(self.settle(&entry));
        changed
    }

    /// Takes a lease out of every table; its subject is the caller's to retire.
    pub(super) fn remove_lease(&mut self, key: Key) -> Option<Entry> {
        let addresses: Vec<IpAddr> = self.leases.get(&key)?.sources.keys().copied().collect();
        let sources = self.leases.get(&key)?.sources.clone();
        for address in addresses {
            self.detach(address);
        }
        let mut entry = self.leases.remove(&key)?;
        entry.sources = sources;
        self.by_id.remove(&entry.lease.id);
        if let Some(count) = self.counts.get_mut(&entry.lease.network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.lease.network);
            }
        }
        Some(entry)
    }

    /// What becomes of a source whose lease ended: quarantine, where runners are ephemeral.
    fn leave_behind(
        &mut self,
        address: IpAddr,
        source: Source,
        lease: &Lease,
        now: Moment,
    ) -> Option<IpAddr> {
        let network = self
            .network_of(address)
            .filter(|network| network.name == lease.network)?;
        if network.runners == RunnerKind::Persistent {
            return None;
        }
        let seen = || self.link.machine(address).cloned();
        let machine = source.mac.map(|mac| (lease.network.clone(), mac)).or_else(seen);
        let whose = (lease.network.clone(), lease.id.clone());
        self.quarantine.add(address, whose, machine, now)
    }

    /// Lets what is left on a lease's machines join other leases, and displaces who stands elsewhere now.
    pub(super) fn settle(&mut self, entry: &Entry) -> Vec<IpAddr> {
        let network = &entry.lease.network;
        let bound = entry
            .sources
            .values()
            .filter_map(|source| Some((network.clone(), source.mac?)));
        let seen = entry
            .sources
            .keys()
            .filter_map(|address| self.link.machine(*address).cloned());
        let machines: Vec<Machine> = bound.chain(seen).collect();
        let mut changed: Vec<IpAddr> = machines.iter().flat_map(|machine| self.rejoin(machine)).collect();
        changed.extend(self.recheck(network));
        changed
    }

    /// The machine that is in quarantine at a source.
    pub(super) fn left_machine(&self, source: IpAddr) -> Option<Mac> {
        let record = self.quarantine.get(source)?;
        record.machine.as_ref().map(|(_, mac)| *mac)
    }

    /// Lifts the quarantine of a source and of its machine.
    pub(super) fn lift(&mut self, source: IpAddr) -> Vec<IpAddr> {
        let machine = self
            .quarantine
            .get(source)
            .and_then(|record| record.machine.clone());
        let machine = machine.or_else(|| self.link.machine(source).cloned());
        let mut lifted = machine
            .map(|machine| self.quarantine.lift_machine(&machine))
            .unwrap_or_default();
        if self.quarantine.lift(source) {
            lifted.push(source);
        }
        lifted
    }
}

/// True when two identities are of one run of one job, however well each is known.
fn is_same_job(one: &JobIdentity, other: &JobIdentity) -> bool {
    let key = |job: &JobIdentity| {
        (
            job.repo.clone(),
            job.workflow.clone(),
            job.job.clone(),
            job.run_id.clone(),
            job.run_attempt,
        )
    };
    !one.run_id.is_empty() && key(one) == key(other)
}
