//! The effective policy: which of all known policies governs a job, and why.
//!
//! A [`PolicySet`] is an immutable snapshot of everything that is compiled; the gateway builds a new one
//! when a file or the store changed and hands it to [`crate::lease::LeaseTable::set_policies`]. Precedence
//! is decided here and nowhere else: workflow, repository, organization, cluster, the network's default,
//! the gateway's default. The most specific policy wins whole; nothing is merged.

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

/// What is attached to one scope, by facet.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// The egress facet.
    pub egress: Slot,
    /// The lockdown facet.
    pub lockdown: Option<Arc<LockdownPolicy>>,
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
    /// The effective policy of a job (`None`: a source without a lease) in a network. `pinned` is the
    /// policy that a static lease names itself; it decides alone.
    pub fn effective(&self, job: Option<&JobIdentity>, pinned: Option<&str>, network: &Network) -> Effective {
        let mut considered = Vec::new();
        if let Some(key) = pinned {
            return self.pinned(key);
        }
        let job = job.filter(|job| decides(job.assurance, network));
        if job.is_some() && self.store == Store::NeverRead {
            let governing = Governing::DenyAll(Reason::PolicyUnknown);
            return Effective {
                governing,
                considered,
                lockdown: None,
            };
        }
        let lockdown = job.and_then(|job| self.lockdown(job));
        for scope in job.iter().flat_map(|job| job.scopes()) {
            let slot = self
                .attached
                .get(&scope)
                .map_or(&Slot::Vacant, |attached| &attached.egress);
            considered.push(Considered {
                scope: scope.clone(),
                policy: slot.meta().cloned(),
            });
            if let Some(governing) = slot.governing(scope) {
                return Effective {
                    governing,
                    considered,
                    lockdown,
                };
            }
        }
        let scope = Scope::Network(network.name.clone());
        let own = self.networks.get(&network.name).map(|known| &known.default);
        let slot = own
            .filter(|slot| !matches!(slot, Slot::Vacant))
            .unwrap_or(&self.default);
        considered.push(Considered {
            scope: scope.clone(),
            policy: slot.meta().cloned(),
        });
        let governing = slot
            .governing(scope)
            .unwrap_or(Governing::DenyAll(Reason::NoPolicy));
        Effective {
            governing,
            considered,
            lockdown,
        }
    }

    /// The rulebook that follows from [`Self::effective`], with the network's always-allow list.
    pub fn rulebook_for(
        &self,
        job: Option<&JobIdentity>,
        pinned: Option<&str>,
        network: &Network,
    ) -> Arc<Rulebook> {
        let host = self
            .networks
            .get(&network.name)
            .and_then(|known| known.always_allow.clone());
        let governing = self.effective(job, pinned, network).governing;
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

    fn lockdown(&self, job: &JobIdentity) -> Option<(Arc<LockdownPolicy>, Scope)> {
        job.scopes().find_map(|scope| {
            let lockdown = self.attached.get(&scope)?.lockdown.as_ref()?;
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
