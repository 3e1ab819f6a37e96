//! That tables say what the rounds gave.

#![allow(clippy::unwrap_used, reason = "a test may end by panic")]

use std::time::Duration;

use super::*;
use crate::chart::bars;

fn sample(cpu: u64) -> Sample {
    Sample {
        load: Load { tried: 100, done: 99 },
        cpu: Duration::from_micros(cpu * 99),
        elapsed: Duration::from_secs(1),
        stolen: Duration::from_millis(20),
        others: Duration::from_millis(50),
    }
}

fn row(peer: Peer, cpu: [u64; 3]) -> Row {
    Row {
        samples: cpu.map(sample).to_vec(),
        peaks: vec![3 << 20],
        ..Row::new(peer)
    }
}

fn table() -> Table {
    let rows = vec![row(Peer::Tidegate, [2, 8, 3]), row(Peer::Unbound, [4, 4, 12])];
    Table::new("Cached", ("query", "queries"), rows).beside(&[Peer::Unbound, Peer::Echo])
}

#[test]
fn ratios_are_formed_within_a_round() {
    let text = table().markdown();
    // 2/4, 8/4 and 3/12: the ratio of the medians would be 0.75.
    assert!(
        text.contains("| **Tidegate** | 3.00 (2.00–8.00) | 0.50 (0.25–2.00) |"),
        "{text}"
    );
    assert!(text.contains("| Unbound | 4.00 (4.00–12.00) | 1 |"), "{text}");
    assert!(!text.contains("× bare echo"), "no subject: {text}");
    assert!(
        text.contains("| 99 (99–99) | 1 (1–1) % | 5 (5–5) % | 3 (3–3) | 297 of 300 |"),
        "{text}"
    );
}

#[test]
fn every_line_has_as_many_cells_as_the_head() {
    let mut table = table();
    table.rows[0].paced = vec![Paced {
        rate: 50.0,
        load: Load { tried: 4, done: 3 },
        waits: Quantiles::of([1, 2, 3].map(Duration::from_micros).to_vec()),
    }];
    table.rows[1].counts = Some(Counts {
        calls: 2.0,
        by_name: vec![("sendto".into(), 1.0)],
        instructions: Some(9_000.0),
    });
    for table in [table.clone(), table.shared()] {
        let text = table.markdown();
        let mut cells = 0;
        for line in text.lines() {
            match line.matches('|').count() {
                0 => cells = 0,
                here => {
                    assert!(cells == 0 || cells == here, "{line}");
                    cells = here;
                }
            }
        }
        for wanted in ["75.00 %", "2 (2–2)", "9000", "sendto 1.00"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}

#[test]
fn charts_show_who_has_a_figure() {
    let mut table = table();
    table.rows[1].counts = Some(Counts {
        calls: 2.0,
        ..Counts::default()
    });
    let svg = bars(&[table.cpu_bars(), table.rate_bars(), table.call_bars()]).unwrap();
    assert_eq!(svg.matches("Tidegate").count(), 2, "{svg}");
    assert_eq!(svg.matches("Unbound").count(), 3, "{svg}");
    assert!(bars(&[table.wait_bars()]).is_err(), "nobody was paced");
}

#[test]
fn figures_below_nothing_are_written_and_not_drawn() {
    let figures = Figures {
        title: "Memory".into(),
        figure: "KiB",
        rows: vec![(Peer::Envoy, vec![-1.0, -3.0]), (Peer::Nginx, vec![])],
    };
    assert!(figures.markdown().contains("| Envoy | -2.0 (-3.0–-1.0) |"));
    assert!(!figures.markdown().contains("nginx"));
    assert!(bars(&[figures.bars()]).is_ok());
}
