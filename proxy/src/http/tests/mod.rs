//! Cleartext HTTP as a runner and its origins see it: real sockets in a namespace, scripted raw origins that
//! remember every byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod bounds;
mod change;
mod evasion;
mod h2;
mod keep_alive;
mod messages;
mod tunnels;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http1::body::BodyReader;
use crate::http1::head::{Asked, HeadProgress, ResponseFraming, ResponseReader};
use crate::testing::{Bench, PATIENCE, origin};

/// A policy with two allowed web sites.
pub(super) const POLICY: &str =
    "egress-policy: block\nplatform: none\nallowed-endpoints: a.test:80 b.test:80\n";

/// Two sites on addresses of their own, ticketed.
pub(super) fn two_sites() -> Bench {
    let bench = Bench::new(POLICY);
    bench.ticket("a.test", "192.0.2.10");
    bench.ticket("b.test", "192.0.2.20");
    bench
}

/// One site, ticketed.
pub(super) fn one_site() -> Bench {
    let bench = Bench::new(POLICY);
    bench.ticket("a.test", "192.0.2.10");
    bench
}

/// An origin that serves every connection by a script and remembers what it was sent.
#[derive(Clone, Default)]
pub(super) struct Origin {
    /// One entry a connection, in the order of their arrival.
    pub(super) heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Origin {
    /// Answers the nth request of any connection (a head without a body) with the nth answer, the last one
    /// again and again. The connection stays open until the client closes it.
    pub(super) async fn answering(address: &str, answers: &[&str]) -> Self {
        let (this, listener) = (Self::default(), origin(address).await);
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        let shared = this.clone();
        tokio::spawn(async move { shared.serve(listener, answers).await });
        this
    }

    async fn serve(self, listener: TcpListener, answers: Vec<String>) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let at = {
                let mut heard = self.heard.lock();
                heard.push(Vec::new());
                heard.len() - 1
            };
            let (this, answers) = (self.clone(), answers.clone());
            tokio::spawn(async move {
                let (mut answered, mut piece) = (0, [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut piece).await {
                    this.heard.lock()[at].extend_from_slice(&piece[..read]);
                    let asked = heads(&this.heard.lock()[at]);
                    while answered < asked {
                        let answer = answers.get(answered).or(answers.last()).unwrap();
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                        answered += 1;
                    }
                }
            });
        }
    }

    /// Everything that any connection heard.
    pub(super) fn text(&self) -> String {
        self.heard
            .lock()
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.heard.lock().len()
    }
}

fn heads(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|four| four == b"\r\n\r\n").count()
}

/// A response as a client reads it.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

/// A client that reads responses one by one.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(bench: &Bench, original: &str) -> Self {
        Self {
            stream: bench.connect(original).await,
            buffer: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        self.response(Asked::Other).await
    }

    /// The next response, final or not.
    pub(super) async fn response(&mut self, asked: Asked) -> Response {
        let read = tokio::time::timeout(PATIENCE, self.read_response(asked)).await;
        read.unwrap_or_else(|_| panic!("no response after {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    async fn read_response(&mut self, asked: Asked) -> Response {
        let mut reader = ResponseReader::new(asked);
        let head = loop {
            match reader.advance(&self.buffer) {
                HeadProgress::Done(head) => break head,
                HeadProgress::Refused(error) => {
                    panic!("{error:?} {:?}", String::from_utf8_lossy(&self.buffer))
                }
                HeadProgress::NeedMore => {
                    assert!(self.more().await, "closed within a head: {:?}", self.buffer);
                }
            }
        };
        let mut written = Vec::new();
        head.forward(&mut written);
        let headers = String::from_utf8(written).unwrap();
        let headers = headers.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        self.buffer.drain(..head.consumed);
        let (mut body, mut out) = (BodyReader::for_response(head.framing), Vec::new());
        while !body.is_done() && head.framing != ResponseFraming::Tunnel {
            let advance = body.advance(&self.buffer, &mut out).unwrap();
            self.buffer.drain(..advance.consumed);
            if !advance.done && !self.more().await {
                break;
            }
        }
        Response {
            status: head.status,
            headers,
            body: String::from_utf8(out).unwrap(),
        }
    }

    async fn more(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.unwrap() > 0
    }

    /// Waits for the other side's end in order; what came before it is returned.
    pub(super) async fn end(&mut self) -> String {
        let rest = crate::testing::read_all(&mut self.stream).await.unwrap();
        self.buffer.extend_from_slice(&rest);
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }
}
