//! Which candidate a job would get: attachments as they would be, with the candidates in their places.

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_policy::effective::{Attached, Generation, PolicySet, Slot};
use tidegate_policy::job::{JobIdentity, Scope};

use super::candidate::{Candidate, ID};

/// A place of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The scope that it would hold, or whose jobs would fall back to it.
    pub scope: Scope,
    /// It stands there for jobs in this cluster alone.
    pub cluster: Option<CompactString>,
    /// Which candidate.
    pub candidate: usize,
}

/// Every attachment there is, with the candidates in their places.
#[derive(Debug)]
pub(super) struct Stage {
    policies: PolicySet,
    stands: HashMap<Scope, Vec<(Option<CompactString>, usize)>>,
    governed: HashMap<[CompactString; 4], Option<usize>>,
}

impl Stage {
    /// Puts candidates where they would stand, beside everything that is `attached`.
    pub(super) fn new(
        candidates: &[Candidate],
        stands: Vec<Stand>,
        attached: &HashMap<Scope, Attached>,
    ) -> Self {
        let mut attached = attached.clone();
        let mut places: HashMap<Scope, Vec<(Option<CompactString>, usize)>> = HashMap::new();
        for stand in stands {
            let Some(candidate) = candidates.get(stand.candidate) else {
                continue;
            };
            let slot = Slot::Policy(candidate.policy.clone());
            attached.insert(stand.scope.clone(), Attached::always(slot, None));
            let place = places.entry(stand.scope).or_default();
            place.push((stand.cluster, stand.candidate));
        }
        Self {
            policies: PolicySet {
                attached,
                ..PolicySet::default()
            },
            stands: places,
            governed: HashMap::new(),
        }
    }

    /// The candidate that precedence would pick for a job.
    pub(super) fn governs(&mut self, job: &JobIdentity) -> Option<usize> {
        let key = [&job.owner, &job.repo, &job.workflow, &job.cluster].map(Clone::clone);
        let (policies, stands) = (&self.policies, &self.stands);
        *self.governed.entry(key).or_insert_with(|| {
            let decider = policies.facets(job, Generation::NEWEST).egress?;
            let places = stands
                .get(&decider.scope)
                .filter(|_| decider.policy.meta.id == ID)?;
            let is_there = |(cluster, _): &&(Option<CompactString>, usize)| {
                cluster.as_ref().is_none_or(|one| *one == job.cluster)
            };
            places.iter().find(is_there).map(|(_, candidate)| *candidate)
        })
    }
}
