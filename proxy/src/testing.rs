//! What this crate's tests run flows in: a network namespace of the test's own with documentation
//! addresses, policies from text, and neighbours that remember what they were asked. Never part of the
//! product.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_dns::{Clock, Subjects};
use tidegate_policy::compile::block::{BlockEntry, GlobalBlock, GlobalBlocks};
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::document::{ParseOptions, PolicyDocument};
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};
use tidegate_policy::job::Scope;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::rulebook::{CompiledPolicy, Governing, PolicyMeta, RuleList, Rulebook, World};
use tidegate_policy::subject::{Network, RunnerKind, Standing, Subject};
use tidegate_policy::ticket::Grant;
use tidegate_policy::{DnsName, Moment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::address::{ClientAddr, OriginalDst};
use crate::config::ProxyConfig;
use crate::seams::{Families, Found, Lookup, LookupError, Pending, StreamDns, Unreachable};
use crate::stream::Stream;
use crate::{Proxy, ProxyParts};

/// Longest wait for a state; reaching it fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The runner of all tests.
pub(crate) const RUNNER: &str = "10.77.1.2";

/// Runs `test` in a network namespace of its own, in which every address of 192.0.2.0/24,
/// 198.51.100.0/24 and 2001:db8::/32 is local.
pub(crate) fn in_net<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
        for command in [
            "link set lo up",
            "address add 192.0.2.1/24 dev lo",
            "address add 198.51.100.1/24 dev lo",
            "-6 route add local 2001:db8::/32 dev lo",
            "route add local 10.77.0.0/16 dev lo",
        ] {
            let done = Command::new("ip").args(command.split(' ')).status().unwrap();
            assert!(done.success(), "ip {command}");
        }
        // Every address of the routes above can be bound, without being named one by one.
        std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(3 * PATIENCE, test())
                .await
                .expect("the test hangs");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

/// Remembers events.
#[derive(Debug)]
pub(crate) struct Events {
    ids: EventIds,
    seen: Mutex<Vec<NetworkEvent>>,
    more: Notify,
}

impl EventSink for Events {
    fn mint(&self) -> EventId {
        self.ids.mint()
    }

    fn emit(&self, event: NetworkEvent) {
        self.seen.lock().push(event);
        self.more.notify_waiters();
    }
}

impl Events {
    pub(crate) fn all(&self) -> Vec<NetworkEvent> {
        self.seen.lock().clone()
    }

    /// Waits for the `n`th event (from 1) that ever came.
    pub(crate) async fn nth(&self, n: usize) -> NetworkEvent {
        let wait = async {
            loop {
                let more = self.more.notified();
                if let Some(event) = self.seen.lock().get(n - 1) {
                    return event.clone();
                }
                more.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("no event {n} in {:#?}", self.all()))
    }
}

/// One subject for everybody, until another is put in its place.
pub(crate) struct OneSubject(Mutex<Arc<Subject>>);

impl Subjects for OneSubject {
    fn subject(&self, _: IpAddr, _: Moment) -> Arc<Subject> {
        Arc::clone(&self.0.lock())
    }
}

/// Resolves from a table, and remembers what was asked.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) table: Mutex<HashMap<DnsName, Vec<IpAddr>>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// ECH ids that the HTTPS records of names publish.
    pub(crate) ech: Mutex<HashMap<DnsName, Vec<u8>>>,
    /// True when no subject has any of its DNS budget left.
    pub(crate) spent: AtomicBool,
    /// Answers wait for as long as a test holds this.
    pub(crate) held: Arc<tokio::sync::Mutex<()>>,
}

impl Lookup for Names {
    fn charge(&self, _: u64, _: &DnsName, _: &RuleRef) -> bool {
        !self.spent.load(Ordering::Relaxed)
    }

    fn addresses<'a>(
        &'a self,
        permit: &'a QueryPermit,
        _: Families,
    ) -> Pending<'a, Result<Found, LookupError>> {
        self.asked.lock().push(permit.name().to_string());
        let found = self.table.lock().get(permit.name()).cloned();
        let found = found.map(|addresses| Found {
            addresses,
            chain: Vec::new(),
        });
        let held = Arc::clone(&self.held);
        Box::pin(async move {
            drop(held.lock().await);
            found.ok_or_else(|| LookupError("NXDOMAIN".into()))
        })
    }

    fn learn_ech<'a>(&'a self, permit: &'a QueryPermit, book: &'a Rulebook) -> Pending<'a, ()> {
        self.asked.lock().push(format!("HTTPS {}", permit.name()));
        if let Some(ids) = self.ech.lock().get(permit.name()) {
            book.world.ech.note_name(permit.name(), ids);
        }
        Box::pin(async {})
    }
}

