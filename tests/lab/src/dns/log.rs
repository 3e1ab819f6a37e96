//! Owns the record of what a name server was asked, by whom and how, bounded
//! by dropping the oldest. Never influences an answer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::rdata::opt::EdnsCode;

use super::zone::canonical;

/// How many queries are remembered.
const LIMIT: usize = 65_536;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain UDP.
    Udp,
    /// Plain TCP.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https,
}

/// Where a query came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) source: SocketAddr,
    pub(super) transport: Transport,
}

/// One query, as it arrived.
#[derive(Debug, Clone)]
pub struct LoggedQuery {
    /// The name asked, lower case and without the final dot; empty when the
    /// message could not be read or asks nothing.
    pub name: String,
    /// The name as spelled on the wire (0x20).
    pub spelled: String,
    /// The type asked, e.g. `AAAA`; empty when unreadable.
    pub qtype: String,
    /// How it came.
    pub transport: Transport,
    /// From where.
    pub source: SocketAddr,
    /// Its EDNS record, if it had one.
    pub edns: Option<EdnsSeen>,
    /// The CD bit.
    pub checking_disabled: bool,
}

/// What a query's EDNS record said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdnsSeen {
    /// The UDP payload size it offers.
    pub payload: u16,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// The codes of its options.
    pub options: Vec<u16>,
}

#[derive(Debug, Default)]
pub(super) struct Log(VecDeque<LoggedQuery>);

impl Log {
    /// Records a query; `None` is one that could not be read.
    pub(super) fn add(&mut self, query: Option<&Message>, origin: Origin) {
        if self.0.len() == LIMIT {
            self.0.pop_front();
        }
        let question = query.and_then(|query| query.queries.first());
        let spelled = question.map(|question| question.name().to_ascii());
        let spelled = spelled.unwrap_or_default();
        self.0.push_back(LoggedQuery {
            name: canonical(&spelled),
            spelled,
            qtype: question.map_or_else(String::new, |question| question.query_type().to_string()),
            transport: origin.transport,
            source: origin.source,
            edns: query.and_then(|query| query.edns.as_ref()).map(edns_seen),
            checking_disabled: query.is_some_and(|query| query.metadata.checking_disabled),
        });
    }

    pub(super) fn all(&self) -> Vec<LoggedQuery> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn edns_seen(edns: &Edns) -> EdnsSeen {
    let options = edns.options().as_ref().iter();
    EdnsSeen {
        payload: edns.max_payload(),
        dnssec_ok: edns.flags().dnssec_ok,
        options: options.map(|(code, _)| code_number(*code)).collect(),
    }
}

fn code_number(code: EdnsCode) -> u16 {
    code.into()
}
