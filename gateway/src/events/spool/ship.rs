//! Shipping: what is spooled, to the control plane, over the connection that syncs.
//!
//! Owns when a batch is sent and what its answer means. A lane has one batch on its way at a time; refusals go first. A
//! batch without an answer is sent again, and the store knows by its numbers what it has. A batch that is refused as it
//! is gets smaller, down to one entry, which is then dropped and counted: nothing blocks a lane for ever, and nothing
//! more than has to be is lost. Every wait has an end. Started by [`crate::appliance`].

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use thiserror::Error;
use tidegate_control_wire::batch::{BatchStored, Lane, MAX_ENTRIES};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::{Batch, SYNC, Spool};
use crate::parts::random;
use crate::sync::{Backoff, Pending};

/// Pause while little waits, so that a trickle of events is not a request each.
const GATHER: Duration = Duration::from_millis(40);
/// Entries that are worth a batch at once.
const WORTH: u64 = 512;
/// How long permits wait for refusals to be gone at most; then a batch of them goes all the same.
const YIELD: Duration = Duration::from_millis(250);
/// Without a word that there is something, it is looked after this.
const LOOK: Duration = Duration::from_secs(5);
/// How long the last try at the end of the process may take.
const LAST: Duration = Duration::from_secs(1);

/// Why a batch was not stored.
#[derive(Debug, Error)]
pub(crate) enum ShipError {
    /// It can't be said whether it arrived, or it is not the time: it is sent again.
    #[error("{0}")]
    Later(String),
    /// It is refused as it is, and would be again.
    #[error("{0}")]
    Refused(String),
}

/// The way to the control plane.
pub(crate) trait Carrier: Send + Sync {
    /// Waits until something can be sent.
    fn reachable(&self) -> Pending<'_, ()>;

    /// Sends a batch; answers within bounded time.
    fn ship(&self, batch: Bytes) -> Pending<'_, Result<BatchStored, ShipError>>;
}

/// What ships a spool.
#[derive(Clone)]
pub(crate) struct Shipper {
    spool: Arc<Spool>,
    carrier: Arc<dyn Carrier>,
}

/// How a lane's last batch went.
enum Went {
    /// There was none.
    Empty,
    /// It is stored, and so many entries of the lane are not yet.
    Stored(u64),
    /// Not stored; a smaller one may be.
    Again,
    /// Not stored.
    Later,
}

/// What a lane remembers between two batches.
struct Pace {
    lane: Lane,
    /// Entries of the next batch at most.
    most: u64,
    backoff: Backoff,
}

impl Pace {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            most: MAX_ENTRIES as u64,
            backoff: Backoff::new(),
        }
    }
}

impl Shipper {
    /// Ships over `carrier`.
    pub(crate) fn new(spool: Arc<Spool>, carrier: Arc<dyn Carrier>) -> Self {
        Self { spool, carrier }
    }

