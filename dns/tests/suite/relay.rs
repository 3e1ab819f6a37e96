//! Audit: queries to a foreign server are relayed unchanged, read for tickets, refused only by the
//! global block list.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tidegate_dns::front::relay_stream;
use tidegate_dns::{Client, Transport};
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, UdpSocket};

use crate::netns::in_netns;
use crate::support::{Bench, Setup, audit, block, client, data, extended_error, query};
use crate::tcp::read;
use crate::upstream::Upstream;

const FOREIGN: &str = "198.51.100.53:53";

fn foreign(transport: Transport) -> Client {
    Client {
        asked: FOREIGN.parse().unwrap(),
        ..client(transport)
    }
}

/// A bench in audit, and the foreign server.
async fn start(policy: String) -> (Bench, Upstream) {
    let mut setup = Setup::new(policy);
    setup.blocked = vec!["blocked.test", "203.0.113.0/24"];
    let bench = setup.start().await;
    let server = Upstream::start_at(FOREIGN).await;
    server.set("evil.test", &["A 10.0.0.1", "HTTPS 1 . alpn=h3,h2"]);
    server.set("part.test", &["A 192.0.2.1", "A 203.0.113.9"]);
    (bench, server)
}

#[test]
fn d02_a_datagram_to_a_foreign_server_is_relayed_byte_for_byte_in_audit() {
    in_netns(&["198.51.100.53/32"], || async {
        let (bench, server) = start(audit("a.test:443")).await;
        let mut message = query("eViL.test.", RecordType::A);
        let secret = hickory_proto::rr::rdata::opt::EdnsOption::Unknown(65001, b"kept".to_vec());
        message.edns.as_mut().unwrap().options_mut().insert(secret);
        let sent = message.to_vec().unwrap();
        let answer = bench
            .handler
            .handle_bytes(&sent, &foreign(Transport::Udp))
            .await
            .unwrap();
        let source = "198.51.100.53:1".parse().unwrap();
        assert_eq!(
            answer,
            server.answer(&sent, false, source).await.unwrap(),
            "the server's own bytes"
        );
        assert!(bench.upstream.log().is_empty(), "ours was not asked");
        let seen = &server.asked("evil.test")[0];
        assert_eq!(seen.message.to_vec().unwrap(), sent);
        assert_ne!(seen.source.ip().to_string(), "127.0.0.1");
        assert!(bench.holds("evil.test", "10.0.0.1"));
        let event = bench.event();
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::WouldRefuse, Some(Reason::NotAllowed))
        );
        assert_eq!(event.address, Some("198.51.100.53".parse().unwrap()));
        assert_eq!(event.answers.as_slice(), ["10.0.0.1"]);
    });
}

