//! Runs of the forge: jobs by their run, with what they were told.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::job::Assurance;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::effective::egress_at;
use super::errors;
use super::extract::{Names, Params};
use super::jobs::with_counts;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{EffectivePolicy, Job, JobCounts, Page};
use crate::store::{JobFilter, Micros, RunView};

/// Which runs are listed: those that have such a job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichRuns {
    /// Of an owner.
    #[serde(default)]
    owner: Option<String>,
    /// Of a repository, `owner/name`.
    #[serde(default)]
    repo: Option<String>,
    /// Of a workflow file.
    #[serde(default)]
    workflow: Option<String>,
    /// With a job that runs, or with one that has ended.
    #[serde(default)]
    alive: Option<bool>,
    /// With this text in a job's id, repository, workflow, name or run; case does not count.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// With a job that began at this time or later.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// With a job that began before this time.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Runs of a page at most: each may have jobs by the hundred.
const MOST: u32 = 100;

/// A run in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunItem {
    /// `owner/name`.
    repo: String,
    /// The run's number; null for a job that named no run: it is one by itself.
    run_id: Option<String>,
    /// The workflow's file.
    workflow: String,
    /// What triggered it.
    event: String,
    /// Git ref.
    #[serde(rename = "ref")]
    git_ref: String,
    /// Who triggered it.
    actor: String,
    /// For pull requests: where the change comes from.
    head_repo: String,
    /// The newest attempt; 0 when unknown.
    attempt: u32,
    /// The job that began last.
    job_id: String,
    /// How well that is known.
    #[schema(value_type = String)]
    assurance: Assurance,
    /// Jobs, of all attempts.
    jobs: u64,
    /// Those that run.
    alive: u64,
    /// When the first job began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When the last one ended; null while one runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// What the verdicts about its jobs add up to; null when there were none, or when `more`.
    counts: Option<JobCounts>,
    /// It has too many jobs for a list to add up what they were told.
    more: bool,
    /// What decides egress for the newest job, by scope; null leaves it to the network's default.
    policy: Option<EffectivePolicy>,
}

/// Which run.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ByRun {
    /// Organization or user.
    #[param(max_length = 255)]
    owner: String,
    /// Name of the repository, without its owner.
    #[param(max_length = 255)]
    repo: String,
    /// The run's number.
    #[param(max_length = 255)]
    run_id: String,
}

/// A run with its jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunDetail {
    /// `owner/name`.
    repo: String,
    /// Its number.
    run_id: String,
    /// The workflow's file.
    workflow: String,
    /// What triggered it.
    event: String,
    /// Git ref.
    #[serde(rename = "ref")]
    git_ref: String,
    /// Who triggered it.
    actor: String,
    /// For pull requests: where the change comes from.
    head_repo: String,
    /// When the first job began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When the last one ended; null while one runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// What the verdicts about its jobs add up to; null when there were none.
    counts: Option<JobCounts>,
    /// Attempts, the newest first.
    attempts: Vec<Attempt>,
    /// It has more jobs than are shown.
    more: bool,
}

/// An attempt of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attempt {
    /// Its number, from 1; 0 when unknown.
    attempt: u32,
    /// Its jobs by job id within the workflow; legs of a matrix have the same and stand together.
    jobs: Vec<AttemptJob>,
}

/// The jobs of an attempt that have one job id within the workflow.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptJob {
    /// Job id within the workflow; empty when it is not known.
    job: String,
    /// The legs, the oldest first; one when there is no matrix.
    legs: Vec<RunLeg>,
}

/// A job of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunLeg {
    /// The job.
    #[serde(flatten)]
    job: Job,
    /// What decides egress for it, by scope; null leaves it to the network's default.
    policy: Option<EffectivePolicy>,
}

/// Runs, the one whose newest job began last first.
#[utoipa::path(get, path = "/runs", tag = "jobs", params(WhichRuns), responses((status = 200, body = Page<RunItem>)))]
pub(super) async fn list_runs(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichRuns>,
) -> Result<Response, Refused> {
    if let Some(owner) = which.owner.as_deref() {
        caller.check_owner(owner)?;
    }
    let filter = JobFilter {
        owners: caller.owners(),
        owner: which.owner,
        repo: which.repo,
        workflow: which.workflow,
        alive: which.alive,
        search: searched(which.search)?,
        since: which.since,
        until: which.until,
        ..JobFilter::default()
    };
    if which.limit.is_some_and(|limit| limit > MOST) {
        return Err(Refused::bad("limit", format!("limit: 1 to {MOST}")));
    }
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let found = state.store.runs(&filter, &page).await.map_err(errors::of_query)?;
    let ids: Vec<&str> = found
        .items
        .iter()
        .flat_map(|run| run.ids.iter().flatten().map(String::as_str))
        .collect();
    let counts = state.store.job_counts(&ids).await.map_err(errors::of_query)?;
    state.view.current().await;
    let item = |run: RunView| {
        let of = run.ids.iter().flatten().filter_map(|id| counts.get(id));
        item(&state, &run, added(of))
    };
    let list = Page {
        items: found.items.into_iter().map(item).collect(),
        next: found.next,
    };
    Ok(axum::Json(list).into_response())
}

