//! The gateway's own echo requests: owns the two ICMP sockets and the requests in
//! flight; never carries a runner's bytes and never decides who may ask. Whoever
//! answers runners' echo requests drives it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    filter,
    packet::{self, ICMP_HEADER, kind},
};

/// Most requests in flight; with 10 a second for each job and 5 s of patience
/// that is 80 jobs pinging silence.
pub const MAX_PINGS: usize = 4_096;

/// Longest message read; ours are 16 bytes and an IP header.
const MESSAGE: usize = 128;

/// How long the far host took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rtt(pub Duration);

/// Why no answer came back.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// No answer in time.
    #[error("{0} did not answer")]
    TimedOut(IpAddr),
    /// [`MAX_PINGS`] are in flight.
    #[error("{MAX_PINGS} echo requests are in flight already")]
    Busy,
    /// The request could not be sent (no route, say).
    #[error("cannot send an echo request to {0}")]
    Send(IpAddr, #[source] io::Error),
}

/// The engine. Dropping it ends its two reading tasks.
#[derive(Debug)]
pub struct Echo {
    shared: Arc<Shared>,
    readers: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    v4: UdpSocket,
    v6: UdpSocket,
    flying: Mutex<HashMap<Key, oneshot::Sender<Instant>>>,
    next: AtomicU16,
    /// Tells our requests from those of other programs on the machine.
    identifier: u16,
    /// Sent along and expected back: an answer to a request that was never made
    /// can't be guessed.
    nonce: [u8; 8],
}

type Key = (IpAddr, u16);

impl Echo {
    /// Opens the sockets. Needs `CAP_NET_RAW` (kernel "ping sockets" would not,
    /// but are forbidden to everybody by default). Call within the runtime.
    pub fn open() -> io::Result<Self> {
        let random = RandomState::new().hash_one("echo").to_ne_bytes();
        let identifier = u16::from_ne_bytes([random[0], random[1]]);
        let shared = Arc::new(Shared {
            v4: icmp_socket(Domain::IPV4, identifier)?,
            v6: icmp_socket(Domain::IPV6, identifier)?,
            flying: Mutex::default(),
            next: AtomicU16::new(0),
            identifier,
            nonce: RandomState::new().hash_one("nonce").to_ne_bytes(),
        });
        let readers = [Family::V4, Family::V6].map(|family| tokio::spawn(read(Arc::clone(&shared), family)));
        Ok(Self { shared, readers })
    }

