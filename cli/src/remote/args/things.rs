//! Arguments of `tidegate set`, `global-block`, `token`, `gateway list` and `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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
