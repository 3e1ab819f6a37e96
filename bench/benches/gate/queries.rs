//! The rounds of DNS: cached answers for one, a thousand and ten thousand leases, and refusals; latency at a common rate;
//! system calls.
//!
//! Owns which questions are asked. Every measurement begins with a fresh subject that has answered each of its
//! questions once.

use std::time::Duration;

use anyhow::Result;
use tidegate_bench::cast::{self, DNS_NAMES};
use tidegate_bench::flood::{Flood, Questions, Wanted};
use tidegate_bench::measure::{self, Sample};
use tidegate_bench::peers::Peer;
use tidegate_bench::peers::render::Setting;
use tidegate_bench::report::{Paced, Row, Table};

use super::{Bench, FEW, Outcome, on_cores, served, waiting};

/// How long a paced measurement lasts.
const PACED: Duration = Duration::from_secs(1);
/// Queries of the counted round.
const COUNTED: u64 = 50_000;
/// How long many leases are asked for: longer than repeats of a question are counted together, so that their events are
/// in the figure.
const LONG: Duration = Duration::from_secs(12);
/// Ports of a single source when there are several workers to reach.
const PORTS: usize = 16;

/// One kind of questions.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    setting: Setting,
    kind: Kind,
    /// Names that each source asks for.
    each: usize,
    /// How long it is asked for at least.
    span: Duration,
    paced: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Names of the allowlist.
    Allowed,
    /// Names that are not on it, over and over.
    Refused,
    /// The same, each name once: what a tunnel through DNS asks for.
    Fresh,
}

const fn scenario(cores: usize, leases: usize, each: usize) -> Scenario {
    Scenario {
        setting: Setting { cores, leases },
        kind: Kind::Allowed,
        each,
        span: Duration::ZERO,
        paced: false,
    }
}

const fn refusing(kind: Kind, each: usize) -> Scenario {
    Scenario {
        kind,
        ..scenario(1, 1_000, each)
    }
}

/// The pairs of a source and an allowed name stay at or below 100 000, or tickets would be about memory.
const SCENARIOS: [Scenario; 7] = [
    scenario(1, 1, DNS_NAMES),
    Scenario {
        paced: true,
        span: LONG,
        ..scenario(1, 1_000, 100)
    },
    Scenario {
        span: LONG,
        ..scenario(1, 10_000, 10)
    },
    refusing(Kind::Refused, 20),
    refusing(Kind::Fresh, 300),
    scenario(2, 1, DNS_NAMES),
    Scenario {
        span: LONG,
        ..scenario(2, 1_000, 100)
    },
];

impl Scenario {
    fn title(&self) -> String {
        let kind = match self.kind {
            Kind::Allowed => "Cached answers",
            Kind::Refused => "Refused names",
            Kind::Fresh => "Refused names, each a new one",
        };
        let leases = match self.setting.leases {
            1 => "1 lease".to_owned(),
            more => format!("{more} leases"),
        };
        format!("{kind}, {leases}, {}", on_cores(self.setting.cores))
    }

    fn questions(&self) -> Questions {
        let one_source = self.setting.leases == 1 && self.setting.cores > 1;
        Questions {
            names: match self.kind {
                Kind::Allowed => cast::names(DNS_NAMES),
                Kind::Refused => cast::refused_names(DNS_NAMES),
                Kind::Fresh => cast::refused_names(self.setting.leases * self.each),
            },
            sources: (0..self.setting.leases).map(cast::source).collect(),
            each: self.each,
            ports: if one_source { PORTS } else { 1 },
        }
    }

    fn wanted(&self, peer: Peer) -> Wanted {
        if peer == Peer::Echo {
            Wanted::Echo
        } else if self.kind == Kind::Allowed {
            Wanted::Record
        } else {
            Wanted::Nothing
        }
    }

    fn includes(&self, peer: Peer) -> bool {
        self.kind == Kind::Allowed || !peer.passes_all()
    }
}

