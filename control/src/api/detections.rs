//! Detections: listed, looked at, dealt with.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::{Json, Names, Params};
use super::jobs::ById;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use crate::baseline::detection::Detection;
use crate::baseline::{DetectionType, Severity, Status};
use crate::store::{DetectionCounters, DetectionFilter, Said};

/// Detections that are changed at once.
const MOST_CHANGED: usize = 100;

/// Which detections are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichDetections {
    /// Of an owner.
    #[serde(default)]
    owner: Option<String>,
    /// Of a repository, `owner/name`.
    #[serde(default)]
    repo: Option<String>,
    /// Of a job, by its id.
    #[serde(default)]
    job: Option<String>,
    /// Of a type.
    #[serde(default, rename = "type")]
    #[param(inline)]
    kind: Option<DetectionType>,
    /// With a status.
    #[serde(default)]
    #[param(inline)]
    status: Option<Status>,
    /// Of a severity.
    #[serde(default)]
    #[param(inline)]
    severity: Option<Severity>,
    /// About an endpoint that has this in it, in any case.
    #[serde(default)]
    search: Option<String>,
    /// Whose last verdict is of this time or later.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of detections.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DetectionList {
    /// The newest first.
    items: Vec<Detection>,
    /// Where the next page begins; null on the last.
    next: Option<String>,
    /// Of the owners that were asked for, whatever else was.
    counters: DetectionCounters,
}

/// What somebody says of several detections.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DetectionsChange {
    /// Which: 1 to 100.
    #[schema(min_items = 1, max_items = 100)]
    ids: Vec<String>,
    /// What becomes of them.
    status: Status,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: Option<String>,
    /// Whether their endpoints are what such jobs do, as for one.
    #[serde(default)]
    expected: Option<bool>,
}

/// Detections that were changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedDetections {
    /// As they are now, in the order of the request.
    items: Vec<Detection>,
}

/// What somebody says of a detection.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DetectionChange {
    /// What becomes of it.
    status: Status,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 1000)]
    note: Option<String>,
    /// Whether the endpoint is what such jobs do: then it belongs to the baseline, and imports take it. When nothing is
    /// said, that of a suppressed detection is and that of a resolved one is not: an incident that was dealt with is still
    /// none of a policy's endpoints, and detected again when it comes again.
    #[serde(default)]
    expected: Option<bool>,
}

/// Detections, newest first.
#[utoipa::path(get, path = "/detections", tag = "detections", params(WhichDetections),
    responses((status = 200, body = DetectionList)))]
pub(super) async fn list_detections(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichDetections>,
) -> Result<Response, Refused> {
    if let Some(owner) = &which.owner {
        caller.check_owner(owner)?;
    }
    let filter = DetectionFilter {
        owners: caller.owners(),
        owner: which.owner,
        repo: which.repo,
        job: which.job,
        kind: which.kind,
        status: which.status,
        severity: which.severity,
        search: searched(which.search)?,
        since: which.since,
    };
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let found = state
        .store
        .detections(&filter, &page)
        .await
        .map_err(errors::of_query)?;
    let question = format!("{:?} {:?}", filter.owners, filter.owner);
    let store = state.store.clone();
    let counters = state
        .detections
        .get(question, async move { store.count_detections(&filter).await });
    Ok(axum::Json(DetectionList {
        items: found.items,
        next: found.next,
        counters: counters.await.map_err(errors::of_query)?,
    })
    .into_response())
}

/// Says what becomes of several detections.
///
/// One that is not there, or not to be seen, changes nothing at all. They are changed one after the other: where the
/// store fails between two, those before are changed.
#[utoipa::path(patch, path = "/detections", tag = "detections", request_body = DetectionsChange,
    responses((status = 200, body = ChangedDetections)))]
pub(super) async fn change_detections(
    State(state): State<ApiState>,
    caller: Caller,
    Json(change): Json<DetectionsChange>,
) -> Result<Response, Refused> {
    if !(1..=MOST_CHANGED).contains(&change.ids.len()) {
        let detail = format!("ids: 1 to {MOST_CHANGED}, not {}", change.ids.len());
        return Err(Refused::bad("ids", detail));
    }
    for id in &change.ids {
        find(&state, &caller, id).await?;
    }
    let said = Said {
        status: change.status,
        note: change.note,
        expected: change.expected,
    };
    let mut items = Vec::with_capacity(change.ids.len());
    for id in &change.ids {
        let changed = state.store.change_detection(id, &said, &caller.actor).await?;
        items.push(changed);
        state.detections.forget();
    }
    Ok(axum::Json(ChangedDetections { items }).into_response())
}

/// A detection.
#[utoipa::path(get, path = "/detections/{id}", tag = "detections", params(ById),
    responses((status = 200, body = Detection)))]
pub(super) async fn get_detection(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    Ok(axum::Json(find(&state, &caller, &id).await?).into_response())
}

/// Says what becomes of a detection.
///
/// Whoever does is in the audit log, with the note.
#[utoipa::path(patch, path = "/detections/{id}", tag = "detections", params(ById), request_body = DetectionChange,
    responses((status = 200, body = Detection)))]
pub(super) async fn change_detection(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
    Json(change): Json<DetectionChange>,
) -> Result<Response, Refused> {
    let before = find(&state, &caller, &id).await?;
    let said = Said {
        status: change.status,
        note: change.note,
        expected: change.expected,
    };
    let changed = state
        .store
        .change_detection(&before.id, &said, &caller.actor)
        .await?;
    state.detections.forget();
    Ok(axum::Json(changed).into_response())
}

/// A detection that the caller may see; one that it may not is not told from one that is not there.
async fn find(state: &ApiState, caller: &Caller, id: &str) -> Result<Detection, Refused> {
    let found = state.store.detection(id).await.map_err(errors::of_query)?;
    if caller.owns(found.job["owner"].as_str().unwrap_or_default()) {
        return Ok(found);
    }
    Err(Refused::not_found(format!("there is no detection {id:?}")))
}
