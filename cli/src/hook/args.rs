//! Arguments of `tidegate hook`. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// The Actions runner's job hooks: register a job when it starts, end it and show what it reached when it is done.
#[derive(Debug, Args)]
pub(crate) struct Hook {
    #[command(subcommand)]
    pub(super) action: HookAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum HookAction {
    /// Register the job that is about to run on this machine (ACTIONS_RUNNER_HOOK_JOB_STARTED).
    #[command(
        after_help = "The job is known from the variables that the runner gives. A job that can't be registered is \
        refused by default: the network's default policy, which would govern it, may be wider than its own."
    )]
    JobStarted(Run),
    /// End the job on this machine and append what it reached to its summary (ACTIONS_RUNNER_HOOK_JOB_COMPLETED).
    #[command(
        after_help = "A job that is done never fails because the gateway is away, unless --on-error fail is said here \
        or in TIDEGATE_HOOK_ON_ERROR."
    )]
    JobCompleted(Run),
    /// Write the hooks' scripts and settings on a runner machine. To run it again changes only what it is told to.
    #[command(
        after_help = "Examples:\n  tidegate hook install --token-file /etc/tidegate/runner-token --ca /etc/tidegate/ca.pem \
        --runner-dir /opt/actions-runner\n  tidegate hook install --chain /opt/actions-runner/.env --runner-dir \
        /opt/actions-runner   # keeps the hooks that are there"
    )]
    Install(Install),
}

/// What a hook does when it can't do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnError {
    /// The job fails, and the log says why.
    Fail,
    /// The log says so, and the job goes on: the network's default policy governs it.
    Continue,
}

/// A hook's run.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// What to do when the job can't be registered, or ended. Goes before TIDEGATE_HOOK_ON_ERROR.
    #[arg(long, value_name = "fail|continue", hide_possible_values = true)]
    pub(super) on_error: Option<OnError>,
}

/// How the gateway's runner API is reached. What is not said here stands in the settings.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Reach {
    /// The hooks' settings, which `tidegate hook install` writes (/etc/tidegate/hook.yaml).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The gateway's runner API (`https://tidegate.internal`).
    #[arg(long, value_name = "URL")]
    pub(crate) runner_api: Option<String>,
    /// Trust this private CA (PEM) for the runner API, and no other.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// File with the runner token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How long a hook tries before it gives up (5s).
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    /// Show the job's own OIDC token, asked of its forge for this audience; the job then needs `id-token: write`, and the
    /// network's default policy has to allow the forge's token endpoint.
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) oidc: Option<String>,
}

/// `tidegate hook install`.
#[derive(Debug, Args)]
pub(super) struct Install {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// What job-started does when the job can't be registered (fail).
    #[arg(long, value_name = "fail|continue", hide_possible_values = true)]
    pub(super) on_error: Option<OnError>,
    /// Where the scripts go (/opt/tidegate/hooks, or where they are). The runner can't run a script whose path has spaces.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Hooks that are there and shall go on running: a script (`started=PATH` or `completed=PATH` says which of both it is),
    /// a directory with `job-started.sh` and `job-completed.sh`, or the `.env` of a runner that names them. `none` takes
    /// them out again. An existing hook runs after ours when a job starts and before ours when it is done; its exit code
    /// counts as before.
    #[arg(long, value_name = "EXISTING")]
    pub(super) chain: Vec<String>,
    /// Name the scripts in the `.env` of the runner in this directory; the other lines stay.
    #[arg(long, value_name = "DIR")]
    pub(super) runner_dir: Option<PathBuf>,
    /// Take the scripts out of the runner's `.env` and remove them; what they chained is named there again. The settings
    /// stay.
    #[arg(long, conflicts_with_all = ["chain", "on_error"])]
    pub(super) uninstall: bool,
}
