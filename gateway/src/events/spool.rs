//! The spool: events on disk, until the control plane has stored them.
//!
//! Owns two lanes of segments in the state directory ([`lane`]), what goes first when they fill ([`plan`], [`room`]), and
//! what is told of it. Never on the data plane's way: [`super::EventPipeline`]'s thread fills it, [`ship`] empties it.
//! Nothing that happens to the disk ends either: what can't be kept is counted as dropped, said once, and it goes on when
//! it works again.

mod depth;
mod disk;
mod edit;
mod files;
mod lane;
mod line;
mod plan;
mod room;
mod scan;
pub(crate) mod ship;
mod state;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, Lane, ProcessReport};
use tidegate_policy::Moment;
use tokio::sync::Notify;

pub(crate) use depth::Depth;
use disk::Disk;

use super::encode::Encoded;
use super::queue::Losses;
use crate::appliance::chain;

/// Its folder's name in the state directory.
pub(crate) const FOLDER: &str = "spool";
/// Bound when the configuration names none, in bytes.
pub const DEFAULT_BYTES: u64 = 1 << 30;
/// Least bound, in bytes.
pub const MIN_BYTES: u64 = 64 << 10;
/// Lines are brought to the disk this often, and a folder that could not be opened is tried again.
pub(crate) const SYNC: Duration = Duration::from_secs(1);

/// The spool.
pub struct Spool {
    folder: PathBuf,
    bound: u64,
    inner: Mutex<Inner>,
    depth: Mutex<Depth>,
    refusals: Notify,
    permits: Notify,
    dropped: Counter,
    shipped: Counter,
    spooled: Gauge,
}

#[derive(Default)]
struct Inner {
    disk: Option<Disk>,
    /// Dropped while there was no disk to say so.
    lost: Losses,
    /// What the disk said last, while it does not work.
    problem: Option<String>,
    full: bool,
    tried_at: Option<Moment>,
}

/// A batch to be sent.
#[derive(Debug)]
pub(crate) struct Batch {
    /// As it goes over the wire.
    pub(crate) body: Bytes,
    /// How many entries.
    pub(crate) entries: u64,
    /// Number of the first one.
    pub(crate) first: u64,
    /// Number of the last one.
    pub(crate) last: u64,
}

impl Spool {
    /// A spool in this state directory, of at most `bound` bytes. Nothing is read or written yet.
    pub fn new(state_dir: &Path, bound: u64) -> Arc<Self> {
        Arc::new(Self {
            folder: state_dir.join(FOLDER),
            bound: bound.max(MIN_BYTES),
            inner: Mutex::default(),
            depth: Mutex::default(),
            refusals: Notify::new(),
            permits: Notify::new(),
            dropped: counter!("tidegate_events_dropped_total"),
            shipped: counter!("tidegate_events_shipped_total"),
            spooled: gauge!("tidegate_events_spooled_bytes"),
        })
    }

    /// Opens the folder, and goes on from what is in it. Waits for the disk.
    pub(crate) fn open(&self, now: Moment) {
        let mut inner = self.inner.lock();
        if !inner.open(&self.folder, self.bound, now) {
            return;
        }
        self.publish(&mut inner);
        let is_open = inner.disk.is_some();
        drop(inner);
        for lane in Lane::ALL.into_iter().filter(|_| is_open) {
            self.notify(lane).notify_one();
        }
    }

    /// Keeps events and reports; what was `lost` on the way here is told with them. Waits for the disk.
    pub(crate) fn append(&self, events: &Encoded, reports: &[ProcessReport], lost: Losses, now: Moment) {
        self.open(now);
        let mut inner = self.inner.lock();
        inner.lose(lost);
        let outcome = write::all(&mut inner, events, reports);
        self.dropped.increment(outcome.dropped.total());
        let any = events.len() + reports.len() > 0;
        inner.judge(&self.folder, outcome.error, any);
        inner.say_full(outcome.made_room);
        self.publish(&mut inner);
        drop(inner);
        for (lane, kept) in [
            (Lane::Refusals, outcome.refusals),
            (Lane::Permits, outcome.permits),
        ] {
            if kept {
                self.notify(lane).notify_one();
            }
        }
    }

