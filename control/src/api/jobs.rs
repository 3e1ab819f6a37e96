//! Jobs: what runs, and its end. What a provisioner says of new ones is [`start`]'s.

mod about;
mod start;

use std::net::IpAddr;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::record::Ending;
use tidegate_policy::job::Assurance;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::{Names, Params};
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{Job, Page, Role};
use crate::store::JobFilter;

pub(super) use self::about::{__path_job_effective, __path_job_endpoints, job_effective, job_endpoints};
pub(super) use self::start::{__path_start_job, start_job};

/// Which job.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ById {
    /// Its id.
    #[param(max_length = 255)]
    pub(super) id: String,
}

/// Which jobs are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichJobs {
    /// Of an owner.
    #[serde(default)]
    owner: Option<String>,
    /// Of a repository, `owner/name`.
    #[serde(default)]
    repo: Option<String>,
    /// Of a workflow file.
    #[serde(default)]
    workflow: Option<String>,
    /// Of a run.
    #[serde(default)]
    run_id: Option<String>,
    /// Those that run, or those that have ended.
    #[serde(default)]
    alive: Option<bool>,
    /// With this job id within the workflow.
    #[serde(default)]
    job: Option<String>,
    /// In a network.
    #[serde(default)]
    network: Option<String>,
    /// Known this well: `claimed`, `declared`, `signed`, `forge` or `static`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    assurance: Option<Assurance>,
    /// That hold this source, or held it last.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    source: Option<IpAddr>,
    /// That began at this time or later.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// That began before this time.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// With this text in their id, repository, workflow, name or run; case does not count. A page looks through a hundred
    /// thousand jobs: it may have few items, or none, and still a next one.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// What came of ending a job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ended {
    /// The job.
    pub(super) id: String,
    /// False when it had ended before.
    pub(super) ended: bool,
}

impl Caller {
    /// What a provisioner sees of jobs and leases is what lies in its networks.
    fn sees(&self, job: &Job) -> bool {
        match self.role() {
            Role::Provisioner => self.reaches(&job.lease.network),
            Role::Admin | Role::Editor | Role::Viewer | Role::Gateway | Role::Runner => {
                self.owns(&job.lease.identity.owner)
            }
        }
    }

    /// Networks that a list is cut down to.
    pub(super) fn networks(&self) -> Vec<String> {
        match self.role() {
            Role::Provisioner => self.token.networks.clone(),
            Role::Admin | Role::Editor | Role::Viewer | Role::Gateway | Role::Runner => Vec::new(),
        }
    }

    /// Owners that a list is cut down to: an own one that was asked for, else all that the token has.
    pub(super) fn owners(&self) -> Vec<String> {
        match self.role() {
            Role::Provisioner => Vec::new(),
            Role::Admin | Role::Editor | Role::Viewer | Role::Gateway | Role::Runner => {
                self.token.owners.clone()
            }
        }
    }
}

/// Jobs, newest first.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(WhichJobs),
    responses((status = 200, body = Page<Job>)))]
pub(super) async fn list_jobs(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichJobs>,
) -> Result<Response, Refused> {
    if let Some(owner) = which
        .owner
        .as_deref()
        .filter(|_| caller.role() != Role::Provisioner)
    {
        caller.check_owner(owner)?;
    }
    let filter = JobFilter {
        owners: caller.owners(),
        networks: caller.networks(),
        owner: which.owner,
        repo: which.repo,
        workflow: which.workflow,
        run_id: which.run_id,
        alive: which.alive,
        job: which.job,
        network: which.network,
        assurance: which.assurance,
        source: which.source,
        since: which.since,
        until: which.until,
        search: searched(which.search)?,
    };
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let mut found = state.store.jobs(&filter, &page).await.map_err(errors::of_query)?;
    if caller.role() != Role::Provisioner {
        with_counts(&state, &mut found.items).await?;
    }
    Ok(axum::Json(found).into_response())
}

/// Fills in what the verdicts about jobs add up to. A provisioner is not told: what jobs reached is none of its business.
pub(super) async fn with_counts(state: &ApiState, jobs: &mut [Job]) -> Result<(), Refused> {
    let ids: Vec<&str> = jobs.iter().map(|job| job.lease.id.as_str()).collect();
    let counts = state.store.job_counts(&ids).await.map_err(errors::of_query)?;
    for job in jobs {
        job.counts = counts.get(job.lease.id.as_str()).copied();
    }
    Ok(())
}

/// A job, be it over or not.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", params(ById), responses((status = 200, body = Job)))]
pub(super) async fn get_job(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let mut job = find(&state, &caller, &id).await?;
    if caller.role() != Role::Provisioner {
        with_counts(&state, std::slice::from_mut(&mut job)).await?;
    }
    Ok(axum::Json(job).into_response())
}

/// A job that the caller may see; one that it may not is not told from one that is not there.
pub(super) async fn find(state: &ApiState, caller: &Caller, id: &str) -> Result<Job, Refused> {
    let job = state.store.job(id).await.map_err(errors::of_query)?;
    if caller.sees(&job) {
        return Ok(job);
    }
    Err(Refused::not_found(format!("there is no job {id:?}")))
}

/// Ends a job.
///
/// A provisioner's word also says that its machine is gone: the sources are free at once. By an admin's word they are
/// quarantined like after any end.
#[utoipa::path(post, path = "/jobs/{id}/end", tag = "jobs", params(ById), responses((status = 200, body = Ended)))]
pub(super) async fn end_job(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let job = find(&state, &caller, &id).await?;
    let (by, ending) = match caller.role() {
        Role::Provisioner => (EndedBy::Provisioner, Ending::Release),
        Role::Admin | Role::Editor | Role::Viewer | Role::Gateway | Role::Runner => {
            (EndedBy::Operator, Ending::Quarantine)
        }
    };
    let ended = state.hub.end(&job, by, ending).await?;
    Ok(axum::Json(Ended { id, ended }).into_response())
}
