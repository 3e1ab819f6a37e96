//! The runner API over TLS: HTTP/1.1 and HTTP/2 on the gateway's own runner-facing addresses.
//!
//! Owns sockets, connections and their bounds. It stamps each request with the address that its connection came from, and
//! closes connections from elsewhere than a runner network before they cost a handshake. One certificate, whatever name a
//! client asks for.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use metrics::{Counter, counter};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use tidegate_dns::front::{Limit, Slot};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::pages::{Answer, Ask, RunnerApi};
use super::problem::{Code, PROBLEM_JSON, Problem};
use super::why;
use crate::config::RunnerApiConfig;
use crate::intercept::NetworkPlan;
use crate::listen::{self, ListenError};
use crate::parts::{PartsError, certificates};

/// Connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 1_024;
/// Connections of one address at once.
const MAX_A_SOURCE: usize = 16;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 16;
/// For a TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the body of a request.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// The life of a connection: it is asked to end, then closed.
const LIFETIME: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(15);
/// Wait after an error of the listener itself.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// Longest body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// What is still read of a longer one, and thrown away: a client that is cut off while it writes never reads why.
const MAX_DRAINED: usize = 8 << 20;
/// Longest head, in bytes: an OIDC token of 16 KiB stands in it.
const MAX_HEAD: usize = 32 << 10;

