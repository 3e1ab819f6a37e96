//! Events on their way to the store: batches, as gateways deliver them.
//!
//! Owns how many are taken in at once: two of a gateway (one a lane), eight in all, first come, first served. A gateway
//! that floods waits for itself; registrations have a line of writers of their own. Reading JSON is done away from
//! the workers that serve the streams. Never decides what is stored already: the store does.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_control_wire::batch::{BatchStored, Lane, MAX_BATCH_BYTES};
use tokio::sync::Semaphore;

use super::SyncState;
use super::auth::{Caller, problem, unavailable};
use super::lines::{self, Batch, BatchError};
use crate::body::{self, BodyError};
use crate::store::StoreError;

/// Batches in memory at once, each up to some 30 MiB when read.
const AT_ONCE: usize = 8;
/// Batches of one gateway at once: one a lane.
const OF_ONE: usize = Lane::ALL.len();
/// How long the body of a batch may take.
const READ: Duration = Duration::from_secs(15);
/// Seconds that a gateway is asked to wait.
const COME_AGAIN: u64 = 1;

/// Who is delivering.
#[derive(Debug)]
pub(super) struct Intake {
    room: Semaphore,
    gateways: Mutex<HashMap<CompactString, usize>>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            room: Semaphore::new(AT_ONCE),
            gateways: Mutex::default(),
        }
    }
}

/// One of a gateway's places; leaving is dropping it.
struct Place {
    intake: Arc<Intake>,
    gateway: CompactString,
}

impl Intake {
    /// A place for a batch of this gateway, when one is free.
    fn place(self: &Arc<Self>, gateway: &str) -> Option<Place> {
        let mut gateways = self.gateways.lock();
        let taken = gateways.entry(gateway.into()).or_default();
        if *taken >= OF_ONE {
            return None;
        }
        *taken += 1;
        Some(Place {
            intake: Arc::clone(self),
            gateway: gateway.into(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut gateways = self.intake.gateways.lock();
        if let Some(taken) = gateways.get_mut(&self.gateway) {
            *taken -= 1;
            if *taken == 0 {
                gateways.remove(&self.gateway);
            }
        }
    }
}

/// `POST /sync/v1/events`.
pub(super) async fn deliver(State(state): State<SyncState>, caller: Caller, request: Request) -> Response {
    let Some(place) = state.intake.place(&caller.name) else {
        return later("this gateway delivers a batch of each lane already");
    };
    // The body waits at its sender until it is this batch's turn.
    let Ok(room) = state.intake.room.acquire().await else {
        return unavailable(&StoreError::Closed);
    };
    let batch = match take_in(request, caller.name.clone()).await {
        Ok(batch) => batch,
        Err(refused) => return refused,
    };
    let answer = store(&state, &caller.name, batch).await;
    drop((place, room));
    answer
}

/// Reads a batch.
async fn take_in(request: Request, gateway: String) -> Result<Batch, Response> {
    let body = match tokio::time::timeout(READ, body::read(request, MAX_BATCH_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(BodyError::TooLarge)) => {
            let detail = format!("a batch has at most {} MiB", MAX_BATCH_BYTES >> 20);
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &detail));
        }
        Ok(Err(BodyError::CutOff)) => {
            return Err(problem(StatusCode::BAD_REQUEST, "syntax", "the body was cut off"));
        }
        Err(_) => {
            let detail = format!("the body took longer than {} s", READ.as_secs());
            return Err(problem(StatusCode::REQUEST_TIMEOUT, "timeout", &detail));
        }
    };
    let read = tokio::task::spawn_blocking(move || lines::read(&body, &gateway)).await;
    read.map_err(|_| unavailable(&StoreError::Closed))?
        .map_err(|error| {
            let (status, code) = match &error {
                BatchError::Protocol(_) => (StatusCode::CONFLICT, "protocol"),
                BatchError::Head(_) => (StatusCode::BAD_REQUEST, "syntax"),
                BatchError::Entries => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            };
            problem(status, code, &error.to_string())
        })
}

async fn store(state: &SyncState, gateway: &str, batch: Batch) -> Response {
    let (spool, lane) = (batch.head.spool.clone(), batch.head.lane);
    match state.store.ingest(gateway, batch.head, batch.entries).await {
        Ok(stored) => {
            let refused = stored.refused + batch.unnumbered;
            if let Some(why) = batch.why {
                // Once a batch, however many they are.
                tracing::warn!(gateway, %spool, lane = lane.as_str(), refused, why, "entries of a batch are refused");
            }
            Json(BatchStored { refused, ..stored }).into_response()
        }
        Err(StoreError::Busy) => later("the store has more to do than it can; come again"),
        Err(error @ StoreError::Invalid { .. }) => {
            problem(StatusCode::BAD_REQUEST, "invalid", &error.to_string())
        }
        // Said to be for ever, or one entry would stop its lane: the gateway finds the entry, and drops it.
        Err(error) if error.is_of_data() => {
            tracing::error!(gateway, %spool, lane = lane.as_str(), error = error.chain(), "a batch can't be stored");
            problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &error.to_string())
        }
        Err(error) => unavailable(&error),
    }
}

/// 429.
fn later(detail: &str) -> Response {
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, "busy", detail);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(COME_AGAIN));
    response
}

#[cfg(test)]
mod tests;
