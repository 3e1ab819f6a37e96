//! The bounded queue between the data plane and the event writer.
//!
//! When it is full the oldest permit goes first; with no permit left, a refusal of the noisiest job
//! does. One job's flood therefore can't push out what another job was refused. Reports of agents wait beside, bounded
//! by themselves.

use std::collections::VecDeque;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tidegate_control_wire::batch::{Lane, ProcessReport};
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::Verdict;

/// Reports of agents that wait at most; beyond, the oldest goes.
pub const QUEUE_REPORTS: usize = 4_096;

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

/// What the consumer takes at once.
#[derive(Debug)]
pub struct Taken {
    /// Events, oldest first.
    pub events: Vec<NetworkEvent>,
    /// Reports, oldest first.
    pub reports: Vec<ProcessReport>,
    /// What was dropped since the last time.
    pub lost: Losses,
    /// Everything queued before this serial was taken, now or earlier, or dropped.
    pub upto: u64,
    /// False once the queue was closed.
    pub open: bool,
}

/// A bounded queue of events for one consumer.
pub struct EventQueue {
    capacity: usize,
    inner: Mutex<Inner>,
    filled: Condvar,
}

#[derive(Default)]
struct Inner {
    permits: VecDeque<(u64, NetworkEvent)>,
    refusals: VecDeque<(u64, NetworkEvent)>,
    /// Queued refusals by job (by source, without one).
    by_job: HashMap<CompactString, usize>,
    reports: VecDeque<ProcessReport>,
    lost: Losses,
    /// Serial of the next event or report.
    next: u64,
    closed: bool,
}

impl EventQueue {
    /// A queue of at most `capacity` events.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inner: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    /// Queues an event, in place of another one when the queue is full.
    pub fn push(&self, event: NetworkEvent) {
        let mut inner = self.inner.lock();
        let full = inner.permits.len() + inner.refusals.len() >= self.capacity;
        if inner.closed || (full && !inner.make_room(&event)) {
            inner.lost.add(lane(&event), event.count);
            return;
        }
        // The consumer waits only when there is nothing: one wake-up a batch, not a system call an event.
        let was_empty = inner.is_empty();
        let serial = inner.next;
        inner.next += 1;
        match lane(&event) {
            Lane::Permits => inner.permits.push_back((serial, event)),
            Lane::Refusals => {
                *inner.by_job.entry(party(&event)).or_default() += 1;
                inner.refusals.push_back((serial, event));
            }
        }
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Queues a report, in place of the oldest one when too many wait.
    pub fn push_report(&self, report: ProcessReport) {
        let mut inner = self.inner.lock();
        if inner.closed {
            inner.lost.add(Lane::Permits, 1);
            return;
        }
        let was_empty = inner.is_empty();
        if inner.reports.len() >= QUEUE_REPORTS {
            inner.reports.pop_front();
            inner.lost.add(Lane::Permits, 1);
        }
        inner.next += 1;
        inner.reports.push_back(report);
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Everything queued, after waiting up to `patience` for something.
    pub fn take(&self, patience: Duration) -> Taken {
        let mut inner = self.inner.lock();
        if inner.is_empty() && !inner.closed {
            self.filled.wait_for(&mut inner, patience);
        }
        inner.by_job.clear();
        let (permits, refusals) = (
            std::mem::take(&mut inner.permits),
            std::mem::take(&mut inner.refusals),
        );
        let reports = std::mem::take(&mut inner.reports);
        let lost = std::mem::take(&mut inner.lost);
        let (upto, open) = (inner.next, !inner.closed);
        drop(inner);
        let mut all: Vec<_> = permits.into_iter().chain(refusals).collect();
        // Two ascending runs: a stable sort merges them, and does no more.
        all.sort_by_key(|(serial, _)| *serial);
        Taken {
            events: all.into_iter().map(|(_, event)| event).collect(),
            reports: reports.into(),
            lost,
            upto,
            open,
        }
    }

    /// The serial that the next event or report will get: a consumer that has taken up to it has taken all until now.
    pub fn next(&self) -> u64 {
        self.inner.lock().next
    }

    /// Number of queued events.
    pub fn len(&self) -> usize {
        let inner = self.inner.lock();
        inner.permits.len() + inner.refusals.len()
    }

    /// True when nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets the consumer end; later events are dropped.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
    }
}

impl Inner {
    fn is_empty(&self) -> bool {
        self.permits.is_empty() && self.refusals.is_empty() && self.reports.is_empty()
    }

    /// Drops what counts least in favour of `event`; false when that is `event` itself.
    fn make_room(&mut self, event: &NetworkEvent) -> bool {
        if let Some((_, oldest)) = self.permits.pop_front() {
            self.lost.add(Lane::Permits, oldest.count);
            return true;
        }
        if event.verdict == Verdict::Permit {
            return false;
        }
        let Some((noisiest, most)) = self.by_job.iter().max_by_key(|(_, count)| **count) else {
            return false;
        };
        if self.by_job.get(&party(event)).is_some_and(|mine| mine >= most) {
            return false;
        }
        let noisiest = noisiest.clone();
        let Some(at) = self
            .refusals
            .iter()
            .position(|(_, queued)| party(queued) == noisiest)
        else {
            return false;
        };
        if let Some((_, gone)) = self.refusals.remove(at) {
            self.lost.add(Lane::Refusals, gone.count);
        }
        if let Some(count) = self.by_job.get_mut(&noisiest) {
            *count = count.saturating_sub(1);
        }
        true
    }
}

/// Whose event it is: the job's, or the source's where there is no job.
pub(crate) fn party(event: &NetworkEvent) -> CompactString {
    match &event.job {
        Some(job) => job.id.clone(),
        None => compact_str::format_compact!("{}", event.source),
    }
}
