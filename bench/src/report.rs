//! Tables in Markdown and charts in SVG of what the rounds gave: medians with least and most, ratios formed within a
//! round.
//!
//! Owns the words and the arithmetic of results. Never measures; benchmarks drive it.

use std::fmt::Write as _;

use crate::chart::Bars;
use crate::counters::Counts;
use crate::measure::{Load, Quantiles, Sample, Spread};
use crate::peers::Peer;

/// Latency of one round at a rate that all subjects were asked at: half of what the slowest reached in it.
#[derive(Debug, Clone)]
pub struct Paced {
    /// Units asked for in a second.
    pub rate: f64,
    /// What was answered.
    pub load: Load,
    /// How long each took from when it was due.
    pub waits: Quantiles,
}

/// All rounds of one subject.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who.
    pub peer: Peer,
    /// A sample a round.
    pub samples: Vec<Sample>,
    /// Latency, a round each; may be empty.
    pub paced: Vec<Paced>,
    /// What one unit took in the counted round.
    pub counts: Option<Counts>,
    /// The most resident memory of each round, bytes.
    pub peaks: Vec<u64>,
}

impl Row {
    /// No rounds yet.
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            samples: Vec::new(),
            paced: Vec::new(),
            counts: None,
            peaks: Vec::new(),
        }
    }

    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(figure))
    }

    /// Half of what the slowest of these reached in its last round; none before there is one.
    pub fn half_rate(rows: &[Self]) -> Option<f64> {
        let last = rows.iter().filter_map(|row| row.samples.last());
        let slowest = last.map(Sample::rate).min_by(f64::total_cmp)?;
        Some(slowest / 2.0)
    }

    /// CPU beside another's, round by round.
    fn times(&self, other: &Self) -> Spread {
        let rounds = self.samples.iter().zip(&other.samples);
        Spread::of(rounds.map(|(one, other)| one.cpu_each() / other.cpu_each()))
    }
}

/// One measurement of all subjects.
#[derive(Debug, Clone)]
pub struct Table {
    /// A heading.
    pub title: String,
    /// What is counted: `query`, and its plural.
    pub unit: (&'static str, &'static str),
    /// Subjects whose CPU the others' is a multiple of.
    pub beside: Vec<Peer>,
    /// Whether the subject has its core to itself, so that others on it are a disturbance.
    pub alone: bool,
    /// A row a subject.
    pub rows: Vec<Row>,
}

impl Table {
    /// An empty table; `beside` are left out where they are no subjects.
    pub fn new(title: impl Into<String>, unit: (&'static str, &'static str), rows: Vec<Row>) -> Self {
        Self {
            title: title.into(),
            unit,
            beside: Vec::new(),
            alone: true,
            rows,
        }
    }

    /// Names the subjects that the others are compared with.
    #[must_use]
    pub fn beside(mut self, peers: &[Peer]) -> Self {
        let there = |peer: &&Peer| self.rows.iter().any(|row| row.peer == **peer);
        self.beside = peers.iter().filter(there).copied().collect();
        self
    }

