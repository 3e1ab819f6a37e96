//! Everything that was seen, with the policy that holds for it: one table, made of what registered, what events add up
//! to, and what is attached.
//!
//! Pure: rows are made from what was read ([`Inputs`]) and asked in memory ([`ask`], [`scopes`]). Precedence is the policy
//! crate's; what is said here is what it says of a job that would begin now. Reading and keeping the table is the API's
//! (`api/seen.rs`).

pub(crate) mod ask;
pub(crate) mod glob;
pub(crate) mod scopes;

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_policy::effective::{Generation, Named, PolicySet};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::verdict::Mode;
use utoipa::ToSchema;

use crate::baseline::State;
use crate::model::PolicyMode;
use crate::store::{JudgedSums, LastJob, OwnerCounts, SeenWorkflow, Stands, WorkflowSums};

/// Trusted runs that a baseline needs before its workflow is called ready to block.
pub(crate) const ENOUGH_RUNS: u64 = 10;

/// What is known of a network that jobs come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkRules {
    /// Jobs that are known less well get the default policy; of several gateways that serve it, the strictest.
    pub(crate) min_assurance: Option<Assurance>,
    /// The default policy, as a gateway says.
    pub(crate) default_policy: Option<String>,
}

/// Networks by name and cluster: gateways that have nothing to do with each other may call theirs by one name.
pub(crate) type Networks = HashMap<(String, String), NetworkRules>;

/// What the table is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) seen: Vec<SeenWorkflow>,
    pub(crate) sums: Vec<WorkflowSums>,
    pub(crate) baselines: HashMap<String, Stands>,
    pub(crate) networks: Networks,
    pub(crate) owners: HashMap<String, OwnerCounts>,
    pub(crate) policies: Arc<PolicySet>,
    /// Whose a policy is, by its id.
    pub(crate) holders: HashMap<CompactString, CompactString>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// In no order.
    pub(crate) rows: Vec<Arc<CoverageRow>>,
    /// By scope.
    pub(crate) scopes: Vec<scopes::SeenScope>,
    /// What the store has of each owner.
    pub(crate) owners: HashMap<String, OwnerCounts>,
}

/// A policy that holds somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct HeldPolicy {
    /// Its immutable id.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) owner: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: u32,
    /// Mode of its egress facet.
    pub(crate) mode: PolicyMode,
    /// It can't be put in force (an endpoint set is missing, say), so everything is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unusable: bool,
}

/// What decides about a workflow's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DecidedBy {
    /// The policy that precedence picks.
    Policy,
    /// The default policy of their network: nothing is attached, or they are not known well enough.
    NetworkDefault,
}

/// Verdicts of some days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CoverageCounts {
    /// Permitted.
    pub(crate) permit: u64,
    /// Refused, search suffixes among them.
    pub(crate) refuse: u64,
    /// Let through by audit mode, search suffixes among them.
    pub(crate) would_refuse: u64,
    /// Those of both that only a resolver's search suffix made: they tell nothing about the jobs.
    pub(crate) search_suffix: u64,
}

/// Where a baseline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct BaselineState {
    /// Its state.
    pub(crate) state: State,
    /// Trusted runs that were seen.
    pub(crate) runs: u64,
}

/// A workflow in a cluster, and what holds for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CoverageRow {
    /// Organization or user.
    pub(crate) owner: String,
    /// `owner/name`; empty when its jobs named none.
    pub(crate) repo: String,
    /// Its file; empty when it has none.
    pub(crate) workflow: String,
    /// Cluster of its network; empty for none.
    pub(crate) cluster: String,
    /// Network of the last job; null when only events tell of the workflow.
    pub(crate) network: Option<String>,
    /// The policy that precedence picks, by scope alone; null when none is attached.
    pub(crate) policy: Option<HeldPolicy>,
    /// The scope that it comes from.
    pub(crate) scope: Option<String>,
    /// What decides.
    pub(crate) decided_by: DecidedBy,
    /// The network's default policy, as a gateway says: `NAME (audit)`, `deny-all`; null when nobody says.
    pub(crate) default_policy: Option<String>,
    /// How well the last job was known; null when only events tell of the workflow.
    #[schema(value_type = Option<String>)]
    pub(crate) assurance: Option<Assurance>,
    /// What the network demands.
    #[schema(value_type = Option<String>)]
    pub(crate) min_assurance: Option<Assurance>,
    /// The last job was known less well than its network demands, or only claimed who it is: its scopes did not count.
    pub(crate) below_min_assurance: bool,
    /// When it was first seen.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) first_seen: Timestamp,
    /// When it was last seen.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) last_seen: Timestamp,
    /// Jobs that registered.
    pub(crate) jobs: u64,
    /// The last one.
    pub(crate) last_job: Option<String>,
    /// Verdicts of the days that were asked for.
    pub(crate) counts: CoverageCounts,
    /// Where the workflow's baseline stands; null without one.
    pub(crate) baseline: Option<BaselineState>,
    /// In audit mode, its baseline stable, and nothing would have been refused today and on the seven days before,
    /// whatever days are counted: block mode would change nothing.
    pub(crate) ready_to_block: bool,
    /// In audit mode: why it is not ready, in sentences.
    pub(crate) why_not: Vec<String>,
}

