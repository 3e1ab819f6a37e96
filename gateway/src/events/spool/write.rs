//! From what the writer took to chunks of lines in their lanes, each after room was made for it.

use std::io;

use jiff::Timestamp;
use tidegate_control_wire::batch::{Lane, ProcessReport};

use super::disk::Disk;
use super::lane::Chunk;
use super::line::{self, What};
use super::{Inner, room};
use crate::events::encode::Encoded;
use crate::events::queue::Losses;

/// Bytes of a line around its JSON, at most.
const AROUND: u64 = 48;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Something new waits in the refusals' lane.
    pub(super) refusals: bool,
    /// Something new waits in the permits' lane.
    pub(super) permits: bool,
    /// What was dropped, of these or older ones.
    pub(super) dropped: Losses,
    /// The bound was reached.
    pub(super) made_room: bool,
    /// Why something could not be written.
    pub(super) error: Option<io::Error>,
}

/// An entry to be written.
struct Fresh<'a> {
    what: What,
    json: &'a [u8],
    party: &'a str,
    count: u64,
    time: Timestamp,
}

/// Writes all of them; what can't be written is counted as dropped.
pub(super) fn all(inner: &mut Inner, events: &Encoded, reports: &[ProcessReport]) -> Outcome {
    let mut outcome = Outcome::default();
    // Plain data with text keys: they serialize.
    let written: Vec<Vec<u8>> = reports
        .iter()
        .map(|report| serde_json::to_vec(report).unwrap_or_default())
        .collect();
    for lane in Lane::ALL {
        let of_lane = events.iter().filter(|(item, _)| item.lane == lane);
        let events = of_lane.map(|(item, json)| Fresh {
            what: What::Event,
            json,
            party: &item.party,
            count: item.count,
            time: item.time,
        });
        let reports = reports.iter().zip(&written).filter(|_| lane == Lane::Permits);
        let reports = reports.map(|(report, json)| Fresh {
            what: What::Report,
            json,
            party: "",
            count: 1,
            time: report.time,
        });
        let fresh: Vec<Fresh<'_>> = events.chain(reports).collect();
        if fresh.is_empty() {
            continue;
        }
        let Some(disk) = &mut inner.disk else {
            let lost = fresh.iter().map(|one| one.count).sum();
            inner.lost.add(lane, lost);
            outcome.dropped.add(lane, lost);
            continue;
        };
        let before = disk.dropped;
        let kept = Writer {
            disk,
            lane,
            outcome: &mut outcome,
        }
        .write(&fresh);
        match lane {
            Lane::Refusals => outcome.refusals = kept,
            Lane::Permits => outcome.permits = kept,
        }
        // Room for refusals is made of permits too.
        for lane in Lane::ALL {
            outcome.dropped.add(lane, disk.dropped.of(lane) - before.of(lane));
        }
    }
    outcome
}

struct Writer<'a> {
    disk: &'a mut Disk,
    lane: Lane,
    outcome: &'a mut Outcome,
}

impl Writer<'_> {
    /// True when any of them was kept.
    fn write(mut self, fresh: &[Fresh<'_>]) -> bool {
        if let Err(error) = self.disk.reserve(self.lane, fresh.len() as u64) {
            let lost = fresh.iter().map(|one| one.count).sum();
            self.disk.lose(self.lane, lost);
            self.outcome.error = Some(error);
            return false;
        }
        let (mut chunk, mut kept) = (Chunk::default(), false);
        for one in fresh {
            let length = one.json.len() as u64 + AROUND;
            if !chunk.text.is_empty() && chunk.text.len() as u64 + length > self.disk.lane(self.lane).room() {
                kept |= self.flush(std::mem::take(&mut chunk));
            }
            self.add(&mut chunk, one);
        }
        kept | self.flush(chunk)
    }

    fn add(&mut self, chunk: &mut Chunk, one: &Fresh<'_>) {
        let lane = self.disk.lane_mut(self.lane);
        let seq = lane.next;
        lane.next += 1;
        let begun = chunk.text.len();
        line::write(&mut chunk.text, seq, one.what, one.json);
        if chunk.entries == 0 {
            (chunk.first, chunk.time) = (seq, Some(one.time));
        }
        chunk.last = seq;
        chunk.entries += 1;
        chunk.count += one.count;
        if self.lane == Lane::Refusals {
            let bytes = (chunk.text.len() - begun) as u64;
            match chunk.parties.get_mut(one.party) {
                Some(known) => *known += bytes,
                None => drop(chunk.parties.insert(one.party.into(), bytes)),
            }
        }
    }

    fn flush(&mut self, chunk: Chunk) -> bool {
        let (need, count) = (chunk.text.len() as u64, chunk.count);
        let full = self.disk.bytes() + need > self.disk.bound;
        self.outcome.made_room |= full;
        let done = room::make(self.disk, self.lane, need).and_then(|room| {
            if room {
                self.disk.append(self.lane, chunk).map(|()| true)
            } else {
                Ok(false)
            }
        });
        match done {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => self.outcome.error = Some(error),
        }
        self.disk.lose(self.lane, count);
        false
    }
}
