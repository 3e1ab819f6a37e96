//! Dialling: one connection to one permitted address. Owns the egress socket and the classes of failure;
//! never chooses an address (a [`DialPermit`] is one, and only `policy` makes it). Driven by `route`.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_policy::judge::permit::DialPermit;
use tidegate_policy::special;
use tokio::net::UdpSocket;

use crate::address::{ClientAddr, UpstreamAddr};
use crate::config::Egress;
use crate::leg::Leg;
use crate::metrics::FlowMetrics;
use crate::reactor::Alarm;
use crate::stream::Stream;

/// Why a permitted address could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialCause {
    /// The host answered with a reset: no such port.
    Refused,
    /// No answer in time.
    Timeout,
    /// No route, or a router said no.
    Unreachable,
    /// The gateway has no port left towards that destination.
    Ports,
    /// The gateway has no descriptor or memory left.
    Resources,
    /// Anything else; see the log.
    Other,
}

impl DialCause {
    /// Every cause, in the order of declaration.
    pub(crate) const ALL: [Self; 6] = [
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::Ports,
        Self::Resources,
        Self::Other,
    ];

    /// The spelling of the metric's label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Ports => "ports",
            Self::Resources => "resources",
            Self::Other => "other",
        }
    }

    /// Classifies the error of a connect.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET) => Self::Refused,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EACCES | libc::EPERM) => {
                Self::Unreachable
            }
            Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => Self::Ports,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Resources,
            _ if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other,
        }
    }
}

/// A permitted address that could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot dial {address}")]
pub(crate) struct DialError {
    /// The address.
    pub(crate) address: UpstreamAddr,
    /// The class of the failure.
    pub(crate) cause: DialCause,
    #[source]
    source: io::Error,
}

impl DialError {
    /// Classifies the failure to reach `address`.
    pub(crate) fn new(address: UpstreamAddr, source: io::Error) -> Self {
        Self {
            address,
            cause: DialCause::of(&source),
            source,
        }
    }
}

/// What there is to say over a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Bytes are held that go out as soon as it is made, and carry its acknowledgement: a packet less, and a
    /// server that is never spoken to never sees a connection.
    Held,
    /// Nothing yet; the server may be the one who speaks, and does so only once it is acknowledged.
    None,
}

/// Opens connections as configured.
#[derive(Debug)]
pub(crate) struct Dialer {
    egress: Egress,
    turn: AtomicUsize,
    timeout: Duration,
    metrics: Arc<FlowMetrics>,
}

impl Dialer {
    pub(crate) fn new(egress: Egress, timeout: Duration, metrics: Arc<FlowMetrics>) -> Self {
        Self {
            egress,
            turn: AtomicUsize::new(0),
            timeout,
            metrics,
        }
    }

    /// Connects to what `permit` names, for `client`.
    pub(crate) async fn dial(
        &self,
        permit: &DialPermit,
        client: ClientAddr,
        greeting: Greeting,
    ) -> Result<Upstream, DialError> {
        let address = UpstreamAddr::new(SocketAddr::new(permit.address(), permit.port()));
        match self.connect(address, client, greeting).await {
            Ok(stream) => {
                self.metrics.egress_ports.increment(1);
                Ok(Upstream {
                    leg: Leg::new(stream),
                    address,
                    metrics: Arc::clone(&self.metrics),
                })
            }
            Err(source) => {
                let error = DialError::new(address, source);
                self.metrics.dial_failed(error.cause);
                tracing::debug!(%error, cause = error.cause.as_str(), source = %error.source);
                Err(error)
            }
        }
    }

    async fn connect(
        &self,
        address: UpstreamAddr,
        client: ClientAddr,
        greeting: Greeting,
    ) -> io::Result<Stream> {
        let socket = self.socket(address, client, Type::STREAM, Protocol::TCP)?;
        if greeting == Greeting::Held {
            socket.set_tcp_quickack(false)?;
        }
        match socket.connect(&address.socket().into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let stream = Stream::connecting(socket.into())?;
        connected(&stream, self.timeout).await?;
        Ok(stream)
    }

    /// A datagram socket connected to what `permit` names, for `client`.
    pub(crate) fn datagrams(&self, permit: &DialPermit, client: ClientAddr) -> Result<UdpSocket, DialError> {
        let address = UpstreamAddr::new(SocketAddr::new(permit.address(), permit.port()));
        let connected = self
            .socket(address, client, Type::DGRAM, Protocol::UDP)
            .and_then(|socket| {
                socket.connect(&address.socket().into())?;
                UdpSocket::from_std(socket.into())
            });
        connected.map_err(|source| {
            let error = DialError::new(address, source);
            self.metrics.dial_failed(error.cause);
            error
        })
    }

    fn socket(
        &self,
        address: UpstreamAddr,
        client: ClientAddr,
        kind: Type,
        protocol: Protocol,
    ) -> io::Result<Socket> {
        let domain = Domain::for_address(address.socket());
        let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(source) = self.source(address.ip(), client.ip()) {
            // Without a port reserved at bind, ports are shared between destinations.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            if self.egress == Egress::Preserve {
                match source {
                    IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                    IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
                }
            }
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(socket)
    }

    /// The source address to bind, of the destination's family; none lets the routes choose.
    fn source(&self, address: IpAddr, client: IpAddr) -> Option<IpAddr> {
        match &self.egress {
            Egress::Gateway => None,
            Egress::Preserve => (client.is_ipv4() == address.is_ipv4()).then_some(client),
            Egress::Addresses(all) => {
                let usable = || all.iter().filter(|one| one.is_ipv4() == address.is_ipv4());
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                usable().nth(turn % usable().count().max(1)).copied()
            }
        }
    }
}

/// Waits for a connection to be made, but only so long.
async fn connected(stream: &Stream, patience: Duration) -> io::Result<()> {
    let (mut connected, mut patience) = (pin!(stream.connected()), Alarm::after(patience));
    poll_fn(|cx| match connected.as_mut().poll(cx) {
        Poll::Ready(connected) => Poll::Ready(connected),
        Poll::Pending => patience.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
    })
    .await
}

/// A dialled connection.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) leg: Leg,
    pub(crate) address: UpstreamAddr,
    metrics: Arc<FlowMetrics>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.metrics.egress_ports.decrement(1);
    }
}

