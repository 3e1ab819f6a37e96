//! A control plane of the tests' own, over memory or loopback, and what the client makes of all it can do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asking;
mod remote;
mod streams;
mod told;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Bytes, Frame as Piece, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tidegate_control_wire::frame::{Batch, Frame, Hello, Resume, ServedNetwork, write_line};
use tidegate_control_wire::mirror::Credentials;
use tidegate_control_wire::record::Change;
use tidegate_control_wire::{ACK_PATH, PROTOCOL, STREAM_PATH};
use tidegate_policy::effective::Generation;
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::client::{Client, QUEUE};
use super::connect::{ConnectError, Connected, Connector, Pending};
use super::state::{Control, LinkState};

/// Longer than any wait of the client; under a paused clock it costs nothing.
const LONG: Duration = Duration::from_mins(2);

/// A request as it came.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    authorization: Option<String>,
    body: Value,
}

/// What is answered to a request.
enum Answer {
    /// A stream whose bytes come from here; it ends when the other end is dropped.
    Stream(mpsc::Receiver<Bytes>),
    /// A status with a body.
    Whole(StatusCode, String),
    /// Nothing, ever.
    Never,
}

/// A control plane that answers what it is told to, in order; acknowledgements are taken unless it is told otherwise.
struct Plane {
    answers: Mutex<VecDeque<Answer>>,
    acks: Mutex<VecDeque<StatusCode>>,
    /// Connects that fail first.
    failures: Mutex<usize>,
    asked: mpsc::Sender<Asked>,
}

impl Plane {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        let asked = Asked {
            path: parts.uri.path().to_owned(),
            authorization: parts
                .headers
                .get("authorization")
                .map(|value| value.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let is_ack = asked.path == ACK_PATH;
        self.asked.send(asked).await.unwrap();
        let answer = if is_ack {
            let status = self.acks.lock().pop_front().unwrap_or(StatusCode::NO_CONTENT);
            Answer::Whole(status, String::new())
        } else {
            self.answers.lock().pop_front().unwrap_or(Answer::Never)
        };
        Ok(match answer {
            Answer::Never => std::future::pending().await,
            Answer::Whole(status, text) => {
                let mut response = Response::new(Full::new(Bytes::from(text)).boxed());
                *response.status_mut() = status;
                response
            }
            Answer::Stream(bytes) => {
                let pieces = stream::unfold(bytes, |mut bytes| async {
                    Some((Ok(Piece::data(bytes.recv().await?)), bytes))
                });
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
        })
    }

    /// Serves one connection until it ends.
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request| Arc::clone(&self).answer(request));
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        drop(served.await);
    }
}

/// Connects over memory.
struct InMemory(Arc<Plane>);

impl Connector for InMemory {
    fn origin(&self) -> &'static str {
        "http://control.test"
    }

    fn connect<'a>(
        &'a self,
        told: &'a (dyn Fn(Vec<IpAddr>) + Send + Sync),
    ) -> Pending<'a, Result<Connected, ConnectError>> {
        Box::pin(async move {
            told(vec!["192.0.2.7".parse().unwrap()]);
            {
                let mut failures = self.0.failures.lock();
                if *failures > 0 {
                    *failures -= 1;
                    return Err(ConnectError::InProcess(io::ErrorKind::ConnectionRefused.into()));
                }
            }
            let (near, far) = duplex(64 << 10);
            tokio::spawn(Arc::clone(&self.0).serve(far));
            Ok(Connected {
                stream: Box::new(near),
                token: Some("tgg_secret".into()),
            })
        })
    }
}

/// A client and the control plane that it follows.
struct Scene {
    plane: Arc<Plane>,
    control: Arc<Control>,
    batches: mpsc::Receiver<Batch>,
    asked: mpsc::Receiver<Asked>,
    /// What the gateway serves.
    networks: Arc<Mutex<Vec<ServedNetwork>>>,
    client: JoinHandle<()>,
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        gateway: "gw-1".into(),
        group: Some("zone-a".into()),
        version: "1".into(),
        networks: Vec::new(),
        resume: None,
    }
}

fn plane() -> (Arc<Plane>, mpsc::Receiver<Asked>) {
    let (asked, heard) = mpsc::channel(64);
    let plane = Plane {
        answers: Mutex::default(),
        acks: Mutex::default(),
        failures: Mutex::default(),
        asked,
    };
    (Arc::new(plane), heard)
}

impl Scene {
    /// A client that finds these answers.
    fn new(answers: Vec<Answer>) -> Self {
        Self::failing(0, answers)
    }

