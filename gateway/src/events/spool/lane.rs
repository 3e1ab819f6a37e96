//! One lane on disk: segments of lines, appended to at one end, delivered from the other.
//!
//! Owns the lane's files, its numbers and how far it is delivered. Knows nothing of the other lane nor of the bound:
//! [`super::disk`] drives it. It waits for the disk.

mod change;
mod deliver;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tidegate_control_wire::batch::Lane;

use super::edit::Marks;
use super::files;
use super::line::facts;
use super::plan::Parties;
use super::state::{LaneState, Summary};

/// Longest file that can be a segment, in bytes.
pub(super) const MAX_SEGMENT: u64 = 64 << 20;
/// Parties that are counted in a segment.
pub(super) const MAX_PARTIES: usize = 1_024;
/// Numbers that are reserved at once: one write of the state each.
pub(super) const RESERVE: u64 = 1 << 20;

/// A file of lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    /// The number in its name: not beyond that of its first line.
    pub(super) first: u64,
    /// Number of its last line.
    pub(super) last: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// How many entries it holds.
    pub(super) entries: u64,
    /// Bytes that came since it was merged.
    pub(super) fresh: u64,
    /// Whose its entries are, when it is known.
    pub(super) parties: Option<Parties>,
}

impl Segment {
    pub(super) fn summary(&self) -> Summary {
        Summary {
            first: self.first,
            last: self.last,
            bytes: self.bytes,
            entries: self.entries,
            fresh: self.fresh,
        }
    }
}

/// Lines to be appended at once.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The lines.
    pub(super) text: Vec<u8>,
    /// Number of the first one.
    pub(super) first: u64,
    /// Number of the last one.
    pub(super) last: u64,
    /// How many.
    pub(super) entries: u64,
    /// Verdicts and reports in them.
    pub(super) count: u64,
    /// Bytes of each party.
    pub(super) parties: Parties,
    /// When the first one happened.
    pub(super) time: Option<Timestamp>,
}

/// Lines to be delivered at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The lines.
    pub(super) text: Vec<u8>,
    /// Number of the first one.
    pub(super) first: u64,
    /// Number of the last one.
    pub(super) last: u64,
    /// How many.
    pub(super) entries: u64,
}

/// What is on its way.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    last: u64,
    entries: u64,
    bytes: u64,
}

/// The open file of the last segment.
#[derive(Debug)]
struct Active {
    file: Arc<File>,
    /// Something is not on the disk yet.
    unsynced: bool,
}

/// The lane.
#[derive(Debug)]
pub(super) struct LaneFiles {
    folder: PathBuf,
    lane: Lane,
    segment_bytes: u64,
    pub(super) segments: VecDeque<Segment>,
    active: Option<Active>,
    /// The number that the next entry gets.
    pub(super) next: u64,
    /// Numbers up to here may be given.
    pub(super) reserved: u64,
    stored: u64,
    tried: u64,
    /// Batches are sent: what was tried is known only in memory.
    sending: bool,
    in_flight: Option<InFlight>,
    /// Entries of the first segment that are stored.
    done: u64,
    /// Where the first segment is read on: the number in its name, and an offset.
    position: Option<(u64, u64)>,
    /// When the oldest entry that is not stored happened; `None` before anybody looked.
    oldest: Option<Timestamp>,
}

impl LaneFiles {
    /// A lane of these segments.
    pub(super) fn new(
        (folder, lane): (&Path, Lane),
        state: &LaneState,
        segment_bytes: u64,
        segments: VecDeque<Segment>,
    ) -> Self {
        let last = segments.back().map_or(0, |segment| segment.last);
        let reserved = state.reserved.max(last).max(state.stored);
        let mut lane = Self {
            folder: folder.to_owned(),
            lane,
            segment_bytes,
            segments,
            active: None,
            next: reserved + 1,
            reserved,
            stored: state.stored,
            tried: state.tried.unwrap_or(reserved).max(state.stored),
            sending: false,
            in_flight: None,
            done: 0,
            position: None,
            oldest: None,
        };
        // Going on with a file that is not full: a gateway that restarts often must not leave a file each time.
        lane.reopen();
        lane
    }

    /// The file whose name has this number.
    pub(super) fn path(&self, first: u64) -> PathBuf {
        self.folder.join(file_name(self.lane, first))
    }

    /// What outlives the process. `reserved` is what is to be reserved from now on.
    pub(super) fn state(&self, dropped: u64) -> LaneState {
        LaneState {
            reserved: self.reserved,
            stored: self.stored,
            tried: (!self.sending).then_some(self.tried),
            dropped,
            segments: self.segments.iter().map(Segment::summary).collect(),
        }
    }

