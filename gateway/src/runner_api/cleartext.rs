//! `http://tidegate.internal/why/NAME`: the one page of the runner API that is served without TLS.
//!
//! Owns its listeners on port 80, beside those of the runner API, and their bounds. Whoever types the name into a shell
//! or a browser gets an answer; nothing that takes a credential or changes anything is served here, and no body is
//! read. It leads nowhere else: it is no proxy, and does not redirect.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Counter, counter};
use tidegate_dns::front::{Limit, Slot};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::listener::{self, ServeError};
use super::pages::{Page, RunnerApi};
use super::why::Format;
use crate::config::RunnerApiConfig;
use crate::listen::{self, ListenError};

/// The port of `http://` (RFC 9110 §4.2.1).
const PORT: u16 = 80;
/// Connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 256;
/// Connections of one address at once.
const MAX_A_SOURCE: usize = 8;
/// For the head of the request.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// For the request and its answer. A connection serves one.
const LIFETIME: Duration = Duration::from_secs(20);
/// Longest head, in bytes; the least that the server takes.
const MAX_HEAD: usize = 8 << 10;
/// Wait after an error of the listener itself.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Where it is served: on every address of the runner API, where that has not taken the port itself.
pub(crate) fn addresses(config: &RunnerApiConfig) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for listen in &config.listen {
        let address = SocketAddr::new(listen.ip(), PORT);
        if !config.listen.contains(&address) && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// The open listeners.
pub(crate) struct Cleartext(Vec<StdListener>);

impl Cleartext {
    /// Opens every address.
    pub(crate) fn open(config: &RunnerApiConfig) -> Result<Self, ListenError> {
        let opened = addresses(config).into_iter().map(listen::runner_api);
        opened.collect::<Result<_, _>>().map(Self)
    }

    /// Serves every listener on the present runtime.
    pub(crate) fn serve(self, api: &Arc<RunnerApi>, tasks: &mut JoinSet<()>) -> Result<(), ServeError> {
        let door = Arc::new(Door {
            api: Arc::clone(api),
            room: Limit::new(MAX_CONNECTIONS, MAX_A_SOURCE),
            closed: counter!("tidegate_runner_api_connections_refused_total"),
        });
        for listener in self.0 {
            tasks.spawn(Arc::clone(&door).accept(TcpListener::from_std(listener)?));
        }
        Ok(())
    }
}

struct Door {
    api: Arc<RunnerApi>,
    room: Arc<Limit>,
    closed: Counter,
}

impl Door {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer.ip().to_canonical()),
                Err(error) => {
                    tracing::warn!(%error, "the page without TLS can't accept connections");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, source: IpAddr) {
        let slot = self.api.serves(source).then(|| self.room.take(source)).flatten();
        let Some(slot) = slot else {
            self.closed.increment(1);
            return;
        };
        tokio::spawn(Arc::clone(self).serve(stream, source, slot));
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, source: IpAddr, _slot: Slot) {
        let service = service_fn(|request| {
            let api = Arc::clone(&self.api);
            async move { Ok::<_, Infallible>(respond(&api, source, &request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = timeout(LIFETIME, served).await {
            tracing::debug!(%source, %error, "a connection to the page without TLS ended early");
        }
    }
}

async fn respond(api: &RunnerApi, source: IpAddr, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let asks = request.method() == Method::GET || request.method() == Method::HEAD;
    // A target with an authority asks for a proxy (RFC 9112 §3.2.2).
    let here = request.uri().authority().is_none();
    let page = if asks && here {
        api.told(source, request.uri().path(), request.headers()).await
    } else {
        None
    };
    listener::response(Ok(page.unwrap_or_else(elsewhere)))
}

fn elsewhere() -> Page {
    Page {
        status: StatusCode::NOT_FOUND,
        content_type: Format::Plain.content_type(),
        body: "Without TLS there is only GET /why/NAME[:PORT][/PROTO]. Everything else is served by https.\n"
            .into(),
    }
}

#[cfg(test)]
mod tests;
