//! A small HTTP/1 server for the gateway's own pages: metrics over TCP, status over a Unix socket.
//!
//! Serves GET only, one handler a listener, bounded connections. Never reachable from runner networks:
//! the input hook drops what is not theirs.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Connections served at once by one listener; further ones wait in the backlog.
const MAX_CONNECTIONS: usize = 32;
/// A connection that asks nothing ends after this.
const IDLE: Duration = Duration::from_secs(15);
/// Largest answer that [`get`] reads.
const MAX_ANSWER: usize = 64 << 20;

/// What a handler answers: status, content type, body.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Page {
    /// A JSON page.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            body: value.to_string(),
        }
    }

    /// The text format of Prometheus.
    pub(crate) fn text(body: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body,
        }
    }

    /// A plain error.
    pub(crate) fn error(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{text}\n"),
        }
    }
}

/// Answers a path with its query string.
pub(crate) type Handler = Arc<dyn Fn(&str, &str) -> Page + Send + Sync>;

/// Serves a TCP listener until the task is dropped.
pub(crate) async fn serve_tcp(listener: TcpListener, handler: Handler) {
    serve(
        |cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream),
        handler,
    )
    .await;
}

/// Serves a Unix listener until the task is dropped.
pub(crate) async fn serve_unix(listener: UnixListener, handler: Handler) {
    serve(
        |cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream),
        handler,
    )
    .await;
}

async fn serve<S>(accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>, handler: Handler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match poll_fn(&accept).await {
            Ok(stream) => {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    serve_one(stream, handler).await;
                    drop(permit);
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// Out of descriptors or memory: trying again at once would only burn the processor.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "can't accept on an own page's listener");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn serve_one<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, handler: Handler) {
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let uri = request.uri();
            let page = if request.method() == Method::GET {
                handler(uri.path(), uri.query().unwrap_or_default())
            } else {
                Page::error(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here")
            };
            let mut response = Response::new(Full::new(Bytes::from(page.body)));
            *response.status_mut() = page.status;
            let content_type = hyper::header::HeaderValue::from_static(page.content_type);
            response
                .headers_mut()
                .insert(hyper::header::CONTENT_TYPE, content_type);
            Ok::<_, Infallible>(response)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an own page's connection ended early");
    }
}

/// Asks the page `path` of the gateway that listens on a Unix socket.
pub(crate) async fn get(socket: &Path, path: &str) -> io::Result<(StatusCode, String)> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, "gateway")
        .body(Full::new(Bytes::new()))
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(io::Error::other)?;
    driver.abort();
    String::from_utf8(body.to_bytes().into())
        .map(|text| (status, text))
        .map_err(io::Error::other)
}
