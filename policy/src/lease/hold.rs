//! Granting and ending leases: what becomes of sources, machines and subjects.
//!
//! Whether a lease may be granted is [`super::claim`]'s question.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;

use super::Lease;
use super::link::Machine;
use super::register::{EndError, Party, Registered, Registration};
use super::state::{Entry, Hold, Key, Source, State, canonical};
use crate::Moment;
use crate::effective::Asked;
use crate::event::JobRecord;
use crate::job::JobIdentity;
use crate::subject::{Network, RunnerKind, Standing, Subject};
use crate::verdict::Reason;

impl State {
    pub(super) fn grant(
        &mut self,
        request: Registration,
        sources: Vec<IpAddr>,
        network: &Arc<Network>,
        identity: JobIdentity,
        replaced: &[Key],
        now: Moment,
    ) -> Registered {
        let mut changed = sources.clone();
        let mut held: BTreeMap<IpAddr, Source> = BTreeMap::new();
        let mut heir = None;
        for key in replaced {
            // Two registrations of one machine: the addresses that only the old one named go over with it.
            if let ([_], Some(entry)) = (replaced, self.leases.get(key)) {
                held.clone_from(&entry.sources);
                heir = Some(Arc::clone(&entry.lease)).filter(|old| is_same_job(&old.job.identity, &identity));
            }
            let keep: Vec<IpAddr> = sources.iter().chain(held.keys()).copied().collect();
            changed.extend(self.replace_lease(*key, &keep, heir.is_some(), now));
        }
        for source in &sources {
            self.detach(*source);
            changed.extend(self.lift(*source));
            let mac = request
                .mac
                .or_else(|| held.get(source).and_then(|known| known.mac));
            held.insert(*source, Source { joined: false, mac });
        }
        let job = Arc::new(JobRecord {
            id: request.id.clone(),
            identity,
        });
        let began = heir.as_ref().map_or(request.began, |old| old.began);
        let asked = Asked::leased(&job.identity, began, network);
        let book = self.policies.rulebook_for(&asked);
        let (record, standing) = (Some(Arc::clone(&job)), Standing::Leased);
        let subject = match heir {
            Some(old) => old.subject.succeeded_by(record, standing, book),
            None => Subject::new(Arc::clone(network), record, standing, book),
        };
        let lease = Arc::new(Lease {
            id: request.id,
            job,
            network: network.name.clone(),
            since: now,
            began,
            expires: Some(now.plus(request.lifetime)),
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

    /// Puts a lease with its sources in place and lets the rest of its machine join it.
    pub(super) fn hold(&mut self, lease: Arc<Lease>, sources: BTreeMap<IpAddr, Source>) -> Vec<IpAddr> {
        let (key, network) = (lease.subject.id, lease.network.clone());
        self.by_id.insert(lease.id.clone(), key);
        *self.counts.entry(network.clone()).or_default() += 1;
        self.leases.insert(
            key,
            Entry {
                lease,
                sources: BTreeMap::new(),
            },
        );
        let mut machines: Vec<Machine> = Vec::new();
        for (address, source) in sources {
            self.displace(address);
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
        changed.extend(self.recheck(&network));
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
        let seen = source.joined || source.mac.is_some() || self.link.machine(address).is_some();
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
    fn replace_lease(&mut self, key: Key, keep: &[IpAddr], heir: bool, now: Moment) -> Vec<IpAddr> {
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
        self.quarantine.add(address, lease.network.clone(), machine, now)
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

    pub(super) fn end(&mut self, id: &str, by: &Party, now: Moment) -> Result<Vec<IpAddr>, EndError> {
        let Some((key, entry)) = self
            .by_id
            .get(id)
            .and_then(|key| Some((*key, self.leases.get(key)?)))
        else {
            return Err(EndError::Unknown(id.into()));
        };
        if entry.lease.expires.is_none() {
            return Err(EndError::Static(id.into()));
        }
        let may = match by {
            Party::Source(source) => entry.sources.contains_key(&source.to_canonical()),
            Party::Provisioner(scope) => scope.covers_network(&entry.lease.network),
            Party::Forge | Party::Operator => true,
        };
        if !may {
            return Err(EndError::NotYours(id.into()));
        }
        let changed = self.end_lease(key, Reason::Quarantined, now);
        Ok(canonical(&changed))
    }

    pub(super) fn expire(&mut self, now: Moment) -> Vec<IpAddr> {
        let expired: Vec<Key> = self
            .leases
            .keys()
            .copied()
            .filter(|key| self.is_expired(*key, now))
            .collect();
        let mut changed = std::mem::take(&mut self.owed);
        for key in expired {
            changed.extend(self.end_lease(key, Reason::Quarantined, now));
        }
        canonical(&changed)
    }

    pub(super) fn release_quarantine(&mut self, sources: &[IpAddr], by: &Party) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        for source in canonical(sources) {
            let Some(network) = self.network_of(source).map(|network| network.name.clone()) else {
                continue;
            };
            let may = match by {
                Party::Source(_) => false,
                Party::Provisioner(scope) => scope.covers_network(&network),
                Party::Forge | Party::Operator => true,
            };
            if may {
                changed.extend(self.lift(source));
                changed.extend(self.recheck(&network));
            }
        }
        canonical(&changed)
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
