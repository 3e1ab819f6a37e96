//! What stands around every page: who may send forms, how long it may take, what the browser may do with it, and the
//! page that is shown when something was refused.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::percent_decode_str;
use tower_http::csrf::{CsrfLayer, ProtectionError, ResponseForProtectionError};

use crate::error::{self, Failure, Pending, Problem};
use crate::page::Whole;
use crate::session::Session;
use crate::{Ui, UiSettings, cookies};

/// How long a page may take until its first byte. The API gives up before, and says so better.
const PATIENCE: Duration = Duration::from_secs(40);
/// Sent by `load.js`: the answer becomes a part of a page.
pub(crate) const FRAGMENT: &str = "tidegate-fragment";

/// The policy of every page. Scripts, styles and images are this server's own; nothing is inline; nobody frames us.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Headers of every answer.
const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY),
    ("x-content-type-options", "nosniff"),
    // Not `no-referrer`: browsers would send `Origin: null` with our own forms.
    ("referrer-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Refuses forms that another site sent, by `Sec-Fetch-Site` and `Origin`.
pub(crate) fn csrf(settings: &UiSettings) -> CsrfLayer<Foreign> {
    let layer = CsrfLayer::new();
    let layer = match &settings.public_origin {
        // One that is no origin protects less only where `Host` is rewritten: its forms are refused.
        Some(origin) => layer.clone().add_trusted_origin(origin).unwrap_or(layer),
        None => layer,
    };
    layer.with_rejection_response(Foreign)
}

/// What a form from another site is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign;

impl ResponseForProtectionError<Body> for Foreign {
    fn response_for_protection_error(&mut self, _: ProtectionError) -> Response {
        let detail = "this form was not sent from a page of Tidegate; open the page here and send it again";
        Failure::from(Problem::new(StatusCode::FORBIDDEN, detail)).into_response()
    }
}

/// For a year nobody comes here by plain HTTP, where a first request could be led astray. Hosts below this one are left
/// alone: they may be somebody else's.
const STRICT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Sets what every answer carries.
pub(crate) async fn headers(State(ui): State<Ui>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if ui.settings.secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, STRICT);
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Bounds a page in time.
pub(crate) async fn bounded(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(PATIENCE, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the page took too long to make");
        problem.retry_after = Some(5);
        error::fragment(&problem)
    })
}

/// True when the answer is no page of its own: a fragment that a script asked for, or a stream of events.
pub(crate) fn is_part(headers: &HeaderMap) -> bool {
    let accepts_events = headers
        .get(axum::http::header::ACCEPT)
        .is_some_and(|accept| accept == "text/event-stream");
    headers.contains_key(FRAGMENT) || accepts_events
}

/// Draws the page around a refusal, and keeps the small cookies: what was said once is not said again, the organization
/// that was looked at is the one to begin with next time.
pub(crate) async fn explain(State(ui): State<Ui>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let asked = parts.clone();
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let secure = ui.settings.secure;
    if response.extensions().get::<Whole>().is_some() {
        let flashed = cookies::read(&asked.headers, cookies::FLASH).is_some();
        let seen = owner_in(asked.uri.path());
        let known = cookies::read(&asked.headers, cookies::OWNER);
        let gone = flashed.then(|| cookies::gone(secure, cookies::FLASH)).flatten();
        let owner = seen
            .filter(|owner| response.status().is_success() && Some(owner.as_str()) != known)
            .and_then(|owner| cookies::kept(secure, cookies::OWNER, &owner));
        for cookie in gone.into_iter().chain(owner) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        return response;
    }
    let Some(problem) = refused(&response, &asked.method) else {
        return response;
    };
    if problem.status == 401 {
        // The session ended between two questions.
        return crate::session::log_in_again(&ui, &asked);
    }
    if is_part(&asked.headers) {
        return error::fragment(&problem);
    }
    let page = Session::page_of(&ui, &asked, &problem.title).await;
    error::whole(page, &problem)
}

/// What was refused: by a handler, or by the framework in words of its own.
fn refused(response: &Response, method: &Method) -> Option<Problem> {
    if let Some(Pending(problem)) = response.extensions().get::<Pending>() {
        return Some(problem.clone());
    }
    let status = response.status();
    let ours = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media| !media.as_bytes().starts_with(b"text/plain"));
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let detail = match status {
        StatusCode::METHOD_NOT_ALLOWED => format!("this page does not take {method}"),
        StatusCode::PAYLOAD_TOO_LARGE => "the form is larger than is read here".to_owned(),
        StatusCode::NOT_FOUND => "there is no such page".to_owned(),
        _ => "the form or the address of the page does not make sense here".to_owned(),
    };
    Some(Problem::new(status, detail))
}

/// The organization that a page is about, in the lower case that they are told apart by, however its address writes it.
fn owner_in(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/ui/orgs/")?;
    let written = rest.split('/').next().filter(|owner| !owner.is_empty())?;
    let owner = percent_decode_str(written).decode_utf8().ok()?;
    Some(owner.to_lowercase())
}

/// There is nothing at this address.
pub(crate) async fn no_page() -> Response {
    let problem = Problem::new(StatusCode::NOT_FOUND, "there is no page at this address");
    Failure::from(problem).into_response()
}

/// Where people begin.
pub(crate) async fn front() -> Redirect {
    Redirect::to("/ui/")
}
