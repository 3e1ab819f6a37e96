//! A policy's past: its versions, what differs between them, who changed what, and going back.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::documents;
use super::errors;
use super::etag;
use super::extract::{Json, Names, Params};
use super::lists::{Paging, page_request};
use super::policies::{Named, OfId, changed, expected, find, tail};
use super::problem::Refused;
use super::state::ApiState;
use crate::diff::{Diff, DiffRow};
use crate::model::{Apply, AuditEntry, Page, Policy, PolicyVersion};
use crate::store::StoreError;

/// Which version of which policy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Numbered {
    /// Organization.
    #[param(
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        example = "acme"
    )]
    owner: String,
    /// Name of the policy.
    #[param(min_length = 1, max_length = 100, example = "base")]
    name: String,
    /// From 1.
    #[param(minimum = 1)]
    version: u32,
}

/// Which two versions are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Between {
    /// The policy's id, for one that was deleted or whose name was given to another since.
    #[serde(default)]
    id: Option<String>,
    /// The older version; the one before `to` when nothing is said.
    #[serde(default)]
    #[param(minimum = 1)]
    from: Option<u32>,
    /// The newer version; the newest when nothing is said.
    #[serde(default)]
    #[param(minimum = 1)]
    to: Option<u32>,
}

/// Which part of a policy's history, or of its versions, is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryOf {
    /// The policy's id, for one that was deleted or whose name was given to another since.
    #[serde(default)]
    id: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Entries at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// What differs between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionDiff {
    /// The older version; 0 for what was before the first.
    from: u32,
    /// The newer version.
    to: u32,
    /// As `diff -u` writes it; empty when nothing differs.
    unified: String,
    /// The same for two columns.
    side_by_side: Vec<DiffRow>,
    /// Lines that were added.
    added: u32,
    /// Lines that were removed.
    removed: u32,
    /// There is more than is shown here.
    truncated: bool,
}

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// The version whose text becomes the newest.
    #[schema(minimum = 1)]
    to: u32,
    /// For whom; `now` when nothing is said.
    #[serde(default)]
    apply: Option<Apply>,
}

/// What happened to a policy, newest first.
///
/// `detail` of an entry that tells of a new version has its `diff`.
#[utoipa::path(get, path = "/orgs/{owner}/policies/{name}/history", tag = "policies", params(Named, HistoryOf),
    responses((status = 200, body = Page<AuditEntry>)))]
pub(super) async fn policy_history(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    Params(which): Params<HistoryOf>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let policy = find(&state, &named, which.id.as_deref())
        .await
        .map_err(errors::of_query)?;
    let found = state
        .store
        .history(&policy.id, &page)
        .await
        .map_err(errors::of_query)?;
    Ok(axum::Json(found).into_response())
}

/// The versions of a policy, newest first.
#[utoipa::path(get, path = "/orgs/{owner}/policies/{name}/versions", tag = "policies", params(Named, HistoryOf),
    responses((status = 200, body = Page<PolicyVersion>)))]
pub(super) async fn list_versions(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    Params(which): Params<HistoryOf>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let policy = find(&state, &named, which.id.as_deref())
        .await
        .map_err(errors::of_query)?;
    let found = state
        .store
        .versions_of(&policy.id, &page)
        .await
        .map_err(errors::of_query)?;
    Ok(axum::Json(found).into_response())
}

/// One version of a policy.
#[utoipa::path(get, path = "/orgs/{owner}/policies/{name}/versions/{version}", tag = "policies",
    params(Numbered, OfId, ("If-None-Match" = Option<String>, Header, description = "the `ETag` that was read before")),
    responses(
        (status = 200, content((PolicyVersion = "application/json"), (String = "application/yaml")),
            headers(("ETag" = String))),
        (status = 304, description = "Not changed since", headers(("ETag" = String)))))]
pub(super) async fn get_version(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Numbered { owner, name, version }): Names<Numbered>,
    Params(of): Params<OfId>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    caller.check_owner(&owner)?;
    let named = Named { owner, name };
    let policy = find(&state, &named, of.id.as_deref())
        .await
        .map_err(errors::of_query)?;
    let found = read(&state, &policy, version).await.map_err(errors::of_query)?;
    documents::shown(&headers, (found.version, tail(&policy.id)), &found.yaml, &found)
}

async fn read(state: &ApiState, policy: &Policy, version: u32) -> Result<PolicyVersion, StoreError> {
    let found = state.store.version_of(&policy.id, version).await?;
    found.ok_or_else(|| StoreError::NotFound {
        what: format!("version {version} of policy {}/{}", policy.owner, policy.name),
    })
}

/// What differs between two versions of a policy.
#[utoipa::path(get, path = "/orgs/{owner}/policies/{name}/diff", tag = "policies", params(Named, Between),
    responses((status = 200, body = VersionDiff)))]
pub(super) async fn diff_versions(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    Params(between): Params<Between>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let policy = find(&state, &named, between.id.as_deref())
        .await
        .map_err(errors::of_query)?;
    for (field, version) in [("from", between.from), ("to", between.to)] {
        if version == Some(0) {
            return Err(Refused::bad(field, "versions are counted from 1"));
        }
    }
    let to = between.to.unwrap_or(policy.version);
    let from = between.from.unwrap_or(to.saturating_sub(1));
    let version = |number: u32| read(&state, &policy, number);
    let right = version(to).await.map_err(errors::of_query)?.yaml;
    let left = match from {
        0 => String::new(),
        from => version(from).await.map_err(errors::of_query)?.yaml,
    };
    // A large one takes a while: not on a thread that others wait for.
    let diff = tokio::task::spawn_blocking(move || Diff::of(&left, &right))
        .await
        .map_err(|_| errors::internal("the versions could not be compared"))?;
    let what = format!("{}/{}", policy.owner, policy.name);
    let unified = match diff.unified.as_str() {
        "" => String::new(),
        hunks => format!("--- {what} (version {from})\n+++ {what} (version {to})\n{hunks}"),
    };
    let told = VersionDiff {
        from,
        to,
        unified,
        side_by_side: diff.side_by_side,
        added: diff.added,
        removed: diff.removed,
        truncated: diff.truncated,
    };
    Ok(axum::Json(told).into_response())
}

/// Goes back to an older version: its text becomes a new one.
#[utoipa::path(post, path = "/orgs/{owner}/policies/{name}/rollback", tag = "policies",
    params(Named, ("If-Match" = String, Header, description = "the `ETag` that was read, or `*`")),
    request_body = Rollback, responses((status = 200, body = Policy, headers(("ETag" = String)))))]
pub(super) async fn rollback_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    headers: HeaderMap,
    Json(Rollback { to, apply }): Json<Rollback>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let expected = expected(&state, &named, &headers).await?;
    let expected = expected.ok_or_else(|| etag::required(&format!("policy {}", named.name)))?;
    let Named { owner, name } = &named;
    let policy = state
        .store
        .rollback_policy(
            owner,
            name,
            expected,
            to,
            apply.unwrap_or_default(),
            &caller.actor,
        )
        .await?;
    Ok(changed(policy))
}
