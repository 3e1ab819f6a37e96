//! The TCP front: framing, pipelining, bounds, what is not DNS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tidegate_dns::Transport;
use tidegate_dns::front::tcp::StreamError;
use tidegate_dns::front::{serve_stream, serve_tcp};
use tidegate_policy::verdict::Reason;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{Bench, Setup, block, client, data, query};
use crate::upstream::eventually;

fn framed(message: &Message) -> Vec<u8> {
    let bytes = message.to_vec().unwrap();
    [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
}

pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let length = timeout(Duration::from_secs(5), stream.read_u16())
        .await
        .expect("an answer")
        .ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    Some(Message::from_vec(&bytes).unwrap())
}

fn stream(bench: &Bench) -> (DuplexStream, JoinHandle<Result<(), StreamError>>) {
    let (near, far) = duplex(1 << 16);
    let handler = Arc::clone(&bench.handler);
    let task = tokio::spawn(async move { serve_stream(&handler, far, &client(Transport::Tcp)).await });
    (near, task)
}

async fn bench() -> Bench {
    let bench = Setup::new(block("a.test:443 b.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    bench.upstream.set("b.test", &["A 192.0.2.2"]);
    bench
}

#[tokio::test]
async fn d04_every_query_of_a_pipelined_stream_is_judged_by_itself() {
    let bench = bench().await;
    let (mut near, _task) = stream(&bench);
    let queries = ["a.test.", "secret.evil.test.", "b.test."].map(|name| query(name, RecordType::A));
    near.write_all(&queries.iter().flat_map(framed).collect::<Vec<_>>())
        .await
        .unwrap();
    let mut codes = std::collections::HashMap::new();
    for _ in 0..3 {
        let answer = read(&mut near).await.unwrap();
        codes.insert(answer.metadata.id, answer.metadata.response_code);
    }
    let code = |at: usize| codes[&queries[at].metadata.id];
    assert_eq!(
        (code(0), code(1), code(2)),
        (
            ResponseCode::NoError,
            ResponseCode::NXDomain,
            ResponseCode::NoError
        )
    );
    assert!(bench.upstream.asked("secret.evil.test").is_empty());
    assert_eq!(bench.events().len(), 3);
}

#[tokio::test]
async fn d05_a_length_prefix_an_octet_at_a_time_is_served() {
    let bench = bench().await;
    let (mut near, _task) = stream(&bench);
    for octet in framed(&query("a.test.", RecordType::A)) {
        near.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(data(&read(&mut near).await.unwrap()), ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn d05_and_bounded_in_time_by_whole_queries_not_by_octets() {
    let bench = bench().await;
    let (mut near, mut task) = stream(&bench);
    let begun = tokio::time::Instant::now();
    let drip = async {
        for octet in framed(&query("a.test.", RecordType::A)) {
            if near.write_all(&[octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drip => unreachable!(),
        ended = &mut task => assert!(matches!(ended.unwrap(), Err(StreamError::Idle))),
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn rfc7766_6_2_1_1_a_slow_query_does_not_hold_a_quick_one_back() {
    let bench = bench().await;
    bench
        .upstream
        .behave("b.test", crate::upstream::Behaviour::Silence);
    bench.assert_answered("a.test.").await;
    let (mut near, _task) = stream(&bench);
    let queries = ["b.test.", "a.test."].map(|name| query(name, RecordType::A));
    near.write_all(&queries.iter().flat_map(framed).collect::<Vec<_>>())
        .await
        .unwrap();
    assert_eq!(data(&read(&mut near).await.unwrap()), ["192.0.2.1"]);
    let late = read(&mut near).await.unwrap();
    assert_eq!(late.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn port_53_tcp_that_is_not_dns_is_closed_with_an_event() {
    let bench = bench().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ] {
        let (mut near, task) = stream(&bench);
        near.write_all(bytes).await.unwrap();
        assert!(matches!(task.await.unwrap(), Err(StreamError::NotDns(_))));
        assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(bench.event().reason, Some(Reason::MalformedDns));
    }
    assert!(bench.upstream.log().is_empty());
}

#[tokio::test]
async fn d16_malformed_queries_are_answered_formerr_and_the_next_one_served() {
    let bench = bench().await;
    let (mut near, _task) = stream(&bench);
    let good = query("a.test.", RecordType::A);
    let mut two = good.to_vec().unwrap();
    two[5] = 2;
    near.write_all(&(two.len() as u16).to_be_bytes()).await.unwrap();
    near.write_all(&two).await.unwrap();
    near.write_all(&framed(&good)).await.unwrap();
    assert_eq!(
        read(&mut near).await.unwrap().metadata.response_code,
        ResponseCode::FormErr
    );
    assert_eq!(data(&read(&mut near).await.unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_its_answers() {
    let bench = bench().await;
    let (mut near, task) = stream(&bench);
    near.write_all(&framed(&query("a.test.", RecordType::A)))
        .await
        .unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(data(&read(&mut near).await.unwrap()), ["192.0.2.1"]);
    task.await.unwrap().unwrap();
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_ends_after_a_thousand_queries() {
    let bench = bench().await;
    bench.assert_answered("a.test.").await;
    let (near, task) = stream(&bench);
    let (mut reader, mut writer) = tokio::io::split(near);
    let one = framed(&query("a.test.", RecordType::A));
    let sender = tokio::spawn(async move {
        for _ in 0..1_001 {
            if writer.write_all(&one).await.is_err() {
                break;
            }
        }
        writer
    });
    let mut answers = 0;
    while read(&mut reader).await.is_some() {
        answers += 1;
    }
    assert_eq!(answers, 1_000);
    task.await.unwrap().unwrap();
    sender.await.unwrap();
}

#[tokio::test]
async fn connections_of_one_source_are_bounded_and_free_their_places() {
    let bench = bench().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(serve_tcp(Arc::clone(&bench.handler), listener));
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut one = TcpStream::connect(address).await.unwrap();
        one.write_all(&framed(&query("a.test.", RecordType::A)))
            .await
            .unwrap();
        assert!(read(&mut one).await.is_some());
        open.push(one);
    }
    let mut over = TcpStream::connect(address).await.unwrap();
    let closed = timeout(Duration::from_secs(5), over.read(&mut [0; 1]))
        .await
        .expect("closed");
    assert!(matches!(closed, Ok(0) | Err(_)));
    open.clear();
    bench.events();
    loop {
        let mut again = TcpStream::connect(address).await.unwrap();
        again
            .write_all(&framed(&query("a.test.", RecordType::A)))
            .await
            .unwrap();
        let read = timeout(Duration::from_secs(5), again.read_u16())
            .await
            .expect("answered or closed");
        if read.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let event = eventually("an event", || bench.events().pop()).await;
    assert_eq!((event.address, event.port), (Some(address.ip()), address.port()));
}
