//! Datagrams as the gateway's sockets see them: their control messages.

use std::{
    io::{Error, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
        sendmsg,
    },
};

use crate::lab::PATIENCE;

/// A received datagram and what the kernel says of it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) mark: u32,
    pub(crate) payload: Vec<u8>,
}

/// Waits for a datagram, at most [`PATIENCE`].
pub(crate) async fn receive(socket: &UdpSocket) -> Seen {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_receive(socket) {
            Some(seen) => return seen,
            None => assert!(
                Instant::now() < deadline,
                "no datagram on {:?}",
                socket.local_addr()
            ),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What is waiting, if anything is.
pub(crate) fn try_receive(socket: &UdpSocket) -> Option<Seen> {
    let mut payload = vec![0; 65_536];
    let mut control = vec![0; 256];
    let mut iov = [IoSliceMut::new(&mut payload)];
    let message = match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return None,
        Err(error) => panic!("recvmsg: {}", Error::from(error)),
    };
    let mut to = None;
    let mut mark = None;
    for control in message.cmsgs().expect("whole control messages") {
        match control {
            ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                to = Some(SocketAddr::V4(SockaddrIn::from(address).into()));
            }
            ControlMessageOwned::Ipv6OrigDstAddr(address) => {
                to = Some(SocketAddr::V6(SockaddrIn6::from(address).into()));
            }
            ControlMessageOwned::Unknown(other) if other.cmsg_header.cmsg_type == libc::SO_MARK => {
                mark = other
                    .data_bytes
                    .get(..4)
                    .map(|b| u32::from_ne_bytes(b.try_into().expect("four bytes")));
            }
            _ => {}
        }
    }
    let from = message.address.expect("a sender");
    let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::V4((*v4).into()),
        (_, Some(v6)) => SocketAddr::V6((*v6).into()),
        _ => panic!("a sender of another family"),
    };
    let length = message.bytes;
    payload.truncate(length);
    Some(Seen {
        from,
        to: to.expect("the original destination"),
        mark: mark.expect("the mark"),
        payload,
    })
}

/// Answers from an address that is not the socket's own, as a DNS server does
/// that was asked under another's address.
pub(crate) fn answer_from(socket: &UdpSocket, source: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let iov = [IoSlice::new(payload)];
    let fd = socket.as_raw_fd();
    let sent = match source.ip() {
        IpAddr::V4(v4) => {
            let spec = libc::in_addr {
                s_addr: u32::from(v4).to_be(),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: spec,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(
                fd,
                &iov,
                &control,
                MsgFlags::empty(),
                Some(&SockaddrStorage::from(to)),
            )
        }
        IpAddr::V6(v6) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: v6.octets() },
                ipi6_ifindex: 0,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(
                fd,
                &iov,
                &control,
                MsgFlags::empty(),
                Some(&SockaddrStorage::from(to)),
            )
        }
    };
    assert_eq!(sent, Ok(payload.len()));
}
