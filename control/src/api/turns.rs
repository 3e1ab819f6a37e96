//! Turns at work that reads much of the record: some at once, some that wait, and who comes beyond them is told when to
//! come again.
//!
//! Owns that such work never takes more of the store than its share, however many ask for it. First come, first served;
//! who goes away while waiting leaves the line.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors;
use super::problem::{Code, Refused};

/// How much of a kind of work there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// What is done, in the plural.
    pub(super) what: &'static str,
    /// So many at once.
    pub(super) at_once: usize,
    /// So many that wait.
    pub(super) waiting: usize,
    /// Seconds after which who is sent away may come again.
    pub(super) again: u64,
}

/// One kind of work.
#[derive(Debug)]
pub(super) struct Turns {
    bounds: Bounds,
    /// Of those that work and those that wait.
    places: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// The right to work, while it lives. Work that goes on when nobody waits for it any more takes it along.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Turns {
    /// Nobody works yet.
    pub(super) fn of(bounds: Bounds) -> Self {
        Self {
            places: Arc::new(Semaphore::new(bounds.at_once + bounds.waiting)),
            working: Arc::new(Semaphore::new(bounds.at_once)),
            bounds,
        }
    }

    /// Waits for a turn. 503 when as many wait as may.
    pub(super) async fn take(&self) -> Result<Turn, Refused> {
        let Bounds {
            what,
            at_once,
            waiting,
            again,
        } = self.bounds;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let detail =
                format!("{at_once} {what} are being made and {waiting} wait, which is as many as may");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail).retry_after(again)
        })?;
        // Never closed.
        let turn = Arc::clone(&self.working).acquire_owned().await;
        Ok(Turn {
            _turn: turn.map_err(|_| errors::internal("no turn came"))?,
            _place: place,
        })
    }
}

#[cfg(test)]
mod tests;
