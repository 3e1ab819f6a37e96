//! Detections: listed, looked at, dealt with.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::{Json, Names, Params};
use super::jobs::ById;
use super::lists::{Paging, page_request};
use super::problem::Refused;
use super::state::ApiState;
use crate::baseline::detection::Detection;
use crate::baseline::{DetectionType, Status};
use crate::model::Page;
use crate::store::{DetectionFilter, Said};

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
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
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
    responses((status = 200, body = Page<Detection>)))]
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
    Ok(axum::Json(found).into_response())
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
