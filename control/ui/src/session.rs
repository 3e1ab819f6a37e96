//! Who is looking: the session's token from its cookie, and what the API says it is.
//!
//! Owns the extractor that pages begin with. Never judges a token itself.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use crate::client::Api;
use crate::error::{Failure, Problem};
use crate::page::{Area, Page, Theme};
use crate::text::{Text, url};
use crate::time::When;
use crate::{Ui, cookies, flash, guard};

/// What a token may do, as the API names it. Buttons are shown by it; the API decides by its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    Admin,
    Editor,
    Viewer,
    /// One that has no pages.
    #[serde(other)]
    Other,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
            Self::Other => "other",
        }
    }
}

/// Who is logged in.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Who {
    /// The person, or the token's name.
    pub(crate) name: Text,
    pub(crate) role: Role,
    /// Organizations that the session is limited to; empty limits nothing.
    #[serde(default)]
    pub(crate) owners: Vec<Text>,
    #[serde(default)]
    pub(crate) expires_at: Option<When>,
}

impl Who {
    /// May change policies, sets and detections.
    pub(crate) fn can_write(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Editor)
    }

    /// May change tokens.
    pub(crate) fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// May change what concerns every organization: the global block list, clusters.
    pub(crate) fn is_unlimited_admin(&self) -> bool {
        self.is_admin() && self.owners.is_empty()
    }
}

/// A living session. As an argument of a handler it makes sure that there is one.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) api: Api,
    pub(crate) who: Who,
    look: Look,
}

/// How the asked page looks, which does not depend on who asks.
#[derive(Clone, Debug)]
struct Look {
    theme: Theme,
    flash: Option<&'static str>,
    owner: Option<String>,
    here: String,
}

impl Look {
    fn of(parts: &Parts) -> Self {
        let headers = &parts.headers;
        // Where a form was sent to there is often no page to go back to, and never what was typed.
        let here = if parts.method.is_safe() {
            parts.uri.path_and_query().map_or("/ui/", |path| path.as_str())
        } else {
            ""
        };
        Self {
            theme: Theme::of(cookies::read(headers, cookies::THEME)),
            flash: cookies::read(headers, cookies::FLASH).and_then(flash::said),
            owner: cookies::read(headers, cookies::OWNER).map(str::to_owned),
            here: here.to_owned(),
        }
    }

    fn page(&self, title: &str, area: Area, who: Option<&Who>) -> Page {
        let only = who
            .and_then(|who| who.owners.first())
            .map(|owner| owner.raw().to_owned());
        let remembered = self.owner.clone().filter(|owner| {
            who.is_none_or(|who| {
                who.owners.is_empty() || who.owners.iter().any(|one| one.raw().eq_ignore_ascii_case(owner))
            })
        });
        Page {
            title: title.to_owned(),
            area,
            owner: remembered.or(only).unwrap_or_default(),
            who: who.cloned(),
            theme: self.theme,
            flash: self.flash,
            here: self.here.clone(),
            scripts: &[],
        }
    }
}

impl Session {
    /// The frame of a page. See [`Page::of`] for pages of one organization, [`Page::with`] for scripts.
    pub(crate) fn page(&self, title: &str, area: Area) -> Page {
        self.look.page(title, area, Some(&self.who))
    }

    /// The frame of an error page, with the navigation if there is a session.
    pub(crate) async fn page_of(ui: &Ui, parts: &Parts, title: &str) -> Page {
        let look = Look::of(parts);
        let who = match api_of(ui, parts) {
            Some(api) => who(&api).await.ok(),
            None => None,
        };
        look.page(title, Area::None, who.as_ref())
    }
}

/// The frame of a page without a session.
pub(crate) fn stranger(parts: &Parts, title: &str) -> Page {
    Look::of(parts).page(title, Area::None, None)
}

/// The API for somebody who has not logged in.
pub(crate) fn anonymous(ui: &Ui, parts: &Parts) -> Api {
    Api::new(ui.api.clone(), None, peer(parts))
}

/// The API by the session's cookie, without asking whether it is good.
pub(crate) fn api_of(ui: &Ui, parts: &Parts) -> Option<Api> {
    let name = cookies::session_name(ui.settings.secure);
    let token = cookies::read(&parts.headers, name).filter(|token| !token.is_empty())?;
    Some(Api::new(ui.api.clone(), Some(token), peer(parts)))
}

fn peer(parts: &Parts) -> Option<SocketAddr> {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0)
}

/// Who a session is.
async fn who(api: &Api) -> Result<Who, Problem> {
    api.get(&url(&["session"], &[])).await
}

/// True when the API knows the session no more; not when it can't be asked.
pub(crate) async fn is_over(api: &Api) -> bool {
    matches!(who(api).await, Err(problem) if problem.status == 401)
}

/// A session that was made.
#[derive(Debug, Deserialize)]
struct Made {
    token: String,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    token: &'a str,
}

/// Makes a session of a token: the text of the session's own token, for the cookie.
pub(crate) async fn open(api: &Api, token: &str) -> Result<String, Problem> {
    open_by(api, &Shown { token }).await
}

/// The same by whatever the API takes.
pub(crate) async fn open_by<B: Serialize>(api: &Api, shown: &B) -> Result<String, Problem> {
    let made: Made = api.post(&url(&["sessions"], &[]), shown).await?.json()?;
    Ok(made.token)
}

/// The host of the issuer where people sign in, where there is one.
pub(crate) async fn issuer(api: &Api) -> Option<Text> {
    let methods: Methods = api.get(&url(&["login-methods"], &[])).await.ok()?;
    methods.oidc.map(|issuer| issuer.name)
}

/// How people sign in besides showing a token.
#[derive(Debug, Deserialize)]
struct Methods {
    oidc: Option<Issuer>,
}

#[derive(Debug, Deserialize)]
struct Issuer {
    name: Text,
}

/// Ends a session.
pub(crate) async fn close(api: &Api) -> Result<(), Problem> {
    api.delete(&url(&["sessions", "current"], &[]), None).await?;
    Ok(())
}

impl FromRequestParts<Ui> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, ui: &Ui) -> Result<Self, Response> {
        let Some(api) = api_of(ui, parts) else {
            return Err(log_in_again(ui, parts));
        };
        match who(&api).await {
            Ok(who) => Ok(Self {
                api,
                who,
                look: Look::of(parts),
            }),
            Err(problem) if problem.status == 401 => Err(log_in_again(ui, parts)),
            Err(problem) => Err(Failure::from(problem).into_response()),
        }
    }
}

/// To the login page and back; a part of a page can't go there, and is told. The cookie is no good any more.
pub(crate) fn log_in_again(ui: &Ui, parts: &Parts) -> Response {
    if guard::is_part(&parts.headers) {
        // The cookie stays: by it the form that comes next is known as one of somebody who was signed in, and is held.
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut response = {
        let asked = parts.uri.path_and_query().map_or("", |path| path.as_str());
        // What was sent by a form can't be sent again by going there.
        let next = if parts.method.is_safe() { asked } else { "" };
        let had = api_of(ui, parts).is_some();
        let ended = if had { "yes" } else { "" };
        Redirect::to(&url(&["ui", "login"], &[("next", next), ("ended", ended)])).into_response()
    };
    if let Some(cookie) = cookies::no_session(ui.settings.secure) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