    /// Brings to the disk what is not there yet: to be called once in [`SYNC`]. Neither who fills the spool nor who empties it
    /// waits for this.
    pub(crate) fn keep(&self) {
        let (files, unsaved) = {
            let mut inner = self.inner.lock();
            let Some(disk) = &mut inner.disk else { return };
            (disk.unsynced(), disk.unsaved())
        };
        let synced: io::Result<()> = files.iter().try_for_each(|file| file.sync_data());
        let saved = unsaved.map_or(Ok(()), |unsaved| unsaved.write());
        if saved.is_ok() && synced.is_ok() {
            return;
        }
        let mut inner = self.inner.lock();
        if let (Some(disk), Err(_)) = (&mut inner.disk, &saved) {
            disk.unwritten();
        }
        inner.judge(&self.folder, synced.and(saved).err(), false);
    }

    /// No more events come: everything is on the disk when this returns.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        let closed = inner.disk.as_mut().map_or(Ok(()), Disk::close);
        inner.judge(&self.folder, closed.err(), false);
    }

    /// How much waits, and since when.
    pub(crate) fn depth(&self) -> Depth {
        self.depth.lock().clone()
    }

    fn notify(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Refusals => &self.refusals,
            Lane::Permits => &self.permits,
        }
    }

    fn publish(&self, inner: &mut Inner) {
        let mut fresh = Depth {
            bound: self.bound,
            dropped: inner.lost,
            disk_error: inner.problem.clone(),
            ..Depth::default()
        };
        if let Some(disk) = &mut inner.disk {
            fresh.dropped = disk.dropped;
            fresh.entries = disk.pending();
            fresh.refusals = disk.lane(Lane::Refusals).pending();
            fresh.bytes = disk.bytes();
            let times = Lane::ALL.map(|lane| disk.lane_mut(lane).oldest());
            fresh.oldest = times.into_iter().flatten().min();
            self.spooled.set(fresh.bytes as f64);
        }
        // Held for a moment only: async threads look at it.
        let mut depth = self.depth.lock();
        fresh.ship_error = depth.ship_error.take();
        *depth = fresh;
    }
}

/// What [`ship`] asks. Where it is not said, it waits for the disk.
impl Spool {
    /// Waits until there may be something new in the lane.
    async fn filled(&self, lane: Lane) {
        self.notify(lane).notified().await;
    }

    /// True when refusals wait. Waits for nothing.
    fn has_refusals(&self) -> bool {
        self.depth.lock().refusals > 0
    }

    /// The next batch, of at most so many entries. What is in it stays as it is until it is answered.
    fn next(&self, lane: Lane, entries: u64) -> Option<Batch> {
        let mut inner = self.inner.lock();
        let disk = inner.disk.as_mut()?;
        let dropped = disk.dropped.of(lane);
        let taken = disk.take(lane, entries);
        self.dropped.increment(disk.dropped.of(lane) - dropped);
        let piece = match taken {
            Ok(piece) => piece?,
            Err(error) => {
                inner.judge(&self.folder, Some(error), false);
                return None;
            }
        };
        let head = BatchHead {
            protocol: PROTOCOL,
            spool: disk.id().into(),
            lane,
            dropped: disk.dropped.of(lane),
        };
        self.publish(&mut inner);
        drop(inner);
        // Plain data with text keys: it serializes.
        let mut body = serde_json::to_vec(&head).unwrap_or_default();
        body.push(b'\n');
        body.extend_from_slice(&piece.text);
        Some(Batch {
            body: body.into(),
            entries: piece.entries,
            first: piece.first,
            last: piece.last,
        })
    }