/// Remembers ICMP errors.
#[derive(Debug, Default)]
pub(crate) struct Icmp(pub(crate) Mutex<Vec<(ClientAddr, OriginalDst, Vec<u8>)>>);

impl Unreachable for Icmp {
    fn refuse(&self, client: ClientAddr, original: OriginalDst, payload: &[u8]) {
        self.0.lock().push((client, original, payload.to_vec()));
    }
}

/// Says who it is.
struct SayDns;

impl StreamDns for SayDns {
    fn serve(&self, mut stream: TcpStream, _: ClientAddr, _: OriginalDst) -> Pending<'static, ()> {
        Box::pin(async move { stream.write_all(b"served").await.unwrap() })
    }

    fn relay(&self, mut stream: TcpStream, _: ClientAddr, _: OriginalDst) -> Pending<'static, ()> {
        Box::pin(async move {
            stream.write_all(b"relayed").await.unwrap();
            // Open for as long as the client likes, as a relay is.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
    }
}

/// A proxy with all its neighbours.
pub(crate) struct Bench {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) events: Arc<Events>,
    pub(crate) names: Arc<Names>,
    pub(crate) icmp: Arc<Icmp>,
    pub(crate) world: Arc<World>,
    subjects: Arc<OneSubject>,
    next_port: AtomicU16,
}

impl Bench {
    /// A proxy whose runner is judged by this policy.
    pub(crate) fn new(policy: &str) -> Self {
        Self::with(policy, &[], |_| {})
    }

    /// The same with globally blocked names and another configuration.
    pub(crate) fn with(policy: &str, blocked: &[&str], change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let entry = |blocked: &&str| BlockEntry::Name {
            name: name(blocked),
            below: false,
        };
        let global = GlobalBlocks::new([Arc::new(GlobalBlock::build(blocked.iter().map(entry)))]);
        let world = Arc::new(World {
            global,
            ..World::default()
        });
        let subjects = Arc::new(OneSubject(Mutex::new(subject(&world, policy))));
        let events = Arc::new(Events {
            ids: EventIds::new(1),
            seen: Mutex::default(),
            more: Notify::new(),
        });
        let (names, icmp) = (Arc::new(Names::default()), Arc::new(Icmp::default()));
        let mut config = ProxyConfig {
            spoof_mark: 0x0200_0000,
            ..ProxyConfig::default()
        };
        change(&mut config);
        let parts = ProxyParts {
            subjects: Arc::clone(&subjects) as Arc<dyn Subjects>,
            lookup: Arc::clone(&names) as Arc<dyn Lookup>,
            dns: Arc::new(SayDns),
            sink: Arc::clone(&events) as Arc<dyn EventSink>,
            clock: Clock::system(),
            icmp: Arc::clone(&icmp) as Arc<dyn Unreachable>,
        };
        let proxy = Proxy::new(config, parts);
        Self {
            proxy,
            events,
            names,
            icmp,
            world,
            subjects,
            next_port: AtomicU16::new(40_000),
        }
    }

    /// Gives the runner a ticket.
    pub(crate) fn ticket(&self, asked: &str, address: &str) {
        let (asked, addresses) = (name(asked), [address.parse().unwrap()]);
        let ttl = Duration::from_mins(1);
        let grant = Grant {
            asked: &asked,
            chain: &[],
            addresses: &addresses,
            ttl,
        };
        self.subject()
            .tickets()
            .grant(&grant, ttl, self.proxy.clock.now());
    }

    /// Makes `name` resolve to this, for the gateway's own queries.
    pub(crate) fn resolves(&self, asked: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        self.names.table.lock().insert(name(asked), addresses);
    }

    pub(crate) fn subject(&self) -> Arc<Subject> {
        Arc::clone(&self.subjects.0.lock())
    }

