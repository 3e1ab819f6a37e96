//! The stream of changes: one task a connected gateway, from its position on, as long as it listens.
//!
//! A batch is everything from one look at the store, its own or that of [`super::news`] for everybody: the gateway puts it
//! in force as one. What concerns only other gateways is not said at all; with the next ping the position moves on. A gateway that reads slowly
//! is waited for, line by line; nothing piles up here but [`LINES`].

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Ack, Frame, Hello, PING_SECONDS, write_line};
use tidegate_policy::effective::Generation;
use tokio::sync::{mpsc, watch};

use super::SyncState;
use super::auth::{Caller, problem, unavailable};
use super::hub::{Hub, Presence};
use super::news::{Listener, Step};
use crate::store::{Since, StoreError};

/// Lines that wait for a slow gateway.
const LINES: usize = 256;
/// Changes in one look at the store.
const LOOK: u32 = 2_000;

/// `POST /sync/v1/stream`.
pub(super) async fn open(
    State(state): State<SyncState>,
    caller: Caller,
    Json(hello): Json<Hello>,
) -> Response {
    if hello.protocol != PROTOCOL {
        let detail = format!(
            "gateway {} speaks protocol {}, control speaks {PROTOCOL}: update the older one",
            hello.gateway, hello.protocol
        );
        return problem(StatusCode::CONFLICT, "protocol", &detail);
    }
    if hello.gateway.is_empty() || caller.name != hello.gateway {
        let detail = format!(
            "this token is not gateway {:?}'s; a gateway's token has the gateway's name",
            hello.gateway
        );
        return problem(StatusCode::FORBIDDEN, "forbidden", &detail);
    }
    let epoch = match state.store.epoch().await {
        // What a gateway holds is of its group, too: in another one it begins anew.
        Ok(epoch) => format!("{epoch}/{}", Hub::group_of(&hello)),
        Err(error) => return unavailable(&error),
    };
    let resumed = hello.resume.as_ref().filter(|resume| resume.epoch == epoch);
    let from = resumed.map(|resume| resume.generation);
    if let Err(error) = state
        .store
        .gateway_seen(&hello, &Hub::group_of(&hello), from.unwrap_or_default())
        .await
    {
        return unavailable(&error);
    }
    // A position of another store says nothing of what is in force.
    let seat = state.hub.join(&hello, from.unwrap_or_default());
    let (lines, waiting) = mpsc::channel::<Bytes>(LINES);
    let feeder = Feeder {
        state,
        caller,
        group: Hub::group_of(&hello).to_string(),
        lines,
    };
    tokio::spawn(feeder.run(hello, epoch, from, seat));
    let body = stream::unfold(waiting, |mut waiting| async move {
        let line = waiting.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), waiting))
    });
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("cache-control", "no-store"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// `POST /sync/v1/ack`.
pub(super) async fn ack(State(state): State<SyncState>, caller: Caller, Json(ack): Json<Ack>) -> Response {
    state.hub.acknowledge(&caller.name, ack);
    StatusCode::NO_CONTENT.into_response()
}

/// What feeds one gateway.
struct Feeder {
    state: SyncState,
    caller: Caller,
    group: String,
    lines: mpsc::Sender<Bytes>,
}

/// The gateway is gone, or may not be served any more.
struct Over;

impl Feeder {
    async fn run(
        self,
        hello: Hello,
        epoch: String,
        from: Option<Generation>,
        (presence, mut seat): (Presence, watch::Receiver<Generation>),
    ) {
        tracing::info!(gateway = %hello.gateway, from = from.map(|one| one.0), "a gateway is connected");
        let fed = tokio::select! {
            fed = self.feed(&hello, epoch, from) => fed,
            // One stream a gateway: however often it comes, it costs the store what one does.
            () = taken(&mut seat) => {
                tracing::info!(gateway = %hello.gateway, "the gateway has come again; its older stream ends");
                Err(Over.into())
            }
        };
        match fed {
            Ok(()) | Err(StreamEnd::Over(Over)) => {
                tracing::info!(gateway = %hello.gateway, "a gateway is gone");
            }
            Err(StreamEnd::Store(error)) => {
                tracing::error!(gateway = %hello.gateway, error = error.chain(), "a gateway's stream ended");
            }
        }
        drop(presence);
    }

    async fn feed(&self, hello: &Hello, epoch: String, from: Option<Generation>) -> Result<(), StreamEnd> {
        // Before the first look: what happens after it is heard.
        let mut news = self.state.news.listen(&self.group);
        let mut from = from;
        // A position that the store does not know how to continue from begins anew.
        if let Some(held) = from
            && matches!(
                self.state.store.changes_since(held, &self.group, 1).await?,
                Since::TooOld
            )
        {
            from = None;
        }
        self.say(&Frame::Begin {
            protocol: PROTOCOL,
            epoch,
            reset: from.is_none(),
        })
        .await?;
        let mut at = match from {
            Some(held) => held,
            None => self.snapshot().await?,
        };
        at = self.catch_up(at).await?;
        let mut pings = tokio::time::interval(Duration::from_secs(PING_SECONDS));
        loop {
            tokio::select! {
                biased;
                changed = news.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    at = self.tell(at, &mut news).await?.0;
                }
                _ = pings.tick() => {
                    let (told, seen) = self.tell(at, &mut news).await?;
                    if seen > told {
                        self.commit(seen).await?;
                    }
                    at = seen;
                    self.ping(hello, at).await?;
                }
                () = self.lines.closed() => return Err(Over.into()),
            }
        }
    }

    /// What is new for this gateway. Gives back up to where it was told, and up to where nothing else concerns it.
    async fn tell(&self, at: Generation, news: &mut Listener) -> Result<(Generation, Generation), StreamEnd> {
        match news.after(at) {
            Step::Nothing(seen) => Ok((at, seen)),
            Step::Look => {
                let at = self.catch_up(at).await?;
                Ok((at, at))
            }
            Step::Send(deltas) => {
                let mut at = at;
                for delta in deltas {
                    at = delta.upto;
                    self.send(delta.lines.clone()).await?;
                }
                Ok((at, at))
            }
        }
    }

    /// Everything there is, as one batch.
    async fn snapshot(&self) -> Result<Generation, StreamEnd> {
        let (changes, mut listed) = mpsc::channel(LINES);
        let (store, group) = (self.state.store.clone(), self.group.clone());
        let reading = tokio::spawn(async move { store.snapshot(&group, changes).await });
        while let Some(change) = listed.recv().await {
            self.say(&Frame::Change(change)).await?;
        }
        let generation = reading.await.map_err(|_| StoreError::Closed)??;
        self.commit(generation).await?;
        Ok(generation)
    }

    /// What happened since, as one batch.
    async fn catch_up(&self, from: Generation) -> Result<Generation, StreamEnd> {
        let mut at = from;
        loop {
            match self.state.store.changes_since(at, &self.group, LOOK).await? {
                // Cut off in the middle: the gateway comes again and gets a snapshot.
                Since::TooOld => return Err(Over.into()),
                Since::Page(page) => {
                    for change in page.changes {
                        self.say(&Frame::Change(change)).await?;
                    }
                    at = page.upto;
                    if !page.more {
                        break;
                    }
                }
            }
        }
        if at > from {
            self.commit(at).await?;
        }
        Ok(at)
    }

    async fn commit(&self, generation: Generation) -> Result<(), StreamEnd> {
        self.say(&Frame::Commit {
            generation,
            at: Timestamp::now(),
        })
        .await
    }

    /// Says that control is there, and looks whether the gateway may still listen.
    async fn ping(&self, hello: &Hello, at: Generation) -> Result<(), StreamEnd> {
        if !self.caller.is_good(&self.state.store).await? {
            tracing::warn!(gateway = %hello.gateway, "the gateway's token is not good any more");
            return Err(Over.into());
        }
        self.state.store.gateway_alive(&hello.gateway, at).await?;
        let frame = Frame::Ping {
            generation: at,
            at: Timestamp::now(),
            feed_checked_at: self.state.store.feed_checked_at().await?,
        };
        self.say(&frame).await
    }

    async fn say(&self, frame: &Frame) -> Result<(), StreamEnd> {
        self.send(Bytes::from(write_line(frame))).await
    }

    async fn send(&self, lines: Bytes) -> Result<(), StreamEnd> {
        self.lines.send(lines).await.map_err(|_| Over.into())
    }
}

/// Waits until another connection of the gateway has its seat.
async fn taken(seat: &mut watch::Receiver<Generation>) {
    while seat.changed().await.is_ok() {}
}

/// Why a stream ends.
enum StreamEnd {
    Over(Over),
    Store(StoreError),
}

impl From<Over> for StreamEnd {
    fn from(over: Over) -> Self {
        Self::Over(over)
    }
}

impl From<StoreError> for StreamEnd {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
