//! Baselines: which there are, what a scope's jobs were seen to reach, and the way from there to a policy.
//!
//! Owns the list and one baseline's page. Making a policy of one is [`import`]'s.

mod import;

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::Ui;
use crate::error::Failure;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::spark::{HEIGHT, Spark};
use crate::text::{Text, endpoint, url};
use crate::time::When;

/// Endpoints on one page.
const ENDPOINTS: &str = "50";
/// Days in the small pictures.
const DAYS: &str = "30";

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/baselines", get(list_or_one))
        .route("/ui/baselines/scope", get(list_or_one))
        .route("/ui/baselines/export", get(export))
        .merge(import::routes())
}

/// Whether what is new means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    #[default]
    Creating,
    Stable,
    Unstable,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Stable => "stable",
            Self::Unstable => "unstable",
        }
    }

    /// The badge's colour.
    fn kind(self) -> &'static str {
        match self {
            Self::Creating => "info",
            Self::Stable => "good",
            Self::Unstable => "warn",
        }
    }
}

/// A scope as it is shown, and what its parts lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    raw: String,
    /// `Organization`, `Repository`, `Workflow` or `Cluster`.
    kind: &'static str,
    /// Without its kind.
    name: Text,
    /// The organization that a policy of it would be of; empty for clusters.
    owner: String,
}

impl Scope {
    fn of(raw: &str) -> Self {
        let (kind, name) = raw.split_once(':').unwrap_or(("", raw));
        let (kind, has_owner) = match kind {
            "org" => ("Organization", true),
            "repo" => ("Repository", true),
            "workflow" => ("Workflow", true),
            "cluster" => ("Cluster", false),
            _ => ("Scope", false),
        };
        let owner = name.split('/').next().filter(|_| has_owner);
        Self {
            raw: raw.to_owned(),
            kind,
            name: name.into(),
            owner: owner.unwrap_or_default().to_owned(),
        }
    }

    fn href(&self) -> String {
        url(&["ui", "baselines", "scope"], &[("scope", &self.raw)])
    }

    /// Calls by day are known of it.
    fn has_days(&self) -> bool {
        matches!(self.kind, "Repository" | "Workflow")
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    scope: String,
    state: State,
    runs: u64,
    runs_since_change: u64,
    endpoints: u64,
    last_seen: Option<When>,
}

#[derive(Debug, Deserialize)]
struct Lists {
    items: Vec<Listed>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "baselines/list.html")]
struct ListPage {
    page: Page,
    owner: Text,
    search: Text,
    items: Vec<(Scope, Listed)>,
    is_filtered: bool,
    older: String,
    newer: String,
}

/// One baseline where a scope is named, else the list.
async fn list_or_one(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    if asked.scope.trim().is_empty() {
        list(session, asked).await
    } else {
        one(session, asked).await
    }
}

async fn list(session: Session, asked: Asked) -> Result<Response, Failure> {
    // A session of several organizations sees one at a time.
    let first = session.who.owners.first().map(|owner| owner.raw().to_owned());
    let owner = match asked.owner.trim() {
        "" => first.unwrap_or_default(),
        said => said.to_owned(),
    };
    let search = asked.search.trim();
    let query = [("owner", owner.as_str()), ("search", search)];
    let mut path = query.to_vec();
    path.extend([("after", asked.after.as_str()), ("limit", "100")]);
    let found: Lists = session.api.get(&url(&["baseline-scopes"], &path)).await?;
    let here = |after: &str| {
        let mut query = query.to_vec();
        query.push(("after", after));
        url(&["ui", "baselines"], &query)
    };
    Ok(show(&ListPage {
        page: session.page("Baselines", Area::Baselines),
        is_filtered: !asked.owner.trim().is_empty() || !search.is_empty() || !asked.after.is_empty(),
        older: found.next.as_deref().map(here).unwrap_or_default(),
        newer: if asked.after.is_empty() {
            String::new()
        } else {
            here("")
        },
        owner: asked.owner.trim().into(),
        search: search.into(),
        items: found
            .items
            .into_iter()
            .map(|one| (Scope::of(&one.scope), one))
            .collect(),
    }))
}

/// Which baseline, and which part of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    scope: String,
    /// Of the list.
    owner: String,
    search: String,
    min_runs: String,
    /// A day.
    since: String,
    after: String,
}

impl Asked {
    /// For the API: what an import takes.
    fn wanted(&self) -> Vec<(&'static str, String)> {
        let mut wanted = vec![("scope", self.scope.trim().to_owned())];
        wanted.push(("min_runs", self.min_runs.trim().to_owned()));
        wanted.push(("since", since(&self.since)));
        wanted
    }

    /// The same page from this cursor on.
    fn from(&self, after: &str) -> String {
        let query = [
            ("scope", self.scope.as_str()),
            ("search", &self.search),
            ("min_runs", &self.min_runs),
            ("since", &self.since),
            ("after", after),
        ];
        url(&["ui", "baselines", "scope"], &query)
    }
}

