//! Which machine stood behind which source, and which sources were quarantined, for the next start of the gateway: an
//! address that a lease or a quarantine hangs on must not come loose by a restart.
//!
//! Owns the file `sources.ndjson` in the state directory. The lease table decides; this only remembers what it said last.
//! It waits for the disk: never to be called on an async thread.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use hashbrown::HashMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::lease::Mac;

use super::file::Lines;

/// The file's name in the state directory.
const FILE: &str = "sources.ndjson";
/// Lines that mean nothing any more, before the file is written anew.
const MAX_SPENT: usize = 1_024;

/// What is known of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its machine.
    pub(super) mac: Option<Mac>,
    /// Since when it is quarantined.
    pub(super) quarantined: Option<Timestamp>,
}

impl Mark {
    /// True when the same follows from both; when a quarantine began does not matter.
    fn is_same(self, other: Self) -> bool {
        self.mac == other.mac && self.quarantined.is_some() == other.quarantined.is_some()
    }
}

/// A line: the source is as it says from here on, and nothing is known of it when it says neither.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    source: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quarantined: Option<Timestamp>,
}

/// The sources as they were last said to be.
#[derive(Debug)]
pub(super) struct Ledger {
    marks: HashMap<IpAddr, Mark>,
    lines: Lines,
    broken: Option<String>,
}

impl Ledger {
    /// Opens it, with what the last process left.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let (lines, texts) = Lines::open(&state_dir.join(FILE))?;
        let mut marks = HashMap::new();
        for text in &texts {
            match serde_json::from_str::<Row>(text) {
                Ok(row) => take(&mut marks, &row),
                Err(error) => tracing::error!(%error, "a line of {FILE} is not understood"),
            }
        }
        Ok(Self {
            marks,
            lines,
            broken: None,
        })
    }

    /// The machine that a source was bound to.
    pub(super) fn mac_of(&self, source: IpAddr) -> Option<Mac> {
        self.marks.get(&source)?.mac
    }

    /// Since when a source is quarantined.
    pub(super) fn left_at(&self, source: IpAddr) -> Option<Timestamp> {
        self.marks.get(&source)?.quarantined
    }

    /// The quarantined sources with their machines, the oldest first.
    pub(super) fn quarantined(&self) -> Vec<(IpAddr, Option<Mac>)> {
        let mut all: Vec<(Timestamp, IpAddr, Option<Mac>)> = self
            .marks
            .iter()
            .filter_map(|(source, mark)| Some((mark.quarantined?, *source, mark.mac)))
            .collect();
        all.sort_unstable_by_key(|(since, source, _)| (*since, *source));
        all.into_iter().map(|(_, source, mac)| (source, mac)).collect()
    }

    /// Takes down how all sources are now; on the disk when this returns, or [`Self::problem`] says why not.
    pub(super) fn save(&mut self, now: &HashMap<IpAddr, Mark>) {
        let mut rows: Vec<Row> = Vec::new();
        for (source, mark) in now {
            if !self.marks.get(source).is_some_and(|known| known.is_same(*mark)) {
                rows.push(row(*source, *mark));
            }
        }
        for source in self.marks.keys().filter(|source| !now.contains_key(*source)) {
            let nothing = Mark {
                mac: None,
                quarantined: None,
            };
            rows.push(row(*source, nothing));
        }
        if rows.is_empty() && self.broken.is_none() {
            return;
        }
        for row in &rows {
            take(&mut self.marks, row);
        }
        let kept = self.write(&rows);
        if let Err(error) = &kept {
            tracing::error!(%error, "{FILE} can't be written");
        }
        self.broken = kept.err().map(|error| error.to_string());
    }

    /// Why the file does not say what it should.
    pub(super) fn problem(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn write(&mut self, rows: &[Row]) -> io::Result<()> {
        let grown = self.lines.count() + rows.len() > 2 * self.marks.len() + MAX_SPENT;
        if grown || self.broken.is_some() {
            let all = self.marks.iter().map(|(source, mark)| line(&row(*source, *mark)));
            return self.lines.replace(&all.collect::<Vec<_>>());
        }
        for row in rows {
            self.lines.note(&line(row))?;
        }
        self.lines.sync()
    }
}

fn take(marks: &mut HashMap<IpAddr, Mark>, row: &Row) {
    let mark = Mark {
        mac: row.mac.as_deref().and_then(|text| text.parse().ok()),
        quarantined: row.quarantined,
    };
    if mark.mac.is_none() && mark.quarantined.is_none() {
        marks.remove(&row.source);
    } else {
        marks.insert(row.source, mark);
    }
}

fn row(source: IpAddr, mark: Mark) -> Row {
    Row {
        source,
        mac: mark.mac.map(|mac| mac.to_string()),
        quarantined: mark.quarantined,
    }
}

fn line(row: &Row) -> String {
    // Plain data with text keys always serializes.
    serde_json::to_string(row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn source(octet: u8) -> IpAddr {
        IpAddr::from([10, 77, 1, octet])
    }

    fn mark(octet: u8, quarantined: Option<i64>) -> Mark {
        Mark {
            mac: (octet > 0).then_some(Mac([2, 0, 0, 0, 0, octet])),
            quarantined: quarantined.map(|second| Timestamp::from_second(second).unwrap()),
        }
    }

    fn marks(all: &[(u8, Mark)]) -> HashMap<IpAddr, Mark> {
        all.iter().map(|(octet, mark)| (source(*octet), *mark)).collect()
    }

    #[test]
    fn sources_are_known_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.save(&marks(&[
            (2, mark(1, None)),
            (3, mark(2, Some(20))),
            (4, mark(0, Some(10))),
        ]));
        ledger.save(&marks(&[
            (3, mark(2, Some(21))),
            (4, mark(0, Some(10))),
            (5, mark(3, None)),
        ]));
        let again = Ledger::open(dir.path()).unwrap();
        let quarantined = [(source(4), None), (source(3), mark(2, None).mac)];
        assert_eq!(again.quarantined(), quarantined, "the oldest first");
        assert_eq!(again.mac_of(source(2)), None, "its lease was replaced by nothing");
        assert_eq!(again.mac_of(source(5)), mark(3, None).mac);
    }

    #[test]
    fn only_what_changed_is_written_and_the_file_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.save(&marks(&[(2, mark(1, None)), (3, mark(2, Some(20)))]));
        assert_eq!(ledger.lines.count(), 2);
        ledger.save(&marks(&[(2, mark(1, None)), (3, mark(2, Some(99)))]));
        assert_eq!(ledger.lines.count(), 2, "since when does not matter");
        for round in 0..2 * MAX_SPENT {
            ledger.save(&marks(&[(2, mark(1 + (round % 2) as u8, None))]));
        }
        assert!(ledger.lines.count() <= MAX_SPENT + 4, "{}", ledger.lines.count());
        assert_eq!(Ledger::open(dir.path()).unwrap().marks, ledger.marks);
    }

    #[test]
    fn a_line_of_another_version_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{\"source\":\"10.77.1.2\",\"mac\":\"02:00:00:00:00:01\"}\nnonsense\n{\"source\":\"x\"}\n";
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.marks, marks(&[(2, mark(1, None))]));
    }
}
