//! Policies: created, read, changed, deleted.

use axum::extract::{Request, State};
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::job::Scope;
use utoipa::{IntoParams, ToSchema};

use super::access::PREFIX;
use super::auth::Caller;
use super::baselines::{self, FromBaseline};
use super::documents::{self, Written, check_size, written};
use super::errors;
use super::etag::{self, Tag};
use super::extract::{Names, Params};
use super::fall_back;
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{Apply, DeletePreview, Policy};
use crate::store::{Expected, StoreError};

/// Whose policies.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Owner {
    /// Organization.
    #[param(
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        example = "acme"
    )]
    pub(super) owner: String,
}

/// Which policy, or which set.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Named {
    /// Organization.
    #[param(
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        example = "acme"
    )]
    pub(super) owner: String,
    /// Name, unique among the owner's.
    #[param(min_length = 1, max_length = 100, example = "base")]
    pub(super) name: String,
}

/// Which of the policies that had a name.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfId {
    /// The policy's id, for one that was deleted or whose name was given to another since.
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// A policy to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPolicy {
    /// Unique among the owner's: letters, digits, `-`, `_`, `.` and spaces.
    #[schema(min_length = 1, max_length = 100, example = "base")]
    name: String,
    /// The document.
    #[serde(default)]
    #[schema(example = "egress-policy: block\nallowed-endpoints: >\n  github.com:443\n")]
    yaml: Option<String>,
    /// From what jobs were seen to reach, instead of `yaml`.
    #[serde(default)]
    from_baseline: Option<FromBaseline>,
}

/// A change of a policy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyUpdate {
    /// The document.
    #[schema(example = "egress-policy: audit\n")]
    yaml: String,
    /// For whom; `now` when nothing is said.
    #[serde(default)]
    apply: Option<Apply>,
}

/// Beside a body that is the document itself.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NameBeside {
    /// Name of the policy, with an `application/yaml` body.
    #[serde(default)]
    #[param(max_length = 100)]
    name: Option<String>,
}

/// Beside a body that is the document itself.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyBeside {
    /// For whom, with an `application/yaml` body.
    #[serde(default)]
    #[param(inline)]
    apply: Option<Apply>,
}

/// Whether a policy is deleted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteHow {
    /// Show what would be done, and do nothing.
    #[serde(default)]
    dry_run: Option<bool>,
    /// `shown` of a dry run: refuse the deletion when it would not be what was shown there any more.
    #[serde(default)]
    shown: Option<String>,
}

/// What was done, or what would be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum DeleteAnswer {
    /// It would be done.
    Preview(DeletePreview),
    /// It is done.
    Done(Deleted),
}

/// What a deleted policy left behind. Nothing else is in it, by which it is told from a preview.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deleted {
    /// Its id, by which its history is still found.
    id: String,
    /// Scopes that it held.
    detached: Vec<String>,
}

/// Makes a policy.
///
/// From JSON, or from the document itself with its name in the query; or from a baseline, which becomes a document that
/// says where it comes from.
#[utoipa::path(post, path = "/orgs/{owner}/policies", tag = "policies", params(Owner, NameBeside),
    request_body(content((NewPolicy = "application/json"), (Value = "application/yaml"))),
    responses((status = 201, body = Policy, headers(("ETag" = String), ("Location" = String)))))]
pub(super) async fn create_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Owner { owner }): Names<Owner>,
    Params(beside): Params<NameBeside>,
    request: Request,
) -> Result<Response, Refused> {
    caller.check_owner(&owner)?;
    let (name, yaml) = match (written::<NewPolicy>(request).await?, beside.name) {
        (Written::Json(_), Some(_)) => return Err(beside_json("name")),
        (Written::Json(new), None) => (new.name.clone(), document_of(&state, &caller, &owner, new).await?),
        (Written::Yaml(yaml), Some(name)) => (name, yaml),
        (Written::Yaml(_), None) => {
            let detail = "name the policy in the query: ?name=…, or send JSON with `name` and `yaml`";
            return Err(Refused::bad("name", detail));
        }
    };
    check_size(&yaml)?;
    let policy = state
        .store
        .create_policy(&owner, &name, &yaml, &caller.actor)
        .await
        .map_err(documents::wrong(&yaml, &name))?;
    let place = format!(
        "{PREFIX}/orgs/{}/policies/{}",
        encoded(&policy.owner),
        encoded(&policy.name)
    );
    let place = HeaderValue::from_str(&place).map_err(|_| errors::internal("a place that is no header"))?;
    let told = [(ETAG, tag(&policy).header()), (LOCATION, place)];
    Ok((StatusCode::CREATED, told, axum::Json(policy)).into_response())
}

/// 400 for a parameter that goes with the other kind of body.
fn beside_json(field: &'static str) -> Refused {
    let detail =
        format!("`{field}` stands in the JSON body; in the query it goes with a body of application/yaml");
    Refused::bad(field, detail)
}

async fn document_of(
    state: &ApiState,
    caller: &Caller,
    owner: &str,
    new: NewPolicy,
) -> Result<String, Refused> {
    match (new.yaml, new.from_baseline) {
        (Some(yaml), None) => Ok(yaml),
        (None, Some(from)) => baselines::document(state, caller, owner, from).await,
        (Some(_), Some(_)) => Err(Refused::invalid(
            "from_baseline",
            "name either `yaml` or `from_baseline`",
        )),
        (None, None) => Err(Refused::invalid(
            "yaml",
            "missing field `yaml`: the policy's document; or `from_baseline`: whose jobs show what it allows",
        )),
    }
}

