//! Counts for one unit of work: system calls by name, and instructions where the machine lets them be counted.
//!
//! Owns the use of `perf stat`, which counts in the kernel and stops nobody, as `strace` would; still a counted
//! round is not timed. Never knows what is counted.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::measure::Load;

const ALL: &str = "raw_syscalls:sys_enter";
const EACH: &str = "syscalls:sys_enter_";
const INSTRUCTIONS: &str = "instructions";
/// What is rarer than this a unit is left out by name.
const RARE: f64 = 0.01;

/// What one unit took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// All system calls.
    pub calls: f64,
    /// The frequent ones by name, the most frequent first.
    pub by_name: Vec<(String, f64)>,
    /// Instructions, user and kernel.
    pub instructions: Option<f64>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |(name, calls): &(String, f64)| format!("{name} {calls:.2}");
        let each: Vec<_> = self.by_name.iter().map(each).collect();
        f.write_str(&each.join(", "))
    }
}

/// What can be counted on this machine.
#[derive(Debug)]
pub struct Counters {
    events: Vec<String>,
    /// Why something can't be counted, for the report.
    missing: Vec<String>,
    dir: PathBuf,
}

impl Counters {
    /// Tries what `perf` can count here. Its pipes and files go to `dir`.
    pub fn detect(dir: &Path) -> Result<Self> {
        let mut counters = Self {
            events: Vec::new(),
            missing: Vec::new(),
            dir: dir.to_owned(),
        };
        let wanted = [
            (
                vec![ALL.to_owned(), format!("{EACH}*")],
                "System calls are not counted",
            ),
            (vec![INSTRUCTIONS.to_owned()], "Instructions are not counted"),
        ];
        for (events, without) in wanted {
            match countable(&events)? {
                Ok(()) => counters.events.extend(events),
                Err(reason) => counters.missing.push(format!("{without}: {reason}.")),
            }
        }
        Ok(counters)
    }

    /// What can't be counted here, and why: a sentence each.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Counts what these processes do while `work` runs; `None` when nothing can be counted here.
    pub fn count(&self, pids: &[i32], work: impl FnOnce() -> Result<Load>) -> Result<Option<Counts>> {
        if self.events.is_empty() {
            return Ok(None);
        }
        let mut perf = Perf::attach(self, pids)?;
        let load = perf.tell("enable").and_then(|()| work());
        perf.tell("disable")?;
        let table = perf.end()?;
        Ok(Some(read_table(&table, load?.done)?))
    }
}

/// Whether `perf` counts these events here, or why it does not.
fn countable(events: &[String]) -> Result<std::result::Result<(), String>> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x,", "-e", &events.join(","), "true"]);
    let output = perf
        .output()
        .context("perf is missing; `packaging/install-deps.sh bench` installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(if !output.status.success() {
        let first = said.lines().find(|line| !line.trim().is_empty());
        Err(first
            .unwrap_or("perf fails")
            .trim()
            .trim_end_matches('.')
            .to_owned())
    } else if said.contains("<not supported>") {
        Err("perf says that this machine has no counter for them".to_owned())
    } else {
        Ok(())
    })
}

/// A running `perf stat` that counts when it is told to.
struct Perf {
    child: Child,
    orders: File,
    answers: BufReader<File>,
    table: PathBuf,
}

impl Perf {
    fn attach(counters: &Counters, pids: &[i32]) -> Result<Self> {
        let [orders, answers, table] = ["orders", "answers", "table"].map(|file| counters.dir.join(file));
        for pipe in [&orders, &answers] {
            // Left by a round before.
            let _none_yet = fs::remove_file(pipe);
            mkfifo(pipe, Mode::S_IRWXU)?;
        }
        let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
        let control = format!("--control=fifo:{},{}", orders.display(), answers.display());
        let child = Command::new("perf")
            .args([
                "stat",
                "-x,",
                "-D",
                "-1",
                &control,
                "-e",
                &counters.events.join(","),
            ])
            .args(["-p", &pids.join(","), "-o"])
            .arg(&table)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start perf")?;
        // Both ends at once, so that opening waits for nobody.
        let open = |pipe: &Path| OpenOptions::new().read(true).write(true).open(pipe);
        Ok(Self {
            child,
            orders: open(&orders)?,
            answers: BufReader::new(open(&answers)?),
            table,
        })
    }

    /// Gives an order and waits until it is obeyed.
    fn tell(&mut self, order: &str) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("perf ended: {status}");
        }
        self.orders.write_all(format!("{order}\n").as_bytes())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        // The acknowledgement may carry a zero byte of the one before.
        if !answer.contains("ack") {
            bail!("perf answers {answer:?}");
        }
        Ok(())
    }

    fn end(mut self) -> Result<String> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        self.child.wait()?;
        fs::read_to_string(&self.table).context("perf wrote nothing")
    }
}

/// Reads lines of `perf stat -x,`: count, unit, event and more.
fn read_table(table: &str, units: u64) -> Result<Counts> {
    let units = units.max(1) as f64;
    let mut counts = Counts::default();
    let mut seen = false;
    for line in table.lines() {
        let mut fields = line.split(',');
        let (Some(count), Some(_unit), Some(event)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(count) = count.parse::<f64>() else { continue };
        seen = true;
        let each = count / units;
        if event == ALL {
            counts.calls = each;
        } else if let Some(name) = event.strip_prefix(EACH) {
            if each >= RARE {
                counts
                    .by_name
                    .push((name.trim_start_matches("new").to_owned(), each));
            }
        } else if event.starts_with(INSTRUCTIONS) {
            counts.instructions = Some(each);
        }
    }
    counts.by_name.sort_by(|one, other| other.1.total_cmp(&one.1));
    if !seen {
        bail!("perf counted nothing");
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end by panic")]

    use super::*;

    const TABLE: &str = "# started on Sun Nov 22\n\n\
        400,,raw_syscalls:sys_enter,11,100.00,,\n\
        100,,syscalls:sys_enter_recvmmsg,11,100.00,,\n\
        296,,syscalls:sys_enter_sendmsg,11,100.00,,\n\
        0.5,,syscalls:sys_enter_futex,11,100.00,,\n\
        <not counted>,,syscalls:sys_enter_x,0,0.00,,\n\
        900000,,instructions,11,100.00,,\n";

    #[test]
    fn counts_are_for_one_unit_and_by_frequency() {
        let counts = read_table(TABLE, 100).unwrap();
        assert!((counts.calls - 4.0).abs() < 1e-9, "{}", counts.calls);
        assert_eq!(counts.to_string(), "sendmsg 2.96, recvmmsg 1.00");
        assert_eq!(counts.instructions, Some(9_000.0));
    }

    #[test]
    fn an_empty_table_is_an_error() {
        assert!(read_table("# started\n", 1).is_err());
    }
}
