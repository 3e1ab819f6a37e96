//! Associations between real sockets. Diverted datagrams are handed in as the diverted socket would give
//! them; the rest is the kernel's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::net::UdpSocket;

use super::datagram;
use super::receive::Arrival;
use crate::address::{ClientAddr, OriginalDst};
use crate::testing::{Bench, PATIENCE, in_net, until};

const POLICY: &str = "egress-policy: block\nplatform: none\nallowed-endpoints: a.test:443 n.test:123/udp\n";
const NTP: &str = "192.0.2.123:123";

/// The runner's socket, and how its datagrams get to the proxy.
struct Runner<'a> {
    bench: &'a Bench,
    socket: UdpSocket,
}

impl<'a> Runner<'a> {
    async fn new(bench: &'a Bench) -> Self {
        Self {
            bench,
            socket: UdpSocket::bind("198.51.100.2:0").await.unwrap(),
        }
    }

    fn sends_marked(&self, original: &str, payload: &[u8], mark: u32) {
        let client = ClientAddr::new(self.socket.local_addr().unwrap());
        let original = OriginalDst::new(original.parse().unwrap());
        datagram(
            &self.bench.proxy,
            Arrival {
                client,
                original,
                mark,
                length: payload.len(),
            },
            payload,
        );
    }

    fn sends(&self, original: &str, payload: &[u8]) {
        self.sends_marked(original, payload, 0);
    }

    /// The next datagram, and from where.
    async fn hears(&self) -> (Vec<u8>, String) {
        let mut buffer = [0; 2_000];
        let heard = tokio::time::timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
        let (length, from) = heard.expect("no answer").unwrap();
        (buffer[..length].to_vec(), from.to_string())
    }

    async fn unreachables(&self, wanted: usize) {
        let count = || self.bench.icmp.0.lock().len();
        until(|| count() == wanted, || format!("{} ICMP errors", count())).await;
    }
}

/// An origin. Bound to the device, it wins over the proxy's answering socket on the same address, which
/// in the field is another machine's.
fn origin(address: &str) -> UdpSocket {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind_device(Some(b"lo")).unwrap();
    socket.bind(&address.into()).unwrap();
    UdpSocket::from_std(socket.into()).unwrap()
}

async fn served(origin: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_000];
    let (length, from) = tokio::time::timeout(PATIENCE, origin.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    (buffer[..length].to_vec(), from)
}

/// A version 1 Initial as far as anybody looks from outside.
fn initial() -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 8];
    datagram.extend([7; 8]);
    datagram.resize(1_200, 0);
    datagram
}

#[test]
fn an_endpoint_with_udp_is_relayed_and_answered_from_the_address_that_was_asked() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("n.test", "192.0.2.123");
        let (server, runner) = (origin(NTP), Runner::new(&bench).await);
        for said in [&b"one"[..], b"two"] {
            runner.sends(NTP, said);
        }
        let (first, from) = served(&server).await;
        let (second, again) = served(&server).await;
        assert_eq!((first, second), (b"one".to_vec(), b"two".to_vec()));
        assert_eq!(from, again, "one association, one port");
        server.send_to(b"time", from).await.unwrap();
        assert_eq!(runner.hears().await, (b"time".to_vec(), NTP.into()));
        // Open now: the datagram goes straight through.
        runner.sends(NTP, b"three");
        assert_eq!(served(&server).await.0, b"three");
        bench.proxy.registry().close_all();
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.kind, event.verdict),
            (Kind::Udp, Verdict::Permit),
            "{event:?}"
        );
        assert_eq!((event.bytes_up, event.bytes_down), (11, 4));
        until(
            || bench.proxy.udp.table.len() == 0,
            || "an association stays".into(),
        )
        .await;
    });
}

