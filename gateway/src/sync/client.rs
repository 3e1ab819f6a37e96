//! The connection to the control plane: made, read, lost, made again.
//!
//! Owns what is said over it: who this gateway is, the stream of changes, acknowledgements. Batches go to
//! [`super::force`] over a short queue; while it is full nothing more is read, so a gateway that is slow to compile holds
//! control back instead of its memory filling. What was in force stays in force whatever happens here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tidegate_control_wire::frame::{Assembler, Batch, Frame, FrameError, Hello, PING_SECONDS, read_line};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::calls::{CallError, Calls};
use super::connect::{ConnectError, Connected, Connector};
use super::lines::{LineTooLong, Lines};
use super::state::{Control, LinkState};
use crate::appliance::chain;
use crate::parts::random;

/// Batches between the connection and what puts them in force.
pub(crate) const QUEUE: usize = 16;
/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// A stream on which nothing comes for this long is dead.
const SILENCE: Duration = Duration::from_secs(3 * PING_SECONDS);
/// Pause before an acknowledgement that failed is sent again.
const ACK_AGAIN: Duration = Duration::from_secs(1);
/// Flow control windows, in bytes: a snapshot should not wait for a round trip every 64 KiB.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// Why a connection ended, or was not made.
#[derive(Debug, Error)]
enum Lost {
    /// No way there.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Connecting took too long.
    #[error("connecting took longer than {} s", CONNECT.as_secs())]
    Slow,
    /// The other end speaks no HTTP/2, or the connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// A token that no header can carry.
    #[error("the token can't be sent")]
    Token(#[from] InvalidHeaderValue),
    /// The stream was not granted.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing came.
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    /// The stream ended.
    #[error("the control plane ended the stream")]
    Ended,
    /// A line without end.
    #[error(transparent)]
    Line(#[from] LineTooLong),
    /// The stream breaks its own rules.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Changes of a store of which nothing is held.
    #[error("the stream goes on from another store's history")]
    Foreign,
    /// What is held is not to be gone on from.
    #[error("everything has to be sent anew")]
    Forgotten,
    /// What was told of this gateway is no longer so.
    #[error("a default policy became another, and is told anew")]
    Retold,
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopping,
}

impl Lost {
    /// How it is shown: away passes, a refusal needs somebody to do something.
    fn state(&self) -> LinkState {
        let refuses = match self {
            Self::Connect(ConnectError::TokenFile { .. } | ConnectError::Token { .. }) => true,
            Self::Connect(
                ConnectError::Resolve { .. }
                | ConnectError::Dial { .. }
                | ConnectError::Tls { .. }
                | ConnectError::InProcess(_),
            ) => false,
            Self::Call(CallError::Status { status, .. }) => {
                status.is_client_error()
                    && *status != StatusCode::REQUEST_TIMEOUT
                    && *status != StatusCode::TOO_MANY_REQUESTS
            }
            Self::Frame(FrameError::Protocol { .. }) | Self::Token(_) => true,
            Self::Frame(FrameError::Line(_) | FrameError::Order | FrameError::TooLong)
            | Self::Call(
                CallError::Broken(_) | CallError::Silent | CallError::Answer(_) | CallError::Body(_),
            )
            | Self::Slow
            | Self::Broken(_)
            | Self::Silent
            | Self::Ended
            | Self::Line(_)
            | Self::Foreign
            | Self::Forgotten
            | Self::Retold
            | Self::Stopping => false,
        };
        let error = chain(self);
        if refuses {
            LinkState::Refused { error }
        } else {
            LinkState::Away { error: Some(error) }
        }
    }
}

/// Says who a gateway is at this moment; never waits.
pub(crate) type Introduces = Box<dyn Fn() -> Hello + Send + Sync>;

/// Follows the control plane for as long as the gateway runs.
pub(crate) struct Client {
    control: Arc<Control>,
    connector: Arc<dyn Connector>,
    /// Who this gateway is now; where it goes on from is filled in at each connect.
    hello: Introduces,
    /// To what puts them in force.
    batches: mpsc::Sender<Batch>,
}

impl Client {
    /// A client that says `hello` and hands batches on to `batches`.
    pub(crate) fn new(
        control: Arc<Control>,
        connector: Arc<dyn Connector>,
        hello: Introduces,
        batches: mpsc::Sender<Batch>,
    ) -> Self {
        Self {
            control,
            connector,
            hello,
            batches,
        }
    }

    /// Never ends by itself, but when nobody puts batches in force any more.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new();
        loop {
            let Err(lost) = self.session(&mut backoff).await;
            let state = lost.state();
            let (origin, error) = (self.connector.origin(), chain(&lost));
            let refused = matches!(state, LinkState::Refused { .. });
            let news = self.control.lost(state);
            if !news {
                tracing::debug!(origin, error, "the control plane was tried again");
            } else if refused {
                tracing::error!(origin, error, "the control plane gives this gateway nothing");
            } else {
                tracing::warn!(origin, error, "the control plane is away");
            }
            if matches!(lost, Lost::Stopping) {
                return;
            }
            sleep(backoff.pause(random())).await;
        }
    }

    /// One connection, until it is lost.
    async fn session(&self, backoff: &mut Backoff) -> Result<Infallible, Lost> {
        let told = |addresses| self.control.set_addresses(addresses);
        let connected = timeout(CONNECT, self.connector.connect(&told)).await;
        let Connected { stream, token } = connected.map_err(|_| Lost::Slow)??;
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream));
        let made = timeout(CONNECT, handshake).await.map_err(|_| Lost::Slow)?;
        let (sender, connection) = made.map_err(Lost::Broken)?;
        // Dropped with this call, and the connection with it.
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the control plane ended");
            }
        });
        let calls = Calls::new(sender, self.connector.origin(), bearer(token)?);
        let hello = Hello {
            resume: self.control.resume(),
            ..(self.hello)()
        };
        let body = calls.stream(&hello).await?;
        tokio::select! {
            lost = self.follow(body, &calls, (&hello, backoff)) => lost,
            never = self.acknowledge(&calls) => match never {},
            () = self.control.forgotten() => Err(Lost::Forgotten),
        }
    }

    /// Reads the stream.
    async fn follow(
        &self,
        mut body: Incoming,
        calls: &Calls,
        (hello, backoff): (&Hello, &mut Backoff),
    ) -> Result<Infallible, Lost> {
        let held = hello.resume.as_ref().map(|resume| &resume.epoch);
        let (mut lines, mut assembler) = (Lines::default(), Assembler::default());
        loop {
            while let Some(line) = lines.take()? {
                let frame = read_line(line)?;
                if let Frame::Begin {
                    epoch, reset: false, ..
                } = &frame
                    && held != Some(epoch)
                {
                    return Err(Lost::Foreign);
                }
                self.look(&frame, calls, backoff);
                if matches!(frame, Frame::Ping { .. }) && (self.hello)().networks != hello.networks {
                    return Err(Lost::Retold);
                }
                if let Some(batch) = assembler.take(frame)? {
                    self.batches.send(batch).await.map_err(|_| Lost::Stopping)?;
                }
            }
            let came = timeout(SILENCE, body.frame()).await;
            let Some(frame) = came.map_err(|_| Lost::Silent)? else {
                return Err(Lost::Ended);
            };
            if let Some(bytes) = frame.map_err(Lost::Broken)?.data_ref() {
                lines.push(bytes);
            }
        }
    }

    /// What a frame says beside its changes.
    fn look(&self, frame: &Frame, calls: &Calls, backoff: &mut Backoff) {
        match frame {
            Frame::Begin { protocol, reset, .. } if *protocol == tidegate_control_wire::PROTOCOL => {
                self.control.connected(calls.clone());
                tracing::info!(
                    origin = self.connector.origin(),
                    reset,
                    "the control plane is connected"
                );
            }
            Frame::Begin { .. } | Frame::Change(_) => {}
            Frame::Commit { at, .. } => {
                *backoff = Backoff::new();
                self.control.heard(*at, None);
            }
            Frame::Ping {
                at, feed_checked_at, ..
            } => {
                *backoff = Backoff::new();
                self.control.heard(*at, *feed_checked_at);
            }
        }
    }

    /// Says what was put in force, as it happens.
    async fn acknowledge(&self, calls: &Calls) -> Infallible {
        loop {
            let ack = self.control.acks().next().await;
            if let Err(error) = calls.ack(&ack).await {
                tracing::debug!(error = chain(&error), "an acknowledgement could not be sent");
                self.control.acks().unsent(ack);
                sleep(ACK_AGAIN).await;
            }
        }
    }
}

fn bearer(token: Option<String>) -> Result<Option<HeaderValue>, InvalidHeaderValue> {
    let Some(token) = token else { return Ok(None) };
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