/// All scenarios, `--rounds` times.
pub(super) async fn bench(bench: &mut Bench<'_>, peers: &[Peer]) -> Result<Outcome> {
    let scenarios = SCENARIOS
        .iter()
        .filter(|one| bench.options.on(one.setting.cores as u32) && bench.options.titled(&one.title()));
    let mut all: Vec<(Scenario, Vec<Row>)> = scenarios
        .map(|one| {
            let peers = peers.iter().filter(|peer| one.includes(**peer));
            (*one, peers.map(|peer| Row::new(*peer)).collect())
        })
        .collect();
    for round in 0..bench.options.rounds {
        let last = round + 1 == bench.options.rounds;
        for (scenario, rows) in &mut all {
            let mut flood = Flood::open(
                bench.lab.runner(0),
                cast::resolver(),
                scenario.questions(),
                waiting(scenario.setting.cores),
            )?;
            for row in rows.iter_mut() {
                measure_one(bench, scenario, &mut flood, row, last).await?;
            }
            let rate = Row::half_rate(rows).filter(|_| scenario.paced);
            for row in rows.iter_mut() {
                if let Some(rate) = rate {
                    pace_one(bench, scenario, &mut flood, (row, rate)).await?;
                }
            }
        }
        eprintln!("gate: DNS round {} of {} done", round + 1, bench.options.rounds);
    }
    let tables: Vec<_> = all
        .into_iter()
        .map(|(scenario, rows)| table(&scenario, rows))
        .collect();
    Ok(Outcome {
        name: "dns",
        text: tables.iter().map(Table::markdown).collect(),
        panels: panels(&tables),
    })
}

async fn measure_one(
    bench: &mut Bench<'_>,
    scenario: &Scenario,
    flood: &mut Flood,
    row: &mut Row,
    last: bool,
) -> Result<()> {
    let (wanted, queries) = (scenario.wanted(row.peer), bench.options.queries);
    start(bench, scenario, flood, row.peer).await?;
    let pids = bench.stage.pids()?;
    let run = || flood.run_for(scenario.span, queries, wanted);
    row.samples.push(Sample::take(&pids, run)?);
    row.peaks.push(measure::peak_resident(&pids)?);
    if last && scenario.setting.cores == 1 {
        row.counts = bench.counters.count(&pids, || flood.run(COUNTED, wanted))?;
    }
    bench.stage.stop().await
}

/// Latency of a fresh subject at this rate.
async fn pace_one(
    bench: &mut Bench<'_>,
    scenario: &Scenario,
    flood: &mut Flood,
    (row, rate): (&mut Row, f64),
) -> Result<()> {
    start(bench, scenario, flood, row.peer).await?;
    let (load, waits) = flood.paced(rate, PACED, scenario.wanted(row.peer))?;
    row.paced.push(Paced { rate, load, waits });
    bench.stage.stop().await
}

/// A fresh subject that has answered what it will be asked for, unless that is to be new to it.
async fn start(bench: &mut Bench<'_>, scenario: &Scenario, flood: &mut Flood, peer: Peer) -> Result<()> {
    eprintln!("gate: {}: {}", scenario.title(), peer.title());
    bench.stage.start(peer, &scenario.setting).await?;
    let before = if scenario.kind == Kind::Fresh {
        FEW
    } else {
        flood.pairs()
    };
    served(flood, &bench.stage, (peer, scenario.wanted(peer)), before).await
}

fn table(scenario: &Scenario, rows: Vec<Row>) -> Table {
    let table = Table::new(scenario.title(), ("query", "queries"), rows);
    let table = table.beside(&[Peer::Echo, Peer::Unbound]);
    if scenario.setting.cores > 1 {
        table.shared()
    } else {
        table
    }
}

fn panels(tables: &[Table]) -> Vec<tidegate_bench::chart::Bars> {
    let each = tables.iter().flat_map(|table| {
        let second = if table.alone {
            table.call_bars()
        } else {
            table.rate_bars()
        };
        [table.cpu_bars(), second, table.wait_bars()]
    });
    each.collect()
}
