//! What is read off a machine and a process: CPU time, stolen time, memory, and how figures of several rounds
//! become one. System calls and instructions are [`counters`](crate::counters)' matter.
//!
//! Owns the only clock of the benchmark and the pinning of threads. Never knows what it measures.

#![expect(clippy::disallowed_methods, reason = "a benchmark is about the real clock")]

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The core of the measured server.
pub const SERVER_CORE: usize = 0;
/// The core of everything else: load, origins, the lab's resolver.
pub const LOAD_CORE: usize = 1;

/// Pins the calling thread, and whatever it starts from now on, to one core.
pub fn pin(core: usize) -> Result<()> {
    pin_to(&[core])
}

/// Pins the calling thread, and whatever it starts from now on, to these cores.
pub fn pin_to(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("can't pin to cores {cores:?}; two are needed"))
}

/// Lets this process, and whatever it starts, open as many files as it may. Returns how many.
pub fn open_files() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
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
    /// Runs `work` and charges it to these processes, which are one server.
    pub fn take(pids: &[i32], work: impl FnOnce() -> Result<Load>) -> Result<Self> {
        let (cpu, machine, start) = (server_cpu(pids)?, Machine::read()?, Instant::now());
        let load = work()?;
        let elapsed = start.elapsed();
        let (spent, now) = (server_cpu(pids)?.saturating_sub(cpu), Machine::read()?);
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

/// A process and all its descendants: a server with its workers.
pub fn family(pid: i32) -> Vec<i32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(parent) = pids.get(next) {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        // One that has ended has none.
        let children = children.unwrap_or_default();
        pids.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
        next += 1;
    }
    pids
}

fn server_cpu(pids: &[i32]) -> Result<Duration> {
    pids.iter().map(|&pid| process_cpu(pid)).sum()
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

/// Resident memory of a server's processes together, bytes.
pub fn resident(pids: &[i32]) -> Result<u64> {
    pids.iter().map(|&pid| memory(pid, "VmRSS:")).sum()
}

/// The most that was ever resident of each, together, bytes.
pub fn peak_resident(pids: &[i32]) -> Result<u64> {
    pids.iter().map(|&pid| memory(pid, "VmHWM:")).sum()
}

/// Lets the peak of these processes begin anew from what they hold now (proc(5), `clear_refs`).
pub fn forget_peak(pids: &[i32]) -> Result<()> {
    for pid in pids {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .with_context(|| format!("can't reset the peak of {pid}"))?;
    }
    Ok(())
}

fn memory(pid: i32, key: &str) -> Result<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let line = line.with_context(|| format!("no {key}"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
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
