//! Tidegate beside Unbound and HAProxy, on one lab in one run: server CPU a cached DNS query, a small TLS flow
//! and a MiB, and memory an idle tunnel.
//!
//! Owns the rounds and the printed tables, which are what `README.md` holds. Subjects take turns within every round,
//! because the machine lies. Run by `cargo bench -p tidegate-bench --bench gate [-- ROUNDS [/PATH/TO/TIDEGATE]]` as
//! root; without a path the program is built first.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidegate_bench::cast::{self, ALLOWED_NAMES, BULK, DNS_NAMES, HOLD};
use tidegate_bench::flood::Flood;
use tidegate_bench::flows::{self, TUNNELS, Visit};
use tidegate_bench::measure::{self, Calls, LOAD_CORE, Load, Sample, Spread};
use tidegate_bench::servers::{Stage, Subject};
use tidegate_lab::{Lab, wait_until};

const ROUNDS: usize = 7;
const QUERIES: u64 = 200_000;
const FLOWS: u64 = 20_000;
/// Units that a fresh server answers before it is measured.
const WARM_QUERIES: u64 = 20_000;
const WARM_FLOWS: u64 = 1_000;
/// Units counted under `strace`.
const TRACED: u64 = 5_000;
const READY: Duration = Duration::from_secs(10);

const RESOLVERS: [Subject; 5] = [
    Subject::Tidegate,
    Subject::TidegateUnlogged,
    Subject::Unbound,
    Subject::UnboundAllowlist,
    Subject::UnboundLogged,
];
const PROXIES: [Subject; 4] = [
    Subject::Tidegate,
    Subject::TidegateUnlogged,
    Subject::HaProxy,
    Subject::HaProxyLogged,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        println!("gate: a benchmark; run it with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let rounds = args
        .iter()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(ROUNDS)
        .max(1);
    let program = args.iter().find(|arg| arg.contains('/')).map(PathBuf::from);
    match bench(rounds, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(rounds: usize, program: Option<PathBuf>) -> Result<()> {
    let built = program.is_none();
    let program = program.map_or_else(build, Ok)?;
    measure::pin(LOAD_CORE)?;
    print_machine(&program, built)?;
    // The worker reads what the servers write; the rounds run, and block, here.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lab = cast::lab()?;
        flows::serve(&lab)?;
        let mut stage = Stage::open(&lab, program).await?;
        let dns = Dns {
            flood: Flood::open(lab.runner(0), cast::resolver(), &cast::names(DNS_NAMES))?,
        };
        dns.bench(&mut stage, rounds).await?;
        Tls::new(&lab)?.bench(&mut stage, rounds).await?;
        lab.close()?;
        print_load("end")
    })
}

/// Builds the program in the profile of this benchmark, so that nothing stale is measured.
fn build() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.ancestors().nth(2).context("target/PROFILE/deps/BENCH")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "tidegate"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    ensure!(cargo.status()?.success(), "tidegate does not build");
    Ok(folder.join("tidegate"))
}

