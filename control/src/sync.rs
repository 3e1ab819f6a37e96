//! The gateways' side of the control plane: the stream of changes, what gateways have put in force, leases and
//! events on their way to the store.
//!
//! Owns the endpoints below `/sync/v1` and the [`Hub`] that knows which gateways are connected here. It never decides
//! who a source belongs to beyond what only the store can know; gateways ask their lease tables first.

mod auth;
mod events;
mod hub;
mod leases;
mod lines;
mod news;
mod stream;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use tidegate_control_wire::frame::UnknownKey;
use tidegate_control_wire::{ACK_PATH, EVENTS_PATH, LEASES_PATH, STREAM_PATH, UNKNOWN_KEY_PATH};

pub use auth::InProcess;
pub use hub::{Hub, RegisterError};

use crate::oidc::Handle;
use crate::store::Store;

/// Largest request of a gateway: an ack with every lease refused.
const MAX_BODY: usize = 4 << 20;

/// What the endpoints share.
#[derive(Clone)]
pub struct SyncState {
    store: Store,
    hub: Hub,
    news: news::News,
    keys: Handle,
    wrong: Arc<auth::Wrong>,
    intake: Arc<events::Intake>,
}

impl SyncState {
    /// The endpoints' side of a store: who is connected, and the issuers whose keys are followed. To be called on a
    /// runtime.
    pub fn new(store: Store, hub: Hub, keys: Handle) -> Self {
        Self {
            news: news::News::follow(store.clone()),
            store,
            hub,
            keys,
            wrong: Arc::default(),
            intake: Arc::default(),
        }
    }
}

/// The endpoints of the gateways. Requests carry the address of their sender as `ConnectInfo<SocketAddr>`; without it, all
/// share one allowance for wrong tokens.
pub fn router(state: SyncState) -> Router {
    Router::new()
        .route(STREAM_PATH, post(stream::open))
        .route(ACK_PATH, post(stream::ack))
        .route(EVENTS_PATH, post(events::deliver))
        .route(LEASES_PATH, post(leases::claim))
        .route(&format!("{LEASES_PATH}/{{id}}/end"), post(leases::end))
        .route(UNKNOWN_KEY_PATH, post(unknown_key))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

/// `POST /sync/v1/unknown-key`: a job's token names a key that nobody heard of yet, so the issuer is asked again, once a
/// minute at most. The gateway hears of new keys by its stream.
async fn unknown_key(
    State(state): State<SyncState>,
    _caller: auth::Caller,
    Json(said): Json<UnknownKey>,
) -> StatusCode {
    if state.keys.unknown_key(&said.issuer) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::NOT_FOUND
    }
}

#[cfg(test)]
mod tests;
