//! The UDP front on real sockets: batches, the asked address, the bounds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nix::sys::socket::{setsockopt, sockopt};
use nix::{libc, setsockopt_impl, sockopt_impl};
use tidegate_dns::front::serve_udp;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{Bench, Setup, block, data, query};
use crate::upstream::eventually;

/// The bit of the mark for spoofed sources; nothing here sets it.
const SPOOF: u32 = 0x2;

/// A socket as `gateway` makes it, but on a free port.
fn socket(address: &str) -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind(address).unwrap();
    if socket.local_addr().unwrap().is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true).unwrap();
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap();
    } else {
        setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true).unwrap();
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
    }
    socket
}

fn serve(bench: &Bench, address: &str) -> u16 {
    let socket = socket(address);
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(serve_udp(Arc::clone(&bench.handler), socket, SPOOF));
    port
}

async fn exchange(from: &UdpSocket, message: &Message) -> Message {
    from.send(&message.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(5), from.recv(&mut buffer))
        .await
        .expect("an answer")
        .unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

#[tokio::test]
async fn d02_d27_an_answer_leaves_from_the_address_that_was_asked() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    for (bound, asked, from) in [
        ("0.0.0.0:0", "127.0.0.3", "127.0.0.1:0"),
        ("[::]:0", "::1", "[::1]:0"),
    ] {
        let port = serve(&bench, bound);
        let client = UdpSocket::bind(from).await.unwrap();
        // A connected socket hears nothing but answers from where it asked.
        let asked: IpAddr = asked.parse().unwrap();
        client.connect(SocketAddr::new(asked, port)).await.unwrap();
        let answer = exchange(&client, &query("a.test.", RecordType::A)).await;
        assert_eq!(data(&answer), ["192.0.2.1"]);
        let event = bench.event();
        assert_eq!((event.address, event.port), (Some(asked), port));
        assert_eq!(event.source_port, client.local_addr().unwrap().port());
    }
}

#[tokio::test]
async fn a_burst_is_answered_whole_refusals_and_misses_alike() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let port = serve(&bench, "127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", port)).await.unwrap();
    for n in 0..100 {
        let asked = if n % 2 == 0 { "a.test." } else { "evil.test." };
        client
            .send(&query(asked, RecordType::A).to_vec().unwrap())
            .await
            .unwrap();
    }
    let (mut permitted, mut refused) = (0, 0);
    let mut buffer = [0; 4096];
    while permitted + refused < 100 {
        let length = timeout(Duration::from_secs(5), client.recv(&mut buffer))
            .await
            .expect("an answer")
            .unwrap();
        let code = Message::from_vec(&buffer[..length])
            .unwrap()
            .metadata
            .response_code;
        permitted += u32::from(code == ResponseCode::NoError);
        refused += u32::from(code == ResponseCode::NXDomain);
        assert!(
            matches!(code, ResponseCode::NoError | ResponseCode::NXDomain),
            "{code}"
        );
    }
    assert_eq!((permitted, refused), (50, 50));
}

#[tokio::test]
async fn d28_a_malformed_flood_leaves_the_neighbour_served_and_is_not_amplified() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let port = serve(&bench, "127.0.0.1:0");
    let flooder = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    flooder.connect(("127.0.0.1", port)).await.unwrap();
    let good = query("a.test.", RecordType::A).to_vec().unwrap();
    for n in 0..2_000usize {
        let mut bytes = good.clone();
        let at = 2 + n % (bytes.len() - 2);
        bytes[at] = bytes[at].wrapping_add((n / bytes.len()) as u8 + 1);
        bytes.truncate(bytes.len() - n % 7);
        flooder.send(&bytes).await.unwrap();
    }
    let neighbour = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    neighbour.connect(("127.0.0.1", port)).await.unwrap();
    let answer = exchange(&neighbour, &query("a.test.", RecordType::A)).await;
    assert_eq!(data(&answer), ["192.0.2.1"]);
    let mut buffer = [0; 4096];
    while let Ok(length) = flooder.try_recv(&mut buffer) {
        assert!(length <= 1232, "{length} octets");
    }
}

#[tokio::test]
async fn an_oversized_datagram_and_a_response_get_no_answer() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let port = serve(&bench, "127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", port)).await.unwrap();
    let mut response = query("a.test.", RecordType::A).to_vec().unwrap();
    response[2] |= 0x80;
    client.send(&response).await.unwrap();
    client.send(&[0; 3_000]).await.unwrap();
    // The first answer that comes is the one to the query sent last.
    let last = query("a.test.", RecordType::A);
    let answer = exchange(&client, &last).await;
    assert_eq!(answer.metadata.id, last.metadata.id);
}

sockopt_impl!(
    /// `SO_RCVMARK` of asm-generic/socket.h.
    ReceiveMark,
    SetOnly,
    libc::SOL_SOCKET,
    RCVMARK,
    bool
);
const RCVMARK: libc::c_int = 75;

