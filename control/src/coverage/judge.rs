//! What holds for a workflow, and whether block mode would change anything: one row of the table.

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_policy::effective::{Generation, Named, PolicySet};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};

use super::{BaselineState, CoverageRow, DecidedBy, ENOUGH_RUNS, Known, Networks};
use crate::baseline::State;
use crate::model::{EffectivePolicy, PolicyMode};
use crate::store::{JudgedSums, LastJob, Stands};

/// What rows are judged by.
pub(super) struct Judge<'a> {
    pub(super) baselines: &'a HashMap<String, Stands>,
    pub(super) networks: &'a Networks,
    pub(super) policies: &'a PolicySet,
    pub(super) holders: &'a HashMap<CompactString, CompactString>,
}

impl Judge<'_> {
    pub(super) fn row(&self, known: Known) -> CoverageRow {
        let Known { seen, counts, judged } = known;
        let (network, assurance, last_job) = match seen.last {
            Some(LastJob {
                id,
                assurance,
                network,
            }) => (Some(network), Some(assurance), Some(id)),
            None => (None, None, None),
        };
        let identity = identity(&seen.owner, &seen.repo, &seen.workflow, &seen.cluster);
        let egress = self.policies.facets(&identity, Generation::NEWEST).egress;
        let (policy, scope) = match egress {
            Some(decider) => (Some(self.held(&decider.policy)), Some(decider.scope.to_string())),
            None => (None, None),
        };
        let rules = network
            .clone()
            .and_then(|network| self.networks.get(&(network, seen.cluster.clone())))
            .cloned()
            .unwrap_or_default();
        let below_min_assurance = assurance.is_some_and(|assurance| {
            assurance == Assurance::Claimed || rules.min_assurance.is_some_and(|least| assurance < least)
        });
        let baseline = self.baseline(&identity);
        let decided_by = if policy.is_some() && !below_min_assurance {
            DecidedBy::Policy
        } else {
            DecidedBy::NetworkDefault
        };
        let audited = policy
            .as_ref()
            .is_some_and(|policy| policy.mode == PolicyMode::Audit);
        let why_not = if audited {
            why_not(baseline, judged, below_min_assurance)
        } else {
            Vec::new()
        };
        CoverageRow {
            network,
            scope,
            decided_by,
            default_policy: rules.default_policy,
            assurance,
            min_assurance: rules.min_assurance,
            below_min_assurance,
            first_seen: seen.first_at.timestamp(),
            last_seen: seen.last_at.timestamp(),
            jobs: seen.jobs,
            last_job,
            counts,
            baseline,
            ready_to_block: audited && why_not.is_empty(),
            why_not,
            policy,
            owner: seen.owner,
            repo: seen.repo,
            workflow: seen.workflow,
            cluster: seen.cluster,
        }
    }

    fn baseline(&self, identity: &JobIdentity) -> Option<BaselineState> {
        let scope = identity.scopes().next()?;
        self.state_of(&scope.to_string())
    }

    pub(super) fn state_of(&self, scope: &str) -> Option<BaselineState> {
        self.baselines.get(scope).map(|stands| BaselineState {
            state: stands.state,
            runs: stands.runs,
        })
    }

    /// The policy that stands at a scope.
    pub(super) fn standing(&self, scope: &Scope) -> Option<EffectivePolicy> {
        let edition = self.policies.attached.get(scope)?.at(Generation::NEWEST);
        let meta = edition.policy()?.clone();
        let mode = edition
            .egress
            .mode()
            .filter(|_| edition.egress.meta() == Some(&meta));
        let unusable = mode.is_none() && edition.egress.meta() == Some(&meta);
        Some(self.shown(&Named { meta, mode }, unusable))
    }

    /// A policy that decides egress but has no mode could not be compiled.
    fn held(&self, named: &Named) -> EffectivePolicy {
        self.shown(named, named.mode.is_none())
    }

    fn shown(&self, named: &Named, unusable: bool) -> EffectivePolicy {
        let owner = self.holders.get(&named.meta.id).map(CompactString::to_string);
        EffectivePolicy::of(named, owner.unwrap_or_default(), unusable)
    }
}

/// What block mode would have done to a workflow in audit mode, or why nobody knows.
fn why_not(baseline: Option<BaselineState>, judged: JudgedSums, below_min_assurance: bool) -> Vec<String> {
    let mut why = Vec::new();
    // Suffixes are counted among both: those that can't have been refusals are taken off, no others.
    let noise = judged.suffixes.saturating_sub(judged.refusals);
    let would = judged.would_refuse.saturating_sub(noise);
    if would > 0 {
        let what = if would == 1 {
            "verdict of the last seven days would have been a refusal"
        } else {
            "verdicts of the last seven days would have been refusals"
        };
        why.push(format!("{would} {what} in block mode."));
    }
    match baseline {
        None => why.push("No trusted run reached anything yet.".to_owned()),
        Some(stands) if stands.state != State::Stable => {
            why.push(format!(
                "Its baseline is not stable yet: it is {}.",
                stands.state.as_str()
            ));
        }
        Some(stands) if stands.runs < ENOUGH_RUNS => {
            why.push(format!(
                "Only {} trusted runs were seen; {ENOUGH_RUNS} are enough.",
                stands.runs
            ));
        }
        Some(_) => {}
    }
    if below_min_assurance {
        why.push("Its last job was not known well enough for the policy to count.".to_owned());
    }
    why
}

/// A job of a workflow, as far as precedence asks.
pub(super) fn identity(owner: &str, repo: &str, workflow: &str, cluster: &str) -> JobIdentity {
    JobIdentity {
        owner: owner.into(),
        repo: repo.into(),
        workflow: workflow.into(),
        cluster: cluster.into(),
        job: "".into(),
        run_id: "".into(),
        run_attempt: 0,
        runner_name: "".into(),
        event: "".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        assurance: Assurance::Static,
    }
}