#[test]
fn in_audit_nothing_is_stripped_and_other_types_and_classes_pass() {
    in_netns(&["198.51.100.53/32"], || async {
        let (bench, server) = start(audit("a.test:443")).await;
        let answer = bench
            .send_as(&query("evil.test.", RecordType::HTTPS), &foreign(Transport::Udp))
            .await;
        assert!(data(&answer).join(" ").contains("h3"));
        bench
            .send_as(&query("evil.test.", RecordType::ANY), &foreign(Transport::Udp))
            .await;
        bench
            .send_as(
                &query("evil.test.", RecordType::Unknown(65280)),
                &foreign(Transport::Udp),
            )
            .await;
        let mut chaos = query("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
        bench.send_as(&chaos, &foreign(Transport::Udp)).await;
        assert_eq!(server.log().len(), 4);
        assert!(
            bench
                .events()
                .iter()
                .all(|event| event.verdict == Verdict::WouldRefuse)
        );
    });
}

#[test]
fn the_global_block_list_still_refuses_in_audit() {
    in_netns(&["198.51.100.53/32", "203.0.113.53/32"], || async {
        let (bench, server) = start(audit("a.test:443")).await;
        let answer = bench
            .send_as(&query("blocked.test.", RecordType::A), &foreign(Transport::Udp))
            .await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert!(server.log().is_empty());
        assert_eq!(bench.event().reason, Some(Reason::GlobalBlock));
        let answer = bench
            .send_as(&query("part.test.", RecordType::A), &foreign(Transport::Udp))
            .await;
        assert_eq!(data(&answer), ["192.0.2.1"]);
        bench.events();
        // A server that is itself blocked.
        let blocked = Client {
            asked: "203.0.113.53:53".parse().unwrap(),
            ..client(Transport::Udp)
        };
        let answer = bench.send_as(&query("a.test.", RecordType::A), &blocked).await;
        assert!(extended_error(&answer).unwrap().1.contains("203.0.113.0/24"));
        assert_eq!(bench.event().verdict, Verdict::Refuse);
    });
}

#[test]
fn a_server_that_is_never_dialled_is_answered_for_in_audit() {
    in_netns(&[], || async {
        let bench = Setup::new(audit("a.test:443")).start().await;
        bench.upstream.set("evil.test", &["A 192.0.2.1"]);
        let metadata = Client {
            asked: "169.254.169.254:53".parse().unwrap(),
            ..client(Transport::Udp)
        };
        let answer = bench
            .send_as(&query("evil.test.", RecordType::A), &metadata)
            .await;
        assert_eq!(data(&answer), ["192.0.2.1"]);
    });
}

#[test]
fn a_silent_server_stays_silent_and_is_recorded() {
    in_netns(&["198.51.100.53/32"], || async {
        let (bench, server) = start(audit("a.test:443")).await;
        server.behave("gone.test", crate::upstream::Behaviour::Silence);
        tokio::time::pause();
        let bytes = query("gone.test.", RecordType::A).to_vec().unwrap();
        assert!(
            bench
                .handler
                .handle_bytes(&bytes, &foreign(Transport::Udp))
                .await
                .is_none()
        );
        assert_eq!(bench.event().rcode, None);
    });
}

#[test]
fn datagrams_that_are_no_dns_are_relayed_too_in_audit_and_refused_in_block() {
    in_netns(&["198.51.100.53/32"], || async {
        let echo = UdpSocket::bind(FOREIGN).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 99];
            let (length, source) = echo.recv_from(&mut buffer).await.unwrap();
            echo.send_to(&buffer[..length], source).await.unwrap();
        });
        let bench = Setup::new(audit("a.test:443")).start().await;
        let odd = b"DNSCrypt";
        let answer = bench
            .handler
            .handle_bytes(odd, &foreign(Transport::Udp))
            .await
            .unwrap();
        assert_eq!(answer, odd);
        assert_eq!(bench.event().verdict, Verdict::WouldRefuse);
        let bench = Setup::new(block("a.test:443")).start().await;
        assert!(
            bench
                .handler
                .handle_bytes(odd, &foreign(Transport::Udp))
                .await
                .is_none()
        );
        assert_eq!(bench.event().verdict, Verdict::Refuse);
    });
}

#[test]
fn d03_a_stream_to_a_foreign_server_is_relayed_and_read_in_audit() {
    in_netns(&["198.51.100.53/32"], || async {
        let (bench, server) = start(audit("a.test:443")).await;
        let (mut near, far) = duplex(1 << 16);
        let handler = Arc::clone(&bench.handler);
        let task = tokio::spawn(async move { relay_stream(&handler, far, &foreign(Transport::Tcp)).await });
        let messages = ["evil.test.", "blocked.test.", "part.test."].map(|name| query(name, RecordType::A));
        for message in &messages {
            let bytes = message.to_vec().unwrap();
            near.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat())
                .await
                .unwrap();
        }
        let mut answers = std::collections::HashMap::new();
        for _ in 0..3 {
            let answer: Message = read(&mut near).await.unwrap();
            answers.insert(answer.metadata.id, answer);
        }
        let of = |at: usize| &answers[&messages[at].metadata.id];
        assert_eq!(data(of(0)), ["10.0.0.1"]);
        assert_eq!(of(1).metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(data(of(2)), ["192.0.2.1"]);
        assert!(bench.holds("evil.test", "10.0.0.1"));
        assert_eq!(server.log().len(), 2);
        assert!(server.log().iter().all(|seen| seen.tcp));
        near.shutdown().await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), task)
            .await
            .expect("ended")
            .unwrap()
            .unwrap();
        assert_eq!(bench.events().len(), 3);
    });
}

#[test]
fn a_stream_to_port_53_that_is_no_dns_is_relayed_as_it_is_in_audit() {
    in_netns(&["198.51.100.53/32"], || async {
        let listener = TcpListener::bind(FOREIGN).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-server\r\n").await.unwrap();
            let mut greeting = [0; 16];
            stream.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"SSH-2.0-client\r\n");
            stream.write_all(b"welcome").await.unwrap();
        });
        let bench = Setup::new(audit("a.test:443")).start().await;
        let (mut near, far) = duplex(1 << 16);
        let handler = Arc::clone(&bench.handler);
        tokio::spawn(async move { relay_stream(&handler, far, &foreign(Transport::Tcp)).await });
        near.write_all(b"SSH-2.0-client\r\n").await.unwrap();
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"SSH-2.0-server\r\nwelcome");
        assert_eq!(bench.event().verdict, Verdict::WouldRefuse);
    });
}
