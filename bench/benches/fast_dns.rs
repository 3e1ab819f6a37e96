//! The DNS fast path without sockets: user-space nanoseconds a repeated query, permitted and refused, beside the slow path.
//!
//! Run by `cargo bench -p tidegate-bench --bench fast_dns`; no figures of it are kept. Every lease asks for ten names (one
//! alone for all of them), in an order that no cache of the processor foresees, and time passes as if [`RATE`] queries came a
//! second: windows end, events are made, tickets are renewed and answers learnt anew as often as they would be then.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use tidegate_bench::world::{self, START};
use tidegate_dns::fast::{Seen, Served, Worker};
use tidegate_dns::front::handler::Begun;
use tidegate_dns::resolver::DEFAULT_CACHE_BYTES;
use tidegate_dns::{
    Client, Clock, DnsHandler, HandlerConfig, Parts, Resolver, ResolverConfig, Subjects, Transport,
};
use tidegate_policy::document::{ParseOptions, PolicyDocument};
use tidegate_policy::effective::{Attached, PolicySet, Slot};
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};
use tidegate_policy::job::Scope;
use tidegate_policy::lease::LeaseTable;
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names on the allowlist.
const NAMES: usize = 1_000;
/// Names that one lease asks for.
const ASKED: usize = 10;
/// Queries of one batch.
const BATCH: usize = 64;
/// Queries a second, by the clock that the worker sees.
const RATE: u64 = 170_000;
/// An odd stride: leases and names come in an order of their own.
const STRIDE: usize = 7_919;

fn main() {
    divan::main();
}

/// Counts what is told, as the gateway's queue would take it.
struct Sink {
    ids: EventIds,
    told: AtomicU64,
}

impl EventSink for Sink {
    fn mint(&self) -> EventId {
        self.ids.mint()
    }

    fn emit(&self, event: NetworkEvent) {
        self.told.fetch_add(event.count, Ordering::Relaxed);
    }
}

fn policy() -> Arc<CompiledPolicy> {
    let endpoint = |n| format!("- host-{n:04}.bench.test:443\n");
    let endpoints = (0..NAMES).map(endpoint).collect::<Vec<_>>().concat();
    let text = format!("egress-policy: block\nplatform: none\nallowed-endpoints:\n{endpoints}");
    let document = PolicyDocument::parse(&text, &ParseOptions::default())
        .document
        .expect("a policy");
    let meta = PolicyMeta {
        id: "bench".into(),
        name: "bench".into(),
        version: 1,
    };
    let pack = Arc::new(RuleList::compile([]));
    Arc::new(
        CompiledPolicy::compile(&document, meta, &hashbrown::HashMap::new(), &pack).expect("it compiles"),
    )
}

fn leases(count: usize) -> LeaseTable {
    let scope = Scope::Organization("acme".into());
    let policies = PolicySet {
        attached: [(scope, Attached::always(Slot::Policy(policy()), None))]
            .into_iter()
            .collect(),
        ..PolicySet::default()
    };
    let table = world::table(policies);
    for n in 0..count {
        table
            .register(world::registration(n, 0), START)
            .expect("it is free");
    }
    table
}

/// An upstream that knows every name: one A record that lives for a day. Its thread ends with the process.
fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((length, source)) = socket.recv_from(&mut buffer) {
            let mut reply = buffer[..length].to_vec();
            let end = 12 + reply[12..].iter().position(|octet| *octet == 0).unwrap_or(0) + 5;
            reply.truncate(end);
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 1, 0x51, 0x80, 0, 4, 192, 0, 2]);
            // One of eight addresses, by a digit of the name.
            reply.push(100 + reply[20] % 8);
            if socket.send_to(&reply, source).is_err() {
                return;
            }
        }
    });
    address
}

/// A worker that knows every query that it will get.
struct Stage {
    worker: Worker,
    handler: Arc<DnsHandler>,
    queries: Vec<(Client, Vec<u8>)>,
    next: usize,
    seen: Vec<Seen>,
    millis: Arc<AtomicU64>,
    batches: u64,
    slow: u64,
}

