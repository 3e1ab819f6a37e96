//! `tidegate doctor`: what is wrong with a machine as a gateway or as a runner, and the command that mends it.
//!
//! Owns nothing but the choice. Facts are read in [`host`], asked in [`probe`] and [`exchange`], and judged by pure
//! functions. It changes nothing: the commands are for people.

mod api;
pub(crate) mod args;
mod certificate;
mod clock;
mod exchange;
mod finding;
mod gateway;
mod hooks;
mod host;
mod mtu;
mod probe;
mod resolver;
mod routes;
mod runner;

use std::path::Path;
use std::process::ExitCode;

use args::Doctor;
use finding::Report;

/// The gateway's configuration when nobody names one.
const DEFAULT_CONFIG: &str = "/etc/tidegate/tidegate.yaml";

/// `tidegate doctor`.
pub(crate) fn run(args: &Doctor) -> anyhow::Result<ExitCode> {
    let report = if args.from_runner {
        Report::new("runner", runner::examine(args)?)
    } else {
        let file = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
        let config = crate::gateway::read_config(file)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Report::new("gateway", runtime.block_on(gateway::examine(&config, file)))
    };
    Ok(report.say(args.json))
}
