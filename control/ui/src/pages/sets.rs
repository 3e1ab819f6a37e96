//! Endpoint sets of an organization: lists that policies share by `use:`.

mod edit;
mod history;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::Ui;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Sets on a page.
const PAGE: &str = "100";
/// Lines of a text on one page.
const LINES: usize = 500;

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .merge(edit::routes())
        .merge(history::routes())
        .route("/ui/orgs/{owner}/endpoint-sets", get(list))
        .route("/ui/orgs/{owner}/endpoint-sets/{name}", get(view))
        .route(
            "/ui/orgs/{owner}/endpoint-sets/{name}/delete",
            get(ask_deletion).post(delete),
        )
}

/// A set as lists have it.
#[derive(Debug, Deserialize)]
struct Summary {
    owner: Text,
    name: Text,
    endpoints: u32,
    #[serde(default)]
    used: u32,
    #[serde(default)]
    used_by: Vec<Text>,
    updated_at: When,
    updated_by: Text,
}

impl Summary {
    /// Policies that use it and are not named.
    fn further(&self) -> usize {
        (self.used as usize).saturating_sub(self.used_by.len())
    }
}

/// A set.
#[derive(Clone, Debug, Deserialize)]
struct Set {
    owner: Text,
    name: Text,
    version: u32,
    yaml: String,
    endpoints: u32,
    used_by: Vec<Text>,
    updated_at: When,
    updated_by: Text,
}

/// The page of a set, or one of its steps (`edit`, `delete`); an empty step is the set itself.
fn place(owner: &Text, name: &Text, step: &str) -> String {
    let path = ["ui", "orgs", owner.raw(), "endpoint-sets", name.raw(), step];
    let used = if step.is_empty() {
        path.len() - 1
    } else {
        path.len()
    };
    url(&path[..used], &[])
}

/// The page of a policy.
fn policy(owner: &Text, name: &Text) -> String {
    url(&["ui", "orgs", owner.raw(), "policies", name.raw()], &[])
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Filter {
    search: String,
    after: String,
}

#[derive(Debug, Deserialize)]
struct Found {
    items: Vec<Summary>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "sets/list.html")]
struct List {
    page: Page,
    here: String,
    new: String,
    filter: Filter,
    items: Vec<Summary>,
    older: String,
    newer: String,
}

async fn list(
    session: Session,
    Path(owner): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Response, Failure> {
    let query = [
        ("fields", "summary"),
        ("search", filter.search.trim()),
        ("after", &filter.after),
        ("limit", PAGE),
    ];
    let found: Found = session
        .api
        .get(&url(&["orgs", &owner, "endpoint-sets"], &query))
        .await?;
    let here = |after: &str| {
        let query = [("search", filter.search.trim()), ("after", after)];
        url(&["ui", "orgs", &owner, "endpoint-sets"], &query)
    };
    let newer = (!filter.after.is_empty()).then(|| here(""));
    Ok(show(&List {
        page: session.page("Endpoint sets", Area::EndpointSets).of(&owner),
        older: found.next.as_deref().map(here).unwrap_or_default(),
        newer: newer.unwrap_or_default(),
        items: found.items,
        filter,
        here: url(&["ui", "orgs", &owner, "endpoint-sets"], &[]),
        new: url(&["ui", "orgs", &owner, "new-endpoint-set"], &[]),
    }))
}

#[derive(Template)]
#[template(path = "sets/view.html")]
struct View {
    page: Page,
    lines: Vec<(usize, Text)>,
    /// Where those lines are that are not shown.
    before: String,
    after: String,
    set: Set,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// A line that is looked for.
    line: String,
}

async fn view(
    session: Session,
    Path((owner, name)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let (set, _) = read(&session, &owner, &name).await?;
    let wanted: usize = asked.line.trim().parse().unwrap_or(1);
    let first = wanted.saturating_sub(1) / LINES * LINES;
    let mut rest = set.yaml.lines().map(Text::from).zip(1..).skip(first);
    let lines = rest.by_ref().take(LINES).map(|(line, number)| (number, line));
    let lines: Vec<_> = lines.collect();
    let at = |line: usize| format!("{}?line={line}", place(&set.owner, &set.name, ""));
    Ok(show(&View {
        page: session.page(&name, Area::EndpointSets).of(&owner),
        lines,
        before: if first > 0 { at(first) } else { String::new() },
        after: rest.next().map(|(_, number)| at(number)).unwrap_or_default(),
        set,
    }))
}

/// A set, and the tag that changes of it are made by.
async fn read(session: &Session, owner: &str, name: &str) -> Result<(Set, String), Problem> {
    let reply = session
        .api
        .fetch(&url(&["orgs", owner, "endpoint-sets", name], &[]))
        .await?;
    Ok((reply.json()?, reply.tag().to_owned()))
}

#[derive(Template)]
#[template(path = "sets/delete.html")]
struct Deletion {
    page: Page,
    set: Set,
    tag: String,
    problem: Option<Problem>,
}

async fn ask_deletion(
    session: Session,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (set, tag) = read(&session, &owner, &name).await?;
    Ok(show(&Deletion {
        page: session
            .page(&format!("Delete {name}"), Area::EndpointSets)
            .of(&owner),
        set,
        tag,
        problem: None,
    }))
}

async fn delete(
    State(ui): State<Ui>,
    session: Session,
    Path((owner, name)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = url(&["orgs", &owner, "endpoint-sets", &name], &[]);
    match session.api.delete(&path, Some(fields.get("tag"))).await {
        Ok(_) => {
            let to = url(&["ui", "orgs", &owner, "endpoint-sets"], &[]);
            Ok(done(&ui, &to, "set-deleted"))
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let status = problem.status();
            let (set, tag) = read(&session, &owner, &name).await?;
            let page = Deletion {
                page: session
                    .page(&format!("Delete {name}"), Area::EndpointSets)
                    .of(&owner),
                set,
                tag,
                problem: Some(problem),
            };
            Ok(show_with(status, &page))
        }
    }
}
