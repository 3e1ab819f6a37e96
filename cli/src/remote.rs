//! The commands that talk to a control plane over its HTTP API: `policy`, `set`, `job`, `events`, `baseline`,
//! `simulate`, `coverage`, `detection`, `lease`,
//! `global-block`, `token`, `gateway list` and `audit`.
//!
//! Owns asking and showing. What is allowed, what conflicts and what a document means is the control plane's to say; a
//! refusal becomes one sentence on stderr ([`client`]). Nothing is kept between two calls but what people keep
//! themselves (files of policies, an audit log's head).

pub(crate) mod args;
mod audit;
mod baseline;
mod client;
mod coverage;
mod detections;
pub(crate) mod document;
mod events;
mod gateways;
mod global_block;
mod jobs;
mod policy;
mod publish;
pub(crate) mod reach;
mod sets;
mod show;
mod simulate;
mod sync;
mod tokens;
mod when;

use std::process::ExitCode;

use args::things::GatewayAction;

/// `tidegate policy`.
pub(crate) fn policy(args: &args::policy::Policy) -> anyhow::Result<ExitCode> {
    block_on(policy::run(args))
}

/// `tidegate set`.
pub(crate) fn set(args: &args::things::Set) -> anyhow::Result<ExitCode> {
    block_on(sets::run(args))
}

/// `tidegate job`.
pub(crate) fn job(args: &args::jobs::Job) -> anyhow::Result<ExitCode> {
    block_on(jobs::run(args))
}

/// `tidegate events`.
pub(crate) fn events(args: &args::events::Events) -> anyhow::Result<ExitCode> {
    block_on(events::run(args))
}

/// `tidegate baseline`.
pub(crate) fn baseline(args: &args::record::Baseline) -> anyhow::Result<ExitCode> {
    block_on(baseline::run(args))
}

/// `tidegate simulate`.
pub(crate) fn simulate(args: &args::record::Simulate) -> anyhow::Result<ExitCode> {
    let client = client::Client::new(&args.remote)?;
    block_on(simulate::run(&client, &args.trial, args.remote.json))
}

/// `tidegate coverage`.
pub(crate) fn coverage(args: &args::coverage::Coverage) -> anyhow::Result<ExitCode> {
    block_on(coverage::run(args))
}

/// `tidegate detection`.
pub(crate) fn detection(args: &args::record::Detection) -> anyhow::Result<ExitCode> {
    block_on(detections::run(args))
}

/// `tidegate lease`.
pub(crate) fn lease(args: &args::jobs::Lease) -> anyhow::Result<ExitCode> {
    block_on(jobs::run_lease(args))
}

/// `tidegate global-block`.
pub(crate) fn global_block(args: &args::things::GlobalBlock) -> anyhow::Result<ExitCode> {
    block_on(global_block::run(args))
}

/// `tidegate token`.
pub(crate) fn token(args: &args::things::Token) -> anyhow::Result<ExitCode> {
    block_on(tokens::run(args))
}

/// `tidegate gateway list`.
pub(crate) fn gateway(action: &GatewayAction) -> anyhow::Result<ExitCode> {
    block_on(gateways::run(action))
}

/// `tidegate audit`.
pub(crate) fn audit(args: &args::things::Audit) -> anyhow::Result<ExitCode> {
    block_on(audit::run(args))
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}
