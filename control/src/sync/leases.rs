//! Leases on their way to the store: claims and ends, as gateways tell them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use tidegate_control_wire::claim::{Claim, End, Refusal};

use super::SyncState;
use super::auth::{Caller, problem, unavailable};
use crate::store::{ClaimError, StoreError};

/// `POST /sync/v1/leases`.
pub(super) async fn claim(
    State(state): State<SyncState>,
    caller: Caller,
    Json(claim): Json<Claim>,
) -> Response {
    let gateway = claim.lease.gateway.clone();
    let group = match group_of(&state, &caller, &gateway).await {
        Ok(group) => group,
        Err(refused) => return refused,
    };
    match state.hub.claim(&claim, &group, &gateway).await {
        Ok(granted) => Json(granted).into_response(),
        Err(ClaimError::Refused { code, detail }) => {
            let status = match code {
                Refusal::Replayed | Refusal::Held => StatusCode::CONFLICT,
                Refusal::TokenGone => StatusCode::FORBIDDEN,
                Refusal::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            };
            let code = serde_json::to_value(code).ok();
            let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or("invalid");
            problem(status, code, &detail)
        }
        Err(ClaimError::Store(error)) => unavailable(&error),
    }
}

/// `POST /sync/v1/leases/{id}/end`. Ending what has ended is no error: the word may have come twice.
pub(super) async fn end(
    State(state): State<SyncState>,
    caller: Caller,
    Path(id): Path<String>,
    Json(end): Json<End>,
) -> Response {
    let job = match state.store.job(&id).await {
        Ok(job) => job,
        Err(StoreError::NotFound { .. }) => return StatusCode::NO_CONTENT.into_response(),
        Err(error) => return unavailable(&error),
    };
    let group = match group_of(&state, &caller, &caller.name).await {
        Ok(group) => group,
        Err(refused) => return refused,
    };
    if group != job.group {
        // Said as what would be refused again: else the gateway, which tells in order, would tell nothing else any more.
        return problem(
            StatusCode::FORBIDDEN,
            "invalid",
            "the lease belongs to another group of gateways",
        );
    }
    match state.store.end_job(&id, Some(&job.group), &end).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => unavailable(&error),
    }
}

/// The group of the gateway that speaks. Its stream said it; without one the last known word counts.
async fn group_of(state: &SyncState, caller: &Caller, gateway: &str) -> Result<CompactString, Response> {
    if gateway.is_empty() || caller.name != gateway {
        let detail = format!("this token is not gateway {gateway:?}'s");
        return Err(problem(StatusCode::FORBIDDEN, "forbidden", &detail));
    }
    if let Some(group) = state.hub.group(gateway) {
        return Ok(group);
    }
    let known = state
        .store
        .gateways()
        .await
        .map_err(|error| unavailable(&error))?;
    let known = known.into_iter().find(|one| one.name == gateway);
    known.map(|one| one.group.into()).ok_or_else(|| {
        let detail = "this gateway was never connected; it opens its stream first";
        problem(StatusCode::CONFLICT, "invalid", detail)
    })
}
