//! The summary of a job, as its runner was shown it: a part of the job's page that loads by itself.

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::error::Failure;
use crate::event::size;
use crate::page::{Area, Page, show, show_part};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;
use crate::{Ui, guard};

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/jobs/{id}/summary", get(summary))
}

/// A destination of a summary.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Destination {
    endpoint: Text,
    port: u16,
    kind: Text,
    meaning: Option<Text>,
    reason: Option<Text>,
    rule: Option<Text>,
    nearest: Option<Text>,
    allow: Option<Text>,
    advice: Option<Text>,
    count: u64,
    bytes_up: u64,
    bytes_down: u64,
}

impl Destination {
    fn target(&self) -> String {
        match (self.kind.raw(), self.port) {
            ("dns", _) => format!("{} (lookup)", self.endpoint),
            (_, 0) => self.endpoint.to_string(),
            (_, port) if self.endpoint.raw().contains(':') => format!("[{}]:{port}", self.endpoint),
            (_, port) => format!("{}:{port}", self.endpoint),
        }
    }

    fn why(&self) -> String {
        let why = self.meaning.as_ref().or(self.reason.as_ref());
        why.map(Text::to_string).unwrap_or_default()
    }

    /// The rule that permitted it.
    fn decided(&self) -> Option<&Text> {
        self.rule
            .as_ref()
            .filter(|_| self.meaning.is_none() && self.reason.is_none())
    }

    fn bytes(&self) -> String {
        match self.bytes_up.saturating_add(self.bytes_down) {
            0 => String::new(),
            bytes => size(bytes),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Used {
    name: Text,
    version: u32,
    mode: Text,
    scope: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summed {
    permit: u64,
    would_refuse: u64,
    refuse: u64,
    search_suffix: u64,
}

/// A summary, as the runner was shown it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    policies: Vec<Used>,
    counts: Summed,
    refused: Vec<Destination>,
    would_refuse: Vec<Destination>,
    permitted: Vec<Destination>,
    since: Option<When>,
    dropped: u64,
}

impl Summary {
    /// Its lists with their headings.
    fn lists(&self) -> [(&'static str, &'static str, &Vec<Destination>); 3] {
        [
            ("refuse", "Refused", &self.refused),
            ("would-refuse", "Would be refused", &self.would_refuse),
            ("permit", "Permitted", &self.permitted),
        ]
    }
}

#[derive(Template)]
#[template(path = "jobs/summary_part.html")]
struct SummaryPart {
    summary: Summary,
}

#[derive(Template)]
#[template(path = "jobs/summary.html")]
struct SummaryPage {
    page: Page,
    id: Text,
    back: String,
    summary: Summary,
}

/// The summary: a part of the job's page for scripts, a page of its own for who has none.
async fn summary(session: Session, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let summary: Summary = session.api.get(&url(&["jobs", &id, "summary"], &[])).await?;
    if guard::is_part(&headers) {
        return Ok(show_part(&SummaryPart { summary }));
    }
    let page = session.page("Summary", Area::Runs);
    Ok(show(&SummaryPage {
        page,
        back: url(&["ui", "jobs", &id], &[]),
        id: id.into(),
        summary,
    }))
}