fn item(state: &ApiState, run: &RunView, counts: Option<JobCounts>) -> RunItem {
    let (lease, identity) = (&run.newest.lease, &run.newest.lease.identity);
    let legs = run.legs;
    RunItem {
        repo: identity.repo.to_string(),
        run_id: Some(identity.run_id.to_string()).filter(|run| !run.is_empty()),
        workflow: identity.workflow.to_string(),
        event: identity.event.to_string(),
        git_ref: identity.git_ref.to_string(),
        actor: identity.actor.to_string(),
        head_repo: identity.head_repo.to_string(),
        attempt: identity.run_attempt,
        job_id: lease.id.to_string(),
        assurance: identity.assurance,
        jobs: legs.jobs,
        alive: legs.alive,
        started_at: legs.started_at.timestamp(),
        ended_at: legs.ended_at.filter(|_| legs.alive == 0).map(Micros::timestamp),
        counts,
        more: run.ids.is_none(),
        policy: egress_at(state, identity, lease.began),
    }
}

/// A run: its attempts, their jobs, and the legs of each.
///
/// At most 2 000 jobs, the newest; `more` says when there are others.
#[utoipa::path(get, path = "/runs/{owner}/{repo}/{run_id}", tag = "jobs", params(ByRun),
    responses((status = 200, body = RunDetail)))]
pub(super) async fn get_run(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ByRun { owner, repo, run_id }): Names<ByRun>,
) -> Result<Response, Refused> {
    let whole = format!("{owner}/{repo}");
    let missing = || Refused::not_found(format!("there is no run {run_id:?} of {whole:?}"));
    if !caller.owns(&owner) {
        return Err(missing());
    }
    let (mut jobs, more) = state
        .store
        .run_jobs(&whole, &run_id)
        .await
        .map_err(errors::of_query)?;
    with_counts(&state, &mut jobs).await?;
    state.view.current().await;
    let Some(newest) = jobs.first().cloned() else {
        return Err(missing());
    };
    let identity = newest.lease.identity;
    let first = jobs.iter().map(|job| job.lease.started_at).min();
    let last = jobs.iter().map(|job| job.ended_at).collect::<Option<Vec<_>>>();
    let detail = RunDetail {
        repo: identity.repo.into(),
        run_id: identity.run_id.into(),
        workflow: identity.workflow.into(),
        event: identity.event.into(),
        git_ref: identity.git_ref.into(),
        actor: identity.actor.into(),
        head_repo: identity.head_repo.into(),
        started_at: first.unwrap_or(newest.lease.started_at),
        ended_at: last.and_then(|all| all.into_iter().max()),
        counts: added(jobs.iter().filter_map(|job| job.counts.as_ref())),
        more,
        attempts: attempts(&state, jobs),
    };
    Ok(axum::Json(detail).into_response())
}

fn attempts(state: &ApiState, mut jobs: Vec<Job>) -> Vec<Attempt> {
    jobs.sort_by(|one, other| {
        let key = |job: &Job| {
            (
                job.lease.identity.job.clone(),
                job.lease.started_at,
                job.lease.id.clone(),
            )
        };
        let attempt = |job: &Job| job.lease.identity.run_attempt;
        attempt(other)
            .cmp(&attempt(one))
            .then_with(|| key(one).cmp(&key(other)))
    });
    let mut attempts: Vec<Attempt> = Vec::new();
    for job in jobs {
        let identity = &job.lease.identity;
        let (number, name) = (identity.run_attempt, identity.job.to_string());
        let leg = RunLeg {
            policy: egress_at(state, identity, job.lease.began),
            job,
        };
        match attempts.last_mut().filter(|last| last.attempt == number) {
            Some(last) => match last.jobs.last_mut().filter(|last| last.job == name) {
                Some(same) => same.legs.push(leg),
                None => last.jobs.push(AttemptJob {
                    job: name,
                    legs: vec![leg],
                }),
            },
            None => attempts.push(Attempt {
                attempt: number,
                jobs: vec![AttemptJob {
                    job: name,
                    legs: vec![leg],
                }],
            }),
        }
    }
    attempts
}

/// Counts of several jobs, added up.
fn added<'c>(counts: impl Iterator<Item = &'c JobCounts>) -> Option<JobCounts> {
    counts.copied().reduce(|one, other| JobCounts {
        permit: one.permit.saturating_add(other.permit),
        refuse: one.refuse.saturating_add(other.refuse),
        would_refuse: one.would_refuse.saturating_add(other.would_refuse),
        bytes_up: one.bytes_up.saturating_add(other.bytes_up),
        bytes_down: one.bytes_down.saturating_add(other.bytes_down),
        last_at: one.last_at.max(other.last_at),
    })
}