/// A runner API that can't be served as configured.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Certificate or key can't be read.
    #[error("gateway.runner-api.tls")]
    Pem(#[from] PartsError),
    /// Certificate and key don't go together.
    #[error("gateway.runner-api.tls: certificate and key can't be used")]
    Identity(#[from] rustls::Error),
    /// The address is not one of the gateway's runner-facing ones.
    #[error(
        "gateway.runner-api.listen: {address} is not an address of this gateway on a runner network; those are {own}"
    )]
    Foreign {
        /// The address.
        address: IpAddr,
        /// Those that could be written.
        own: String,
    },
    /// Encrypted DNS stands there.
    #[error(
        "gateway.runner-api.listen: {0} is taken by encrypted DNS (gateway.dns.tls); choose another port"
    )]
    Taken(SocketAddr),
    /// A listener can't be opened.
    #[error("can't serve the runner API")]
    Listen(#[from] ListenError),
    /// A listener can't be served.
    #[error("can't serve the runner API")]
    System(#[from] std::io::Error),
}

/// Open listeners with the certificate that they serve with.
pub(crate) struct Listeners {
    listeners: Vec<StdListener>,
    tls: Arc<ServerConfig>,
}

impl Listeners {
    /// Opens every configured address. `taken` are those of encrypted DNS.
    pub(crate) fn open(
        config: &RunnerApiConfig,
        networks: &[NetworkPlan],
        taken: &[SocketAddr],
    ) -> Result<Self, ServeError> {
        let tls = server_config(config)?;
        let own = || networks.iter().flat_map(|network| network.addresses.iter());
        let mut listeners = Vec::new();
        for address in &config.listen {
            if !own().any(|one| *one == address.ip()) {
                let own: Vec<String> = own().map(IpAddr::to_string).collect();
                return Err(ServeError::Foreign {
                    address: address.ip(),
                    own: own.join(", "),
                });
            }
            if taken.contains(address) {
                return Err(ServeError::Taken(*address));
            }
            listeners.push(listen::runner_api(*address)?);
        }
        Ok(Self { listeners, tls })
    }

    /// Serves every listener on the present runtime.
    pub(crate) fn serve(self, api: &Arc<RunnerApi>, tasks: &mut JoinSet<()>) -> Result<(), ServeError> {
        let door = Arc::new(Door {
            api: Arc::clone(api),
            tls: TlsAcceptor::from(self.tls),
            room: Limit::new(MAX_CONNECTIONS, MAX_A_SOURCE),
            closed: counter!("tidegate_runner_api_connections_refused_total"),
        });
        for listener in self.listeners {
            tasks.spawn(Arc::clone(&door).accept(TcpListener::from_std(listener)?));
        }
        Ok(())
    }
}

fn server_config(config: &RunnerApiConfig) -> Result<Arc<ServerConfig>, ServeError> {
    let unreadable = |source| PartsError::Pem {
        file: PathBuf::clone(&config.key),
        source,
    };
    let chain = certificates(&config.cert)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(unreadable)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut tls = builder.with_no_client_auth().with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// What all connections share.
struct Door {
    api: Arc<RunnerApi>,
    tls: TlsAcceptor,
    room: Arc<Limit>,
    closed: Counter,
}

impl Door {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer.ip().to_canonical()),
                Err(error) => {
                    tracing::warn!(%error, "the runner API can't accept connections");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, source: IpAddr) {
        let slot = self.api.serves(source).then(|| self.room.take(source)).flatten();
        let Some(slot) = slot else {
            self.closed.increment(1);
            tracing::debug!(%source, "a connection to the runner API is closed at once");
            return;
        };
        tokio::spawn(Arc::clone(self).serve(stream, source, slot));
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, source: IpAddr, _slot: Slot) {
        let handshake = timeout(PATIENCE, self.tls.accept(stream)).await;
        let Ok(Ok(stream)) = handshake else {
            tracing::debug!(%source, "a TLS handshake with the runner API did not come about");
            return;
        };
        let service = service_fn(|request| {
            let api = Arc::clone(&self.api);
            async move { Ok::<_, Infallible>(respond(&api, source, request).await) }
        });
        let builder = builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Ok(ended),
            () = sleep(LIFETIME) => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await
            }
        };
        if let Ok(Err(error)) = ended {
            tracing::debug!(%source, error, "a connection to the runner API ended early");
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

async fn respond(api: &Arc<RunnerApi>, source: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let bare = head.method == Method::HEAD;
    let answer = match read(body).await {
        Err(problem) => Err(problem),
        Ok(body) => {
            api.answer(Ask {
                source,
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body,
            })
            .await
        }
    };
    let mut response = response(answer);
    if bare {
        // A body after HEAD breaks the stream in HTTP/2 (RFC 9110 §9.3.2).
        *response.body_mut() = Full::default();
    }
    response
}

async fn read(mut body: Incoming) -> Result<Bytes, Problem> {
    let deadline = Instant::now() + BODY_PATIENCE;
    match timeout_at(deadline, Limited::new(&mut body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            // A deadline that passes here changes nothing: it was too large already.
            drop(timeout_at(deadline, drain(&mut body)).await);
            let detail = format!("at most {MAX_BODY} bytes are read");
            Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::TooLarge,
                detail,
            ))
        }
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            Code::Syntax,
            "the body broke off",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::Timeout,
            "the body did not come in time",
        )),
    }
}

/// Reads on to the end of a body, or until [`MAX_DRAINED`] bytes have come.
async fn drain(body: &mut Incoming) {
    let mut rest = Limited::new(body, MAX_DRAINED);
    while let Some(Ok(_)) = rest.frame().await {}
}

/// An answer with its headers. Browsers run nothing of it, and take it for nothing else than it says to be.
pub(super) fn response(answer: Answer) -> Response<Full<Bytes>> {
    let (status, content_type, body, problem) = match answer {
        Ok(page) => (page.status, page.content_type, page.body, None),
        Err(problem) => {
            // Plain data with text keys always serializes.
            let body = serde_json::to_string(&problem).unwrap_or_default();
            (problem.status, PROBLEM_JSON, body, Some(problem))
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(why::CONTENT_SECURITY_POLICY),
    );
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"tidegate\""),
        );
    }
    if let Some(problem) = problem {
        if let Some(wait) = problem.retry_after {
            headers.insert(RETRY_AFTER, wait.into());
        }
        if let Some(allow) = problem.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
    }
    response
}

#[cfg(test)]
mod tests;
