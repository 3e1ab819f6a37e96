//! Suppression rules: what is expected, so that nobody is told again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::errors;
use super::extract::{Json, Names, Params};
use super::jobs::ById;
use super::lists::{Paging, page_request};
use super::problem::Refused;
use super::state::ApiState;
use crate::baseline::DetectionType;
use crate::baseline::rule::Suppression;
use crate::model::Page;
use crate::store::SuppressionDraft;

/// A rule to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSuppression {
    /// Detections of this type only.
    #[serde(default, rename = "type")]
    kind: Option<DetectionType>,
    /// Of this owner's jobs only. Rules for everybody are made by tokens without limits.
    #[serde(default)]
    owner: Option<String>,
    /// Of this repository's (`owner/name`) only.
    #[serde(default)]
    repo: Option<String>,
    /// Of this workflow file's only; goes with `repo`.
    #[serde(default)]
    workflow: Option<String>,
    /// An endpoint pattern; without a port, every port and protocol.
    #[schema(example = "*.corp.example")]
    endpoint: String,
    /// Reached by this process only, by its path or the last part of it. Covers what a host agent reported, nothing else.
    #[serde(default)]
    #[schema(max_length = 255)]
    process: Option<String>,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// When it ends by itself.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A rule that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeSuppression {
    /// The rule.
    #[serde(flatten)]
    rule: Suppression,
    /// Detections that were new and that it covers; they are suppressed now.
    suppressed: u64,
}

/// Suppression rules, newest first. A token with limits sees those of its owners.
#[utoipa::path(get, path = "/detection-suppressions", tag = "detections", params(Paging),
    responses((status = 200, body = Page<Suppression>)))]
pub(super) async fn list_suppressions(
    State(state): State<ApiState>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Response, Refused> {
    let page = page_request(paging)?;
    let found = state
        .store
        .suppressions(&caller.owners(), &page)
        .await
        .map_err(errors::of_query)?;
    Ok(axum::Json(found).into_response())
}

/// Makes a suppression rule.
///
/// What it covers is stored as suppressed from then on, and what is new of it is suppressed at once. An endpoint that it
/// covers belongs to the baselines in which it is detected.
#[utoipa::path(post, path = "/detection-suppressions", tag = "detections", request_body = NewSuppression,
    responses((status = 201, body = MadeSuppression)))]
pub(super) async fn add_suppression(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewSuppression>,
) -> Result<Response, Refused> {
    let of_repo = new.repo.as_deref().and_then(|repo| repo.split('/').next());
    match new.owner.as_deref().or(of_repo) {
        Some(owner) => caller.check_owner(owner)?,
        None => caller.check_unlimited("a rule without `owner` or `repo`")?,
    }
    let draft = SuppressionDraft {
        kind: new.kind,
        owner: new.owner,
        repo: new.repo,
        workflow: new.workflow,
        endpoint: new.endpoint,
        process: new.process,
        reason: new.reason,
        expires_at: new.expires_at,
    };
    let (rule, suppressed) = state.store.add_suppression(&draft, &caller.actor).await?;
    let made = MadeSuppression { rule, suppressed };
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// Removes a suppression rule. What it suppressed stays so.
#[utoipa::path(delete, path = "/detection-suppressions/{id}", tag = "detections", params(ById),
    responses((status = 204, description = "Removed")))]
pub(super) async fn remove_suppression(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let rule = state.store.suppression(&id).await.map_err(errors::of_query)?;
    let own = match &rule.owner {
        Some(owner) => caller.owns(owner),
        None => !caller.is_limited(),
    };
    if !own {
        return Err(Refused::not_found(format!("there is no suppression {id:?}")));
    }
    state
        .store
        .remove_suppression(&id, &caller.actor)
        .await
        .map_err(errors::of_query)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
