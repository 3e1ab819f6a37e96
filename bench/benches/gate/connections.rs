//! The rounds of flows: small ones with their latency at a common rate, downloads of a gibibyte by one, sixteen and two
//! hundred at once, idle tunnels.
//!
//! Owns which flows are made. Every measurement begins with a fresh subject that has passed flows already; for
//! Tidegate the runner has asked for every name, so that its flows carry a ticket.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_bench::cast::{self, ALLOWED_NAMES, BULKS, HOLD, SMALL};
use tidegate_bench::chart::Bars;
use tidegate_bench::flood::{Flood, Questions, Wanted};
use tidegate_bench::flows::{self, CLIENTS, Visit};
use tidegate_bench::measure::{self, Load, Sample};
use tidegate_bench::options::Options;
use tidegate_bench::peers::Peer;
use tidegate_bench::peers::render::Setting;
use tidegate_bench::report::{Figures, Paced, Row, Table};
use tidegate_bench::stage::Stage;
use tidegate_bench::sys::Waiting;
use tidegate_lab::{plan, wait_until};

use super::{Bench, Outcome, READY, on_cores, served, waiting};

/// How long a paced measurement lasts.
const PACED: Duration = Duration::from_secs(2);
/// Flows of the counted round, and before a measurement.
const COUNTED: u64 = 5_000;
const WARM: u64 = 1_000;
/// How often a round measures small flows and their latency: they are short, and what a machine's other guests take comes
/// in spells.
const PASSES: usize = 3;
/// Titles of the measurements.
const TITLE_SMALL: &str = "Small TLS flows";
const TITLE_BULK: &str = "One gibibyte";
const TITLE_IDLE: &str = "Idle tunnels";
/// Jobs that hold idle tunnels: Tidegate lets one of them have 8 192 flows.
const HOLDERS: usize = 2;
const MIB: f64 = 1_048_576.0;

/// The clients, and what is known of each subject so far.
struct Rounds {
    small: Vec<Visit>,
    bulk: Vec<Visit>,
    hold: Visit,
    /// Asks for every name: a flow needs the ticket that its answer leaves.
    flood: Flood,
    /// The same for those who hold idle tunnels.
    holders: Flood,
}

/// All rounds on so many cores.
struct Results {
    cores: usize,
    small: Vec<Row>,
    /// One for each of [`BULKS`].
    bulk: [Vec<Row>; BULKS.len()],
    idle: Figures,
    crowd: Figures,
}

impl Results {
    fn new(cores: usize, peers: &[Peer]) -> Self {
        let rows = || peers.iter().map(|peer| Row::new(*peer)).collect::<Vec<_>>();
        let figures = |title: String, figure| Figures {
            title,
            figure,
            rows: peers.iter().map(|peer| (*peer, Vec::new())).collect(),
        };
        Self {
            cores,
            small: rows(),
            bulk: BULKS.map(|_| rows()),
            idle: figures(TITLE_IDLE.into(), "resident KiB/tunnel"),
            crowd: figures(format!("{TITLE_BULK} by 200 flows at once"), "peak resident MiB"),
        }
    }

    fn tables(&self) -> (Table, [Table; BULKS.len()]) {
        let beside = [Peer::Relay, Peer::Haproxy, Peer::Envoy];
        let table = |title: String, unit, rows: &Vec<Row>| {
            let title = format!("{title}, {}", on_cores(self.cores));
            let table = Table::new(title, unit, rows.clone()).beside(&beside);
            if self.cores > 1 { table.shared() } else { table }
        };
        let small = table(TITLE_SMALL.into(), ("flow", "flows"), &self.small);
        let bulk = std::array::from_fn(|index| {
            let at_once = match BULKS[index].flows {
                1 => "one flow".to_owned(),
                more => format!("{more} flows at once"),
            };
            table(
                format!("{TITLE_BULK}, {at_once}"),
                ("MiB", "MiB"),
                &self.bulk[index],
            )
        });
        (small, bulk)
    }
}

