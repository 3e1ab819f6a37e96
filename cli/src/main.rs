//! The binary `tidegate`: parse the command line, compose the crates, run, turn the outcome into an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; `check` and `explain` add their own (3, 4).
//! Errors go to stderr as one cause chain.

mod args;
mod check;
mod control;
mod demo;
mod doctor;
mod explain;
mod gateway;
mod hook;
mod import;
mod man;
mod out;
mod remote;
mod status;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Gateway(args) => match &args.action {
            None => gateway::run(&args),
            Some(action) => remote::gateway(action),
        },
        Command::Control(args) => control::run(&args),
        Command::Up(args) => up::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Policy(args) => remote::policy(&args),
        Command::Set(args) => remote::set(&args),
        Command::Job(args) => remote::job(&args),
        Command::Events(args) => remote::events(&args),
        Command::Baseline(args) => remote::baseline(&args),
        Command::Simulate(args) => remote::simulate(&args),
        Command::Coverage(args) => remote::coverage(&args),
        Command::Detection(args) => remote::detection(&args),
        Command::Lease(args) => remote::lease(&args),
        Command::GlobalBlock(args) => remote::global_block(&args),
        Command::Token(args) => remote::token(&args),
        Command::Audit(args) => remote::audit(&args),
        Command::Hook(args) => hook::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            out::print(format_args!("{}", String::from_utf8_lossy(&script)));
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { dir } => man::run(&dir),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("tidegate: {error:#}");
        error
            .downcast_ref::<Usage>()
            .map_or(ExitCode::FAILURE, |_| ExitCode::from(2))
    })
}

/// Marks an error as wrong usage or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);
