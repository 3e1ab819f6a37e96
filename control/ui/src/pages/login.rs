//! Signing in with a token, and signing out.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Page, done, show, show_with};
use crate::text::{Text, local, url};
use crate::{Ui, cookies, session};

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/login", get(form).post(sign_in))
        .route("/ui/logout", post(sign_out))
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    next: String,
    /// Something, when a session ended by itself.
    #[serde(default)]
    ended: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    page: Page,
    next: String,
    /// The host of the issuer where people sign in, too.
    issuer: Option<Text>,
    has_ended: bool,
    problem: Option<Problem>,
}

impl Login {
    fn at_issuer(&self) -> String {
        url(&["ui", "oidc", "start"], &[("next", &self.next)])
    }
}

async fn form(State(ui): State<Ui>, Query(asked): Query<Asked>, parts: Parts) -> Response {
    show(&Login {
        page: session::stranger(&parts, "Sign in"),
        next: local(&asked.next).into_owned(),
        issuer: session::issuer(&session::anonymous(&ui, &parts)).await,
        has_ended: !asked.ended.is_empty(),
        problem: None,
    })
}

async fn sign_in(State(ui): State<Ui>, parts: Parts, fields: Fields) -> Result<Response, Failure> {
    let next = local(fields.get("next")).into_owned();
    let opened = session::open(&session::anonymous(&ui, &parts), fields.get("token")).await;
    match opened {
        Ok(token) => Ok(signed_in(&ui, &token, &next)?),
        Err(problem) => refused(&ui, &parts, next, problem).await,
    }
}

/// Goes on with a session.
pub(crate) fn signed_in(ui: &Ui, token: &str, next: &str) -> Result<Response, Problem> {
    let cookie = cookies::session(ui.settings.secure, token)
        .ok_or_else(|| Problem::own("the session can't be kept in a cookie"))?;
    let mut response = Redirect::to(next).into_response();
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

/// Says on the login page why nobody was signed in, where there is another way.
pub(crate) async fn refused(
    ui: &Ui,
    parts: &Parts,
    next: String,
    problem: Problem,
) -> Result<Response, Failure> {
    if !matches!(problem.status, 400 | 401 | 403 | 404 | 413 | 422 | 429 | 503) {
        return Err(problem.into());
    }
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
    // A browser must not answer with a password box of its own.
    let status = if status == StatusCode::UNAUTHORIZED {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        status
    };
    let mut page = session::stranger(parts, "Sign in");
    // The way back from an issuer is gone only once.
    page.here = url(&["ui", "login"], &[("next", &next)]);
    let login = Login {
        page,
        next,
        issuer: session::issuer(&session::anonymous(ui, parts)).await,
        has_ended: false,
        problem: Some(problem),
    };
    Ok(show_with(status, &login))
}

/// Ends the session. The cookie goes even where the API can't or won't end it; a session that is gone already is as good.
async fn sign_out(State(ui): State<Ui>, parts: Parts) -> Response {
    let said = match session::api_of(&ui, &parts) {
        Some(api) => match session::close(&api).await {
            Err(problem) if problem.status != 401 => "signed-out-here",
            Ok(()) | Err(_) => "signed-out",
        },
        None => "signed-out",
    };
    let mut response = done(&ui, "/ui/login", said);
    if let Some(cookie) = cookies::no_session(ui.settings.secure) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
