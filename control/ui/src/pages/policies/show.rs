//! One policy: what it says, where it stands, and what can be done with it.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::parts::lines;
use super::{Mode, Named, Policy};
use crate::Ui;
use crate::error::{Diagnostic, Failure};
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};

/// Lines of a text on one page.
const LINES: usize = 500;

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/orgs/{owner}/policies/{name}", get(one))
}

/// What there is to say about a text, and what it decides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Checked {
    pub(super) ok: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) parsed: Option<Parsed>,
}

/// The parsed form, as far as pages show it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Parsed {
    egress_policy: Option<Mode>,
    allowed_endpoints: Vec<serde::de::IgnoredAny>,
    denied_endpoints: Vec<serde::de::IgnoredAny>,
    #[serde(rename = "use")]
    pub(super) uses: Vec<Text>,
    pub(super) lockdown_mode: Option<Lockdown>,
}

/// The lockdown section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lockdown {
    pub(super) enabled: bool,
    pub(super) detections: Vec<String>,
}

impl Parsed {
    pub(super) fn mode(&self) -> Mode {
        self.egress_policy.unwrap_or_default()
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed_endpoints.len()
    }

    pub(super) fn denied(&self) -> usize {
        self.denied_endpoints.len()
    }
}

#[derive(Debug, Serialize)]
struct CheckRequest<'t> {
    owner: &'t str,
    yaml: &'t str,
}

/// Reads a text as `tidegate check` does.
pub(super) async fn check(session: &Session, owner: &str, yaml: &str) -> Result<Checked, Failure> {
    let asked = session
        .api
        .post(&url(&["check"], &[]), &CheckRequest { owner, yaml })
        .await;
    Ok(asked?.json()?)
}

#[derive(Template)]
#[template(path = "policies/show.html")]
struct ShowPage {
    page: Page,
    named: Named,
    policy: Policy,
    lines: Vec<(usize, Text)>,
    checked: Checked,
    list: String,
    /// How many lines the text has, and where those are that are not shown.
    all_lines: usize,
    before: String,
    after: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// A line that is looked for.
    line: String,
}

async fn one(
    session: Session,
    Path(named): Path<Named>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let stored = named.load(&session.api).await?;
    let checked = check(&session, &named.owner, &stored.policy.yaml).await?;
    let title = format!("Policy {}", stored.policy.name);
    let mut lines = lines(&stored.policy.yaml);
    let all_lines = lines.len();
    let wanted: usize = asked.line.trim().parse().unwrap_or(1);
    let first = wanted.saturating_sub(1) / LINES * LINES;
    let last = first.saturating_add(LINES);
    lines.retain(|(number, _)| *number > first && *number <= last);
    let at = |line: usize| named.page(&[], &[("line", &line.to_string())]);
    Ok(show(&ShowPage {
        page: session.page(&title, Area::Policies).of(&named.owner),
        list: super::list_of(&named.owner),
        before: if first > 0 { at(first) } else { String::new() },
        after: if last < all_lines {
            at(last + 1)
        } else {
            String::new()
        },
        all_lines,
        lines,
        checked,
        policy: stored.policy,
        named,
    }))
}
