//! The rounds of DNS: cached answers for one, a thousand and ten thousand leases, and refusals; latency at half load;
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

use super::{Bench, Outcome, on_cores, served};

/// How long a paced measurement lasts.
const PACED: Duration = Duration::from_secs(1);
/// Queries of the counted round.
const COUNTED: u64 = 50_000;
/// Ports of a single source when there are several workers to reach.
const PORTS: usize = 16;

/// One kind of questions.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    setting: Setting,
    refused: bool,
    /// Names that each source asks for.
    each: usize,
    paced: bool,
}

const fn scenario(cores: usize, leases: usize, each: usize) -> Scenario {
    Scenario {
        setting: Setting { cores, leases },
        refused: false,
        each,
        paced: false,
    }
}

/// The pairs of a source and a name stay at or below 100 000, or tickets would be about memory.
const SCENARIOS: [Scenario; 6] = [
    scenario(1, 1, DNS_NAMES),
    Scenario {
        paced: true,
        ..scenario(1, 1_000, 100)
    },
    scenario(1, 10_000, 10),
    Scenario {
        refused: true,
        ..scenario(1, 1_000, 20)
    },
    scenario(2, 1, DNS_NAMES),
    scenario(2, 1_000, 100),
];

impl Scenario {
    fn title(&self) -> String {
        let kind = if self.refused {
            "Refused names"
        } else {
            "Cached answers"
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
            names: if self.refused {
                cast::refused_names(DNS_NAMES)
            } else {
                cast::names(DNS_NAMES)
            },
            sources: (0..self.setting.leases).map(cast::source).collect(),
            each: self.each,
            ports: if one_source { PORTS } else { 1 },
        }
    }

    fn wanted(&self, peer: Peer) -> Wanted {
        if peer == Peer::Echo {
            Wanted::Echo
        } else if self.refused {
            Wanted::Nothing
        } else {
            Wanted::Record
        }
    }

    fn includes(&self, peer: Peer) -> bool {
        !(self.refused && peer.passes_all())
    }
}

/// All scenarios, `--rounds` times.
pub(super) async fn bench(bench: &mut Bench<'_>, peers: &[Peer]) -> Result<Outcome> {
    let scenarios = SCENARIOS
        .iter()
        .filter(|one| bench.options.on(one.setting.cores as u32));
    let mut all: Vec<(Scenario, Vec<Row>)> = scenarios
        .map(|one| {
            let peers = peers.iter().filter(|peer| one.includes(**peer));
            (*one, peers.map(|peer| Row::new(*peer)).collect())
        })
        .collect();
    for round in 0..bench.options.rounds {
        let last = round + 1 == bench.options.rounds;
        for (scenario, rows) in &mut all {
            let mut flood = Flood::open(bench.lab.runner(0), cast::resolver(), scenario.questions())?;
            for row in rows {
                measure_one(bench, scenario, &mut flood, row, last).await?;
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
    eprintln!("gate: {}: {}", scenario.title(), row.peer.title());
    bench.stage.start(row.peer, &scenario.setting).await?;
    served(flood, &bench.stage, row.peer, wanted).await?;
    let pids = bench.stage.pids()?;
    let sample = Sample::take(&pids, || flood.run(queries, wanted))?;
    row.samples.push(sample);
    if scenario.paced {
        let rate = sample.rate() / 2.0;
        let (load, waits) = flood.paced(rate, PACED, wanted)?;
        row.paced.push(Paced { rate, load, waits });
    }
    row.peaks.push(measure::peak_resident(&pids)?);
    if last && scenario.setting.cores == 1 {
        row.counts = bench.counters.count(&pids, || flood.run(COUNTED, wanted))?;
    }
    bench.stage.stop().await
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
