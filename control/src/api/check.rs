//! Checking a document without storing it: the same diagnostics as `tidegate check`, with the owner's endpoint sets.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::document::diagnostic::Severity;
use tidegate_policy::document::{Diagnostic, ParseOptions};
use utoipa::ToSchema;

use super::auth::Caller;
use super::documents::check_size;
use super::errors;
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
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        example = "acme"
    )]
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
    /// The parsed form of a policy, as a stored one has it; null for one with errors, and for a set.
    #[schema(value_type = Option<Object>)]
    parsed: Option<serde_json::Value>,
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
    let sets = state.store.set_names(&request.owner).await?;
    let options = ParseOptions {
        strict: state.store.is_strict(),
    };
    // A megabyte of YAML takes a while: not on a thread that others wait for.
    let checked = tokio::task::spawn_blocking(move || check(&request, &sets, options))
        .await
        .map_err(|_| errors::internal("the document could not be read"))?;
    Ok(axum::Json(checked).into_response())
}

fn check(request: &CheckRequest, sets: &[String], options: ParseOptions) -> Checked {
    let (diagnostics, parsed) = match request.kind {
        DocumentKind::Policy => policy(request, sets, options),
        DocumentKind::EndpointSet => match CheckedSet::check(&request.yaml, &options) {
            Ok(checked) => (checked.diagnostics, None),
            Err(errors) => (errors, None),
        },
    };
    Checked {
        ok: diagnostics.iter().all(|one| one.severity != Severity::Error),
        diagnostics: views(&diagnostics),
        rendered: rendered(&diagnostics, &request.yaml, "document"),
        parsed,
    }
}

fn policy(
    request: &CheckRequest,
    sets: &[String],
    options: ParseOptions,
) -> (Vec<Diagnostic>, Option<serde_json::Value>) {
    let checked = match CheckedPolicy::check(&request.yaml, &options) {
        Ok(checked) => checked,
        Err(diagnostics) => return (diagnostics, None),
    };
    let mut diagnostics = unknown_sets(&request.yaml, &checked.sets, sets, &request.owner);
    diagnostics.extend(checked.diagnostics);
    diagnostics.sort_by_key(|one| (one.line, one.column, std::cmp::Reverse(one.severity)));
    (diagnostics, Some(checked.parsed))
}
