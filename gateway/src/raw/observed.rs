//! What an observed packet is: owns the reading of its headers; no sockets.
//! A pure function of bytes that a runner chose, so every access is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, kind, protocol};
use crate::link::Mac;

/// Most IPv6 extension headers that are walked; more of them are an event under
/// the number of the one at which the walk ended.
const MAX_EXTENSIONS: usize = 8;

/// Something that the gateway itself must answer or record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Neither TCP, UDP nor ICMP: it was dropped, in audit too.
    Foreign(ForeignProtocol),
    /// An echo request to somebody else than the gateway.
    Echo(EchoRequest),
}

/// A dropped packet of another IP protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignProtocol {
    /// Index of the interface that it came in by.
    pub interface: u32,
    /// The machine that sent it, on an Ethernet link.
    pub mac: Option<Mac>,
    /// Who claims to have sent it.
    pub source: IpAddr,
    /// Where it should have gone.
    pub destination: IpAddr,
    /// The IP protocol's number, after IPv6 extension headers.
    pub protocol: u8,
}

/// A runner's echo request to a far host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchoRequest {
    /// Index of the interface that it came in by.
    pub interface: u32,
    /// The machine that sent it, on an Ethernet link.
    pub mac: Option<Mac>,
    /// Who claims to have sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// The request's identifier.
    pub identifier: u16,
    /// Its sequence number.
    pub sequence: u16,
    /// Its payload, at most what one packet holds. Never sent onwards.
    pub payload: Vec<u8>,
}

/// Where a packet came from, below IP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) interface: u32,
    pub(super) mac: Option<Mac>,
}

/// Reads a packet that begins with its IP header. `None`: it is of no concern
/// (TCP, UDP, other ICMP, fragments of these) or cut off.
pub(super) fn classify(packet: &[u8], arrival: Arrival) -> Option<Observed> {
    match packet.first()? >> 4 {
        4 => classify_v4(packet, arrival),
        6 => classify_v6(packet, arrival),
        _ => None,
    }
}

fn classify_v4(packet: &[u8], arrival: Arrival) -> Option<Observed> {
    let header = packet.first_chunk::<IPV4_HEADER>()?;
    let address =
        |at: usize| Ipv4Addr::from_octets([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (source, destination) = (address(12).into(), address(16).into());
    let header_length = 4 * usize::from(header[0] & 0xf);
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // Ethernet pads short packets; the header knows better.
    let payload = packet.get(..total).unwrap_or(packet).get(header_length..)?;
    match header[9] {
        protocol::TCP | protocol::UDP | protocol::IGMP => None,
        protocol::ICMP => echo(payload, kind::V4_ECHO_REQUEST, arrival, [source, destination]),
        number => Some(foreign(number, arrival, [source, destination])),
    }
}

fn classify_v6(packet: &[u8], arrival: Arrival) -> Option<Observed> {
    let (header, rest) = packet.split_first_chunk::<IPV6_HEADER>()?;
    let address = |at: usize| {
        header
            .get(at..at + 16)?
            .try_into()
            .ok()
            .map(Ipv6Addr::from_octets)
    };
    let (source, destination) = (address(8)?.into(), address(24)?.into());
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..length).unwrap_or(rest);
    let (number, payload) = walk_extensions(header[6], payload)?;
    match number {
        protocol::TCP | protocol::UDP => None,
        protocol::ICMPV6 => echo(payload, kind::V6_ECHO_REQUEST, arrival, [source, destination]),
        number => Some(foreign(number, arrival, [source, destination])),
    }
}

/// RFC 8200, section 4. A fragment is judged by its own first header; ICMP and
/// echo in fragments are of no concern.
fn walk_extensions(mut next: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    for _ in 0..MAX_EXTENSIONS {
        match next {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                let [following, length] = *rest.first_chunk::<2>()?;
                rest = rest.get(8 * (usize::from(length) + 1)..)?;
                next = following;
            }
            protocol::FRAGMENT => {
                let following = *rest.first()?;
                let of_concern = !matches!(following, protocol::ICMPV6 | protocol::TCP | protocol::UDP);
                return of_concern.then_some((following, &[]));
            }
            _ => break,
        }
    }
    Some((next, rest))
}

fn echo(
    message: &[u8],
    request: u8,
    arrival: Arrival,
    [source, destination]: [IpAddr; 2],
) -> Option<Observed> {
    let ([kind, _, _, _, a, b, c, d], payload) = message.split_first_chunk::<ICMP_HEADER>()?;
    let multicast = source.is_multicast() || source.is_unspecified() || destination.is_multicast();
    if *kind != request || multicast {
        return None;
    }
    Some(Observed::Echo(EchoRequest {
        interface: arrival.interface,
        mac: arrival.mac,
        source,
        destination,
        identifier: u16::from_be_bytes([*a, *b]),
        sequence: u16::from_be_bytes([*c, *d]),
        payload: payload.to_vec(),
    }))
}

fn foreign(protocol: u8, arrival: Arrival, [source, destination]: [IpAddr; 2]) -> Observed {
    Observed::Foreign(ForeignProtocol {
        interface: arrival.interface,
        mac: arrival.mac,
        source,
        destination,
        protocol,
    })
}

#[cfg(test)]
mod tests;