/// The order in which a name's addresses are tried: families take turns, the flow's own first (RFC 8305
/// §4), no address twice, at most `most`.
pub(crate) fn order(addresses: &[IpAddr], v6_first: bool, most: usize) -> Vec<IpAddr> {
    let mut seen = Vec::with_capacity(addresses.len());
    for address in addresses.iter().map(|address| special::canonical(*address)) {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    let (preferred, other): (Vec<IpAddr>, Vec<IpAddr>) = seen
        .into_iter()
        .partition(|address| address.is_ipv6() == v6_first);
    let mut ordered = Vec::with_capacity(most);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    while ordered.len() < most {
        let before = ordered.len();
        ordered.extend(preferred.next().into_iter().chain(other.next()));
        if ordered.len() == before {
            break;
        }
    }
    ordered.truncate(most);
    ordered
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::testing::until;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn rfc_8305_families_take_turns_and_the_flows_own_comes_first() {
        let all = addresses(&[
            "192.0.2.1",
            "192.0.2.2",
            "2001:db8::1",
            "192.0.2.1",
            "::ffff:192.0.2.2",
        ]);
        assert_eq!(
            order(&all, true, 4),
            addresses(&["2001:db8::1", "192.0.2.1", "192.0.2.2"])
        );
        assert_eq!(order(&all, false, 2), addresses(&["192.0.2.1", "2001:db8::1"]));
        assert!(order(&[], false, 4).is_empty());
    }

    #[test]
    fn egress_addresses_take_turns_within_the_family() {
        let all = addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let dialer = Dialer::new(
            Egress::Addresses(all),
            Duration::from_secs(1),
            Arc::new(FlowMetrics::new()),
        );
        let client = "10.0.0.1".parse().unwrap();
        let picked: Vec<_> = (0..4)
            .filter_map(|_| dialer.source("198.51.100.1".parse().unwrap(), client))
            .collect();
        assert_eq!(
            picked,
            addresses(&["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"])
        );
        assert_eq!(
            dialer.source("::2".parse().unwrap(), client),
            Some("2001:db8::1".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn a_held_greeting_carries_the_acknowledgement() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = UpstreamAddr::new(listener.local_addr().unwrap());
        let client = ClientAddr::new(address.socket());
        let metrics = Arc::new(FlowMetrics::new());
        let dialer = Dialer::new(Egress::Gateway, Duration::from_secs(5), metrics);
        let at_once = dialer.connect(address, client, Greeting::None).await.unwrap();
        listener.accept().expect("acknowledged before anything is said");
        drop(at_once);
        for tries in 1.. {
            let held = dialer.connect(address, client, Greeting::Held).await.unwrap();
            // The kernel acknowledges by itself after 200 ms, which a busy machine may let pass.
            let unknown = listener.accept().is_err();
            assert!(unknown || tries < 10, "acknowledged without a greeting");
            if unknown {
                held.write_all(b"hello").await.unwrap();
                return until(|| listener.accept().is_ok(), || "no connection".into()).await;
            }
        }
    }

    #[test]
    fn errors_are_classified_by_whose_fault_they_are() {
        for (errno, cause) in [
            (libc::ECONNREFUSED, DialCause::Refused),
            (libc::ENETUNREACH, DialCause::Unreachable),
            (libc::EADDRNOTAVAIL, DialCause::Ports),
            (libc::EMFILE, DialCause::Resources),
            (libc::EINVAL, DialCause::Other),
        ] {
            assert_eq!(DialCause::of(&io::Error::from_raw_os_error(errno)), cause);
        }
        assert_eq!(DialCause::of(&io::ErrorKind::TimedOut.into()), DialCause::Timeout);
    }
}