#[test]
fn both_families_are_served() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("n.test", "2001:db8::123");
        let server = origin("[2001:db8::123]:123");
        let runner = Runner {
            bench: &bench,
            socket: UdpSocket::bind("[2001:db8:1::2]:0").await.unwrap(),
        };
        runner.sends("[2001:db8::123]:123", b"one");
        let (_, from) = served(&server).await;
        server.send_to(b"time", from).await.unwrap();
        assert_eq!(
            runner.hears().await,
            (b"time".to_vec(), "[2001:db8::123]:123".into())
        );
    });
}

#[test]
fn quic_is_refused_with_icmp_for_every_datagram_and_one_event() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("a.test", "192.0.2.10");
        let runner = Runner::new(&bench).await;
        for sent in 1..=3 {
            runner.sends("192.0.2.10:443", &initial());
            runner.unreachables(sent).await;
        }
        assert_eq!(bench.icmp.0.lock()[0].2, initial()[..1_200]);
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.kind, event.verdict, event.reason),
            (Kind::Quic, Verdict::Refuse, Some(Reason::Quic))
        );
        assert_eq!(event.name.unwrap().to_string(), "a.test");
        assert_eq!(bench.events.all().len(), 1);
        // The next socket hears it too.
        let next = Runner::new(&bench).await;
        next.sends("192.0.2.10:443", &initial());
        next.unreachables(4).await;
        assert_eq!(bench.events.all().len(), 2);
    });
}

#[test]
fn other_udp_without_an_endpoint_is_refused_with_icmp() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let runner = Runner::new(&bench).await;
        runner.sends("192.0.2.66:51820", b"\x01\0\0\0wireguard");
        runner.unreachables(1).await;
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.kind, event.reason),
            (Kind::Udp, Some(Reason::NoName)),
            "{event:?}"
        );
        runner.sends("169.254.169.254:123", b"x");
        runner.unreachables(2).await;
        assert_eq!(bench.events.nth(2).await.reason, Some(Reason::NeverDial));
    });
}

#[test]
fn audit_relays_quic_and_records_what_block_would_do() {
    in_net(|| async {
        let bench = Bench::new(&POLICY.replace("block", "audit"));
        let (server, runner) = (origin("192.0.2.66:443"), Runner::new(&bench).await);
        runner.sends("192.0.2.66:443", &initial());
        let (said, from) = served(&server).await;
        assert_eq!(said, initial());
        server.send_to(b"answer", from).await.unwrap();
        assert_eq!(runner.hears().await.0, b"answer");
        bench.proxy.registry().close_all();
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.kind, event.verdict, event.reason),
            (Kind::Quic, Verdict::WouldRefuse, Some(Reason::Quic))
        );
        assert!(bench.icmp.0.lock().is_empty());
    });
}

#[test]
fn a_spoofed_source_is_dropped_without_an_answer_even_on_an_open_association() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("n.test", "192.0.2.123");
        let (server, runner) = (origin(NTP), Runner::new(&bench).await);
        runner.sends(NTP, b"mine");
        served(&server).await;
        runner.sends_marked(NTP, b"not mine", bench.proxy.config.spoof_mark | 0x0100_0000);
        runner.sends_marked(NTP, b"not mine", bench.proxy.config.spoof_mark);
        runner.sends(NTP, b"mine again");
        assert_eq!(served(&server).await.0, b"mine again");
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::SpoofedSource))
        );
        assert_eq!(bench.events.all().len(), 1, "one for both");
        assert!(bench.icmp.0.lock().is_empty());
    });
}

#[test]
fn associations_of_a_job_are_capped() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| config.limits.associations_per_job = 1);
        bench.ticket("n.test", "192.0.2.123");
        let (server, first, second) = (origin(NTP), Runner::new(&bench).await, Runner::new(&bench).await);
        first.sends(NTP, b"one");
        served(&server).await;
        second.sends(NTP, b"two");
        second.unreachables(1).await;
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::Limit));
    });
}

