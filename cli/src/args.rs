//! The command line: names, arguments and their help. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::doctor::args::Doctor;
use crate::hook::args::Hook;
use crate::remote::args::{coverage, events, jobs, policy, record, things};

/// Transparent egress gateway for CI runner fleets.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway: interception, resolver and proxy of its runner networks; or list those that there are.
    Gateway(Gateway),
    /// Run the control plane: the policy store, its API, and the sync of its gateways.
    Control(Control),
    /// Run the whole appliance in one process: gateway, control plane, embedded store.
    Up(Config),
    /// Check a policy file and say what is wrong, with line and caret.
    Check(Check),
    /// Say what a policy, or the policy of a running job, decides for a name, and by which rule.
    Explain(Explain),
    /// Say how a running gateway is: interception, listeners, upstreams, leases, policies, drops.
    Status(Status),
    Policy(policy::Policy),
    Set(things::Set),
    Job(jobs::Job),
    Events(events::Events),
    Baseline(record::Baseline),
    Simulate(record::Simulate),
    Coverage(coverage::Coverage),
    Detection(record::Detection),
    Lease(jobs::Lease),
    GlobalBlock(things::GlobalBlock),
    Token(things::Token),
    Audit(things::Audit),
    Import(crate::import::args::Import),
    Hook(Hook),
    Doctor(Doctor),
    /// Show Tidegate at work in a lab of network namespaces (needs root).
    Demo(Demo),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for every command to a directory.
    #[command(after_help = "Example:\n  tidegate man /usr/local/share/man/man1")]
    Man {
        /// The directory; it is made when it is not there.
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/tidegate/tidegate.yaml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Gateway {
    #[command(subcommand)]
    pub(crate) action: Option<things::GatewayAction>,
    #[command(flatten)]
    pub(crate) config: Config,
    /// Remove rules, routes and tables that a gateway left in this network namespace, and end. Forwarding
    /// stays off on the runner interfaces.
    #[arg(long)]
    pub(crate) cleanup: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Control {
    #[command(flatten)]
    pub(crate) config: Config,
    #[command(subcommand)]
    pub(crate) action: Option<ControlAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControlAction {
    /// Copy an SQLite store while the control plane runs (PostgreSQL has pg_dump).
    ///
    /// What jobs reached is a file of its own: copy-events.db beside copy.db. To restore, stop the control plane, remove
    /// the old store's -wal and -shm files, and put both copies in its place. Gateways then begin anew with policies, and
    /// go on with events behind what they delivered last.
    Backup {
        #[command(flatten)]
        config: Config,
        /// The file, which must not exist yet.
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Policy files.
    #[arg(required = true, value_name = "POLICY.yaml")]
    pub(crate) files: Vec<PathBuf>,
    /// Warnings fail too (exit code 3), and a wildcard over a public suffix is an error.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Diagnostics as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The policy file to ask.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "job",
        conflicts_with = "job"
    )]
    pub(crate) policy: Option<PathBuf>,
    /// Endpoint sets that the policy uses: `--set corp-base=corp.yaml`.
    #[arg(long = "set", value_name = "NAME=FILE")]
    pub(crate) sets: Vec<String>,
    /// Ask the running gateway about the job that holds this lease, or this source address.
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<String>,
    #[command(flatten)]
    pub(crate) config: Config,
    /// Names or addresses, with port and protocol where they matter: `github.com`, `db.example:5432`,
    /// `ntp.example:123/udp`, `[2001:db8::1]:443`.
    #[arg(required = true, value_name = "NAME[:PORT][/PROTO]")]
    pub(crate) targets: Vec<String>,
    /// Answers as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) config: Config,
    /// The whole status as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave the lab up when the job is done, until Enter or Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only remove what interrupted labs of dead processes left behind.
    #[arg(long)]
    pub(crate) sweep: bool,
}

#[cfg(test)]
mod tests;
