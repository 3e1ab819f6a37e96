//! Coverage: every workflow that was seen, what decides about it, and what it was told.
//!
//! Owns the page's questions, which all stand in its address. What is ready to block is the API's to say.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::Ui;
use crate::error::Failure;
use crate::owner::Owner;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Workflows on one page.
const ROWS: &str = "50";

pub(crate) fn routes() -> Router<Ui> {
    Router::new().route("/ui/coverage", get(list))
}

/// What is looked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    owner: Owner,
    repo: String,
    cluster: String,
    search: String,
    filter: String,
    sort: String,
    days: String,
    after: String,
}

impl Asked {
    /// This question but for the organization, with another filter.
    fn with<'a>(&'a self, filter: &'a str, after: &'a str) -> Vec<(&'static str, &'a str)> {
        vec![
            ("repo", &self.repo),
            ("cluster", &self.cluster),
            ("search", &self.search),
            ("sort", &self.sort),
            ("days", &self.days),
            ("filter", filter),
            ("after", after),
        ]
    }

    fn href(&self, filter: &str, after: &str) -> String {
        let mut query = vec![("owner", self.owner.said())];
        query.extend(self.with(filter, after));
        url(&["ui", "coverage"], &query)
    }

    fn api(&self) -> String {
        let mut query = vec![("owner", self.owner.name()), ("limit", ROWS)];
        query.extend(self.with(&self.filter, &self.after));
        url(&["coverage"], &query)
    }

    fn is_filtered(&self) -> bool {
        [
            self.owner.name(),
            &self.repo,
            &self.cluster,
            &self.search,
            &self.filter,
        ]
        .iter()
        .any(|text| !text.is_empty())
    }

    fn days(&self) -> &str {
        if self.days.is_empty() { "7" } else { &self.days }
    }

    /// The beginning of the first day that is counted; today (UTC) is one of them. The API judges the days.
    fn since(&self, now: Timestamp) -> String {
        let before = self.days().parse().unwrap_or(1_i64).clamp(1, 400) - 1;
        let first = now.saturating_sub(SignedDuration::from_hours(24 * before));
        first.map_or_else(
            |_| String::new(),
            |first| first.strftime("%Y-%m-%dT00:00:00Z").to_string(),
        )
    }

    /// What is counted over, in words.
    fn span(&self) -> String {
        match self.days() {
            "1" => "today".to_owned(),
            days => format!("in the last {} days", Text::from(days)),
        }
    }

    /// The spans to choose from: days, words, whether it is this one.
    fn spans(&self) -> Vec<(&'static str, &'static str, bool)> {
        [
            ("1", "today"),
            ("7", "7 days"),
            ("14", "14 days"),
            ("30", "30 days"),
        ]
        .into_iter()
        .map(|(days, word)| (days, word, days == self.days()))
        .collect()
    }

    /// The orders to choose from.
    fn orders(&self) -> Vec<(&'static str, &'static str, bool)> {
        let now = if self.sort.is_empty() { "last" } else { &self.sort };
        [
            ("last", "last seen first"),
            ("refusals", "most refusals first"),
            ("name", "by name"),
        ]
        .into_iter()
        .map(|(sort, word)| (sort, word, sort == now))
        .collect()
    }
}

/// A policy that holds.
#[derive(Debug, Deserialize)]
struct Held {
    owner: Text,
    name: Text,
    mode: Text,
    #[serde(default)]
    unusable: bool,
}

impl Held {
    fn href(&self, rest: &[&str], query: &[(&str, &str)]) -> String {
        let mut segments = vec!["ui", "orgs", self.owner.raw(), "policies", self.name.raw()];
        segments.extend_from_slice(rest);
        url(&segments, query)
    }

    /// Its page.
    fn page(&self) -> String {
        self.href(&[], &[])
    }

