//! Ending leases and quarantine by somebody's word, or by time.
//!
//! What becomes of the sources is [`super::hold`]'s.

use std::net::IpAddr;

use super::LeaseTable;
use super::register::{EndError, Party};
use super::state::{Key, Place, State, canonical};
use crate::Moment;
use crate::special;
use crate::verdict::Reason;

impl LeaseTable {
    /// Lifts the quarantine that this lease left behind at these sources, and of the machines behind them: somebody who
    /// knows says that its machine is gone. What a later lease left stays: the word may come late, or twice. Gives back
    /// the sources concerned.
    pub fn release_left(&self, lease: &str, sources: &[IpAddr]) -> Vec<IpAddr> {
        self.state.lock().release_left(lease, sources)
    }
}

impl State {
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
            Party::Provisioner(_) | Party::Forge | Party::Operator => by.clears(&entry.lease.network),
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
            let network = self.network_of(source).map(|network| network.name.clone());
            if let Some(network) = network.filter(|network| by.clears(network)) {
                changed.extend(self.lift(source));
                changed.extend(self.recheck(&network));
            }
        }
        canonical(&changed)
    }

    fn release_left(&mut self, lease: &str, sources: &[IpAddr]) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        for source in canonical(sources) {
            let record = self.quarantine.get(source);
            let own = record.filter(|record| record.lease.is_empty() || record.lease == lease);
            if let Some(network) = own.map(|record| record.network.clone()) {
                changed.extend(self.lift(source));
                changed.extend(self.recheck(&network));
            }
        }
        canonical(&changed)
    }

    pub(super) fn clear(&mut self, source: IpAddr, by: &Party, now: Moment) -> Result<Vec<IpAddr>, EndError> {
        let source = special::canonical(source);
        let network = self.network_of(source).ok_or(EndError::Foreign(source))?;
        if !by.clears(&network.name) {
            return Err(EndError::Network(network.name.clone()));
        }
        let (mut gone, mut changed) = (vec![source], Vec::new());
        match self.place(source) {
            Place::Lease(key) => {
                let Some(entry) = self.leases.get(&key) else {
                    return Ok(changed);
                };
                if entry.lease.expires.is_none() {
                    return Err(EndError::Static(entry.lease.id.clone()));
                }
                // One lease is one machine: none of its addresses stays behind.
                gone.extend(entry.sources.keys());
                changed.extend(self.end_lease(key, Reason::LeaseChanged, now));
            }
            Place::Range(key, _) => {
                let range = self.ranges.iter().find(|range| range.key == key);
                return Err(EndError::Static(
                    range.map(|range| range.id.clone()).unwrap_or_default(),
                ));
            }
            Place::Quarantined | Place::Unbound | Place::Unleased | Place::Foreign => {}
        }
        changed.extend(self.release_quarantine(&gone, by));
        Ok(canonical(&changed))
    }
}
