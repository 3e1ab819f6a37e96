//! Registering jobs: what a provisioner says about a job, and what of it its token lets it say.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::claim::Refusal;
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::record::{CredentialKind, LeaseRecord};
use tidegate_policy::effective::Generation;
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::lease::MAX_SOURCES;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::effective::egress_of;
use crate::api::extract::Json;
use crate::api::problem::{Code, Refused};
use crate::api::state::ApiState;
use crate::model::EffectivePolicy;
use crate::sync::RegisterError;

/// How long a job's lease lives when nobody ends it: the longest that a forge lets a job run, and some.
const LIFETIME: Duration = Duration::from_hours(24);
/// Longest text of a job's identity, in bytes.
const MAX_TEXT: usize = 255;

/// A job as a provisioner registers it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct JobStart {
    /// Organization or user.
    #[schema(min_length = 1, max_length = 255)]
    owner: String,
    /// `owner/name`, or the name alone.
    #[schema(min_length = 1, max_length = 255)]
    repo: String,
    /// File name of the calling workflow; empty when it has no file.
    #[serde(default)]
    #[schema(max_length = 255)]
    workflow: String,
    /// Job id within the workflow.
    #[serde(default)]
    #[schema(max_length = 255)]
    job: String,
    /// The forge's run number.
    #[serde(default)]
    #[schema(max_length = 255)]
    run_id: String,
    /// Attempt of that run, from 1; 0 when unknown.
    #[serde(default)]
    run_attempt: u32,
    /// Name of the runner.
    #[serde(default)]
    #[schema(max_length = 255)]
    runner_name: String,
    /// What triggered the run.
    #[serde(default)]
    #[schema(max_length = 255)]
    event: String,
    /// Git ref.
    #[serde(default, rename = "ref")]
    #[schema(max_length = 255)]
    git_ref: String,
    /// Who triggered the run.
    #[serde(default)]
    #[schema(max_length = 255)]
    actor: String,
    /// For pull requests: the repository (`owner/name`) that the change comes from.
    #[serde(default)]
    #[schema(max_length = 255)]
    head_repo: String,
    /// Cluster of the sources' network; checked, never chosen.
    #[serde(default)]
    #[schema(max_length = 255)]
    cluster: String,
    /// Addresses of the job's machine.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 16)]
    sources: Vec<IpAddr>,
    /// A job's own token is shown by the job, at its gateway's runner API.
    #[serde(default)]
    oidc_token: Option<String>,
}

/// A registered job.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct JobStarted {
    /// Its id.
    id: String,
    /// Its sources.
    #[schema(value_type = Vec<String>)]
    sources: Vec<IpAddr>,
    /// How well its identity is known.
    #[schema(value_type = String)]
    assurance: Assurance,
    /// What decides egress for it; null leaves it to the network's default.
    policy: Option<EffectivePolicy>,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Registers a job at sources that a provisioner knows.
///
/// Answered when the gateways of the sources' group have it, or after a moment without them. A job with its own
/// credential registers at its gateway's runner API instead.
#[utoipa::path(post, path = "/jobs", tag = "jobs", request_body = JobStart,
    responses((status = 201, body = JobStarted)))]
pub(in crate::api) async fn start_job(
    State(state): State<ApiState>,
    caller: Caller,
    Json(start): Json<JobStart>,
) -> Result<Response, Refused> {
    let lease = lease_of(start, &caller, state.now())?;
    let job = state
        .hub
        .register(lease, &caller.token.networks)
        .await
        .map_err(not_registered)?;
    state.view.current().await;
    let started = JobStarted {
        id: job.lease.id.to_string(),
        policy: egress_of(&state, &job.lease.identity),
        sources: job.lease.sources,
        assurance: job.lease.identity.assurance,
        expires_at: job.lease.expires_at,
    };
    Ok((StatusCode::CREATED, axum::Json(started)).into_response())
}

fn not_registered(error: RegisterError) -> Refused {
    let conflict = |code, detail| Refused::new(StatusCode::CONFLICT, code, detail);
    match error {
        RegisterError::NoGateway(detail) => {
            Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::NoGateway, detail).field("sources")
        }
        RegisterError::Refused { code, detail } => match code {
            Refusal::Replayed => conflict(Code::Replayed, detail),
            Refusal::Held => conflict(Code::Held, detail),
            Refusal::TokenGone => Refused::new(StatusCode::FORBIDDEN, Code::TokenGone, detail),
            Refusal::Invalid => Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Invalid, detail),
        },
        RegisterError::Store(error) => error.into(),
    }
}

