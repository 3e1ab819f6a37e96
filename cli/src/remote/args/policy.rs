//! Arguments of `tidegate policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::record::{PolicyCreate, Trial};
use super::{Most, Owner, Remote};

/// Policies of the control plane: write, attach, look back, sync from a directory.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: PolicyAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// List policies: what they are, and where they are attached.
    #[command(after_help = "Examples:\n  \
        tidegate policy list --owner acme --mode audit\n  \
        tidegate policy list --owner acme --unattached\n  \
        tidegate policy list --owner acme --endpoint registry.example:443   # who allows this?")]
    List(PolicyList),
    /// Show a policy and its text.
    #[command(after_help = "Examples:\n  \
        tidegate policy show base --owner acme\n  \
        tidegate policy show base --owner acme --version 3 --yaml > base.yaml")]
    Show(PolicyShow),
    /// Create policies from files, or update those that there are.
    #[command(
        after_help = "An update is based on the version that was just read: a change by somebody else in \
        between fails, and nothing is lost.\n\nExamples:\n  \
        tidegate policy apply ci.yaml --owner acme                # the policy `ci`\n  \
        tidegate policy apply ci.yaml --owner acme --dry-run      # only the difference and what is wrong\n  \
        tidegate policy apply - --owner acme --name base < base.yaml"
    )]
    Apply(PolicyApply),
    /// Attach a policy to scopes.
    #[command(
        after_help = "Scopes: org:OWNER, repo:OWNER/REPO, workflow:OWNER/REPO/FILE, cluster:NAME\n\nExamples:\n  \
        tidegate policy attach base org:acme --owner acme\n  \
        tidegate policy attach strict repo:acme/web --owner acme --replace"
    )]
    Attach(PolicyAttach),
    /// Detach a policy from scopes.
    #[command(after_help = "Example:\n  tidegate policy detach base repo:acme/web --owner acme")]
    Detach(PolicyDetach),
    /// Show who changed what, and when.
    #[command(after_help = "Example:\n  tidegate policy history base --owner acme --diff")]
    History(PolicyHistory),
    /// Show what differs between two versions: by default the newest and the one before it.
    #[command(after_help = "Example:\n  tidegate policy diff base --owner acme --from 3 --to 5")]
    Diff(PolicyDiff),
    /// Go back: the text of an older version becomes the newest.
    #[command(after_help = "Example:\n  tidegate policy rollback base --owner acme --to 3")]
    Rollback(PolicyRollback),
    /// Delete a policy. It is detached everywhere first; its history stays.
    #[command(after_help = "Example:\n  tidegate policy delete old --owner acme")]
    Delete(PolicyDelete),
    /// Show which policy precedence picks for a job, and what was considered.
    #[command(after_help = "Examples:\n  \
        tidegate policy effective --repo acme/web --workflow ci.yml\n  \
        tidegate policy effective --repo acme/web --cluster prod")]
    Effective(PolicyEffective),
    /// Create a policy of what a scope's jobs were seen to reach.
    #[command(
        after_help = "Left out is what only forks' pull requests or claimed identities reached, what a single run did, what \
        a search suffix made, and what nobody looked at yet.\n\nExample:\n  \
        tidegate policy create web --owner acme --from-baseline repo:acme/web --min-runs 5"
    )]
    Create(PolicyCreate),
    /// Try a policy against what jobs really reached; the same as `tidegate simulate`.
    #[command(after_help = "Example:\n  tidegate policy simulate web --owner acme --since 30d")]
    Simulate(Trial),
    /// Make the policies of an owner what the files of a directory say.
    #[command(after_help = SYNC_HELP)]
    Sync(PolicySync),
}

/// The format of a synced file is told where it is used.
const SYNC_HELP: &str = "\
Every *.yaml and *.yml file below DIR is one policy (hidden files and folders are left out):

  name: base
  attach: [org:acme, repo:acme/web]
  policy:
    # comments and order are kept
    egress-policy: block
    allowed-endpoints: [github.com:443]

Scopes that a file names are attached, moved here when another policy of the owner holds them, and detached where
no file names them any more. A scope that another owner's policy holds is never taken. Policies without a file are
left alone; with --prune they are deleted. Everything is checked before anything is changed, no scope is without a
policy in between, and running again goes on where a failure stopped.

Examples:
  tidegate policy sync policies/ --owner acme --dry-run
  tidegate policy sync policies/ --owner acme --prune";

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ModeChoice {
    /// What is not allowed is refused.
    Block,
    /// What is not allowed is recorded.
    Audit,
    /// It decides the lockdown facet only.
    None,
}

impl ModeChoice {
    /// The spelling of the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Audit => "audit",
            Self::None => "none",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PolicyList {
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Those with this in their names.
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// Those of this mode.
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<ModeChoice>,
    /// Those that are attached nowhere.
    #[arg(long)]
    pub(crate) unattached: bool,
    /// Those that permit this.
    #[arg(long, value_name = "NAME[:PORT][/PROTO]")]
    pub(crate) endpoint: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyShow {
    /// The policy.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// An older version.
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u32>,
    /// Only the text, as it was written.
    #[arg(long, conflicts_with = "json")]
    pub(crate) yaml: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyApply {
    /// Policy files; `-` is stdin. A file's name without its ending is the policy's, unless --name says another.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Name of the policy; for one file.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Jobs that run keep the version that they began with.
    #[arg(long)]
    pub(crate) next_job: bool,
    /// Only say what would change and what is wrong.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyAttach {
    /// The policy.
    pub(crate) name: String,
    /// Where to.
    #[arg(required = true, value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Take scopes from the policies that hold them.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyDetach {
    /// The policy.
    pub(crate) name: String,
    /// Where from.
    #[arg(required = true, value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    #[command(flatten)]
    pub(crate) owner: Owner,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyHistory {
    /// The policy.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Id of a policy that was deleted, or whose name was given to another since.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Show what changed in the text.
    #[arg(long)]
    pub(crate) diff: bool,
    #[command(flatten)]
    pub(crate) most: Most,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyDiff {
    /// The policy.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// The older version.
    #[arg(long, value_name = "N")]
    pub(crate) from: Option<u32>,
    /// The newer version.
    #[arg(long, value_name = "M")]
    pub(crate) to: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyRollback {
    /// The policy.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// The version to go back to.
    #[arg(long, value_name = "N")]
    pub(crate) to: u32,
    /// Jobs that run keep the version that they began with.
    #[arg(long)]
    pub(crate) next_job: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyDelete {
    /// The policy.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
}

#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = true, args = ["owner", "repo", "cluster"])]
pub(crate) struct PolicyEffective {
    /// The organization or user; follows from --repo.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// The repository, OWNER/NAME.
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repo: Option<String>,
    /// File name of the calling workflow.
    #[arg(long, value_name = "FILE", requires = "repo")]
    pub(crate) workflow: Option<String>,
    /// Cluster of the job's network.
    #[arg(long)]
    pub(crate) cluster: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicySync {
    /// The directory.
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Delete policies that no file is for.
    #[arg(long)]
    pub(crate) prune: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
