//! What a gateway asks of the control plane, over one HTTP/2 connection.
//!
//! Owns how requests are spelled and what answers mean; which of them are made when is [`super::client`]'s and the runner
//! API's. Every wait for an answer is bounded.

use std::time::Duration;

use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_control_wire::batch::BatchStored;
use tidegate_control_wire::claim::{Claim, End, Granted, Refusal};
use tidegate_control_wire::frame::{Ack, Hello, UnknownKey};
use tidegate_control_wire::{ACK_PATH, EVENTS_PATH, LEASES_PATH, STREAM_PATH, UNKNOWN_KEY_PATH};
use tokio::time::timeout;

use crate::events::ShipError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long control may take to say that the stream begins: it may be reading a large snapshot first.
const STREAM_PATIENCE: Duration = Duration::from_secs(15);
/// How long a batch of events may take to be stored: it may wait for its turn there.
const SHIP_PATIENCE: Duration = Duration::from_secs(15);
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Characters of a problem's text that are kept.
const MAX_DETAIL: usize = 400;

/// Why a lease, or its end, was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ClaimError {
    /// Control could not be asked, or did not answer in time. It may have recorded it all the same: asking again with the
    /// same id is safe.
    #[error("the control plane is away")]
    Away,
    /// Control refused, and would refuse again.
    #[error("the control plane refused: {detail}")]
    Refused {
        /// Why, for programs.
        code: Refusal,
        /// Why, for people.
        detail: String,
    },
}

/// A request that got no good answer.
#[derive(Debug, Error)]
pub(super) enum CallError {
    /// The connection broke.
    #[error("the connection to the control plane broke")]
    Broken(#[source] hyper::Error),
    /// No answer in time.
    #[error("the control plane did not answer in time")]
    Silent,
    /// An answer that says no.
    #[error("the control plane says {status}: {}", problem.text())]
    Status {
        /// Its status.
        status: StatusCode,
        /// What it said.
        problem: Problem,
    },
    /// Not what was asked for.
    #[error("the control plane's answer is not understood")]
    Answer(#[source] serde_json::Error),
    /// The answer is too long, or broke off.
    #[error("the control plane's answer can't be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is read of a problem document (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    title: String,
    detail: String,
    code: Option<serde_json::Value>,
}

impl Problem {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// What it says, cut to a length that a log bears.
    pub(super) fn text(&self) -> String {
        let text = if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        };
        text.chars()
            .filter(|c| !c.is_control())
            .take(MAX_DETAIL)
            .collect()
    }

    /// Why a lease was refused, where it is one of the reasons that this program knows.
    fn refusal(&self) -> Option<Refusal> {
        serde_json::from_value(self.code.clone()?).ok()
    }
}

/// A connection on which requests can be made. Cloning shares it.
#[derive(Clone)]
pub(super) struct Calls {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
    bearer: Option<HeaderValue>,
}

impl Calls {
    pub(super) fn new(sender: SendRequest<Full<Bytes>>, origin: &str, bearer: Option<HeaderValue>) -> Self {
        Self {
            sender,
            origin: origin.to_owned(),
            bearer,
        }
    }

    /// Opens the stream of changes.
    pub(super) async fn stream(&self, hello: &Hello) -> Result<Incoming, CallError> {
        let opened = timeout(STREAM_PATIENCE, self.post(STREAM_PATH, hello)).await;
        Ok(opened.map_err(|_| CallError::Silent)??.into_body())
    }

    /// Says what was put in force.
    pub(super) async fn ack(&self, ack: &Ack) -> Result<(), CallError> {
        self.ask(ACK_PATH, ack).await.map(drop)
    }

    /// Says that a token of this issuer names a key that was not synced.
    pub(super) async fn unknown_key(&self, issuer: &str) -> Result<(), CallError> {
        let issuer = issuer.to_owned();
        self.ask(UNKNOWN_KEY_PATH, &UnknownKey { issuer }).await.map(drop)
    }

