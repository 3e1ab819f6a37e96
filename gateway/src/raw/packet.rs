//! Builds and takes apart the few packets that the gateway handles itself: owns
//! byte layouts and checksums; no sockets. Everything here is a pure function.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol numbers (IANA).
pub(super) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}

/// ICMP message types (RFC 792, RFC 4443).
pub(super) mod kind {
    pub(crate) const V4_ECHO_REPLY: u8 = 0;
    pub(crate) const V4_UNREACHABLE: u8 = 3;
    pub(crate) const V4_ECHO_REQUEST: u8 = 8;
    pub(crate) const V6_UNREACHABLE: u8 = 1;
    pub(crate) const V6_ECHO_REQUEST: u8 = 128;
    pub(crate) const V6_ECHO_REPLY: u8 = 129;
}

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const ICMP_HEADER: usize = 8;

/// Hop limit of what the gateway sends; runners are near.
const HOPS: u8 = 64;

/// The Internet checksum (RFC 1071) over several parts; every part but the last
/// must have an even length.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        let (pairs, rest) = part.as_chunks::<2>();
        sum += pairs
            .iter()
            .map(|pair| u64::from(u16::from_be_bytes(*pair)))
            .sum::<u64>();
        if let [last] = rest {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A whole IPv4 packet. `None`: it would be longer than 65 535 bytes.
pub(super) fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let total = u16::try_from(IPV4_HEADER + payload.len()).ok()?;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    // Identification 0 with "don't fragment": an atomic datagram (RFC 6864).
    packet.extend([0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    Some(packet)
}

/// A whole IPv6 packet without extension headers. `None`: too long.
pub(super) fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).ok()?;
    let mut packet = Vec::with_capacity(IPV6_HEADER + payload.len());
    packet.extend([0x60, 0, 0, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([next, HOPS]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    Some(packet)
}

/// An ICMP message of either family as a whole packet, checksums filled in.
/// `None`: the families differ, or it is too long.
pub(super) fn icmp(
    source: IpAddr,
    destination: IpAddr,
    head: [u8; ICMP_HEADER],
    body: &[u8],
) -> Option<Vec<u8>> {
    let mut message = [&head, body].concat();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ipv4(source, destination, protocol::ICMP, &message)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let pseudo = pseudo_header(source, destination, protocol::ICMPV6, message.len());
            let sum = checksum(&[&pseudo, &message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ipv6(source, destination, protocol::ICMPV6, &message)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// RFC 8200, section 8.1.
pub(super) fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, next: u8, length: usize) -> [u8; 40] {
    let mut pseudo = [0; 40];
    pseudo[..16].copy_from_slice(&source.octets());
    pseudo[16..32].copy_from_slice(&destination.octets());
    pseudo[32..36].copy_from_slice(&(length as u32).to_be_bytes());
    pseudo[39] = next;
    pseudo
}

/// The answer to a runner's echo request as if `far` had sent it: a whole packet
/// for [`RawSender`](super::RawSender), with the request's own identifier,
/// sequence and payload. `None`: the families differ, or it would be too long.
pub fn echo_reply(far: IpAddr, request: &super::EchoRequest) -> Option<Vec<u8>> {
    let kind = match far {
        IpAddr::V4(_) => kind::V4_ECHO_REPLY,
        IpAddr::V6(_) => kind::V6_ECHO_REPLY,
    };
    let head = echo_head(kind, request.identifier, request.sequence);
    icmp(far, request.source, head, &request.payload)
}

pub(super) fn echo_head(kind: u8, identifier: u16, sequence: u16) -> [u8; ICMP_HEADER] {
    let [a, b] = identifier.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::raw::EchoRequest;

    /// RFC 1071, section 3: the example's sum is ddf2, the checksum its complement.
    #[test]
    fn rfc1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), !0xddf2);
        assert_eq!(checksum(&[&bytes[..4], &bytes[4..]]), !0xddf2);
    }

    #[test]
    fn an_echo_reply_comes_from_the_far_host_with_the_runners_own_payload() {
        let request = EchoRequest {
            interface: 3,
            mac: None,
            source: "10.77.1.2".parse().unwrap(),
            destination: "203.0.113.9".parse().unwrap(),
            identifier: 0x1234,
            sequence: 7,
            payload: b"abc".to_vec(),
        };
        let packet = echo_reply(request.destination, &request).unwrap();
        // Both checksums added up by hand.
        let header = [
            0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 1, 0xf3, 0x85, 203, 0, 113, 9, 10, 77, 1, 2,
        ];
        let message = [0, 0, 0x29, 0x62, 0x12, 0x34, 0, 7, b'a', b'b', b'c'];
        assert_eq!(packet, [&header[..], &message].concat());
        assert_eq!(echo_reply("::1".parse().unwrap(), &request), None);
    }

    #[test]
    fn nothing_longer_than_a_packet_is_built() {
        let v6 = "fd00::1".parse().unwrap();
        let head = echo_head(kind::V6_ECHO_REPLY, 0, 0);
        assert!(icmp(v6, v6, head, &vec![0; 65_535 - ICMP_HEADER]).is_some());
        assert_eq!(icmp(v6, v6, head, &vec![0; 65_536 - ICMP_HEADER]), None);
        let v4 = "10.0.0.1".parse().unwrap();
        assert_eq!(
            icmp(v4, v4, head, &vec![0; 65_536 - ICMP_HEADER - IPV4_HEADER]),
            None
        );
    }

    proptest! {
        /// A receiver that sums a whole message, checksum included, gets zero.
        #[test]
        fn every_built_message_sums_to_zero(body in proptest::collection::vec(any::<u8>(), 0..300), id: u16, sequence: u16) {
            let head = echo_head(kind::V4_ECHO_REQUEST, id, sequence);
            let v4 = icmp("192.0.2.1".parse().unwrap(), "198.51.100.2".parse().unwrap(), head, &body).unwrap();
            prop_assert_eq!(checksum(&[&v4[..IPV4_HEADER]]), 0);
            prop_assert_eq!(checksum(&[&v4[IPV4_HEADER..]]), 0);
            let (source, destination) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
            let v6 = icmp(IpAddr::V6(source), IpAddr::V6(destination), head, &body).unwrap();
            let message = &v6[IPV6_HEADER..];
            let pseudo = pseudo_header(source, destination, protocol::ICMPV6, message.len());
            prop_assert_eq!(checksum(&[&pseudo, message]), 0);
        }
    }
}
