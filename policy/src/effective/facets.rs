//! What precedence yields by scope alone, for people who ask which policy is effective and why.
//!
//! Owns the answer of `GET /effective`. It knows neither networks nor credentials, so their defaults, pinned
//! policies and `min-assurance` do not enter; decisions are [`PolicySet::effective`]'s.

use super::{Edition, Generation, PolicySet};
use crate::job::{JobIdentity, Scope};
use crate::rulebook::PolicyMeta;
use crate::verdict::Mode;

/// A policy as the answer names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Who it is.
    pub meta: PolicyMeta,
    /// Mode of its egress facet; `None` when it has none, or can't be compiled.
    pub mode: Option<Mode>,
}

/// What decides one facet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decider {
    /// The scope.
    pub scope: Scope,
    /// The policy that stands there.
    pub policy: Named,
}

/// What precedence yields for a job, by facet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facets {
    /// What decides egress; none leaves it to the network's default.
    pub egress: Option<Decider>,
    /// What decides lockdown.
    pub lockdown: Option<Decider>,
    /// Every scope that the job lies in, most specific first, with the policy that stands there.
    pub considered: Vec<(Scope, Option<Named>)>,
}

impl PolicySet {
    /// What the attachments yield for a job that began at this generation. Its assurance does not count.
    pub fn facets(&self, job: &JobIdentity, began: Generation) -> Facets {
        let edition = |scope| {
            (
                self.attached.get(&scope).map(|attached| attached.at(began)),
                scope,
            )
        };
        let places: Vec<(Option<&Edition>, Scope)> = job.scopes().map(edition).collect();
        let decider = |facet: fn(&Edition) -> Option<&PolicyMeta>| {
            let decides = |(edition, scope): &(Option<&Edition>, Scope)| {
                Some(Decider {
                    scope: scope.clone(),
                    policy: named((*edition)?, facet)?,
                })
            };
            places.iter().find_map(decides)
        };
        let considered = |(edition, scope): &(Option<&Edition>, Scope)| {
            let policy = edition.and_then(|edition| named(edition, Edition::policy));
            (scope.clone(), policy)
        };
        Facets {
            egress: decider(|edition| edition.egress.meta()),
            lockdown: decider(|edition| edition.lockdown.as_ref().map(|lockdown| &lockdown.meta)),
            considered: places.iter().map(considered).collect(),
        }
    }
}

fn named(edition: &Edition, policy: fn(&Edition) -> Option<&PolicyMeta>) -> Option<Named> {
    let meta = policy(edition)?.clone();
    let mode = edition
        .egress
        .mode()
        .filter(|_| edition.egress.meta() == Some(&meta));
    Some(Named { meta, mode })
}
