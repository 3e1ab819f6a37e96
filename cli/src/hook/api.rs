//! The runner API's client, for hooks: one request after another, each bounded in time and size.
//!
//! Owns what a refusal means for people. It asks the gateway directly, whatever proxy the environment names (a token would
//! go there), follows no redirect, and believes only the CA it is told.

use std::error::Error;
use std::fmt;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_control_wire::text::{cut, printable};

use super::settings::Reach;
use crate::Usage;

/// Largest answer, in bytes: a summary with all the destinations it can list.
const MAX_ANSWER: usize = 8 << 20;
/// Longest sentence of a refusal that is shown, in characters.
const MAX_DETAIL: usize = 600;

/// A client of one runner API.
pub(super) struct RunnerApi {
    http: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(super) struct Answer {
    body: Vec<u8>,
    server: String,
}

/// Why a request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No answer came.
    #[error("can't reach the gateway at {server}: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is a refusal.
    #[error(transparent)]
    Refused(Refusal),
    /// The answer is none of this API's.
    #[error("the answer of {server} is not understood: {reason}")]
    Strange {
        /// Its address.
        server: String,
        /// What is odd about it.
        reason: String,
    },
}

/// A refusal, with the gateway's own sentence.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The kind of refusal; empty when it is none of the gateway's.
    pub(super) code: String,
    detail: String,
    /// Seconds to wait before trying again.
    retry_after: Option<u64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (HTTP {})", self.detail, self.status.as_u16())
    }
}

impl Error for Refusal {}

impl CallError {
    /// The kind of refusal, if it is one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(refusal.code.as_str()),
            Self::Unreachable { .. } | Self::Strange { .. } => None,
        }
    }

    /// Whole seconds after which it may be better, or `None` when asking again is no use.
    pub(super) fn temporary(&self) -> Option<u64> {
        match self {
            Self::Unreachable { .. } => Some(0),
            Self::Refused(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => {
                Some(refusal.retry_after.unwrap_or_default())
            }
            Self::Refused(_) | Self::Strange { .. } => None,
        }
    }

    /// What people can do about it.
    pub(super) fn advice(&self) -> &'static str {
        let Self::Refused(refusal) = self else {
            return "run `tidegate doctor --from-runner` on this machine";
        };
        match refusal.code.as_str() {
            "unauthorized" | "token-gone" => {
                "give this machine a runner token that is good (`tidegate token create --role runner`), in the file that \
                 `tidegate hook install --token-file` names"
            }
            "forbidden" => {
                "use a runner token whose owners, repositories and networks cover this job, or correct what it says of \
                 itself"
            }
            "quarantined" => {
                "start each job on a fresh machine, or have the network say `runners: persistent` if its machines are \
                 used again"
            }
            "held" => {
                "end the other job (`tidegate lease end --source ADDRESS`) or register this one by a stronger credential \
                 (--oidc)"
            }
            "unbound" => "give this machine addresses of its own and let it speak from one of them only",
            "replayed" => "each OIDC token registers one job: don't hand them on",
            "rate-limited" | "busy" | "unavailable" | "internal" => {
                "try again; `tidegate status` on the gateway says how it is"
            }
            "" | "not-found" | "method-not-allowed" => {
                "check the address: is it a Tidegate gateway's runner API, and of this version?"
            }
            _ => "`tidegate doctor --from-runner` on this machine may say more",
        }
    }
}

/// What is read of a problem document (RFC 9457).
#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

impl RunnerApi {
    pub(super) fn new(reach: &Reach) -> Result<Self, Usage> {
        let mut builder = Client::builder()
            .user_agent(concat!("tidegate-hook/", env!("CARGO_PKG_VERSION")))
            .timeout(reach.timeout)
            .no_proxy()
            .https_only(true)
            .redirect(Policy::none());
        if let Some(ca) = &reach.ca {
            builder = builder.tls_certs_only(ca.clone());
        }
        let http = builder
            .build()
            .map_err(|error| Usage(format!("TLS can't be used: {}", innermost(&error))))?;
        Ok(Self {
            http,
            url: reach.api.clone(),
            authorization: reach.authorization.clone(),
        })
    }

    /// Asks for a page.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, CallError> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Says something, with the runner token where there is one.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, CallError> {
        let request = self.said(path, body);
        self.send(match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        })
        .await
    }

    /// Says something that brings its own credential.
    pub(super) async fn post_bare(&self, path: &str, body: Vec<u8>) -> Result<Answer, CallError> {
        self.send(self.said(path, body)).await
    }

    fn said(&self, path: &str, body: Vec<u8>) -> RequestBuilder {
        let request = self.request(Method::POST, path);
        request.header(CONTENT_TYPE, "application/json").body(body)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // The paths are this program's own.
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path()));
        self.http.request(method, url).header(ACCEPT, "application/json")
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, CallError> {
        let server = self.url.to_string();
        let unreachable = |error: reqwest::Error| CallError::Unreachable {
            server: server.clone(),
            reason: cause(&error),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let body = body_of(&mut response).await.map_err(|error| match error {
            BodyError::Broken(error) => unreachable(error),
            BodyError::TooLong => CallError::Strange {
                server: server.clone(),
                reason: format!("it is larger than {} MiB", MAX_ANSWER >> 20),
            },
        })?;
        if !response.status().is_success() {
            return Err(CallError::Refused(refusal(&response, &body, &server)));
        }
        Ok(Answer { body, server })
    }
}

impl Answer {
    /// The body as it is meant.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| CallError::Strange {
            server: self.server.clone(),
            reason: shown(&error.to_string()),
        })
    }
}

enum BodyError {
    Broken(reqwest::Error),
    TooLong,
}

async fn body_of(response: &mut Response) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

fn refusal(response: &Response, body: &[u8], server: &str) -> Refusal {
    let status = response.status();
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let detail = if problem.detail.is_empty() {
        let title = status.canonical_reason().unwrap_or("an error");
        format!("{server} answers {title:?} and does not say why; is it a gateway's runner API?")
    } else {
        shown(&problem.detail)
    };
    Refusal {
        status,
        code: problem.code,
        detail,
        retry_after: header(response, RETRY_AFTER).and_then(|text| text.parse().ok()),
    }
}

fn shown(text: &str) -> String {
    cut(&printable(text), MAX_DETAIL).into_owned()
}

/// Why no answer came, in few words.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let text = innermost(error);
    if text.contains("invalid peer certificate") {
        return format!("{text}; the CA of the runner API is named with --ca");
    }
    shown(&text)
}

/// The innermost cause: the ones around it name layers of libraries.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
