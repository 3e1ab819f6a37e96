//! A form that arrives after its session ended: nothing is done, and nothing that was typed is lost.
//!
//! Owns the page that holds the form until its person has signed in again. It stands behind the check for forms of other
//! sites, so what it shows again came from a page of ours.

use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::timeout;

use crate::form::pairs;
use crate::page::{Page, show_with};
use crate::text::Text;
use crate::{EDITOR_BODY, Ui, guard, session};

/// Forms that are held at once. More are sent to the login page.
pub(crate) const AT_ONCE: usize = 2;
/// How long one may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is held of one, in bytes: a document and all that stands beside it.
const MOST: usize = 2 << 20;
/// Forms that need no session, or hold nothing.
const WITHOUT: &[&str] = &["/ui/login", "/ui/logout", "/ui/theme"];

#[derive(Template)]
#[template(path = "resume.html")]
struct Resume {
    page: Page,
    to: String,
    fields: Vec<(String, String)>,
}

impl Resume {
    /// Fields that a person may have typed much into, to be seen.
    fn typed(&self) -> impl Iterator<Item = (Text, &str)> {
        let long = |(_, value): &&(String, String)| value.contains('\n');
        self.fields
            .iter()
            .filter(long)
            .map(|(name, value)| (Text::from(name.as_str()), value.as_str()))
    }
}

/// Holds a form whose session is over; lets everything else pass.
pub(crate) async fn hold(State(ui): State<Ui>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if !is_over(&ui, &parts).await {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Nobody is signed in here: what one form costs is bounded, and how many are held at once.
    let Ok(place) = ui.holding.try_acquire() else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    let fields = read(&parts, body).await;
    let held = show_with(
        StatusCode::FORBIDDEN,
        &Resume {
            page: session::stranger(&parts, "Your session ended"),
            to: parts
                .uri
                .path_and_query()
                .map_or("/ui/", |path| path.as_str())
                .to_owned(),
            fields,
        },
    );
    drop(place);
    held
}

/// True for a form that nobody stands behind any more. The cookie may be gone, too: another tab of the same browser was
/// sent to the login page, or signed out, while this form was being filled in.
async fn is_over(ui: &Ui, parts: &Parts) -> bool {
    if parts.method != Method::POST || WITHOUT.contains(&parts.uri.path()) || guard::is_part(&parts.headers) {
        return false;
    }
    match session::api_of(ui, parts) {
        Some(api) => session::is_over(&api).await,
        None => true,
    }
}

/// What was typed; nothing when it is no form, comes too slowly, or is larger than any of ours.
async fn read(parts: &Parts, body: Body) -> Vec<(String, String)> {
    let mut request = Request::from_parts(parts.clone(), body);
    DefaultBodyLimit::max(EDITOR_BODY).apply(&mut request);
    let Ok(Ok(fields)) = timeout(PATIENCE, pairs(request, &())).await else {
        return Vec::new();
    };
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size <= MOST { fields } else { Vec::new() }
}
