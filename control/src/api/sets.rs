//! Endpoint sets: lists that an owner's policies share by `use:`.

use axum::extract::{Request, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::documents::{self, Written, check_size, written};
use super::errors;
use super::etag::{self, Condition, Tag};
use super::extract::{Names, Params};
use super::lists::{Fields, Paging, page_request, searched};
use super::policies::{Named, Owner};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{Page, Set, SetSummary};
use crate::store::{Expected, StoreError};

/// An endpoint set to be written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetUpdate {
    /// The document: a list of endpoints, or a mapping with `endpoints`.
    #[schema(example = "- git.example:443\n")]
    yaml: String,
}

/// Which sets are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichSets {
    /// Part of the name, in any case.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// `all`, or `summary`: what a table shows, without the documents.
    #[serde(default)]
    #[param(inline)]
    fields: Option<Fields>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A set of a list, as `fields` asked for it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ListedSet {
    /// Everything.
    Whole(Box<Set>),
    /// What a table shows.
    Summary(SetSummary),
}

/// Endpoint sets of an owner, by name.
#[utoipa::path(get, path = "/orgs/{owner}/endpoint-sets", tag = "endpoint-sets", params(Owner, WhichSets),
    responses((status = 200, body = Page<ListedSet>)))]
pub(super) async fn list_sets(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Owner { owner }): Names<Owner>,
    Params(which): Params<WhichSets>,
) -> Result<Response, Refused> {
    caller.check_owner(&owner)?;
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let search = searched(which.search)?;
    let found = match which.fields.unwrap_or_default() {
        Fields::All => {
            let found = state.store.sets(&owner, search.as_deref(), &page).await;
            let Page { items, next } = found.map_err(errors::of_query)?;
            let whole = |set| ListedSet::Whole(Box::new(set));
            Page {
                items: items.into_iter().map(whole).collect(),
                next,
            }
        }
        Fields::Summary => {
            let found = state.store.set_summaries(&owner, search.as_deref(), &page).await;
            let Page { items, next } = found.map_err(errors::of_query)?;
            Page {
                items: items.into_iter().map(ListedSet::Summary).collect(),
                next,
            }
        }
    };
    Ok(axum::Json(found).into_response())
}

/// An endpoint set, as JSON with everything about it, or as YAML as it was written.
#[utoipa::path(get, path = "/orgs/{owner}/endpoint-sets/{name}", tag = "endpoint-sets",
    params(Named, ("If-None-Match" = Option<String>, Header, description = "the `ETag` that was read before")),
    responses(
        (status = 200, content((Set = "application/json"), (String = "application/yaml")),
            headers(("ETag" = String))),
        (status = 304, description = "Not changed since", headers(("ETag" = String)))))]
pub(super) async fn get_set(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Named { owner, name }): Names<Named>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    caller.check_owner(&owner)?;
    let set = state.store.set(&owner, &name).await.map_err(errors::of_query)?;
    documents::shown(&headers, (set.version, &identity(&set)), &set.yaml, &set)
}

/// Writes an endpoint set, a new one too. Policies that use it follow at once.
#[utoipa::path(put, path = "/orgs/{owner}/endpoint-sets/{name}", tag = "endpoint-sets",
    params(Named,
        ("If-Match" = Option<String>, Header, description = "the `ETag` that was read, or `*`; absent for a new set"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only a new set")),
    request_body(content((SetUpdate = "application/json"), (Value = "application/yaml"))),
    responses((status = 200, body = Set, headers(("ETag" = String))),
        (status = 201, body = Set, headers(("ETag" = String)))))]
pub(super) async fn put_set(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    request: Request,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let expected = expected(&state, &named, request.headers(), Purpose::Write).await?;
    let yaml = match written::<SetUpdate>(request).await? {
        Written::Json(update) => update.yaml,
        Written::Yaml(yaml) => yaml,
    };
    check_size(&yaml)?;
    let Named { owner, name } = &named;
    let set = state
        .store
        .put_set(owner, name, expected, &yaml, &caller.actor)
        .await
        .map_err(documents::wrong(&yaml, name))?;
    let status = if set.version == 1 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let tag = Tag::new(set.version, &identity(&set), b"");
    Ok((status, [(ETAG, tag.header())], axum::Json(set)).into_response())
}

/// Deletes an endpoint set that no policy uses.
#[utoipa::path(delete, path = "/orgs/{owner}/endpoint-sets/{name}", tag = "endpoint-sets",
    params(Named, ("If-Match" = Option<String>, Header, description = "the `ETag` that was read")),
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete_set(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let expected = expected(&state, &named, &headers, Purpose::Delete).await?;
    let Named { owner, name } = &named;
    state
        .store
        .delete_set(owner, name, expected, &caller.actor)
        .await
        .map_err(errors::of_query)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a condition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Write,
    Delete,
}

/// What the headers ask of a set. Writing over one needs `If-Match`; the store looks again inside of the transaction.
async fn expected(
    state: &ApiState,
    named: &Named,
    headers: &HeaderMap,
    purpose: Purpose,
) -> Result<Option<Expected>, Refused> {
    let condition = etag::if_match(headers)?;
    let none = etag::if_none_match(headers)?;
    let what = format!("endpoint set {}/{}", named.owner, named.name);
    let current = match state.store.set(&named.owner, &named.name).await {
        Ok(set) => Some(set),
        Err(StoreError::NotFound { .. }) if purpose == Purpose::Write => None,
        Err(error) => return Err(errors::of_query(error)),
    };
    let tag = current
        .as_ref()
        .map(|set| Tag::new(set.version, &identity(set), b""));
    match (condition, tag) {
        (None, None) => Ok(Some(Expected::Absent)),
        (None, Some(tag)) if none.is_some_and(|none| none.names(&tag)) => {
            Err(etag::stale(&what, tag.version))
        }
        (None, Some(_)) if purpose == Purpose::Write => Err(etag::required(&what)),
        (None, Some(_)) => Ok(None),
        (Some(_), None) => Err(etag::nothing_matches(&what)),
        (Some(Condition::Any), Some(_)) => Ok(Some(Expected::Any)),
        (Some(condition), Some(tag)) if condition.allows_change_of(&tag) => {
            Ok(Some(Expected::Version(tag.version)))
        }
        (Some(_), Some(tag)) => Err(etag::stale(&what, tag.version)),
    }
}

/// Tells a set from an earlier one of its name: sets have no id, and two are never written in the same microsecond.
pub(super) fn identity(set: &Set) -> String {
    format!("{:x}", set.updated_at.as_microsecond())
}