/// A day of a form as the API takes it. Whatever else was written goes there as it is, and is refused in its words.
fn since(day: &str) -> String {
    let day = day.trim();
    let is_day = day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_day {
        format!("{day}T00:00:00Z")
    } else {
        day.to_owned()
    }
}

fn path_of(segments: &[&str], query: &[(&'static str, String)]) -> String {
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    url(segments, &query)
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    endpoint: Text,
    port: u16,
    transport: Text,
    first_seen: When,
    last_seen: When,
    calls: u64,
    runs: u64,
    imported: bool,
    left_out: Vec<String>,
    #[serde(default)]
    daily: Vec<u64>,
}

impl Endpoint {
    /// As a policy names it: what forms send.
    fn rule(&self) -> String {
        endpoint(self.endpoint.raw(), self.port, self.transport.raw())
    }

    fn shown(&self) -> Text {
        self.rule().into()
    }

    /// Why an import leaves it out.
    fn reasons(&self) -> String {
        let phrases: Vec<_> = self.left_out.iter().map(|reason| phrase(reason)).collect();
        phrases.join("; ")
    }

    /// Somebody may take it all the same.
    fn can_be_taken(&self) -> bool {
        !self.left_out.iter().any(|reason| reason == "not-an-endpoint")
    }

    fn spark(&self) -> Option<Spark> {
        (!self.daily.is_empty()).then(|| Spark::of(&self.daily))
    }
}

/// Of one endpoint, why an import leaves it out.
fn phrase(reason: &str) -> &'static str {
    match reason {
        "fork-pull-request" => "only pull requests from forks reached it",
        "claimed" => "only claimed identities reached it",
        "single-run" => "a single run reached it",
        "few-runs" => "too few runs reached it",
        "search-suffix" => "a resolver made it with a search suffix",
        "open-detection" => "it is new, and its detection is open",
        "unexpected" => "its detection was not resolved as expected",
        "not-since" => "not reached since then",
        "not-an-endpoint" => "no policy can name it",
        _ => "left out",
    }
}

#[derive(Debug, Deserialize)]
struct Baseline {
    scope: String,
    state: State,
    runs: u64,
    runs_since_change: u64,
    changed_at: Option<When>,
    stable_at: Option<When>,
    endpoints_total: u64,
    endpoints_dropped: u64,
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "baselines/one.html")]
struct OnePage {
    page: Page,
    scope: Scope,
    asked: Asked,
    baseline: Baseline,
    export: String,
    older: String,
    newer: String,
    height: u64,
}

async fn one(session: Session, asked: Asked) -> Result<Response, Failure> {
    let mut query = asked.wanted();
    query.extend([
        ("search", asked.search.trim().to_owned()),
        ("after", asked.after.clone()),
        ("limit", ENDPOINTS.to_owned()),
        ("days", DAYS.to_owned()),
    ]);
    let baseline: Baseline = session.api.get(&path_of(&["baselines"], &query)).await?;
    let scope = Scope::of(&baseline.scope);
    let title = format!("Baseline of {}", scope.name);
    Ok(show(&OnePage {
        page: session.page(&title, Area::Baselines),
        export: path_of(&["ui", "baselines", "export"], &asked.wanted()),
        older: baseline
            .next
            .as_deref()
            .map(|next| asked.from(next))
            .unwrap_or_default(),
        newer: if asked.after.is_empty() {
            String::new()
        } else {
            asked.from("")
        },
        height: HEIGHT,
        scope,
        asked,
        baseline,
    }))
}

/// What an import takes, an endpoint a line, as a file.
async fn export(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let mut query = asked.wanted();
    query.push(("format", "txt".to_owned()));
    let carried: [(HeaderName, HeaderValue); 1] = [(ACCEPT, HeaderValue::from_static("text/plain"))];
    let path = path_of(&["baselines"], &query);
    let mut response = session.api.stream(&path, "text/plain", &carried).await?;
    let name = HeaderValue::from_static("attachment; filename=\"baseline.txt\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_tells_whose_policy_it_would_become() {
        let of = |raw: &str| {
            let scope = Scope::of(raw);
            (scope.kind, scope.name.to_string(), scope.owner)
        };
        let parts = |kind, name: &str, owner: &str| (kind, name.to_owned(), owner.to_owned());
        assert_eq!(of("org:acme"), parts("Organization", "acme", "acme"));
        assert_eq!(of("repo:acme/web"), parts("Repository", "acme/web", "acme"));
        assert_eq!(
            of("workflow:acme/web/a:b.yml"),
            parts("Workflow", "acme/web/a:b.yml", "acme")
        );
        assert_eq!(of("cluster:prod"), parts("Cluster", "prod", ""));
        assert_eq!(
            Scope::of("workflow:acme/web/a#b.yml").href(),
            "/ui/baselines/scope?scope=workflow%3Aacme%2Fweb%2Fa%23b.yml"
        );
    }

    #[test]
    fn a_day_of_a_form_is_a_moment_for_the_api() {
        assert_eq!(since("2026-11-22"), "2026-11-22T00:00:00Z");
        assert_eq!(since(" "), "");
        assert_eq!(since("yesterday"), "yesterday");
    }
}
