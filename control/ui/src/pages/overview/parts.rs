//! Parts of the overview that take longer: what was refused most, what was reached first, which policies say nothing.
//!
//! Owns each as what a script puts into the page, and as a page of its own.

use std::fmt::Display;

use askama::Template;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::Asked;
use crate::error::{Failure, Problem};
use crate::guard::is_part;
use crate::page::{Area, Page, show, show_part};
use crate::session::Session;
use crate::text::{Text, endpoint, url};
use crate::time::When;

#[derive(Clone, Debug, Deserialize)]
struct RefusedName {
    endpoint: Text,
    refuse: u64,
    would_refuse: u64,
    workflows: u64,
    #[serde(default)]
    reason: Option<Text>,
    last_at: When,
}

#[derive(Debug, Deserialize)]
struct Refused {
    since: When,
    items: Vec<RefusedName>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct First {
    owner: Text,
    endpoint: Text,
    port: u16,
    transport: Text,
    first_seen: When,
    runs: u64,
    /// Nothing where nobody compares.
    #[serde(default)]
    anywhere: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct FirstSeen {
    since: When,
    items: Vec<First>,
}

#[derive(Clone, Debug, Deserialize)]
struct Idle {
    owner: Text,
    name: Text,
    attachments: Vec<Text>,
    updated_at: When,
}

#[derive(Debug, Deserialize)]
struct Policies {
    since: When,
    unattached: Vec<Idle>,
    unattached_count: u64,
    never_hit: Vec<Idle>,
    never_hit_count: u64,
    #[serde(default)]
    truncated: bool,
}

impl First {
    fn shown(&self) -> Text {
        endpoint(self.endpoint.raw(), self.port, self.transport.raw()).into()
    }

    fn href(&self) -> String {
        let query = [("org", self.owner.raw()), ("name", self.endpoint.raw())];
        url(&["ui", "events"], &query)
    }
}

impl Idle {
    fn href(&self) -> String {
        url(
            &["ui", "orgs", self.owner.raw(), "policies", self.name.raw()],
            &[],
        )
    }
}

#[derive(Template)]
#[template(path = "overview/refused.html")]
struct RefusedPart {
    owner: String,
    found: Refused,
}

impl RefusedPart {
    fn href(&self, one: &RefusedName) -> String {
        let query = [
            ("org", self.owner.as_str()),
            ("verdict", "refuse,would-refuse"),
            ("name", one.endpoint.raw()),
            ("span", "7d"),
        ];
        url(&["ui", "events"], &query)
    }
}

#[derive(Template)]
#[template(path = "overview/first_seen.html")]
struct FirstSeenPart {
    found: FirstSeen,
}

#[derive(Template)]
#[template(path = "overview/policies.html")]
struct PoliciesPart {
    found: Policies,
}

/// A part as a page of its own.
#[derive(Template)]
#[template(path = "overview/part.html")]
struct PartPage<T: Template + Display> {
    page: Page,
    part: T,
}

pub(super) async fn part(
    session: Session,
    headers: HeaderMap,
    Path(part): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let owner = asked.owner.name().to_owned();
    let path = |name: &str| url(&["stats", name], &[("owner", &owner)]);
    let page = |title: &str| session.page(title, Area::Overview);
    match part.as_str() {
        "refused" => {
            let found = session.api.get(&path("refused")).await?;
            Ok(answer(
                &headers,
                page("Refused most"),
                RefusedPart { owner, found },
            ))
        }
        "first-seen" => {
            let found = session.api.get(&path("first-seen")).await?;
            Ok(answer(
                &headers,
                page("Reached for the first time"),
                FirstSeenPart { found },
            ))
        }
        "policies" => {
            let found = session.api.get(&path("policies")).await?;
            Ok(answer(
                &headers,
                page("Policies that say nothing"),
                PoliciesPart { found },
            ))
        }
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "the overview has no such part").into()),
    }
}

/// The part alone for who puts it into a page, else a page with it.
fn answer<T: Template + Display>(headers: &HeaderMap, page: Page, part: T) -> Response {
    if is_part(headers) {
        return show_part(&part);
    }
    show(&PartPage { page, part })
}
