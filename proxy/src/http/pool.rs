//! Connections to servers that a client's connection keeps, at most [`MOST_SERVERS`] of them, each for one
//! authority at one address. Owns their reuse; never dials and never judges (whoever takes one says which
//! addresses the ruling of this moment permits). Driven by `session`.

use std::io;
use std::net::IpAddr;

use tidegate_policy::DnsName;
use tidegate_policy::detection::HttpHost;

use super::inlet::Inlet;
use crate::dial::Upstream;
use crate::route::Reached;

/// Connections kept for one client connection. The one that was used longest ago goes first.
pub(super) const MOST_SERVERS: usize = 4;

/// Whom a connection was dialled for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Requests for one authority.
    Origin(HttpHost),
    /// Requests to a forward proxy, whatever their targets.
    Proxy,
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) upstream: Upstream,
    pub(super) inlet: Inlet,
    pub(super) purpose: Purpose,
    /// The name for which its address is proven.
    pub(super) proven: Option<DnsName>,
    /// Whether it has answered a request before: it may be closed at any moment.
    pub(super) used: bool,
}

impl Server {
    /// A connection that was just dialled.
    pub(super) fn new(reached: Reached, purpose: Purpose) -> Self {
        let Reached { upstream, proven, .. } = reached;
        upstream.leg.last();
        Self {
            upstream,
            inlet: Inlet::default(),
            purpose,
            proven,
            used: false,
        }
    }

    /// True while the server has neither closed nor said anything unasked.
    fn is_quiet(&self) -> bool {
        let nothing = self.upstream.leg.try_read(&mut [0]);
        self.inlet.held().is_empty()
            && matches!(nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The kept connections, the last used one last.
#[derive(Debug, Default)]
pub(super) struct Pool(Vec<Server>);

impl Pool {
    /// A kept connection for this purpose at a permitted address.
    pub(super) fn take(&mut self, purpose: &Purpose, permitted: impl Fn(IpAddr) -> bool) -> Option<Server> {
        self.find(|server| server.purpose == *purpose && permitted(server.upstream.address.ip()))
    }

    /// The last used connection to an address, whatever it was dialled for.
    pub(super) fn take_at(&mut self, address: IpAddr) -> Option<Server> {
        self.find(|server| server.upstream.address.ip() == address)
    }

    fn find(&mut self, fits: impl Fn(&Server) -> bool) -> Option<Server> {
        self.0.retain(Server::is_quiet);
        let at = self.0.iter().rposition(fits)?;
        Some(self.0.remove(at))
    }

    /// Keeps a connection for later requests.
    pub(super) fn put(&mut self, mut server: Server) {
        server.inlet.rest();
        if self.0.len() >= MOST_SERVERS {
            self.0.remove(0).upstream.leg.orderly();
        }
        self.0.push(server);
    }

    /// Returns when the last of the kept connections has closed: a client that waits with its next request
    /// would have seen that close. Never returns while nothing is kept.
    pub(super) async fn deserted(&mut self) {
        loop {
            let Some(last) = self.0.last() else {
                return std::future::pending().await;
            };
            // A byte that nobody asked for ends the connection's use as well.
            let _ = last.upstream.leg.peek(&mut [0]).await;
            self.0.pop();
            if self.0.is_empty() {
                return;
            }
        }
    }
}

/// Kept connections are between two requests: nothing is cut off when they go.
impl Drop for Pool {
    fn drop(&mut self) {
        for server in &self.0 {
            server.upstream.leg.orderly();
        }
    }
}