    /// Where its mode is switched.
    fn switch(&self) -> String {
        self.href(&["mode"], &[("to", "block")])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    permit: u64,
    refuse: u64,
    would_refuse: u64,
}

#[derive(Debug, Deserialize)]
struct Baseline {
    state: Text,
    runs: u64,
}

/// A workflow.
#[derive(Debug, Deserialize)]
struct Row {
    owner: Text,
    repo: Text,
    workflow: Text,
    cluster: Text,
    network: Option<Text>,
    policy: Option<Held>,
    scope: Option<Text>,
    decided_by: Text,
    default_policy: Option<Text>,
    assurance: Option<Text>,
    min_assurance: Option<Text>,
    below_min_assurance: bool,
    last_seen: When,
    last_job: Option<Text>,
    counts: Counts,
    baseline: Option<Baseline>,
    ready_to_block: bool,
    why_not: Vec<Text>,
}

impl Row {
    fn name(&self) -> String {
        let repo = if self.repo.is_empty() {
            &self.owner
        } else {
            &self.repo
        };
        repo.to_string()
    }

    /// By whom its jobs are decided, when it is no policy of an organization.
    fn default(&self) -> Option<String> {
        if self.decided_by.raw() == "policy" {
            return None;
        }
        Some(match (&self.network, &self.default_policy) {
            (_, Some(default)) => format!("network default: {default}"),
            (Some(network), None) => format!("default of network {network}"),
            (None, None) => "network default".to_owned(),
        })
    }

    fn job_href(&self) -> Option<String> {
        let job = self.last_job.as_ref()?;
        Some(url(&["ui", "jobs", job.raw()], &[]))
    }

    fn runs_href(&self) -> String {
        let query = [("repo", self.repo.raw()), ("workflow", self.workflow.raw())];
        url(&["ui", "runs"], &query)
    }

    /// Its events of one verdict, of the days that are counted.
    fn events_href(&self, verdict: &str, since: &str) -> String {
        let query = [
            ("repo", self.repo.raw()),
            ("workflow", self.workflow.raw()),
            ("verdict", verdict),
            ("since", since),
        ];
        url(&["ui", "events"], &query)
    }

    /// Where a policy for it would be made of what it reached.
    fn baseline_href(&self) -> String {
        let scope = if self.workflow.is_empty() {
            format!("repo:{}", self.repo.raw())
        } else {
            format!("workflow:{}/{}", self.repo.raw(), self.workflow.raw())
        };
        url(&["ui", "baselines", "scope"], &[("scope", &scope)])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counters {
    all: u64,
    no_policy: u64,
    audit: u64,
    block: u64,
    ready_to_block: u64,
    below_min_assurance: u64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    items: Vec<Row>,
    next: Option<String>,
    counters: Counters,
}

#[derive(Template)]
#[template(path = "coverage/list.html")]
struct ListPage {
    page: Page,
    asked: Asked,
    items: Vec<Row>,
    next: Option<String>,
    counters: Counters,
    /// Since when is counted.
    since: String,
}

impl ListPage {
    /// The counters: how many, of what, their link, whether they filter now.
    fn counted(&self) -> Vec<(u64, &'static str, String, bool)> {
        let one = |count, word, filter: &str| {
            let href = self.asked.href(filter, "");
            (count, word, href, self.asked.filter == filter)
        };
        let counters = &self.counters;
        vec![
            one(
                counters.all,
                if counters.all == 1 {
                    "workflow"
                } else {
                    "workflows"
                },
                "",
            ),
            one(counters.block, "in block mode", "block"),
            one(counters.audit, "in audit mode", "audit"),
            one(counters.ready_to_block, "ready to block", "ready-to-block"),
            one(counters.no_policy, "without a policy", "no-policy"),
            one(
                counters.below_min_assurance,
                "known too little",
                "below-min-assurance",
            ),
        ]
    }

    fn older(&self) -> String {
        let next = self.next.as_deref();
        next.map_or(String::new(), |next| self.asked.href(&self.asked.filter, next))
    }

    fn newer(&self) -> String {
        if self.asked.after.is_empty() {
            return String::new();
        }
        self.asked.href(&self.asked.filter, "")
    }
}

async fn list(session: Session, Query(mut asked): Query<Asked>) -> Result<Response, Failure> {
    let page = session.page("Coverage", Area::Coverage);
    let is_narrower = [&asked.repo, &asked.cluster, &asked.search]
        .iter()
        .any(|text| !text.is_empty());
    asked.owner.settle(&page.owner, is_narrower);
    let answer: Answer = session.api.get(&asked.api()).await?;
    Ok(show(&ListPage {
        page,
        since: asked.since(Timestamp::now()),
        asked,
        items: answer.items,
        next: answer.next,
        counters: answer.counters,
    }))
}
