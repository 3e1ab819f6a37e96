//! Settings: what the control plane was told (read-only), tokens, and who is signed in.
//!
//! Owns the tabs and the first of them. The configuration is a file; this page says what is in force.

mod sessions;
mod tokens;

use askama::Template;
use axum::Router;
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
    Router::new()
        .route("/ui/settings", get(overview))
        .merge(tokens::routes())
        .merge(sessions::routes())
}

/// The tabs of these pages; `current` is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tab {
    Configuration,
    Tokens,
    Sessions,
}

impl Tab {
    const ALL: [Self; 3] = [Self::Configuration, Self::Tokens, Self::Sessions];

    fn word(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Tokens => "Tokens",
            Self::Sessions => "Sessions",
        }
    }

    fn href(self) -> &'static str {
        match self {
            Self::Configuration => "/ui/settings",
            Self::Tokens => "/ui/settings/tokens",
            Self::Sessions => "/ui/settings/sessions",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Settings {
    version: Text,
    epoch: Text,
    store: Text,
    configured: Option<Configured>,
}

#[derive(Debug, Deserialize)]
struct Configured {
    listen: Text,
    tls: bool,
    public_url: Option<Text>,
    strict: bool,
    retention: Retention,
    oidc: Vec<Issuer>,
    login: Option<Login>,
    feed: Option<Feed>,
}

#[derive(Debug, Deserialize)]
struct Retention {
    events_seconds: u64,
    rollups_seconds: u64,
}

impl Retention {
    fn events(&self) -> String {
        span(self.events_seconds)
    }

    fn rollups(&self) -> String {
        span(self.rollups_seconds)
    }
}

#[derive(Debug, Deserialize)]
struct Issuer {
    issuer: Text,
    audience: Text,
    owners: Vec<Text>,
    keys: u64,
    fetched_at: Option<When>,
    error: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Login {
    issuer: Text,
    client_id: Text,
    scopes: Vec<Text>,
    name_claim: Option<Text>,
    groups_claim: Text,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    group: Text,
    role: Text,
    owners: Vec<Text>,
}

#[derive(Debug, Deserialize)]
struct Feed {
    url: Text,
    interval_seconds: u64,
    serial: Option<u64>,
    date: Option<When>,
    checked_at: Option<When>,
    error: Option<Text>,
}

impl Feed {
    fn interval(&self) -> String {
        span(self.interval_seconds)
    }
}

#[derive(Template)]
#[template(path = "settings/configuration.html")]
struct Overview {
    page: Page,
    tabs: [Tab; 3],
    tab: Tab,
    settings: Option<Settings>,
}

/// What is configured, to admins without limits; everybody else sees what they are themselves.
async fn overview(session: Session) -> Result<Response, Failure> {
    let settings = if session.who.is_unlimited_admin() {
        Some(session.api.get(&url(&["settings"], &[])).await?)
    } else {
        None
    };
    Ok(show(&Overview {
        page: session.page("Settings", Area::Settings),
        tabs: Tab::ALL,
        tab: Tab::Configuration,
        settings,
    }))
}

/// A span in the largest unit that says it exactly.
fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        seconds if seconds > 0 && seconds.is_multiple_of(86_400) => (seconds / 86_400, "day"),
        seconds if seconds > 0 && seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
        seconds if seconds > 0 && seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        seconds => (seconds, "second"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// Names with commas; what it means when there are none.
fn names(names: &[Text], none: &str) -> String {
    if names.is_empty() {
        return none.to_owned();
    }
    names.iter().map(Text::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_their_largest_unit() {
        for (seconds, said) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (60, "1 minute"),
            (7_200, "2 hours"),
            (86_400, "1 day"),
            (34_560_000, "400 days"),
        ] {
            assert_eq!(span(seconds), said);
        }
    }
}
