//! Tells a runner that its datagram was refused: owns the ICMP error and its rate;
//! never decides the refusal (`proxy` does, and drives this).
//!
//! From user space, because the kernel limits its own errors per peer: of 40
//! sockets refused at once 7 heard it, and QUIC clients that don't hear it wait
//! for a timeout instead of falling back to TCP. A client whose UDP socket is
//! connected gets `ECONNREFUSED` from its next call; an unconnected one never
//! hears of any ICMP error.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use parking_lot::Mutex;

use super::{
    bucket::SourceBudget,
    packet::{self, ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, kind, protocol},
    sender::RawSender,
};

/// Errors that one source may cause: at a steady rate, and at once. Enough for
/// every socket of a browser or a fleet of `curl`s, too few to be worth a flood.
const PER_SECOND: u32 = 256;
const BURST: u32 = 512;

/// An ICMPv4 error is at most this long (RFC 1812, section 4.3.2.3), an ICMPv6
/// one at most the least MTU (RFC 4443, section 3.1).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1_280;

const UDP_HEADER: usize = 8;

/// What the error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// ICMPv4 3/3, ICMPv6 1/4. Connected sockets report it at once.
    Port,
    /// ICMPv4 3/10 (host prohibited), ICMPv6 1/1. Linux reports it to connected
    /// sockets as `EHOSTUNREACH` (v4) or `EACCES` (v6).
    Host,
    /// ICMPv4 3/13, ICMPv6 1/1 (administratively prohibited).
    Policy,
}

impl Unreachable {
    fn v4_code(self) -> u8 {
        match self {
            Self::Port => 3,
            Self::Host => 10,
            Self::Policy => 13,
        }
    }

    fn v6_code(self) -> u8 {
        match self {
            Self::Port => 4,
            Self::Host | Self::Policy => 1,
        }
    }
}

/// A datagram that was refused, as the proxy's socket saw it.
#[derive(Debug, Clone, Copy)]
pub struct RefusedDatagram<'a> {
    /// The runner that sent it; its scope is the interface's index on link-local sources.
    pub runner: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What became of the error.
#[derive(Debug)]
pub enum Refusal {
    /// It was sent.
    Sent,
    /// This source has had its share; it hears nothing.
    OverBudget,
    /// The families of the three addresses differ.
    Mismatch,
    /// The kernel did not take it.
    Failed(io::Error),
}

/// Sends the errors, within each source's budget.
#[derive(Debug)]
pub struct Refuser {
    sender: RawSender,
    budget: Mutex<SourceBudget>,
}

impl Refuser {
    /// Takes over a sender.
    pub fn new(sender: RawSender, now: Instant) -> Self {
        Self {
            sender,
            budget: Mutex::new(SourceBudget::new(PER_SECOND, BURST, now)),
        }
    }

