//! Attaching policies to scopes, and detaching them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidegate_policy::job::{Scope, ScopeError};
use utoipa::ToSchema;

use super::auth::Caller;
use super::extract::{Json, Names};
use super::policies::Named;
use super::problem::Refused;
use super::state::ApiState;
use crate::model::Attachment;
use crate::store::AttachRequest;

/// Scopes in one request at most.
const MAX_SCOPES: usize = 1_000;

/// Where a policy is to be attached and detached, all of it or nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachmentChange {
    /// Scopes to take: `org:acme`, `repo:acme/web`, `workflow:acme/web/ci.yml`, `cluster:prod`.
    #[serde(default)]
    add: Vec<String>,
    /// Scopes to leave.
    #[serde(default)]
    remove: Vec<String>,
    /// Take scopes from the policies that hold them.
    #[serde(default)]
    replace: bool,
}

/// Attaches a policy to scopes, and detaches it from others.
///
/// A scope holds one policy. `replace` takes it from another; without, that is a conflict which names the holder.
#[utoipa::path(post, path = "/orgs/{owner}/policies/{name}/attachments", tag = "policies", params(Named),
    request_body = AttachmentChange, responses((status = 200, body = Attachment)))]
pub(super) async fn change_attachments(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Named { owner, name }): Names<Named>,
    Json(change): Json<AttachmentChange>,
) -> Result<Response, Refused> {
    caller.check_owner(&owner)?;
    let request = AttachRequest {
        add: scopes("add", &change.add)?,
        remove: scopes("remove", &change.remove)?,
        replace: change.replace,
    };
    for scope in request.add.iter().chain(&request.remove) {
        caller.check_scope(scope)?;
    }
    let attachment = state.store.attach(&owner, &name, &request, &caller.actor).await?;
    Ok(axum::Json(attachment).into_response())
}

/// Scopes as people write them.
pub(super) fn scopes(field: &'static str, texts: &[String]) -> Result<Vec<Scope>, Refused> {
    if texts.len() > MAX_SCOPES {
        return Err(Refused::invalid(
            field,
            format!("at most {MAX_SCOPES} scopes at once"),
        ));
    }
    let parse = |text: &String| {
        text.parse()
            .map_err(|error: ScopeError| Refused::invalid(field, error.to_string()))
    };
    texts.iter().map(parse).collect()
}
