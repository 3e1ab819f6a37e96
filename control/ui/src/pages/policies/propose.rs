//! A change of a policy's text, asked of the API: what is to become of it.

use serde::Serialize;

use super::edit::Draft;
use crate::error::Problem;
use crate::proposal::Proposal;
use crate::session::Session;

/// What is asked of `propose`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Edits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) yaml: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<&'static str>,
    pub(super) allow: Vec<String>,
    #[serde(skip_serializing_if = "LockdownChange::is_kept")]
    pub(super) lockdown: LockdownChange,
    pub(super) against_stored: bool,
}

/// What becomes of the lockdown section; to drop it is written as null.
#[derive(Debug, Default, Serialize)]
#[serde(untagged)]
pub(super) enum LockdownChange {
    #[default]
    Keep,
    Drop,
    Write(ProposedLockdown),
}

impl LockdownChange {
    fn is_kept(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// A lockdown section to be.
#[derive(Debug, Serialize)]
pub(super) struct ProposedLockdown {
    pub(super) enabled: bool,
    pub(super) detections: Vec<String>,
}

impl Edits {
    pub(super) fn mode(mode: &'static str) -> Self {
        Self {
            mode: Some(mode),
            ..Self::default()
        }
    }

    pub(super) fn lockdown(lockdown: LockdownChange) -> Self {
        Self {
            lockdown,
            ..Self::default()
        }
    }
}

/// Asks for a change of a policy's text.
pub(super) async fn propose(session: &Session, draft: &Draft, edits: Edits) -> Result<Proposal, Problem> {
    let edits = Edits {
        yaml: Some(draft.yaml.clone()),
        ..edits
    };
    session
        .api
        .post(&draft.asked_as().api(&["propose"], &[]), &edits)
        .await?
        .json()
}
