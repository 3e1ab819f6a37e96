//! Rules that suppress detections: listed, made (prefilled from a detection), removed after a look at what they say.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::Detection;
use crate::Ui;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/detections/rules", get(list).post(make))
        .route("/ui/detections/rules/new", get(new))
        .route("/ui/detections/rules/{id}/delete", post(remove))
}

#[derive(Debug, Deserialize)]
struct Rule {
    id: Text,
    #[serde(rename = "type", default)]
    kind: Option<Text>,
    #[serde(default)]
    owner: Option<Text>,
    #[serde(default)]
    repo: Option<Text>,
    #[serde(default)]
    workflow: Option<Text>,
    endpoint: Text,
    #[serde(default)]
    process: Option<Text>,
    reason: Text,
    created_by: Text,
    created_at: When,
    #[serde(default)]
    expires_at: Option<When>,
}

impl Rule {
    /// Whose jobs it covers.
    fn whose(&self) -> String {
        match (&self.repo, &self.workflow, &self.owner) {
            (Some(repo), Some(workflow), _) => format!("{repo}, {workflow}"),
            (Some(repo), None, _) => repo.to_string(),
            (None, _, Some(owner)) => owner.to_string(),
            (None, _, None) => "every organization".to_owned(),
        }
    }

    fn delete_href(&self) -> String {
        url(&["ui", "detections", "rules", self.id.raw(), "delete"], &[])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    after: String,
}

#[derive(Debug, Deserialize)]
struct Found {
    items: Vec<Rule>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "detections/rules.html")]
struct List {
    page: Page,
    items: Vec<Rule>,
    older: String,
    newest: String,
}

async fn list(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let here = |after: &str| url(&["ui", "detections", "rules"], &[("after", after)]);
    let query = [("after", asked.after.as_str()), ("limit", "100")];
    let found: Found = session.api.get(&url(&["detection-suppressions"], &query)).await?;
    Ok(show(&List {
        page: session.page("Suppression rules", Area::Detections),
        items: found.items,
        older: found.next.as_deref().map(here).unwrap_or_default(),
        newest: if asked.after.is_empty() {
            String::new()
        } else {
            here("")
        },
    }))
}

/// What the form has, as it is typed.
#[derive(Clone, Debug, Default)]
struct Typed {
    kind: String,
    owner: String,
    repo: String,
    workflow: String,
    endpoint: String,
    process: String,
    reason: String,
    expires: String,
}

impl Typed {
    /// What covers a detection and no more than it: its type, its workflow, its endpoint.
    fn covering(one: &Detection) -> Self {
        let process = one.evidence.process.as_ref();
        Self {
            kind: one.kind.raw().to_owned(),
            owner: one.job.owner.raw().to_owned(),
            repo: one.job.repo.raw().to_owned(),
            workflow: one.job.workflow.raw().to_owned(),
            endpoint: one.rule(),
            process: process.map_or("", |process| process.name.raw()).to_owned(),
            ..Self::default()
        }
    }

    fn of(fields: &Fields) -> Self {
        let get = |name: &str| fields.get(name).to_owned();
        Self {
            kind: get("type"),
            owner: get("owner"),
            repo: get("repo"),
            workflow: get("workflow"),
            endpoint: get("endpoint"),
            process: get("process"),
            reason: get("reason"),
            expires: get("expires"),
        }
    }
}

/// A rule to be made, for the API. What is empty is not said.
#[derive(Debug, Serialize)]
struct New<'a> {
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    owner: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    repo: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    workflow: &'a str,
    endpoint: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    process: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    expires_at: String,
}

#[derive(Template)]
#[template(path = "detections/rule.html")]
struct Form {
    page: Page,
    typed: Typed,
    /// The detection that it was begun from.
    from: Option<Detection>,
    problem: Option<Problem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct From {
    from: String,
}

async fn new(session: Session, Query(From { from }): Query<From>) -> Result<Response, Failure> {
    let from = begun_from(&session, &from).await?;
    let typed = from.as_ref().map(Typed::covering).unwrap_or_default();
    Ok(form(&session, typed, from, None))
}

async fn begun_from(session: &Session, id: &str) -> Result<Option<Detection>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    Ok(Some(session.api.get(&url(&["detections", id], &[])).await?))
}

fn form(session: &Session, typed: Typed, from: Option<Detection>, problem: Option<Problem>) -> Response {
    let code = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = session.page("New suppression rule", Area::Detections);
    let form = Form {
        page,
        typed,
        from,
        problem,
    };
    show_with(code, &form)
}

async fn make(State(ui): State<Ui>, session: Session, fields: Fields) -> Result<Response, Failure> {
    let typed = Typed::of(&fields);
    let expires_at = match typed.expires.as_str() {
        "" => String::new(),
        day => format!("{day}T23:59:59Z"),
    };
    let wanted = New {
        kind: &typed.kind,
        // A repository says whose it is.
        owner: if typed.repo.is_empty() { &typed.owner } else { "" },
        repo: &typed.repo,
        workflow: &typed.workflow,
        endpoint: &typed.endpoint,
        process: &typed.process,
        reason: &typed.reason,
        expires_at,
    };
    match session
        .api
        .post(&url(&["detection-suppressions"], &[]), &wanted)
        .await
    {
        Ok(_) => Ok(done(&ui, "/ui/detections/rules", "rule-made")),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let from = begun_from(&session, fields.get("from")).await?;
            Ok(form(&session, typed, from, Some(problem)))
        }
    }
}

async fn remove(State(ui): State<Ui>, session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    session
        .api
        .delete(&url(&["detection-suppressions", &id], &[]), None)
        .await?;
    Ok(done(&ui, "/ui/detections/rules", "rule-removed"))
}
