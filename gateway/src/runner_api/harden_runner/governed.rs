//! What these clients are told of the policy that governs a repository's workflow.
//!
//! Owns the difference between what is asked (a repository and a workflow, by whoever) and what is known (the job that
//! holds the calling source). Precedence is the policy crate's.
//!
//! A default of the network is told only when it blocks. A client drops its own policy for one that it is told; a
//! fleet that begins with a default of "record all" must not turn off what a repository's own workflow refuses. With 404
//! the client keeps that, and the gateway records as its default says.

use std::net::IpAddr;
use std::sync::Arc;

use tidegate_policy::effective::{Asked, Generation, PolicySet, Slot, Store};
use tidegate_policy::event::JobRecord;
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::rulebook::{CompiledPolicy, Governing};
use tidegate_policy::subject::{Standing, Subject};
use tidegate_policy::verdict::{Mode, Reason};

use super::{About, HardenRunner};

/// What there is to tell.
#[derive(Debug)]
pub(super) enum Told {
    /// A policy; true when it is attached to the job's scopes or pinned by its lease, false for a network's default.
    Policy(Arc<CompiledPolicy>, bool),
    /// There is one by this name that can't be used, so everything is refused.
    Unusable(String),
    /// None.
    Nothing,
    /// The policies are not known yet.
    NotYet,
}

impl HardenRunner {
    /// The job that holds a source, when it is this repository's and known by more than its own word.
    pub(super) fn held(&self, source: IpAddr, about: &About<'_>) -> Option<(Arc<Subject>, Arc<JobRecord>)> {
        let subject = self.leases.lookup(source, self.clock.now());
        let job = subject.job()?;
        let known = subject.standing == Standing::Leased && job.identity.assurance > Assurance::Claimed;
        (known && job.identity.repo == about.job.repo).then_some((subject, job))
    }

    /// Whether the gateway enforces the policy of this repository for the source: it holds a lease that decides.
    pub(super) fn is_applied(&self, source: IpAddr, about: &About<'_>) -> bool {
        let Some((subject, job)) = self.held(source, about) else {
            return false;
        };
        let least = subject.network.min_assurance;
        let decides = least.is_none_or(|least| job.identity.assurance >= least);
        decides && subject.rulebook().policy().is_some()
    }

    /// What governs this repository's workflow for a job on the source's network.
    pub(super) fn told(&self, source: IpAddr, about: &About<'_>) -> Told {
        let policies = self.leases.policies();
        if let Some((subject, job)) = self.held(source, about) {
            let asked = &about.job.workflow;
            if asked.is_empty() || *asked == job.identity.workflow {
                // The very thing that is enforced, pinned ones included.
                return told(&subject.rulebook().governing, || name_of(&job.identity));
            }
            let began = self
                .leases
                .lease_at(source)
                .map_or(Generation::NEWEST, |lease| lease.began);
            let identity = JobIdentity {
                workflow: asked.clone(),
                ..job.identity.clone()
            };
            return effective(&policies, &Asked::leased(&identity, began, &subject.network));
        }
        let subject = self.leases.lookup(source, self.clock.now());
        let identity = JobIdentity {
            cluster: subject.network.cluster.clone(),
            // As well known as the network asks: this is what will govern the job once it has registered.
            assurance: subject.network.min_assurance.unwrap_or(Assurance::Declared),
            ..about.job.clone()
        };
        effective(
            &policies,
            &Asked::leased(&identity, Generation::NEWEST, &subject.network),
        )
    }
}

/// What an owner's policy of this name says.
pub(super) fn by_name(policies: &PolicySet, owner: &str, name: &str) -> Told {
    if policies.store == Store::NeverRead {
        return Told::NotYet;
    }
    match policies.named.get(format!("{owner}/{name}").as_str()) {
        Some(Slot::Policy(policy)) => Told::Policy(Arc::clone(policy), true),
        Some(Slot::Unknown(meta)) => Told::Unusable(meta.name.to_string()),
        // One that decides only lockdown leaves egress to others, and so the client to itself.
        Some(Slot::Vacant) | None => Told::Nothing,
    }
}

fn effective(policies: &PolicySet, asked: &Asked<'_>) -> Told {
    if policies.store == Store::NeverRead {
        return Told::NotYet;
    }
    let effective = policies.effective(asked);
    let stood = || {
        let last = effective.considered.last();
        let meta = last.and_then(|considered| considered.policy.as_ref());
        meta.map_or_else(String::new, |meta| meta.name.to_string())
    };
    told(&effective.governing, stood)
}

fn told(governing: &Governing, name: impl FnOnce() -> String) -> Told {
    match governing {
        Governing::Policy(policy, Scope::Network(_)) if policy.mode == Mode::Audit => Told::Nothing,
        Governing::Policy(policy, scope) => {
            Told::Policy(Arc::clone(policy), !matches!(scope, Scope::Network(_)))
        }
        Governing::DenyAll(Reason::PolicyUnknown) => Told::Unusable(name()),
        // Without any policy everything is refused, which the client learns on the wire.
        Governing::DenyAll(_) => Told::Nothing,
    }
}

/// What stands for the name of a policy that nobody could read.
fn name_of(job: &JobIdentity) -> String {
    format!("policy of {}", job.repo)
}
