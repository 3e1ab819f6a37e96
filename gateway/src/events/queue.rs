//! The bounded queue between the data plane and the event writer.
//!
//! When it is full the oldest permit goes first; with no permit left, a refusal of the noisiest job
//! does. One job's flood therefore can't push out what another job was refused.

use std::collections::VecDeque;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::Verdict;

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

    /// Queues an event; returns how many were dropped for it (0 or 1).
    pub fn push(&self, event: NetworkEvent) -> u64 {
        let mut inner = self.inner.lock();
        let full = inner.permits.len() + inner.refusals.len() >= self.capacity;
        if inner.closed || (full && !inner.make_room(&event)) {
            return 1;
        }
        // The consumer waits only when there is nothing: one wake-up a batch, not a system call an event.
        let was_empty = inner.permits.is_empty() && inner.refusals.is_empty();
        let serial = inner.next;
        inner.next += 1;
        if event.verdict == Verdict::Permit {
            inner.permits.push_back((serial, event));
        } else {
            *inner.by_job.entry(party(&event)).or_default() += 1;
            inner.refusals.push_back((serial, event));
        }
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
        u64::from(full)
    }

    /// Everything queued, oldest first, after waiting up to `patience` for something; false once closed.
    pub fn take(&self, patience: Duration) -> (Vec<NetworkEvent>, bool) {
        let mut inner = self.inner.lock();
        if inner.permits.is_empty() && inner.refusals.is_empty() && !inner.closed {
            self.filled.wait_for(&mut inner, patience);
        }
        inner.by_job.clear();
        let (permits, refusals) = (
            std::mem::take(&mut inner.permits),
            std::mem::take(&mut inner.refusals),
        );
        let open = !inner.closed;
        drop(inner);
        let mut all: Vec<_> = permits.into_iter().chain(refusals).collect();
        all.sort_unstable_by_key(|(serial, _)| *serial);
        (all.into_iter().map(|(_, event)| event).collect(), open)
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
    /// Drops what counts least in favour of `event`; false when that is `event` itself.
    fn make_room(&mut self, event: &NetworkEvent) -> bool {
        if self.permits.pop_front().is_some() {
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
        self.refusals.remove(at);
        if let Some(count) = self.by_job.get_mut(&noisiest) {
            *count = count.saturating_sub(1);
        }
        true
    }
}

/// Whose event it is: the job's, or the source's where there is no job.
pub(super) fn party(event: &NetworkEvent) -> CompactString {
    match &event.job {
        Some(job) => job.id.clone(),
        None => compact_str::format_compact!("{}", event.source),
    }
}
