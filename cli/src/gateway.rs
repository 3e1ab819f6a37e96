//! `tidegate gateway` and `tidegate up`: run the appliance until it is told to end.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tidegate_gateway::appliance::Appliance;
use tidegate_gateway::config::GatewayConfig;
use tidegate_gateway::sync::ControlLink;
use tracing_subscriber::EnvFilter;

use crate::Usage;
use crate::args::Gateway;

/// Runs the gateway, or removes what one left behind.
pub(crate) fn run(args: &Gateway) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    if args.cleanup {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime
            .block_on(tidegate_gateway::intercept::cleanup())
            .context("can't remove the interception")?;
        println!("rules, routes and tables of Tidegate are gone; forwarding stays off on runner interfaces");
        return Ok(ExitCode::SUCCESS);
    }
    serve(&args.config.config)
}

fn serve(file: &Path) -> anyhow::Result<ExitCode> {
    let config = read_config(file)?;
    let link = config.control_plane.clone().map(ControlLink::Remote);
    Appliance::run(file, config, link).context("the gateway can't run")?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the configuration; a wrong one is wrong usage (exit code 2).
pub(crate) fn read_config(file: &Path) -> anyhow::Result<GatewayConfig> {
    GatewayConfig::read(file).map_err(|error| Usage(format!("{:#}", anyhow::Error::new(error))).into())
}

/// Libraries that write a line a query or a forged packet at their own info and warn levels.
const CHATTY: [&str; 3] = ["hickory_server=warn", "hickory_net=warn", "hickory_proto=warn"];

/// Log lines to stderr: what `TIDEGATE_LOG` says, else everything from info on but for the libraries' chatter.
pub(crate) fn log_to_stderr() {
    let chosen = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = CHATTY
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(chosen, EnvFilter::add_directive);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for eyes; a file or the journal would keep their escapes.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
