//! The program around the simulated fleet: reads what is wanted, runs it, writes the page. `make fleet` starts it.
//!
//! Owns the command line. As `control` it is the control plane that it measures, in a process of its own.

#![forbid(unsafe_code)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use tidegate_bench::measure::{instant, open_files};
use tidegate_fleet::plan::Plan;
use tidegate_fleet::{plane, report, run};
use tidegate_lab::PostgresServer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Thousands of simulated gateways against one control plane.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// A small run that only shows that everything is right.
    #[arg(long)]
    smoke: bool,
    /// Sizes with more gateways are left out.
    #[arg(long, default_value_t = usize::MAX)]
    gateways: usize,
    /// Registrations, and as many ends, a second beside publishing.
    #[arg(long)]
    pace: Option<u64>,
    /// A PostgreSQL of its own in place of SQLite (as root).
    #[arg(long)]
    postgres: bool,
    /// Where `fleet.md` and `fleet.svg` are written; nowhere when absent.
    #[arg(long)]
    results: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves the control plane that is measured.
    #[command(hide = true)]
    Control {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        store: String,
        #[arg(long)]
        folder: PathBuf,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    open_files()?;
    if let Some(Role::Control {
        listen,
        store,
        folder,
    }) = &options.role
    {
        return plane::serve(*listen, store, folder);
    }
    let begun = instant();
    let tell = |text: &str| println!("[{:6.1} s] {text}", begun.elapsed().as_secs_f64());
    let mut plan = if options.smoke {
        Plan::smoke()
    } else {
        Plan::full()
    };
    plan = plan.up_to(options.gateways);
    plan.pace = options.pace.unwrap_or(plan.pace);
    let machine = machine(options.postgres)?;
    // Where builds are, not /tmp: that could be memory, which syncs for nothing.
    let program = std::env::current_exe()?;
    let beside = program.parent().context("a program lies somewhere")?;
    let folder = tempfile::Builder::new().prefix("fleet-").tempdir_in(beside)?;
    let server = if options.postgres {
        Some(PostgresServer::shared().context("PostgreSQL does not start")?)
    } else {
        None
    };
    let store = server
        .as_ref()
        .map(|server| server.create_database())
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run::run(&plan, (&program, folder.path()), store, &tell))?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let machine = format!("{machine}- Load average at the end: {}\n", first(&load, 3));
    let page = report::markdown(&outcome, &plan, &machine);
    println!("{page}");
    if let Some(results) = &options.results {
        tidegate_bench::chart::write(&results.join("fleet.md"), &page)?;
        tidegate_bench::chart::write(&results.join("fleet.svg"), &report::svg(&outcome)?)?;
    }
    outcome.check()
}

fn first(text: &str, words: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().take(words).collect();
    words.join(" ")
}

/// The machine, the program and the hour, as a list.
fn machine(postgres: bool) -> Result<String> {
    let read = |file: &str| fs::read_to_string(Path::new(file)).with_context(|| format!("can't read {file}"));
    let cpus = read("/proc/cpuinfo")?;
    let models = || cpus.lines().filter_map(|line| line.strip_prefix("model name"));
    let model = models()
        .next()
        .map_or("processor", |line| line.trim_start_matches([' ', '\t', ':']));
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    Ok(format!(
        "- {} × {model}, Linux {}; control plane and fleet share it, over loopback\n- tidegate {}, {build} build; store: {}\n- {}, \
         load average at the start: {}\n",
        models().count().max(1),
        read("/proc/sys/kernel/osrelease")?.trim(),
        env!("CARGO_PKG_VERSION"),
        if postgres { "PostgreSQL" } else { "SQLite" },
        jiff::Timestamp::now().strftime("%F %H:%M UTC"),
        first(&read("/proc/loadavg")?, 3),
    ))
}
