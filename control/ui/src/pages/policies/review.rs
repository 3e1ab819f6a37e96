//! The step before a change is stored: its difference, what it would have done to recorded jobs, and what to do when
//! somebody else was faster.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::edit::{Draft, editor};
use super::propose::{Edits, propose};
use super::{Named, Policy};
use crate::client::Payload;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show_with};
use crate::proposal::Proposal;
use crate::session::Session;
use crate::text::Text;
use crate::{EDITOR_BODY, Ui};

/// The mode switch is an edit that begins at its review.
pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/orgs/{owner}/policies/{name}/mode", get(mode))
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

#[derive(Template)]
#[template(path = "policies/review.html")]
struct ReviewPage {
    page: Page,
    draft: Draft,
    proposal: Proposal,
    attached: usize,
    impact: String,
    problem: Option<Problem>,
}

impl ReviewPage {
    fn scopes(&self) -> String {
        super::counted(self.attached, "scope", "scopes")
    }
}

/// Shows what a text changes, before it is stored.
pub(super) async fn page(
    session: &Session,
    draft: Draft,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let edits = Edits {
        against_stored: true,
        ..Edits::default()
    };
    let proposal = match propose(session, &draft, edits).await {
        Ok(proposal) => proposal,
        Err(wrong) => {
            let wrong = Failure::problem(wrong)?;
            return editor(session, draft, (Some(wrong), Vec::new())).await;
        }
    };
    if proposal
        .diagnostics
        .iter()
        .any(|one| one.severity.raw() == "error")
    {
        return editor(session, draft, (None, Vec::new())).await;
    }
    let stored = draft.named.load(&session.api).await?;
    let title = format!("Save {}", draft.named.name);
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = session
        .page(&title, Area::Policies)
        .of(&draft.named.owner)
        .with(&["impact.js"]);
    Ok(show_with(
        status,
        &ReviewPage {
            page,
            impact: draft.named.page(&["impact"], &[]),
            attached: stored.policy.attachments.len(),
            problem,
            proposal,
            draft,
        },
    ))
}

#[derive(Debug, Serialize)]
struct Update<'d> {
    yaml: &'d str,
    apply: &'static str,
}

/// Stores a text as the next version of its policy, when it began from the newest.
pub(super) async fn save(
    ui: &Ui,
    session: &Session,
    draft: Draft,
    fields: &Fields,
) -> Result<Response, Failure> {
    let update = Update {
        yaml: &draft.yaml,
        apply: apply(fields),
    };
    let tag = Some(draft.etag.as_str());
    let saved = session
        .api
        .send(
            Method::PUT,
            &draft.named.api(&[], &[]),
            tag,
            Payload::json(&update),
        )
        .await;
    match saved {
        Ok(_) => Ok(done(ui, &draft.named.page(&[], &[]), "policy-saved")),
        Err(problem) if problem.is_stale() => conflict(session, draft).await,
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            editor(session, draft, (Some(problem), Vec::new())).await
        }
    }
}

/// For whom a change is.
pub(super) fn apply(fields: &Fields) -> &'static str {
    if fields.get("apply") == "next-job" {
        "next-job"
    } else {
        "now"
    }
}

#[derive(Template)]
#[template(path = "policies/conflict.html")]
struct ConflictPage {
    page: Page,
    /// With the tag of the version that is stored now: taken over, it is a change of that.
    draft: Draft,
    theirs: Policy,
    diff: super::parts::Diff,
    theirs_lines: Vec<(usize, Text)>,
    mine_lines: Vec<(usize, Text)>,
}

/// Both versions side by side: somebody stored another one since this text was begun.
async fn conflict(session: &Session, mut draft: Draft) -> Result<Response, Failure> {
    let stored = draft.named.load(&session.api).await?;
    draft.etag = stored.etag;
    let edits = Edits {
        against_stored: true,
        ..Edits::default()
    };
    // A text with errors has no difference to show; it stands there whole.
    let diff = propose(session, &draft, edits)
        .await
        .map(|proposal| proposal.diff)
        .unwrap_or_default();
    let title = format!("{} was changed meanwhile", draft.named.name);
    let page = session.page(&title, Area::Policies).of(&draft.named.owner);
    Ok(show_with(
        StatusCode::CONFLICT,
        &ConflictPage {
            page,
            theirs_lines: super::parts::lines(&stored.policy.yaml),
            mine_lines: super::parts::lines(&draft.yaml),
            theirs: stored.policy,
            diff,
            draft,
        },
    ))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    to: String,
}

/// A mode switch, to be confirmed.
async fn mode(
    session: Session,
    Path(named): Path<Named>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let mut draft = Draft::stored(&session, named).await?;
    let to = if asked.to == "audit" { "audit" } else { "block" };
    match propose(&session, &draft, Edits::mode(to)).await {
        Ok(proposal) => {
            draft.yaml = proposal.yaml;
            page(&session, draft, None).await
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            editor(&session, draft, (Some(problem), Vec::new())).await
        }
    }
}
