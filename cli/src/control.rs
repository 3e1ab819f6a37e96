//! `tidegate control`: the control plane by itself, and copies of its store while it runs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tidegate_control::config::ControlConfig;
use tidegate_control::store::{Backup, Store};

use crate::Usage;
use crate::args::{Control, ControlAction};
use crate::out::say;

/// Runs the control plane, or copies its store.
pub(crate) fn run(args: &Control) -> anyhow::Result<ExitCode> {
    match &args.action {
        None => {
            crate::gateway::log_to_stderr();
            let config = read_config(&args.config.config, None)?;
            tidegate_control::plane::run(config).context("the control plane can't run")?;
        }
        Some(ControlAction::Backup { config, to }) => {
            let config = read_config(&config.config, None)?;
            let copies = backup(&config, to)?;
            say!(
                "the store was copied to {}, what jobs reached to {}: to restore, put both in its place",
                copies.policies.display(),
                copies.events.display()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the section; a wrong one is wrong usage (exit code 2). See [`ControlConfig::read`] for `defaults_in`.
pub(crate) fn read_config(file: &Path, defaults_in: Option<&Path>) -> anyhow::Result<ControlConfig> {
    ControlConfig::read(file, defaults_in)
        .map_err(|error| Usage(format!("{:#}", anyhow::Error::new(error))).into())
}

fn backup(config: &ControlConfig, to: &Path) -> anyhow::Result<Backup> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let store = Store::open(&config.store).await.context("can't open the store")?;
        store.backup(to).await.context("the store was not copied")
    })
}
