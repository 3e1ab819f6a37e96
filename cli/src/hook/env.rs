//! What the Actions runner tells its hooks by their environment: read once, bounded, as written.
//!
//! Owns the names of the variables. Believes nothing: the gateway reads the values strictly, and an OIDC token's claims
//! override them. Never takes a setting of the hook's own from here but `TIDEGATE_HOOK_ON_ERROR`, which is not left to the
//! command line's reader: that one would end a hook over a value that it does not know before anybody can say that the
//! job goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use tidegate_control_wire::text::printable;

use super::args::OnError;
use crate::Usage;

/// Longest value that is looked at, in bytes; an OIDC request's token is the longest of them.
const MAX_VALUE: usize = 16 << 10;

/// The variables that hooks look at (the runner's `GitHubContext`, its `RUNNER_` variables, and what its script handler adds
/// where a job may ask for OIDC tokens).
const NAMES: [&str; 15] = [
    "GITHUB_REPOSITORY",
    "GITHUB_REPOSITORY_OWNER",
    "GITHUB_WORKFLOW_REF",
    "GITHUB_JOB",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_EVENT_NAME",
    "GITHUB_EVENT_PATH",
    "GITHUB_REF",
    "GITHUB_ACTOR",
    "GITHUB_STEP_SUMMARY",
    "RUNNER_NAME",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ON_ERROR,
];

/// What a hook does when it can't do its work.
const ON_ERROR: &str = "TIDEGATE_HOOK_ON_ERROR";

/// The variables that are set, none of them empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// This process's.
    pub(super) fn of_process() -> Self {
        Self::from(|name| {
            #[expect(
                clippy::disallowed_methods,
                reason = "what the runner gives its hooks, read once, here"
            )]
            let value = std::env::var(name);
            value.ok()
        })
    }

    /// By a source of values.
    pub(super) fn from(value: impl Fn(&'static str) -> Option<String>) -> Self {
        let fits = |text: &String| !text.is_empty() && text.len() <= MAX_VALUE;
        Self(
            NAMES
                .into_iter()
                .filter_map(|name| Some((name, value(name).filter(fits)?)))
                .collect(),
        )
    }

    /// A variable's value.
    pub(super) fn get(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// What `TIDEGATE_HOOK_ON_ERROR` says; nothing when it is empty.
    pub(super) fn on_error(&self) -> Result<Option<OnError>, Usage> {
        let read = |text: &str| {
            OnError::from_str(text, true).map_err(|_| {
                let text = printable(text);
                Usage(format!("{ON_ERROR} is {text:?}; write fail or continue"))
            })
        };
        self.get(ON_ERROR).map(read).transpose()
    }

    /// A variable's value as a path; nothing that is not absolute.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }
}
