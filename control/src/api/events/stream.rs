//! Following events: server-sent events (WHATWG HTML §9.2), numbered as they are stored.
//!
//! Owns that nothing is lost or repeated over a reconnect: an event's id is its number in the store, and a client that
//! comes back with the last one it saw gets what was stored behind it. Nothing is kept for a client: what it has not taken
//! is read from the store when it takes it, so one that is slow is behind and costs nothing. How many streams there are is
//! bounded, in all and for each token.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_policy::effective::Generation;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Told;
use super::asked::FollowedEvents;
use super::licence::{FRESH, Licence};
use crate::api::auth::Caller;
use crate::api::errors;
use crate::api::extract::Params;
use crate::api::problem::{Code, Refused};
use crate::api::state::ApiState;
use crate::store::{EventFilter, StoreError, StoredEvent};

/// Streams at once.
const MAX_STREAMS: usize = 256;
/// Streams of one token at once.
const MAX_OF_TOKEN: usize = 16;
/// Events of one look at the store.
const LOOK: u32 = 100;
/// Between two looks at the store, where somebody writes all the time.
const PACE: Duration = Duration::from_millis(100);
/// Between two signs of life: also how soon an idle stream sees that its token was revoked.
const PING: Duration = FRESH;
/// When a client that was cut off comes again.
const RETRY_MS: u32 = 1_000;
/// What the client saw last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies not to hold events back.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Streams that there are, by token.
#[derive(Debug, Default)]
pub(in crate::api) struct Streams(Mutex<HashMap<String, usize>>);

/// A stream's place among them.
struct Seat {
    streams: Arc<Streams>,
    token: String,
}

impl Streams {
    fn sit(self: &Arc<Self>, token: &str) -> Result<Seat, Refused> {
        let mut taken = self.0.lock();
        if taken.values().sum::<usize>() >= MAX_STREAMS {
            let detail =
                format!("{MAX_STREAMS} streams of events are open, which is as many as there may be");
            let refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail);
            return Err(refused.retry_after(PING.as_secs()));
        }
        let own = taken.entry(token.to_owned()).or_default();
        if *own >= MAX_OF_TOKEN {
            let detail = format!("this token has {MAX_OF_TOKEN} streams of events open, as many as it may");
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, detail);
            return Err(refused.retry_after(PING.as_secs()));
        }
        *own += 1;
        Ok(Seat {
            streams: Arc::clone(self),
            token: token.to_owned(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.streams.0.lock();
        if let Some(own) = taken.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

/// Network events as they are stored, as server-sent events.
///
/// Each has its number as `id`, the type `network-event`, and the event as JSON. A stream begins behind `Last-Event-ID`,
/// else behind `after`, else now, and goes on until the client ends it, its token is revoked or the control plane stops;
/// a client that comes again with the last id misses nothing and sees nothing twice. Every few seconds a comment shows
/// that it is alive, with an id that moves on though nothing matched.
#[utoipa::path(get, path = "/events/stream", tag = "events",
    params(FollowedEvents, ("Last-Event-ID" = Option<u64>, Header, description = "the last id of an earlier stream")),
    responses((status = 200, content((String = "text/event-stream")))))]
pub(in crate::api) async fn stream_events(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Params(which): Params<FollowedEvents>,
) -> Result<Response, Refused> {
    let filter = which.filter(&caller)?;
    let seat = state.streams.sit(&caller.token.id)?;
    let news = state.store.events_news();
    let newest = state.store.newest_event().await.map_err(errors::of_query)?;
    let said = last_seen(&headers)?.or(which.after);
    // A number that is not there yet is of a store that was put back to an earlier state; its next events are new.
    let at = said.map_or(newest, |said| said.min(newest));
    let mut pings = tokio::time::interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut feed = Feed {
        licence: Licence::of(&state, &caller),
        state,
        filter,
        at,
        news,
        pings,
        again: None,
        _seat: seat,
    };
    // What is wrong with the question is said before anything else is.
    let first = feed.look().await.map_err(errors::of_query)?;
    let opening = Bytes::from(format!("retry: {RETRY_MS}\nid: {at}\n\n"));
    let body = unfold(
        (feed, vec![first.unwrap_or_default(), opening]),
        |(mut feed, mut ready)| async move {
            let chunk = match ready.pop().filter(|chunk| !chunk.is_empty()) {
                Some(chunk) => chunk,
                None => feed.next().await?,
            };
            Some((Ok::<_, Infallible>(chunk), (feed, ready)))
        },
    );
    let headers = [(CONTENT_TYPE, "text/event-stream"), (UNBUFFERED, "no")];
    Ok((headers, Body::from_stream(body)).into_response())
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let Some(value) = headers.get(&LAST_EVENT_ID) else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wrong = || {
        Refused::bad(
            "Last-Event-ID",
            "Last-Event-ID: an id of a stream of events is a number",
        )
    };
    number.ok_or_else(wrong).map(Some)
}

/// What feeds one client.
struct Feed {
    state: ApiState,
    licence: Licence,
    filter: EventFilter,
    /// Everything up to this number was looked at.
    at: u64,
    news: watch::Receiver<Generation>,
    pings: Interval,
    /// When the store may be looked at again.
    again: Option<Instant>,
    _seat: Seat,
}

impl Feed {
    /// The next bytes for the client; nothing at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.licence.is_good().await {
                return None;
            }
            match self.look().await {
                Ok(Some(chunk)) => return Some(chunk),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = error.chain(), "a stream of events ended");
                    return None;
                }
            }
            tokio::select! {
                biased;
                () = self.state.closing.cancelled() => return None,
                _ = self.pings.tick() => {
                    // A revocation is seen before it is said that all is well.
                    if !self.licence.is_good().await {
                        return None;
                    }
                    return Some(format!(": alive\nid: {}\n\n", self.at).into());
                }
                () = news(&mut self.news, self.again) => {}
            }
        }
    }

    /// Looks at the store once. Nothing when nothing was stored that the client may see.
    async fn look(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.news.borrow_and_update();
        let tail = self.state.store.events_after(&self.filter, self.at, LOOK).await?;
        self.at = tail.upto;
        // Behind a client that is far behind, nothing is waited for.
        self.again = (!tail.more).then(|| Instant::now() + PACE);
        if tail.more {
            self.news.mark_changed();
            if tail.items.is_empty() {
                return Ok(Some(format!("id: {}\n\n", self.at).into()));
            }
        }
        Ok(Some(written(&tail.items)).filter(|chunk| !chunk.is_empty()))
    }
}

/// Waits until something was stored, and until the store may be looked at again.
async fn news(news: &mut watch::Receiver<Generation>, again: Option<Instant>) {
    if let Some(again) = again {
        tokio::time::sleep_until(again).await;
    }
    if news.changed().await.is_err() {
        // The store is being closed; so will be the stream.
        std::future::pending::<()>().await;
    }
}

fn written(items: &[StoredEvent]) -> Bytes {
    let mut chunk = String::with_capacity(items.len() * 1_024);
    for stored in items {
        // JSON has no raw line feeds, and plain data with text keys always serializes.
        let json = serde_json::to_string(&Told::from(&stored.event)).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(
            chunk,
            "id: {}\nevent: network-event\ndata: {json}\n\n",
            stored.seq
        );
    }
    chunk.into()
}
