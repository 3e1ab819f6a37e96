//! Refusals of the API as problem documents (RFC 9457): what was wrong, where, and what to do about it.
//!
//! Owns the document's shape and its closed set of codes; every answer above 399 that leaves the API is one of these,
//! those of the framework (404, 405) included.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::document::Diagnostic;
use tidegate_policy::document::render::{Style, render_all, summary};
use utoipa::ToSchema;

use crate::document::views;
use crate::model::DiagnosticView;

/// The media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What kind of refusal it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// No token, or not a good one.
    Unauthorized,
    /// The token may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path exists, not for this method.
    MethodNotAllowed,
    /// No representation that the request accepts.
    NotAcceptable,
    /// Something stands in the way.
    Conflict,
    /// It changed since it was read.
    Stale,
    /// The request has to say which version it means (`If-Match`).
    PreconditionRequired,
    /// The body, or a document in it, is larger than is read.
    TooLarge,
    /// A body of a kind that is not read here.
    UnsupportedMediaType,
    /// The body is no JSON, or not in UTF-8.
    Syntax,
    /// A field or parameter that is not known.
    UnknownField,
    /// A field, parameter or header that does not make sense.
    Invalid,
    /// A policy, endpoint set or block list with errors; `diagnostics` says which and where.
    Document,
    /// Too many wrong tokens from this address.
    RateLimited,
    /// Too much at once.
    Busy,
    /// The database can't be reached.
    Unavailable,
    /// It took longer than a request may.
    Timeout,
    /// What is stored can't be read, or the program failed.
    Internal,
    /// The proof was used for another job.
    Replayed,
    /// Another job holds the source.
    Held,
    /// The token was revoked or has expired meanwhile.
    TokenGone,
    /// No gateway serves the sources.
    NoGateway,
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells kinds apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// Which kind of refusal.
    pub code: Code,
    /// What was wrong and what to do, in sentences.
    pub detail: String,
    /// The field, parameter or header that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Line of the body, from 1, where it is not JSON or a value does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in that line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The version that it is at, when the request meant another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u32>,
    /// What is wrong with a document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<DiagnosticView>,
    /// The same for people, with lines and carets, as `tidegate check` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<String>,
}

/// A refusal on its way out: a problem document and the headers that belong to it.
#[derive(Clone, Debug)]
pub(crate) struct Refused(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    problem: Problem,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refused {
    /// A refusal with its sentence.
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        let problem = Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Problem").into(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            field: None,
            line: None,
            column: None,
            current: None,
            diagnostics: Vec::new(),
            rendered: None,
        };
        Self(Box::new(Inner {
            problem,
            headers: Vec::new(),
        }))
    }

    /// 400: a parameter, header or name that does not make sense.
    pub(crate) fn bad(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::Invalid, detail).field(field)
    }

    /// 422: a field of the body that does not make sense.
    pub(crate) fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Invalid, detail).field(field)
    }

    /// 403.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, detail)
    }

    /// 401, with the challenge that RFC 6750 §3 asks for; `error` is absent when no token was shown.
    pub(crate) fn unauthorized(error: Option<&'static str>, detail: impl Into<String>) -> Self {
        let challenge = match error {
            None => HeaderValue::from_static("Bearer realm=\"tidegate\""),
            Some("invalid_request") => {
                HeaderValue::from_static("Bearer realm=\"tidegate\", error=\"invalid_request\"")
            }
            Some(_) => HeaderValue::from_static("Bearer realm=\"tidegate\", error=\"invalid_token\""),
        };
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, detail).header(WWW_AUTHENTICATE, challenge)
    }

    /// 422: a document with errors. `name` is what the rendered text calls it.
    pub(crate) fn document(diagnostics: &[Diagnostic], text: &str, name: &str) -> Self {
        let detail = format!("the document has errors: {}", summary(diagnostics));
        let mut refused = Self::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Document, detail);
        refused.0.problem.diagnostics = views(diagnostics);
        refused.0.problem.rendered = Some(rendered(diagnostics, text, name));
        refused
    }

    /// Names the field, parameter or header.
    pub(crate) fn field(mut self, field: &str) -> Self {
        self.0.problem.field = Some(field.to_owned());
        self
    }

    /// Names the place in the body.
    pub(crate) fn place(mut self, line: usize, column: usize) -> Self {
        self.0.problem.line = u32::try_from(line).ok();
        self.0.problem.column = u32::try_from(column).ok();
        self
    }

    /// Says at which version it is.
    pub(crate) fn current(mut self, version: u32) -> Self {
        self.0.problem.current = Some(version);
        self
    }

    /// Says when to come again.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.0.problem.status
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Inner { problem, headers } = *self.0;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Plain data with text keys always serializes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let told = response.headers_mut();
        told.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        for (name, value) in headers {
            told.insert(name, value);
        }
        response
    }
}

/// Diagnostics for people.
pub(crate) fn rendered(diagnostics: &[Diagnostic], text: &str, name: &str) -> String {
    let style = Style {
        file: name,
        colour: false,
    };
    render_all(diagnostics, text, style)
}
