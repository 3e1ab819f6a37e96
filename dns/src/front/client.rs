//! Who sent a query, to whom, and how.

use std::net::SocketAddr;

/// How a query came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// TCP, cleartext.
    Tcp,
    /// DNS over TLS, ended at the gateway.
    Tls,
    /// DNS over HTTPS, ended at the gateway.
    Https,
}

impl Transport {
    /// Every transport, in the order of metric handles.
    pub(crate) const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
        }
    }
}

/// One client's side of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Where the query comes from.
    pub source: SocketAddr,
    /// The server that the client asked; the answer leaves from there.
    pub asked: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// The datagram carries another machine's hardware address than the lease's: only a TCP handshake
    /// would prove its source.
    pub spoofed: bool,
}
