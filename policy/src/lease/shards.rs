//! The hot half of the lease table: which subject a source has, one read lock away.
//!
//! A cache of what [`super::state`] decided, never an authority: entries are written under the state's
//! lock only, and removing one is always safe (the next lookup asks the state).

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::RwLock;

use super::changes::{Changes, Lasting};
use crate::Moment;
use crate::subject::Subject;

/// Independent locks; several times the cores of the largest gateway.
const SHARDS: usize = 64;
/// A use is noted at most this often, so that a busy source does not bounce a cache line between cores.
const USE_STEP_MS: u64 = 1_000;

/// When an on-demand subject was last looked up.
pub(super) type LastUse = Arc<AtomicU64>;

/// One cached decision.
#[derive(Debug)]
pub(super) struct Cached {
    /// The subject.
    pub(super) subject: Arc<Subject>,
    /// Where to note the use; none for leases, which don't age.
    pub(super) last_use: Option<LastUse>,
    /// When the decision stops to hold by itself: the lease's expiry.
    pub(super) expires: Option<Moment>,
}

/// The shards.
#[derive(Debug)]
pub(super) struct Shards {
    hasher: DefaultHashBuilder,
    parts: Box<[RwLock<HashMap<IpAddr, Cached>>]>,
    /// Moved after every change, so that a subject looked up before it is known to be old.
    pub(super) changes: Arc<Changes>,
}

impl Shards {
    pub(super) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            parts: (0..SHARDS).map(|_| RwLock::default()).collect(),
            changes: Arc::default(),
        }
    }

    /// The cached subject of a source, unless its lease has expired.
    pub(super) fn get(&self, source: IpAddr, now: Moment) -> Option<(Arc<Subject>, Lasting)> {
        let shard = self.shard(source)?.read();
        let cached = shard
            .get(&source)
            .filter(|cached| cached.expires.is_none_or(|expires| now < expires))?;
        if let Some(last_use) = &cached.last_use {
            let noted = last_use.load(Ordering::Relaxed);
            if now.as_millis() > noted.saturating_add(USE_STEP_MS) {
                last_use.store(now.as_millis(), Ordering::Relaxed);
            }
        }
        // Uses are noted by lookups.
        let until = match cached.last_use {
            Some(_) => Some(now.plus(Duration::from_millis(USE_STEP_MS))),
            None => cached.expires,
        };
        Some((Arc::clone(&cached.subject), Lasting { until }))
    }

    pub(super) fn put(&self, source: IpAddr, cached: Cached) {
        if let Some(shard) = self.shard(source) {
            shard.write().insert(source, cached);
            self.changes.note(source);
        }
    }

    pub(super) fn remove(&self, source: IpAddr) {
        if let Some(shard) = self.shard(source) {
            shard.write().remove(&source);
            self.changes.note(source);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|shard| shard.read().len()).sum()
    }

    fn shard(&self, source: IpAddr) -> Option<&RwLock<HashMap<IpAddr, Cached>>> {
        self.parts.get((self.hasher.hash_one(source) as usize) % SHARDS)
    }
}