/// The policy of a name, or the one with an id that had this name.
pub(super) async fn find(state: &ApiState, named: &Named, id: Option<&str>) -> Result<Policy, StoreError> {
    let Some(id) = id else {
        return state.store.policy(&named.owner, &named.name).await;
    };
    let policy = state.store.policy_by_id(id).await?;
    if policy.owner == named.owner.to_lowercase() && policy.name == named.name {
        return Ok(policy);
    }
    Err(StoreError::NotFound {
        what: format!("policy {}/{} with the id {id:?}", named.owner, named.name),
    })
}

/// A policy, as JSON with everything about it, or as YAML as it was written.
///
/// One that was deleted is found by its id; `deleted_at` says when.
#[utoipa::path(get, path = "/orgs/{owner}/policies/{name}", tag = "policies",
    params(Named, OfId, ("If-None-Match" = Option<String>, Header, description = "the `ETag` that was read before")),
    responses(
        (status = 200, content((Policy = "application/json"), (String = "application/yaml")),
            headers(("ETag" = String))),
        (status = 304, description = "Not changed since", headers(("ETag" = String)))))]
pub(super) async fn get_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    Params(of): Params<OfId>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let policy = find(&state, &named, of.id.as_deref())
        .await
        .map_err(errors::of_query)?;
    documents::shown(
        &headers,
        (policy.version, tail(&policy.id)),
        &policy.yaml,
        &policy,
    )
}

/// Changes a policy: a new version.
#[utoipa::path(put, path = "/orgs/{owner}/policies/{name}", tag = "policies",
    params(Named, ApplyBeside, ("If-Match" = String, Header, description = "the `ETag` that was read, or `*`")),
    request_body(content((PolicyUpdate = "application/json"), (Value = "application/yaml"))),
    responses((status = 200, body = Policy, headers(("ETag" = String)))))]
pub(super) async fn update_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    Params(beside): Params<ApplyBeside>,
    request: Request,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let expected = expected(&state, &named, request.headers()).await?;
    let expected = expected.ok_or_else(|| etag::required(&format!("policy {}", named.name)))?;
    let (yaml, apply) = match (written::<PolicyUpdate>(request).await?, beside.apply) {
        (Written::Json(_), Some(_)) => return Err(beside_json("apply")),
        (Written::Json(update), None) => (update.yaml, update.apply),
        (Written::Yaml(yaml), apply) => (yaml, apply),
    };
    check_size(&yaml)?;
    let Named { owner, name } = &named;
    let policy = state
        .store
        .update_policy(
            owner,
            name,
            expected,
            &yaml,
            apply.unwrap_or_default(),
            &caller.actor,
        )
        .await
        .map_err(documents::wrong(&yaml, name))?;
    Ok(changed(policy))
}

/// A policy after a change.
pub(super) fn changed(policy: Policy) -> Response {
    ([(ETAG, tag(&policy).header())], axum::Json(policy)).into_response()
}

/// Deletes a policy. It is detached everywhere first; its history stays.
///
/// A dry run tells from which scopes, and what their jobs would fall back to.
#[utoipa::path(delete, path = "/orgs/{owner}/policies/{name}", tag = "policies",
    params(Named, DeleteHow, ("If-Match" = Option<String>, Header, description = "the `ETag` that was read")),
    responses((status = 200, body = DeleteAnswer)))]
pub(super) async fn delete_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    Params(how): Params<DeleteHow>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let Named { owner, name } = &named;
    let policy = state.store.policy(owner, name).await.map_err(errors::of_query)?;
    // A limited token can't undo what others attached beyond its owners.
    for scope in policy
        .attachments
        .iter()
        .filter_map(|scope| scope.parse::<Scope>().ok())
    {
        caller.check_scope(&scope)?;
    }
    let expected = expected(&state, &named, &headers).await?;
    if how.dry_run.unwrap_or(false) {
        let mut preview = state
            .store
            .preview_delete(owner, name)
            .await
            .map_err(errors::of_query)?;
        let left = preview.detached.iter().map(|scope| (scope.clone(), None));
        fall_back::fill(&state, &mut preview.falls_back, &left.collect()).await?;
        return Ok(axum::Json(DeleteAnswer::Preview(preview)).into_response());
    }
    let detached = state
        .store
        .delete_policy_as_shown(owner, name, (expected, how.shown.as_deref()), &caller.actor)
        .await
        .map_err(errors::of_query)?;
    let deleted = Deleted {
        id: policy.id,
        detached,
    };
    Ok(axum::Json(DeleteAnswer::Done(deleted)).into_response())
}

/// What `If-Match` asks of a policy; `None` when it is absent. 412 when it does not hold now; the store looks again
/// inside of the transaction.
pub(super) async fn expected(
    state: &ApiState,
    named: &Named,
    headers: &HeaderMap,
) -> Result<Option<Expected>, Refused> {
    let condition = etag::if_match(headers)?;
    let Some(condition) = condition else {
        return Ok(None);
    };
    let current = state
        .store
        .policy(&named.owner, &named.name)
        .await
        .map_err(errors::of_query)?;
    if condition == etag::Condition::Any {
        return Ok(Some(Expected::Any));
    }
    if condition.allows_change_of(&tag(&current)) {
        return Ok(Some(Expected::Version(current.version)));
    }
    Err(etag::stale(
        &format!("policy {}/{}", current.owner, current.name),
        current.version,
    ))
}

/// The tag of a policy's version, whatever the representation.
fn tag(policy: &Policy) -> Tag {
    Tag::new(policy.version, tail(&policy.id), b"")
}

/// The last characters of an id: random ones, enough to tell two policies of one name apart.
pub(super) fn tail(id: &str) -> &str {
    id.len()
        .checked_sub(6)
        .and_then(|from| id.get(from..))
        .unwrap_or(id)
}

/// A path segment, percent-encoded.
fn encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a text can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
