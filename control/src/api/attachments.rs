//! Attaching policies to scopes, and detaching them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::job::{Scope, ScopeError};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::{LargeJson, Names, Params};
use super::fall_back::{self, Changed};
use super::policies::Named;
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{AttachPreview, Attachment, FallBack, PolicyMode};
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
    /// `shown` of a dry run: refuse the change when it would not be what was shown there any more.
    #[serde(default)]
    shown: Option<String>,
}

/// Whether anything is done.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRun {
    /// Show what would be done, and do nothing.
    #[serde(default)]
    dry_run: Option<bool>,
}

/// What was done, or what would be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Attached {
    /// It is done.
    Done(Box<Attachment>),
    /// It would be done.
    Preview(AttachPreview),
}

/// Attaches a policy to scopes, and detaches it from others.
///
/// A scope holds one policy. `replace` takes it from another; without, that is a conflict which names the holder. A dry
/// run tells what would be replaced, what jobs would fall back to, and warnings; with its `shown`, the change itself is a
/// conflict when something differs by then.
#[utoipa::path(post, path = "/orgs/{owner}/policies/{name}/attachments", tag = "policies", params(Named, DryRun),
    request_body = AttachmentChange, responses((status = 200, body = Attached)))]
pub(super) async fn change_attachments(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Named { owner, name }): Names<Named>,
    Params(dry): Params<DryRun>,
    LargeJson(change): LargeJson<AttachmentChange>,
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
    if dry.dry_run.unwrap_or(false) {
        let mut preview = state.store.preview_attach(&owner, &name, &request).await?;
        let changed = changed(&owner, &name, &preview);
        fall_back::fill(&state, &mut preview.falls_back, &changed).await?;
        return Ok(axum::Json(Attached::Preview(preview)).into_response());
    }
    let asked = (&request, change.shown.as_deref());
    let attachment = state
        .store
        .attach_as_shown(&owner, &name, asked, &caller.actor)
        .await?;
    Ok(axum::Json(Attached::Done(Box::new(attachment))).into_response())
}

/// Who would hold the scopes.
fn changed(owner: &str, name: &str, preview: &AttachPreview) -> Changed {
    let own = |scope: &String| {
        let holder = (preview.mode != PolicyMode::None).then(|| FallBack {
            scope: scope.clone(),
            owner: owner.to_owned(),
            policy: name.to_owned(),
            mode: preview.mode,
        });
        (scope.clone(), holder)
    };
    let left = preview.detach.iter().map(|scope| (scope.clone(), None));
    preview.attach.iter().map(own).chain(left).collect()
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
