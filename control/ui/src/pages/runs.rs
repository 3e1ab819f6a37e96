//! Runs of the forge, and one run's page: its attempts, their jobs, and the legs of each.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::jobs::{Counts, Held, Job, run_href};
use crate::Ui;
use crate::error::Failure;
use crate::owner::Owner;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Runs on one page.
const ROWS: &str = "50";

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/runs", get(list))
        .route("/ui/runs/{owner}/{repo}/{run_id}", get(one))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    owner: Owner,
    repo: String,
    workflow: String,
    search: String,
    /// `true`, `false`, or empty for both.
    alive: String,
    after: String,
}

impl Asked {
    fn query<'a>(&'a self, owner: &'a str, after: &'a str) -> [(&'static str, &'a str); 6] {
        [
            ("owner", owner),
            ("repo", &self.repo),
            ("workflow", &self.workflow),
            ("search", &self.search),
            ("alive", &self.alive),
            ("after", after),
        ]
    }

    fn href(&self, after: &str) -> String {
        url(&["ui", "runs"], &self.query(self.owner.said(), after))
    }

    fn is_filtered(&self) -> bool {
        let query = self.query(self.owner.name(), "");
        query.iter().any(|(_, value)| !value.is_empty())
    }
}

/// A run in the list.
#[derive(Debug, Deserialize)]
struct Run {
    repo: Text,
    run_id: Option<Text>,
    workflow: Text,
    event: Text,
    #[serde(rename = "ref")]
    git_ref: Text,
    actor: Text,
    attempt: u32,
    job_id: Text,
    jobs: u64,
    alive: u64,
    started_at: When,
    ended_at: Option<When>,
    counts: Option<Counts>,
    /// It has too many jobs to be added up.
    #[serde(default)]
    more: bool,
    policy: Option<Held>,
}

impl Run {
    /// Its page; that of its job when it is a run by itself.
    fn href(&self) -> String {
        let run = self.run_id.as_ref().map_or("", |run| run.raw());
        run_href(self.repo.raw(), run).unwrap_or_else(|| url(&["ui", "jobs", self.job_id.raw()], &[]))
    }

    fn counts(&self) -> Counts {
        self.counts.unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
struct Runs {
    items: Vec<Run>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "runs/list.html")]
struct ListPage {
    page: Page,
    asked: Asked,
    items: Vec<Run>,
    next: Option<String>,
}

impl ListPage {
    fn older(&self) -> String {
        let next = self.next.as_deref();
        next.map_or(String::new(), |next| self.asked.href(next))
    }

    fn newer(&self) -> String {
        if self.asked.after.is_empty() {
            return String::new();
        }
        self.asked.href("")
    }
}

async fn list(session: Session, Query(mut asked): Query<Asked>) -> Result<Response, Failure> {
    let page = session.page("Runs", Area::Runs);
    asked
        .owner
        .settle(&page.owner, !asked.repo.is_empty() || !asked.search.is_empty());
    let mut query = asked.query(asked.owner.name(), &asked.after).to_vec();
    query.push(("limit", ROWS));
    let found: Runs = session.api.get(&url(&["runs"], &query)).await?;
    Ok(show(&ListPage {
        page,
        asked,
        items: found.items,
        next: found.next,
    }))
}

/// A job of a run.
#[derive(Debug, Deserialize)]
struct Leg {
    #[serde(flatten)]
    job: Job,
    policy: Option<Held>,
}

impl Leg {
    fn counts(&self) -> Counts {
        self.job.counts.unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
struct AttemptJob {
    job: Text,
    legs: Vec<Leg>,
}

impl AttemptJob {
    fn name(&self) -> String {
        if self.job.is_empty() {
            "unnamed".to_owned()
        } else {
            self.job.to_string()
        }
    }
}

#[derive(Debug, Deserialize)]
struct Attempt {
    attempt: u32,
    jobs: Vec<AttemptJob>,
}

#[derive(Debug, Deserialize)]
struct Detail {
    repo: Text,
    run_id: Text,
    workflow: Text,
    event: Text,
    #[serde(rename = "ref")]
    git_ref: Text,
    actor: Text,
    head_repo: Text,
    started_at: When,
    ended_at: Option<When>,
    counts: Option<Counts>,
    attempts: Vec<Attempt>,
    more: bool,
}

#[derive(Template)]
#[template(path = "runs/one.html")]
struct RunPage {
    page: Page,
    run: Detail,
    counts: Counts,
}

impl RunPage {
    fn events_href(&self, verdict: &str) -> String {
        let query = [
            ("repo", self.run.repo.raw()),
            ("run", self.run.run_id.raw()),
            ("verdict", verdict),
        ];
        url(&["ui", "events"], &query)
    }

    fn runs_href(&self) -> String {
        url(&["ui", "runs"], &[("repo", self.run.repo.raw())])
    }
}

async fn one(
    session: Session,
    Path((owner, repo, run_id)): Path<(String, String, String)>,
) -> Result<Response, Failure> {
    let run: Detail = session
        .api
        .get(&url(&["runs", &owner, &repo, &run_id], &[]))
        .await?;
    let title = format!("Run {} · {}", run.run_id, run.repo);
    let owner = run.repo.raw().split('/').next().unwrap_or_default().to_owned();
    let page = session.page(&title, Area::Runs).of(&owner);
    Ok(show(&RunPage {
        page,
        counts: run.counts.unwrap_or_default(),
        run,
    }))
}
