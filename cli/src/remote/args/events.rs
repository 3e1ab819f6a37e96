//! Arguments of `tidegate events` and of what `tidegate job` tells of events.

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::Remote;
use crate::remote::when::Past;

/// Network events: what jobs reached and what they were refused, as gateways saw it.
#[derive(Debug, Args)]
#[command(
    after_help = "The newest are shown, the oldest of them first; --all and --follow show them as they come.\n\
    With --json each is a line of JSON.\n\nExamples:\n  \
    tidegate events --follow --verdict refuse,would-refuse\n  \
    tidegate events --repo acme/web --since 2h --name '*.example.com'\n  \
    tidegate events --since 7d --all --json > events.ndjson"
)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) what: What,
    /// Of jobs of an organization or user.
    #[arg(long, value_name = "OWNER")]
    pub(crate) org: Option<String>,
    /// Of jobs of a repository.
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repo: Option<String>,
    /// Of jobs of a workflow file.
    #[arg(long, value_name = "FILE")]
    pub(crate) workflow: Option<String>,
    /// Of one job, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<String>,
    /// Of jobs that are called so in their workflow.
    #[arg(long, value_name = "NAME")]
    pub(crate) job_name: Option<String>,
    /// Of a run.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// Of a gateway.
    #[arg(long, value_name = "NAME")]
    pub(crate) gateway: Option<String>,
    /// With this short id, as a refusal shows it.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Since a time (RFC 3339), or so long ago (2h, 7d).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Past>,
    /// Before a time, or so long ago.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<Past>,
    /// Go on with events as they are stored. Without --since or --limit it begins with the next one.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Show the newest so many; 100 when nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Show all of them, the oldest first.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

/// What happened in them.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// With these verdicts.
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub(crate) verdict: Vec<VerdictChoice>,
    /// About a name or an address, or about any name below another: `*.example.com`.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Of a kind of traffic: dns, tls, http, quic, tcp, udp, icmp, ip.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// For a reason, as events spell it: not-allowed, denied, global-block …
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
    /// No colours; nor with NO_COLOR set.
    #[arg(long, env = "NO_COLOR", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(crate) no_color: bool,
}

/// A verdict.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum VerdictChoice {
    /// Let through.
    Permit,
    /// Refused.
    Refuse,
    /// Let through by audit mode; block mode would refuse.
    WouldRefuse,
}

impl VerdictChoice {
    /// The spelling of the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Refuse => "refuse",
            Self::WouldRefuse => "would-refuse",
        }
    }
}
