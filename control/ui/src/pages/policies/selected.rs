//! Several policies at once: detached, switched or deleted, each with its effect shown before it is confirmed.
//!
//! One after the other, each by itself: what one refuses does not undo another, and is said.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::edit::Draft;
use super::parts::{Fall, FallsBack, falls};
use super::propose::{Edits, propose};
use super::{Mode, Named, list_of};
use crate::Ui;
use crate::client::Payload;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::Text;

/// Policies at once.
pub(super) const MOST: usize = 100;

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/orgs/{owner}/selected", get(ask).post(confirm))
}

/// What is done with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Detach,
    Delete,
    Block,
    Audit,
}

impl Deed {
    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Detach, Self::Delete, Self::Block, Self::Audit]
            .into_iter()
            .find(|one| one.code() == text)
    }

    fn code(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Delete => "delete",
            Self::Block => "block",
            Self::Audit => "audit",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Detach => "Detach",
            Self::Delete => "Delete",
            Self::Block => "Switch to block",
            Self::Audit => "Switch to audit",
        }
    }

    /// The mode that policies get.
    pub(super) fn mode(self) -> Option<&'static str> {
        match self {
            Self::Block => Some("block"),
            Self::Audit => Some("audit"),
            Self::Detach | Self::Delete => None,
        }
    }

    /// Jobs get another policy than these.
    fn takes_away(self) -> bool {
        self.mode().is_none()
    }
}

/// A policy with what would become of it.
struct Row {
    name: Text,
    mode: Mode,
    scopes: Vec<Text>,
    falls: Vec<Fall>,
    /// What a confirmation carries: the preview's `shown`, or an `ETag`.
    shown: String,
    problem: Option<Text>,
    is_done: bool,
}

#[derive(Template)]
#[template(path = "policies/selected.html")]
struct SelectedPage {
    page: Page,
    deed: Deed,
    rows: Vec<Row>,
    list: String,
    here: String,
    is_over: bool,
    /// That something was chosen, and how much too much.
    beyond: usize,
    impact: String,
}

impl SelectedPage {
    /// Beside the name's.
    fn columns(&self) -> u8 {
        if self.deed.takes_away() { 3 } else { 2 }
    }

    /// Whether jobs may notice.
    fn touches(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.problem.is_none() && !row.is_done && !row.scopes.is_empty())
    }
}

#[derive(Debug, Deserialize)]
struct Preview {
    mode: Mode,
    #[serde(default)]
    detached: Vec<Text>,
    falls_back: Vec<FallsBack>,
    shown: String,
}

#[derive(Debug, Serialize)]
struct Leave {
    remove: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
}

#[derive(Debug, Serialize)]
struct Update {
    yaml: String,
}

pub(super) fn no_deed() -> Problem {
    Problem::new(
        axum::http::StatusCode::BAD_REQUEST,
        "Choose policies in the list, then what to do with them.",
    )
}

fn page_of(
    session: &Session,
    owner: &str,
    deed: Deed,
    rows: Vec<Row>,
    (is_over, beyond): (bool, usize),
) -> Response {
    let title = format!(
        "{} {}",
        deed.title(),
        super::counted(rows.len(), "policy", "policies")
    );
    show(&SelectedPage {
        page: session
            .page(&title, Area::Policies)
            .of(owner)
            .with(&["impact.js"]),
        impact: crate::text::url(&["ui", "orgs", owner, "selected", "impact"], &[]),
        list: list_of(owner),
        here: crate::text::url(&["ui", "orgs", owner, "selected"], &[]),
        deed,
        rows,
        is_over,
        beyond,
    })
}

async fn ask(
    session: Session,
    Path(owner): Path<String>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let deed = asked
        .iter()
        .find(|(name, _)| name == "do")
        .and_then(|(_, value)| Deed::of(value));
    let deed = deed.ok_or_else(no_deed)?;
    let names: Vec<&str> = asked
        .iter()
        .filter(|(name, _)| name == "name")
        .map(|(_, value)| value.as_str())
        .collect();
    let mut rows = Vec::new();
    for name in names.iter().take(MOST) {
        let named = Named {
            owner: owner.clone(),
            name: (*name).to_owned(),
        };
        rows.push(match row(&session, &named, deed).await {
            Ok(row) => row,
            Err(problem) => failed(&named, of_one(problem)?),
        });
    }
    Ok(page_of(
        &session,
        &owner,
        deed,
        rows,
        (false, names.len().saturating_sub(MOST)),
    ))
}