fn print_machine(program: &Path, built: bool) -> Result<()> {
    let first = |program: &str, args: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(args)
            .output()
            .with_context(|| format!("{program} is missing"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    let cpu = Command::new("lscpu").output()?;
    let cpu = String::from_utf8_lossy(&cpu.stdout).into_owned();
    for wanted in ["Model name", "CPU(s)", "Hypervisor vendor"] {
        let line = cpu
            .lines()
            .find(|line| line.starts_with(wanted))
            .unwrap_or_default();
        println!("- {}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    println!("- Linux {}", first("uname", &["-r"])?);
    let source = if built {
        format!("commit {}", commit())
    } else {
        program.display().to_string()
    };
    println!(
        "- {}, {source}",
        first(&program.to_string_lossy(), &["--version"])?
    );
    println!("- Unbound: {}", first("unbound", &["-V"])?);
    println!("- {}", first("haproxy", &["-v"])?);
    print_load("start")
}

fn print_load(when: &str) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("\n- load average at the {when}: {}", load.trim());
    Ok(())
}

/// The commit, marked when sources differ from it.
fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    git.map_or_else(
        |_| "unknown".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// All rounds of one subject.
struct Series {
    subject: Subject,
    samples: Vec<Sample>,
    system_calls: Option<Calls>,
}

impl Series {
    fn of(subjects: &[Subject]) -> Vec<Self> {
        subjects
            .iter()
            .map(|&subject| Self {
                subject,
                samples: Vec::new(),
                system_calls: None,
            })
            .collect()
    }

    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(figure))
    }
}

/// Median, least and most of every subject, and of ours against the peers, round by round.
fn print_table(series: &[Series], unit: &str, units: &str) {
    println!(
        "\n| | CPU µs/{unit} | {units}/s | right answers | system calls/{unit} | stolen | others on the core |"
    );
    println!("|---|---|---|---|---|---|---|");
    for one in series {
        let total =
            |count: fn(&Load) -> u64| one.samples.iter().map(|sample| count(&sample.load)).sum::<u64>();
        let calls = one
            .system_calls
            .as_ref()
            .map_or_else(|| "–".into(), |calls| format!("{:.1}", calls.total()));
        println!(
            "| {} | {:.2} | {:.0} | {} of {} | {calls} | {:.0} % | {:.0} % |",
            one.subject.title(),
            one.spread(Sample::cpu_each),
            one.spread(Sample::rate),
            total(|load| load.done),
            total(|load| load.tried),
            one.spread(|sample| sample.stolen_share() * 100.0),
            one.spread(|sample| sample.others_share() * 100.0),
        );
    }
    for one in series {
        if let Some(calls) = &one.system_calls {
            println!("\n{}: {calls}.", one.subject.title());
        }
    }
    let (ours, peers): (Vec<_>, Vec<_>) = series.iter().partition(|one| one.subject.is_ours());
    let titles: Vec<_> = peers.iter().map(|peer| peer.subject.title()).collect();
    println!(
        "\n| CPU, as a multiple of | {} |\n|---|{}",
        titles.join(" | "),
        "---|".repeat(peers.len())
    );
    for ours in ours {
        let ratio = |peer: &&Series| {
            let rounds = ours.samples.iter().zip(&peer.samples);
            let ratio = Spread::of(rounds.map(|(ours, theirs)| ours.cpu_each() / theirs.cpu_each()));
            format!("{ratio:.2}")
        };
        let ratios: Vec<_> = peers.iter().map(ratio).collect();
        println!("| {} | {} |", ours.subject.title(), ratios.join(" | "));
    }
}

struct Dns {
    flood: Flood,
}

impl Dns {
    async fn bench(mut self, stage: &mut Stage<'_>, rounds: usize) -> Result<()> {
        let mut all = Series::of(&RESOLVERS);
        for round in 0..rounds {
            for series in &mut all {
                let pid = stage.start(series.subject).await?;
                self.warm(stage).await?;
                series
                    .samples
                    .push(Sample::take(pid, || self.flood.run(QUERIES))?);
                if round + 1 == rounds {
                    series.system_calls = Some(measure::system_calls(pid, || self.flood.run(TRACED))?);
                }
                stage.stop().await?;
            }
        }
        print_table(&all, "query", "queries");
        Ok(())
    }

    /// Until every name is in the cache.
    async fn warm(&mut self, stage: &Stage<'_>) -> Result<()> {
        resolved(&mut self.flood, stage).await?;
        self.flood.run(WARM_QUERIES)?;
        Ok(())
    }
}

/// Asks for every name until all are answered.
async fn resolved(flood: &mut Flood, stage: &Stage<'_>) -> Result<()> {
    let names = flood.names();
    let answered = wait_until("every name to be answered", READY, async || {
        match flood.run(names) {
            Ok(load) if load.done == names => Ok(()),
            Ok(load) => Err(format!("{load:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    });
    answered.await.with_context(|| stage.complaints())
}

/// The clients of all TLS measurements.
struct Tls<'a> {
    lab: &'a Lab,
    small: Vec<Visit>,
    bulk: Vec<Visit>,
    hold: Vec<Visit>,
    /// Asks for every name: a flow needs the ticket that its answer leaves.
    flood: Flood,
}

impl<'a> Tls<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        Ok(Self {
            lab,
            small: flows::visits(0..BULK)?,
            bulk: flows::visits([BULK])?,
            hold: flows::visits([HOLD])?,
            flood: Flood::open(lab.runner(0), cast::resolver(), &cast::names(ALLOWED_NAMES))?,
        })
    }

    async fn bench(mut self, stage: &mut Stage<'_>, rounds: usize) -> Result<()> {
        let (mut small, mut bulk) = (Series::of(&PROXIES), Series::of(&PROXIES));
        let mut idle = [const { Vec::new() }; PROXIES.len()];
        for round in 0..rounds {
            for (index, subject) in PROXIES.into_iter().enumerate() {
                let pid = stage.start(subject).await?;
                self.warm(subject, stage).await?;
                idle[index].push(self.memory(pid)?);
                small[index]
                    .samples
                    .push(Sample::take(pid, || self.flows(FLOWS))?);
                bulk[index].samples.push(Sample::take(pid, || {
                    flows::download(self.lab.runner(0), &self.bulk[0])
                })?);
                if round + 1 == rounds {
                    small[index].system_calls = Some(measure::system_calls(pid, || self.flows(TRACED))?);
                }
                stage.stop().await?;
            }
        }
        print_table(&small, "flow", "flows");
        print_table(&bulk, "MiB", "MiB");
        println!("\n| | resident KiB/idle tunnel |\n|---|---|");
        for (subject, growth) in PROXIES.into_iter().zip(idle) {
            println!("| {} | {:.1} |", subject.title(), Spread::of(growth));
        }
        Ok(())
    }

    fn flows(&self, count: u64) -> Result<Load> {
        flows::run(self.lab.runner(0), &self.small, count)
    }

    async fn warm(&mut self, subject: Subject, stage: &Stage<'_>) -> Result<()> {
        if subject.is_ours() {
            resolved(&mut self.flood, stage).await?;
        }
        let passed = wait_until("flows to pass", READY, async || match self.flows(WARM_FLOWS) {
            Ok(load) if load.done == load.tried => Ok(()),
            Ok(load) => Err(format!("{load:?}")),
            Err(error) => Err(format!("{error:#}")),
        });
        passed.await.with_context(|| stage.complaints())
    }

    /// By how much the process grows with each idle tunnel, KiB.
    fn memory(&self, pid: i32) -> Result<f64> {
        let before = measure::resident(pid)?;
        let tunnels = flows::hold(self.lab.runner(0), &self.hold[0])?;
        let after = measure::resident(pid)?;
        drop(tunnels);
        Ok((after as f64 - before as f64) / 1024.0 / TUNNELS as f64)
    }
}
