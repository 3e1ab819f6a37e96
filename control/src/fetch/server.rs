//! A server on loopback for the tests of what is fetched.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a request asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) target: String,
    /// `If-None-Match`.
    pub(crate) known: Option<String>,
}

type Answer = dyn Fn(&Asked) -> Response<Body> + Send + Sync;

/// Runs until it is dropped.
pub(crate) struct Server {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// Everything that was asked for.
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn new(answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(answer)).await
    }

    pub(crate) async fn tls(
        acceptor: TlsAcceptor,
        answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(acceptor), Arc::new(answer)).await
    }

    async fn start(tls: Option<TlsAcceptor>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match &tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let seen = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen, answer) = (tls.clone(), seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request: Request<_>| {
                        let asked = read(&request);
                        seen.lock().push(asked.clone());
                        let answer = answer(&asked);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let builder = Builder::new(TokioExecutor::new());
                    // A client that goes away is no fault of the test.
                    let _ = match tls {
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else {
                                return;
                            };
                            builder.serve_connection(TokioIo::new(stream), service).await
                        }
                        None => builder.serve_connection(TokioIo::new(stream), service).await,
                    };
                });
            }
        });
        Self { url, asked, task }
    }

    /// Targets in the order in which they were asked for.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.asked.lock().iter().map(|one| one.target.clone()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(request: &Request<hyper::body::Incoming>) -> Asked {
    let known = request.headers().get("if-none-match");
    Asked {
        target: request.uri().path_and_query().unwrap().to_string(),
        known: known.map(|etag| etag.to_str().unwrap().to_owned()),
    }
}

/// An answer with a status and a body.
pub(crate) fn answer(status: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).unwrap()
}

/// Another place to look at.
pub(crate) fn moved(to: &str) -> Response<Body> {
    Response::builder()
        .status(302)
        .header("location", to)
        .body(Body::empty())
        .unwrap()
}
