//! What a job is told about itself, from the record: the same page that its gateway shows, for as long as events are kept.
//!
//! Owns how much of the record one page is made of. What it says and how text from strangers is escaped is
//! [`tidegate_control_wire::summary`]'s.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tidegate_control_wire::event::EventJob;
use tidegate_control_wire::summary::{About, JobSummary, Seen, Tally};
use tidegate_policy::event::JobRecord;

use crate::api::auth::Caller;
use crate::api::errors;
use crate::api::extract::Names;
use crate::api::jobs::{self, ById};
use crate::api::problem::Refused;
use crate::api::state::ApiState;
use crate::api::turns::Bounds;
use crate::model::PageRequest;
use crate::store::{EventFilter, StoreError};

/// Events that are counted; what a job has beyond them is told as a number.
const MAX_EVENTS: u64 = 100_000;

/// A quarter of the connections that read events.
pub(in crate::api) const SUMMARIES: Bounds = Bounds {
    what: "summaries",
    at_once: 2,
    waiting: 32,
    again: 1,
};

/// The summary of a job as a page of Markdown: what was refused and why, what was reached.
///
/// Of a job that runs it says what is stored by now. Two are made at once and 32 wait; who comes beyond them is told to
/// come again (503 with `Retry-After`).
#[utoipa::path(get, path = "/jobs/{id}/summary.md", tag = "jobs", params(ById),
    responses((status = 200, content((String = "text/markdown; charset=utf-8")))))]
pub(in crate::api) async fn job_summary(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let page = summarized(&state, &caller, &id).await?.markdown();
    Ok(([(CONTENT_TYPE, "text/markdown; charset=utf-8")], page).into_response())
}

/// The same as JSON, as its gateway answers `GET /v1/summary.json`.
#[utoipa::path(get, path = "/jobs/{id}/summary", tag = "jobs", params(ById),
    responses((status = 200, body = Object)))]
pub(in crate::api) async fn job_summary_json(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    Ok(axum::Json(summarized(&state, &caller, &id).await?).into_response())
}

/// The summary of a job that the caller may see, when it is its turn.
pub(in crate::api) async fn summarized(
    state: &ApiState,
    caller: &Caller,
    id: &str,
) -> Result<JobSummary, Refused> {
    let known = match state.store.job(id).await {
        Ok(_) => Some(jobs::find(state, caller, id).await?),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(errors::of_query(error)),
    };
    let turn = state.summaries.take().await?;
    let filter = EventFilter {
        job: Some(id.to_owned()),
        owners: caller.owners(),
        upto: Some(state.store.newest_event().await.map_err(errors::of_query)?),
        ..EventFilter::default()
    };
    let counted = Counted::of(state, &filter).await.map_err(errors::of_query)?;
    drop(turn);
    let kept = state.store.events_kept_since(state.now());
    let started = known.as_ref().map(|job| job.lease.started_at);
    let known = known.map(|job| {
        EventJob::from(&JobRecord {
            id: job.lease.id,
            identity: job.lease.identity,
        })
    });
    let Some(job) = known.or(counted.job) else {
        return Err(Refused::not_found(format!("there is no job {id:?}")));
    };
    let about = About {
        job: Some(job),
        since: started.filter(|started| *started < kept).map(|_| kept),
        dropped: counted.left_out,
        ..About::default()
    };
    Ok(counted.tally.summary(about))
}

/// A job's events, counted.
#[derive(Default)]
struct Counted {
    tally: Tally,
    /// As the events know it.
    job: Option<EventJob>,
    left_out: u64,
}

impl Counted {
    async fn of(state: &ApiState, filter: &EventFilter) -> Result<Self, StoreError> {
        let mut counted = Self::default();
        let (mut from, mut events) = (None, 0_u64);
        loop {
            let run = state
                .store
                .events_onwards(filter, from, PageRequest::MOST)
                .await?;
            events += run.items.len() as u64;
            for stored in &run.items {
                counted.tally.add(&Seen::from(&stored.event));
            }
            if let Some(last) = run.items.last() {
                counted.job.clone_from(&last.event.job);
            }
            from = run.next;
            if from.is_none() {
                return Ok(counted);
            }
            if events >= MAX_EVENTS {
                let all = state
                    .store
                    .count_of_job(filter.job.as_deref().unwrap_or_default())
                    .await?;
                counted.left_out = all.saturating_sub(events);
                return Ok(counted);
            }
        }
    }
}
