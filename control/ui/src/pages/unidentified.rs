//! Unidentified sources: machines that nobody vouches for, what they tried, and what to do about each.
//!
//! Owns the advice. Who asked without a lease is the API's to say; it says so to people without limits only.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::Ui;
use crate::error::{Failure, Problem};
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Sources on one page.
const ROWS: &str = "50";

pub(crate) fn routes() -> Router<Ui> {
    Router::new().route("/ui/unidentified", get(list))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    network: String,
    gateway: String,
    source: String,
    days: String,
    after: String,
}

impl Asked {
    fn href(&self, after: &str) -> String {
        url(
            &["ui", "unidentified"],
            &[
                ("network", &self.network),
                ("gateway", &self.gateway),
                ("source", &self.source),
                ("days", &self.days),
                ("after", after),
            ],
        )
    }

    fn days(&self) -> i64 {
        self.days.parse().unwrap_or(1).clamp(1, 31)
    }

    /// The spans to choose from: days, words, whether it is this one.
    fn spans(&self) -> Vec<(i64, &'static str, bool)> {
        [(1, "a day"), (7, "7 days"), (31, "31 days")]
            .into_iter()
            .map(|(days, word)| (days, word, days == self.days()))
            .collect()
    }

    fn is_filtered(&self) -> bool {
        [&self.network, &self.gateway, &self.source]
            .iter()
            .any(|text| !text.is_empty())
    }
}

#[derive(Debug, Deserialize)]
struct Reason {
    meaning: Text,
    count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tried {
    endpoint: Text,
    port: u16,
    kind: Text,
    verdict: Text,
    count: u64,
}

impl Tried {
    fn target(&self) -> String {
        match (self.kind.raw(), self.port) {
            ("dns", _) => format!("{} (lookup)", self.endpoint),
            (_, 0) => self.endpoint.to_string(),
            (_, port) if self.endpoint.raw().contains(':') => format!("[{}]:{port}", self.endpoint),
            (_, port) => format!("{}:{port}", self.endpoint),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Near {
    job_id: Text,
    ended_at: When,
}

#[derive(Debug, Deserialize)]
struct Source {
    source: Text,
    network: Text,
    gateway: Text,
    first_at: When,
    last_at: When,
    permits: u64,
    refusals: u64,
    would_refuse: u64,
    #[serde(default)]
    reasons: Vec<Reason>,
    #[serde(default)]
    tried: Vec<Tried>,
    #[serde(default)]
    further: u64,
    lease_now: Option<Text>,
    near: Option<Near>,
}

/// What most likely is the matter with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// A job holds it by now: it spoke before it had registered.
    Early,
    /// A job ended there not long before.
    Late,
    /// Nobody ever said who it is.
    Unknown,
}

impl Source {
    fn guess(&self) -> Guess {
        if self.lease_now.is_some() {
            Guess::Early
        } else if self.near.is_some() {
            Guess::Late
        } else {
            Guess::Unknown
        }
    }

    fn job_href(&self) -> Option<String> {
        let job = self
            .lease_now
            .as_ref()
            .or(self.near.as_ref().map(|near| &near.job_id))?;
        Some(url(&["ui", "jobs", job.raw()], &[]))
    }

    fn events_href(&self) -> String {
        let query = [("unidentified", "true"), ("source", self.source.raw())];
        url(&["ui", "events"], &query)
    }

    fn connect_href(&self) -> String {
        url(&["ui", "connect"], &[("network", self.network.raw())])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    items: Vec<Source>,
    next: Option<String>,
    beyond: u64,
}

#[derive(Template)]
#[template(path = "unidentified/list.html")]
struct ListPage {
    page: Page,
    asked: Asked,
    /// None for somebody who is limited to organizations.
    answer: Option<Answer>,
}

impl ListPage {
    fn older(&self) -> String {
        let next = self.answer.as_ref().and_then(|answer| answer.next.as_deref());
        next.map_or(String::new(), |next| self.asked.href(next))
    }

    fn newer(&self) -> String {
        if self.asked.after.is_empty() {
            return String::new();
        }
        self.asked.href("")
    }
}

async fn list(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let answer = if session.who.owners.is_empty() {
        Some(read(&session, &asked).await?)
    } else {
        None
    };
    let page = session.page("Unidentified sources", Area::Unidentified);
    Ok(show(&ListPage { page, asked, answer }))
}

async fn read(session: &Session, asked: &Asked) -> Result<Answer, Problem> {
    let since = Timestamp::now() - SignedDuration::from_hours(24 * asked.days());
    let since = When(since).exact();
    let path = url(
        &["unidentified-sources"],
        &[
            ("network", &asked.network),
            ("gateway", &asked.gateway),
            ("source", &asked.source),
            ("since", &since),
            ("after", &asked.after),
            ("limit", ROWS),
        ],
    );
    session.api.get(&path).await
}
