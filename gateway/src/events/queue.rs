//! The bounded queue between the data plane's threads and the event writer.
//!
//! Permits wait in a shard of the thread that emitted them, whose lock nobody else wants but the writer, for the moment of
//! an exchange; refusals, which are rarer, wait together. When the queue is full the oldest permit goes first; with no
//! permit left, a refusal of the noisiest job does ([`fair`]). One job's flood therefore can't push out what another job
//! was refused. Reports of agents wait beside, bounded by themselves. Who pushes never waits for who writes, and wakes it
//! only when it waits for its first event ([`bell`]). The consumer takes a piece at a time ([`inbox`]), so that what it can't
//! write yet waits where it can be dropped by that rule.

mod bell;
mod chunks;
mod fair;
mod inbox;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use parking_lot::Mutex;
use tidegate_control_wire::batch::{Lane, ProcessReport};
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::Verdict;

use bell::Bell;
use chunks::Chunks;
use fair::FairLane;
use inbox::Inbox;

use crate::threads;

/// Reports of agents that wait at most; beyond, the oldest goes.
pub const QUEUE_REPORTS: usize = 4_096;
/// Events that are taken at once at most: they stay in the processor's cache on their way.
pub const PIECE: usize = 512;
/// Shards at most. Threads beyond share.
const MAX_SHARDS: usize = 64;

/// What was dropped, in each lane: verdicts (an aggregate counts as many as it stands for), and reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Of the refusals' lane.
    pub refusals: u64,
    /// Of the permits' lane.
    pub permits: u64,
}

impl Losses {
    /// That many more are lost.
    pub const fn add(&mut self, lane: Lane, count: u64) {
        let of = match lane {
            Lane::Refusals => &mut self.refusals,
            Lane::Permits => &mut self.permits,
        };
        *of = of.saturating_add(count);
    }

    /// Those of one lane.
    pub const fn of(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Refusals => self.refusals,
            Lane::Permits => self.permits,
        }
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        self.refusals.saturating_add(self.permits)
    }
}

/// The lane in which an event is kept.
pub fn lane(event: &NetworkEvent) -> Lane {
    match event.verdict {
        Verdict::Permit => Lane::Permits,
        Verdict::Refuse | Verdict::WouldRefuse => Lane::Refusals,
    }
}

/// An event on its way through the queue.
#[derive(Debug)]
pub struct Queued {
    serial: u64,
    /// The event.
    pub event: NetworkEvent,
}

impl From<NetworkEvent> for Queued {
    /// One that never waited.
    fn from(event: NetworkEvent) -> Self {
        Self { serial: 0, event }
    }
}

impl Deref for Queued {
    type Target = NetworkEvent;

    fn deref(&self) -> &NetworkEvent {
        &self.event
    }
}

/// What the consumer takes at once.
#[derive(Debug)]
pub struct Taken {
    /// Events, oldest first.
    pub events: Vec<Queued>,
    /// Reports, oldest first.
    pub reports: Vec<ProcessReport>,
    /// What was dropped since the last time.
    pub lost: Losses,
    /// Everything queued before this serial was taken, now or earlier, or dropped.
    pub upto: u64,
    /// There was more than a piece: the next one can be taken at once.
    pub more: bool,
    /// False once the queue was closed and everything is taken.
    pub open: bool,
}

/// A bounded queue of events for one consumer.
pub struct EventQueue {
    capacity: u64,
    permits: Box<[Shard]>,
    refusals: Mutex<FairLane>,
    reports: Mutex<VecDeque<ProcessReport>>,
    /// Serial of the next event or report. Given out under the lock of the lane that the event is put into: once a lane was
    /// locked, everything in it below a serial read before is there.
    next: AtomicU64,
    /// How many of those serials are not of queued events (any more).
    gone: AtomicU64,
    /// Up to where the consumer took.
    taken: AtomicU64,
    lost_refusals: AtomicU64,
    lost_permits: AtomicU64,
    closed: AtomicBool,
    bell: Bell,
    inbox: Mutex<Inbox>,
}

/// Permits of some threads, oldest first. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Chunks>);

impl EventQueue {
    /// A queue of at most `capacity` events.
    pub fn new(capacity: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (2 * cores).next_power_of_two().min(MAX_SHARDS);
        Self {
            capacity: capacity as u64,
            permits: (0..shards).map(|_| Shard::default()).collect(),
            refusals: Mutex::default(),
            reports: Mutex::default(),
            next: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            lost_refusals: AtomicU64::new(0),
            lost_permits: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            bell: Bell::default(),
            inbox: Mutex::default(),
        }
    }

    /// Queues an event, in place of another one when the queue is full.
    pub fn push(&self, event: NetworkEvent) {
        let used = match lane(&event) {
            Lane::Permits => self.push_permit(event),
            Lane::Refusals => self.push_refusal(event),
        };
        self.bell.something();
        // Half of the room is what is left to the consumer to come in time.
        if used == Some(self.capacity / 2) {
            self.bell.hurry();
        }
    }

    /// Queues a permit behind so many events; `None` when it is dropped.
    fn push_permit(&self, event: NetworkEvent) -> Option<u64> {
        let mut own = self.own().lock();
        if self.is_closed() {
            self.lose(Lane::Permits, event.count);
            return None;
        }
        let (mut serial, used) = self.serial();
        if used >= self.capacity {
            if let Some(oldest) = own.pop() {
                self.drop_queued(&oldest);
            } else {
                drop(own);
                let room = self.drop_a_permit();
                self.leave(1);
                own = self.own().lock();
                if !room || self.is_closed() {
                    self.lose(Lane::Permits, event.count);
                    return None;
                }
                (serial, _) = self.serial();
            }
        }
        own.push(Queued { serial, event });
        Some(used)
    }

