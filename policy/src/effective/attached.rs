//! What is attached to a scope: policies in their places, and the editions of one that a change for the next job
//! leaves in force for the jobs before it.
//!
//! Owns which edition governs a lease; which scope does is [`super`]'s question.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::document::Lockdown;
use crate::job::Scope;
use crate::rulebook::{CompiledPolicy, Governing, PolicyMeta};
use crate::verdict::{Mode, Reason};

/// What stands in a place where a policy may stand.
#[derive(Clone, Debug, Default)]
pub enum Slot {
    /// Nothing: the next place decides.
    #[default]
    Vacant,
    /// A policy that is named but can't be used (unreadable at first start, a missing endpoint set): the
    /// place is taken, so everything is refused as `policy-unknown` instead of falling to a looser one.
    Unknown(PolicyMeta),
    /// A policy.
    Policy(Arc<CompiledPolicy>),
}

impl Slot {
    /// Who stands here.
    pub fn meta(&self) -> Option<&PolicyMeta> {
        match self {
            Self::Vacant => None,
            Self::Unknown(meta) => Some(meta),
            Self::Policy(policy) => Some(&policy.meta),
        }
    }

    /// Whether its refusals are carried out; `None` when that is not known, or nothing stands here.
    pub fn mode(&self) -> Option<Mode> {
        match self {
            Self::Vacant | Self::Unknown(_) => None,
            Self::Policy(policy) => Some(policy.mode),
        }
    }

    pub(super) fn governing(&self, scope: Scope) -> Option<Governing> {
        match self {
            Self::Vacant => None,
            Self::Unknown(_) => Some(Governing::DenyAll(Reason::PolicyUnknown)),
            Self::Policy(policy) => Some(Governing::Policy(Arc::clone(policy), scope)),
        }
    }
}

/// The lockdown facet of a document, for host agents; the gateway hands it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockdownPolicy {
    /// The document that decides it.
    pub meta: PolicyMeta,
    /// What it decides.
    pub lockdown: Lockdown,
}

/// Position in the policy store's history of changes: 0 before the first, then one more with each.
///
/// A lease remembers where the history stood when it began, a policy's editions where they were published, and
/// so `apply: next-job` needs no clock ([`Attached::at`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// After every change: what static leases and sources without a lease are judged by.
    pub const NEWEST: Self = Self(u64::MAX);
}

impl fmt::Display for Generation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One version of what is attached to a scope, by facet.
#[derive(Clone, Debug, Default)]
pub struct Edition {
    /// Leases that began at this generation or later are judged by it.
    pub since: Generation,
    /// The egress facet.
    pub egress: Slot,
    /// The lockdown facet.
    pub lockdown: Option<Arc<LockdownPolicy>>,
}

impl Edition {
    /// The policy that it is a version of; that of the egress facet first, where two documents share a scope.
    pub fn policy(&self) -> Option<&PolicyMeta> {
        let lockdown = self.lockdown.as_ref().map(|lockdown| &lockdown.meta);
        self.egress.meta().or(lockdown)
    }
}

/// What is attached to one scope: the editions that still govern somebody, at least one.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    oldest: Edition,
    /// The others, by `since`, ascending.
    newer: Vec<Edition>,
}

impl Attached {
    /// From editions in any order; of two with the same `since` the later one in `editions` is the newer. From
    /// none, one that decides nothing.
    pub fn new(mut editions: Vec<Edition>) -> Self {
        editions.sort_by_key(|edition| edition.since);
        let mut editions = editions.into_iter();
        Self {
            oldest: editions.next().unwrap_or_default(),
            newer: editions.collect(),
        }
    }

    /// One edition that governs everybody: published with `apply: now`, or never changed.
    pub fn always(egress: Slot, lockdown: Option<Arc<LockdownPolicy>>) -> Self {
        Self::new(vec![Edition {
            since: Generation::default(),
            egress,
            lockdown,
        }])
    }

    /// What governs a lease that began at this generation: the newest edition that was there by then. A lease
    /// that began before all of them (its own version is no longer kept) gets the oldest: it is never without.
    pub fn at(&self, began: Generation) -> &Edition {
        let there = |edition: &&Edition| edition.since <= began;
        self.newer.iter().rev().find(there).unwrap_or(&self.oldest)
    }

    /// Every edition, oldest first.
    pub fn editions(&self) -> impl Iterator<Item = &Edition> {
        std::iter::once(&self.oldest).chain(&self.newer)
    }
}
