//! Subjects that come and go with their sources: made on demand, displaced when the source stands
//! elsewhere, retired when a lease ended.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::link::Machine;
use super::pool::{Inserted, Origin, Pool, Slot};
use super::shards::Cached;
use super::state::{Hold, Place, State};
use crate::Moment;
use crate::effective::Asked;
use crate::rulebook::Rulebook;
use crate::subject::{Network, Standing, Subject};
use crate::verdict::Reason;

impl State {
    /// The subject of `first`, made when there is none, as that of `source`.
    pub(super) fn on_demand(
        &mut self,
        network: &Arc<Network>,
        source: IpAddr,
        first: IpAddr,
        origin: Origin,
        now: Moment,
    ) -> Arc<Subject> {
        if let Some(slot) = self.pools.get(&network.name).and_then(|pool| pool.get(first)) {
            let (subject, last_use) = (Arc::clone(&slot.subject), Some(Arc::clone(&slot.last_use)));
            self.cache.put(
                source,
                Cached {
                    subject: Arc::clone(&subject),
                    last_use,
                    expires: None,
                },
            );
            return subject;
        }
        let subject = self.fresh(network, origin);
        let capacity = self.pool_capacity;
        let pool = self
            .pools
            .entry(network.name.clone())
            .or_insert_with(|| Pool::new(capacity));
        match pool.insert(first, Arc::clone(&subject), origin, now) {
            Inserted::Done { last_use, evicted } => {
                if let Some(evicted) = evicted {
                    self.cache.remove(evicted);
                }
                for address in [first, source] {
                    let last_use = Some(Arc::clone(&last_use));
                    self.cache.put(
                        address,
                        Cached {
                            subject: Arc::clone(&subject),
                            last_use,
                            expires: None,
                        },
                    );
                }
                subject
            }
            Inserted::Full => self
                .denied
                .get(&network.name)
                .map_or(subject, |denied| Arc::clone(&denied.limit)),
        }
    }

    fn fresh(&mut self, network: &Arc<Network>, origin: Origin) -> Arc<Subject> {
        let range = match origin {
            Origin::Unleased => None,
            Origin::Range(key) => self.ranges.iter().find(|range| range.key == key),
        };
        let (job, standing) = match range {
            Some(range) => (Some(Arc::new(range.job(network))), Standing::Leased),
            None => (None, Standing::Unleased),
        };
        let identity = job.as_ref().map(|job| &job.identity);
        let pinned = range.and_then(|range| range.pinned.as_deref());
        let asked = identity.map_or(Asked::unleased(network), |job| Asked::fixed(job, pinned, network));
        let book = self.books.of(&asked);
        Arc::new(Subject::new(Arc::clone(network), job, standing, book))
    }

    /// Makes sure that a source's next lookup asks anew, and that whoever still works for the subject that
    /// it had on demand is refused.
    pub(super) fn displace(&mut self, source: IpAddr) {
        self.cache.remove(source);
        let pool = self
            .network_of(source)
            .map(|network| network.name.clone())
            .and_then(|name| self.pools.get_mut(&name));
        let Some(subject) = pool.and_then(|pool| pool.remove(source)) else {
            return;
        };
        self.retire(&subject, Reason::LeaseChanged);
        let beside = self
            .held
            .iter()
            .filter(|(_, hold)| **hold == Hold::Beside(source));
        for (address, _) in beside {
            self.cache.remove(*address);
        }
    }

    /// Takes everything from a subject that judges no source any more: flows and queries in progress
    /// that still hold it are refused.
    pub(super) fn retire(&self, subject: &Subject, reason: Reason) {
        self.silence(subject, reason);
        subject.tickets().clear();
    }

    /// Like [`Self::retire`], but its tickets go on in another subject.
    pub(super) fn silence(&self, subject: &Subject, reason: Reason) {
        subject.swap(Arc::new(Rulebook::deny_all(
            Arc::clone(&self.books.policies().world),
            reason,
        )));
    }

    /// Displaces every on-demand subject of a network whose source stands elsewhere by now. Gives back
    /// those sources, and the ones that stood beside them.
    pub(super) fn recheck(&mut self, network: &str) -> Vec<IpAddr> {
        let pool = self.pools.get(network).into_iter().flat_map(Pool::iter);
        let moved = pool.filter(|(source, slot)| self.has_moved(**source, slot));
        let moved = moved.map(|(source, _)| *source).collect();
        self.displace_all(moved)
    }

    /// The same for the addresses of one machine, when nothing but what is known of that machine has changed.
    pub(super) fn recheck_machine(&mut self, machine: &Machine) -> Vec<IpAddr> {
        let Some(pool) = self.pools.get(&machine.0) else {
            return Vec::new();
        };
        let moved = self.link.addresses(machine).filter(|source| {
            let slot = pool.get(*source);
            slot.is_some_and(|slot| self.has_moved(*source, slot))
        });
        let moved = moved.collect();
        self.displace_all(moved)
    }

    /// True when a source stands elsewhere than its on-demand subject was made for.
    fn has_moved(&self, source: IpAddr, slot: &Slot) -> bool {
        match (self.place(source), slot.origin) {
            (Place::Unleased, Origin::Unleased) => false,
            (Place::Range(key, first), Origin::Range(known)) => key != known || first != source,
            (Place::Foreign | Place::Lease(_) | Place::Quarantined | Place::Unbound, _) => true,
            (Place::Unleased, Origin::Range(_)) | (Place::Range(..), Origin::Unleased) => true,
        }
    }

    fn displace_all(&mut self, moved: HashSet<IpAddr>) -> Vec<IpAddr> {
        if moved.is_empty() {
            return Vec::new();
        }
        let beside = |hold: &Hold| matches!(hold, Hold::Beside(first) if moved.contains(first));
        let along: Vec<IpAddr> = self
            .held
            .iter()
            .filter(|(_, hold)| beside(hold))
            .map(|(address, _)| *address)
            .collect();
        for source in &moved {
            self.displace(*source);
        }
        moved.into_iter().chain(along).collect()
    }
}
