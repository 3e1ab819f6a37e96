//! Checking a document without storing it: the same diagnostics as `tidegate check`, with the owner's endpoint sets.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::document::diagnostic::Severity;
use tidegate_policy::document::{Diagnostic, ParseOptions};
use utoipa::ToSchema;

use super::auth::Caller;
use super::documents::check_size;
use super::extract::LargeJson;
use super::problem::{Refused, rendered};
use super::state::ApiState;
use crate::document::{CheckedPolicy, CheckedSet, unknown_sets, views};
use crate::model::DiagnosticView;

/// A document to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckRequest {
    /// Whose endpoint sets it may use.
    #[schema(max_length = 255)]
    owner: String,
    /// The document.
    yaml: String,
    /// What it is.
    #[serde(default)]
    kind: DocumentKind,
}

/// Kinds of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DocumentKind {
    /// A policy.
    #[default]
    Policy,
    /// An endpoint set.
    EndpointSet,
}

/// What there is to say about a document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checked {
    /// It would be stored: no diagnostic is an error.
    ok: bool,
    /// Everything there is to say, in the order of the text.
    diagnostics: Vec<DiagnosticView>,
    /// The same for people, with lines and carets; empty when there is nothing to say.
    rendered: String,
}

/// Checks a document; stores nothing.
#[utoipa::path(post, path = "/check", tag = "policies", request_body = CheckRequest,
    responses((status = 200, body = Checked)))]
pub(super) async fn check_document(
    State(state): State<ApiState>,
    caller: Caller,
    LargeJson(request): LargeJson<CheckRequest>,
) -> Result<Response, Refused> {
    caller.check_owner(&request.owner)?;
    check_size(&request.yaml)?;
    let diagnostics = match request.kind {
        DocumentKind::Policy => policy(&state, &request.owner, &request.yaml).await?,
        DocumentKind::EndpointSet => {
            let options = options(&state);
            match CheckedSet::check(&request.yaml, &options) {
                Ok(checked) => checked.diagnostics,
                Err(errors) => errors,
            }
        }
    };
    let checked = Checked {
        ok: diagnostics.iter().all(|one| one.severity != Severity::Error),
        diagnostics: views(&diagnostics),
        rendered: rendered(&diagnostics, &request.yaml, "document"),
    };
    Ok(axum::Json(checked).into_response())
}

fn options(state: &ApiState) -> ParseOptions {
    ParseOptions {
        strict: state.store.is_strict(),
    }
}

async fn policy(state: &ApiState, owner: &str, yaml: &str) -> Result<Vec<Diagnostic>, Refused> {
    let checked = match CheckedPolicy::check(yaml, &options(state)) {
        Ok(checked) => checked,
        Err(diagnostics) => return Ok(diagnostics),
    };
    if checked.sets.is_empty() {
        return Ok(checked.diagnostics);
    }
    let known = state.store.set_names(owner).await?;
    let mut diagnostics = unknown_sets(yaml, &checked.sets, &known, owner);
    diagnostics.extend(checked.diagnostics);
    diagnostics.sort_by_key(|one| (one.line, one.column, std::cmp::Reverse(one.severity)));
    Ok(diagnostics)
}
