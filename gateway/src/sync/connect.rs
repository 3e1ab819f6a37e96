//! How the control plane is reached: over TLS, plainly on loopback, or inside of the same process.
//!
//! Owns opening the byte stream and what is known of the way (addresses, the token); what is said over it is
//! [`super::client`]'s. `cli` gives the in-process way for `up`.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use thiserror::Error;
use tidegate_control_wire::secret::{Secret, SecretError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::config::ControlPlaneConfig;
use crate::parts::{PartsError, certificates};

/// Longest token file that is read, in bytes.
const MAX_TOKEN: u64 = 4096;

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A future on the heap.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An open way to the control plane.
pub struct Connected {
    /// Speaks HTTP/2 with prior knowledge.
    pub stream: Box<dyn Duplex>,
    /// The gateway's token; `None` where the other end knows who this is.
    pub token: Option<String>,
}

impl fmt::Debug for Connected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connected").finish_non_exhaustive()
    }
}

/// Why there is no way.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Its name has no address.
    #[error("can't resolve {host}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("can't connect to {address}")]
    Dial {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its certificate is not trusted, or it speaks no TLS.
    #[error("can't agree on TLS with {host}")]
    Tls {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The token's file can't be read.
    #[error("can't read the token file {file}")]
    TokenFile {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The token's file holds no token.
    #[error("{file} holds no token")]
    Token {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The other half of the process does not take connections.
    #[error("the control plane of this process takes no connection")]
    InProcess(#[source] io::Error),
}

/// Opens ways to the control plane. Each call opens another one; the caller bounds its time.
pub trait Connector: Send + Sync {
    /// Scheme and authority of requests, and how the log names the control plane: `https://control.example:8443`.
    fn origin(&self) -> &str;

    /// Opens a way. The control plane's addresses are `told` as soon as they are known, so that they are never dialled
    /// for a job even while nothing answers there.
    fn connect<'a>(
        &'a self,
        told: &'a (dyn Fn(Vec<IpAddr>) + Send + Sync),
    ) -> Pending<'a, Result<Connected, ConnectError>>;
}

/// Where the control plane is.
#[derive(Clone)]
pub enum ControlLink {
    /// Another process, as the configuration says.
    Remote(ControlPlaneConfig),
    /// This process (`tidegate up`).
    InProcess(Arc<dyn Connector>),
}

impl fmt::Debug for ControlLink {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(config) => out.debug_tuple("Remote").field(config).finish(),
            Self::InProcess(connector) => out.debug_tuple("InProcess").field(&connector.origin()).finish(),
        }
    }
}

/// What makes the way of the configuration impossible from the start.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The roots can't be read.
    #[error("gateway.control-plane.ca")]
    Roots(#[from] PartsError),
    /// The host is neither a name nor an address.
    #[error("gateway.control-plane.url: {0:?} is no host name")]
    Host(String),
}

/// The control plane in another process.
pub(crate) struct Remote {
    config: ControlPlaneConfig,
    origin: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Remote {
    pub(crate) fn new(config: ControlPlaneConfig) -> Result<Self, RemoteError> {
        let tls = if config.tls {
            let name = ServerName::try_from(config.host.clone());
            let name = name.map_err(|_| RemoteError::Host(config.host.clone()))?;
            Some((
                TlsConnector::from(Arc::new(client_config(config.ca.as_deref())?)),
                name,
            ))
        } else {
            None
        };
        let scheme = if config.tls { "https" } else { "http" };
        let host = match config.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Ok(IpAddr::V4(_)) | Err(_) => config.host.clone(),
        };
        let origin = format!("{scheme}://{host}:{}", config.port);
        Ok(Self { config, origin, tls })
    }

    async fn open(&self, told: &(dyn Fn(Vec<IpAddr>) + Send + Sync)) -> Result<Connected, ConnectError> {
        let host = || self.config.host.clone();
        let found = lookup_host((self.config.host.as_str(), self.config.port)).await;
        let found = found.map_err(|source| ConnectError::Resolve { host: host(), source })?;
        let addresses: Vec<SocketAddr> = found
            .filter(|one| self.config.tls || one.ip().is_loopback())
            .collect();
        told(addresses.iter().map(SocketAddr::ip).collect());
        let tcp = self.dial(&addresses).await?;
        // Read before TLS: without a token nothing is worth a handshake.
        let token = Some(self.token().await?);
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => {
                let agreed = connector.connect(name.clone(), tcp).await;
                Box::new(agreed.map_err(|source| ConnectError::Tls { host: host(), source })?)
            }
        };
        Ok(Connected { stream, token })
    }

    async fn dial(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let nowhere = io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address that may be used",
        );
        let mut last = ConnectError::Resolve {
            host: self.config.host.clone(),
            source: nowhere,
        };
        for address in addresses.iter().copied() {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    // Changes are small and urgent. Without the option they are only slower.
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Err(source) => last = ConnectError::Dial { address, source },
            }
        }
        Err(last)
    }

    async fn token(&self) -> Result<String, ConnectError> {
        let file = &self.config.token_file;
        let text = read_token(file).await.map_err(|source| ConnectError::TokenFile {
            file: file.clone(),
            source,
        })?;
        let secret = Secret::parse(&text).map_err(|source| ConnectError::Token {
            file: file.clone(),
            source,
        })?;
        Ok(secret.expose().to_owned())
    }
}

impl Connector for Remote {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn connect<'a>(
        &'a self,
        told: &'a (dyn Fn(Vec<IpAddr>) + Send + Sync),
    ) -> Pending<'a, Result<Connected, ConnectError>> {
        Box::pin(self.open(told))
    }
}

async fn read_token(file: &Path) -> io::Result<String> {
    use tokio::io::AsyncReadExt;
    let mut text = String::new();
    let opened = tokio::fs::File::open(file).await?;
    opened.take(MAX_TOKEN).read_to_string(&mut text).await?;
    Ok(text)
}

/// HTTP/2 over TLS, with these roots and no others, or with the system's.
fn client_config(roots: Option<&Path>) -> Result<ClientConfig, PartsError> {
    let mut config = match roots {
        None => ClientConfig::clone(&tidegate_dns::resolver::client_config(&[])),
        Some(file) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(certificates(file)?);
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("the provider has suites for the default versions")
                .with_root_certificates(store)
                .with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
