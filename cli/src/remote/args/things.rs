//! Arguments of `tidegate set`, `job`, `lease`, `global-block`, `token`, `gateway list` and `audit`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::events::What;
use super::{Most, Owner, Remote};
use crate::remote::when::Expiry;

/// Endpoint sets: lists that policies share by `use:`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: SetAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SetAction {
    /// List endpoint sets and the policies that use them.
    List {
        #[command(flatten)]
        owner: Owner,
    },
    /// Show an endpoint set and its text.
    Show {
        /// The set.
        name: String,
        #[command(flatten)]
        owner: Owner,
        /// Only the text, as it was written.
        #[arg(long, conflicts_with = "json")]
        yaml: bool,
    },
    /// Create endpoint sets from files, or update those that there are. Policies that use them follow at once.
    #[command(
        after_help = "Example:\n  tidegate set apply corp-base.yaml --owner acme   # the set `corp-base`"
    )]
    Apply(SetApply),
    /// Delete an endpoint set that no policy uses.
    Delete {
        /// The set.
        name: String,
        #[command(flatten)]
        owner: Owner,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetApply {
    /// Files with endpoint sets; `-` is stdin. A file's name without its ending is the set's, unless --name says another.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) owner: Owner,
    /// Name of the set; for one file.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Only say what would change and what is wrong.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Jobs: what runs where, registering and ending for provisioners.
#[derive(Debug, Args)]
pub(crate) struct Job {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: JobAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobAction {
    /// List jobs, newest first.
    #[command(after_help = "Example:\n  tidegate job list --repo acme/web --alive")]
    List(JobList),
    /// Show a job and its lease.
    Show {
        /// Id of the job.
        id: String,
    },
    /// Show a job's network events: what it reached and what it was refused.
    #[command(after_help = "Example:\n  tidegate job events job_0… --verdict refuse")]
    Events(JobEvents),
    /// Show a job's summary, in Markdown: what was refused and why, and the lines that would allow it.
    Summary {
        /// Id of the job.
        id: String,
    },
    /// Register a job at addresses that a provisioner knows (token of role provisioner or admin).
    #[command(
        after_help = "A job that can register itself does so with `tidegate hook job-started`.\n\nExample:\n  \
        tidegate job start --source 10.0.4.17 --source fd00::4:17 --repo acme/web --workflow ci.yml --job build"
    )]
    Start(JobStart),
    /// End a job. By a provisioner's token its addresses are free at once.
    End {
        /// Id of the job.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobEvents {
    /// Id of the job.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) what: What,
    /// Show the newest so many; 100 when nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Show all of them, the oldest first.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JobList {
    /// Of an organization or user.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Of a repository, OWNER/NAME.
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repo: Option<String>,
    /// Of a workflow file.
    #[arg(long, value_name = "FILE")]
    pub(crate) workflow: Option<String>,
    /// Of a run.
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Those that run.
    #[arg(long, conflicts_with = "ended")]
    pub(crate) alive: bool,
    /// Those that have ended.
    #[arg(long)]
    pub(crate) ended: bool,
    #[command(flatten)]
    pub(crate) most: Most,
}

#[derive(Debug, Args)]
pub(crate) struct JobStart {
    /// An address of the job's machine; once for each.
    #[arg(long = "source", required = true, value_name = "ADDRESS")]
    pub(crate) sources: Vec<IpAddr>,
    /// The repository.
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repo: String,
    /// File name of the calling workflow.
    #[arg(long, value_name = "FILE")]
    pub(crate) workflow: Option<String>,
    /// Job id within the workflow.
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<String>,
    /// The forge's run number.
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Attempt of that run, from 1.
    #[arg(long, value_name = "N")]
    pub(crate) run_attempt: Option<u32>,
    /// Name of the runner.
    #[arg(long, value_name = "NAME")]
    pub(crate) runner_name: Option<String>,
    /// What triggered the run.
    #[arg(long)]
    pub(crate) event: Option<String>,
    /// Git ref.
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) git_ref: Option<String>,
    /// Who triggered the run.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Cluster of the sources' network; checked, never chosen.
    #[arg(long)]
    pub(crate) cluster: Option<String>,
}

/// Leases: which address stands for which job.
#[derive(Debug, Args)]
pub(crate) struct Lease {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: LeaseAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LeaseAction {
    /// List living leases, one line an address.
    List {
        /// Of an address.
        #[arg(long, value_name = "ADDRESS")]
        source: Option<IpAddr>,
        /// In a network.
        #[arg(long)]
        network: Option<String>,
        /// Of a group of gateways.
        #[arg(long)]
        group: Option<String>,
    },
    /// End whatever lease holds an address: its machine is gone.
    #[command(after_help = "Example:\n  tidegate lease end --source 10.0.4.17")]
    End {
        /// The address.
        #[arg(long, value_name = "ADDRESS")]
        source: IpAddr,
        /// Its network, where several have such an address.
        #[arg(long)]
        network: Option<String>,
    },
}

/// The global block list: what no policy can allow.
#[derive(Debug, Args)]
pub(crate) struct GlobalBlock {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: BlockAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BlockAction {
    /// List entries by layer and pattern.
    #[command(after_help = "Example:\n  tidegate global-block list --layer deployment")]
    List {
        /// Where they come from.
        #[arg(long)]
        layer: Option<LayerChoice>,
        /// Those with this in their patterns.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        #[command(flatten)]
        most: Most,
    },
    /// Add an entry of this deployment.
    #[command(after_help = "Examples:\n  \
        tidegate global-block add evil.example --reason 'incident 42'\n  \
        tidegate global-block add '*.paste.example' --reason 'until it is clear' --expires 14d")]
    Add {
        /// A name, `*.name`, address or range.
        pattern: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// When it ends by itself: a time (RFC 3339), or so long from now (12h, 14d).
        #[arg(long, value_name = "TIME")]
        expires: Option<Expiry>,
    },
    /// Remove an entry of this deployment.
    Remove {
        /// Its id or its pattern.
        #[arg(value_name = "ID|PATTERN")]
        entry: String,
    },
    /// Add all entries of a file: a plain list, a hosts file or a response policy zone.
    #[command(
        after_help = "Example:\n  tidegate global-block import feed.rpz --reason 'malware feed of 2026-05'"
    )]
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
        /// Why, for all of them.
        #[arg(long)]
        reason: String,
        /// When all of them end by themselves: a time (RFC 3339), or so long from now (12h, 14d).
        #[arg(long, value_name = "TIME")]
        expires: Option<Expiry>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LayerChoice {
    /// Of the program.
    Builtin,
    /// Of the signed feed.
    Feed,
    /// Of this deployment.
    Deployment,
}

impl LayerChoice {
    /// The spelling of the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Feed => "feed",
            Self::Deployment => "deployment",
        }
    }
}