    /// Says that load and subject share cores.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.alone = false;
        self
    }

    /// The table, and those of latency and system calls where there are some.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n{}", self.title, self.costs());
        if self.rows.iter().any(|row| !row.paced.is_empty()) {
            text += &self.latencies();
        }
        if self.rows.iter().any(|row| row.counts.is_some()) {
            text += &self.counts();
        }
        text
    }

    fn costs(&self) -> String {
        let (unit, units) = self.unit;
        let mut heads = vec![String::new(), format!("CPU µs/{unit}")];
        heads.extend(self.beside.iter().map(|peer| format!("× {}", peer.title())));
        heads.extend([format!("{units}/s"), "stolen".into()]);
        heads.extend(self.alone.then(|| "others on the core".to_owned()));
        heads.extend(["peak RSS MiB".into(), "right answers".into()]);
        let mut text = head(&heads);
        for row in self.rows.iter().filter(|row| !row.samples.is_empty()) {
            let total =
                |count: fn(&Load) -> u64| row.samples.iter().map(|sample| count(&sample.load)).sum::<u64>();
            let percent = |share: Spread| format!("{:.0} %", scaled(share, 100.0));
            let mut cells = vec![title(row.peer), format!("{:.2}", row.spread(Sample::cpu_each))];
            let references = self.beside.iter();
            cells.extend(references.map(|peer| self.ratio(row, *peer)));
            cells.extend([
                format!("{:.0}", row.spread(Sample::rate)),
                percent(row.spread(Sample::stolen_share)),
            ]);
            cells.extend(self.alone.then(|| percent(row.spread(Sample::others_share))));
            cells.extend([
                memory(&row.peaks),
                format!("{} of {}", total(|load| load.done), total(|load| load.tried)),
            ]);
            line(&mut text, &cells);
        }
        text
    }

    fn ratio(&self, row: &Row, peer: Peer) -> String {
        let other = self.rows.iter().find(|other| other.peer == peer);
        match other {
            Some(other) if other.peer != row.peer && !other.samples.is_empty() => {
                format!("{:.2}", row.times(other))
            }
            _ => "1".into(),
        }
    }

    fn latencies(&self) -> String {
        let heads = ["", "asked/s", "answered", "p50 µs", "p99 µs", "p99.9 µs"].map(String::from);
        let mut text = "\nAll at the same rate, half of what the slowest reached in its round:\n".to_owned()
            + &head(&heads);
        for row in self.rows.iter().filter(|row| !row.paced.is_empty()) {
            let at = |share: f64| {
                let waits = row
                    .paced
                    .iter()
                    .map(|paced| paced.waits.at(share).as_secs_f64() * 1e6);
                format!("{:.0}", Spread::of(waits))
            };
            let total = |count: fn(&Load) -> u64| {
                row.paced.iter().map(|paced| count(&paced.load)).sum::<u64>() as f64
            };
            let answered = total(|load| load.done) / total(|load| load.tried).max(1.0) * 100.0;
            let cells = [
                title(row.peer),
                format!(
                    "{:.0}",
                    Spread::of(row.paced.iter().map(|paced| paced.rate)).median
                ),
                format!("{answered:.2} %"),
                at(0.5),
                at(0.99),
                at(0.999),
            ];
            line(&mut text, &cells);
        }
        text
    }

    fn counts(&self) -> String {
        let unit = self.unit.0;
        let instructions = self.rows.iter().any(|row| {
            row.counts
                .as_ref()
                .is_some_and(|counts| counts.instructions.is_some())
        });
        let mut heads = vec![String::new(), format!("system calls/{unit}")];
        heads.extend(instructions.then(|| format!("instructions/{unit}")));
        heads.push("of these".into());
        let mut text = "\nCounted in a round of its own:\n".to_owned() + &head(&heads);
        for row in &self.rows {
            let Some(counts) = &row.counts else { continue };
            let mut cells = vec![title(row.peer), format!("{:.2}", counts.calls)];
            let of_row = counts
                .instructions
                .map_or_else(|| "–".into(), |count| format!("{count:.0}"));
            cells.extend(instructions.then_some(of_row));
            cells.push(counts.to_string());
            line(&mut text, &cells);
        }
        text
    }

    /// CPU of one unit as bars.
    pub fn cpu_bars(&self) -> Bars {
        let title = format!("{}: CPU, µs/{}", self.title, self.unit.0);
        self.bars(title, 2, |row| Some(row.spread(Sample::cpu_each)))
    }

    /// Units a second as bars.
    pub fn rate_bars(&self) -> Bars {
        let title = format!("{}: {}/s", self.title, self.unit.1);
        self.bars(title, 0, |row| Some(row.spread(Sample::rate)))
    }

    /// The 99th percentile at the common rate as bars.
    pub fn wait_bars(&self) -> Bars {
        let title = format!("{}: 99th percentile at the same rate for all, µs", self.title);
        self.bars(title, 0, |row| {
            let waits = row
                .paced
                .iter()
                .map(|paced| paced.waits.at(0.99).as_secs_f64() * 1e6);
            (!row.paced.is_empty()).then(|| Spread::of(waits))
        })
    }

    /// System calls of one unit as bars.
    pub fn call_bars(&self) -> Bars {
        let title = format!("{}: system calls/{}", self.title, self.unit.0);
        self.bars(title, 2, |row| {
            let counts = row.counts.as_ref()?;
            Some(Spread::of([counts.calls]))
        })
    }

    fn bars(&self, title: String, digits: usize, figure: impl Fn(&Row) -> Option<Spread>) -> Bars {
        let rows = self.rows.iter().filter(|row| !row.samples.is_empty());
        rows.fold(Bars::new(title, digits), |bars, row| match figure(row) {
            Some(spread) => bars.bar(row.peer.title(), spread, row.peer.is_ours()),
            None => bars,
        })
    }
}

/// One figure of all subjects, such as memory: a table with the multiples of others, round by round.
#[derive(Debug, Clone)]
pub struct Figures {
    /// A heading.
    pub title: String,
    /// The column's head, with the unit.
    pub figure: &'static str,
    /// By subject: a figure a round.
    pub rows: Vec<(Peer, Vec<f64>)>,
}

impl Figures {
    /// The table.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n", self.title) + &head(&[String::new(), self.figure.to_owned()]);
        for (peer, figures) in self.rows.iter().filter(|(_, figures)| !figures.is_empty()) {
            let spread = Spread::of(figures.iter().copied());
            line(&mut text, &[title(*peer), format!("{spread:.1}")]);
        }
        text
    }

    /// The same as bars.
    pub fn bars(&self) -> Bars {
        let rows = self.rows.iter().filter(|(_, figures)| !figures.is_empty());
        let title = format!("{}: {}", self.title, self.figure);
        rows.fold(Bars::new(title, 1), |bars, (peer, figures)| {
            // A figure may come out below nothing, a bar can't.
            let figures = figures.iter().map(|figure| figure.max(0.0));
            bars.bar(peer.title(), Spread::of(figures), peer.is_ours())
        })
    }
}

fn title(peer: Peer) -> String {
    if peer.is_ours() {
        format!("**{}**", peer.title())
    } else {
        peer.title().to_owned()
    }
}

fn scaled(spread: Spread, by: f64) -> Spread {
    Spread {
        median: spread.median * by,
        least: spread.least * by,
        most: spread.most * by,
    }
}

fn memory(bytes: &[u64]) -> String {
    match bytes {
        [] => "–".into(),
        some => format!(
            "{:.0}",
            Spread::of(some.iter().map(|bytes| *bytes as f64 / f64::from(1 << 20)))
        ),
    }
}

fn head(cells: &[String]) -> String {
    let mut text = String::from("\n");
    line(&mut text, cells);
    text + "|" + &"---|".repeat(cells.len()) + "\n"
}

fn line(text: &mut String, cells: &[String]) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests;
