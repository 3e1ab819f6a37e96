//! Refusals: as the API says them, and as pages show them.
//!
//! Owns the shape of a problem document on this side, and the error page. What went wrong is the API's sentence; what to
//! do beside it is said here.

use std::ops::{Deref, DerefMut};

use askama::Template;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use crate::page::Page;
use crate::text::Text;

/// A problem document (RFC 9457) of the API: [`Told`], in a box, since it travels in every `Result`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Problem(Box<Told>);

/// What a problem document says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// Which kind: `conflict`, `stale`, `document`, … as the API's document lists them.
    pub(crate) code: String,
    pub(crate) title: String,
    /// What was wrong and what to do, in sentences.
    pub(crate) detail: Text,
    /// The field that it is about.
    pub(crate) field: Option<Text>,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
    /// The version that it is at, when another was meant.
    pub(crate) current: Option<u32>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Seconds, where it is worth coming again.
    #[serde(skip)]
    pub(crate) retry_after: Option<u64>,
}

/// Something to say about a place in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Diagnostic {
    /// `error`, `warning` or `note`.
    pub(crate) severity: Text,
    /// From 1.
    pub(crate) line: u32,
    /// From 1.
    pub(crate) column: u32,
    pub(crate) length: u32,
    pub(crate) message: Text,
    pub(crate) hint: Option<Text>,
}

impl Deref for Problem {
    type Target = Told;

    fn deref(&self) -> &Told {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut Told {
        &mut self.0
    }
}

impl Problem {
    /// A failure of the UI itself.
    pub(crate) fn own(detail: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// A refusal of the UI's own.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Text>) -> Self {
        Self(Box::new(Told {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            detail: detail.into(),
            ..Told::default()
        }))
    }

    /// The request was understood and refused for what it says: it belongs beside the form that was sent. Everything
    /// else gets a page of its own.
    pub(crate) fn is_about_input(&self) -> bool {
        matches!(self.status, 400 | 403 | 409 | 412 | 413 | 422 | 428)
    }

    /// Somebody changed it since it was read.
    pub(crate) fn is_stale(&self) -> bool {
        self.code == "stale"
    }

    /// What to do, where the sentence alone does not say it.
    pub(crate) fn advice(&self) -> &'static str {
        match self.status {
            403 => "Your role or your organizations don't include this. An admin can give you another token.",
            404 => {
                "It may have been renamed or deleted; the history of a policy and the audit log say by whom."
            }
            409 | 412 | 428 => {
                "Somebody changed it meanwhile. Go back, load it again and look at what is there now."
            }
            413 => "It is larger than is read here. Split it.",
            429 => "Wait a little, then try again.",
            503 => "Nothing was changed. It is busy or can't reach its database; try again in a moment.",
            500..=599 => "Nothing you did. The log of the control plane says more.",
            _ => "",
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// How a handler ends when it can't answer. On its way out the error page is drawn around it ([`crate::guard`]), which
/// knows who is asking.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl Failure {
    /// What was refused, to be shown beside the form again; `Err` where it is no matter of the input.
    pub(crate) fn problem(problem: Problem) -> Result<Problem, Self> {
        if problem.is_about_input() {
            return Ok(problem);
        }
        Err(problem.into())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// A problem on its way through the layers.
#[derive(Clone, Debug)]
pub(crate) struct Pending(pub(crate) Problem);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.0.status().into_response();
        response.extensions_mut().insert(Pending(self.0));
        response
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    page: Page,
    problem: &'a Problem,
}

#[derive(Template)]
#[template(path = "error_fragment.html")]
struct ErrorFragment<'a> {
    problem: &'a Problem,
}

/// The error page.
pub(crate) fn whole(page: Page, problem: &Problem) -> Response {
    answer(problem, ErrorPage { page, problem }.render())
}

/// The same for a part of a page.
pub(crate) fn fragment(problem: &Problem) -> Response {
    answer(problem, ErrorFragment { problem }.render())
}

fn answer(problem: &Problem, rendered: askama::Result<String>) -> Response {
    let body = rendered.unwrap_or_else(|_| "The page could not be made.".to_owned());
    let mut response = (problem.status(), Html(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
