//! The API over real sockets on loopback: TLS, both HTTP versions, bounds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tidegate_dns::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::machines::{Machines, Seen};
use super::super::pages::Parts;
use super::*;
use crate::events::EventPipeline;
use crate::intercept::InterfaceName;
use crate::jobs::Pending;
use crate::jobs::tests::fixture::World;

/// Loopback is a runner network, while it is told so.
struct Loopback(AtomicBool);

impl Machines for Loopback {
    fn serves(&self, _: IpAddr) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn behind(&self, _: IpAddr) -> Pending<'_, Seen> {
        Box::pin(async { Seen::OffLink })
    }
}

struct Served {
    _dir: TempDir,
    _world: World,
    _tasks: JoinSet<()>,
    address: SocketAddr,
    roots: RootCertStore,
    loopback: Arc<Loopback>,
}

/// A loopback address that no other test has, with a port that was free a moment ago.
fn free() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let own = Ipv4Addr::new(127, 77, 3, NEXT.fetch_add(1, Ordering::Relaxed));
    let probe = StdListener::bind((own, 0)).unwrap();
    probe.local_addr().unwrap()
}

fn networks(address: SocketAddr) -> Vec<NetworkPlan> {
    let interface = InterfaceName::parse("runners0").unwrap();
    vec![NetworkPlan::new("runners", interface, vec![address.ip()])]
}

/// Certificate and key on disk, and the configuration that names them.
fn configured(dir: &TempDir, listen: SocketAddr) -> (RunnerApiConfig, RootCertStore) {
    let names = vec!["runner.test".to_owned(), "agent.test".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let (chain, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let config = RunnerApiConfig {
        listen: vec![listen],
        cert: chain,
        key,
        job_page: None,
    };
    (config, roots)
}

fn serve() -> Served {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::ephemeral());
    let address = free();
    let (config, roots) = configured(&dir, address);
    let loopback = Arc::new(Loopback(AtomicBool::new(true)));
    let api = Arc::new(RunnerApi::new(Parts {
        jobs: Arc::clone(&world.jobs),
        leases: Arc::clone(&world.leases),
        machines: loopback.clone(),
        clock: Clock::system(),
        counts: Arc::default(),
        reports: EventPipeline::new("gw-1", 1),
        tallies: Arc::new(crate::tally::Tallies::new("gw-1", None, jiff::Timestamp::now())),
        events: EventPipeline::new("gw-1", 1),
    }));
    let mut tasks = JoinSet::new();
    let listeners = Listeners::open(&config, &networks(address), &[]).unwrap();
    listeners.serve(&api, &mut tasks).unwrap();
    Served {
        _dir: dir,
        _world: world,
        _tasks: tasks,
        address,
        roots,
        loopback,
    }
}

impl Served {
    async fn connect(&self, alpn: &[u8], name: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn request(method: &str, target: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://runner.test{target}"))
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> (u16, String, String) {
    let status = response.status().as_u16();
    let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, content_type, String::from_utf8(body.into()).unwrap())
}

#[tokio::test]
async fn both_http_versions_are_served_whatever_name_is_asked_for() {
    let served = serve();
    let stream = served.connect(b"http/1.1", "agent.test").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let answer = sender
            .send_request(request("GET", "/v1/jobs/current", vec![]))
            .await
            .unwrap();
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        let (status, content_type, body) = text(answer).await;
        assert_eq!((status, content_type.as_str()), (404, PROBLEM_JSON));
        assert!(body.contains("no job is registered for 127.0.0.1"), "{body}");
    }
    let stream = served.connect(b"h2", "runner.test").await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = sender
        .send_request(request("GET", "/v1/jobs", vec![]))
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[ALLOW]),
        (405, &HeaderValue::from_static("POST"))
    );
    let answer = sender
        .send_request(request("POST", "/v1/jobs", vec![]))
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer realm=\"tidegate\"");
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let served = serve();
    let stream = served.connect(b"h2", "runner.test").await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for (size, want) in [(MAX_BODY, 400), (MAX_BODY + 1, 413)] {
        let body = vec![b'x'; size];
        let (status, content_type, text) = text(
            sender
                .send_request(request("POST", "/v1/jobs", body))
                .await
                .unwrap(),
        )
        .await;
        assert_eq!((status, content_type.as_str()), (want, PROBLEM_JSON), "{text}");
    }
}

#[tokio::test]
async fn who_writes_all_of_a_body_that_is_too_large_reads_why() {
    let served = serve();
    let mut stream = served.connect(b"http/1.1", "runner.test").await.unwrap();
    let body = vec![b'x'; 4 << 20];
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: runner.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    stream.flush().await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn what_is_no_tls_is_not_answered() {
    let served = serve();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream
        .write_all(b"GET /v1/jobs HTTP/1.1\r\nHost: runner.test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // An alert, or a reset: no page.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        !answer.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// The clock runs ahead as soon as everybody waits.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let served = serve();
    let begun = Instant::now();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert!(begun.elapsed() <= 2 * PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn connections_from_elsewhere_are_closed_before_a_handshake() {
    let served = serve();
    served.loopback.0.store(false, Ordering::Relaxed);
    assert!(served.connect(b"h2", "runner.test").await.is_err());
    served.loopback.0.store(true, Ordering::Relaxed);
    served.connect(b"h2", "runner.test").await.unwrap();
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let served = serve();
    let mut held = Vec::new();
    for _ in 0..MAX_A_SOURCE {
        held.push(served.connect(b"h2", "runner.test").await.unwrap());
    }
    assert!(served.connect(b"h2", "runner.test").await.is_err());
    held.pop();
    // The place is free as soon as the gateway has seen the end.
    let freed = timeout(Duration::from_secs(10), async {
        while served.connect(b"h2", "runner.test").await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    freed.await.expect("a place is free again");
}

#[tokio::test]
async fn what_can_not_be_served_is_said_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let address = free();
    let (config, _) = configured(&dir, address);
    let refused = |config: &RunnerApiConfig, taken: &[SocketAddr]| {
        let outcome = Listeners::open(config, &networks(address), taken).map(drop);
        crate::appliance::chain(&outcome.unwrap_err())
    };
    let foreign = RunnerApiConfig {
        listen: vec!["10.99.0.1:443".parse().unwrap()],
        ..config.clone()
    };
    let text = refused(&foreign, &[]);
    assert!(
        text.starts_with("gateway.runner-api.listen: 10.99.0.1 is not an address of this gateway"),
        "{text}"
    );
    assert!(text.ends_with(&format!("those are {}", address.ip())), "{text}");
    let text = refused(&config, &[address]);
    assert!(
        text.contains("is taken by encrypted DNS (gateway.dns.tls)"),
        "{text}"
    );
    let _held = StdListener::bind(address).unwrap();
    let text = refused(&config, &[]);
    assert!(text.contains("cannot bind the runner API socket"), "{text}");
    let keyless = RunnerApiConfig {
        key: config.cert.clone(),
        ..config.clone()
    };
    let text = refused(&keyless, &[]);
    assert!(
        text.starts_with("gateway.runner-api.tls: can't read certificates or keys from"),
        "{text}"
    );
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&config.key, other.serialize_pem()).unwrap();
    let text = refused(&config, &[]);
    assert!(
        text.starts_with("gateway.runner-api.tls: certificate and key can't be used"),
        "{text}"
    );
}
