//! What is to be acknowledged: up to where changes are in force, and which leases were not.
//!
//! One acknowledgement waits at a time: a newer one takes the older one's refused leases along.

use parking_lot::Mutex;
use tidegate_control_wire::frame::{Ack, RefusedLease};
use tidegate_policy::effective::Generation;
use tokio::sync::Notify;

/// Refused leases that are told in one acknowledgement at most; the rest is only in the log.
pub(super) const MAX_REFUSED: usize = 1_000;

/// The acknowledgement that waits.
#[derive(Default)]
pub(super) struct Acks {
    waiting: Mutex<Option<Ack>>,
    ready: Notify,
}

impl Acks {
    /// Has an acknowledgement sent; one that still waits goes with it.
    pub(super) fn add(&self, generation: Generation, refused: Vec<RefusedLease>) {
        {
            let mut waiting = self.waiting.lock();
            let mut all = waiting.take().map(|ack| ack.refused).unwrap_or_default();
            all.extend(refused);
            all.truncate(MAX_REFUSED);
            *waiting = Some(Ack {
                generation,
                refused: all,
            });
        }
        self.ready.notify_one();
    }

    /// Waits for what is to be acknowledged.
    pub(super) async fn next(&self) -> Ack {
        loop {
            if let Some(ack) = self.waiting.lock().take() {
                return ack;
            }
            self.ready.notified().await;
        }
    }

    /// An acknowledgement could not be sent; it goes with the next one.
    pub(super) fn unsent(&self, ack: Ack) {
        let mut waiting = self.waiting.lock();
        match &mut *waiting {
            None => *waiting = Some(ack),
            Some(newer) => {
                newer.refused.extend(ack.refused);
                newer.refused.truncate(MAX_REFUSED);
            }
        }
        self.ready.notify_one();
    }
}
