//! Leases and quarantine that were decided elsewhere: by another gateway of the group, by a provisioner through
//! the control plane, or by this gateway before it started anew.
//!
//! Credentials were checked there, so none is asked for here. The configuration's own leases stay above all of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use thiserror::Error;

use super::hold::Grant;
use super::link::Machine;
use super::mac::Mac;
use super::register::MAX_SOURCES;
use super::sources::Sources;
use super::state::{Key, Place, Source, State, canonical};
use super::{Lease, MAX_LEASES};
use crate::Moment;
use crate::effective::Generation;
use crate::job::{Assurance, JobIdentity};
use crate::special;
use crate::subject::{Network, RunnerKind};
use crate::verdict::Reason;

/// A lease that was granted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedLease {
    /// Its id.
    pub id: CompactString,
    /// Name of its network.
    pub network: CompactString,
    /// Its sources, 1 to [`MAX_SOURCES`], with the machine that each was bound to where that is known: on
    /// adjacent networks another machine that took the address since does not inherit the lease.
    pub sources: Vec<(IpAddr, Option<Mac>)>,
    /// The job as it was granted the lease, cluster and assurance included; no more than `forge` is believed.
    pub identity: JobIdentity,
    /// Where the policy store's history stood when it began.
    pub began: Generation,
    /// What is left of its lifetime.
    pub lifetime: Duration,
}

/// Why a lease that was granted elsewhere is not put in place here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdoptError {
    /// No source, or more than [`MAX_SOURCES`], those that the lease holds here already included.
    #[error("a lease needs 1 to {MAX_SOURCES} source addresses, not {0}")]
    SourceCount(usize),
    /// A source lies in no network of this gateway.
    #[error("{0} lies in no network of this gateway")]
    Foreign(IpAddr),
    /// A source lies in another network than the lease.
    #[error("{source_address} lies in network {network}, not in that of the lease")]
    Elsewhere {
        /// The source.
        source_address: IpAddr,
        /// Its network here.
        network: CompactString,
    },
    /// A lease of the configuration has the id, or holds a source.
    #[error("lease {0} comes from the configuration and stays")]
    Static(CompactString),
    /// Nothing is left of its lifetime.
    #[error("lease {0} has expired")]
    Expired(CompactString),
    /// The table is full.
    #[error("the lease table is full")]
    Full,
}

impl State {
    pub(super) fn adopt(&mut self, adopted: AdoptedLease, now: Moment) -> Result<Vec<IpAddr>, AdoptError> {
        let canonical_form = |(source, mac): &(IpAddr, Option<Mac>)| (special::canonical(*source), *mac);
        let sources: BTreeMap<IpAddr, Option<Mac>> = adopted.sources.iter().map(canonical_form).collect();
        let network = self.home_of(&adopted.network, &sources)?;
        if adopted.lifetime.is_zero() {
            return Err(AdoptError::Expired(adopted.id));
        }
        let all: Vec<IpAddr> = sources.keys().copied().collect();
        self.end_expired(&all, now);
        let own = self.living(&adopted.id, now);
        let rivals = self.displaced_by(&all, own)?;
        let mut identity = adopted.identity.clone().canonical();
        identity.assurance = identity.assurance.min(Assurance::Forge);
        if let Some(key) = own
            && let Some(entry) = self.leases.get(&key)
            && is_same(&entry.lease, &identity, &adopted)
        {
            return self.grow(key, sources, &rivals, now);
        }
        let mut changed = Vec::new();
        let moves = |key: &Key| {
            let entry = self.leases.get(key);
            entry.is_some_and(|entry| entry.lease.network != network.name)
        };
        let (moved, stays): (Vec<Key>, Vec<Key>) = own.into_iter().partition(moves);
        for key in moved {
            changed.extend(self.end_lease(key, Reason::LeaseChanged, now));
        }
        let replaced = [rivals, stays].concat();
        if self.leases.len() >= MAX_LEASES && replaced.is_empty() {
            return Err(AdoptError::Full);
        }
        let grant = Grant {
            id: adopted.id,
            identity,
            sources,
            began: adopted.began,
            expires: now.plus(adopted.lifetime),
        };
        changed.extend(self.grant(grant, &network, &replaced, now).changed);
        Ok(canonical(&changed))
    }

    /// The lease with this id, unless it has expired.
    fn living(&mut self, id: &str, now: Moment) -> Option<Key> {
        let key = self.by_id.get(id).copied()?;
        if !self.is_expired(key, now) {
            return Some(key);
        }
        let changed = self.end_lease(key, Reason::Quarantined, now);
        self.owed.extend(changed);
        None
    }

    /// The network of a lease, when all of its sources lie in it.
    fn home_of(
        &self,
        name: &str,
        sources: &BTreeMap<IpAddr, Option<Mac>>,
    ) -> Result<Arc<Network>, AdoptError> {
        let mut home = Err(AdoptError::SourceCount(sources.len()));
        if sources.len() > MAX_SOURCES {
            return home;
        }
        for source in sources.keys() {
            let network = self.network_of(*source).ok_or(AdoptError::Foreign(*source))?;
            if network.name != name {
                return Err(AdoptError::Elsewhere {
                    source_address: *source,
                    network: network.name.clone(),
                });
            }
            home = Ok(Arc::clone(network));
        }
        home
    }

