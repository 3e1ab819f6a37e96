//! How pages look, and of which organization: choices that live in cookies of their own.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::error::Failure;
use crate::form::Fields;
use crate::page::{Area, Page, Theme, show};
use crate::session::Session;
use crate::text::{Text, local, url};
use crate::{Ui, cookies};

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/theme", post(theme))
        .route("/ui/orgs", get(organizations))
        .route("/ui/orgs/{owner}", get(organization))
}

async fn theme(State(ui): State<Ui>, fields: Fields) -> Response {
    let secure = ui.settings.secure;
    let cookie = match Theme::of(Some(fields.get("theme"))) {
        Theme::Auto => cookies::gone(secure, cookies::THEME),
        chosen @ (Theme::Light | Theme::Dark) => cookies::kept(secure, cookies::THEME, chosen.word()),
    };
    let next = fields.get("next");
    // The login page has looks, too.
    let next = if next == "/ui/login" || is_login(next) {
        next.into()
    } else {
        local(next)
    };
    let mut response = Redirect::to(&next).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The login page with where it leads to.
fn is_login(next: &str) -> bool {
    next.starts_with("/ui/login?") && next.bytes().all(|byte| byte.is_ascii_graphic())
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    owner: String,
    /// Which page of the organization: `policies` or `endpoint-sets`.
    #[serde(default)]
    to: String,
}

#[derive(Debug, Deserialize)]
struct Organization {
    owner: Text,
    #[serde(default)]
    policies: u64,
}

#[derive(Debug, Deserialize)]
struct Organizations {
    items: Vec<Organization>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "organizations.html")]
struct Choice {
    page: Page,
    to: &'static str,
    items: Vec<(Organization, String)>,
    more: bool,
}

/// Chooses the organization that policies and sets are shown of.
async fn organizations(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let to = if asked.to == "endpoint-sets" {
        "endpoint-sets"
    } else {
        "policies"
    };
    let typed = asked.owner.trim();
    if !typed.is_empty() {
        return Ok(Redirect::to(&url(&["ui", "orgs", typed, to], &[])).into_response());
    }
    let found: Organizations = session.api.get(&url(&["orgs"], &[("limit", "500")])).await?;
    let link = |one: Organization| {
        let href = url(&["ui", "orgs", one.owner.raw(), to], &[]);
        (one, href)
    };
    Ok(show(&Choice {
        page: session.page("Organizations", Area::None),
        to,
        items: found.items.into_iter().map(link).collect(),
        more: found.next.is_some(),
    }))
}

async fn organization(Path(owner): Path<String>) -> Redirect {
    Redirect::to(&url(&["ui", "orgs", &owner, "policies"], &[]))
}
