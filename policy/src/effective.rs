//! The effective policy: which of all known policies governs a job, and why.
//!
//! A [`PolicySet`] is an immutable snapshot of everything that is compiled; the gateway builds a new one
//! when a file or the store changed and hands it to [`crate::lease::LeaseTable::set_policies`]. Precedence
//! is decided here and nowhere else: workflow, repository, organization, cluster, the network's default,
//! the gateway's default. The most specific policy wins whole; nothing is merged.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::document::Lockdown;
use crate::job::{Assurance, JobIdentity, Scope};
use crate::rulebook::{CompiledPolicy, Governing, PolicyMeta, RuleList, Rulebook, World};
use crate::subject::Network;
use crate::verdict::Reason;

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

    fn governing(&self, scope: Scope) -> Option<Governing> {
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
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
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

/// What the configuration says for one network.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicies {
    /// `default-policy` of the network.
    pub default: Slot,
    /// `always-allow` of the network.
    pub always_allow: Option<Arc<RuleList>>,
}

/// Whether the store's attachments are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// There is no store, or it was read at least once (in an earlier life of the process too).
    #[default]
    Known,
    /// There is one and it was never read: a job's own policy can't be told from "none", so jobs are
    /// refused everything instead of getting a looser default.
    NeverRead,
}

/// Immutable snapshot of every policy that can govern somebody.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// What all jobs share.
    pub world: Arc<World>,
    /// Policies by the scope that they are attached to.
    pub attached: HashMap<Scope, Attached>,
    /// Defaults and always-allow lists by network name.
    pub networks: HashMap<CompactString, NetworkPolicies>,
    /// `default-policy` of the gateway, where the network names none.
    pub default: Slot,
    /// Policies that static leases name themselves, by that name.
    pub pinned: HashMap<CompactString, Arc<CompiledPolicy>>,
    /// Whether `attached` is complete.
    pub store: Store,
}

/// Who asks for a policy.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its job; `None` for a source without a lease.
    pub job: Option<&'a JobIdentity>,
    /// The policy that a static lease names itself; it decides alone.
    pub pinned: Option<&'a str>,
    /// Its network.
    pub network: &'a Network,
    /// Where the store's history stood when its lease began; [`Generation::NEWEST`] for static leases and for
    /// sources without a lease.
    pub began: Generation,
}

impl<'a> Asked<'a> {
    /// A source without a lease.
    pub const fn unleased(network: &'a Network) -> Self {
        Self {
            job: None,
            pinned: None,
            network,
            began: Generation::NEWEST,
        }
    }

    /// A static lease, with the policy that it may name itself.
    pub const fn fixed(job: &'a JobIdentity, pinned: Option<&'a str>, network: &'a Network) -> Self {
        Self {
            job: Some(job),
            pinned,
            network,
            began: Generation::NEWEST,
        }
    }

    /// A lease that began at this generation.
    pub const fn leased(job: &'a JobIdentity, began: Generation, network: &'a Network) -> Self {
        Self {
            job: Some(job),
            pinned: None,
            network,
            began,
        }
    }
}

/// One place that was looked at, most specific first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The place.
    pub scope: Scope,
    /// The policy that stands there; `None` when none does, or not for this facet.
    pub policy: Option<PolicyMeta>,
}

/// What precedence yields, with every place that was looked at until it did.
#[derive(Clone, Debug)]
pub struct Effective {
    /// What governs egress.
    pub governing: Governing,
    /// Places looked at for egress; the last one decided, unless nothing did.
    pub considered: Vec<Considered>,
    /// What governs lockdown, and the scope that it came from.
    pub lockdown: Option<(Arc<LockdownPolicy>, Scope)>,
}

impl PolicySet {
    /// The effective policy of whoever asks.
    pub fn effective(&self, asked: &Asked<'_>) -> Effective {
        if let Some(key) = asked.pinned {
            return self.pinned(key);
        }
        let network = asked.network;
        let mut effective = Effective {
            governing: Governing::DenyAll(Reason::PolicyUnknown),
            considered: Vec::new(),
            lockdown: None,
        };
        let job = asked.job.filter(|job| decides(job.assurance, network));
        if job.is_some() && self.store == Store::NeverRead {
            return effective;
        }
        effective.lockdown = job.and_then(|job| self.lockdown(job, asked.began));
        for scope in job.iter().flat_map(|job| job.scopes()) {
            let slot = self
                .attached
                .get(&scope)
                .map_or(&Slot::Vacant, |attached| &attached.at(asked.began).egress);
            effective.considered.push(Considered {
                scope: scope.clone(),
                policy: slot.meta().cloned(),
            });
            if let Some(governing) = slot.governing(scope) {
                return Effective {
                    governing,
                    ..effective
                };
            }
        }
        let scope = Scope::Network(network.name.clone());
        let own = self.networks.get(&network.name).map(|known| &known.default);
        let slot = own
            .filter(|slot| !matches!(slot, Slot::Vacant))
            .unwrap_or(&self.default);
        effective.considered.push(Considered {
            scope: scope.clone(),
            policy: slot.meta().cloned(),
        });
        let governing = slot
            .governing(scope)
            .unwrap_or(Governing::DenyAll(Reason::NoPolicy));
        Effective {
            governing,
            ..effective
        }
    }

    /// The rulebook that follows from [`Self::effective`], with the network's always-allow list.
    pub fn rulebook_for(&self, asked: &Asked<'_>) -> Arc<Rulebook> {
        let host = self
            .networks
            .get(&asked.network.name)
            .and_then(|known| known.always_allow.clone());
        let governing = self.effective(asked).governing;
        Arc::new(Rulebook {
            world: Arc::clone(&self.world),
            governing,
            host,
        })
    }

    fn pinned(&self, key: &str) -> Effective {
        let scope = Scope::Lease(key.into());
        let policy = self.pinned.get(key);
        let considered = vec![Considered {
            scope: scope.clone(),
            policy: policy.map(|policy| policy.meta.clone()),
        }];
        let governing = match policy {
            Some(policy) => Governing::Policy(Arc::clone(policy), scope),
            None => Governing::DenyAll(Reason::PolicyUnknown),
        };
        Effective {
            governing,
            considered,
            lockdown: None,
        }
    }

    fn lockdown(&self, job: &JobIdentity, began: Generation) -> Option<(Arc<LockdownPolicy>, Scope)> {
        job.scopes().find_map(|scope| {
            let lockdown = self.attached.get(&scope)?.at(began).lockdown.as_ref()?;
            Some((Arc::clone(lockdown), scope))
        })
    }
}

/// True when an identity known this well may choose its policy: never a claimed one, none below the
/// network's `min-assurance`.
fn decides(assurance: Assurance, network: &Network) -> bool {
    assurance > Assurance::Claimed && network.min_assurance.is_none_or(|least| assurance >= least)
}

#[cfg(test)]
mod tests;
