//! Tidegate beside its peers and the floors, on one lab in one run: DNS queries, TLS flows, bulk and idle tunnels.
//!
//! Owns the rounds ([`queries`], [`connections`]); the tables and charts are what `bench/results` holds. Subjects take turns within
//! every round, because the machine lies. Run by `cargo bench -p tidegate-bench --bench gate -- --help` as root;
//! without `--program` the program is built first.

mod connections;
mod queries;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use tidegate_bench::chart::{self, Bars};
use tidegate_bench::counters::Counters;
use tidegate_bench::flood::{Flood, Wanted};
use tidegate_bench::measure::{self, LOAD_CORE};
use tidegate_bench::options::{Options, Role};
use tidegate_bench::peers::render::PROXY_PORT;
use tidegate_bench::peers::{Part, Peer, Programs, subjects};
use tidegate_bench::stage::Stage;
use tidegate_bench::sys::Waiting;
use tidegate_bench::{cast, floor, origins};
use tidegate_lab::{Lab, wait_until};

/// How long a fresh subject may take until it serves.
const READY: Duration = Duration::from_secs(30);

/// Questions to a subject that may not be there yet.
const FEW: u64 = 16;

fn main() -> ExitCode {
    let asked = |wanted: &str| std::env::args().any(|arg| arg == wanted);
    if !["--bench", "--serve", "--help"].into_iter().any(asked) {
        println!("gate: a benchmark; run it with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let done = match options.serve {
        None => bench(&options),
        Some(Role::Echo) => floor::echo(cast::resolver(), options.threads),
        Some(Role::Relay) => {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PROXY_PORT);
            floor::relay(address, options.threads)
        }
        Some(Role::Origins) => origins::serve(options.waiting()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What every part needs.
struct Bench<'a> {
    options: &'a Options,
    lab: &'a Lab,
    counters: &'a Counters,
    stage: Stage<'a>,
}

/// What a part gives.
struct Outcome {
    name: &'static str,
    text: String,
    panels: Vec<Bars>,
}

fn bench(options: &Options) -> Result<()> {
    let this = std::env::current_exe()?;
    let profile = this.ancestors().nth(2).context("target/PROFILE/deps/BENCH")?;
    let program = options.program.clone().map_or_else(|| build(profile), Ok)?;
    let target = profile.parent().context("no target folder")?;
    let programs = Programs::find(target)?;
    let peers = [Part::Dns, Part::Flows].map(|part| {
        if options.wants(part) {
            subjects(part, &options.peers)
        } else {
            vec![]
        }
    });
    let versions = programs.versions(&peers.concat())?;
    measure::pin(LOAD_CORE)?;
    measure::open_files()?;
    let machine = machine(&program, options.program.is_none(), &versions)?;
    println!("{machine}");
    // The worker reads what the servers write; the rounds run, and block, here.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lab = cast::lab()?;
        let counters = Counters::detect(&lab.dir())?;
        let mut bench = Bench {
            options,
            counters: &counters,
            stage: Stage::open(&lab, program, programs).await?,
            lab: &lab,
        };
        if options.wants(Part::Dns) {
            let outcome = queries::bench(&mut bench, &peers[0]).await?;
            finish(options, &machine, &counters, outcome)?;
        }
        if options.wants(Part::Flows) {
            let outcome = connections::bench(&mut bench, &peers[1]).await?;
            finish(options, &machine, &counters, outcome)?;
        }
        drop(bench);
        Ok(lab.close()?)
    })
}

/// Prints a part's tables, and writes them and its chart if they are wanted.
fn finish(options: &Options, machine: &str, counters: &Counters, outcome: Outcome) -> Result<()> {
    let Outcome { name, text, panels } = outcome;
    println!("{text}");
    for missing in counters.missing() {
        println!("{missing}");
    }
    let Some(folder) = &options.results else {
        return Ok(());
    };
    let machine = counters
        .missing()
        .iter()
        .fold(machine.to_owned(), |mut text, line| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "- {line}");
            text
        });
    let text = format!(
        "# Beside its peers: {name}\n\nWritten by `make bench`; what is measured and how is in \
         [the README](../README.md). Median (least–most) of {} rounds.\n\n{machine}- Load average at the end: {}\n\
         \n![chart]({name}.svg)\n{text}",
        options.rounds,
        load_average()?
    );
    let write = |ending: &str, text: &str| chart::write(&folder.join(format!("{name}.{ending}")), text);
    write("md", &text)?;
    let panels: Vec<_> = panels.into_iter().filter(|panel| !panel.is_empty()).collect();
    write("svg", &chart::bars(&panels)?)
}

/// Builds the program in the profile of this benchmark, so that nothing stale is measured.
fn build(profile: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "tidegate"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    ensure!(cargo.status()?.success(), "tidegate does not build");
    Ok(profile.join("tidegate"))
}

/// Machine, kernel, versions, date, commit and load, a line each.
fn machine(program: &Path, built: bool, versions: &[String]) -> Result<String> {
    let said = |program: &Path, args: &[&str]| -> Result<String> {
        let output = Command::new(program).args(args).output();
        let output = output.with_context(|| format!("{} is missing", program.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cpu = said(Path::new("lscpu"), &[])?;
    let cpu = |wanted: &str| {
        let line = cpu
            .lines()
            .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
        line.unwrap_or("?").trim().to_owned()
    };
    let mut text = format!(
        "- {} × {}, hypervisor {}, Linux {}\n",
        cpu("CPU(s)"),
        cpu("Model name"),
        cpu("Hypervisor vendor"),
        said(Path::new("uname"), &["-r"])?
    );
    let source = if built {
        let commit = said(Path::new("git"), &["describe", "--always", "--dirty"]);
        format!("commit {}", commit.unwrap_or_else(|_| "unknown".into()))
    } else {
        "a program that was there".to_owned()
    };
    writeln!(text, "- {}, {source}", said(program, &["--version"])?)?;
    for version in versions {
        writeln!(text, "- {version}")?;
    }
    let date = said(Path::new("date"), &["-u", "+%F %R UTC"])?;
    writeln!(text, "- {date}, load average at the start: {}", load_average()?)?;
    Ok(text)
}

fn load_average() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// Asks `all` questions, until as many in turn are answered as wanted; only a few until the subject is there.
async fn served(
    flood: &mut Flood,
    stage: &Stage<'_>,
    (peer, wanted): (Peer, Wanted),
    all: u64,
) -> Result<()> {
    let answered = wait_until("every question to be answered", READY, async || {
        let mut ask = || -> Result<()> {
            stage.pids()?;
            for count in [FEW, all] {
                let load = flood.run(count, wanted)?;
                ensure!(load.done == count, "{load:?}");
            }
            Ok(())
        };
        ask().map_err(|error| format!("{error:#}"))
    });
    let answered = answered.await;
    answered.with_context(|| format!("{} does not serve; it says: {}", peer.title(), stage.complaints()))
}

/// How the load waits when the subject has so many cores.
fn waiting(cores: usize) -> Waiting {
    match cores {
        1 => Waiting::Awake,
        _ => Waiting::Asleep,
    }
}

/// Cores of a run, in words.
fn on_cores(cores: usize) -> &'static str {
    match cores {
        1 => "one core",
        _ => "two cores, shared with the load",
    }
}