    /// Starts shipping both lanes, and bringing to the disk what is spooled.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>) {
        for lane in Lane::ALL {
            let shipper = self.clone();
            tasks.spawn(async move { shipper.run(lane).await });
        }
        let shipper = self.clone();
        tasks.spawn(async move { shipper.keep().await });
    }

    /// One last try, after the spool was closed and [`Self::start`]'s tasks have ended.
    pub(crate) async fn finish(&self) {
        let last = async {
            for lane in Lane::ALL {
                let mut pace = Pace::new(lane);
                while let Went::Stored(_) | Went::Again = self.once(&mut pace).await {}
            }
        };
        if timeout(LAST, last).await.is_err() {
            tracing::info!("the control plane took not all events in time; the others are spooled");
        }
        let spool = Arc::clone(&self.spool);
        self.blocking(move || spool.finish()).await;
    }

    async fn keep(self) {
        loop {
            sleep(SYNC).await;
            let spool = Arc::clone(&self.spool);
            self.blocking(move || spool.keep()).await;
        }
    }

    async fn run(self, lane: Lane) {
        let mut pace = Pace::new(lane);
        loop {
            self.carrier.reachable().await;
            if lane == Lane::Permits {
                self.yield_to_refusals().await;
            }
            match self.once(&mut pace).await {
                // Late is no error: it is the time to look again.
                Went::Empty => drop(timeout(LOOK, self.spool.filled(lane)).await),
                Went::Stored(left) if left < WORTH => sleep(GATHER).await,
                Went::Stored(_) | Went::Again => {}
                Went::Later => sleep(pace.backoff.pause(random())).await,
            }
        }
    }

    /// Refusals go first, but a flood of them does not hold permits back for ever.
    async fn yield_to_refusals(&self) {
        let gone = async {
            while self.spool.has_refusals() {
                sleep(GATHER / 4).await;
            }
        };
        drop(timeout(YIELD, gone).await);
    }

    async fn once(&self, pace: &mut Pace) -> Went {
        let (lane, most, spool) = (pace.lane, pace.most, Arc::clone(&self.spool));
        let Some(Some(batch)) = self.blocking(move || spool.next(lane, most)).await else {
            return Went::Empty;
        };
        let answer = self.carrier.ship(batch.body.clone()).await;
        match answer {
            // A store that says to have less than what it was sent is sent it again, but not at once.
            Ok(answer) if answer.stored < batch.first => {
                let (stored, first) = (answer.stored, batch.first);
                let error =
                    format!("the control plane says to have stored up to {stored} what begins at {first}");
                self.later(lane, error).await
            }
            Ok(answer) => self.stored(pace, batch, answer).await,
            Err(ShipError::Later(error)) => self.later(lane, error).await,
            Err(ShipError::Refused(error)) if batch.entries > 1 => {
                tracing::warn!(
                    lane = lane.as_str(),
                    entries = batch.entries,
                    error,
                    "a batch of events is refused; a smaller one is tried"
                );
                pace.most = batch.entries / 2;
                let spool = Arc::clone(&self.spool);
                self.blocking(move || spool.failed(lane)).await;
                Went::Again
            }
            Err(ShipError::Refused(error)) => {
                tracing::error!(
                    lane = lane.as_str(),
                    seq = batch.last,
                    error,
                    "an event is refused by the control plane, and dropped"
                );
                let spool = Arc::clone(&self.spool);
                self.blocking(move || spool.skip(lane, &batch)).await;
                self.spool.set_ship_error(Some(error));
                Went::Later
            }
        }
    }

    async fn stored(&self, pace: &mut Pace, batch: Batch, answer: BatchStored) -> Went {
        let lane = pace.lane;
        if answer.refused > 0 {
            tracing::error!(
                lane = lane.as_str(),
                refused = answer.refused,
                "the control plane stored not all events of a batch, and never will"
            );
        }
        pace.most = (pace.most * 2).min(MAX_ENTRIES as u64);
        pace.backoff = Backoff::new();
        let spool = Arc::clone(&self.spool);
        let left = self.blocking(move || spool.stored(lane, (&batch, answer.stored, answer.refused)));
        let left = left.await.unwrap_or_default();
        self.spool.set_ship_error(None);
        Went::Stored(left)
    }

    async fn later(&self, lane: Lane, error: String) -> Went {
        tracing::debug!(lane = lane.as_str(), error, "events could not be shipped");
        let spool = Arc::clone(&self.spool);
        self.blocking(move || {
            spool.failed(lane);
            spool.pause(lane);
        })
        .await;
        self.spool.set_ship_error(Some(error));
        Went::Later
    }

    /// Files are for other threads. `None` when that work panicked: it is tried again.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        spawn_blocking(work)
            .await
            .inspect_err(|error| tracing::error!(%error, "work on the event spool failed"))
            .ok()
    }
}

#[cfg(test)]
mod tests;
