//! The sockets that diverted packets are delivered to: owns their options; never
//! reads from them. The data plane's threads each build their own set, on one
//! port (`SO_REUSEPORT`).
//!
//! The proxy's sockets are bound to loopback addresses: `tproxy` finds them there,
//! and nothing on the wire can. `TCP_DEFER_ACCEPT` is on none of them, it would
//! stall protocols in which the server speaks first.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::sys;

/// Connections that may wait to be accepted, a listener.
const BACKLOG: i32 = 4_096;

/// Bytes of datagrams that may wait, a socket (the kernel doubles it).
const RECEIVE_BUFFER: usize = 4 << 20;

/// The family of a diverted flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    fn loopback(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::LOCALHOST, port).into(),
            Self::V6 => (Ipv6Addr::LOCALHOST, port).into(),
        }
    }
}

/// A socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} the {what} socket on {address}")]
pub struct ListenError {
    step: &'static str,
    what: &'static str,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// The proxy's TCP listener for one family. An accepted connection's local
/// address is the destination that the runner asked for.
pub fn proxy_tcp(family: Family, port: u16) -> Result<TcpListener, ListenError> {
    tcp("proxy TCP", family.loopback(port))
}

/// The proxy's UDP socket for one family: gets the first datagrams of each
/// association, with original destination, packet info and mark as control messages.
pub fn proxy_udp(family: Family, port: u16) -> Result<UdpSocket, ListenError> {
    udp("proxy UDP", family.loopback(port))
}

/// The DNS listener of one network, on the runner-facing address.
pub fn dns_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    tcp("DNS TCP", address)
}

/// The DNS socket of one network, on the runner-facing address; control messages
/// as [`proxy_udp`]'s. It gets queries to any address and may answer from it
/// (packet info chooses the source address, the bound port is 53 already).
pub fn dns_udp(address: SocketAddr) -> Result<UdpSocket, ListenError> {
    udp("DNS UDP", address)
}

/// A listener of the runner API, on one of the gateway's own addresses. It shares its port with nobody.
pub fn runner_api(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let what = "runner API";
    let opened = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    );
    let socket = at("open", what, address, opened)?;
    at("set up", what, address, socket.set_reuse_address(true))?;
    if address.is_ipv6() {
        at("set up", what, address, socket.set_only_v6(true))?;
        // A fresh address is not bindable until nobody on the link was found to have it (RFC 4862 §5.4).
        at("set up", what, address, socket.set_freebind_v6(true))?;
    }
    at("bind", what, address, socket.bind(&SockAddr::from(address)))?;
    at("listen on", what, address, socket.listen(BACKLOG))?;
    Ok(socket.into())
}

fn tcp(what: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let socket = bound(what, address, Type::STREAM)?;
    // Connections inherit it: an urgent byte stays in its place in the stream, so
    // that what is judged is what is relayed.
    at("set up", what, address, socket.set_out_of_band_inline(true))?;
    at("listen on", what, address, socket.listen(BACKLOG))?;
    Ok(socket.into())
}

fn udp(what: &'static str, address: SocketAddr) -> Result<UdpSocket, ListenError> {
    let socket = bound(what, address, Type::DGRAM)?;
    at("size", what, address, socket.set_recv_buffer_size(RECEIVE_BUFFER))?;
    at(
        "ask for control messages on",
        what,
        address,
        ask_for_control(&socket, address),
    )?;
    Ok(socket.into())
}

fn ask_for_control(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let options = match address {
        SocketAddr::V4(_) => [
            (libc::SOL_IP, libc::IP_RECVORIGDSTADDR),
            (libc::SOL_IP, libc::IP_PKTINFO),
        ],
        SocketAddr::V6(_) => [
            (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR),
            (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        ],
    };
    for (level, name) in options {
        sys::set_int_option(socket, level, name, 1)?;
    }
    // The mark tells a spoofed source. Since Linux 5.19; without it spoofs go
    // unseen, so an older kernel is an error rather than a silent hole.
    sys::set_int_option(socket, libc::SOL_SOCKET, SO_RCVMARK, 1)
}

/// `SO_RCVMARK` of `asm-generic/socket.h`, which `libc` doesn't name.
const SO_RCVMARK: i32 = 75;

fn bound(what: &'static str, address: SocketAddr, kind: Type) -> Result<Socket, ListenError> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let domain = Domain::for_address(address);
    let socket = at(
        "open",
        what,
        address,
        Socket::new(domain, kind.nonblocking(), Some(protocol)),
    )?;
    at("set up", what, address, set_up(&socket, address))?;
    at("bind", what, address, socket.bind(&SockAddr::from(address)))?;
    Ok(socket)
}

fn set_up(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)
        }
    }
}

fn at<T>(
    step: &'static str,
    what: &'static str,
    address: SocketAddr,
    result: io::Result<T>,
) -> Result<T, ListenError> {
    result.map_err(|source| ListenError {
        step,
        what,
        address,
        source,
    })
}
