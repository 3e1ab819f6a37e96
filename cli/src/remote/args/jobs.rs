//! Arguments of `tidegate job` and `lease`.

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::events::What;
use super::{Most, Remote};

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
