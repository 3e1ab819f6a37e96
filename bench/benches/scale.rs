//! Policy at scale: lookups and memory from 100 to 1 000 000 rules and from 10 to 100 000 leases, and one gateway's world of
//! a million globally blocked names with 10 000 leases under 1 000 policies, one of which changes under open flows.
//!
//! Owns the numbers under "Policy at scale" in `bench/README.md`, and the table and charts `bench/results/scale*`. Every
//! size is a process of its own, this program again with `--size`, so that no memory is counted twice. Times are what the
//! thread had of its core, since nothing here waits. Run by `cargo bench
//! -p tidegate-bench --bench scale [-- FOLDER]`; FOLDER is where the results go instead.

#[path = "scale/report.rs"]
mod report;
#[path = "scale/rules.rs"]
mod rules;
#[path = "scale/sources.rs"]
mod sources;
#[path = "scale/swap.rs"]
mod swap;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidegate_bench::measure::{Spread, resident};
use tidegate_bench::sys::thread_cpu;

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RULES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
const LEASES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// Lookups that are timed together.
const LOOKUPS: usize = 4_096;
/// Times that they are.
const ROUNDS: usize = 31;

/// What one process measured, by name.
type Figures = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let outcome = match args.first().map(String::as_str) {
        Some("--size") => size(&args[1..]),
        Some("--test") => return ExitCode::SUCCESS,
        folder => run(folder),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: Option<&str>) -> Result<()> {
    let results = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
    let folder = PathBuf::from(folder.unwrap_or(results));
    std::fs::create_dir_all(&folder)?;
    let curve = |what: &str, sizes: &[usize]| -> Result<Vec<(usize, Figures)>> {
        sizes
            .iter()
            .map(|size| Ok((*size, child(what, *size)?)))
            .collect()
    };
    let machine = report::machine()?;
    let report = report::Report {
        machine,
        allow: curve("allow", &RULES)?,
        block: curve("block", &RULES)?,
        leases: curve("leases", &LEASES)?,
        world: child("world", 0)?,
    };
    report.write(&folder)
}

/// Runs this program for one size.
fn child(what: &str, size: usize) -> Result<Figures> {
    eprintln!("scale: {what} {size}");
    let output = Command::new(std::env::current_exe()?)
        .args(["--size", what, &size.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{what} {size} failed");
    let figure = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    let text = String::from_utf8(output.stdout)?;
    let all = text.lines().map(|line| figure(line).context("an odd line"));
    all.collect()
}

/// Measures one size, and prints its figures.
fn size(args: &[String]) -> Result<()> {
    let [what, size] = args else {
        anyhow::bail!("--size WHAT NUMBER");
    };
    let size = size.parse()?;
    let figures = match what.as_str() {
        "allow" => rules::allow(size)?,
        "block" => rules::block(size)?,
        "leases" => sources::leases(size)?,
        "world" => swap::world()?,
        other => anyhow::bail!("can't measure {other}"),
    };
    for (name, value) in figures {
        println!("{name}\t{value}");
    }
    Ok(())
}

/// Nanoseconds of one `look`, median and fastest of [`ROUNDS`]; each round looks for [`LOOKUPS`] things made afresh.
fn time<T>(figures: &mut Figures, name: &str, mut make: impl FnMut() -> T, mut look: impl FnMut(&T)) {
    let round = || {
        let wanted: Vec<T> = (0..LOOKUPS).map(|_| make()).collect();
        let before = thread_cpu();
        wanted.iter().for_each(&mut look);
        thread_cpu().saturating_sub(before).as_secs_f64() * 1e9 / LOOKUPS as f64
    };
    let spread = Spread::of(std::iter::repeat_with(round).take(ROUNDS));
    figures.insert(format!("{name} ns"), spread.median);
    figures.insert(format!("{name} ns, fastest"), spread.least);
}

/// How long something takes once, with what it gives.
fn once<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_cpu();
    let made = work();
    (made, thread_cpu().saturating_sub(before))
}

/// Resident memory of this process.
fn rss() -> Result<f64> {
    Ok(resident(&[std::process::id().cast_signed()])? as f64)
}
