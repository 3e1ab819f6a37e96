//! How the consumer of a queue sleeps, and what wakes it.
//!
//! A system call to wake somebody costs more than an event does, so producers make one only for a consumer that waits for
//! its first event. One that naps between batches is woken by who can't wait for it: a queue that fills, or somebody who
//! asks for what was queued until now. Owns that state; knows no events.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// At work: it looks at the queue before it sleeps again.
const AWAKE: u8 = 0;
/// Gathering a batch.
const NAPPING: u8 = 1;
/// Waiting for anything at all.
const ASLEEP: u8 = 2;

/// Wakes one consumer.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: AtomicU8,
    /// Somebody waits for what the consumer does next: it takes no further nap before.
    hurry: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// Something was queued: wakes who waits for it. To be called behind a sequentially consistent write that
    /// [`Bell::sleep`]'s `ready` reads; then either it is seen there, or the sleeper is seen here.
    pub(super) fn something(&self) {
        if self.state.load(Ordering::SeqCst) == ASLEEP {
            self.ring();
        }
    }

    /// The consumer is wanted now: ends its nap, or the one that it would take next.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::SeqCst);
        if self.state.load(Ordering::SeqCst) != AWAKE {
            self.ring();
        }
    }

    /// The consumer waits for something, at most that long, unless it is `ready`.
    pub(super) fn sleep(&self, patience: Duration, ready: impl Fn() -> bool) {
        self.wait(ASLEEP, patience, ready);
    }

    /// The consumer lets events gather, unless it was asked to hurry since the last time.
    pub(super) fn nap(&self, long: Duration) {
        self.wait(NAPPING, long, || self.hurry.load(Ordering::SeqCst));
        self.hurry.store(false, Ordering::SeqCst);
    }

    fn ring(&self) {
        // Of many who want to, one does.
        if self.state.swap(AWAKE, Ordering::SeqCst) != AWAKE {
            // Whoever goes to sleep holds this until it can hear.
            drop(self.lock.lock());
            self.rung.notify_one();
        }
    }

    fn wait(&self, state: u8, patience: Duration, ready: impl Fn() -> bool) {
        let mut guard = self.lock.lock();
        self.state.store(state, Ordering::SeqCst);
        if !ready() {
            let waits = |(): &mut ()| self.state.load(Ordering::SeqCst) != AWAKE;
            self.rung.wait_while_for(&mut guard, waits, patience);
        }
        self.state.store(AWAKE, Ordering::SeqCst);
    }
}
