//! Refusals of the runner API as problem documents (RFC 9457): what was wrong, where, and what to do about it.
//!
//! Owns the document's shape and its closed set of codes, which are spelled as the control plane's. A refusal never says
//! whose job stands in the way, only how well that one is known: who asks may be anybody on the link.

use std::net::IpAddr;

use hyper::StatusCode;
use serde::Serialize;
use tidegate_control_wire::claim::Refusal;
use tidegate_policy::lease::RegisterError;

use crate::jobs::{AskError, AuthError, EndError, MonitorError, StartError};

/// The media type of problem documents.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// What kind of refusal it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// No credential, or not a good one.
    Unauthorized,
    /// The credential may not do this.
    Forbidden,
    /// There is no such page.
    NotFound,
    /// No job is registered for the source.
    NoJob,
    /// The page exists, not for this method.
    MethodNotAllowed,
    /// The body is larger than is read.
    TooLarge,
    /// The body did not come in time.
    Timeout,
    /// The body is no JSON, or not of the shape that is read.
    Syntax,
    /// A field or parameter that does not make sense.
    Invalid,
    /// Too many wrong credentials from this address.
    RateLimited,
    /// Too much at once, or not yet: trying again helps.
    Busy,
    /// Credentials can't be checked here now.
    Unavailable,
    /// The OIDC token was used for another job.
    Replayed,
    /// Another job holds the source.
    Held,
    /// The source's job has ended, and its machine has not changed.
    Quarantined,
    /// The source's machine is not known, or holds a job by other addresses.
    Unbound,
    /// The token was revoked or has expired meanwhile.
    TokenGone,
    /// The program failed.
    Internal,
}

/// A problem document with the headers that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) detail: String,
    /// The field or parameter that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
    /// Seconds to wait.
    #[serde(skip)]
    pub(super) retry_after: Option<u64>,
    /// Methods that the page has.
    #[serde(skip)]
    pub(super) allow: Option<&'static str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A refusal with its sentence.
    pub(super) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            code,
            detail: detail.into(),
            field: None,
            retry_after: None,
            allow: None,
        }
    }

    pub(super) fn not_found() -> Self {
        let detail = "there are /v1/jobs, /v1/jobs/current, /v1/jobs/current/end, /v1/why, /v1/summary.md, \
                      /v1/summary.json, /why/NAME and the Harden-Runner \
                      clients' /v1/github/…";
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, detail)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let detail = format!("this page has {allow}");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, detail)
        }
    }

    pub(super) fn rate_limited(wait: u64) -> Self {
        let detail = format!("too many wrong credentials came from this address; try again in {wait} s");
        Self::later(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, detail, wait)
    }

    pub(super) fn too_many_claims(wait: u64) -> Self {
        let detail = format!("too many jobs were claimed from this address; try again in {wait} s");
        Self::later(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, detail, wait)
    }

    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail, 1)
    }

    pub(super) fn no_job(source: IpAddr) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            Code::NoJob,
            format!("no job is registered for {source}"),
        )
    }

    pub(super) fn invalid(field: &'static str, why: &str) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, Code::Invalid, format!("{field}: {why}"))
        }
    }

    /// True when somebody showed a credential that is not good: what a guesser does.
    pub(super) fn is_failed_proof(&self) -> bool {
        matches!(self.code, Code::Unauthorized | Code::Replayed | Code::TokenGone)
    }

    fn later(status: StatusCode, code: Code, detail: impl Into<String>, wait: u64) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(status, code, detail)
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Json(_) => Self::new(StatusCode::BAD_REQUEST, Code::Syntax, error.to_string()),
            AskError::Field { field, why } => Self::invalid(field, &why),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        match error {
            AuthError::Proof(_) => Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, detail),
            AuthError::NeverSynced => {
                Self::later(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, detail, 5)
            }
            AuthError::NoControl => Self::new(StatusCode::FORBIDDEN, Code::Forbidden, detail),
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        let (conflict, forbidden) = (StatusCode::CONFLICT, StatusCode::FORBIDDEN);
        let mut detail = error.to_string();
        let (status, code) = match error {
            RegisterError::Held {
                source_address,
                assurance,
                ..
            } => {
                detail = format!(
                    "{source_address} is held by another job, which is known by {}; only a stronger credential replaces it",
                    assurance.as_str()
                );
                (conflict, Code::Held)
            }
            RegisterError::Quarantined(_) => (conflict, Code::Quarantined),
            RegisterError::Unbound(_) => (conflict, Code::Unbound),
            RegisterError::Foreign(_)
            | RegisterError::Network(_)
            | RegisterError::NotNamed(_)
            | RegisterError::Cluster { .. } => (forbidden, Code::Forbidden),
            RegisterError::SourceCount(_) | RegisterError::Apart(..) => {
                (StatusCode::BAD_REQUEST, Code::Invalid)
            }
            RegisterError::DuplicateId(_) | RegisterError::Full => return Self::busy(detail),
        };
        Self::new(status, code, detail)
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        match error {
            StartError::Ask(error) => error.into(),
            StartError::Auth(error) => error.into(),
            StartError::Lease(error) => error.into(),
            StartError::Replayed => Self::new(StatusCode::CONFLICT, Code::Replayed, text),
            StartError::Control { code, detail } => {
                let (status, code) = match code {
                    Refusal::Replayed => (StatusCode::CONFLICT, Code::Replayed),
                    Refusal::Held => (StatusCode::CONFLICT, Code::Held),
                    Refusal::TokenGone => (StatusCode::UNAUTHORIZED, Code::TokenGone),
                    Refusal::Invalid => (StatusCode::BAD_REQUEST, Code::Invalid),
                };
                Self::new(status, code, detail)
            }
            StartError::Outbox(_) | StartError::TooManyProofs => Self::busy(text),
        }
    }
}

impl From<EndError> for Problem {
    fn from(error: EndError) -> Self {
        let detail = error.to_string();
        match error {
            EndError::NoJob(source) => Self::no_job(source),
            EndError::Auth(error) => error.into(),
            EndError::Scope(error) => error.into(),
            EndError::Weaker(_) | EndError::OtherJob(_) | EndError::NotByJob(_) => {
                Self::new(StatusCode::FORBIDDEN, Code::Forbidden, detail)
            }
        }
    }
}

impl From<MonitorError> for Problem {
    fn from(error: MonitorError) -> Self {
        match error {
            MonitorError::Ask(error) => error.into(),
            MonitorError::Lease(error) => error.into(),
            MonitorError::Outbox(error) => Self::busy(error.to_string()),
        }
    }
}
