//! Instructions of single steps, counted by valgrind's callgrind: steady enough to compare commits by.
//!
//! Owns `bench/results/instructions.tsv`, the counts of the last commit that meant to change them. Every step runs in a
//! process of its own, this program again under valgrind, so that nothing but the step differs. Hashes are seeded anew in
//! every process, so counts differ by some tenths of a percent. Driven by [`super`].
//!
//! Gungraun does the same with more to configure, but needs a runner installed in the library's very version, and keeps its
//! baselines below `target`, not in commits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_bench::ops::{OPS, Step, find_op};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/instructions.tsv");
/// How often a step is done before it is counted, and while.
const TIMES: u64 = 2_048;
/// Growth that is none, percent.
const TOLERANCE: f64 = 5.0;

/// Counts, and compares or saves; false when a step grew. `--step NAME` is what valgrind runs.
pub(super) fn run(args: &[String]) -> Result<bool> {
    match args.first().map(String::as_str) {
        None => count_all().and_then(|counts| compare(&counts)),
        Some("--save") => count_all().and_then(|counts| save(&counts)).map(|()| true),
        Some("--step") => repeat(args.get(1)).map(|()| true),
        Some(other) => bail!("unknown argument {other}; --save writes a new baseline"),
    }
}

fn count_all() -> Result<BTreeMap<&'static str, f64>> {
    OPS.iter().map(|(name, _)| Ok((*name, count(name)?))).collect()
}

/// Instructions of one step.
fn count(name: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*measured_steps*")
        .arg(std::env::current_exe()?)
        .args(["--instructions", "--step", name])
        .output()
        .context("can't run valgrind; packaging/install-deps.sh bench installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, collected) = collected.with_context(|| format!("{name}: callgrind collected nothing: {said}"))?;
    let collected: f64 = collected.trim().parse()?;
    ensure!(collected > 0.0, "{name}: callgrind did not see the step");
    Ok(collected / TIMES as f64)
}

/// Does one step again and again; what valgrind runs.
fn repeat(name: Option<&String>) -> Result<()> {
    let prepare = name.and_then(|name| find_op(name)).context("--step NAME")?;
    let mut step = prepare()?;
    for _ in 0..TIMES {
        step();
    }
    measured_steps(&mut step);
    Ok(())
}

/// Valgrind knows it by its name.
#[inline(never)]
fn measured_steps(step: &mut Step) {
    for _ in 0..TIMES {
        step();
    }
}

fn save(counts: &BTreeMap<&str, f64>) -> Result<()> {
    let mut text = String::from("step\tinstructions\n");
    for (name, _) in &OPS {
        let count = counts.get(name).context("every step was counted")?;
        writeln!(text, "{name}\t{count:.0}")?;
    }
    std::fs::write(BASELINE, &text).with_context(|| format!("can't write {BASELINE}"))?;
    print!("{text}");
    Ok(())
}

/// Prints counts beside the baseline's. False when one grew.
fn compare(counts: &BTreeMap<&str, f64>) -> Result<bool> {
    let text = std::fs::read_to_string(BASELINE).with_context(|| format!("can't read {BASELINE}"))?;
    let baseline: BTreeMap<&str, f64> = text
        .lines()
        .skip(1)
        .map(|line| {
            let (name, count) = line.split_once('\t').context("an odd line in the baseline")?;
            Ok((name, count.parse()?))
        })
        .collect::<Result<_>>()?;
    let mut steady = true;
    println!("| step | instructions | baseline | |\n|---|---|---|---|");
    for (name, _) in &OPS {
        let count = counts.get(name).context("every step was counted")?;
        let Some(before) = baseline.get(name) else {
            bail!("{name} is not in the baseline; --save writes a new one");
        };
        let growth = (count / before - 1.0) * 100.0;
        let grew = growth > TOLERANCE;
        steady &= !grew;
        let mark = if grew { " **grew**" } else { "" };
        println!("| {name} | {count:.0} | {before:.0} | {growth:+.1} %{mark} |");
    }
    Ok(steady)
}
