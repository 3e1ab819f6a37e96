//! Sends whole packets that the gateway built itself: owns the two raw sockets;
//! never waits. Driven by the refusals of datagrams and the answers to echo.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::filter;

/// Raw sockets of both families that take whole packets, whatever their source.
#[derive(Debug)]
pub struct RawSender {
    v4: Socket,
    v6: Socket,
}

impl RawSender {
    /// Needs `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            v4: raw(Domain::IPV4)?,
            v6: raw(Domain::IPV6)?,
        })
    }

    /// Sends a packet to a runner. `interface` (an index) matters for link-local
    /// addresses only. Doesn't wait: a full queue is the error `WouldBlock`.
    pub fn send(&self, packet: &[u8], to: IpAddr, interface: u32) -> io::Result<()> {
        let (socket, address) = match to {
            IpAddr::V4(_) => (&self.v4, SocketAddr::new(to, 0)),
            IpAddr::V6(v6) => {
                let scope = if v6.is_unicast_link_local() { interface } else { 0 };
                (&self.v6, SocketAddrV6::new(v6, 0, 0, scope).into())
            }
        };
        socket.send_to(packet, &address.into()).map(drop)
    }
}

/// `IPPROTO_RAW` takes packets with their IP header, in both families.
fn raw(domain: Domain) -> io::Result<Socket> {
    let kind = Type::RAW.nonblocking();
    let socket = Socket::new(domain, kind, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    // It also receives protocol 255, which a runner could send: take nothing in.
    let nothing: Vec<SockFilter> = filter::nothing().into_iter().map(SockFilter::from).collect();
    socket.attach_filter(&nothing)?;
    Ok(socket)
}
