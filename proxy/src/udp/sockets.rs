//! The two sockets of a UDP association. Owns their making; never relays. Driven by the association's
//! task.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_policy::DnsName;
use tokio::net::UdpSocket;

use crate::address::{OriginalDst, UpstreamAddr};
use crate::context::{FlowContext, Judged};
use crate::route::{Granted, Unreached};

/// A permitted association with its socket towards the server.
pub(super) struct Reached {
    pub(super) socket: UdpSocket,
    pub(super) judged: Judged,
    pub(super) address: UpstreamAddr,
    pub(super) proven: Option<DnsName>,
}

/// Carries a ruling out: connects a socket to the address that it permits.
pub(super) async fn reach(context: &FlowContext, judged: Judged) -> Result<Reached, Unreached> {
    let Granted {
        judged,
        first,
        proven,
        ..
    } = context.grant(judged, None).await.map_err(Unreached::Refused)?;
    match context.proxy.dialer.datagrams(&first, context.client) {
        Ok(socket) => {
            let address = UpstreamAddr::new(SocketAddr::new(first.address(), first.port()));
            Ok(Reached {
                socket,
                judged,
                address,
                proven,
            })
        }
        Err(error) => Err(Unreached::Failed(judged, error)),
    }
}

/// A socket that speaks to clients from the address that they chose. Several associations with one server
/// have one each, which `SO_REUSEADDR` allows; none of them ever receives.
pub(super) fn reply_socket(original: OriginalDst) -> io::Result<UdpSocket> {
    let address = original.socket();
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
