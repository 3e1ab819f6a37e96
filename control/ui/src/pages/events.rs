//! Network events: found, followed and exported.
//!
//! Owns the questions that the page can ask, which all stand in its address; what they mean is the API's. A page looks
//! at a part of the record only: where a question finds nothing there, it offers to search further, and never says that
//! there is nothing before it knows.

mod asked;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use tidegate_control_wire::summary::advice;
use tokio::time::Instant;

use self::asked::{Asked, KINDS, LEASES, SPANS, VERDICTS, meant};
use crate::Ui;
use crate::error::{Failure, Problem};
use crate::event::{Refused, Ruled};
use crate::page::{Area, Page, show_part, show_with};
use crate::pages::jobs::lines::Lines;
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Events of a page.
const EVENTS: &str = "50";
/// How often an empty page is gone on from before somebody is asked whether to; and for how long at most.
const ROUNDS: usize = 3;
const ENOUGH: Duration = Duration::from_millis(1_500);
/// What a browser saw of a stream last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Where a stream goes on from.
const POSITION: &str = "tidegate-position";

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/events", get(list))
        .route("/ui/events/rows", get(rows))
        .route("/ui/events/stream", get(stream))
        .route("/ui/events/export", get(export))
}

/// A job, as an event tells it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EventJob {
    pub(crate) id: Text,
    pub(crate) owner: Text,
    pub(crate) repo: Text,
    pub(crate) workflow: Text,
    pub(crate) job: Text,
    pub(crate) run_id: Text,
    pub(crate) runner_name: Text,
    pub(crate) cluster: Text,
    pub(crate) event: Text,
    #[serde(rename = "ref")]
    pub(crate) git_ref: Text,
    pub(crate) actor: Text,
    pub(crate) head_repo: Text,
    pub(crate) assurance: Text,
}

/// A process on the runner.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Process {
    name: Text,
    parent: Text,
    sha256: Text,
}

/// An event, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
struct Event {
    time: When,
    id: Text,
    gateway: Text,
    #[serde(default)]
    network: Text,
    #[serde(default)]
    job: Option<EventJob>,
    source: Text,
    kind: Text,
    #[serde(default)]
    name: Option<Text>,
    #[serde(default)]
    name_source: Option<Text>,
    #[serde(default)]
    qtype: Option<Text>,
    #[serde(default)]
    rcode: Option<Text>,
    #[serde(default)]
    answers: Vec<Text>,
    #[serde(default)]
    address: Option<Text>,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    original_address: Option<Text>,
    mode: Text,
    verdict: Text,
    #[serde(default)]
    reason: Option<Text>,
    #[serde(default)]
    meaning: Option<Text>,
    #[serde(default)]
    rule: Option<Text>,
    #[serde(default)]
    rule_source: Option<Text>,
    #[serde(default)]
    nearest: Option<Text>,
    #[serde(default)]
    policy: Option<Text>,
    #[serde(default)]
    policy_version: Option<u32>,
    #[serde(default)]
    scope: Option<Text>,
    #[serde(default)]
    note: Option<Text>,
    #[serde(default)]
    bytes_up: u64,
    #[serde(default)]
    bytes_down: u64,
    #[serde(default)]
    duration_ms: u64,
    #[serde(default = "one")]
    count: u64,
    #[serde(default)]
    ja4: Option<Text>,
    #[serde(default)]
    process: Option<Process>,
}

const fn one() -> u64 {
    1
}