/// API tokens.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// List tokens, without their texts.
    List,
    /// Make a token. Its text is shown this once.
    #[command(after_help = "Examples:\n  \
        tidegate token create --role runner --name ci-fleet --owners acme --networks runners --out runner-token\n  \
        tidegate token create --role gateway --name gw-1 --quiet > token\n  \
        tidegate token create --role viewer --name dashboard --expires 90d")]
    Create(TokenCreate),
    /// Take a token back: it is good nowhere from then on.
    Revoke {
        /// Id of the token.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// What it may do: admin, editor, viewer, gateway, provisioner or runner.
    #[arg(long)]
    pub(crate) role: tidegate_control::model::Role,
    /// For people; a gateway's is the gateway's name.
    #[arg(long)]
    pub(crate) name: String,
    /// Owners that it is limited to.
    #[arg(long, value_name = "OWNER", value_delimiter = ',')]
    pub(crate) owners: Vec<String>,
    /// Repositories that a runner token is limited to.
    #[arg(long, value_name = "OWNER/NAME", value_delimiter = ',')]
    pub(crate) repos: Vec<String>,
    /// Networks that a runner's or provisioner's token is limited to.
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) networks: Vec<String>,
    /// The cluster that a runner's or provisioner's token stands for.
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// When it stops being good: a time (RFC 3339), or so long from now (12h, 90d).
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Expiry>,
    /// Print the token's text and nothing else.
    #[arg(long, short, conflicts_with_all = ["json", "out"])]
    pub(crate) quiet: bool,
    /// Write the token's text to this new file (mode 0600) and don't print it.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) out: Option<PathBuf>,
}

/// What `tidegate gateway` does besides running one.
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayAction {
    /// List the gateways that the control plane has seen.
    List {
        #[command(flatten)]
        remote: Remote,
    },
}

/// The audit log: who changed what, as a chain of hashes.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    pub(crate) action: AuditAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditAction {
    /// List entries, newest first.
    List {
        /// What concerns an owner.
        #[arg(long)]
        owner: Option<String>,
        #[command(flatten)]
        most: Most,
    },
    /// Fetch the whole log and recompute its chain of hashes here; the server's word is not taken.
    #[command(
        after_help = "It prints the head, SEQ:HASH. Keep it where the control plane can't write, and show it next \
        time: entries\nthat were cut off at the end are noticed only by it.\n\nExamples:\n  \
        tidegate audit verify\n  \
        tidegate audit verify --head 4711:6f0c…    # the whole chain, and that it still holds this head\n  \
        tidegate audit verify --since 4711:6f0c…   # only what came after this head"
    )]
    Verify(AuditVerify),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// A head that was printed before, SEQ:HASH or only HASH: the chain must still contain it.
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<String>,
    /// A head that was printed before, SEQ:HASH: only this entry and what came after it are fetched and verified.
    #[arg(long, value_name = "SEQ:HASH", conflicts_with = "head")]
    pub(crate) since: Option<String>,
}
