//! The effective policy: which of all known policies governs a job, and why.
//!
//! A [`PolicySet`] is an immutable snapshot of everything that is compiled; the gateway builds a new one
//! when a file or the store changed and hands it to [`crate::lease::LeaseTable::set_policies`]. Precedence
//! is decided here and nowhere else: workflow, repository, organization, cluster, the network's default,
//! the gateway's default. The most specific policy wins whole; nothing is merged.

mod attached;
mod facets;

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::job::{Assurance, JobIdentity, Scope};
use crate::rulebook::{CompiledPolicy, Governing, PolicyMeta, RuleList, Rulebook, World};
use crate::subject::Network;
use crate::verdict::Reason;

pub use attached::{Attached, Edition, Generation, LockdownPolicy, Slot};
pub use facets::{Decider, Facets, Named};

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
    /// There is one and it was never read: a job's own policy can't be told from "none", and what is refused to
    /// everybody is not known. All are refused everything instead of getting a looser default, but for static leases
    /// that name their policy themselves.
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
    /// The egress facets of the store's policies by `owner/name`, attached or not, for who asks for one by its name. They
    /// decide nothing.
    pub named: Arc<HashMap<CompactString, Slot>>,
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

    /// True when there is a job and its identity is known well enough to choose a policy: never a claimed one,
    /// none below the network's `min-assurance`.
    fn decides(&self) -> bool {
        let well = |assurance: Assurance| {
            assurance > Assurance::Claimed
                && self.network.min_assurance.is_none_or(|least| assurance >= least)
        };
        self.job.is_some_and(|job| well(job.assurance))
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
        let mut considered = Vec::new();
        let governing = self.governing(asked, |scope, meta| {
            considered.push(Considered {
                scope: scope.clone(),
                policy: meta.cloned(),
            });
        });
        let lockdown = asked.job.filter(|_| self.is_heard(asked)).and_then(|job| {
            let at = |scope: Scope| {
                let edition = self.attached.get(&scope)?.at(asked.began);
                Some((Arc::clone(edition.lockdown.as_ref()?), scope))
            };
            job.scopes().find_map(at)
        });
        Effective {
            governing,
            considered,
            lockdown,
        }
    }

    /// What governs egress for whoever asks; `look` is shown every place on the way, the deciding one last.
    pub(crate) fn governing(
        &self,
        asked: &Asked<'_>,
        mut look: impl FnMut(&Scope, Option<&PolicyMeta>),
    ) -> Governing {
        if let Some(key) = asked.pinned {
            let (scope, policy) = (Scope::Lease(key.into()), self.pinned.get(key));
            look(&scope, policy.map(|policy| &policy.meta));
            return policy.map_or(Governing::DenyAll(Reason::PolicyUnknown), |policy| {
                Governing::Policy(Arc::clone(policy), scope)
            });
        }
        // Whoever it is: what everybody is refused comes from the store too, and a job can't register before it is heard.
        if self.store == Store::NeverRead {
            return Governing::DenyAll(Reason::PolicyUnknown);
        }
        let job = asked.job.filter(|_| self.is_heard(asked));
        for scope in job.iter().flat_map(|job| job.scopes()) {
            let attached = self.attached.get(&scope);
            let slot = attached.map_or(&Slot::Vacant, |attached| &attached.at(asked.began).egress);
            look(&scope, slot.meta());
            if let Some(governing) = slot.governing(scope) {
                return governing;
            }
        }
        let name = &asked.network.name;
        let (scope, own) = (Scope::Network(name.clone()), self.networks.get(name));
        let own = own
            .map(|known| &known.default)
            .filter(|slot| !matches!(slot, Slot::Vacant));
        let slot = own.unwrap_or(&self.default);
        look(&scope, slot.meta());
        slot.governing(scope)
            .unwrap_or(Governing::DenyAll(Reason::NoPolicy))
    }

    /// True when the asker's own scopes are looked at.
    fn is_heard(&self, asked: &Asked<'_>) -> bool {
        asked.pinned.is_none() && asked.decides() && self.store == Store::Known
    }

    /// The rulebook that follows from what governs somebody in a network, with that network's always-allow
    /// list.
    pub(crate) fn rulebook(&self, governing: Governing, network: &str) -> Arc<Rulebook> {
        let known = self.networks.get(network);
        Arc::new(Rulebook {
            world: Arc::clone(&self.world),
            governing,
            host: known.and_then(|known| known.always_allow.clone()),
        })
    }

    /// The rulebook that follows from [`Self::effective`].
    pub fn rulebook_for(&self, asked: &Asked<'_>) -> Arc<Rulebook> {
        self.rulebook(self.governing(asked, |_, _| ()), &asked.network.name)
    }
}

#[cfg(test)]
mod tests;
