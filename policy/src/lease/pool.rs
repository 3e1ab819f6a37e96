//! Subjects made on demand: one for each source without a lease of its own (unleased sources, and sources
//! in the range of a static lease).
//!
//! Bounded: at the bound the longest-unused subject goes. One that a flow or a query still holds counts
//! as used now. When nothing can go, the caller gives the source a shared deny-all subject instead.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;

use super::shards::LastUse;
use crate::Moment;
use crate::subject::Subject;

/// Subjects made on demand in one network. An idle one takes about half a kibibyte.
pub const MAX_ON_DEMAND: usize = 65_536;
/// References that the table itself holds to an idle subject: the pool's and the cache's.
const OWN_REFERENCES: usize = 2;
/// Subjects looked at for one that can go, before the pool calls itself full.
const MAX_TRIES: usize = 1_024;

/// Why a source has a subject of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It holds no lease.
    Unleased,
    /// It lies in the range of a static lease, by that range's key.
    Range(u64),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) subject: Arc<Subject>,
    pub(super) origin: Origin,
    pub(super) last_use: LastUse,
    /// Its place in `Pool::order`; lags behind `last_use`, which lookups write without the pool.
    ordered: u64,
}

/// The subjects of one network, by source.
#[derive(Debug)]
pub(super) struct Pool {
    capacity: usize,
    slots: HashMap<IpAddr, Slot>,
    order: BTreeSet<(u64, IpAddr)>,
}

/// What [`Pool::insert`] did.
#[derive(Debug)]
pub(super) enum Inserted {
    /// The source has its subject; the named source lost its own.
    Done {
        last_use: LastUse,
        evicted: Option<IpAddr>,
    },
    /// Every subject that was looked at is in use.
    Full,
}

impl Pool {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            slots: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, source: IpAddr) -> Option<&Slot> {
        self.slots.get(&source)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Slot)> {
        self.slots.iter()
    }

    /// Adds the subject of a source that has none.
    pub(super) fn insert(
        &mut self,
        source: IpAddr,
        subject: Arc<Subject>,
        origin: Origin,
        now: Moment,
    ) -> Inserted {
        let mut evicted = None;
        if self.slots.len() >= self.capacity {
            evicted = self.evict(now);
            if evicted.is_none() {
                return Inserted::Full;
            }
        }
        let ordered = now.as_millis();
        let last_use: LastUse = Arc::new(AtomicU64::new(ordered));
        self.remove(source);
        self.order.insert((ordered, source));
        self.slots.insert(
            source,
            Slot {
                subject,
                origin,
                last_use: Arc::clone(&last_use),
                ordered,
            },
        );
        Inserted::Done { last_use, evicted }
    }

    pub(super) fn remove(&mut self, source: IpAddr) -> Option<Arc<Subject>> {
        let slot = self.slots.remove(&source)?;
        self.order.remove(&(slot.ordered, source));
        Some(slot.subject)
    }

    /// Drops the longest-unused subject. The order is corrected on the way: an entry that was used since
    /// it was ordered moves to where it belongs, so the first one that is in place is the oldest.
    fn evict(&mut self, now: Moment) -> Option<IpAddr> {
        for _ in 0..MAX_TRIES {
            let (ordered, source) = self.order.pop_first()?;
            let Some(slot) = self.slots.get_mut(&source) else {
                continue;
            };
            if Arc::strong_count(&slot.subject) > OWN_REFERENCES {
                slot.last_use.store(now.as_millis(), Ordering::Relaxed);
            }
            let used = slot.last_use.load(Ordering::Relaxed);
            if used <= ordered && Arc::strong_count(&slot.subject) <= OWN_REFERENCES {
                self.slots.remove(&source);
                return Some(source);
            }
            slot.ordered = used.max(ordered);
            self.order.insert((slot.ordered, source));
        }
        None
    }
}