impl Stage {
    /// `count` leases; each asks for ten allowed names, or for ten others.
    fn new(count: usize, domain: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (clock, millis) = Clock::manual();
        let mut config = ResolverConfig::default();
        config
            .upstreams
            .push(upstream().to_string().parse().expect("an upstream"));
        let parts = Parts {
            resolver: Resolver::new(&config, DEFAULT_CACHE_BYTES, clock.clone()),
            subjects: Arc::new(leases(count)) as Arc<dyn Subjects>,
            sink: Arc::new(Sink {
                ids: EventIds::new(1),
                told: AtomicU64::new(0),
            }),
            clock,
        };
        let handler = DnsHandler::new(parts, HandlerConfig::default());
        let each = if count == 1 { NAMES } else { ASKED };
        let all = count * each;
        let queries = (0..all).map(|n| {
            let (lease, name) = (n * STRIDE % all / each, n * STRIDE % all % each);
            query(lease, (lease * 31 + name * 97) % NAMES, domain)
        });
        let mut stage = Self {
            worker: Worker::new(Arc::clone(&handler)),
            handler,
            queries: queries.collect(),
            next: 0,
            seen: Vec::with_capacity(BATCH),
            millis,
            batches: 0,
            slow: 0,
        };
        runtime.block_on(stage.teach());
        stage
    }

    async fn teach(&mut self) {
        let mut out = [0; 1_232];
        // A miss, a hit that teaches, a repeat.
        for _ in 0..2 {
            self.worker.begin();
            for (client, query) in &self.queries {
                if let Served::Slow(Begun::Later(pending)) = self.worker.serve(query, client, &mut out) {
                    pending.finish().await.expect("an answer");
                    self.worker.serve(query, client, &mut out);
                }
            }
            self.worker.end();
        }
        assert_eq!(
            self.worker.len(),
            self.queries.len(),
            "the memo holds all of them"
        );
    }

    /// One batch by the fast path, as the UDP front serves it. `finds`: its pairs are looked for together.
    fn fast(&mut self, finds: bool) {
        let mut out = [0; 1_232];
        self.batches += 1;
        self.millis
            .store(self.batches * BATCH as u64 * 1_000 / RATE, Ordering::Relaxed);
        self.worker.begin();
        let first = self.next;
        self.next = (first + BATCH) % self.queries.len();
        let batch = || (0..BATCH).map(|at| &self.queries[(first + at) % self.queries.len()]);
        self.seen.clear();
        for (client, query) in batch() {
            self.seen.push(self.worker.read(query, client));
        }
        if finds {
            self.worker.find(&mut self.seen);
        }
        for ((client, query), seen) in batch().zip(&self.seen) {
            match divan::black_box(self.worker.answer(seen, query, client, &mut out)) {
                Served::Fast(_) => {}
                Served::Slow(Begun::Done(Some(_))) => self.slow += 1,
                Served::Slow(_) => panic!("an answer that is not cached"),
            }
        }
        self.worker.end();
    }

    /// What was measured is the fast path.
    fn assert_fast(&self) {
        let all = self.batches * BATCH as u64;
        assert!(self.slow * 20 <= all, "{} of {all} went the slow way", self.slow);
    }

    /// The same by the slow one.
    fn slow(&mut self) {
        for _ in 0..BATCH {
            let (client, query) = &self.queries[self.next];
            self.next = (self.next + 1) % self.queries.len();
            assert!(matches!(
                divan::black_box(self.handler.begin(query, client)),
                Begun::Done(Some(_))
            ));
        }
    }
}

/// A query as stub resolvers send it, with EDNS.
fn query(lease: usize, name: usize, domain: &str) -> (Client, Vec<u8>) {
    let mut message = vec![lease as u8, name as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in format!("host-{name:04}.{domain}").split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let client = Client {
        source: (world::source(lease), 40_000).into(),
        asked: (Ipv4Addr::new(10, 255, 255, 1), 53).into(),
        transport: Transport::Udp,
        spoofed: false,
    };
    (client, message)
}

fn measure(bencher: Bencher<'_, '_>, mut stage: Stage, finds: bool) {
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| stage.fast(finds));
    stage.assert_fast();
}

#[divan::bench(args = [1, 1_000, 10_000])]
fn repeat_a_permit(bencher: Bencher<'_, '_>, leases: usize) {
    measure(bencher, Stage::new(leases, "bench.test"), true);
}

#[divan::bench(args = [1, 1_000, 10_000])]
fn repeat_a_permit_one_by_one(bencher: Bencher<'_, '_>, leases: usize) {
    measure(bencher, Stage::new(leases, "bench.test"), false);
}

#[divan::bench(args = [1, 1_000, 10_000])]
fn repeat_a_refusal(bencher: Bencher<'_, '_>, leases: usize) {
    measure(bencher, Stage::new(leases, "evil.test"), true);
}

#[divan::bench(args = [1_000])]
fn decide_a_permit(bencher: Bencher<'_, '_>, leases: usize) {
    let mut stage = Stage::new(leases, "bench.test");
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| stage.slow());
}

#[divan::bench(args = [1_000])]
fn decide_a_refusal(bencher: Bencher<'_, '_>, leases: usize) {
    let mut stage = Stage::new(leases, "evil.test");
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| stage.slow());
}
