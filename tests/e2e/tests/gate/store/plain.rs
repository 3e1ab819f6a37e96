//! Owns a client of a control plane in the clear that keeps its connection and outlives its server: for thousands of
//! requests, and for tests in which the server dies.
//!
//! It connects anew after each loss and tells what became of a request: answered, refused for want of a store, or cut
//! off. It follows and repeats nothing.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate_lab::Answer;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an answer may take: control itself says within five seconds that its database is away.
const ANSWER: Duration = Duration::from_secs(30);

/// A request of which nobody knows whether it was carried out.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// There was no connection to send it on: it was not carried out.
    Unsent,
    /// The connection broke before the answer was whole.
    Cut,
    /// A problem document that says to come again: the store is away.
    Away,
}

/// A client of one control plane with one token.
pub(super) struct Client {
    address: SocketAddr,
    token: String,
    open: Option<(SendRequest<Full<Bytes>>, JoinSet<()>)>,
}

impl Client {
    /// A client that shows `token`; it connects when it is asked something.
    pub(super) fn new(address: SocketAddr, token: String) -> Self {
        Self {
            address,
            token,
            open: None,
        }
    }

    /// Asks, with a JSON body or none.
    pub(super) async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Unanswered> {
        self.ask((method, path), None, body).await
    }

    /// Asks for a change of one version and no other.
    pub(super) async fn put(&mut self, path: &str, version: u32, body: &Value) -> Result<Answer, Unanswered> {
        let version = format!("\"{version}\"");
        self.ask(("PUT", path), Some(&version), Some(body)).await
    }

    async fn ask(
        &mut self,
        what: (&str, &str),
        if_match: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, Unanswered> {
        let asked = async {
            let response = self.send(what, if_match, body).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Unanswered::Cut)?.to_bytes();
            Ok(Answer {
                request: format!("{} {}", what.0, what.1),
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        let answer = tokio::time::timeout(ANSWER, asked).await;
        match answer.unwrap_or_else(|_| panic!("{what:?} was not answered within {ANSWER:?}")) {
            Ok(answer) if answer.status == 503 => {
                away(&answer);
                Err(Unanswered::Away)
            }
            Ok(answer) => Ok(answer),
            Err(unanswered) => {
                self.open = None;
                Err(unanswered)
            }
        }
    }

    /// The answer with a body that goes on, on a connection of its own: whatever was open is closed.
    pub(super) async fn stream(&mut self, path: &str, body: &Value) -> Result<Incoming, Unanswered> {
        self.open = None;
        let response = self.send(("POST", path), None, Some(body)).await?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            503 => Err(Unanswered::Away),
            other => panic!("the stream was answered {other}"),
        }
    }

    async fn send(
        &mut self,
        (method, path): (&str, &str),
        if_match: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(version) = if_match {
            request = request.header("if-match", version);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => connect(self.address).await.ok_or(Unanswered::Unsent)?,
        };
        if open.0.ready().await.is_err() {
            open = connect(self.address).await.ok_or(Unanswered::Unsent)?;
        }
        let open = &mut self.open.insert(open).0;
        open.send_request(request).await.map_err(|_| Unanswered::Cut)
    }
}

async fn connect(address: SocketAddr) -> Option<(SendRequest<Full<Bytes>>, JoinSet<()>)> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (open, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    Some((open, driver))
}

/// What a program is told while the store is away (RFC 9457).
fn away(answer: &Answer) {
    let problem = answer.json();
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer}"
    );
    assert_eq!(problem["status"], json!(503), "{answer}");
    let code = problem["code"].as_str().unwrap_or_default();
    assert!(["unavailable", "busy", "timeout"].contains(&code), "{answer}");
    assert!(
        problem["detail"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
}