    pub(super) fn marks(&self) -> Marks {
        let pinned = self.in_flight.map_or(self.stored, |piece| piece.last);
        Marks {
            stored: self.stored,
            pinned,
            tried: self.tried.max(pinned),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Entries that are not stored.
    pub(super) fn pending(&self) -> u64 {
        let all: u64 = self.segments.iter().map(|segment| segment.entries).sum();
        all.saturating_sub(self.done)
    }

    /// When the oldest of them happened.
    pub(super) fn oldest(&mut self) -> Option<Timestamp> {
        if self.pending() == 0 {
            self.oldest = None;
        } else if self.oldest.is_none() {
            let piece = self.read(1, 1).ok().flatten();
            self.oldest = piece.and_then(|piece| first_time(&piece.text));
        }
        self.oldest
    }

    /// Bytes that the last segment takes before there has to be another one.
    pub(super) fn room(&self) -> u64 {
        match (&self.active, self.segments.back()) {
            (Some(_), Some(segment)) => self.segment_bytes.saturating_sub(segment.bytes),
            _ => self.segment_bytes,
        }
    }

    /// Appends lines. After an error the lane is as it was, but for the numbers.
    pub(super) fn append(&mut self, chunk: Chunk) -> io::Result<()> {
        let length = chunk.text.len() as u64;
        if self.active.is_some()
            && self.room() < length
            && self.segments.back().is_some_and(|one| one.bytes > 0)
        {
            self.seal()?;
        }
        if self.active.is_none() {
            let file = files::append_to(&self.path(chunk.first))?;
            self.active = Some(Active {
                file: Arc::new(file),
                unsynced: false,
            });
            self.segments.push_back(Segment {
                first: chunk.first,
                parties: Some(Parties::new()),
                ..Segment::default()
            });
        }
        let (Some(active), Some(segment)) = (&mut self.active, self.segments.back_mut()) else {
            return Ok(());
        };
        if let Err(error) = (&*active.file).write_all(&chunk.text) {
            // Perhaps a part of it stands there: what follows must begin a line.
            if active.file.set_len(segment.bytes).is_err() || segment.entries == 0 {
                self.abandon();
            }
            return Err(error);
        }
        active.unsynced = true;
        segment.bytes += length;
        segment.entries += chunk.entries;
        segment.last = chunk.last;
        segment.fresh += length;
        if let Some(parties) = &mut segment.parties {
            for (party, bytes) in chunk.parties {
                // A party that is not listed comes up when those that are have gone.
                if parties.len() < MAX_PARTIES || parties.contains_key(&party) {
                    *parties.entry(party).or_default() += bytes;
                }
            }
        }
        self.oldest = self.oldest.or(chunk.time);
        Ok(())
    }

    /// Goes on with the last file, unless it is full. Where it can't be opened, there will be another one.
    fn reopen(&mut self) {
        let goes_on = |segment: &&Segment| segment.bytes < self.segment_bytes;
        self.active = self.segments.back().filter(goes_on).and_then(|segment| {
            let file = files::append_to(&self.path(segment.first)).ok()?;
            Some(Active {
                file: Arc::new(file),
                unsynced: true,
            })
        });
    }

    /// True when merging could make this segment smaller. The last one is worth it when half of it is new.
    pub(super) fn is_mergeable(&self, at: usize) -> bool {
        let Some(segment) = self.segments.get(at) else {
            return false;
        };
        let is_active = at + 1 == self.segments.len() && self.active.is_some();
        let enough = if is_active { self.segment_bytes / 2 } else { 1 };
        segment.fresh >= enough && segment.entries > 1 && segment.last > self.marks().tried
    }

    /// Goes on in another file after a write that failed.
    fn abandon(&mut self) {
        self.active = None;
        if self.segments.back().is_some_and(|segment| segment.entries == 0)
            && let Some(segment) = self.segments.pop_back()
        {
            // It holds nothing; where it can't be removed, the next start does.
            let _ = files::remove(&self.path(segment.first));
        }
    }

    /// Ends the last segment; it is on the disk.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        match self.active.take() {
            Some(active) if active.unsynced => active.file.sync_data(),
            Some(_) | None => Ok(()),
        }
    }

    /// The file that has something that is not on the disk yet, from now on taken to be there.
    pub(super) fn unsynced(&mut self) -> Option<Arc<File>> {
        let active = self.active.as_mut().filter(|active| active.unsynced)?;
        active.unsynced = false;
        Some(Arc::clone(&active.file))
    }
}

/// The name of a segment's file.
pub(super) fn file_name(lane: Lane, first: u64) -> String {
    format!("{}-{first:020}.ndjson", lane.as_str())
}

fn first_time(text: &[u8]) -> Option<Timestamp> {
    let first = text.split_inclusive(|byte| *byte == b'\n').next()?;
    facts(first).time
}