#[test]
fn a_quiet_association_is_told_once_and_a_silent_one_ends() {
    in_net(|| async {
        let bench = Bench::with(POLICY, &[], |config| {
            config.timeouts.udp_quiet = Duration::from_millis(40);
            config.timeouts.udp_idle = Duration::from_millis(400);
        });
        bench.ticket("n.test", "192.0.2.123");
        let (server, runner) = (origin(NTP), Runner::new(&bench).await);
        runner.sends(NTP, b"one");
        let (_, from) = served(&server).await;
        assert_eq!(bench.events.nth(1).await.bytes_up, 3);
        assert_eq!(bench.proxy.udp.table.len(), 1, "it is open still");
        runner.sends(NTP, b"three");
        assert_eq!(served(&server).await.1, from, "and the same one");
        let last = bench.events.nth(2).await;
        assert_eq!(
            (last.bytes_up, last.note.as_deref()),
            (5, Some("closed after the idle timeout"))
        );
        assert_ne!(last.id, bench.events.nth(1).await.id);
        until(
            || bench.proxy.udp.table.len() == 0,
            || "an association stays".into(),
        )
        .await;
        runner.sends(NTP, b"two");
        assert_eq!(served(&server).await.0, b"two");
        assert_eq!(bench.events.all().len(), 2);
    });
}

#[test]
fn a_new_policy_closes_an_association() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("n.test", "192.0.2.124");
        let runner = Runner::new(&bench).await;
        let server = origin("192.0.2.124:123");
        runner.sends("192.0.2.124:123", b"one");
        served(&server).await;
        bench.change_policy(&POLICY.replace("n.test:123/udp", ""));
        assert_eq!(bench.proxy.registry().rejudge_all(), 1);
        let events = (bench.events.nth(1).await, bench.events.nth(2).await);
        assert_eq!(
            (events.0.verdict, events.1.reason),
            (Verdict::Permit, Some(Reason::PolicyChanged))
        );
    });
}

#[test]
fn a_drain_takes_no_new_association_and_serves_the_open_ones() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.ticket("n.test", "192.0.2.123");
        let (server, old, new) = (origin(NTP), Runner::new(&bench).await, Runner::new(&bench).await);
        old.sends(NTP, b"one");
        served(&server).await;
        let drain = tokio::spawn({
            let proxy = bench.proxy.clone();
            async move { proxy.drain(Duration::from_millis(300)).await }
        });
        until(|| bench.proxy.closing.is_cancelled(), || "no drain".into()).await;
        new.sends(NTP, b"nothing new");
        old.sends(NTP, b"two");
        assert_eq!(served(&server).await.0, b"two");
        assert_eq!(drain.await.unwrap(), 1);
        assert_eq!(bench.events.all().len(), 1);
    });
}

#[test]
fn a_diverted_socket_is_served_until_the_drain() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        let diverted = std::net::UdpSocket::bind("192.0.2.9:4500").unwrap();
        setsockopt(&diverted, sockopt::Ipv4OrigDstAddr, &true).unwrap();
        let serving = tokio::spawn(bench.proxy.clone().serve_udp(diverted));
        let runner = UdpSocket::bind("198.51.100.2:0").await.unwrap();
        runner.send_to(b"ike", "192.0.2.9:4500").await.unwrap();
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.port, event.source_port),
            (4_500, runner.local_addr().unwrap().port())
        );
        bench.proxy.drain(PATIENCE).await;
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn l15_datagrams_that_waited_for_a_policy_that_is_gone_are_not_sent() {
    in_net(|| async {
        let bench = Bench::new(POLICY);
        bench.resolves("n.test", &["192.0.2.123"]);
        let (server, runner) = (origin(NTP), Runner::new(&bench).await);
        let held = bench.names.held.clone().lock_owned().await;
        runner.sends(NTP, b"payload");
        let asked = || bench.names.asked.lock().clone();
        until(|| !asked().is_empty(), || format!("{:?}", asked())).await;
        bench.change_policy(&POLICY.replace("n.test:123/udp", ""));
        bench.proxy.registry().rejudge_all();
        drop(held);
        bench.open_flows(0).await;
        let event = bench.events.nth(1).await;
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::PolicyChanged)),
            "{event:?}"
        );
        assert_eq!(
            server.try_recv(&mut [0; 64]).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
    });
}