    pub(super) async fn claim(&self, claim: &Claim) -> Result<Granted, ClaimError> {
        let answer = self.ask(LEASES_PATH, claim).await.map_err(refused)?;
        serde_json::from_slice(&answer).map_err(|error| refused(CallError::Answer(error)))
    }

    pub(super) async fn end(&self, id: &str, end: &End) -> Result<(), ClaimError> {
        let path = format!("{LEASES_PATH}/{id}/end");
        self.ask(&path, end).await.map(drop).map_err(refused)
    }

    /// Delivers a batch of events.
    pub(super) async fn ship(&self, batch: Bytes) -> Result<BatchStored, ShipError> {
        let asked = async {
            let answer = self.send(EVENTS_PATH, (NDJSON, batch)).await?;
            let answer = read(answer.into_body()).await?;
            serde_json::from_slice(&answer).map_err(CallError::Answer)
        };
        let answer = timeout(SHIP_PATIENCE, asked).await;
        answer.map_err(|_| CallError::Silent).flatten().map_err(unshipped)
    }

    /// The body of a good answer.
    async fn ask(&self, path: &str, body: &impl Serialize) -> Result<Bytes, CallError> {
        let asked = async {
            let answer = self.post(path, body).await?;
            read(answer.into_body()).await
        };
        timeout(PATIENCE, asked).await.map_err(|_| CallError::Silent)?
    }

    /// Sends a JSON body. Any answer but a good one is an error.
    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Response<Incoming>, CallError> {
        // Our own records are plain data with text keys: they serialize.
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.send(path, (JSON, body.into())).await
    }

    /// Sends a body. Any answer but a good one is an error.
    async fn send(
        &self,
        path: &str,
        (kind, body): (&'static str, Bytes),
    ) -> Result<Response<Incoming>, CallError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = format!("{}{path}", self.origin).parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(CallError::Broken)?;
        let answer = sender.send_request(request).await.map_err(CallError::Broken)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = timeout(PATIENCE, read(answer.into_body())).await;
        let problem = body.map(|body| body.map(|body| Problem::read(&body)));
        Err(CallError::Status {
            status,
            problem: problem
                .unwrap_or_else(|_| Ok(Problem::default()))
                .unwrap_or_default(),
        })
    }
}

async fn read(body: Incoming) -> Result<Bytes, CallError> {
    let whole = Limited::new(body, MAX_ANSWER).collect().await;
    whole.map(Collected::to_bytes).map_err(CallError::Body)
}

/// What an answer means for a batch. Only what would be refused again because of what is in it is a refusal: a token that
/// is not good for the moment passes, and so does a control plane that is too old to take events, or too busy.
fn unshipped(error: CallError) -> ShipError {
    let refused = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    let text = crate::appliance::chain(&error);
    match error {
        CallError::Status { status, .. } if refused.contains(&status) => ShipError::Refused(text),
        CallError::Status { .. }
        | CallError::Broken(_)
        | CallError::Silent
        | CallError::Answer(_)
        | CallError::Body(_) => ShipError::Later(text),
    }
}

/// What an answer means for a lease. Only what would be refused again is a refusal: a token that is not good for the
/// moment, a queue that is full or a store that is down pass, and the lease is kept to be told later.
fn refused(error: CallError) -> ClaimError {
    let CallError::Status { status, problem } = error else {
        tracing::debug!(
            error = crate::appliance::chain(&error),
            "a lease could not be recorded"
        );
        return ClaimError::Away;
    };
    let passes = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    match problem.refusal() {
        Some(code) => ClaimError::Refused {
            code,
            detail: problem.text(),
        },
        None if status.is_client_error() && !passes.contains(&status) => ClaimError::Refused {
            code: Refusal::Invalid,
            detail: format!("{status}: {}", problem.text()),
        },
        None => ClaimError::Away,
    }
}