    /// Asks a far host for an echo, once, from the gateway's own address.
    pub async fn ping(&self, destination: IpAddr, patience: Duration) -> Result<Rtt, EchoError> {
        let (flight, landed) = Flight::begin(&self.shared, destination)?;
        let message = self.shared.message(flight.key);
        let sent = Instant::now();
        let socket = match destination {
            IpAddr::V4(_) => &self.shared.v4,
            IpAddr::V6(_) => &self.shared.v6,
        };
        socket
            .send_to(&message, SocketAddr::new(destination, 0))
            .await
            .map_err(|error| EchoError::Send(destination, error))?;
        match timeout(patience, landed).await {
            Ok(Ok(received)) => Ok(Rtt(received.saturating_duration_since(sent))),
            Ok(Err(_)) | Err(_) => Err(EchoError::TimedOut(destination)),
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.flying.lock().len()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

/// A request's place in the table, given back however its future ends.
struct Flight<'a> {
    shared: &'a Shared,
    key: Key,
}

impl<'a> Flight<'a> {
    fn begin(
        shared: &'a Shared,
        destination: IpAddr,
    ) -> Result<(Self, oneshot::Receiver<Instant>), EchoError> {
        let mut flying = shared.flying.lock();
        if flying.len() >= MAX_PINGS {
            return Err(EchoError::Busy);
        }
        // Fewer are in flight than there are sequence numbers: one is free.
        let key = loop {
            let key = (destination, shared.next.fetch_add(1, Ordering::Relaxed));
            if !flying.contains_key(&key) {
                break key;
            }
        };
        let (lands, landed) = oneshot::channel();
        flying.insert(key, lands);
        drop(flying);
        Ok((Self { shared, key }, landed))
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.shared.flying.lock().remove(&self.key);
    }
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Shared {
    fn message(&self, (destination, sequence): Key) -> Vec<u8> {
        let kind = match destination {
            IpAddr::V4(_) => kind::V4_ECHO_REQUEST,
            IpAddr::V6(_) => kind::V6_ECHO_REQUEST,
        };
        let head = packet::echo_head(kind, self.identifier, sequence);
        let mut message = [&head[..], &self.nonce].concat();
        if destination.is_ipv4() {
            // For IPv6 the kernel does it: it alone knows the source address.
            let sum = packet::checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// Hands an answer to whoever waits for it.
    fn landed(&self, from: IpAddr, message: &[u8], now: Instant) {
        let Some(([_, _, _, _, a, b, c, d], payload)) = message.split_first_chunk::<ICMP_HEADER>() else {
            return;
        };
        let ours = u16::from_be_bytes([*a, *b]) == self.identifier && payload == self.nonce;
        let key = (from, u16::from_be_bytes([*c, *d]));
        if ours && let Some(lands) = self.flying.lock().remove(&key) {
            // Who waited may have given up in this moment.
            let _ = lands.send(now);
        }
    }
}

async fn read(shared: Arc<Shared>, family: Family) {
    let socket = match family {
        Family::V4 => &shared.v4,
        Family::V6 => &shared.v6,
    };
    let mut buffer = [0; MESSAGE];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let received = &buffer[..length.min(MESSAGE)];
                let message = match family {
                    // IPv4 raw sockets give the IP header too.
                    Family::V4 => received
                        .first()
                        .and_then(|first| received.get(4 * usize::from(first & 0xf)..)),
                    Family::V6 => Some(received),
                };
                shared.landed(from.ip(), message.unwrap_or_default(), Instant::now());
            }
            Err(error) => {
                // An error of an earlier send; the socket goes on.
                tracing::debug!(%error, "echo socket");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A raw ICMP socket, in the clothes of a UDP socket: both send to and receive
/// from addresses, and the runtime knows how to wait for the one.
fn icmp_socket(domain: Domain, identifier: u16) -> io::Result<UdpSocket> {
    let (protocol, program) = if domain == Domain::IPV4 {
        (Protocol::ICMPV4, filter::echo_replies_v4(identifier))
    } else {
        (Protocol::ICMPV6, filter::echo_replies_v6(identifier))
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    let program: Vec<SockFilter> = program.into_iter().map(SockFilter::from).collect();
    socket.attach_filter(&program)?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[tokio::test]
    async fn loopback_answers_in_both_families() {
        let echo = Echo::open().unwrap();
        for to in ["127.0.0.1", "::1"] {
            let rtt = echo
                .ping(to.parse().unwrap(), Duration::from_secs(10))
                .await
                .unwrap();
            assert!(rtt < Rtt(Duration::from_secs(10)));
        }
        assert_eq!(echo.in_flight(), 0);
    }

    #[tokio::test]
    async fn only_the_awaited_answer_lands() {
        let echo = Echo::open().unwrap();
        let far: IpAddr = "203.0.113.9".parse().unwrap();
        let (flight, mut landed) = Flight::begin(&echo.shared, far).unwrap();
        let answer = echo.shared.message(flight.key);
        let now = Instant::now();
        echo.shared.landed("203.0.113.8".parse().unwrap(), &answer, now);
        let mut other_nonce = answer.clone();
        other_nonce[8] ^= 1;
        echo.shared.landed(far, &other_nonce, now);
        for cut in 0..answer.len() {
            echo.shared.landed(far, &answer[..cut], now);
        }
        assert!(landed.try_recv().is_err());
        echo.shared.landed(far, &answer, now);
        assert_eq!(landed.try_recv(), Ok(now));
    }

    #[tokio::test]
    async fn at_the_bound_a_request_is_refused() {
        let echo = Echo::open().unwrap();
        let far: IpAddr = "203.0.113.9".parse().unwrap();
        let flights: Vec<_> = (0..MAX_PINGS)
            .map(|_| Flight::begin(&echo.shared, far).unwrap())
            .collect();
        assert!(matches!(Flight::begin(&echo.shared, far), Err(EchoError::Busy)));
        drop(flights);
        assert!(Flight::begin(&echo.shared, far).is_ok());
    }
}
