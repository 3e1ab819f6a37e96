//! Detections: what somebody should look at, why, and what became of it.
//!
//! Owns the list and one detection's page. What is told of one is [`told`]'s, rules that suppress are [`rules`]'.

mod rules;
mod told;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use self::told::Detection;
use crate::Ui;
use crate::client::Payload;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::owner::Owner;
use crate::page::{Area, Page, done, show_with};
use crate::session::Session;
use crate::text::{Text, url};

/// What becomes of a detection: what stands in addresses and forms, and its word.
const STATUSES: &[(&str, &str)] = &[
    ("new", "New"),
    ("suppressed", "Suppressed"),
    ("resolved", "Resolved"),
    ("all", "All"),
];
const SEVERITIES: &[(&str, &str)] = &[
    ("", "Every severity"),
    ("high", "High"),
    ("medium", "Medium"),
    ("low", "Low"),
];
const TYPES: &[(&str, &str)] = &[
    ("", "Every type"),
    ("New-Outbound-Network-Call", "New endpoint"),
    ("Domain-Blocked", "Refused"),
];

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/detections", get(list))
        .route("/ui/detections/change", post(change_many))
        .route("/ui/detections/{id}", get(one).post(change))
        .merge(rules::routes())
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    owner: Owner,
    repo: String,
    job: String,
    #[serde(rename = "type")]
    kind: String,
    severity: String,
    status: String,
    search: String,
    after: String,
}

impl Asked {
    /// What is looked at when nothing is said: what nobody dealt with.
    fn status(&self) -> &str {
        match self.status.trim() {
            "" => "new",
            status => status,
        }
    }

    /// Everything but the organization, the status and the place.
    fn lasting(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("repo", self.repo.trim()),
            ("job", self.job.trim()),
            ("type", self.kind.trim()),
            ("severity", self.severity.trim()),
            ("search", self.search.trim()),
        ]
    }

    fn here(&self, status: &str, after: &str) -> String {
        let mut query = vec![("owner", self.owner.said())];
        query.extend(self.lasting());
        query.extend([("status", status), ("after", after)]);
        url(&["ui", "detections"], &query)
    }

    fn is_filtered(&self) -> bool {
        self.owner.is_filter() || self.lasting().iter().any(|(_, value)| !value.is_empty())
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Counters {
    new: u64,
    suppressed: u64,
    resolved: u64,
    new_high: u64,
    new_medium: u64,
    new_low: u64,
}

impl Counters {
    fn of(&self, status: &str) -> u64 {
        match status {
            "new" => self.new,
            "suppressed" => self.suppressed,
            "resolved" => self.resolved,
            _ => self
                .new
                .saturating_add(self.suppressed)
                .saturating_add(self.resolved),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Found {
    items: Vec<Detection>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    counters: Counters,
}

#[derive(Template)]
#[template(path = "detections/list.html")]
struct List {
    page: Page,
    asked: Asked,
    found: Found,
    older: String,
    newest: String,
    typed: Typed,
    problem: Option<Problem>,
}

/// What the form of several has, to be shown again.
#[derive(Clone, Debug, Default)]
struct Typed {
    ids: Vec<String>,
    note: String,
}

impl List {
    fn is_ticked(&self, one: &Detection) -> bool {
        self.typed.ids.iter().any(|id| id == one.id.raw())
    }
}

async fn list(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    listed(&session, asked, Typed::default(), None).await
}

async fn listed(
    session: &Session,
    mut asked: Asked,
    typed: Typed,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let page = session.page("Detections", Area::Detections);
    let is_narrower = [&asked.repo, &asked.job, &asked.search]
        .iter()
        .any(|text| !text.is_empty());
    asked.owner.settle(&page.owner, is_narrower);
    let mut query = asked.lasting();
    let status = Some(asked.status()).filter(|status| *status != "all");
    query.extend([
        ("owner", asked.owner.name()),
        ("status", status.unwrap_or_default()),
        ("after", asked.after.as_str()),
        ("limit", "50"),
    ]);
    let found: Found = session.api.get(&url(&["detections"], &query)).await?;
    let code = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = List {
        page,
        older: found
            .next
            .as_deref()
            .map(|next| asked.here(&asked.status, next))
            .unwrap_or_default(),
        newest: if asked.after.is_empty() {
            String::new()
        } else {
            asked.here(&asked.status, "")
        },
        asked,
        found,
        typed,
        problem,
    };
    Ok(show_with(code, &page))
}

/// What is said of a detection.
#[derive(Debug, Serialize)]
struct Change<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ids: Vec<&'a str>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<bool>,
}

impl<'a> Change<'a> {
    fn of(fields: &'a Fields) -> Self {
        Self {
            ids: Vec::new(),
            status: fields.get("become"),
            note: Some(fields.get("note")).filter(|note| !note.is_empty()),
            // Not ticked says nothing: what is suppressed is expected, what is resolved is not.
            expected: fields.has("expected").then_some(true),
        }
    }
}

/// Changes the ticked ones.
async fn change_many(State(ui): State<Ui>, session: Session, fields: Fields) -> Result<Response, Failure> {
    let asked = Asked {
        owner: fields.get("owner").to_owned().into(),
        repo: fields.get("repo").to_owned(),
        job: fields.get("job").to_owned(),
        kind: fields.get("type").to_owned(),
        severity: fields.get("severity").to_owned(),
        status: fields.get("status").to_owned(),
        search: fields.get("search").to_owned(),
        after: fields.get("after").to_owned(),
    };
    let typed = || Typed {
        ids: fields.all("id").map(str::to_owned).collect(),
        note: fields.get("note").to_owned(),
    };
    let change = Change {
        ids: fields.all("id").collect(),
        ..Change::of(&fields)
    };
    if change.ids.is_empty() {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Tick the detections first.");
        return listed(&session, asked, typed(), Some(problem)).await;
    }
    let path = url(&["detections"], &[]);
    let sent = session
        .api
        .send(Method::PATCH, &path, None, Payload::json(&change))
        .await;
    match sent {
        Ok(_) => Ok(done(&ui, &asked.here(&asked.status, ""), "detections-changed")),
        Err(problem) => listed(&session, asked, typed(), Some(Failure::problem(problem)?)).await,
    }
}

#[derive(Template)]
#[template(path = "detections/one.html")]
struct One {
    page: Page,
    detection: Detection,
    /// What was typed, where it was refused.
    note: Text,
    problem: Option<Problem>,
}

async fn one(session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    shown(&session, &id, "", None).await
}

async fn shown(
    session: &Session,
    id: &str,
    note: &str,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let detection: Detection = session.api.get(&url(&["detections", id], &[])).await?;
    let title = format!("{}: {}", detection.title(), detection.shown());
    let code = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = One {
        page: session.page(&title, Area::Detections),
        detection,
        note: note.into(),
        problem,
    };
    Ok(show_with(code, &page))
}

async fn change(
    State(ui): State<Ui>,
    session: Session,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = url(&["detections", &id], &[]);
    let payload = Payload::json(&Change::of(&fields));
    match session.api.send(Method::PATCH, &path, None, payload).await {
        Ok(_) => Ok(done(
            &ui,
            &url(&["ui", "detections", &id], &[]),
            "detection-changed",
        )),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            shown(&session, &id, fields.get("note"), Some(problem)).await
        }
    }
}
