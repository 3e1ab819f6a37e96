//! What stands around a datagram: who sent it to whom, read from the kernel's octets; and what an answer is given along.
//!
//! Pure: octets in, octets out. Driven by [`super::udp`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::libc;

use super::client::{Client, Transport};

/// Octets of a control message's header: its length, level and type.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Control messages begin at multiples of this.
const ALIGN: usize = size_of::<usize>();

/// Who sent a datagram, to whom, and through which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) client: Client,
    /// Interface that it came in on; needed to answer from a link-local address.
    pub(super) interface: u32,
}

/// Reads an envelope. Without its control messages a datagram can't be answered from the right address: `None`.
pub(super) fn read(name: &[u8], control: &[u8], bound: SocketAddr, spoof_mark: u32) -> Option<Envelope> {
    let source = address(name)?;
    let (mut original, mut local, mut interface, mut mark) = (None, None, 0, 0);
    for (level, kind, data) in messages(control) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
                original = address(data);
            }
            // `in_pktinfo`: interface, the address to answer from, the header's destination.
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                local = octets::<4>(data, 8).map(|four| IpAddr::V4(Ipv4Addr::from(four)));
                interface = u32::from_ne_bytes(octets(data, 0)?);
            }
            // `in6_pktinfo`: destination, interface.
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                local = octets::<16>(data, 0).map(|sixteen| IpAddr::V6(Ipv6Addr::from(sixteen)));
                interface = u32::from_ne_bytes(octets(data, 16)?);
            }
            (libc::SOL_SOCKET, libc::SO_MARK) => mark = u32::from_ne_bytes(octets(data, 0)?),
            _other => {}
        }
    }
    let asked = original.or_else(|| local.map(|address| SocketAddr::new(address, bound.port())))?;
    Some(Envelope {
        client: Client {
            source,
            asked,
            transport: Transport::Udp,
            spoofed: mark & spoof_mark != 0,
        },
        interface,
    })
}

/// The control message by which an answer leaves from the address that was asked, and its length; `None` when client and
/// server are of different families.
pub(super) fn reply(envelope: &Envelope) -> Option<([u8; 40], usize)> {
    let mut out = [0; 40];
    let (level, kind, length) = match (envelope.client.asked.ip(), envelope.client.source) {
        (IpAddr::V4(from), SocketAddr::V4(_)) => {
            put(&mut out, HEADER + 4, &from.octets());
            (libc::SOL_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
        }
        (IpAddr::V6(from), SocketAddr::V6(_)) => {
            put(&mut out, HEADER, &from.octets());
            if from.is_unicast_link_local() {
                put(&mut out, HEADER + 16, &envelope.interface.to_ne_bytes());
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
        }
        (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_)) => return None,
    };
    put(&mut out, 0, &(HEADER + length).to_ne_bytes());
    put(&mut out, HEADER - 8, &level.to_ne_bytes());
    put(&mut out, HEADER - 4, &kind.to_ne_bytes());
    Some((out, (HEADER + length).next_multiple_of(ALIGN)))
}

/// The address of a `sockaddr_in` or `sockaddr_in6`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(octets(name, 0)?));
    let port = u16::from_be_bytes(octets(name, 2)?);
    match family {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(octets::<4>(name, 4)?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(octets::<16>(name, 8)?);
            let flow = u32::from_ne_bytes(octets(name, 4)?);
            let scope = u32::from_ne_bytes(octets(name, 24)?);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope)))
        }
        _other => None,
    }
}

/// Control messages: level, type and data.
fn messages(mut control: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from_ne_bytes(octets(control, 0)?);
        let level = i32::from_ne_bytes(octets(control, HEADER - 8)?);
        let kind = i32::from_ne_bytes(octets(control, HEADER - 4)?);
        let data = control.get(HEADER..length)?;
        control = control.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((level, kind, data))
    })
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn put(out: &mut [u8], at: usize, what: &[u8]) {
    crate::wire::patch(out, at, what);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut out = (HEADER + data.len()).to_ne_bytes().to_vec();
        out.extend(level.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(data);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        out
    }

    fn v4(port: u16, ip: [u8; 4]) -> Vec<u8> {
        let mut out = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        out.extend(port.to_be_bytes());
        out.extend(ip);
        out.extend([0; 8]);
        out
    }

    #[test]
    fn the_original_destination_goes_before_the_packets_own_and_the_mark_is_read() {
        let bound = "0.0.0.0:53".parse().unwrap();
        let info = [7_u32.to_ne_bytes(), [10, 0, 0, 1], [10, 0, 0, 1]].concat();
        let info = message(libc::SOL_IP, libc::IP_PKTINFO, &info);
        let name = v4(999, [10, 0, 0, 9]);
        let plain = read(&name, &info, bound, 2).unwrap();
        assert_eq!(plain.client.asked, "10.0.0.1:53".parse().unwrap());
        assert_eq!(plain.client.source, "10.0.0.9:999".parse().unwrap());
        assert_eq!((plain.interface, plain.client.spoofed), (7, false));
        let diverted = message(libc::SOL_IP, libc::IP_ORIGDSTADDR, &v4(53, [9, 9, 9, 9]));
        let mark = message(libc::SOL_SOCKET, libc::SO_MARK, &0xa_u32.to_ne_bytes());
        let all = read(&name, &[diverted, info, mark].concat(), bound, 2).unwrap();
        assert_eq!(all.client.asked, "9.9.9.9:53".parse().unwrap());
        assert!(all.client.spoofed);
        assert_eq!(read(&name, &[], bound, 2), None);
    }

    #[test]
    fn an_answer_is_told_its_address_and_a_link_local_one_its_interface() {
        let envelope = |source: &str, asked: &str| Envelope {
            client: Client {
                source: source.parse().unwrap(),
                asked: asked.parse().unwrap(),
                transport: Transport::Udp,
                spoofed: false,
            },
            interface: 9,
        };
        let (bytes, length) = reply(&envelope("10.0.0.9:999", "9.9.9.9:53")).unwrap();
        let all: Vec<_> = messages(&bytes[..length]).collect();
        assert_eq!(
            all,
            [(
                libc::SOL_IP,
                libc::IP_PKTINFO,
                &[0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0][..]
            )]
        );
        for (asked, interface) in [("[fe80::1]:53", 9_u32), ("[2001:db8::1]:53", 0)] {
            let (bytes, length) = reply(&envelope("[fe80::2%2]:9", asked)).unwrap();
            let (level, kind, data) = messages(&bytes[..length]).next().unwrap();
            assert_eq!((level, kind), (libc::SOL_IPV6, libc::IPV6_PKTINFO));
            assert_eq!(data[16..20], interface.to_ne_bytes());
        }
        assert_eq!(reply(&envelope("10.0.0.9:999", "[2001:db8::1]:53")), None);
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(name in proptest::collection::vec(any::<u8>(), 0..40), control in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _whatever = read(&name, &control, "0.0.0.0:53".parse().unwrap(), 2);
        }
    }
}
