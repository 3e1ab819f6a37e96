//! One question to the kernel, answered at once: which machine uses an address. Owns a socket for the length of the
//! question; remembers nothing and decides nothing.
//!
//! The kernel answers netlink requests while they are sent, so nothing is waited for: 10 to 20 µs, which the data plane
//! affords for a source of which it knows nothing.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily as SocketFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Mac, snapshot};

/// Enough for one neighbour or one error.
const BUFFER: usize = 4 * 1024;

/// The question which machine uses an address on an interface.
pub(super) fn question(interface: u32, address: IpAddr) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut question = NeighbourMessage::default();
    question.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    question.header.ifindex = interface;
    question.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::from(address))];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(question));
    request.header.flags = NLM_F_REQUEST;
    request
}

/// Asks on the calling thread. `None`: the kernel doesn't know (yet).
pub(crate) fn machine_at(interface: u32, address: IpAddr) -> io::Result<Option<Mac>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(
        SocketFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?;
    let mut request = question(interface, address);
    request.finalize();
    let mut buffer = vec![0; request.buffer_len().max(BUFFER)];
    request.serialize(&mut buffer);
    send(
        socket.as_raw_fd(),
        &buffer[..request.buffer_len()],
        MsgFlags::empty(),
    )?;
    let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => length,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..length]);
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, open enum")]
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
            Ok(snapshot::neighbour(&found).map(|neighbour| neighbour.mac))
        }
        NetlinkPayload::Error(error) if error.raw_code() == -libc::ENOENT => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_kernel_answers_at_once_also_when_it_knows_nobody() {
        // The loopback is interface 1 of every namespace, and has no machines.
        for address in ["127.0.0.1", "10.77.1.200", "::1", "fd77:1::200"] {
            assert_eq!(
                machine_at(1, address.parse().unwrap()).unwrap(),
                None,
                "{address}"
            );
        }
    }
}