/// What was refused of one policy; the others go on. One that is gone is no matter of theirs.
pub(super) fn of_one(problem: Problem) -> Result<Problem, Failure> {
    if problem.status == 404 {
        Ok(problem)
    } else {
        Failure::problem(problem)
    }
}

fn failed(named: &Named, problem: Problem) -> Row {
    Row {
        name: named.shown(),
        mode: Mode::None,
        scopes: Vec::new(),
        falls: Vec::new(),
        shown: String::new(),
        problem: Some(problem.detail.clone()),
        is_done: false,
    }
}

/// What would become of a policy.
async fn row(session: &Session, named: &Named, deed: Deed) -> Result<Row, Problem> {
    let stored = named.load(&session.api).await?;
    let scopes = stored.policy.attachments.clone();
    let is_done = match deed {
        Deed::Detach => scopes.is_empty(),
        Deed::Delete => false,
        Deed::Block => stored.policy.mode == Mode::Block,
        Deed::Audit => stored.policy.mode == Mode::Audit,
    };
    let mut row = Row {
        name: named.shown(),
        mode: stored.policy.mode,
        falls: Vec::new(),
        shown: stored.etag,
        problem: None,
        scopes,
        is_done,
    };
    let preview: Option<Preview> = match deed {
        Deed::Detach if !is_done => {
            let leave = Leave {
                remove: row.scopes.iter().map(|scope| scope.raw().to_owned()).collect(),
                shown: None,
            };
            let place = named.api(&["attachments"], &[("dry_run", "true")]);
            Some(session.api.post(&place, &leave).await?.json()?)
        }
        Deed::Delete => Some(
            session
                .api
                .delete(&named.api(&[], &[("dry_run", "true")]), None)
                .await?
                .json()?,
        ),
        Deed::Detach | Deed::Block | Deed::Audit => None,
    };
    if let Some(preview) = preview {
        row.falls = falls(preview.falls_back);
        row.shown = preview.shown;
        row.mode = preview.mode;
        if !preview.detached.is_empty() {
            row.scopes = preview.detached;
        }
    }
    Ok(row)
}

async fn confirm(session: Session, Path(owner): Path<String>, fields: Fields) -> Result<Response, Failure> {
    let deed = Deed::of(fields.get("do")).ok_or_else(no_deed)?;
    let mut rows = Vec::new();
    for (name, shown) in fields.all("name").zip(fields.all("shown")).take(MOST) {
        let named = Named {
            owner: owner.clone(),
            name: name.to_owned(),
        };
        let done = act(&session, &named, deed, shown).await;
        rows.push(match done {
            Ok(()) => Row {
                is_done: true,
                problem: None,
                ..failed(&named, Problem::default())
            },
            Err(problem) => failed(&named, of_one(problem)?),
        });
    }
    Ok(page_of(&session, &owner, deed, rows, (true, 0)))
}

async fn act(session: &Session, named: &Named, deed: Deed, shown: &str) -> Result<(), Problem> {
    match deed {
        Deed::Delete => {
            session
                .api
                .delete(&named.api(&[], &[("shown", shown)]), None)
                .await?;
        }
        Deed::Detach => {
            let stored = named.load(&session.api).await?;
            let leave = Leave {
                remove: stored
                    .policy
                    .attachments
                    .iter()
                    .map(|scope| scope.raw().to_owned())
                    .collect(),
                shown: Some(shown.to_owned()),
            };
            session
                .api
                .post(&named.api(&["attachments"], &[]), &leave)
                .await?;
        }
        Deed::Block | Deed::Audit => {
            let draft = Draft {
                etag: shown.to_owned(),
                ..Draft::stored(session, named.clone()).await?
            };
            let mode = if deed == Deed::Block { "block" } else { "audit" };
            let proposal = propose(session, &draft, Edits::mode(mode)).await?;
            let update = Payload::json(&Update { yaml: proposal.yaml });
            session
                .api
                .send(axum::http::Method::PUT, &named.api(&[], &[]), Some(shown), update)
                .await?;
        }
    }
    Ok(())
}
