//! How others have workers tell what they count: a list of sources for each worker, and a bell.
//!
//! Owns what was asked for and what was done of it; never an event ([`super::Worker`] closes windows). Nobody waits on a lock:
//! each is held for a few stores. Asked by `gateway`, before it says how often a job did something.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// Sources that a worker is asked about at once; past this it is asked about all of them.
const MAX_SOURCES: usize = 1_024;

/// Whose windows a worker is to close.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    These(Vec<IpAddr>),
    All,
}

/// One worker's.
#[derive(Debug)]
pub(crate) struct Seat {
    asked: Mutex<Whose>,
    /// Number of the last request.
    serial: AtomicU64,
    bell: Notify,
    /// Number of the last request that was served.
    done: watch::Sender<u64>,
}

impl Seat {
    fn new() -> Self {
        Self {
            asked: Mutex::new(Whose::These(Vec::new())),
            serial: AtomicU64::new(0),
            bell: Notify::new(),
            done: watch::Sender::new(0),
        }
    }

    /// Comes back when something is asked for.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn ask(&self, sources: &[IpAddr]) -> u64 {
        let mut asked = self.asked.lock();
        if let Whose::These(known) = &mut *asked {
            if known.len() + sources.len() > MAX_SOURCES {
                *asked = Whose::All;
            } else {
                known.extend_from_slice(sources);
            }
        }
        // Under the lock: whoever takes what is asked for takes it all.
        self.serial.fetch_add(1, Ordering::Release) + 1
    }

    /// What is asked for since the request of this number, with the number of the last.
    pub(super) fn take(&self, since: u64) -> Option<(Whose, u64)> {
        if self.serial.load(Ordering::Acquire) == since {
            return None;
        }
        let mut asked = self.asked.lock();
        let whose = std::mem::replace(&mut *asked, Whose::These(Vec::new()));
        Some((whose, self.serial.load(Ordering::Acquire)))
    }

    /// Says that it is done.
    pub(super) fn done(&self, serial: u64) {
        self.done.send_replace(serial);
    }
}

/// Those of all workers.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<Vec<Arc<Seat>>>);

impl Seats {
    /// One more worker.
    pub(super) fn add(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat::new());
        self.0.lock().push(Arc::clone(&seat));
        seat
    }

    /// A worker that ends; it has told all.
    pub(super) fn remove(&self, seat: &Arc<Seat>) {
        self.0.lock().retain(|one| !Arc::ptr_eq(one, seat));
        seat.done(u64::MAX);
    }

    /// Asks every worker to close the windows of these sources now. What comes back waits until each has, and need not be
    /// waited for.
    pub(crate) fn close(&self, sources: &[IpAddr]) -> impl Future<Output = ()> + Send + use<> {
        let asked: Vec<(u64, Arc<Seat>)> = self
            .0
            .lock()
            .iter()
            .map(|seat| (seat.ask(sources), Arc::clone(seat)))
            .collect();
        for (_, seat) in &asked {
            seat.bell.notify_one();
        }
        async move {
            for (serial, seat) in asked {
                let mut done = seat.done.subscribe();
                // The sender stands as long as the seat does.
                drop(done.wait_for(|done| *done >= serial).await);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_bound_all_windows_are_closed() {
        let seats = Seats::default();
        let seat = seats.add();
        let source = IpAddr::from([10, 0, 0, 1]);
        drop(seats.close(&[source]));
        assert_eq!(seat.take(0), Some((Whose::These(vec![source]), 1)));
        assert_eq!(seat.take(1), None);
        for _ in 0..MAX_SOURCES {
            drop(seats.close(&[source]));
        }
        assert!(matches!(seat.take(1), Some((Whose::These(all), _)) if all.len() == MAX_SOURCES));
        drop(seats.close(&vec![source; MAX_SOURCES + 1]));
        assert!(matches!(seat.take(1), Some((Whose::All, _))));
        seats.remove(&seat);
        assert!(seats.0.lock().is_empty());
    }
}
