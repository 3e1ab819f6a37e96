//! The control plane itself: whether it is there, what it is, its gateways, its audit log.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::PROTOCOL;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::Params;
use super::lists::{Paging, page_request};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{AuditEntry, Page};
use crate::store::AuditFilter;

/// How it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

/// What it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct About {
    /// Version of the program.
    version: &'static str,
    /// Version of this API.
    api: &'static str,
    /// Version of what gateways and the control plane say to each other.
    protocol: u32,
}

/// Which part of the audit log is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichEntries {
    /// What concerns an owner.
    #[serde(default)]
    owner: Option<String>,
    /// By whom: a name as it stands in the log, or the id of a token or session.
    #[serde(default)]
    actor: Option<String>,
    /// By which way: `api`, `cli`, `ui`, …
    #[serde(default)]
    via: Option<String>,
    /// What was done: `policy.updated`, or with a `*` at its end the beginning of several (`policy.*`).
    #[serde(default)]
    action: Option<String>,
    /// To what: `policy acme/base`, or with a `*` at its end the beginning of several (`policy acme/*`).
    #[serde(default)]
    target: Option<String>,
    /// To the policy of this id.
    #[serde(default)]
    policy_id: Option<String>,
    /// Then and later.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Before.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// `next` of the page before: the number of its last entry.
    #[serde(default)]
    after: Option<String>,
    /// Entries at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `desc`, newest first, when nothing is said; `asc` to verify the chain.
    #[serde(default)]
    #[param(inline)]
    order: Order,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

/// The process is there.
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Response {
    axum::Json(Health { status: "ok" }).into_response()
}

/// It can answer: its database can be reached.
#[utoipa::path(get, path = "/readyz", tag = "system", responses((status = 200, body = Health)))]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Response, Refused> {
    // The cheapest question that needs an answer from the database.
    state.store.epoch().await.map_err(errors::of_query)?;
    Ok(axum::Json(Health { status: "ok" }).into_response())
}

/// What the program is.
#[utoipa::path(get, path = "/version", tag = "system", responses((status = 200, body = About)))]
pub(super) async fn version() -> Response {
    axum::Json(About {
        version: env!("CARGO_PKG_VERSION"),
        api: "v1",
        protocol: PROTOCOL,
    })
    .into_response()
}

/// What anybody changed, as a chain of hashes.
///
/// The chain is verified over all entries, so by a token without limits: `tidegate audit verify`.
#[utoipa::path(get, path = "/audit-log", tag = "system", params(WhichEntries),
    responses((status = 200, body = Page<AuditEntry>)))]
pub(super) async fn audit_log(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichEntries>,
) -> Result<Response, Refused> {
    let owner = caller.owner_filter(which.owner.as_deref())?;
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let newest_first = which.order == Order::Desc;
    let filter = AuditFilter {
        owner,
        policy_id: said(which.policy_id),
        actor: said(which.actor),
        via: said(which.via),
        action: said(which.action),
        target: said(which.target),
        since: which.since,
        until: which.until,
    };
    let found = state
        .store
        .audit_entries(&filter, &page, newest_first)
        .await
        .map_err(errors::of_query)?;
    Ok(axum::Json(found).into_response())
}

/// A field that was left empty in a form asks nothing.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
