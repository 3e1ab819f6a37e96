//! The list of an organization's policies.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::{Mode, Named};
use crate::Ui;
use crate::error::Failure;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Policies on one page.
const PAGE: &str = "50";

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/orgs/{owner}/policies", get(list))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    search: String,
    mode: String,
    attached: String,
    deleted: String,
    endpoint: String,
    after: String,
}

impl Asked {
    fn is_filtered(&self) -> bool {
        [&self.search, &self.mode, &self.attached, &self.endpoint]
            .iter()
            .any(|text| !text.trim().is_empty())
    }

    fn is_deleted(&self) -> bool {
        self.deleted == "true"
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    name: Text,
    owner: Text,
    mode: Mode,
    lockdown: bool,
    endpoints: u32,
    attached: usize,
    attachments: Vec<Text>,
    changed_at: When,
    changed_by: Text,
    deleted_at: Option<When>,
}

impl Listed {
    fn at(&self, rest: &str) -> String {
        let named = Named {
            owner: self.owner.raw().to_owned(),
            name: self.name.raw().to_owned(),
        };
        match rest {
            "" => named.page(&[], &[]),
            "history" => named.page(
                &["history"],
                &[(
                    "id",
                    if self.deleted_at.is_some() {
                        self.id.as_str()
                    } else {
                        ""
                    },
                )],
            ),
            rest => named.page(&[rest], &[]),
        }
    }

    /// Scopes that are not named in the table.
    fn more(&self) -> usize {
        self.attached.saturating_sub(self.attachments.len())
    }
}

#[derive(Debug, Deserialize)]
struct Counters {
    total: u64,
    block: u64,
    audit: u64,
    unattached: u64,
}

#[derive(Debug, Deserialize)]
struct Found {
    items: Vec<Listed>,
    #[serde(default)]
    next: Option<String>,
    counters: Counters,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BlockCounts {
    builtin: u64,
    feed: u64,
    deployment: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GlobalBlock {
    counters: BlockCounts,
    updated_at: Option<When>,
}

impl GlobalBlock {
    fn total(&self) -> u64 {
        self.counters.builtin + self.counters.feed + self.counters.deployment
    }
}

/// A counter that filters.
struct Counter {
    word: &'static str,
    count: u64,
    href: String,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "policies/list.html")]
struct ListPage {
    page: Page,
    here: String,
    asked: Asked,
    block: GlobalBlock,
    counters: Vec<Counter>,
    total: u64,
    items: Vec<Listed>,
    older: String,
    newer: String,
    create: String,
    deleted: String,
    selected: String,
}

async fn list(
    session: Session,
    Path(owner): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let mut query = vec![("fields", "summary"), ("limit", PAGE)];
    query.push(("search", asked.search.trim()));
    query.push(("after", &asked.after));
    if asked.is_deleted() {
        query.push(("deleted", "true"));
    } else {
        query.push(("mode", asked.mode.trim()));
        query.push(("attached", asked.attached.trim()));
        query.push(("endpoint", asked.endpoint.trim()));
    }
    let found: Found = session
        .api
        .get(&url(&["orgs", &owner, "policies"], &query))
        .await?;
    let block: GlobalBlock = session
        .api
        .get(&url(&["global-block", "entries"], &[("limit", "1")]))
        .await?;
    let here = |query: &[(&str, &str)]| url(&["ui", "orgs", &owner, "policies"], query);
    let filters = |after: &str| {
        here(&[
            ("search", asked.search.trim()),
            ("mode", asked.mode.trim()),
            ("attached", asked.attached.trim()),
            ("endpoint", asked.endpoint.trim()),
            ("deleted", asked.deleted.trim()),
            ("after", after),
        ])
    };
    let counter = |word, count, name: &'static str, value: &'static str, now: &str| Counter {
        word,
        count,
        href: here(&[(name, value)]),
        is_current: now == value && !asked.is_deleted(),
    };
    let all = Counter {
        word: "Total",
        count: found.counters.total,
        href: here(&[]),
        is_current: !asked.is_filtered() && !asked.is_deleted(),
    };
    let counters = vec![
        all,
        counter("Block", found.counters.block, "mode", "block", &asked.mode),
        counter("Audit", found.counters.audit, "mode", "audit", &asked.mode),
        counter(
            "Unattached",
            found.counters.unattached,
            "attached",
            "false",
            &asked.attached,
        ),
    ];
    let title = if asked.is_deleted() {
        "Deleted policies"
    } else {
        "Policies"
    };
    Ok(show(&ListPage {
        page: session
            .page(title, Area::Policies)
            .of(&owner)
            .with(&["select.js"]),
        here: here(&[]),
        create: url(&["ui", "orgs", &owner, "new-policy"], &[]),
        deleted: here(&[("deleted", "true")]),
        selected: url(&["ui", "orgs", &owner, "selected"], &[]),
        older: found.next.as_deref().map(filters).unwrap_or_default(),
        newer: if asked.after.is_empty() {
            String::new()
        } else {
            filters("")
        },
        total: found.counters.total,
        items: found.items,
        counters,
        block,
        asked,
    }))
}
