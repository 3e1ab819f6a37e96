//! `tidegate man`: manual pages, made from the same words as `--help`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::Cli;

/// Writes a page for every command.
pub(crate) fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)
    };
    write().with_context(|| format!("can't write the manual to {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