    /// The store has everything of the lane up to `stored`, and refused so many entries of this batch for good. Gives back
    /// how many entries wait.
    fn stored(&self, lane: Lane, (batch, stored, refused): (&Batch, u64, u64)) -> u64 {
        let refused = refused.min(batch.entries);
        let (mut delivered, mut left) = (0, 0);
        self.with(|disk| {
            let waited = disk.lane(lane).pending();
            let is_older = disk.deliver(lane, stored);
            left = disk.lane(lane).pending();
            delivered = waited.saturating_sub(left);
            if is_older? {
                tracing::error!(lane = lane.as_str(), stored,
                    "the control plane has more of this spool than was ever sent: it is an older copy, and goes on under another id");
            }
            Ok(())
        });
        self.shipped.increment(delivered.saturating_sub(refused));
        self.dropped.increment(refused);
        left
    }

    /// The batch may or may not have arrived: it is sent again.
    fn failed(&self, lane: Lane) {
        self.with(|disk| {
            disk.lane_mut(lane).fail();
            Ok(())
        });
    }

    /// The one entry of this batch will never be stored: it goes, counted.
    fn skip(&self, lane: Lane, batch: &Batch) {
        self.dropped.increment(1);
        self.with(|disk| disk.skip(lane, batch.last));
    }

    /// Nothing is sent any more for now.
    fn pause(&self, lane: Lane) {
        self.with(|disk| {
            disk.end_sending(lane);
            Ok(())
        });
    }

    /// Nothing is sent any more: how far it came is on disk.
    fn finish(&self) {
        self.with(|disk| {
            for lane in Lane::ALL {
                disk.end_sending(lane);
            }
            disk.save()
        });
    }

    /// What shipping says; `None` when it works.
    fn set_ship_error(&self, error: Option<String>) {
        self.depth.lock().ship_error = error;
    }

    fn with(&self, work: impl FnOnce(&mut Disk) -> io::Result<()>) {
        let mut inner = self.inner.lock();
        let Some(disk) = &mut inner.disk else { return };
        let error = work(disk).err();
        inner.judge(&self.folder, error, false);
        self.publish(&mut inner);
    }
}

impl Inner {
    fn lose(&mut self, lost: Losses) {
        for lane in Lane::ALL {
            match &mut self.disk {
                Some(disk) => disk.lose(lane, lost.of(lane)),
                None => self.lost.add(lane, lost.of(lane)),
            }
        }
    }

    /// Opens the folder, unless it is open or that was tried a moment ago. True when it was tried.
    fn open(&mut self, folder: &Path, bound: u64, now: Moment) -> bool {
        let tried = self.tried_at.is_some_and(|at| now.since(at) < SYNC);
        if self.disk.is_some() || tried {
            return false;
        }
        self.tried_at = Some(now);
        match Disk::open(folder, bound, &mut self.lost) {
            Ok(disk) => self.disk = Some(disk),
            Err(error) => self.judge(folder, Some(error), false),
        }
        true
    }

    /// Says that the disk does not work, and that it works again: once each.
    fn judge(&mut self, folder: &Path, error: Option<io::Error>, worked: bool) {
        match error {
            Some(error) => {
                let error = chain(&error);
                if self.problem.is_none() {
                    tracing::error!(folder = %folder.display(), error,
                        "the event spool can't be used; events are dropped until it works again");
                }
                self.problem = Some(error);
            }
            None if worked && self.disk.is_some() && self.problem.take().is_some() => {
                tracing::info!(folder = %folder.display(), "the event spool works again");
            }
            None => {}
        }
    }

    /// Says that the spool is full, once until it is well below its bound.
    fn say_full(&mut self, made_room: bool) {
        let Some(disk) = &self.disk else { return };
        if made_room && !self.full {
            self.full = true;
            tracing::warn!(
                bound = disk.bound,
                "the event spool is full: permits are merged, then go, then refusals of the noisiest jobs"
            );
        } else if disk.bytes() < disk.bound / 2 {
            self.full = false;
        }
    }
}

#[cfg(test)]
mod tests;
