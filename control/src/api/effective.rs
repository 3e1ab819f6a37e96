//! Which policy precedence picks, by facet, and what was considered.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::effective::{Decider, Generation, Named};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::verdict::Mode;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::Params;
use super::problem::Refused;
use super::state::ApiState;
use crate::model::PolicyMode;

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
    egress: Facet,
    /// What decides lockdown.
    lockdown: Facet,
    /// Every scope that such a job lies in, most specific first, with the policy that stands there.
    considered: Vec<ConsideredScope>,
}

/// What decides one facet.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Facet {
    /// The policy; null when no attached one decides it.
    policy: Option<EffectivePolicy>,
    /// The scope that it is attached to.
    scope: Option<String>,
}

/// A scope that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConsideredScope {
    /// `repo:acme/web`.
    scope: String,
    /// The policy that stands there.
    policy: Option<EffectivePolicy>,
}

/// A policy in an answer about precedence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct EffectivePolicy {
    /// Its immutable id.
    id: String,
    /// Its name.
    name: String,
    /// Its version.
    version: u32,
    /// Mode of its egress facet.
    mode: PolicyMode,
    /// It can't be put in force (an endpoint set is missing, say), so everything is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unusable: bool,
}

/// The policy that precedence picks for a job, by facet, and what was considered.
///
/// By scope alone: defaults of networks and what a job's credential is worth are the gateway's to know.
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
    state.view.current().await;
    let facets = state.view.policies().facets(&job, Generation::NEWEST);
    let considered = facets.considered.iter().map(|(scope, policy)| ConsideredScope {
        scope: scope.to_string(),
        policy: policy.as_ref().map(|named| shown(named, false)),
    });
    let answer = EffectiveAnswer {
        considered: considered.collect(),
        egress: facets
            .egress
            .map(|decider| facet(&decider, true))
            .unwrap_or_default(),
        lockdown: facets
            .lockdown
            .map(|decider| facet(&decider, false))
            .unwrap_or_default(),
    };
    Ok(axum::Json(answer).into_response())
}

/// The policy that decides egress for a job that begins now.
pub(super) fn egress_of(state: &ApiState, job: &JobIdentity) -> Option<EffectivePolicy> {
    let facets = state.view.policies().facets(job, Generation::NEWEST);
    facets.egress.map(|decider| shown(&decider.policy, true))
}

fn facet(decider: &Decider, egress: bool) -> Facet {
    Facet {
        policy: Some(shown(&decider.policy, egress)),
        scope: Some(decider.scope.to_string()),
    }
}

/// A policy that decides egress but has no mode could not be compiled.
fn shown(named: &Named, egress: bool) -> EffectivePolicy {
    EffectivePolicy {
        id: named.meta.id.to_string(),
        name: named.meta.name.to_string(),
        version: named.meta.version,
        mode: match named.mode {
            Some(Mode::Audit) => PolicyMode::Audit,
            Some(Mode::Block) => PolicyMode::Block,
            None if egress => PolicyMode::Block,
            None => PolicyMode::None,
        },
        unusable: egress && named.mode.is_none(),
    }
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
