//! What is read off a machine and a process: CPU time, stolen time, memory, system calls, and how figures of
//! several rounds become one.
//!
//! Owns the only clock of the benchmark and the pinning of threads. Never knows what it measures.

#![expect(clippy::disallowed_methods, reason = "a benchmark is about the real clock")]

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The core of the measured server.
pub const SERVER_CORE: usize = 0;
/// The core of everything else: load, origins, the lab's resolver.
pub const LOAD_CORE: usize = 1;

/// Pins the calling thread, and whatever it starts from now on, to one core.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("can't pin to core {core}; two are needed"))
}

/// What a load generator did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Queries or flows begun.
    pub tried: u64,
    /// Those that ended with the whole right answer.
    pub done: u64,
}

/// One round of one subject.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What was asked of it.
    pub load: Load,
    /// User and system time of the process, all threads.
    pub cpu: Duration,
    /// By the clock.
    pub elapsed: Duration,
    /// What the hypervisor took from both cores meanwhile.
    pub stolen: Duration,
    /// What anybody else ran on the server's core meanwhile (interrupts included).
    pub others: Duration,
}

impl Sample {
    /// Runs `work` and charges it to process `pid`.
    pub fn take(pid: i32, work: impl FnOnce() -> Result<Load>) -> Result<Self> {
        let (cpu, machine, start) = (process_cpu(pid)?, Machine::read()?, Instant::now());
        let load = work()?;
        let elapsed = start.elapsed();
        let (spent, now) = (process_cpu(pid)?.saturating_sub(cpu), Machine::read()?);
        let busy = now.busy_server_core.saturating_sub(machine.busy_server_core);
        Ok(Self {
            load,
            cpu: spent,
            elapsed,
            stolen: now.stolen.saturating_sub(machine.stolen),
            others: busy.saturating_sub(spent),
        })
    }

    /// Server CPU for one unit, µs.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.load.done.max(1) as f64
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.load.done as f64 / self.elapsed.as_secs_f64()
    }

    /// Stolen time as a share of both cores.
    pub fn stolen_share(&self) -> f64 {
        self.stolen.as_secs_f64() / (2.0 * self.elapsed.as_secs_f64())
    }

    /// What others used of the server's core.
    pub fn others_share(&self) -> f64 {
        self.others.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// Median and extremes of one figure over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one (the mean of the two middle ones).
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            median,
            least: sorted[0],
            most: sorted[sorted.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(
            f,
            "{:.digits$} ({:.digits$}–{:.digits$})",
            self.median, self.least, self.most
        )
    }
}

/// User and system time of a process so far, threads that ended included (proc(5), fields 14 and 15).
pub fn process_cpu(pid: i32) -> Result<Duration> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The command's name, in brackets, may hold anything.
    let fields = stat
        .rsplit_once(')')
        .context("no name in stat")?
        .1
        .split_whitespace();
    let ticks: Vec<u64> = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    ticks_to_time(ticks.iter().sum())
}

/// Resident memory of a process, bytes.
pub fn resident(pid: i32) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// System calls for one unit, by name, the most frequent first; what is rarer than one in twenty units is left out.
#[derive(Debug, Clone)]
pub struct Calls(pub Vec<(String, f64)>);

impl Calls {
    /// All of them together.
    pub fn total(&self) -> f64 {
        self.0.iter().map(|(_, calls)| calls).sum()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<_> = self
            .0
            .iter()
            .map(|(name, calls)| format!("{name} {calls:.1}"))
            .collect();
        f.write_str(&each.join(", "))
    }
}

/// System calls of a process while `work` runs, by `strace`, which slows it: not to be timed.
pub fn system_calls(pid: i32, work: impl FnOnce() -> Result<Load>) -> Result<Calls> {
    let file = std::env::temp_dir().join(format!("tidegate-bench-{}.strace", std::process::id()));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-U", "calls,name", "-p", &pid.to_string(), "-o"])
        .arg(&file);
    let mut strace = strace
        .stderr(std::process::Stdio::null())
        .spawn()
        .context("can't start strace")?;
    let load = wait_traced(pid).and_then(|()| work());
    kill(Pid::from_raw(strace.id().cast_signed()), Signal::SIGINT)?;
    strace.wait()?;
    let table = read(&file.to_string_lossy())?;
    fs::remove_file(&file)?;
    let units = load?.done.max(1) as f64;
    let row = |line: &str| {
        let (calls, name) = line.trim().split_once(' ')?;
        let each = calls.parse::<f64>().ok()? / units;
        let name = name.trim();
        (each >= 0.05 && name != "total").then(|| (name.to_owned(), each))
    };
    let mut calls: Vec<_> = table.lines().filter_map(row).collect();
    calls.sort_by(|one, other| other.1.total_cmp(&one.1));
    ensure!(!calls.is_empty(), "strace counted nothing");
    Ok(Calls(calls))
}

/// Waits until every thread of a process has a tracer.
fn wait_traced(pid: i32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let mut untraced = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            untraced += usize::from(status.lines().any(|line| line == "TracerPid:\t0"));
        }
        if untraced == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("strace did not attach to {pid}")
}

/// What `/proc/stat` says of the machine.
struct Machine {
    stolen: Duration,
    busy_server_core: Duration,
}

impl Machine {
    fn read() -> Result<Self> {
        let stat = read("/proc/stat")?;
        // user nice system idle iowait irq softirq steal
        let core = |name: &str| -> Option<Vec<u64>> {
            let line = stat.lines().find(|line| line.split(' ').next() == Some(name))?;
            Some(
                line.split_whitespace()
                    .skip(1)
                    .filter_map(|field| field.parse().ok())
                    .collect(),
            )
        };
        let (all, server) = core("cpu")
            .zip(core(&format!("cpu{SERVER_CORE}")))
            .context("no cores in /proc/stat")?;
        let busy = [0, 1, 2, 5, 6]
            .iter()
            .filter_map(|field| server.get(*field))
            .sum();
        Ok(Self {
            stolen: ticks_to_time(all.get(7).copied().unwrap_or(0))?,
            busy_server_core: ticks_to_time(busy)?,
        })
    }
}

fn ticks_to_time(ticks: u64) -> Result<Duration> {
    let hertz = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(Duration::from_secs_f64(ticks as f64 / hertz as f64))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("can't read {path}"))
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_ones() {
        assert_eq!(
            Spread::of([4.0, 1.0, 2.0, 9.0]),
            Spread {
                median: 3.0,
                least: 1.0,
                most: 9.0
            }
        );
        assert_eq!(format!("{:.2}", Spread::of([2.5])), "2.50 (2.50–2.50)");
    }
}

/// Now, by the clock.
pub fn instant() -> Instant {
    Instant::now()
}

/// Waits of one round, sorted.
#[derive(Clone, Debug, Default)]
pub struct Quantiles(Vec<Duration>);

impl Quantiles {
    /// Sorts them.
    pub fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        Self(waits)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The wait that this share of all is not above; zero when there is none.
    pub fn at(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.0.get(at.min(last)).copied().unwrap_or_default()
    }
}
