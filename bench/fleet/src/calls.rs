//! What a simulated gateway asks, over one HTTP/2 connection: the windows, the patience and the spelling of the real
//! gateway's client (`gateway/src/sync`).
//!
//! Owns requests and how long their answers may take. Never decides what a failure means.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use tidegate_control_wire::claim::{Claim, End, Granted};
use tidegate_control_wire::frame::{Ack, Hello};
use tidegate_control_wire::{ACK_PATH, EVENTS_PATH, LEASES_PATH, STREAM_PATH};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an answer may take, as in the gateway.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same until the stream begins.
const STREAM_PATIENCE: Duration = Duration::from_secs(15);
/// The same until a batch of events is stored.
const SHIP_PATIENCE: Duration = Duration::from_secs(15);
/// The same for what a person asks.
const API_PATIENCE: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Flow control windows of the gateway.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// A connection on which requests can be made. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Calls {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
    bearer: String,
}

impl Calls {
    /// Connects. The connection lives as long as the set of tasks that is given back.
    pub async fn open(address: SocketAddr, token: &str) -> Result<(Self, JoinSet<()>)> {
        let opened = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let made = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(stream))
                .await?;
            anyhow::Ok(made)
        };
        let (sender, connection) = timeout(CONNECT, opened).await.context("connecting is slow")??;
        let mut driver = JoinSet::new();
        // Its end is seen by whoever asks next.
        driver.spawn(async move { drop(connection.await) });
        let calls = Self {
            sender,
            origin: format!("http://{address}"),
            bearer: format!("Bearer {token}"),
        };
        Ok((calls, driver))
    }

    /// Opens the stream of changes.
    pub async fn stream(&self, hello: &Hello) -> Result<Incoming> {
        let body = serde_json::to_vec(hello)?;
        let opened = timeout(STREAM_PATIENCE, self.send(Method::POST, STREAM_PATH, body)).await;
        Ok(opened.context("no stream in time")??.into_body())
    }

    /// Says what is in force.
    pub async fn ack(&self, ack: &Ack) -> Result<()> {
        self.ask(ACK_PATH, serde_json::to_vec(ack)?, PATIENCE)
            .await
            .map(drop)
    }

    /// Has a lease recorded.
    pub async fn claim(&self, claim: &Claim) -> Result<Granted> {
        let answer = self
            .ask(LEASES_PATH, serde_json::to_vec(claim)?, PATIENCE)
            .await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Has the end of a lease recorded.
    pub async fn end(&self, id: &str, end: &End) -> Result<()> {
        let path = format!("{LEASES_PATH}/{id}/end");
        self.ask(&path, serde_json::to_vec(end)?, PATIENCE)
            .await
            .map(drop)
    }

    /// Delivers a batch of events; the answer as it is.
    pub async fn ship(&self, batch: Vec<u8>) -> Result<Bytes> {
        self.ask(EVENTS_PATH, batch, SHIP_PATIENCE).await
    }

    /// Asks the API, as a person's or a program's token may.
    pub async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let asked = async {
            let answer = self.send(method, path, body).await?;
            let answer = answer.into_body().collect().await?.to_bytes();
            Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
        };
        timeout(API_PATIENCE, asked)
            .await
            .with_context(|| format!("{path}: no answer in time"))?
    }

    async fn ask(&self, path: &str, body: Vec<u8>, patience: Duration) -> Result<Bytes> {
        let asked = async {
            let answer = self.send(Method::POST, path, body).await?;
            Ok(answer.into_body().collect().await?.to_bytes())
        };
        timeout(patience, asked)
            .await
            .with_context(|| format!("{path}: no answer in time"))?
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<hyper::Response<Incoming>> {
        let whatever_it_is = (method == Method::PUT).then_some((IF_MATCH, "*"));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, &self.bearer)
            .body(Full::new(body.into()))?;
        if let Some((header, value)) = whatever_it_is {
            request.headers_mut().insert(header, value.parse()?);
        }
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if !status.is_success() {
            let said = answer.into_body().collect().await?.to_bytes();
            bail!("{path}: {status} {}", String::from_utf8_lossy(&said));
        }
        Ok(answer)
    }
}
