//! Arguments of what the record of jobs is good for: `tidegate baseline`, `simulate`, `detection`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Most, Owner, Remote};
use crate::remote::when::{Expiry, Past};

/// What jobs were seen to reach.
#[derive(Debug, Args)]
pub(crate) struct Baseline {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: BaselineAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaselineAction {
    /// Show what a scope's jobs reach, how often and since when, and what an import leaves out.
    #[command(
        after_help = "Scopes: org:OWNER, repo:OWNER/REPO, workflow:OWNER/REPO/FILE, cluster:NAME\n\nExample:\n  \
        tidegate baseline show repo:acme/web"
    )]
    Show(BaselineOf),
    /// Print what an import takes, an allowed endpoint a line.
    #[command(after_help = "Example:\n  tidegate baseline export repo:acme/web --since 30d > endpoints.txt")]
    Export(BaselineOf),
}

#[derive(Debug, Args)]
pub(crate) struct BaselineOf {
    /// Whose jobs.
    pub(crate) scope: String,
    #[command(flatten)]
    pub(crate) taken: Taken,
}

/// What an import takes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Taken {
    /// Take only what was reached since a time (RFC 3339), or so long ago (30d).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Past>,
    /// Take only what was reached in so many runs; 2 when nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) min_runs: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCreate {
    /// Name of the policy.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Allow what this scope's jobs were seen to reach.
    #[arg(long, value_name = "SCOPE", required = true)]
    pub(crate) from_baseline: String,
    #[command(flatten)]
    pub(crate) taken: Taken,
    /// What the policy does.
    #[arg(long, value_enum, default_value_t = ImportMode::Audit)]
    pub(crate) mode: ImportMode,
}

/// Mode of a policy that is made.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ImportMode {
    /// Record what it would refuse.
    Audit,
    /// Refuse at once.
    Block,
}

impl ImportMode {
    /// The spelling of the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Block => "block",
        }
    }
}

/// Try a policy against what jobs really reached: what it would newly permit and refuse, for which jobs.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 4 when the policy would refuse what was let through.\n\nExamples:\n  \
    tidegate simulate web --owner acme --since 30d            # as it is stored, where it is attached\n  \
    tidegate simulate web --owner acme --file web.yaml --scope repo:acme/web"
)]
pub(crate) struct Simulate {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) trial: Trial,
}

#[derive(Debug, Args)]
pub(crate) struct Trial {
    /// The policy; with --file and --scope it need not be stored.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Try this document; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Try it here, instead of where the stored policy is attached.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Since a time (RFC 3339), or so long ago; 7d when nothing is said.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Past>,
    /// Until a time, or so long ago.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Past>,
}

/// What jobs did that somebody should look at.
#[derive(Debug, Args)]
pub(crate) struct Detection {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: DetectionAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DetectionAction {
    /// List detections, the newest first.
    #[command(after_help = "Examples:\n  \
        tidegate detection list --owner acme --status new\n  \
        tidegate detection list --repo acme/web --type New-Outbound-Network-Call")]
    List(DetectionList),
    /// Show a detection and its evidence.
    #[command(after_help = "Example:\n  tidegate detection show det_01k")]
    Show {
        /// Its id.
        id: String,
    },
    /// Say that it was dealt with. What it is about is still none of the baseline's, and is detected when it comes again.
    #[command(after_help = "Example:\n  tidegate detection resolve det_01k --note 'key was revoked'")]
    Resolve(Said),
    /// Say that it is what such jobs do: it belongs to the baseline from now on.
    #[command(after_help = "Example:\n  tidegate detection suppress det_01k --note 'the new mirror'")]
    Suppress(Said),
    /// Take that back.
    #[command(after_help = "Example:\n  tidegate detection reopen det_01k")]
    Reopen(Said),
    /// Rules by which detections are suppressed when they come.
    Rule {
        #[command(subcommand)]
        action: RuleAction,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DetectionList {
    /// Of an organization or user.
    #[arg(long, value_name = "OWNER")]
    pub(crate) owner: Option<String>,
    /// Of a repository.
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repo: Option<String>,
    /// Of one job, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<String>,
    /// Of a type: New-Outbound-Network-Call, Domain-Blocked.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// With a status: new, suppressed, resolved.
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    #[command(flatten)]
    pub(crate) most: Most,
}

#[derive(Debug, Args)]
pub(crate) struct Said {
    /// Its id.
    pub(crate) id: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Whether its endpoint belongs to the baseline, where that is not what the command says.
    #[arg(long, value_name = "BOOL")]
    pub(crate) expected: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuleAction {
    /// List the rules.
    #[command(after_help = "Example:\n  tidegate detection rule list")]
    List {
        #[command(flatten)]
        most: Most,
    },
    /// Suppress detections of an endpoint, those that are new as well.
    #[command(after_help = "Example:\n  \
        tidegate detection rule add '*.mirror.example' --repo acme/web --reason 'package mirrors'")]
    Add(Box<RuleAdd>),
    /// Remove a rule. What it suppressed stays so.
    #[command(after_help = "Example:\n  tidegate detection rule remove sup_01k")]
    Remove {
        /// Its id.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RuleAdd {
    /// An endpoint pattern; without a port, every port and protocol.
    pub(crate) endpoint: String,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
    /// Detections of this type only.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Of this owner's jobs only.
    #[arg(long, value_name = "OWNER")]
    pub(crate) owner: Option<String>,
    /// Of this repository's only.
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repo: Option<String>,
    /// Of this workflow file's only.
    #[arg(long, value_name = "FILE", requires = "repo")]
    pub(crate) workflow: Option<String>,
    /// Reached by this process only.
    #[arg(long, value_name = "PATH")]
    pub(crate) process: Option<String>,
    /// When it ends by itself: a time, or so long from now (30d).
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Expiry>,
}
