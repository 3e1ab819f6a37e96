//! Arguments of `tidegate doctor`. Nothing is done here.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

/// Say what is wrong with this machine as a gateway, or as a runner, and the command that mends it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 when something is wrong; warnings and notes are 0.\n\nExamples:\n  tidegate doctor\n  \
        tidegate doctor --from-runner --json"
)]
pub(crate) struct Doctor {
    /// Examine this machine as a runner: its way to the gateway, its resolver, its hooks.
    #[arg(long)]
    pub(super) from_runner: bool,
    /// The gateway's configuration; with --from-runner the hooks' settings (/etc/tidegate/hook.yaml).
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the gateway is, if not where this machine's resolver and default route are.
    #[arg(long, value_name = "ADDRESS", requires = "from_runner")]
    pub(super) gateway: Option<IpAddr>,
    /// The Actions runner whose `.env` shall name the hooks.
    #[arg(long, value_name = "DIR", requires = "from_runner")]
    pub(super) runner_dir: Option<PathBuf>,
    /// Findings as JSON.
    #[arg(long)]
    pub(super) json: bool,
}
