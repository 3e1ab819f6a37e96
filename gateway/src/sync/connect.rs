//! How the control plane is reached: over TLS, plainly on loopback, or inside of the same process.
//!
//! Owns opening the byte stream and what is known of the way (addresses, the token); what is said over it is
//! [`super::client`]'s. `cli` gives the in-process way for `up`.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::ControlPlaneConfig;

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
#[error("{what}")]
pub struct ConnectError {
    /// What was tried.
    pub what: String,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
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
