//! A job's page: who it is, which policy holds for it and why, what it reached and was refused, live while it runs.
//!
//! Owns the page, the rows that a script brings in, and the stream that tells it when. What is told of it is [`job`]'s, allowing what was refused is
//! [`allow`]'s, reading where rules stand [`lines`]', the summary [`summary`]'s.

mod allow;
mod job;
pub(super) mod lines;
mod summary;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use self::job::{Considered, Effective};
pub(super) use self::job::{Counts, Held, Job, run_href};
use self::lines::Lines;
use crate::Ui;
use crate::client::{Api, Payload};
use crate::error::{Failure, Problem};
use crate::event::{Event, Ruled};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_part};
use crate::session::Session;
use crate::text::url;
use crate::time::When;

/// Events on one page.
const EVENTS: &str = "100";
/// Where a stream goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The newest event's number when a page of events was read.
const POSITION: &str = "tidegate-position";

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/jobs/{id}", get(one))
        .route("/ui/jobs/{id}/rows", get(rows))
        .route("/ui/jobs/{id}/stream", get(stream))
        .route("/ui/jobs/{id}/end", get(ask_end).post(end))
        .merge(allow::routes())
        .merge(summary::routes())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Events {
    items: Vec<Event>,
    next: Option<String>,
    complete_since: Option<When>,
}

/// Which events are shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// `refuse`, `would-refuse`, `permit`, or several with commas; empty for all.
    verdict: String,
    after: String,
}

#[derive(Template)]
#[template(path = "jobs/one.html")]
struct JobPage {
    page: Page,
    job: Job,
    counts: Counts,
    effective: Option<Effective>,
    events: Events,
    position: String,
    asked: Asked,
    lines: Lines,
}

impl JobPage {
    /// The tabs that filter events: word, link, whether it is this one.
    fn tabs(&self) -> Vec<(&'static str, String, bool)> {
        let tab = |word, verdict: &str| {
            let href = url(&["ui", "jobs", self.job.id.raw()], &[("verdict", verdict)]);
            (word, href, self.asked.verdict == verdict)
        };
        vec![
            tab("All events", ""),
            tab("Refused", "refuse,would-refuse"),
            tab("Permitted", "permit"),
        ]
    }

    /// The page follows the job: it runs, and the newest events are shown.
    fn is_live(&self) -> bool {
        self.job.alive() && self.asked.after.is_empty()
    }

    fn rows_href(&self) -> String {
        self.job.part("rows", &[("verdict", &self.asked.verdict)])
    }

    fn stream_href(&self) -> String {
        let query = [
            ("after", self.position.as_str()),
            ("verdict", &self.asked.verdict),
        ];
        self.job.part("stream", &query)
    }

    fn here(&self) -> String {
        url(
            &["ui", "jobs", self.job.id.raw()],
            &[("verdict", &self.asked.verdict)],
        )
    }

    fn older(&self) -> String {
        let Some(next) = &self.events.next else {
            return String::new();
        };
        url(
            &["ui", "jobs", self.job.id.raw()],
            &[("verdict", &self.asked.verdict), ("after", next)],
        )
    }

    fn newer(&self) -> String {
        if self.asked.after.is_empty() {
            return String::new();
        }
        self.here()
    }
}

async fn one(
    session: Session,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let job: Job = session.api.get(&url(&["jobs", &id], &[])).await?;
    let effective = effective(&session.api, &id).await?;
    let (events, position) = events(&session.api, &id, &asked).await?;
    let lines = Lines::of(&session.api, rules(&events.items), effective.as_ref()).await;
    let title = format!("{} · {}", job.title(), job.identity.repo);
    let page = session
        .page(&title, Area::Runs)
        .of(job.identity.owner.raw())
        .with(&["job-events.js"]);
    Ok(show(&JobPage {
        counts: job.counts.unwrap_or_default(),
        page,
        job,
        effective,
        events,
        position,
        asked,
        lines,
    }))
}

/// The rules that decided about events.
fn rules(events: &[Event]) -> impl Iterator<Item = Ruled<'_>> {
    events.iter().filter_map(Event::ruled)
}

/// The policy that holds; none where the store is too busy to say: the rest of the page is worth showing.
async fn effective(api: &Api, id: &str) -> Result<Option<Effective>, Problem> {
    match api.get(&url(&["jobs", id, "effective"], &[])).await {
        Ok(effective) => Ok(Some(effective)),
        Err(problem) if problem.status == 503 => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// A page of events, and the newest event's number when it was read.
async fn events(api: &Api, id: &str, asked: &Asked) -> Result<(Events, String), Problem> {
    let path = url(
        &["jobs", id, "events"],
        &[
            ("limit", EVENTS),
            ("verdict", &asked.verdict),
            ("after", &asked.after),
        ],
    );
    let reply = api.fetch(&path).await?;
    let position = reply.headers.get(POSITION).and_then(|value| value.to_str().ok());
    let position = position.unwrap_or("0").to_owned();
    Ok((reply.json()?, position))
}

#[derive(Template)]
#[template(path = "jobs/rows.html")]
struct Rows {
    items: Vec<Event>,
    writer: bool,
    lines: Lines,
}

/// The newest rows, for the script that follows a job.
async fn rows(
    session: Session,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let (events, _) = events(&session.api, &id, &asked).await?;
    let effective = effective(&session.api, &id).await?;
    let lines = Lines::of(&session.api, rules(&events.items), effective.as_ref()).await;
    Ok(show_part(&Rows {
        items: events.items,
        writer: session.who.can_write(),
        lines,
    }))
}

/// Tells the script that there is something new: the API's own stream, handed on as it is.
async fn stream(
    session: Session,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let path = url(
        &["events", "stream"],
        &[("job", &id), ("verdict", &asked.verdict), ("after", &asked.after)],
    );
    let carried: Vec<(HeaderName, HeaderValue)> = headers
        .get(LAST_EVENT_ID)
        .map(|last| (LAST_EVENT_ID, last.clone()))
        .into_iter()
        .collect();
    let mut response = session.api.stream(&path, "text/event-stream", &carried).await?;
    response
        .headers_mut()
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

#[derive(Template)]
#[template(path = "jobs/end.html")]
struct EndPage {
    page: Page,
    job: Job,
}

/// Shows what ending a job does, before it is done.
async fn ask_end(session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    let job: Job = session.api.get(&url(&["jobs", &id], &[])).await?;
    let page = session.page("End a job's lease", Area::Runs);
    Ok(show(&EndPage { page, job }))
}

#[derive(Debug, Serialize)]
struct Nothing {}

/// Ends a job.
async fn end(
    State(ui): State<Ui>,
    session: Session,
    Path(id): Path<String>,
    _: Fields,
) -> Result<Response, Failure> {
    let path = url(&["jobs", &id, "end"], &[]);
    session
        .api
        .send(axum::http::Method::POST, &path, None, Payload::json(&Nothing {}))
        .await?;
    Ok(done(&ui, &url(&["ui", "jobs", &id], &[]), "job-ended").into_response())
}