    /// Queues a refusal behind so many events; `None` when it is dropped.
    fn push_refusal(&self, event: NetworkEvent) -> Option<u64> {
        let mut refusals = self.refusals.lock();
        if self.is_closed() {
            self.lose(Lane::Refusals, event.count);
            return None;
        }
        let (serial, used) = self.serial();
        let fresh = Box::new(Queued { serial, event });
        // Who holds the lock of a shard never waits for this one.
        if used >= self.capacity && !self.drop_a_permit() {
            let Some(noisy) = refusals.make_room_for(&fresh) else {
                self.drop_queued(&fresh);
                return None;
            };
            self.drop_queued(&noisy);
        }
        refusals.push(fresh);
        Some(used)
    }

    /// To be asked under the lock of a lane: the consumer then takes what is put there, or it is seen to be gone.
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// A serial for a queued event, and how many are queued without it.
    fn serial(&self) -> (u64, u64) {
        let serial = self.next.fetch_add(1, Ordering::SeqCst);
        (serial, serial.saturating_sub(self.gone.load(Ordering::Acquire)))
    }

    /// Drops the oldest permit of this thread, or else of another one: all of them are emptied at the same moments, so that
    /// neither is much older. False when there is none.
    fn drop_a_permit(&self) -> bool {
        let own = threads::number();
        (0..self.permits.len()).any(|next| {
            let oldest = self.shard(own + next).lock().pop();
            if let Some(oldest) = &oldest {
                self.drop_queued(oldest);
            }
            oldest.is_some()
        })
    }

    fn drop_queued(&self, queued: &Queued) {
        self.leave(1);
        self.lose(lane(queued), queued.count);
    }

    fn lose(&self, lane: Lane, count: u64) {
        let of = match lane {
            Lane::Refusals => &self.lost_refusals,
            Lane::Permits => &self.lost_permits,
        };
        of.fetch_add(count, Ordering::Relaxed);
    }

    /// So many serials are not of queued events any more.
    fn leave(&self, count: u64) {
        self.gone.fetch_add(count, Ordering::Release);
    }

    fn own(&self) -> &Mutex<Chunks> {
        self.shard(threads::number())
    }

    fn shard(&self, number: usize) -> &Mutex<Chunks> {
        &self.permits[number % self.permits.len()].0
    }

    /// Queues a report, in place of the oldest one when too many wait.
    pub fn push_report(&self, report: ProcessReport) {
        let mut reports = self.reports.lock();
        if self.is_closed() {
            self.lose(Lane::Permits, 1);
            return;
        }
        if reports.len() >= QUEUE_REPORTS {
            reports.pop_front();
            self.lose(Lane::Permits, 1);
        }
        // It has a serial, and takes no event's room.
        self.leave(1);
        self.next.fetch_add(1, Ordering::SeqCst);
        reports.push_back(report);
        drop(reports);
        self.bell.something();
    }

    /// What is queued, a piece of it where that is much, after waiting up to `patience` for something.
    pub fn take(&self, patience: Duration) -> Taken {
        let ready = || self.next() != self.taken.load(Ordering::Relaxed) || self.is_closed();
        if !ready() {
            self.bell.sleep(patience, ready);
        }
        // Asked before any lane is looked at: what was queued while it was open is taken before it is said to be closed.
        let open = !self.is_closed();
        let upto = self.next.load(Ordering::SeqCst);
        let mut inbox = self.inbox.lock();
        let mut events = std::mem::take(&mut inbox.piece);
        // Of what is queued while this goes on, something newer may be seen before something older: that waits for the next
        // time, unless there is none.
        let until = if open { upto } else { u64::MAX };
        let left = inbox.fill(self, (&mut events, PIECE), until);
        drop(inbox);
        let reports = std::mem::take(&mut *self.reports.lock());
        let upto = left.unwrap_or(upto);
        self.taken.store(upto, Ordering::Relaxed);
        Taken {
            events,
            reports: reports.into(),
            lost: Losses {
                refusals: self.lost_refusals.swap(0, Ordering::Relaxed),
                permits: self.lost_permits.swap(0, Ordering::Relaxed),
            },
            upto,
            more: left.is_some(),
            open: open || left.is_some(),
        }
    }

    /// Gives back the memory of a piece, for the next one. What is in it is forgotten.
    pub fn recycle(&self, mut events: Vec<Queued>) {
        events.clear();
        self.inbox.lock().piece = events;
    }

    /// Lets events gather for as long, or until somebody wants what is queued, or half of the room is used.
    pub fn nap(&self, long: Duration) {
        self.bell.nap(long);
    }

    /// Ends the consumer's nap: somebody waits for what was queued.
    pub fn hurry(&self) {
        self.bell.hurry();
    }

    /// The serial that the next event or report will get: a consumer that has taken up to it has taken all until now.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Number of queued events.
    pub fn len(&self) -> usize {
        let gone = self.gone.load(Ordering::Acquire);
        self.next().saturating_sub(gone) as usize
    }

    /// True when nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets the consumer end; later events are dropped.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.bell.hurry();
    }
}

/// Whose event it is: the job's, or the source's where there is no job.
pub(crate) fn party(event: &NetworkEvent) -> CompactString {
    match &event.subject.job {
        Some(job) => job.id.clone(),
        None => compact_str::format_compact!("{}", event.source),
    }
}

#[cfg(test)]
mod tests;