    /// The other leases that have to go for one over these sources. A lease whose machine merely shows one of
    /// them as a further address stays.
    fn displaced_by(&self, sources: &[IpAddr], own: Option<Key>) -> Result<Vec<Key>, AdoptError> {
        let mut keys: Vec<Key> = Vec::new();
        for source in sources {
            match self.place(*source) {
                Place::Lease(key) => keys.push(key),
                Place::Range(key, _) => {
                    let range = self.ranges.iter().find(|range| range.key == key);
                    return Err(AdoptError::Static(
                        range.map(|range| range.id.clone()).unwrap_or_default(),
                    ));
                }
                Place::Foreign | Place::Quarantined | Place::Unbound | Place::Unleased => {}
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let held = keys.iter().chain(&own).filter_map(|key| self.leases.get(key));
        if let Some(fixed) = held
            .map(|entry| &entry.lease)
            .find(|lease| lease.expires.is_none())
        {
            return Err(AdoptError::Static(fixed.id.clone()));
        }
        keys.retain(|key| Some(*key) != own && !self.only_joined(*key, sources));
        Ok(keys)
    }

    /// Gives a lease that is in place already the sources that it does not hold yet.
    fn grow(
        &mut self,
        key: Key,
        sources: BTreeMap<IpAddr, Option<Mac>>,
        rivals: &[Key],
        now: Moment,
    ) -> Result<Vec<IpAddr>, AdoptError> {
        let Some(entry) = self.leases.get(&key) else {
            return Ok(Vec::new());
        };
        let network = entry.lease.network.clone();
        let known = entry.sources.clone();
        let mut new: BTreeMap<IpAddr, Option<Mac>> = sources;
        new.retain(|source, _| known.get(source).is_none_or(|held| held.joined));
        let registered = known.values().filter(|source| !source.joined).count();
        if registered + new.len() > MAX_SOURCES {
            return Err(AdoptError::SourceCount(registered + new.len()));
        }
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let keep: Vec<IpAddr> = new.keys().copied().collect();
        let mut changed: Vec<IpAddr> = keep
            .iter()
            .filter(|one| !known.contains_key(one))
            .copied()
            .collect();
        for rival in rivals {
            changed.extend(self.replace_lease(*rival, &keep, false, now));
        }
        let mut taken = Sources::default();
        for (source, mac) in new {
            let left = self.left_machine(source).filter(|_| mac.is_none());
            changed.extend(self.lift(source));
            let mac = mac.or_else(|| known.get(&source).and_then(|held| held.mac));
            let joined = false;
            taken.insert(source, Source { joined, mac, left });
        }
        changed.extend(self.take(key, &network, taken));
        Ok(canonical(&changed))
    }

    pub(super) fn restore_quarantine(
        &mut self,
        sources: &[(IpAddr, Option<Mac>)],
        network: &str,
        since: Moment,
    ) -> Vec<IpAddr> {
        let (mut changed, mut machines): (Vec<IpAddr>, Vec<Machine>) = (Vec::new(), Vec::new());
        for (source, mac) in sources {
            let source = special::canonical(*source);
            let told = mac.map(|mac| (CompactString::from(network), mac));
            if !self.is_still_quarantined(source, told.as_ref(), network) {
                continue;
            }
            let machine = told.or_else(|| self.link.machine(source).cloned());
            changed.push(source);
            let whose = (network.into(), CompactString::default());
            changed.extend(self.quarantine.add(source, whose, machine.clone(), since));
            machines.extend(machine);
        }
        for machine in &machines {
            changed.extend(self.rejoin(machine));
        }
        changed.extend(self.recheck(network));
        canonical(&changed)
    }

    /// True when what quarantined a source once still holds, and the table does not know it yet: no lease holds
    /// the source, no other machine is seen there by now, and runners are ephemeral.
    fn is_still_quarantined(&self, source: IpAddr, machine: Option<&Machine>, network: &str) -> bool {
        let known = self.network_of(source);
        if !known.is_some_and(|known| known.name == network && known.runners == RunnerKind::Ephemeral) {
            return false;
        }
        let free = match self.place(source) {
            Place::Unleased | Place::Unbound => true,
            Place::Quarantined => self.quarantine.get(source).is_none(),
            Place::Foreign | Place::Lease(_) | Place::Range(..) => false,
        };
        let seen = self.link.machine(source);
        free && machine.is_none_or(|machine| seen.is_none_or(|seen| seen == machine))
    }
}

/// True when a lease in place is what was granted elsewhere. One that began earlier here stays by that: the job
/// did.
fn is_same(lease: &Lease, identity: &JobIdentity, adopted: &AdoptedLease) -> bool {
    lease.network == adopted.network && lease.job.identity == *identity && lease.began <= adopted.began
}
