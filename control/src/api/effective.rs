//! Which policy precedence picks, by facet, and what was considered.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_control_wire::mirror::Mirror;
use tidegate_policy::effective::{Decider, Generation, Named};
use tidegate_policy::job::{Assurance, JobIdentity};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::Params;
use super::problem::Refused;
use super::seen;
use super::state::ApiState;
use crate::coverage::CoverageRow;
use crate::model::EffectivePolicy;

/// Whose policy.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Organization; follows from `repo` when that is `owner/name`.
    #[serde(default)]
    owner: Option<String>,
    /// `owner/name`, or the name alone beside `owner`.
    #[serde(default)]
    repo: Option<String>,
    /// File name of the calling workflow: `ci.yml`.
    #[serde(default)]
    workflow: Option<String>,
    /// Cluster of the network.
    #[serde(default)]
    cluster: Option<String>,
}

/// The effective policy, by facet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EffectiveAnswer {
    /// What decides egress. Without a policy the network's default does.
    pub(super) egress: Facet,
    /// What decides lockdown.
    pub(super) lockdown: Facet,
    /// Every scope that such a job lies in, most specific first, with the policy that stands there.
    pub(super) considered: Vec<ConsideredScope>,
}

/// What decides one facet.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Facet {
    /// The policy; null when no attached one decides it.
    pub(super) policy: Option<EffectivePolicy>,
    /// The scope that it is attached to.
    pub(super) scope: Option<String>,
}

/// A scope that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConsideredScope {
    /// `repo:acme/web`.
    pub(super) scope: String,
    /// The policy that stands there.
    pub(super) policy: Option<EffectivePolicy>,
}

/// The policy that precedence picks for a job, by facet, and what was considered.
///
/// By scope alone: defaults of networks and what a job's credential is worth are the gateway's to know. A cluster's policy
/// is every owner's: a limited token is told of the clusters in which jobs of that owner were seen.
#[utoipa::path(get, path = "/effective", tag = "policies", params(Whose),
    responses((status = 200, body = EffectiveAnswer)))]
pub(super) async fn effective(
    State(state): State<ApiState>,
    caller: Caller,
    Params(whose): Params<Whose>,
) -> Result<Response, Refused> {
    let job = identity(whose)?;
    if job.owner.is_empty() {
        caller.check_unlimited(&format!("cluster {:?}", job.cluster))?;
    } else {
        caller.check_owner(&job.owner)?;
    }
    if caller.is_limited() && !job.cluster.is_empty() {
        check_was_there(&state, &caller, &job).await?;
    }
    state.view.current().await;
    Ok(axum::Json(answer(&state, &job, Generation::NEWEST)).into_response())
}

/// 403 for a cluster in which no job of the owner was seen, as far as is known by now.
async fn check_was_there(state: &ApiState, caller: &Caller, job: &JobIdentity) -> Result<(), Refused> {
    let table = seen::table(state, None).await?;
    let (owner, cluster) = (job.owner.to_lowercase(), job.cluster.clone());
    let was_there = seen::ask(table, move |table| {
        let of = |row: &Arc<CoverageRow>| row.owner.to_lowercase() == owner && row.cluster == *cluster;
        table.rows.iter().any(of)
    });
    if was_there.await? {
        return Ok(());
    }
    let what = format!(
        "no job of {:?} was seen in cluster {:?}, whose policy",
        job.owner, job.cluster
    );
    caller.check_unlimited(&what)
}

/// What precedence yields for a job that began there, by scope alone.
pub(super) fn answer(state: &ApiState, job: &JobIdentity, began: Generation) -> EffectiveAnswer {
    let facets = state.view.policies().facets(job, began);
    let considered = facets.considered.iter().map(|(scope, policy)| ConsideredScope {
        scope: scope.to_string(),
        policy: policy.as_ref().map(|named| shown(state, named, false)),
    });
    let facet = |decider: Decider, egress| Facet {
        policy: Some(shown(state, &decider.policy, egress)),
        scope: Some(decider.scope.to_string()),
    };
    EffectiveAnswer {
        considered: considered.collect(),
        egress: facets
            .egress
            .map(|decider| facet(decider, true))
            .unwrap_or_default(),
        lockdown: facets
            .lockdown
            .map(|decider| facet(decider, false))
            .unwrap_or_default(),
    }
}

/// The policy that decides egress for a job that begins now.
pub(super) fn egress_of(state: &ApiState, job: &JobIdentity) -> Option<EffectivePolicy> {
    egress_at(state, job, Generation::NEWEST)
}

/// The policy that decides egress for a job that began there, as far as its version is still known.
pub(super) fn egress_at(state: &ApiState, job: &JobIdentity, began: Generation) -> Option<EffectivePolicy> {
    let facets = state.view.policies().facets(job, began);
    facets.egress.map(|decider| shown(state, &decider.policy, true))
}

/// A policy that decides egress but has no mode could not be compiled.
fn shown(state: &ApiState, named: &Named, egress: bool) -> EffectivePolicy {
    let id = named.meta.id.as_str();
    let owner = |mirror: &Mirror| mirror.policy(id).map(|record| record.owner.to_string());
    let owner = state.view.with(owner).unwrap_or_default();
    EffectivePolicy::of(named, owner, egress && named.mode.is_none())
}

/// The job that the parameters describe.
fn identity(whose: Whose) -> Result<JobIdentity, Refused> {
    let text = |text: Option<String>| text.unwrap_or_default();
    let (mut owner, repo) = (text(whose.owner), text(whose.repo));
    let (workflow, cluster) = (text(whose.workflow), text(whose.cluster));
    if owner.contains('/') {
        return Err(Refused::bad(
            "owner",
            format!("{owner:?} is no owner; write ?repo={owner}"),
        ));
    }
    if let Some((of, name)) = repo.split_once('/') {
        if !owner.is_empty() && owner.to_lowercase() != of.to_lowercase() {
            return Err(Refused::bad(
                "repo",
                format!("{repo:?} is not of owner {owner:?}"),
            ));
        }
        if of.is_empty() || name.is_empty() || name.contains('/') {
            return Err(Refused::bad("repo", format!("{repo:?} is not OWNER/NAME")));
        }
        of.clone_into(&mut owner);
    }
    if owner.is_empty() && !repo.is_empty() {
        return Err(Refused::bad(
            "repo",
            format!("{repo:?}: say whose, as OWNER/NAME"),
        ));
    }
    if repo.is_empty() && !workflow.is_empty() {
        return Err(Refused::bad(
            "workflow",
            "a workflow needs its repository: ?repo=OWNER/NAME",
        ));
    }
    if workflow.contains('/') {
        let detail = format!("{workflow:?} is no file name; write ci.yml, without its folder");
        return Err(Refused::bad("workflow", detail));
    }
    if owner.is_empty() && cluster.is_empty() {
        return Err(Refused::bad("owner", "say whose: ?owner=, ?repo= or ?cluster="));
    }
    let job = JobIdentity {
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
    };
    Ok(job.canonical())
}