impl Event {
    /// What it is about: `name:port`.
    fn shown(&self) -> String {
        let host = match (&self.name, &self.address) {
            (Some(name), _) => name.to_string(),
            (None, Some(address)) if address.raw().contains(':') && self.port != 0 => format!("[{address}]"),
            (None, Some(address)) => address.to_string(),
            (None, None) => self.kind.to_string(),
        };
        if self.port == 0 {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// The page of this event alone: by its job, where it has one, for permits are found slowly otherwise.
    fn href(&self) -> String {
        let job = self.job.as_ref().map_or("", |job| job.id.raw());
        url(&["ui", "events"], &[("id", self.id.raw()), ("job", job)])
    }

    /// The job's page.
    fn job_href(&self) -> Option<String> {
        let job = self.job.as_ref().filter(|job| !job.id.is_empty())?;
        Some(url(&["ui", "jobs", job.id.raw()], &[]))
    }

    /// Everything about the same name.
    fn name_href(&self) -> String {
        let name = self.name.as_ref().or(self.address.as_ref());
        url(&["ui", "events"], &[("name", name.map_or("", Text::raw))])
    }

    /// What tells its row from others: ids are unique among one gateway's events.
    fn key(&self) -> Text {
        format!("{}-{}", self.gateway.raw(), self.id.raw()).into()
    }

    /// Where it can be allowed: in the policy that decided (`to` is `policy`), or in an endpoint set (`set`). Only what a
    /// job was refused by an organization's policy, for the lack of a line.
    fn allow(&self, to: &str) -> Option<String> {
        let job = self.job.as_ref()?;
        let reason = advice::reason(self.reason.as_ref()?.raw())?;
        let kind = advice::kind(self.kind.raw())?;
        let host = self.name.as_ref().or(self.address.as_ref())?;
        let line = advice::allow_line(reason, host.raw(), self.port, kind)?;
        let from = Refused {
            scope: self.scope.as_ref()?.raw(),
            policy: self.policy.as_ref()?.raw(),
            version: self.policy_version,
            job: job.id.raw(),
        };
        Some(from.allow(to, &line))
    }

    /// The rule that decided, where one did.
    fn ruled(&self) -> Option<Ruled<'_>> {
        Some(Ruled {
            policy: self.policy.as_ref()?.raw(),
            scope: self.scope.as_ref()?.raw(),
            rule: self.rule.as_ref()?.raw(),
            source: self.rule_source.as_ref()?.raw(),
        })
    }
}

/// What gateways dropped on a day.
#[derive(Clone, Debug, Deserialize)]
struct Loss {
    day: Text,
    gateway: Text,
    dropped: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Found {
    items: Vec<Event>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    complete_since: Option<When>,
    #[serde(default)]
    losses: Vec<Loss>,
}

#[derive(Template)]
#[template(path = "events/list.html")]
struct ListPage {
    page: Page,
    asked: Asked,
    /// What was typed in the search box and could not be understood.
    search: Text,
    found: Found,
    /// Where the next page begins; empty on the last.
    older: String,
    /// The first page, from others.
    newest: String,
    /// The stream that goes on behind this page; only of the first.
    stream: String,
    problem: Option<Problem>,
    /// Where the rule of the one event that is shown stands.
    rule: Option<String>,
}

impl ListPage {
    /// The newest rows, for the script that follows.
    fn rows(&self) -> String {
        url(&["ui", "events", "rows"], &self.asked.lasting())
    }
}

async fn list(
    session: Session,
    Query(asked): Query<Asked>,
    Query(searched): Query<Searched>,
) -> Result<Response, Failure> {
    let search = searched.q.trim();
    if !search.is_empty() {
        // What was searched for becomes a filter, which stands in the address.
        let found = meant(search, &asked);
        return Ok(Redirect::to(&found.here("")).into_response());
    }
    let (found, position, problem) = match look(&session, &asked).await {
        Ok((found, position)) => (found, position, None),
        Err(problem) => (Found::default(), String::new(), Some(Failure::problem(problem)?)),
    };
    let ruled = found.items.first().filter(|_| asked.is_of_one());
    let rule = match ruled.and_then(Event::ruled) {
        Some(ruled) => Lines::of_one(&session.api, &ruled).await.href(&ruled),
        None => None,
    };
    let title = match asked.id.trim() {
        "" => "Network events".to_owned(),
        id => format!("Event {id}"),
    };
    let is_first = asked.after.is_empty();
    let code = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = ListPage {
        page: session.page(&title, Area::Events).with(&["events.js"]),
        search: Text::default(),
        older: found
            .next
            .as_deref()
            .map(|next| asked.here(next))
            .unwrap_or_default(),
        newest: if is_first { String::new() } else { asked.here("") },
        stream: if is_first && asked.is_open() && problem.is_none() {
            asked.stream(&position)
        } else {
            String::new()
        },
        problem,
        rule,
        asked,
        found,
    };
    Ok(show_with(code, &page))
}

#[derive(Template)]
#[template(path = "events/rows.html")]
struct Rows {
    items: Vec<Event>,
    writer: bool,
}

/// The newest rows of a question, for the script that follows it.
async fn rows(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let (found, _) = look(&session, &asked).await?;
    Ok(show_part(&Rows {
        items: found.items,
        writer: session.who.can_write(),
    }))
}

/// What was typed to be searched for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Searched {
    q: String,
}

/// Asks until something is found, or for long enough.
async fn look(session: &Session, asked: &Asked) -> Result<(Found, String), Problem> {
    let enough = Instant::now() + ENOUGH;
    let question = asked.at(Timestamp::now());
    let mut after = asked.after.clone();
    let mut first: Option<(Found, String)> = None;
    for _ in 0..ROUNDS {
        let mut query = question.query();
        query.push(("after", &after));
        query.push(("limit", EVENTS));
        let reply = session.api.fetch(&url(&["events"], &query)).await?;
        let found: Found = reply.json()?;
        let (items, next) = (found.items.clone(), found.next.clone());
        let position = reply.headers.get(POSITION).and_then(|value| value.to_str().ok());
        let position = position.unwrap_or_default().to_owned();
        let (whole, _) = first.get_or_insert((found, position));
        (whole.items, whole.next) = (items, next);
        match &whole.next {
            Some(next) if whole.items.is_empty() && Instant::now() < enough => after.clone_from(next),
            _ => break,
        }
    }
    Ok(first.unwrap_or_default())
}

/// The events that are stored from now on, as server-sent events: the API's, through the session's cookie.
async fn stream(
    session: Session,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let mut query = asked.lasting();
    query.push(("after", &asked.after));
    let seen = headers.get(&LAST_EVENT_ID).cloned();
    let carried: Vec<_> = seen.into_iter().map(|seen| (LAST_EVENT_ID, seen)).collect();
    let path = url(&["events", "stream"], &query);
    Ok(session.api.stream(&path, "text/event-stream", &carried).await?)
}

/// Which lines an export has.
#[derive(Debug, Deserialize)]
struct Exported {
    format: String,
}

/// All events of a question, as a file.
async fn export(
    session: Session,
    Query(asked): Query<Asked>,
    Query(how): Query<Exported>,
) -> Result<Response, Failure> {
    let (accept, file) = match how.format.as_str() {
        "csv" => ("text/csv", "attachment; filename=\"network-events.csv\""),
        _ => (
            "application/x-ndjson",
            "attachment; filename=\"network-events.ndjson\"",
        ),
    };
    let question = asked.at(Timestamp::now());
    let path = url(&["events"], &question.query());
    let mut response = session.api.stream(&path, accept, &[]).await?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(file));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
