//! What a batch changed: what those who enforce have to do anew.

use std::net::IpAddr;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::record::{Ending, LeaseRecord};

/// What became of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseTouch {
    /// It began, or its record changed.
    New(Box<LeaseRecord>),
    /// It ended.
    Gone {
        /// Its id; perhaps of a lease that was never said to be there.
        id: CompactString,
        /// What becomes of its sources.
        ending: Ending,
        /// Its registered sources, as far as they were known.
        sources: Vec<IpAddr>,
    },
}

impl LeaseTouch {
    fn id(&self) -> &CompactString {
        match self {
            Self::New(lease) => &lease.id,
            Self::Gone { id, .. } => id,
        }
    }
}

/// What a batch changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// What is attached, or what an attached policy means: [`super::Mirror::attached`] gives something else now.
    pub policies: bool,
    /// [`super::Mirror::block_layers`] gives something else now.
    pub blocks: bool,
    /// [`super::Mirror::credentials`] gives something else now.
    pub credentials: bool,
    /// Leases, in the order in which it happened, each once.
    pub leases: Vec<LeaseTouch>,
}

impl Touched {
    /// Takes in what a later batch changed.
    pub fn merge(&mut self, later: Self) {
        self.policies |= later.policies;
        self.blocks |= later.blocks;
        self.credentials |= later.credentials;
        let mut touches = LeaseTouches::default();
        touches.extend(std::mem::take(&mut self.leases));
        touches.extend(later.leases);
        self.leases = touches.into_vec();
    }
}

/// Touches in their order; a later one of the same lease takes the place of the earlier.
#[derive(Default)]
pub(super) struct LeaseTouches {
    order: Vec<Option<LeaseTouch>>,
    last: HashMap<CompactString, usize>,
}

impl LeaseTouches {
    pub(super) fn push(&mut self, mut touch: LeaseTouch) {
        let earlier = self.last.insert(touch.id().clone(), self.order.len());
        let earlier = earlier.and_then(|at| self.order.get_mut(at)?.take());
        // Of a lease that ends twice, the first time knew its sources.
        if let (LeaseTouch::Gone { sources, .. }, Some(LeaseTouch::Gone { sources: known, .. })) =
            (&mut touch, earlier)
            && sources.is_empty()
        {
            *sources = known;
        }
        self.order.push(Some(touch));
    }

    pub(super) fn into_vec(self) -> Vec<LeaseTouch> {
        self.order.into_iter().flatten().collect()
    }
}

impl Extend<LeaseTouch> for LeaseTouches {
    fn extend<T: IntoIterator<Item = LeaseTouch>>(&mut self, touches: T) {
        for touch in touches {
            self.push(touch);
        }
    }
}
