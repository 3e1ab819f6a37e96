//! Serving HTTP: one listener for people, programs and gateways, and connections inside of the process.
//!
//! Owns accepting, TLS, bounds on connections and the orderly end. What is asked is [`crate::api`]'s and
//! [`crate::sync`]'s.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::sync::InProcess;

/// Connections at once; further ones wait in the backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// A client that says nothing for this long at its beginning is let go.
const GREETING: Duration = Duration::from_secs(10);
/// Between two looks whether an HTTP/2 peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Open requests have this long when the program ends; streams end with it.
const DRAIN: Duration = Duration::from_secs(3);
/// Bytes under way in each direction of a connection inside of the process.
const DUPLEX: usize = 256 << 10;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be had.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificate or key can't be read.
    #[error("can't read {file}")]
    Pem {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// Certificate and key don't go together.
    #[error("control.tls: certificate and key can't be used")]
    Identity(#[from] rustls::Error),
}

/// An open listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    /// Opens the listener; with a certificate chain and key (PEM) it speaks TLS.
    pub async fn open(address: SocketAddr, tls: Option<(&Path, &Path)>) -> Result<Self, ServeError> {
        let tls = tls.map(|(chain, key)| server_config(chain, key)).transpose()?;
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Listen { address, source })?;
        Ok(Self { socket, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop` is done; then open requests have [`DRAIN`].
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.accept(&room) => accepted,
            };
            let Some((stream, peer, permit)) = accepted else {
                continue;
            };
            let (router, tls, watcher) = (router.clone(), self.tls.clone(), graceful.watcher());
            let from = Some(peer);
            tokio::spawn(async move {
                match tls {
                    None => serve_one(stream, (router, from), watcher).await,
                    Some(config) => {
                        let handshake = TlsAcceptor::from(config).accept(stream);
                        match tokio::time::timeout(GREETING, handshake).await {
                            Ok(Ok(stream)) => serve_one(stream, (router, from), watcher).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                        }
                    }
                }
                drop(permit);
            });
        }
        drop(self);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::info!("requests that were still open are cut off");
        }
    }

    async fn accept(
        &self,
        room: &Arc<Semaphore>,
    ) -> Option<(
        tokio::net::TcpStream,
        SocketAddr,
        tokio::sync::OwnedSemaphorePermit,
    )> {
        let permit = Arc::clone(room).acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((stream, peer)) => {
                // Frames are small and waited for.
                drop(stream.set_nodelay(true));
                Some((stream, peer, permit))
            }
            Err(error) => {
                // Out of descriptors: trying again at once would only burn the processor.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }
}

fn server_config(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, ServeError> {
    let pem = |file: &Path| {
        let file = file.display().to_string();
        move |source| ServeError::Pem { file, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .map_err(pem(chain))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem(chain))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key_der)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves a connection. Who is at its other end is said with each request: a layer around the router would be a copy of
/// every route for each connection, some hundred KiB.
async fn serve_one<S>(stream: S, (router, from): (Router, Option<SocketAddr>), watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        if let Some(peer) = from {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(GREETING);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(GREETING);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error = %error, "a connection ended early");
    }
}

/// Makes connections inside of the process, for the gateway of `tidegate up`: the same protocol, no socket, no token.
#[derive(Clone, Debug)]
pub struct Link {
    router: Router,
}

impl Link {
    /// Connections of the gateway of this name.
    pub(crate) fn new(router: &Router, gateway: &str) -> Self {
        let own = InProcess {
            gateway: gateway.to_owned(),
        };
        let mark = move |mut request: Request| {
            request.extensions_mut().insert(own.clone());
            request
        };
        let router = Router::new().fallback_service(router.clone().map_request(mark));
        Self { router }
    }

    /// One connection; its other end is served until either is dropped. To be called on a runtime.
    pub fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(DUPLEX);
        let router = self.router.clone();
        tokio::spawn(async move {
            let graceful = GracefulShutdown::new();
            serve_one(far, (router, None), graceful.watcher()).await;
        });
        near
    }
}