/// The lease that is asked for, as far as the token lets it.
fn lease_of(start: JobStart, caller: &Caller, now: Timestamp) -> Result<LeaseRecord, Refused> {
    if start.oidc_token.is_some() {
        let detail = "a job shows its own token itself, at its gateway's runner API";
        return Err(Refused::invalid("oidc_token", detail));
    }
    if start.sources.is_empty() || start.sources.len() > MAX_SOURCES {
        let detail = format!("1 to {MAX_SOURCES} sources, not {}", start.sources.len());
        return Err(Refused::invalid("sources", detail));
    }
    let sources: Vec<IpAddr> = start.sources.iter().map(IpAddr::to_canonical).collect();
    let identity = identity_of(&start)?;
    caller.check_job(&identity)?;
    if let Some(cluster) = &caller.token.cluster
        && !identity.cluster.is_empty()
        && identity.cluster != cluster.as_str()
    {
        let detail = format!(
            "the token stands for cluster {cluster:?}, not {:?}",
            identity.cluster
        );
        return Err(Refused::invalid("cluster", detail));
    }
    let cluster = caller.token.cluster.as_deref().map(CompactString::from);
    Ok(LeaseRecord {
        id: new_id("job").into(),
        gateway: CompactString::default(),
        network: CompactString::default(),
        sources,
        identity: JobIdentity {
            cluster: cluster.unwrap_or_else(|| identity.cluster.clone()),
            ..identity
        },
        credential: CredentialKind::Provisioner,
        token_id: Some(caller.token.id.as_str().into()),
        began: Generation::default(),
        started_at: now,
        expires_at: now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX),
    })
}

fn identity_of(start: &JobStart) -> Result<JobIdentity, Refused> {
    let repo = match start.repo.split_once('/') {
        Some((owner, name)) if owner.to_lowercase() == start.owner.to_lowercase() => name,
        Some(_) => {
            let detail = format!("{:?} is not a repository of {:?}", start.repo, start.owner);
            return Err(Refused::invalid("repo", detail));
        }
        None => &start.repo,
    };
    if repo.is_empty() || repo.contains('/') {
        return Err(Refused::invalid("repo", "write OWNER/NAME"));
    }
    if start.owner.is_empty() || start.owner.contains('/') {
        return Err(Refused::invalid(
            "owner",
            format!("{:?} is no owner", start.owner),
        ));
    }
    let identity = JobIdentity {
        owner: text("owner", &start.owner)?,
        repo: text("repo", &start.repo)?,
        workflow: text("workflow", &start.workflow)?,
        job: text("job", &start.job)?,
        run_id: text("run_id", &start.run_id)?,
        run_attempt: start.run_attempt,
        runner_name: text("runner_name", &start.runner_name)?,
        cluster: text("cluster", &start.cluster)?,
        event: text("event", &start.event)?,
        git_ref: text("ref", &start.git_ref)?,
        actor: text("actor", &start.actor)?,
        head_repo: text("head_repo", &start.head_repo)?,
        assurance: Assurance::Declared,
    };
    Ok(identity.canonical())
}

fn text(field: &'static str, value: &str) -> Result<CompactString, Refused> {
    if value.len() > MAX_TEXT || value.chars().any(char::is_control) {
        let detail = format!("{field} has at most {MAX_TEXT} bytes and no control characters");
        return Err(Refused::invalid(field, detail));
    }
    Ok(value.into())
}

impl Caller {
    /// 403 for a job that the token does not name.
    fn check_job(&self, identity: &JobIdentity) -> Result<(), Refused> {
        let repos = &self.token.repos;
        let named = repos
            .iter()
            .any(|repo| repo.to_lowercase() == identity.repo.as_str());
        if named
            || (repos.is_empty() && self.owns(&identity.owner))
            || (self.is_limited() && self.owns(&identity.owner))
        {
            return Ok(());
        }
        let detail = format!("token {:?} does not name {}", self.token.name, identity.repo);
        Err(Refused::forbidden(detail))
    }
}
