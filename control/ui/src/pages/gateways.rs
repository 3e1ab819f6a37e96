//! The fleet of gateways: how far each is, what it holds, and what is wrong with it.
//!
//! Owns the list. What "degraded" means is the API's.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::Ui;
use crate::error::Failure;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

pub(crate) fn routes() -> Router<Ui> {
    Router::new().route("/ui/gateways", get(list))
}

/// States that can be asked for: what stands in the address, and its word.
const STATES: &[(&str, &str)] = &[
    ("", "All"),
    ("degraded", "Degraded"),
    ("away", "Not connected"),
    ("behind", "Behind"),
    ("drops", "Dropped today"),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    search: String,
    state: String,
    after: String,
}

impl Asked {
    fn here(&self, state: &str, after: &str) -> String {
        let query = [("search", self.search.trim()), ("state", state), ("after", after)];
        url(&["ui", "gateways"], &query)
    }
}

#[derive(Debug, Deserialize)]
struct Network {
    name: Text,
    #[serde(default)]
    cluster: Text,
    #[serde(default)]
    ranges: Vec<Text>,
    #[serde(default)]
    default_policy: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Drops {
    today: u64,
    week: u64,
}

#[derive(Debug, Deserialize)]
struct Lane {
    lane: Text,
    last_at: When,
    dropped: u64,
}

#[derive(Debug, Deserialize)]
struct Token {
    #[serde(default)]
    expires_at: Option<When>,
}

#[derive(Debug, Deserialize)]
struct Degraded {
    text: Text,
}

#[derive(Debug, Deserialize)]
struct Gateway {
    name: Text,
    group: Text,
    networks: Vec<Network>,
    version: Text,
    first_seen_at: When,
    last_seen_at: When,
    generation: u64,
    newest_generation: u64,
    lag: u64,
    #[serde(default)]
    behind_since: Option<When>,
    connected: bool,
    leases: u64,
    drops: Drops,
    spool: Vec<Lane>,
    #[serde(default)]
    token: Option<Token>,
    degraded: Vec<Degraded>,
}

impl Gateway {
    /// The badge: its colour and its word.
    fn state(&self) -> (&'static str, &'static str) {
        match (self.connected, self.degraded.is_empty()) {
            (true, true) => ("good", "connected"),
            (true, false) => ("warn", "degraded"),
            (false, true) => ("info", "elsewhere"),
            (false, false) => ("bad", "degraded"),
        }
    }

    /// The group of who has others in it; a gateway alone is its own.
    fn group_name(&self) -> Option<Text> {
        self.group.raw().strip_prefix("group:").map(Text::from)
    }

    fn events_href(&self) -> String {
        url(&["ui", "events"], &[("gateway", self.name.raw())])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counters {
    all: u64,
    connected: u64,
    degraded: u64,
    away: u64,
    behind: u64,
    drops: u64,
}

impl Counters {
    fn of(&self, state: &str) -> u64 {
        match state {
            "degraded" => self.degraded,
            "away" => self.away,
            "behind" => self.behind,
            "drops" => self.drops,
            _ => self.all,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Found {
    items: Vec<Gateway>,
    #[serde(default)]
    next: Option<String>,
    counters: Counters,
    /// Leases, tokens and dropped verdicts are others', too: they are not told.
    #[serde(default)]
    limited: bool,
}

#[derive(Template)]
#[template(path = "gateways/list.html")]
struct List {
    page: Page,
    asked: Asked,
    found: Found,
    older: String,
    newest: String,
}

async fn list(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let query = [
        ("search", asked.search.trim()),
        ("state", asked.state.trim()),
        ("sort", "degraded"),
        ("after", asked.after.as_str()),
        ("limit", "50"),
    ];
    let found: Found = session.api.get(&url(&["gateways"], &query)).await?;
    let state = asked.state.trim();
    Ok(show(&List {
        page: session.page("Gateways", Area::Gateways),
        older: found
            .next
            .as_deref()
            .map(|next| asked.here(state, next))
            .unwrap_or_default(),
        newest: if asked.after.is_empty() {
            String::new()
        } else {
            asked.here(state, "")
        },
        asked,
        found,
    }))
}
