//! What happened to an endpoint set: a timeline with differences, from the audit log, which outlives the set.
//!
//! Older texts are not kept of sets, only what each change of them was; so there is no way back but to write it.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::{place, read};
use crate::Ui;
use crate::diff::Diff;
use crate::error::{Failure, Problem};
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Entries on one page.
const PAGE: &str = "10";

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/orgs/{owner}/endpoint-sets/{name}/history", get(history))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    after: String,
}

#[derive(Debug, Deserialize)]
struct Found {
    items: Vec<Entry>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at: When,
    actor: Actor,
    action: Text,
    #[serde(default)]
    detail: Detail,
}

#[derive(Debug, Deserialize)]
struct Actor {
    subject: Text,
    via: Text,
}

/// What was written; of a deletion nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    /// The version that was there before; none for a new set.
    from: Option<u32>,
    to: u32,
    endpoints: u32,
    diff: Diff,
}

impl Entry {
    fn is_written(&self) -> bool {
        self.action.raw() == "set.written"
    }

    fn icon(&self) -> &'static str {
        match (self.action.raw(), self.detail.from) {
            ("set.written", None) => "+",
            ("set.written", Some(_)) => "✎",
            ("set.deleted", _) => "×",
            _ => "•",
        }
    }

    /// The colour of the icon.
    fn kind(&self) -> &'static str {
        match (self.action.raw(), self.detail.from) {
            ("set.written", None) => "good",
            ("set.deleted", _) => "bad",
            _ => "info",
        }
    }

    fn title(&self) -> String {
        match (self.action.raw(), self.detail.from) {
            ("set.written", None) => "Created".to_owned(),
            ("set.written", Some(_)) => format!("Changed, to version {}", self.detail.to),
            ("set.deleted", _) => "Deleted".to_owned(),
            _ => self.action.to_string(),
        }
    }
}

#[derive(Template)]
#[template(path = "sets/history.html")]
struct History {
    page: Page,
    name: Text,
    /// The set, while there is one, and its version.
    living: Option<(String, u32)>,
    list: String,
    items: Vec<Entry>,
    older: String,
    newer: String,
}

async fn history(
    session: Session,
    Path((owner, name)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let living = match read(&session, &owner, &name).await {
        Ok((set, _)) => Some((place(&set.owner, &set.name, ""), set.version)),
        Err(problem) if problem.status == 404 => None,
        Err(problem) => return Err(problem.into()),
    };
    // As the log writes owners, and never the beginning of several names, which none has.
    let target = format!(
        "endpoint set {}/{}",
        owner.to_ascii_lowercase(),
        name.replace('*', "")
    );
    let query = [
        ("owner", owner.as_str()),
        ("target", &target),
        ("after", &asked.after),
        ("limit", PAGE),
    ];
    let found: Found = session.api.get(&url(&["audit-log"], &query)).await?;
    if living.is_none() && found.items.is_empty() && asked.after.is_empty() {
        let detail = format!("there never was an endpoint set {name:?}");
        return Err(Problem::new(StatusCode::NOT_FOUND, &detail).into());
    }
    let here = |after: &str| {
        let path = ["ui", "orgs", &owner, "endpoint-sets", &name, "history"];
        url(&path, &[("after", after)])
    };
    Ok(show(&History {
        page: session
            .page(&format!("History of {name}"), Area::EndpointSets)
            .of(&owner),
        list: url(&["ui", "orgs", &owner, "endpoint-sets"], &[]),
        older: found.next.as_deref().map(here).unwrap_or_default(),
        newer: if asked.after.is_empty() {
            String::new()
        } else {
            here("")
        },
        items: found.items,
        name: name.as_str().into(),
        living,
    }))
}
