//! Asking over DNS: where the gateway is, who answers for addresses that are nobody's, and how large a packet may be.
//!
//! Owns its sockets and bounds; judges nothing. Everything is asked by the gateway's own name, which it answers before any
//! policy and for nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, RecordType};

/// The gateway's own name.
pub(super) const OWN_NAME: &str = "tidegate.internal";
/// For one answer; a gateway needs a millisecond.
const PATIENCE: Duration = Duration::from_millis(500);
/// Tries: a datagram may be lost.
const TRIES: usize = 2;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 4_096;
/// EDNS padding (RFC 7830).
const PADDING: u16 = 12;

/// Addresses that are nobody's anywhere, and that a gateway never dials: who answers for them stands on the way. Of IPv6
/// every wide range is somebody's, so it is the metadata service of a cloud, which serves no DNS.
pub(super) const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// Something without addresses: the response code.
    Nothing(String),
    /// Nothing at all.
    Silence,
}

impl Said {
    /// True for an answer to the gateway's own name, which only a gateway gives.
    pub(super) const fn is_gateway(&self) -> bool {
        matches!(self, Self::Addresses(_))
    }
}

/// Asks a server for a name's addresses of both families.
pub(super) fn addresses(server: IpAddr, name: &str) -> Said {
    let mut found = Vec::new();
    let mut last = Said::Silence;
    for record in [RecordType::A, RecordType::AAAA] {
        match ask(server, name, record, 0) {
            None if found.is_empty() && record == RecordType::A => return Said::Silence,
            None => {}
            Some((code, some)) => {
                found.extend(some);
                last = Said::Nothing(code.to_str().to_owned());
            }
        }
    }
    if found.is_empty() {
        last
    } else {
        Said::Addresses(found)
    }
}

/// True when a query whose packet has this many bytes, IP header included, is answered. It goes with DF set (Linux does so
/// for datagrams that fit the link).
pub(super) fn answers_at(server: IpAddr, name: &str, packet: usize) -> bool {
    ask(server, name, RecordType::A, packet).is_some()
}

/// One question, asked twice at most; `None` when nobody answers.
fn ask(server: IpAddr, name: &str, record: RecordType, packet: usize) -> Option<(ResponseCode, Vec<IpAddr>)> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (query, id) = query(name, record, datagram(server, packet))?;
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(server, 53)).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    for _ in 0..TRIES {
        // A refusal of the network comes as an error of the socket, and may be an older packet's.
        if socket.send(&query).is_err() {
            continue;
        }
        let mut buffer = [0; MAX_ANSWER];
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        if let Some(answer) = read(&buffer[..length], id) {
            return Some(answer);
        }
    }
    None
}

/// Bytes of the DNS message in a packet of so many.
fn datagram(server: IpAddr, packet: usize) -> usize {
    let headers = if server.is_ipv4() { 20 + 8 } else { 40 + 8 };
    packet.saturating_sub(headers)
}

/// A query, padded to this length where it is shorter, with its id.
fn query(name: &str, record: RecordType, length: usize) -> Option<(Vec<u8>, u16)> {
    let name = Name::from_str(&format!("{}.", name.trim_end_matches('.'))).ok()?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record));
    let mut edns = Edns::new();
    edns.set_max_payload(1_232);
    message.set_edns(edns);
    let plain = message.to_vec().ok()?;
    if let Some(room) = length.checked_sub(plain.len() + 4)
        && let Some(edns) = message.edns.as_mut()
    {
        let padding = EdnsOption::Unknown(PADDING, vec![0; room]);
        edns.options_mut().insert(padding);
    }
    Some((message.to_vec().ok()?, message.metadata.id))
}

fn read(bytes: &[u8], id: u16) -> Option<(ResponseCode, Vec<IpAddr>)> {
    let message = Message::from_vec(bytes).ok()?;
    if message.metadata.id != id {
        return None;
    }
    let found = message.answers.iter().filter_map(|record| {
        // Names on the way to an address are passed over.
        if let RData::A(a) = &record.data {
            return Some(IpAddr::V4(a.0));
        }
        if let RData::AAAA(aaaa) = &record.data {
            return Some(IpAddr::V6(aaaa.0));
        }
        None
    });
    Some((message.metadata.response_code, found.collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_query_fills_the_packet_it_shall_fill() {
        let (plain, _) = query(OWN_NAME, RecordType::A, 0).unwrap();
        assert!(plain.len() < 60);
        for packet in [576, 1_280, 1_500] {
            for server in NOBODY {
                let headers = if server.is_ipv4() { 28 } else { 48 };
                let (query, _) = query(OWN_NAME, RecordType::A, datagram(server, packet)).unwrap();
                assert_eq!(query.len() + headers, packet);
            }
        }
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let (query, id) = query(OWN_NAME, RecordType::A, 0).unwrap();
        assert_eq!(read(&query, id), Some((ResponseCode::NoError, Vec::new())));
        assert_eq!(read(&query, id.wrapping_add(1)), None);
        assert_eq!(read(b"", id), None);
    }
}
