//! Receiving diverted datagrams: each with its original destination and the packet's mark. Owns the reading
//! of control messages; never keeps a payload. Driven by [`super::serve`].

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg};

use crate::address::{ClientAddr, OriginalDst};

/// Room for an original destination, packet info and a mark of either family, with alignment.
const CONTROL_ROOM: usize = 256;

/// A diverted datagram's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) client: ClientAddr,
    pub(super) original: OriginalDst,
    /// The packet's mark; 0 without one.
    pub(super) mark: u32,
    /// Bytes of the payload.
    pub(super) length: usize,
}

/// Receives one datagram into `buffer`; `None` for one without an original destination, which was not
/// diverted.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
    let mut control = [0_u8; CONTROL_ROOM];
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let Some(client) = message.address.as_ref().and_then(socket_address) else {
        return Ok(None);
    };
    let (mut original, mut mark) = (None, 0);
    for control in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4OrigDstAddr(address) = control {
            original = Some(SocketAddr::V4(SocketAddrV4::from(SockaddrIn::from(address))));
        } else if let ControlMessageOwned::Ipv6OrigDstAddr(address) = control {
            original = Some(SocketAddr::V6(SocketAddrV6::from(SockaddrIn6::from(address))));
        } else if let ControlMessageOwned::Unknown(other) = control
            && (other.cmsg_header.cmsg_level, other.cmsg_header.cmsg_type)
                == (libc::SOL_SOCKET, libc::SO_MARK)
            && let Some(bytes) = other.data_bytes.first_chunk()
        {
            mark = u32::from_ne_bytes(*bytes);
        }
    }
    Ok(original.map(|original| Arrival {
        client: ClientAddr::new(client),
        original: OriginalDst::new(original),
        mark,
        length: message.bytes,
    }))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    #[test]
    fn a_datagram_comes_with_its_original_destination() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 100];
        let arrival = receive(socket.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!(arrival.client.socket(), client.local_addr().unwrap());
        assert_eq!(arrival.original.socket(), socket.local_addr().unwrap());
        assert_eq!((arrival.mark, &buffer[..arrival.length]), (0, &b"hello"[..]));
    }

    #[test]
    fn a_datagram_without_an_original_destination_was_not_diverted() {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        assert_eq!(receive(socket.as_fd(), &mut [0; 100]).unwrap(), None);
    }
}
