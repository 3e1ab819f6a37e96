//! The open spool: both lanes, what was dropped of them, and the state that outlives the process.
//!
//! Owns the order of writes: what is counted as dropped is on disk before it goes, numbers are reserved before they are
//! given, and that batches are sent is said before the first one leaves. It waits for the disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_control_wire::batch::Lane;

use super::files;
use super::lane::{Chunk, LaneFiles, Piece, RESERVE};
use super::scan;
use super::state::State;
use crate::events::queue::Losses;

/// Largest segment, in bytes.
const SEGMENT: u64 = 4 << 20;
/// A segment is this part of the bound at most, so that there is something to part with.
const SEGMENTS: u64 = 16;
/// Largest batch, in bytes.
const BATCH: u64 = 1 << 20;

/// The spool while its folder can be used.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    state: State,
    pub(super) bound: u64,
    pub(super) segment_bytes: u64,
    refusals: LaneFiles,
    permits: LaneFiles,
    /// Since the spool was made.
    pub(super) dropped: Losses,
    /// The state on disk is not this one.
    dirty: bool,
    /// How many states there were.
    version: u64,
    /// Which of them is on disk. Held by whoever writes, so that an older one never comes after a newer one.
    written: Arc<Mutex<u64>>,
}

/// A state to be written while others go on with the spool.
pub(super) struct Unsaved {
    state: State,
    version: u64,
    folder: PathBuf,
    written: Arc<Mutex<u64>>,
}

impl Unsaved {
    /// On the disk when this returns, or a newer one is.
    pub(super) fn write(&self) -> io::Result<()> {
        let mut written = self.written.lock();
        if *written < self.version {
            self.state.write(&self.folder)?;
            *written = self.version;
        }
        Ok(())
    }
}

impl Disk {
    /// Opens the folder, or makes it. What is damaged in it is mended and said, and counted with what was `lost` before;
    /// where the folder can't be opened after all, `lost` says it.
    pub(super) fn open(folder: &Path, bound: u64, lost: &mut Losses) -> io::Result<Self> {
        files::folder(folder)?;
        files::sweep(folder)?;
        let state = State::read(folder)?;
        let segment_bytes = (bound / SEGMENTS).min(SEGMENT);
        let mut lane = |lane| {
            let of = state.lane(lane);
            let found = scan::find(folder, lane, of, lost)?;
            io::Result::Ok(LaneFiles::new((folder, lane), of, segment_bytes, found))
        };
        let (refusals, permits) = (lane(Lane::Refusals)?, lane(Lane::Permits)?);
        let mut dropped = *lost;
        for lane in Lane::ALL {
            dropped.add(lane, state.lane(lane).dropped);
        }
        let mut disk = Self {
            folder: folder.to_owned(),
            state,
            bound,
            segment_bytes,
            refusals,
            permits,
            dropped,
            dirty: true,
            version: 0,
            written: Arc::default(),
        };
        for lane in Lane::ALL {
            disk.recount(lane)?;
            disk.lane_mut(lane).reserved += RESERVE;
        }
        disk.save()?;
        *lost = Losses::default();
        Ok(disk)
    }

    /// The spool's id.
    pub(super) fn id(&self) -> &str {
        &self.state.id
    }

    pub(super) const fn lane(&self, lane: Lane) -> &LaneFiles {
        match lane {
            Lane::Refusals => &self.refusals,
            Lane::Permits => &self.permits,
        }
    }