    /// Swaps the policy of the living subject, as a policy change does.
    pub(crate) fn change_policy(&self, policy: &str) {
        self.subject().swap(book(&self.world, policy));
    }

    /// Puts another subject in place, as a change of lease does.
    pub(crate) fn change_lease(&self, policy: &str) {
        *self.subjects.0.lock() = subject(&self.world, policy);
    }

    /// The runner connects to `original`: the flow is served by a task, its end is returned.
    pub(crate) async fn connect(&self, original: &str) -> TcpStream {
        let diverted = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (runner, accepted) = tokio::join!(
            TcpStream::connect(diverted.local_addr().unwrap()),
            diverted.accept()
        );
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        let client = ClientAddr::new(SocketAddr::new(RUNNER.parse().unwrap(), port));
        let original = OriginalDst::new(original.parse().unwrap());
        let proxy = Arc::clone(&self.proxy);
        let stream = stream(accepted.unwrap().0);
        tokio::spawn(crate::flow::serve(proxy, stream, client, original));
        runner.unwrap()
    }

    /// Waits until so many flows are open.
    pub(crate) async fn open_flows(&self, wanted: usize) {
        until(
            || self.proxy.registry.len() == wanted,
            || format!("{} flows", self.proxy.registry.len()),
        )
        .await;
    }
}

/// A connection as the data plane has it.
pub(crate) fn stream(connection: TcpStream) -> Stream {
    Stream::connecting(connection.into_std().unwrap()).unwrap()
}

/// Polls for a state that nothing announces.
pub(crate) async fn until(mut reached: impl FnMut() -> bool, state: impl Fn() -> String) {
    let poll = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, poll).await;
    assert!(waited.is_ok(), "last seen: {}", state());
}

/// Everything up to the other side's end.
pub(crate) async fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    read.unwrap_or_else(|_| panic!("no end after {:?}", String::from_utf8_lossy(&all)))
        .map(|_| all)
}

/// One HTTP response whose length is given.
pub(crate) async fn read_page(stream: &mut TcpStream) -> (String, String) {
    let mut page = Vec::new();
    while !page.ends_with(b"\r\n\r\n") {
        page.extend(read_exactly(stream, 1).await);
    }
    let head = String::from_utf8(page).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap();
    let body = read_exactly(stream, length.parse().unwrap()).await;
    (head, String::from_utf8(body).unwrap())
}

/// Exactly so many bytes.
pub(crate) async fn read_exactly(stream: &mut TcpStream, wanted: usize) -> Vec<u8> {
    let mut bytes = vec![0; wanted];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes)).await;
    read.expect("no bytes in time").unwrap();
    bytes
}

/// A listening origin.
pub(crate) async fn origin(address: &str) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

/// The next connection to an origin.
pub(crate) async fn accept(origin: &TcpListener) -> TcpStream {
    tokio::time::timeout(PATIENCE, origin.accept())
        .await
        .expect("nobody dialled")
        .unwrap()
        .0
}

/// True when the stream was reset.
pub(crate) async fn is_reset(stream: &mut TcpStream) -> bool {
    read_all(stream)
        .await
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

fn book(world: &Arc<World>, text: &str) -> Arc<Rulebook> {
    let parsed = PolicyDocument::parse(text, &ParseOptions::default());
    let document = parsed
        .document
        .unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    let meta = PolicyMeta {
        id: "ci".into(),
        name: "ci".into(),
        version: 1,
    };
    let pack = Arc::new(RuleList::compile([]));
    let sets = hashbrown::HashMap::new();
    let policy = CompiledPolicy::compile(&document, meta, &sets, &pack).unwrap();
    let governing = Governing::Policy(Arc::new(policy), Scope::Repository("acme/web".into()));
    Arc::new(Rulebook {
        world: Arc::clone(world),
        governing,
        host: None,
    })
}

fn subject(world: &Arc<World>, policy: &str) -> Arc<Subject> {
    let network = Network {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: Vec::new(),
        runners: RunnerKind::Ephemeral,
        min_assurance: None,
        adjacent: false,
    };
    Arc::new(Subject::new(
        Arc::new(network),
        None,
        Standing::Leased,
        book(world, policy),
    ))
}
