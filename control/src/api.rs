//! The HTTP API: what people, scripts and autoscalers ask of the control plane.
//!
//! Owns the routes below `/api/v1`, who may use which ([`access`]), what requests must look like ([`extract`]), and that
//! every refusal is a problem document ([`problem`]). Handlers decide nothing themselves: rules about what is stored are
//! the store's, precedence is the policy crate's, leases are the hub's. Served by [`crate::server`].
//!
//! The OpenAPI document is made from the handlers and compared with `control/openapi.json` by a test.

#![allow(
    unused_qualifications,
    reason = "utoipa's attribute writes the types of parameters with their paths"
)]

mod access;
mod attachments;
mod auth;
mod baselines;
mod block;
mod check;
mod coverage;
mod detections;
mod documents;
mod draft;
mod effective;
mod errors;
mod etag;
mod events;
mod extract;
mod fall_back;
mod gateways;
mod harden_runner;
mod impact;
mod jobs;
mod leases;
mod lists;
mod login;
mod memo;
mod openapi;
mod policies;
mod policy_list;
pub mod problem;
mod propose;
mod runs;
mod scopes;
mod seen;
mod sessions;
mod sets;
mod settings;
mod simulate;
mod state;
mod stats;
mod suppressions;
mod system;
mod tokens;
mod turns;
mod unidentified;
mod versions;
mod who_allows;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;

use self::access::PREFIX;
use self::problem::{Code, Refused};

pub use settings::Deployment;
pub use state::{ApiState, Clock};

/// How long a request may take, its body included.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API. Requests carry the address of their sender as `ConnectInfo<SocketAddr>`; without it, all share one allowance
/// for wrong tokens.
pub fn router(state: ApiState) -> Router {
    let (router, _) = OpenApiRouter::new()
        .nest(PREFIX, openapi::routes())
        .merge(openapi::foreign_routes())
        .split_for_parts();
    router
        // Where probes look.
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/version", get(system::version))
        .fallback(no_route)
        .layer(from_fn_with_state(state.clone(), access::guard))
        // Every handler that reads a body says how much itself.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(bounded))
        .with_state(state)
}

/// The OpenAPI document, as it is served.
pub fn openapi() -> &'static str {
    openapi::text()
}

async fn no_route(request: Request) -> Refused {
    let detail = format!(
        "there is nothing at {}; see {PREFIX}/openapi.json",
        request.uri().path()
    );
    Refused::not_found(detail)
}

/// Bounds a request in time, and says what no answer of an API is for.
async fn bounded(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(PATIENCE, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| {
        let detail = format!("the request took longer than {} s", PATIENCE.as_secs());
        let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Timeout, detail);
        refused.retry_after(1).into_response()
    });
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