    /// Tells the runner, from `gateway` (the runner-facing address of its
    /// network). Doesn't wait.
    pub fn refuse(
        &self,
        gateway: IpAddr,
        datagram: RefusedDatagram<'_>,
        what: Unreachable,
        now: Instant,
    ) -> Refusal {
        let Some(packet) = unreachable(gateway, datagram, what) else {
            return Refusal::Mismatch;
        };
        let runner = datagram.runner;
        if !self.budget.lock().take(runner.ip(), now) {
            return Refusal::OverBudget;
        }
        let scope = match runner {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        match self.sender.send(&packet, runner.ip(), scope) {
            Ok(()) => Refusal::Sent,
            Err(error) => Refusal::Failed(error),
        }
    }
}

/// The error as a whole packet. It quotes the refused datagram as it must have
/// been on the wire: the client's kernel finds the socket by the quoted
/// addresses and ports alone.
fn unreachable(gateway: IpAddr, datagram: RefusedDatagram<'_>, what: Unreachable) -> Option<Vec<u8>> {
    let quote = quote(datagram)?;
    let (kind, code, longest) = match gateway {
        IpAddr::V4(_) => (kind::V4_UNREACHABLE, what.v4_code(), LONGEST_V4 - IPV4_HEADER),
        IpAddr::V6(_) => (kind::V6_UNREACHABLE, what.v6_code(), LONGEST_V6 - IPV6_HEADER),
    };
    let quoted = quote.get(..longest - ICMP_HEADER).unwrap_or(&quote);
    packet::icmp(
        gateway,
        datagram.runner.ip(),
        [kind, code, 0, 0, 0, 0, 0, 0],
        quoted,
    )
}

fn quote(datagram: RefusedDatagram<'_>) -> Option<Vec<u8>> {
    let RefusedDatagram {
        runner,
        destination,
        payload,
    } = datagram;
    let length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let mut udp = Vec::with_capacity(usize::from(length));
    udp.extend(runner.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    // The checksum is lost with the header; "none" (RFC 768) is what may be quoted.
    udp.extend([0, 0]);
    udp.extend(payload);
    match (runner.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => packet::ipv4(from, to, protocol::UDP, &udp),
        (IpAddr::V6(from), IpAddr::V6(to)) => packet::ipv6(from, to, protocol::UDP, &udp),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn refused<'a>(runner: &str, destination: &str, payload: &'a [u8]) -> RefusedDatagram<'a> {
        RefusedDatagram {
            runner: runner.parse().unwrap(),
            destination: destination.parse().unwrap(),
            payload,
        }
    }

    #[test]
    fn rfc792_port_unreachable_quotes_the_datagram() {
        let datagram = refused("10.77.1.2:40000", "203.0.113.9:443", b"hello");
        let packet = unreachable("10.77.1.1".parse().unwrap(), datagram, Unreachable::Port).unwrap();
        assert_eq!(packet.len(), 20 + 8 + 20 + 8 + 5);
        assert_eq!(packet[9], protocol::ICMP);
        assert_eq!(packet[12..20], [10, 77, 1, 1, 10, 77, 1, 2]);
        assert_eq!(packet[20..22], [3, 3]);
        assert_eq!(packet::checksum(&[&packet[20..]]), 0);
        let quote = &packet[28..];
        assert_eq!(quote[12..20], [10, 77, 1, 2, 203, 0, 113, 9]);
        assert_eq!(quote[20..28], [0x9c, 0x40, 1, 0xbb, 0, 13, 0, 0]);
        assert_eq!(&quote[28..], b"hello");
    }

    #[test]
    fn each_reason_has_its_code_in_both_families() {
        let v4 = refused("10.77.1.2:1", "203.0.113.9:2", b"");
        let v6 = refused("[fd77:1::2]:1", "[2001:db8::9]:2", b"");
        for (what, code4, code6) in [
            (Unreachable::Port, 3, 4),
            (Unreachable::Host, 10, 1),
            (Unreachable::Policy, 13, 1),
        ] {
            let packet = unreachable("10.77.1.1".parse().unwrap(), v4, what).unwrap();
            assert_eq!(packet[20..22], [3, code4]);
            let packet = unreachable("fd77:1::1".parse().unwrap(), v6, what).unwrap();
            assert_eq!((packet[6], &packet[40..42]), (58, &[1, code6][..]));
        }
    }

    #[test]
    fn an_error_is_never_longer_than_its_rfc_allows() {
        let payload = vec![0; 60_000];
        let v4 = refused("10.77.1.2:1", "203.0.113.9:2", &payload);
        let v6 = refused("[fd77:1::2]:1", "[2001:db8::9]:2", &payload);
        let packet = unreachable("10.77.1.1".parse().unwrap(), v4, Unreachable::Port).unwrap();
        assert_eq!(packet.len(), LONGEST_V4);
        let packet = unreachable("fd77:1::1".parse().unwrap(), v6, Unreachable::Port).unwrap();
        assert_eq!(packet.len(), LONGEST_V6);
    }

    #[test]
    fn mixed_families_have_no_error() {
        let mixed = refused("10.77.1.2:1", "[2001:db8::9]:2", b"");
        assert_eq!(
            unreachable("10.77.1.1".parse().unwrap(), mixed, Unreachable::Port),
            None
        );
        let v4 = refused("10.77.1.2:1", "203.0.113.9:2", b"");
        assert_eq!(
            unreachable("fd77:1::1".parse().unwrap(), v4, Unreachable::Port),
            None
        );
    }
}
