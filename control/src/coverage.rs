//! Everything that was seen, with the policy that holds for it: one table, made of what registered, what events add up
//! to, and what is attached.
//!
//! Pure: rows are made from what was read ([`Inputs`]) and asked in memory ([`ask`], [`scopes`]). Precedence is the policy
//! crate's; what is said here is what it says of a job that would begin now. Reading and keeping the table is the API's
//! (`api/seen.rs`).

pub(crate) mod ask;
pub(crate) mod glob;
mod judge;
pub(crate) mod scopes;

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_policy::effective::PolicySet;
use tidegate_policy::job::{Assurance, JobIdentity};
use utoipa::ToSchema;

use self::judge::{Judge, identity};
use crate::baseline::State;
use crate::model::EffectivePolicy;
use crate::store::{JudgedSums, OwnerCounts, SeenWorkflow, Stands, WorkflowSums};

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
    pub(crate) policy: Option<EffectivePolicy>,
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

#[cfg(test)]
mod tests;
