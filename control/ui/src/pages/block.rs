//! The global block list: what no job reaches, whatever its policy says. Everybody reads it; admins of every
//! organization add and remove the deployment's own entries.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::client::Payload;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;
use crate::{EDITOR_BODY, Ui};

/// Entries on a page.
const PAGE: &str = "50";

pub(crate) fn routes() -> Router<Ui> {
    let import = get(import_form)
        .post(import)
        .layer(DefaultBodyLimit::max(EDITOR_BODY));
    Router::new()
        .route("/ui/global-block", get(list).post(add))
        .route("/ui/global-block/import", import)
        .route(
            "/ui/global-block/entries/{id}/remove",
            get(ask_removal).post(remove),
        )
}

/// What the list is filtered by: the page's query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Filter {
    layer: String,
    search: String,
    after: String,
}

#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    pattern: Text,
    reason: Text,
    layer: String,
    expires_at: Option<When>,
    created_at: When,
    created_by: Text,
}

impl Entry {
    fn origin(&self) -> &'static str {
        match self.layer.as_str() {
            "builtin" => "built in",
            "feed" => "feed",
            _ => "deployment",
        }
    }

    fn removal(&self) -> String {
        let path = ["ui", "global-block", "entries", &self.id, "remove"];
        url(&path, &[("pattern", self.pattern.raw())])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    builtin: u64,
    feed: u64,
    deployment: u64,
}

#[derive(Debug, Deserialize)]
struct Entries {
    items: Vec<Entry>,
    next: Option<String>,
    counters: Counts,
    #[serde(default)]
    updated_at: Option<When>,
    feed_checked_at: Option<When>,
}

/// A counter that filters.
struct Counter {
    word: &'static str,
    count: u64,
    href: String,
    is_current: bool,
}

/// An entry as it is typed.
#[derive(Debug, Default)]
struct Typed {
    pattern: String,
    reason: String,
    until: String,
    list: String,
}

impl Typed {
    fn of(fields: &Fields) -> Self {
        Self {
            pattern: fields.get("pattern").into(),
            reason: fields.get("reason").into(),
            until: fields.get("until").into(),
            list: fields.document("list"),
        }
    }

    /// The end of the last day, in UTC.
    fn expires_at(&self) -> Option<String> {
        (!self.until.is_empty()).then(|| format!("{}T23:59:59Z", self.until))
    }
}

#[derive(Template)]
#[template(path = "block/list.html")]
struct List {
    page: Page,
    counters: Vec<Counter>,
    filter: Filter,
    entries: Entries,
    older: String,
    newer: String,
    can_change: bool,
    typed: Typed,
    problem: Option<Problem>,
}

async fn list(session: Session, Query(filter): Query<Filter>) -> Result<Response, Failure> {
    let page = list_page(&session, filter, Typed::default(), None).await?;
    Ok(show(&page))
}

async fn list_page(
    session: &Session,
    filter: Filter,
    typed: Typed,
    problem: Option<Problem>,
) -> Result<List, Failure> {
    let query = [
        ("layer", filter.layer.as_str()),
        ("search", filter.search.trim()),
        ("after", &filter.after),
        ("limit", PAGE),
    ];
    let entries: Entries = session
        .api
        .get(&url(&["global-block", "entries"], &query))
        .await?;
    let here = |layer: &str, after: &str| {
        let query = [
            ("layer", layer),
            ("search", filter.search.trim()),
            ("after", after),
        ];
        url(&["ui", "global-block"], &query)
    };
    let counts = &entries.counters;
    let all = counts.builtin + counts.feed + counts.deployment;
    let counter = |(word, layer, count): (&'static str, &str, u64)| Counter {
        word,
        count,
        href: here(layer, ""),
        is_current: filter.layer == layer,
    };
    let counters = [
        ("All", "", all),
        ("Built in", "builtin", counts.builtin),
        ("Feed", "feed", counts.feed),
        ("Deployment", "deployment", counts.deployment),
    ];
    let older = entries.next.as_deref().map(|next| here(&filter.layer, next));
    let newer = (!filter.after.is_empty()).then(|| here(&filter.layer, ""));
    Ok(List {
        page: session.page("Global block list", Area::GlobalBlock),
        counters: counters.into_iter().map(counter).collect(),
        older: older.unwrap_or_default(),
        newer: newer.unwrap_or_default(),
        can_change: session.who.is_unlimited_admin(),
        filter,
        entries,
        typed,
        problem,
    })
}

#[derive(Debug, Serialize)]
struct NewEntry<'a> {
    pattern: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

async fn add(State(ui): State<Ui>, session: Session, fields: Fields) -> Result<Response, Failure> {
    let typed = Typed::of(&fields);
    let new = NewEntry {
        pattern: &typed.pattern,
        reason: &typed.reason,
        expires_at: typed.expires_at(),
    };
    match session
        .api
        .post(&url(&["global-block", "entries"], &[]), &new)
        .await
    {
        Ok(_) => {
            let to = url(&["ui", "global-block"], &[("layer", "deployment")]);
            Ok(done(&ui, &to, "entry-added"))
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let status = problem.status();
            let page = list_page(&session, Filter::default(), typed, Some(problem)).await?;
            Ok(show_with(status, &page))
        }
    }
}

#[derive(Template)]
#[template(path = "block/import.html")]
struct Import {
    page: Page,
    typed: Typed,
    problem: Option<Problem>,
}

async fn import_form(session: Session) -> Response {
    show(&Import {
        page: session.page("Import a block list", Area::GlobalBlock),
        typed: Typed::default(),
        problem: None,
    })
}

async fn import(State(ui): State<Ui>, session: Session, fields: Fields) -> Result<Response, Failure> {
    let typed = Typed::of(&fields);
    let expires = typed.expires_at().unwrap_or_default();
    let query = [("reason", typed.reason.as_str()), ("expires_at", &expires)];
    let path = url(&["global-block", "entries"], &query);
    let list = Payload::list(typed.list.clone());
    match session.api.send(Method::POST, &path, None, list).await {
        Ok(_) => {
            let to = url(&["ui", "global-block"], &[("layer", "deployment")]);
            Ok(done(&ui, &to, "list-imported"))
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let page = Import {
                page: session.page("Import a block list", Area::GlobalBlock),
                typed,
                problem: Some(problem.clone()),
            };
            Ok(show_with(problem.status(), &page))
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct Which {
    #[serde(default)]
    pattern: String,
}

#[derive(Template)]
#[template(path = "block/remove.html")]
struct Removal {
    page: Page,
    entry: Entry,
    blocked: String,
}

async fn ask_removal(
    session: Session,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Failure> {
    let query = [
        ("layer", "deployment"),
        ("search", which.pattern.as_str()),
        ("limit", "1000"),
    ];
    let found: Entries = session
        .api
        .get(&url(&["global-block", "entries"], &query))
        .await?;
    let Some(entry) = found.items.into_iter().find(|entry| entry.id == id) else {
        let detail = "there is no such entry of the deployment any more";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail).into());
    };
    let query = [("reason", "global-block"), ("name", entry.pattern.raw())];
    Ok(show(&Removal {
        page: session.page("Remove from the block list", Area::GlobalBlock),
        blocked: url(&["ui", "events"], &query),
        entry,
    }))
}

async fn remove(State(ui): State<Ui>, session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    session
        .api
        .delete(&url(&["global-block", "entries", &id], &[]), None)
        .await?;
    let to = url(&["ui", "global-block"], &[("layer", "deployment")]);
    Ok(done(&ui, &to, "entry-removed"))
}
