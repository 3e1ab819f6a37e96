//! Who is signed in, and ending it.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::Tab;
use crate::error::{Failure, Problem};
use crate::page::{Area, Page, done, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;
use crate::{Ui, cookies};

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/settings/sessions", get(list))
        .route("/ui/settings/sessions/{id}/end", get(ask).post(end))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    state: String,
    after: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: Text,
    name: Text,
    role: Text,
    owners: Vec<Text>,
    parent: Option<Text>,
    person: Option<Text>,
    created_at: When,
    expires_at: Option<When>,
    ended_at: Option<When>,
    last_used_at: Option<When>,
    current: bool,
}

impl Listed {
    fn is_good(&self) -> bool {
        let over = self.expires_at.is_some_and(|end| end.0 <= jiff::Timestamp::now());
        self.ended_at.is_none() && !over
    }

    fn end_href(&self) -> String {
        url(&["ui", "settings", "sessions", self.id.raw(), "end"], &[])
    }

    fn audit_href(&self) -> String {
        url(&["ui", "audit-log"], &[("actor", self.id.raw())])
    }

    fn token_href(&self) -> String {
        let id = self.parent.as_ref().map(Text::raw).unwrap_or_default();
        url(&["ui", "settings", "tokens"], &[("state", "all"), ("search", id)])
    }
}

#[derive(Debug, Deserialize)]
struct Sessions {
    items: Vec<Listed>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "settings/sessions.html")]
struct List {
    page: Page,
    tabs: [Tab; 3],
    tab: Tab,
    asked: Asked,
    items: Vec<Listed>,
    older: String,
    newer: String,
}

async fn list(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let living = if asked.state == "all" { "" } else { "true" };
    let query = [("living", living), ("after", &asked.after), ("limit", "100")];
    let found: Sessions = session.api.get(&url(&["sessions"], &query)).await?;
    let here = |after: &str| {
        let query = [("state", asked.state.as_str()), ("after", after)];
        url(&["ui", "settings", "sessions"], &query)
    };
    let older = found.next.as_deref().map(here).unwrap_or_default();
    let newer = if asked.after.is_empty() {
        String::new()
    } else {
        here("")
    };
    Ok(show(&List {
        page: session.page("Sessions", Area::Settings),
        tabs: Tab::ALL,
        tab: Tab::Sessions,
        asked,
        items: found.items,
        older,
        newer,
    }))
}

#[derive(Template)]
#[template(path = "settings/session_end.html")]
struct Ask {
    page: Page,
    one: Listed,
}

/// One session, by its id.
async fn find(session: &Session, id: &str) -> Result<Listed, Problem> {
    let query = [("search", id), ("limit", "10")];
    let found: Sessions = session.api.get(&url(&["sessions"], &query)).await?;
    let one = found.items.into_iter().find(|one| one.id.raw() == id);
    one.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such session"))
}

async fn ask(session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    let one = find(&session, &id).await?;
    let page = session.page("End session", Area::Settings);
    Ok(show(&Ask { page, one }))
}

async fn end(State(ui): State<Ui>, session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    let ended: Ended = session
        .api
        .delete(&url(&["sessions", &id], &[]), None)
        .await?
        .json()?;
    if !ended.current {
        return Ok(done(&ui, "/ui/settings/sessions", "session-ended"));
    }
    let mut response = done(&ui, "/ui/login", "signed-out");
    if let Some(cookie) = cookies::no_session(ui.settings.secure) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// What the API says of a session that it ended.
#[derive(Debug, Deserialize)]
struct Ended {
    current: bool,
}
