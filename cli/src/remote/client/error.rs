//! What went wrong between here and the control plane, as one sentence.
//!
//! Owns what is read of problem documents; the sentence itself is the server's where there is one.

use std::error::Error;

use reqwest::header::{HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tidegate_control::model::DiagnosticView;

use super::{ANSWER, CONNECT};
use crate::remote::show;

/// Why a request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No answer came.
    #[error("can't reach the control plane {server}: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is a refusal.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The answer is none of this API's.
    #[error("the answer of {server} is not understood: {reason}")]
    Strange {
        /// Its address.
        server: String,
        /// What is odd about it.
        reason: String,
    },
}

/// A refusal. Its sentence is the server's.
#[derive(Debug, thiserror::Error)]
#[error("{sentence} (HTTP {status})")]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: u16,
    sentence: String,
    /// What is wrong with the document that was sent.
    pub(crate) diagnostics: Vec<DiagnosticView>,
}

/// What is read of a problem document (RFC 9457). Anything may be missing: a proxy in between knows nothing of it.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    detail: String,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    diagnostics: Vec<DiagnosticView>,
}

impl CallError {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::Unreachable { .. } | Self::Strange { .. } => None,
        }
    }

    /// What is wrong with the document that was sent.
    pub(crate) fn diagnostics(&self) -> &[DiagnosticView] {
        match self {
            Self::Refused(refusal) => &refusal.diagnostics,
            Self::Unreachable { .. } | Self::Strange { .. } => &[],
        }
    }
}

/// What an answer above 299 means for people.
pub(super) fn refusal(response: &Response, body: &[u8], server: &str) -> Refusal {
    let status = response.status();
    let header = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    if status.is_redirection() {
        let place = header(LOCATION).unwrap_or("another place");
        return Refusal::new(
            status,
            format!("{server} sends us on to {place:?}; name that one with --server"),
        );
    }
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let mut sentence = problem.detail;
    if sentence.is_empty() {
        let title = status.canonical_reason().unwrap_or("an error");
        sentence = format!("{server} answers {title:?} and does not say why; is it a control plane?");
    }
    if let Some(field) = problem.field.filter(|field| !sentence.contains(field.as_str())) {
        sentence = format!("{field}: {sentence}");
    }
    if let Some(seconds) = header(RETRY_AFTER) {
        sentence = format!("{sentence}; try again in {seconds} s");
    }
    Refusal {
        diagnostics: problem.diagnostics,
        ..Refusal::new(status, sentence)
    }
}

impl Refusal {
    fn new(status: StatusCode, sentence: String) -> Self {
        Self {
            status: status.as_u16(),
            sentence: show::plain(&sentence),
            diagnostics: Vec::new(),
        }
    }
}

/// The innermost cause: the ones around it name layers of libraries.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return if error.is_connect() {
            format!("no connection within {} s", CONNECT.as_secs())
        } else {
            format!("no answer within {} s", ANSWER.as_secs())
        };
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if text.contains("invalid peer certificate") {
        return format!("{text}; a private CA is named with --ca");
    }
    text
}
