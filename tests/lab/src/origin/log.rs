//! Owns the record of what reached the web sites, bounded by dropping the
//! oldest. Never influences an answer.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// How many connections and how many requests are remembered.
const LIMIT: usize = 65_536;

/// A TCP connection that a site accepted.
#[derive(Debug, Clone)]
pub struct LoggedConnection {
    /// Counts up from 0 in a lab.
    pub id: u64,
    /// Where it arrived.
    pub local: SocketAddr,
    /// Who opened it.
    pub peer: SocketAddr,
    /// The SNI of its hello, lower case; only on TLS ports.
    pub sni: Option<String>,
    /// Whether a TLS handshake was completed.
    pub handshaken: bool,
    /// Why TLS failed, if it did.
    pub tls_error: Option<String>,
}

/// A request that a site answered.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// The id of its connection.
    pub connection: u64,
    /// The first name of the site that answered.
    pub site: String,
    /// Where it arrived.
    pub local: SocketAddr,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The SNI of its connection; `None` in cleartext or without one.
    pub sni: Option<String>,
    /// E.g. `HTTP/1.1`.
    pub version: String,
    /// E.g. `GET`.
    pub method: String,
    /// `:authority`, else the authority of an absolute target, else `Host`.
    pub authority: Option<String>,
    /// Path and query.
    pub path: String,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    next: u64,
    connections: VecDeque<LoggedConnection>,
    requests: VecDeque<LoggedRequest>,
}

impl Log {
    /// Records a new connection and returns its id.
    pub(super) fn connected(&mut self, local: SocketAddr, peer: SocketAddr) -> u64 {
        let id = self.next;
        self.next += 1;
        make_room(&mut self.connections);
        self.connections.push_back(LoggedConnection {
            id,
            local,
            peer,
            sni: None,
            handshaken: false,
            tls_error: None,
        });
        id
    }

    /// Adds to the record of a connection, unless it has been forgotten.
    pub(super) fn amend(&mut self, id: u64, change: impl FnOnce(&mut LoggedConnection)) {
        let newest_first = self.connections.iter_mut().rev();
        let mut matching = newest_first.filter(|connection| connection.id == id);
        if let Some(connection) = matching.next() {
            change(connection);
        }
    }

    pub(super) fn requested(&mut self, request: LoggedRequest) {
        make_room(&mut self.requests);
        self.requests.push_back(request);
    }

    pub(super) fn connections(&self) -> Vec<LoggedConnection> {
        self.connections.iter().cloned().collect()
    }

    pub(super) fn requests(&self) -> Vec<LoggedRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.connections.clear();
        self.requests.clear();
    }
}

fn make_room<T>(queue: &mut VecDeque<T>) {
    if queue.len() == LIMIT {
        queue.pop_front();
    }
}