impl CoverageRow {
    /// A job of the workflow, as far as precedence asks.
    pub(crate) fn identity(&self) -> JobIdentity {
        identity(&self.owner, &self.repo, &self.workflow, &self.cluster)
    }
}

/// Which row.
type Key = (String, String, String, String);

impl Table {
    /// Puts the table together.
    pub(crate) fn new(inputs: Inputs) -> Self {
        let Inputs {
            seen,
            sums,
            baselines,
            networks,
            owners,
            policies,
            holders,
        } = inputs;
        let judge = Judge {
            baselines: &baselines,
            networks: &networks,
            policies: &policies,
            holders: &holders,
        };
        let rows: Vec<Arc<CoverageRow>> = joined(seen, sums)
            .into_iter()
            .map(|known| Arc::new(judge.row(known)))
            .collect();
        let scopes = scopes::all(&rows, &judge);
        Self { rows, scopes, owners }
    }
}

/// A workflow, by its registrations and by its events.
struct Known {
    seen: SeenWorkflow,
    counts: CoverageCounts,
    judged: JudgedSums,
}

/// Both sources as one. What only events tell of is a workflow of static leases, or of jobs that registered before
/// workflows were noted.
fn joined(seen: Vec<SeenWorkflow>, sums: Vec<WorkflowSums>) -> Vec<Known> {
    let mut all: HashMap<Key, Known> = HashMap::with_capacity(seen.len());
    for one in seen {
        let key = (
            one.owner.clone(),
            one.repo.clone(),
            one.workflow.clone(),
            one.cluster.clone(),
        );
        all.insert(
            key,
            Known {
                seen: one,
                counts: CoverageCounts::default(),
                judged: JudgedSums::default(),
            },
        );
    }
    for sum in sums {
        let counts = CoverageCounts {
            permit: sum.permits,
            refuse: sum.refusals,
            would_refuse: sum.would_refuse,
            search_suffix: sum.suffixes,
        };
        let key = (
            sum.owner.clone(),
            sum.repo.clone(),
            sum.workflow.clone(),
            sum.cluster.clone(),
        );
        let known = all.entry(key).or_insert_with(|| Known {
            seen: SeenWorkflow {
                owner: sum.owner,
                repo: sum.repo,
                workflow: sum.workflow,
                cluster: sum.cluster,
                first_at: sum.first_at,
                last_at: sum.last_at,
                jobs: 0,
                last: None,
            },
            counts,
            judged: sum.judged,
        });
        known.counts = counts;
        known.judged = sum.judged;
        if known.seen.last.is_none() {
            known.seen.last_at = known.seen.last_at.max(sum.last_at);
        }
    }
    all.into_values().collect()
}

/// What rows are judged by.
pub(crate) struct Judge<'a> {
    baselines: &'a HashMap<String, Stands>,
    networks: &'a Networks,
    policies: &'a PolicySet,
    holders: &'a HashMap<CompactString, CompactString>,
}

impl Judge<'_> {
    fn row(&self, known: Known) -> CoverageRow {
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

    fn state_of(&self, scope: &str) -> Option<BaselineState> {
        self.baselines.get(scope).map(|stands| BaselineState {
            state: stands.state,
            runs: stands.runs,
        })
    }

    /// The policy that stands at a scope.
    fn standing(&self, scope: &Scope) -> Option<HeldPolicy> {
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
    fn held(&self, named: &Named) -> HeldPolicy {
        self.shown(named, named.mode.is_none())
    }

    fn shown(&self, named: &Named, unusable: bool) -> HeldPolicy {
        let owner = self.holders.get(&named.meta.id).map(CompactString::to_string);
        HeldPolicy {
            id: named.meta.id.to_string(),
            owner: owner.unwrap_or_default(),
            name: named.meta.name.to_string(),
            version: named.meta.version,
            mode: match named.mode {
                Some(Mode::Audit) => PolicyMode::Audit,
                Some(Mode::Block) => PolicyMode::Block,
                None if unusable => PolicyMode::Block,
                None => PolicyMode::None,
            },
            unusable,
        }
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
fn identity(owner: &str, repo: &str, workflow: &str, cluster: &str) -> JobIdentity {
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

#[cfg(test)]
mod tests;