#[tokio::test]
async fn a_spoofed_datagram_is_known_by_its_mark_and_gets_tc_only() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let socket = socket("127.0.0.1:0");
    setsockopt(&socket, ReceiveMark, &true).unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(serve_udp(Arc::clone(&bench.handler), socket, SPOOF));
    for (mark, truncated) in [(SPOOF | 0x8, true), (0x8, false)] {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        setsockopt(&client, sockopt::Mark, &mark).unwrap();
        client.connect(("127.0.0.1", port)).await.unwrap();
        let answer = exchange(&client, &query("a.test.", RecordType::A)).await;
        assert_eq!(answer.metadata.truncation, truncated, "mark {mark}");
    }
}

#[tokio::test]
async fn what_was_repeated_is_told_when_nobody_asks_any_more() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let port = serve(&bench, "127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", port)).await.unwrap();
    for _ in 0..10 {
        exchange(&client, &query("evil.test.", RecordType::A)).await;
    }
    assert_eq!(bench.event().count, 1, "the first is told at once");
    bench.pass(Duration::from_secs(1));
    let rest = eventually("the event of the repeats", || bench.events().pop()).await;
    assert_eq!(rest.count, 9);
}

#[tokio::test]
async fn repeats_in_one_batch_reach_each_client_by_the_address_that_it_asked() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    for (bound, asked, from) in [
        ("0.0.0.0:0", ["127.0.0.3", "127.0.0.4"], "127.0.0.1:0"),
        ("[::]:0", ["::1", "::1"], "[::1]:0"),
    ] {
        let port = serve(&bench, bound);
        let mut clients = Vec::new();
        for asked in asked {
            let client = UdpSocket::bind(from).await.unwrap();
            let asked: IpAddr = asked.parse().unwrap();
            client.connect(SocketAddr::new(asked, port)).await.unwrap();
            clients.push(client);
        }
        for round in 0..20 {
            let asked = [query("a.test.", RecordType::A), query("A.tEst.", RecordType::A)];
            for (client, message) in clients.iter().zip(&asked) {
                client.send(&message.to_vec().unwrap()).await.unwrap();
            }
            let mut buffer = [0; 4096];
            for (client, message) in clients.iter().zip(&asked) {
                let length = timeout(Duration::from_secs(5), client.recv(&mut buffer))
                    .await
                    .unwrap_or_else(|_| panic!("no answer in round {round}"))
                    .unwrap();
                let answer = Message::from_vec(&buffer[..length]).unwrap();
                assert_eq!(answer.metadata.id, message.metadata.id);
                assert_eq!(
                    answer.queries[0].name().to_ascii(),
                    message.queries[0].name().to_ascii()
                );
                assert_eq!(data(&answer), ["192.0.2.1"]);
            }
        }
    }
}

/// On two threads, so that the client may look while the server still works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_a_ticket_is_stored_before_its_answer_leaves() {
    let bench = Setup::new(block("*.a.test:443")).start().await;
    let port = serve(&bench, "127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", port)).await.unwrap();
    for n in 1..=200u8 {
        let (asked, address) = (format!("n{n}.a.test"), format!("192.0.2.{n}"));
        bench.upstream.set(&asked, &[&format!("A {address}")]);
        let answer = exchange(&client, &query(&format!("{asked}."), RecordType::A)).await;
        assert_eq!(data(&answer), [address.as_str()]);
        assert!(
            bench.holds(&asked, &address),
            "the answer was here before its ticket"
        );
    }
}

#[tokio::test]
async fn waiting_queries_of_one_source_are_bounded_and_others_are_served() {
    let bench = Setup::new(block("a.test:443 b.test:443")).start().await;
    for asked in ["a.test", "b.test"] {
        bench.upstream.set(asked, &["A 192.0.2.1"]);
    }
    bench.assert_answered("b.test.").await;
    bench.upstream.hold();
    let port = serve(&bench, "127.0.0.1:0");
    let greedy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    greedy.connect(("127.0.0.1", port)).await.unwrap();
    for _ in 0..600 {
        greedy
            .send(&query("a.test.", RecordType::A).to_vec().unwrap())
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    other.connect(("127.0.0.1", port)).await.unwrap();
    let answer = exchange(&other, &query("b.test.", RecordType::A)).await;
    assert_eq!(data(&answer), ["192.0.2.1"]);
    bench.upstream.release();
    let mut buffer = [0; 4096];
    for answered in 0..512 {
        let received = timeout(Duration::from_secs(5), greedy.recv(&mut buffer)).await;
        received
            .unwrap_or_else(|_| panic!("{answered} of 512 answered"))
            .unwrap();
    }
    // The first over the bound would have come by now: this answer was asked for after all of them.
    let last = query("b.test.", RecordType::A);
    assert_eq!(exchange(&greedy, &last).await.metadata.id, last.metadata.id);
    assert_eq!(bench.upstream.asked("a.test").len(), 1);
}