/// All measurements, `--rounds` times.
pub(super) async fn bench(bench: &mut Bench<'_>, peers: &[Peer]) -> Result<Outcome> {
    let questions = Questions {
        names: cast::names(ALLOWED_NAMES),
        sources: vec![plan::runner_v4(0, 0)],
        each: ALLOWED_NAMES,
        ports: 1,
    };
    let of_holders = Questions {
        names: vec![cast::name(HOLD)],
        sources: holders(),
        each: 1,
        ports: 1,
    };
    let open = |questions| Flood::open(bench.lab.runner(0), cast::resolver(), questions, Waiting::Asleep);
    let mut rounds = Rounds {
        small: flows::visits(SMALL)?,
        bulk: flows::visits(BULKS.map(|bulk| bulk.name))?,
        hold: flows::visits([HOLD])?.pop().context("no visit")?,
        flood: open(questions)?,
        holders: open(of_holders)?,
    };
    let cores = [1, 2].into_iter().filter(|cores| bench.options.on(*cores as u32));
    let mut all: Vec<_> = cores.map(|cores| Results::new(cores, peers)).collect();
    for results in &mut all {
        // One after another, because origins can't change how they wait.
        let awake = (waiting(results.cores) == Waiting::Awake).then_some("--awake");
        let origins = bench.lab.net().command(std::env::current_exe()?);
        let origins = origins.args(["--serve", "origins"]).args(awake).spawn()?;
        for round in 0..bench.options.rounds {
            let last = round + 1 == bench.options.rounds;
            if bench.options.titled(TITLE_SMALL) {
                rounds.all_small(bench, results, last).await?;
            }
            for (index, peer) in peers.iter().enumerate() {
                if bench.options.titled(TITLE_BULK) {
                    rounds.bulky(bench, results, index, last).await?;
                }
                if results.cores == 1 && bench.options.titled(TITLE_IDLE) {
                    let each = rounds.idle(bench, *peer).await?;
                    results.idle.rows[index].1.push(each);
                }
            }
            let (cores, rounds) = (on_cores(results.cores), bench.options.rounds);
            eprintln!("gate: flows round {} of {rounds} done, {cores}", round + 1);
        }
        origins.kill().await;
    }
    Ok(outcome(bench.options, &all))
}

fn holders() -> Vec<Ipv4Addr> {
    (0..HOLDERS).map(cast::source).collect()
}

fn outcome(options: &Options, all: &[Results]) -> Outcome {
    let (mut text, mut panels) = (String::new(), Vec::<Bars>::new());
    for results in all {
        let (small, bulk) = results.tables();
        if options.titled(TITLE_SMALL) {
            text += &small.markdown();
            panels.extend([small.cpu_bars(), small.call_bars(), small.wait_bars()]);
        }
        for table in bulk.iter().filter(|_| options.titled(TITLE_BULK)) {
            text += &table.markdown();
            panels.extend([table.rate_bars(), table.cpu_bars()]);
        }
        for (figures, title) in [(&results.crowd, TITLE_BULK), (&results.idle, TITLE_IDLE)] {
            if results.cores == 1 && options.titled(title) {
                text += &figures.markdown();
                panels.push(figures.bars());
            }
        }
    }
    Outcome {
        name: "flows",
        text,
        panels,
    }
}

impl Rounds {
    /// Small flows of all subjects in turns, then their latency where a subject has a core to itself.
    async fn all_small(&mut self, bench: &mut Bench<'_>, results: &mut Results, last: bool) -> Result<()> {
        let cores = results.cores;
        for pass in 1..=PASSES {
            for row in &mut results.small {
                self.small(bench, row, cores, last && pass == PASSES).await?;
            }
        }
        let Some(rate) = Row::half_rate(&results.small).filter(|_| cores == 1) else {
            return Ok(());
        };
        for _ in 0..PASSES {
            for row in &mut results.small {
                self.paced(bench, row, rate).await?;
            }
        }
        Ok(())
    }

    /// Small flows of one fresh subject; its system calls after that, if this is the `last` time.
    async fn small(&mut self, bench: &mut Bench<'_>, row: &mut Row, cores: usize, last: bool) -> Result<()> {
        self.start(bench, row.peer, cores).await?;
        eprintln!("gate: flows, {}: {}", on_cores(cores), row.peer.title());
        let pids = bench.stage.pids()?;
        let run = |count| flows::run(bench.lab.runner(0), &self.small, (count, CLIENTS), waiting(cores));
        row.samples
            .push(Sample::take(&pids, || run(bench.options.flows))?);
        row.peaks.push(measure::peak_resident(&pids)?);
        if last && cores == 1 {
            row.counts = bench.counters.count(&pids, || run(COUNTED))?;
        }
        bench.stage.stop().await
    }

