//! Arguments of `tidegate import`. Nothing is done here.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Make policies out of what another tool was told.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(subcommand)]
    pub(crate) action: ImportAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportAction {
    /// Read the Harden-Runner steps of workflow files, and write a policy for each workflow.
    #[command(after_help = HELP)]
    HardenRunner(HardenRunner),
}

const HELP: &str = "\
DIR is a repository, a folder of repositories (DIR/REPO), or a folder of owners (DIR/OWNER/REPO). Whose a repository is
says its remote `origin`, else its folders, else --owner.

A workflow's policy is the union of its jobs, those of reusable workflows of the same repository included. It blocks only when
every job did and everything that they allowed is known; else it audits, and the report says why. --mode decides for all.

Nothing is sent anywhere. The output is what `tidegate policy sync` reads, one folder an owner, with report.md and
report.json beside them.

Examples:
  tidegate import harden-runner ~/src/acme --output policies
  tidegate policy sync policies/acme --owner acme --dry-run";

#[derive(Debug, Args)]
pub(crate) struct HardenRunner {
    /// Where the repositories are.
    pub(crate) dir: PathBuf,
    /// Where policies and report go: a directory that is empty or not there yet.
    #[arg(long, value_name = "DIR", default_value = "tidegate-import")]
    pub(crate) output: PathBuf,
    /// Whose repositories are that don't say it themselves.
    #[arg(long, value_name = "OWNER")]
    pub(crate) owner: Option<String>,
    /// What the policies do: what the workflows say, or the same for all.
    #[arg(long, value_enum, default_value_t = Choice::Keep)]
    pub(crate) mode: Choice,
    /// Write over files of the same name in an output directory that is not empty.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What imported policies do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// What the workflows say.
    Keep,
    /// All of them record only.
    Audit,
    /// All of them refuse.
    Block,
}
