//! Queries in datagrams: received in batches, answered from the address that was asked.
//!
//! The socket comes from `gateway`, bound to port 53 with original destination, packet info and mark as
//! control messages. Answers that need no upstream leave before the next batch is read; the others are
//! tasks, bounded in all and a source.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6,
    SockaddrStorage, recvmmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::warn;

use super::client::{Client, Transport};
use super::handler::{Begun, DnsHandler};
use super::metrics::Dropped;

/// Datagrams of one batch.
const BATCH: usize = 32;
/// Octets of one datagram: a query with a 255-octet name and generous EDNS options. Longer ones are none.
const BUFFER: usize = 2_048;
/// Wait after an error of the socket itself, so that a broken one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// One received datagram; its bytes are in the slot's buffer.
struct Datagram {
    slot: usize,
    length: usize,
    client: Client,
    /// Interface that it came in on; needed to answer from a link-local address.
    interface: u32,
}

/// Serves one socket until the future is dropped. `spoof_mark` is the bit of a packet's mark that says
/// that its hardware address is not the lease's.
pub async fn serve_udp(
    handler: Arc<DnsHandler>,
    socket: std::net::UdpSocket,
    spoof_mark: u32,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?;
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let mut buffers: Box<[[u8; BUFFER]]> = vec![[0; BUFFER]; BATCH].into_boxed_slice();
    loop {
        socket.readable().await?;
        let received = socket.try_io(Interest::READABLE, || {
            receive(&socket, &mut buffers, bound, spoof_mark)
        });
        match received {
            Ok(batch) => {
                for datagram in batch {
                    let bytes = buffers
                        .get(datagram.slot)
                        .and_then(|buffer| buffer.get(..datagram.length));
                    serve(&handler, &socket, bytes.unwrap_or_default(), datagram);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!(%bound, %error, "cannot receive DNS queries");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

fn serve(handler: &Arc<DnsHandler>, socket: &Arc<UdpSocket>, bytes: &[u8], datagram: Datagram) {
    match handler.begin(bytes, &datagram.client) {
        Begun::Done(None) => {}
        Begun::Done(Some(reply)) => respond(handler, socket, &reply, &datagram),
        Begun::Later(pending) => {
            let Some(slot) = handler.in_flight.take(datagram.client.source.ip()) else {
                handler.metrics.dropped(Dropped::Limit);
                return;
            };
            let (handler, socket) = (Arc::clone(handler), Arc::clone(socket));
            tokio::spawn(async move {
                let _slot = slot;
                if let Some(reply) = pending.finish().await {
                    respond(&handler, &socket, &reply, &datagram);
                }
            });
        }
    }
}

/// Sends an answer; when the socket's buffer is full the client asks again.
fn respond(handler: &DnsHandler, socket: &UdpSocket, reply: &[u8], datagram: &Datagram) {
    let sent = socket.try_io(Interest::WRITABLE, || Ok(send(socket, reply, datagram)?));
    if sent.is_err() {
        handler.metrics.dropped(Dropped::Send);
    }
}

fn send(socket: &UdpSocket, reply: &[u8], datagram: &Datagram) -> nix::Result<usize> {
    let (fd, iov, flags) = (socket.as_raw_fd(), [IoSlice::new(reply)], MsgFlags::empty());
    match (datagram.client.asked.ip(), datagram.client.source) {
        (IpAddr::V4(from), SocketAddr::V4(to)) => {
            let from = libc::in_addr {
                s_addr: u32::from_ne_bytes(from.octets()),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: from,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(
                fd,
                &iov,
                &[ControlMessage::Ipv4PacketInfo(&info)],
                flags,
                Some(&SockaddrIn::from(to)),
            )
        }
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            let interface = if from.is_unicast_link_local() {
                datagram.interface
            } else {
                0
            };
            let from = libc::in6_addr {
                s6_addr: from.octets(),
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: from,
                ipi6_ifindex: interface,
            };
            sendmsg(
                fd,
                &iov,
                &[ControlMessage::Ipv6PacketInfo(&info)],
                flags,
                Some(&SockaddrIn6::from(to)),
            )
        }
        (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_)) => Err(Errno::EAFNOSUPPORT),
    }
}

/// Reads one batch. The headers are made anew each time: reused ones would keep the lengths that the
/// kernel wrote into them.
fn receive(
    socket: &UdpSocket,
    buffers: &mut [[u8; BUFFER]],
    bound: SocketAddr,
    spoof_mark: u32,
) -> io::Result<Vec<Datagram>> {
    let space = nix::cmsg_space!(libc::sockaddr_in6, libc::in6_pktinfo, u32);
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(buffers.len(), Some(space));
    let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers.iter_mut().map(|one| [IoSliceMut::new(one)]).collect();
    let received = recvmmsg(
        socket.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        MsgFlags::MSG_DONTWAIT,
        None,
    )?;
    let batch = received.enumerate().filter_map(|(slot, message)| {
        let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        let (client, interface) = envelope(&message, bound, spoof_mark)?;
        whole.then_some(Datagram {
            slot,
            length: message.bytes,
            client,
            interface,
        })
    });
    Ok(batch.collect())
}

/// Who sent a datagram, to whom, and through which interface. Without its control messages a datagram
/// can't be answered from the right address: it is dropped.
fn envelope(
    message: &RecvMsg<'_, '_, SockaddrStorage>,
    bound: SocketAddr,
    spoof_mark: u32,
) -> Option<(Client, u32)> {
    let from = message.address?;
    let source = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::V4(SocketAddrV4::from(*v4)),
        (_, Some(v6)) => SocketAddr::V6(SocketAddrV6::from(*v6)),
        (None, None) => return None,
    };
    let (mut original, mut local, mut interface, mut mark) = (None, None, 0, 0);
    for control in message.cmsgs().ok()? {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of every control message there is"
        )]
        match control {
            ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                original = Some(SocketAddr::V4(SocketAddrV4::from(SockaddrIn::from(address))));
            }
            ControlMessageOwned::Ipv6OrigDstAddr(address) => {
                original = Some(SocketAddr::V6(SocketAddrV6::from(SockaddrIn6::from(address))));
            }
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                local = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                interface = info.ipi_ifindex.cast_unsigned();
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                local = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                interface = info.ipi6_ifindex;
            }
            ControlMessageOwned::Unknown(unknown)
                if (unknown.cmsg_header.cmsg_level, unknown.cmsg_header.cmsg_type)
                    == (libc::SOL_SOCKET, libc::SO_MARK) =>
            {
                mark = unknown
                    .data_bytes
                    .first_chunk()
                    .map_or(0, |octets| u32::from_ne_bytes(*octets));
            }
            _ => {}
        }
    }
    let asked = original.or_else(|| local.map(|address| SocketAddr::new(address, bound.port())))?;
    let spoofed = mark & spoof_mark != 0;
    Some((
        Client {
            source,
            asked,
            transport: Transport::Udp,
            spoofed,
        },
        interface,
    ))
}