    /// Downloads of one fresh subject.
    async fn bulky(
        &mut self,
        bench: &mut Bench<'_>,
        results: &mut Results,
        index: usize,
        last: bool,
    ) -> Result<()> {
        let peer = results.small[index].peer;
        self.start(bench, peer, results.cores).await?;
        let pids = bench.stage.pids()?;
        let (runner, one_core) = (bench.lab.runner(0), results.cores == 1);
        for ((bulk, visit), rows) in BULKS.into_iter().zip(&self.bulk).zip(&mut results.bulk) {
            eprintln!("gate: one gibibyte by {} flows: {}", bulk.flows, peer.title());
            measure::forget_peak(&pids)?;
            let row = &mut rows[index];
            row.samples
                .push(Sample::take(&pids, || flows::download(runner, visit, bulk))?);
            row.peaks.push(measure::peak_resident(&pids)?);
            if last && one_core && bulk.flows == 1 {
                row.counts = bench
                    .counters
                    .count(&pids, || flows::download(runner, visit, bulk))?;
            }
        }
        if let Some(peak) = results.bulk[BULKS.len() - 1][index].peaks.last() {
            results.crowd.rows[index].1.push(*peak as f64 / MIB);
        }
        bench.stage.stop().await
    }

    /// Latency of a fresh subject at this rate.
    async fn paced(&mut self, bench: &mut Bench<'_>, row: &mut Row, rate: f64) -> Result<()> {
        self.start(bench, row.peer, 1).await?;
        eprintln!("gate: flows at {rate:.0}/s: {}", row.peer.title());
        let (load, waits) = flows::paced(bench.lab.runner(0), &self.small, rate, PACED)?;
        row.paced.push(Paced { rate, load, waits });
        bench.stage.stop().await
    }

    /// By how much a fresh subject grows with each idle tunnel, KiB.
    async fn idle(&mut self, bench: &mut Bench<'_>, peer: Peer) -> Result<f64> {
        self.start(bench, peer, 1).await?;
        if peer.is_ours() {
            ask_all(&mut self.holders, &bench.stage, peer).await?;
        }
        eprintln!("gate: idle tunnels: {}", peer.title());
        let (pids, runner) = (bench.stage.pids()?, bench.lab.runner(0));
        let hold = |count| flows::hold(runner, &self.hold, count, &holders());
        // What a subject allocates once, for the first of them, is no tunnel's.
        let first = bench.options.tunnels / 10;
        let rest = bench.options.tunnels - first;
        let held = hold(first).and_then(|held| Ok((held, measure::resident(&pids)?, hold(rest)?)));
        let (held, before, more) =
            held.with_context(|| format!("{}: {}", peer.title(), bench.stage.complaints()))?;
        let after = measure::resident(&pids)?;
        drop((held, more));
        bench.stage.stop().await?;
        Ok((after as f64 - before as f64) / 1024.0 / rest as f64)
    }

    /// A fresh subject that has passed flows.
    async fn start(&mut self, bench: &mut Bench<'_>, peer: Peer, cores: usize) -> Result<()> {
        let setting = Setting {
            cores,
            leases: HOLDERS,
        };
        bench.stage.start(peer, &setting).await?;
        let stage = &bench.stage;
        if peer.is_ours() {
            ask_all(&mut self.flood, stage, peer).await?;
        }
        let runner = bench.lab.runner(0);
        let pass = || -> Result<Load> {
            stage.pids()?;
            flows::run(runner, &self.small, (WARM, CLIENTS), Waiting::Asleep)
        };
        let passed = wait_until("flows to pass", READY, async || match pass() {
            Ok(load) if load.done == load.tried => Ok(()),
            Ok(load) => Err(format!("{load:?}")),
            Err(error) => Err(format!("{error:#}")),
        });
        let passed = passed.await;
        passed.with_context(|| format!("{} does not serve; it says: {}", peer.title(), stage.complaints()))
    }
}

/// Has a fresh subject answer each question once.
async fn ask_all(flood: &mut Flood, stage: &Stage<'_>, peer: Peer) -> Result<()> {
    let all = flood.pairs();
    served(flood, stage, (peer, Wanted::Record), all).await
}