    pub(super) const fn lane_mut(&mut self, lane: Lane) -> &mut LaneFiles {
        match lane {
            Lane::Refusals => &mut self.refusals,
            Lane::Permits => &mut self.permits,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.refusals.bytes() + self.permits.bytes()
    }

    pub(super) fn pending(&self) -> u64 {
        self.refusals.pending() + self.permits.pending()
    }

    /// Bytes of a batch at most.
    pub(super) fn batch_bytes(&self) -> usize {
        usize::try_from((self.bound / 8).min(BATCH)).unwrap_or_default()
    }

    /// That much more is gone.
    pub(super) fn lose(&mut self, lane: Lane, count: u64) {
        self.dropped.add(lane, count);
        self.dirty |= count > 0;
    }

    /// Writes the state, if it changed.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let Some(unsaved) = self.unsaved() else {
            return Ok(());
        };
        let written = unsaved.write();
        self.dirty = written.is_err();
        written
    }

    /// The state, if it changed, to be written by somebody who does not hold the spool meanwhile.
    pub(super) fn unsaved(&mut self) -> Option<Unsaved> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        for lane in Lane::ALL {
            let state = self.lane(lane).state(self.dropped.of(lane));
            *self.state.lane_mut(lane) = state;
        }
        self.version += 1;
        Some(Unsaved {
            state: self.state.clone(),
            version: self.version,
            folder: self.folder.clone(),
            written: Arc::clone(&self.written),
        })
    }

    /// What was to be written is not on disk.
    pub(super) fn unwritten(&mut self) {
        self.dirty = true;
    }

    /// Makes sure that `count` numbers may be given in this lane.
    pub(super) fn reserve(&mut self, lane: Lane, count: u64) -> io::Result<()> {
        let files = self.lane_mut(lane);
        let before = files.reserved;
        if files.next + count <= before + 1 {
            return Ok(());
        }
        files.reserved = files.next + count + RESERVE;
        self.dirty = true;
        let saved = self.save();
        if saved.is_err() {
            self.lane_mut(lane).reserved = before;
        }
        saved
    }

    /// Appends lines, for which there is room.
    pub(super) fn append(&mut self, lane: Lane, chunk: Chunk) -> io::Result<()> {
        self.dirty = true;
        self.lane_mut(lane).append(chunk)
    }

    /// The next lines to be delivered. Damage in their way is set aside.
    pub(super) fn take(&mut self, lane: Lane, entries: u64) -> io::Result<Option<Piece>> {
        if self.lane_mut(lane).begin_sending() {
            self.dirty = true;
            // Said once a connection: after a kill, what is here may be stored, and must not be merged with what is not. A
            // full disk does not take it; it is emptied by sending.
            if let Err(error) = self.save() {
                tracing::debug!(%error, "the spool's state is not on disk");
            }
        }
        let most = self.batch_bytes();
        loop {
            match self.lane_mut(lane).take(entries, most) {
                Err(error) if scan::is_lost(&error) => self.mend(lane, 0)?,
                taken => return taken,
            }
        }
    }

    /// Everything of the lane up to this number is stored. True when the store has numbers that this spool never gave away:
    /// then it is an older copy of itself, and goes on under another id.
    pub(super) fn deliver(&mut self, lane: Lane, upto: u64) -> io::Result<bool> {
        self.dirty = true;
        if upto <= self.lane(lane).tried() {
            return self.lane_mut(lane).deliver(upto).map(|()| false);
        }
        self.lane_mut(lane).fail();
        self.state.id = State::new().id;
        // What was dropped was told under the old one.
        self.dropped = Losses::default();
        self.save()?;
        Ok(true)
    }

    /// The entry that was taken will never be stored: it goes, counted.
    pub(super) fn skip(&mut self, lane: Lane, upto: u64) -> io::Result<()> {
        self.lose(lane, 1);
        let saved = self.save();
        self.lane_mut(lane).deliver(upto).and(saved)
    }

    /// Nothing is sent any more.
    pub(super) fn end_sending(&mut self, lane: Lane) {
        self.dirty |= self.lane_mut(lane).end_sending();
    }

    /// Sets a segment aside that is damaged, and goes on with what is sound in it. What waited and waits no more is lost.
    pub(super) fn mend(&mut self, lane: Lane, at: usize) -> io::Result<()> {
        let Some(first) = self.lane(lane).segments.get(at).map(|segment| segment.first) else {
            return Ok(());
        };
        let (waited, lost) = (self.lane(lane).pending(), self.dropped.of(lane));
        let path = self.lane(lane).path(first);
        let (found, _) = scan::read(&path, first)?;
        self.lane_mut(lane).mended(at, found);
        let counted = if at == 0 { self.recount(lane) } else { Ok(()) };
        let others = self.dropped.of(lane) - lost;
        let gone = waited.saturating_sub(self.lane(lane).pending());
        self.lose(lane, gone.saturating_sub(others));
        counted
    }

    /// Counts anew how much of a lane's first segment is stored. One that can't be read any more goes, and it is the next
    /// one's turn.
    fn recount(&mut self, lane: Lane) -> io::Result<()> {
        match self.lane_mut(lane).recount() {
            Err(error) if scan::is_lost(&error) => self.mend(lane, 0),
            counted => counted,
        }
    }

    /// What has to be brought to the disk.
    pub(super) fn unsynced(&mut self) -> Vec<Arc<File>> {
        let files = Lane::ALL.map(|lane| self.lane_mut(lane).unsynced());
        files.into_iter().flatten().collect()
    }

    /// The end: everything is on the disk, and no number is reserved for nothing.
    pub(super) fn close(&mut self) -> io::Result<()> {
        for file in self.unsynced() {
            file.sync_data()?;
        }
        for lane in Lane::ALL {
            let files = self.lane_mut(lane);
            files.reserved = files.next - 1;
        }
        self.dirty = true;
        self.save()
    }
}
