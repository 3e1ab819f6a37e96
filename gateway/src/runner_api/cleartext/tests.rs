//! The page without TLS: where it stands, what it serves, and its bounds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidegate_dns::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::super::machines::{Machines, Seen};
use super::super::pages::Parts;
use super::*;
use crate::events::EventPipeline;
use crate::jobs::Pending;
use crate::jobs::tests::fixture::World;
use crate::tally::Tallies;

#[test]
fn it_stands_on_port_80_of_each_address_unless_the_runner_api_does() {
    let config = |listen: &[&str]| RunnerApiConfig {
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        cert: "cert.pem".into(),
        key: "key.pem".into(),
        job_page: None,
    };
    let stands = |listen: &[&str]| -> Vec<String> {
        addresses(&config(listen))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        stands(&["10.77.1.1:443", "10.77.1.1:8443", "[fd77:1::1]:443"]),
        ["10.77.1.1:80", "[fd77:1::1]:80"]
    );
    assert_eq!(stands(&["10.77.1.1:443", "10.77.1.1:80"]), Vec::<String>::new());
}

/// A door on loopback, and where it is.
fn door(serves: bool) -> (SocketAddr, JoinSet<()>, World) {
    let world = World::ephemeral();
    let api = RunnerApi::new(Parts {
        jobs: Arc::clone(&world.jobs),
        leases: Arc::clone(&world.leases),
        machines: Arc::new(Everybody(serves)),
        clock: Clock::system(),
        counts: Arc::default(),
        reports: EventPipeline::new("gw-1", 1),
        tallies: Arc::new(Tallies::new("gw-1", None, jiff::Timestamp::now())),
        events: EventPipeline::new("gw-1", 1),
    });
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    Cleartext(vec![listener])
        .serve(&Arc::new(api), &mut tasks)
        .unwrap();
    (address, tasks, world)
}

struct Everybody(bool);

impl Machines for Everybody {
    fn serves(&self, _source: IpAddr) -> bool {
        self.0
    }

    fn behind(&self, _source: IpAddr) -> Pending<'_, Seen> {
        Box::pin(async { Seen::OffLink })
    }
}

async fn said(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut answer))
        .await
        .expect("it ends")
        .unwrap();
    answer
}

async fn asked(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    said(&mut stream, request).await
}

#[tokio::test]
async fn it_tells_why_and_serves_nothing_else() {
    let (address, _tasks, _world) = door(true);
    for (line, status) in [
        ("GET /why/evil.test HTTP/1.1", 200),
        ("HEAD /why/evil.test HTTP/1.1", 200),
        ("GET / HTTP/1.1", 200),
        ("GET /why/a..b HTTP/1.1", 400),
        ("GET /why HTTP/1.1", 404),
        ("POST /why/evil.test HTTP/1.1", 404),
        ("POST /v1/jobs HTTP/1.1", 404),
        ("GET /v1/jobs/current HTTP/1.1", 404),
        ("GET /v1/why?name=evil.test HTTP/1.1", 404),
        ("GET /v1/summary.md HTTP/1.1", 404),
        ("GET /v1/github/acme/web/actions/runs/1/monitor HTTP/1.1", 404),
        ("GET http://evil.test/why/evil.test HTTP/1.1", 404),
        ("CONNECT evil.test:443 HTTP/1.1", 404),
        ("GET /why/../v1/jobs/current HTTP/1.1", 400),
    ] {
        let answer = asked(address, &format!("{line}\r\nHost: tidegate.internal\r\n\r\n")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {answer}"
        );
        for header in [
            "cache-control: no-store",
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
        ] {
            assert!(answer.contains(header), "{line}: {answer}");
        }
        assert!(!answer.to_lowercase().contains("location:"), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_giant_head_a_stranger_and_the_ninth_connection_are_closed() {
    let (address, _tasks, _world) = door(true);
    let giant = format!("GET /why/{} HTTP/1.1\r\n\r\n", "a".repeat(2 * MAX_HEAD));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(giant.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    // What is not read any more may reset the connection before its answer is read.
    let reset = ended.await.expect("it ends").is_err();
    let answer = String::from_utf8_lossy(&answer);
    assert!(reset || answer.starts_with("HTTP/1.1 4"), "{answer}");

    let mut held = Vec::new();
    for _ in 0..MAX_A_SOURCE {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut ninth = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        timeout(Duration::from_secs(10), ninth.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
    let first = said(&mut held[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");

    let (closed, _more_tasks, _other) = door(false);
    let mut stranger = TcpStream::connect(closed).await.unwrap();
    assert_eq!(
        timeout(Duration::from_secs(10), stranger.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
}

/// One runner's connections are its own: another one is answered while they all stand.
#[tokio::test]
async fn who_holds_all_of_its_connections_keeps_nobody_else_out() {
    let (address, _tasks, _world) = door(true);
    let mut held = Vec::new();
    for _ in 0..MAX_A_SOURCE {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    // One more is closed, so the others stand.
    let mut more = TcpStream::connect(address).await.unwrap();
    let read = timeout(Duration::from_secs(10), more.read(&mut [0])).await;
    assert_eq!(read.expect("it is closed").unwrap_or(0), 0);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(address).await.unwrap();
    let answer = said(&mut other, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    const { assert!(MAX_CONNECTIONS >= 16 * MAX_A_SOURCE) };
}