    /// A client whose first connects fail.
    fn failing(failures: usize, answers: Vec<Answer>) -> Self {
        let (plane, asked) = plane();
        *plane.failures.lock() = failures;
        plane.answers.lock().extend(answers);
        let connector = Arc::new(InMemory(Arc::clone(&plane)));
        Self::over(plane, asked, connector)
    }

    fn over(plane: Arc<Plane>, asked: mpsc::Receiver<Asked>, connector: Arc<dyn Connector>) -> Self {
        let (queue, batches) = mpsc::channel(QUEUE);
        let control = Arc::new(Control::new(true));
        let networks = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&networks);
        let introduces = move || Hello {
            networks: told.lock().clone(),
            ..hello()
        };
        let client = Client::new(Arc::clone(&control), connector, Box::new(introduces), queue);
        Self {
            plane,
            control,
            batches,
            asked,
            networks,
            client: tokio::spawn(client.run()),
        }
    }

    fn answers(&self, answer: Answer) {
        self.plane.answers.lock().push_back(answer);
    }

    /// The next request.
    async fn asked(&mut self) -> Asked {
        let asked = timeout(LONG, self.asked.recv()).await;
        asked
            .unwrap_or_else(|_| panic!("nothing was asked; the link is {:?}", self.link()))
            .unwrap()
    }

    /// The next request, which opens a stream.
    async fn hello(&mut self) -> Hello {
        let asked = self.asked().await;
        assert_eq!(asked.path, STREAM_PATH);
        serde_json::from_value(asked.body).unwrap()
    }

    async fn batch(&mut self) -> Batch {
        let batch = timeout(LONG, self.batches.recv()).await;
        batch
            .unwrap_or_else(|_| panic!("no batch came; the link is {:?}", self.link()))
            .unwrap()
    }

    fn link(&self) -> LinkState {
        self.control.link().borrow().clone()
    }

    /// Waits until the link is as `want` says; gives back its error.
    async fn link_is(&self, what: &str, want: impl Fn(&LinkState) -> bool) -> String {
        let mut link = self.control.link();
        let seen = timeout(LONG, link.wait_for(|state| want(state))).await;
        let Ok(state) = seen else {
            panic!("{what} was expected, the link is {:?}", self.link());
        };
        state.unwrap().error().unwrap_or_default().to_owned()
    }

    async fn away(&self) -> String {
        self.link_is("away", |state| {
            matches!(state, LinkState::Away { error: Some(_) })
        })
        .await
    }

    async fn refused(&self) -> String {
        self.link_is("refused", |state| matches!(state, LinkState::Refused { .. }))
            .await
    }

    async fn connected(&self) {
        self.link_is("connected", |state| *state == LinkState::Connected)
            .await;
    }

    /// As if everything up to here were in force.
    fn in_force(&self, epoch: &str, generation: u64) {
        let resume = Resume {
            epoch: epoch.into(),
            generation: Generation(generation),
        };
        self.control
            .in_force(Some(resume), &Arc::new(Credentials::default()));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.client.abort();
    }
}

/// The far end of a stream.
struct Line(mpsc::Sender<Bytes>);

fn line() -> (Line, Answer) {
    let (bytes, answer) = mpsc::channel(256);
    (Line(bytes), Answer::Stream(answer))
}

impl Line {
    async fn bytes(&self, bytes: impl Into<Bytes>) {
        // A client that is gone already does not matter to who speaks.
        drop(self.0.send(bytes.into()).await);
    }

    async fn say(&self, frame: &Frame) {
        self.bytes(write_line(frame)).await;
    }

    async fn begin(&self, epoch: &str, reset: bool) {
        self.say(&begin(epoch, reset)).await;
    }

    async fn commit(&self, generation: u64) {
        self.say(&commit(generation)).await;
    }
}

fn begin(epoch: &str, reset: bool) -> Frame {
    Frame::Begin {
        protocol: PROTOCOL,
        epoch: epoch.into(),
        reset,
    }
}

fn commit(generation: u64) -> Frame {
    Frame::Commit {
        generation: Generation(generation),
        at: at(generation),
    }
}

fn at(generation: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(generation).unwrap()).unwrap()
}

fn ping(generation: u64) -> Frame {
    Frame::Ping {
        generation: Generation(generation),
        at: at(generation),
        feed_checked_at: None,
    }
}

fn change(id: &str) -> Frame {
    Frame::Change(Change::PolicyGone { id: id.into() })
}
