//! What tells a caller that keeps a subject that its source may have another one by now.
//!
//! Owns counters only, a stripe of sources each, so that to ask costs one load from memory that stays in the processor's
//! cache; never says who a source is ([`super::LeaseTable`] does). Written by [`super::shards`], read by `dns`.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::DefaultHashBuilder;

use crate::{Moment, special};

/// Counters: 32 KiB. With 10 000 leases a change makes some two others be looked up again.
const STRIPES: usize = 4_096;

/// Counters of changes, one for each stripe of sources. They only ever grow.
#[derive(Debug)]
pub struct Changes {
    hasher: DefaultHashBuilder,
    stripes: Box<[AtomicU64]>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Changes {
    /// The stripe in which a source lies.
    pub fn stripe(&self, source: IpAddr) -> u16 {
        (self.hasher.hash_one(special::canonical(source)) as usize % STRIPES) as u16
    }

    /// How often something changed in a stripe. As long as it stays, each source in there has the subject that it had.
    pub fn of(&self, stripe: u16) -> u64 {
        self.stripes
            .get(usize::from(stripe))
            .map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// Notes that a source may have another subject. To be called after it has.
    pub fn note(&self, source: IpAddr) {
        if let Some(count) = self.stripes.get(usize::from(self.stripe(source))) {
            count.fetch_add(1, Ordering::Release);
        }
    }
}

/// How long a source has its subject unless [`Changes`] says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// At this moment it is to be asked for again; `None`: never.
    pub until: Option<Moment>,
}
