//! The API as a page asks it: in the process, with the session's token, by requests of its own making.
//!
//! Owns how requests look and how refusals are read. Never hands on what a browser sent: only the address of its other
//! end, by which wrong tokens are counted.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use crate::error::Problem;

/// Below which the API lies.
const PREFIX: &str = "/api/v1";
/// Largest answer that a page reads: lists end at 8 MiB of text, which JSON may double.
pub(crate) const MAX_ANSWER: usize = 32 << 20;

/// The API, for one request of a browser. Paths are below `/api/v1`, made by [`crate::text::url`].
#[derive(Clone, Debug)]
pub(crate) struct Api {
    router: Router,
    bearer: Option<HeaderValue>,
    peer: Option<SocketAddr>,
}

/// A good answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A body that a request carries.
#[derive(Debug)]
pub(crate) struct Payload {
    media: &'static str,
    bytes: Vec<u8>,
}

impl Payload {
    /// A JSON body.
    pub(crate) fn json<B: Serialize>(body: &B) -> Self {
        Self {
            media: "application/json",
            // Plain data with text keys always serializes.
            bytes: serde_json::to_vec(body).unwrap_or_default(),
        }
    }

    /// A list, one entry a line.
    pub(crate) fn list(text: String) -> Self {
        Self {
            media: "text/plain; charset=utf-8",
            bytes: text.into_bytes(),
        }
    }

    fn none() -> Self {
        Self {
            media: "",
            bytes: Vec::new(),
        }
    }
}

impl Api {
    /// The API by a session's token, or by none.
    pub(crate) fn new(router: Router, bearer: Option<&str>, peer: Option<SocketAddr>) -> Self {
        let shown = |text: &str| HeaderValue::try_from(format!("Bearer {text}")).ok();
        Self {
            router,
            bearer: bearer.and_then(shown),
            peer,
        }
    }

    /// `GET`, read as JSON. Fields that `T` does not have are skipped.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.fetch(path).await?.json()
    }

    /// `GET` with its headers: for an `ETag`.
    pub(crate) async fn fetch(&self, path: &str) -> Result<Reply, Problem> {
        let request = self.request(Method::GET, path);
        self.ask(request, Payload::none()).await
    }

    /// `POST` of a JSON body.
    pub(crate) async fn post<B: Serialize>(&self, path: &str, body: &B) -> Result<Reply, Problem> {
        self.send(Method::POST, path, None, Payload::json(body)).await
    }

    /// A change. `tag` is the `ETag` of what was read, for `If-Match`.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        tag: Option<&str>,
        payload: Payload,
    ) -> Result<Reply, Problem> {
        let mut request = self.request(method, path);
        if let Some(tag) = tag.filter(|tag| !tag.is_empty()) {
            request = request.header(IF_MATCH, tag);
        }
        self.ask(request, payload).await
    }

    /// `DELETE`; `tag` as in [`Api::send`].
    pub(crate) async fn delete(&self, path: &str, tag: Option<&str>) -> Result<Reply, Problem> {
        self.send(Method::DELETE, path, tag, Payload::none()).await
    }

    /// `GET` of something long, handed on as it comes: event streams and exports. `carried` are headers of the browser's
    /// that the answer depends on, such as `Last-Event-ID`.
    pub(crate) async fn stream(
        &self,
        path: &str,
        accept: &'static str,
        carried: &[(HeaderName, HeaderValue)],
    ) -> Result<Response, Problem> {
        let mut request = self.request(Method::GET, path);
        if let Some(headers) = request.headers_mut() {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            headers.extend(carried.iter().cloned());
        }
        let response = self.call(request, Payload::none()).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(ACCEPT, "application/json")
            .header("tidegate-via", "ui");
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        if let (Some(peer), Some(extensions)) = (self.peer, request.extensions_mut()) {
            extensions.insert(ConnectInfo(peer));
        }
        request
    }

    async fn ask(&self, request: axum::http::request::Builder, payload: Payload) -> Result<Reply, Problem> {
        let response = self.call(request, payload).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_ANSWER)
            .await
            .map_err(|_| Problem::own("the answer is longer than a page can show; ask for less of it"))?;
        Ok(Reply {
            headers: parts.headers,
            body,
        })
    }

    async fn call(
        &self,
        mut request: axum::http::request::Builder,
        payload: Payload,
    ) -> Result<Response, Problem> {
        if !payload.media.is_empty() {
            request = request.header(CONTENT_TYPE, payload.media);
        }
        let request = request
            .body(Body::from(payload.bytes))
            .map_err(|_| Problem::own("this page's address can't be asked of the API"))?;
        // A router never fails; its error type says so.
        let Ok(response) = self.router.clone().oneshot(request).await;
        Ok(response)
    }
}

impl Reply {
    /// The body, as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| {
            tracing::error!(%error, "an answer of the API does not have the shape that a page expects");
            Problem::own("the page could not read what the API answered")
        })
    }

    /// The `ETag`; empty when there is none.
    pub(crate) fn tag(&self) -> &str {
        self.headers
            .get(ETAG)
            .and_then(|tag| tag.to_str().ok())
            .unwrap_or_default()
    }
}

/// Reads a refusal.
async fn refusal(response: Response) -> Problem {
    let (parts, body) = response.into_parts();
    let retry_after = parts
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    let read = to_bytes(body, MAX_ANSWER).await.unwrap_or_default();
    let mut problem: Problem = serde_json::from_slice(&read).unwrap_or_default();
    problem.status = parts.status.as_u16();
    problem.retry_after = retry_after;
    if problem.title.is_empty() {
        problem.title = title(parts.status);
    }
    problem
}

fn title(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("Problem").to_owned()
}
