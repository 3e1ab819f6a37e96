//! Two handlers before one cache get the same generated queries at the same instants: one by the fast path, one without.
//! Bytes, what events say, and tickets must be the same.
//!
//! A hundred thousand queries each time, and a million when asked for (`--ignored`): unoptimized they take two minutes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use parking_lot::Mutex;
use tidegate_dns::fast::{Seen, Served, Worker};
use tidegate_dns::front::budget::BudgetConfig;
use tidegate_dns::front::handler::Begun;
use tidegate_dns::resolver::DEFAULT_CACHE_BYTES;
use tidegate_dns::{
    Client, Clock, DnsHandler, HandlerConfig, Parts, Resolver, ResolverConfig, Subjects, Transport,
};
use tidegate_policy::Moment;
use tidegate_policy::compile::block::{BlockEntry, GlobalBlock, GlobalBlocks};
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};
use tidegate_policy::lease::{Changes, Lasting};
use tidegate_policy::rulebook::{Rulebook, World};
use tidegate_policy::subject::{Network, RunnerKind, Standing, Subject};

use crate::support::{OWN, audit, block, name, quick, rulebook};
use crate::upstream::Upstream;

/// Queries of one seed.
const QUERIES: u32 = 25_000;
/// Subjects, each at an address of its own.
const SUBJECTS: usize = 6;
/// How many of the names are asked for again and again.
const USUAL: usize = 9;
/// What can be asked for; each seed asks for all of them.
const NAMES: &[&str] = &[
    "a.test",
    "b.test",
    "nothing.test",
    "mixed.test",
    "web.test",
    "w1.wild.test",
    "evil.test",
    "chain.test",
    "cdn.example",
    "www.a.test",
    "deep.er.a.test",
    "six.test",
    "short.test",
    "private.test",
    "denied.test",
    "blocked.test",
    "evil.example",
    "a.test.corp.example",
    "test",
    "localhost",
    "x.localhost",
    "host.test",
    "tidegate.internal",
    "_x.a.test",
    "_443._tcp.a.test",
    "w2.wild.test",
    "w3.wild.test",
    "w4.wild.test",
    "w5.wild.test",
    "w6.wild.test",
    "1.2.0.192.in-addr.arpa",
    "5.0.0.10.in-addr.arpa",
    "",
];

/// A generator of the splitmix family: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What an event says, but for its id, time and the port of the first.
type Said = (IpAddr, Option<String>, CompactString, Vec<String>, u64);

/// Counts what events say. Every id is the same, so that refusals are the same bytes.
#[derive(Default)]
struct Tally(Mutex<HashMap<Said, u64>>);

impl EventSink for Tally {
    fn mint(&self) -> EventId {
        EventIds::new(1).mint()
    }

    fn emit(&self, event: NetworkEvent) {
        let told = [
            format!("{:?} {:?} {:?}", event.verdict, event.reason, event.rcode),
            format!("{:?} {:?} {:?}", event.rule, event.nearest, event.note),
            format!("{:?} {:?} {:?}", event.answers, event.address, event.port),
            format!(
                "{:?} {:?} {:?}",
                event.subject.policy, event.subject.scope, event.subject.mode
            ),
        ];
        let said = (
            event.source,
            event.name.map(|name| name.to_string()),
            event.qtype.unwrap_or_default(),
            told.to_vec(),
            u64::from(event.subject.policy_version.unwrap_or_default()),
        );
        *self.0.lock().entry(said).or_default() += event.count;
    }
}

/// Subjects by source.
struct Places {
    subjects: Mutex<Vec<Arc<Subject>>>,
    /// `None`: they are looked up for every query.
    changes: Option<Arc<Changes>>,
}

impl Subjects for Places {
    fn subject(&self, source: IpAddr, _now: Moment) -> Arc<Subject> {
        let IpAddr::V4(four) = source else {
            panic!("{source}")
        };
        Arc::clone(&self.subjects.lock()[usize::from(four.octets()[3])])
    }

    fn lasting(&self, source: IpAddr, now: Moment) -> (Arc<Subject>, Option<Lasting>) {
        // Now and then a moment ends it, as a lease's expiry does.
        let until = Some(now.plus(Duration::from_millis(300)));
        let lasting = self.changes.is_some().then_some(Lasting { until });
        (self.subject(source, now), lasting)
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        self.changes.clone()
    }
}

/// One of the two.
struct Side {
    handler: Arc<DnsHandler>,
    places: Arc<Places>,
    tally: Arc<Tally>,
}

struct Twins {
    fast: Side,
    slow: Side,
    worker: Worker,
    millis: Arc<AtomicU64>,
    clock: Clock,
    upstream: Upstream,
    books: Vec<Arc<Rulebook>>,
    network: Arc<Network>,
    fast_answers: u32,
}

fn books() -> Vec<Arc<Rulebook>> {
    let blocked = ["blocked.test", "203.0.113.66"].map(|text| match text.parse() {
        Ok(net) => BlockEntry::Net(net),
        Err(_) => BlockEntry::Name {
            name: name(text),
            below: false,
        },
    });
    let world = Arc::new(World {
        global: GlobalBlocks::new([Arc::new(GlobalBlock::build(blocked))]),
        ..World::default()
    });
    let exact = "a.test:443 b.test:443 www.a.test:443 nothing.test:443 six.test:443 short.test:443 chain.test:443 \
                 private.test:443 mixed.test:443 web.test:443 denied.test:443 10.0.0.0/8:443";
    let texts = [
        block(exact) + "denied-endpoints: denied.test\n",
        block("*.a.test:443 *.wild.test:443 a.test:443"),
        audit("a.test:443 *.wild.test:443 private.test:443"),
        "DENY".to_owned(),
        block("deep.er.a.test:443 evil.test:443"),
    ];
    texts.iter().map(|text| rulebook(text, &world)).collect()
}

fn config(own_page: bool) -> HandlerConfig {
    let own: SocketAddr = OWN.parse().unwrap();
    let page = own_page.then(|| (CompactString::from("runners"), vec![own.ip()]));
    HandlerConfig {
        hosts: vec![(name("host.test"), vec!["192.0.2.77".parse().unwrap()])],
        pages: page.into_iter().collect(),
        // Longer than the test takes: the fast path renews tickets a little ahead.
        ticket_hold: Duration::from_hours(1),
        own: [own.ip()].into_iter().collect(),
        budget: BudgetConfig {
            burst: 4,
            per_minute: 2,
        },
    }
}

fn upstream_records(upstream: &Upstream, change: usize) {
    let records: &[(&str, &[&str])] = &[
        ("a.test", &["60 A 192.0.2.1", "60 A 192.0.2.2"]),
        ("b.test", &["300 A 192.0.2.1"]),
        ("www.a.test", &["45 A 192.0.2.3"]),
        ("deep.er.a.test", &["45 A 192.0.2.3", "45 AAAA 2001:db8::3"]),
        ("six.test", &["61 AAAA 2001:db8::6", "61 A 192.0.2.6"]),
        ("short.test", &["2 A 192.0.2.9"]),
        ("chain.test", &["40 CNAME cdn.example."]),
        ("cdn.example", &["40 A 192.0.2.10"]),
        ("private.test", &["30 A 10.1.2.3"]),
        (
            "mixed.test",
            &["30 A 10.1.2.3", "30 A 192.0.2.11", "30 A 203.0.113.66"],
        ),
        (
            "web.test",
            &[
                "50 HTTPS 1 . alpn=h3,h2 ipv4hint=192.0.2.20 ech=AAb+DQACKgA=",
                "50 A 192.0.2.20",
            ],
        ),
        ("denied.test", &["30 A 192.0.2.12"]),
        ("evil.test", &["30 A 192.0.2.13"]),
        ("evil.example", &["30 A 192.0.2.14"]),
        ("blocked.test", &["30 A 192.0.2.15"]),
        ("w1.wild.test", &["600 A 192.0.2.31"]),
        ("w2.wild.test", &["600 A 192.0.2.32"]),
        ("w3.wild.test", &["600 A 192.0.2.33"]),
        ("w4.wild.test", &["600 A 192.0.2.33"]),
        ("w5.wild.test", &["600 A 192.0.2.33"]),
    ];
    for (asked, lines) in records {
        upstream.set(asked, lines);
    }
    upstream.set("b.test", &[&format!("300 A 192.0.2.{}", 100 + change % 50)]);
}

impl Twins {
    async fn new(lasts: bool) -> Self {
        let upstream = Upstream::start().await;
        upstream_records(&upstream, 0);
        let (clock, millis) = Clock::manual();
        let mut resolving = ResolverConfig {
            timing: quick(),
            ..ResolverConfig::default()
        };
        resolving.timing.stale_after = Duration::from_secs(30);
        resolving.timing.per_try = Duration::from_secs(30);
        resolving.timing.total = Duration::from_mins(1);
        resolving
            .upstreams
            .push(upstream.address.to_string().parse().unwrap());
        let resolver = Resolver::new(&resolving, DEFAULT_CACHE_BYTES, clock.clone());
        let books = books();
        let network = Arc::new(Network {
            name: "runners".into(),
            cluster: "lab".into(),
            ranges: Vec::new(),
            runners: RunnerKind::Ephemeral,
            min_assurance: None,
            adjacent: false,
        });
        let side = || {
            let places = (0..SUBJECTS).map(|at| lease(&network, &books[at % books.len()]));
            let places = Arc::new(Places {
                subjects: Mutex::new(places.collect()),
                changes: lasts.then(Arc::default),
            });
            let tally = Arc::new(Tally::default());
            let parts = Parts {
                resolver: Arc::clone(&resolver),
                subjects: Arc::clone(&places) as Arc<dyn Subjects>,
                sink: Arc::clone(&tally) as Arc<dyn EventSink>,
                clock: clock.clone(),
            };
            Side {
                handler: DnsHandler::new(parts, config(true)),
                places,
                tally,
            }
        };
        let (fast, slow) = (side(), side());
        Self {
            worker: Worker::bounded(Arc::clone(&fast.handler), 256 << 10),
            fast,
            slow,
            millis,
            clock,
            upstream,
            books,
            network,
            fast_answers: 0,
        }
    }

    /// Something changes, on both sides.
    fn change(&mut self, random: &mut Random) {
        match random.below(4) {
            0 | 1 => self.swap(random),
            2 => {
                let config = config(random.once_in(2));
                self.fast.handler.reconfigure(config.clone());
                self.slow.handler.reconfigure(config);
            }
            _records => upstream_records(&self.upstream, random.below(50)),
        }
    }

    /// A subject has another rulebook, or a source another subject: that counts from the next query on.
    fn swap(&mut self, random: &mut Random) {
        let (at, book) = (random.below(SUBJECTS), random.below(self.books.len()));
        match random.below(2) {
            0 => {
                for side in [&self.fast, &self.slow] {
                    side.places.subjects.lock()[at].swap(Arc::clone(&self.books[book]));
                }
            }
            _subject => {
                for side in [&self.fast, &self.slow] {
                    side.places.subjects.lock()[at] = lease(&self.network, &self.books[book]);
                    if let Some(changes) = &side.places.changes {
                        changes.note(source(at).into());
                    }
                }
            }
        }
    }

    /// A batch, as the UDP front serves one: read, looked for, answered in order. Something may change in its midst.
    async fn serve(&mut self, batch: &[(Client, Vec<u8>)], random: &mut Random) {
        self.worker.begin();
        let read = |(client, bytes): &(Client, Vec<u8>)| self.worker.read(bytes, client);
        let mut seen: Vec<Seen> = batch.iter().map(read).collect();
        self.worker.find(&mut seen);
        let change = random.once_in(200).then(|| random.below(batch.len()));
        for (number, ((client, bytes), seen)) in batch.iter().zip(&seen).enumerate() {
            if change == Some(number) {
                self.swap(random);
            }
            self.ask(seen, bytes, client).await;
        }
        self.worker.end();
    }

    async fn ask(&mut self, seen: &Seen, bytes: &[u8], client: &Client) {
        // The slow one first: what it misses, the fast one finds cached.
        let expected = match self.slow.handler.begin(bytes, client) {
            Begun::Done(reply) => reply,
            Begun::Later(pending) => pending.finish().await,
        };
        let mut out = [0; 1232];
        let got = match self.worker.answer(seen, bytes, client, &mut out) {
            Served::Fast(length) => {
                self.fast_answers += 1;
                Some(out[..length].to_vec())
            }
            Served::Slow(Begun::Done(reply)) => reply,
            Served::Slow(Begun::Later(pending)) => pending.finish().await,
        };
        assert_eq!(
            got,
            expected,
            "{client:?} at {:?} asked {}",
            self.clock.now(),
            String::from_utf8_lossy(bytes)
        );
    }

    /// Whatever the slow side has a ticket for, the fast one has, too.
    fn compare_tickets(&self) {
        let now = self.clock.now();
        let (fast, slow) = (self.fast.places.subjects.lock(), self.slow.places.subjects.lock());
        for (fast, slow) in fast.iter().zip(slow.iter()) {
            for last in 1..=40 {
                let address = IpAddr::from([192, 0, 2, last]);
                for asked in slow.tickets().names_at(address, now) {
                    assert!(fast.tickets().holds(&asked, address, now), "{asked} at {address}");
                }
            }
            let link = name("cdn.example");
            assert_eq!(
                fast.tickets().chain_owner(&link, now),
                slow.tickets().chain_owner(&link, now)
            );
        }
    }
}

fn lease(network: &Arc<Network>, book: &Arc<Rulebook>) -> Arc<Subject> {
    Arc::new(Subject::new(
        Arc::clone(network),
        None,
        Standing::Leased,
        Arc::clone(book),
    ))
}

/// A query: most are everyday ones, some are odd in one way, some broken.
fn generate(random: &mut Random) -> Vec<u8> {
    const TYPES: [u16; 16] = [1, 1, 1, 1, 1, 28, 28, 28, 65, 65, 16, 12, 255, 13, 43, 252];
    let flags: u16 = match random.below(40) {
        0..33 => 0x0100,
        33..35 => 0x0120,
        35 => 0x0110,
        36 => 0,
        37 => 0x0300,
        38 => 0x8100,
        _opcode => 0x2000,
    };
    let mut out = (random.next() as u16).to_be_bytes().to_vec();
    out.extend(flags.to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    // Most of what a job asks for is asked for again.
    let usual = !random.once_in(5);
    let asked = NAMES[random.below(if usual { USUAL } else { NAMES.len() })];
    let shout = random.once_in(3);
    for label in asked.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.bytes().map(|byte| {
            if shout && random.once_in(2) {
                byte.to_ascii_uppercase()
            } else {
                byte
            }
        }));
    }
    out.push(0);
    out.extend(TYPES[random.below(if usual { 9 } else { TYPES.len() })].to_be_bytes());
    out.extend(if random.once_in(50) { [0, 3] } else { [0, 1] });
    if random.once_in(2) {
        edns(&mut out, random, usual);
    }
    match random.below(100) {
        0 => out.truncate(random.below(out.len())),
        1 => out.push(0),
        2 => {
            let at = random.below(out.len());
            out[at] = random.next() as u8;
        }
        _whole => {}
    }
    out
}

fn edns(out: &mut Vec<u8>, random: &mut Random, usual: bool) {
    out[11] += 1;
    let payload = [1232_u16, 4096, 512, 0, 1400][random.below(5)];
    let version = u8::from(random.once_in(30));
    let dnssec = if !usual && random.once_in(4) { 0x80 } else { 0 };
    let cookie: &[u8] = if random.once_in(4) {
        b"\0\x0a\0\x08abcdefgh"
    } else {
        b""
    };
    out.extend([0, 0, 41]);
    out.extend(payload.to_be_bytes());
    out.extend([0, version, dnssec, 0]);
    out.extend((cookie.len() as u16).to_be_bytes());
    out.extend(cookie);
    if random.once_in(40) {
        out[11] += 1;
        out.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    }
}

/// The address of a subject.
fn source(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, at as u8)
}

async fn compare(seed: u64, queries: u32) {
    let mut twins = Twins::new(seed != 4).await;
    let mut random = Random(seed);
    let own: SocketAddr = OWN.parse().unwrap();
    let mut asked = 0;
    while asked < queries {
        if random.once_in(400) {
            twins.change(&mut random);
        }
        let step = [0, 0, 1, 3, 40, 170][random.below(6)];
        twins.millis.fetch_add(step, Ordering::Relaxed);
        let batch: Vec<(Client, Vec<u8>)> = (0..=random.below(16))
            .map(|_| {
                let client = Client {
                    source: (source(random.below(SUBJECTS)), 1024 + random.below(3) as u16).into(),
                    asked: own,
                    transport: Transport::Udp,
                    spoofed: random.once_in(100),
                };
                (client, generate(&mut random))
            })
            .collect();
        asked += batch.len() as u32;
        twins.serve(&batch, &mut random).await;
        if random.once_in(100) {
            twins.compare_tickets();
        }
    }
    let Twins {
        worker,
        fast,
        slow,
        fast_answers,
        ..
    } = twins;
    drop(worker);
    let sorted = |side: &Side| {
        side.tally
            .0
            .lock()
            .clone()
            .into_iter()
            .collect::<BTreeMap<_, _>>()
    };
    for ((said, count), (expected, times)) in sorted(&fast).iter().zip(&sorted(&slow)) {
        assert_eq!((said, count), (expected, times));
    }
    assert_eq!(fast.tally.0.lock().len(), slow.tally.0.lock().len());
    assert!(
        fast_answers > queries / 3,
        "{fast_answers} of {queries} by the fast path"
    );
}

#[tokio::test]
async fn both_paths_say_the_same_one() {
    compare(1, QUERIES).await;
}

#[tokio::test]
async fn both_paths_say_the_same_two() {
    compare(2, QUERIES).await;
}

#[tokio::test]
async fn both_paths_say_the_same_three() {
    compare(3, QUERIES).await;
}

#[tokio::test]
async fn both_paths_say_the_same_four() {
    compare(4, QUERIES).await;
}

#[tokio::test]
#[ignore = "two minutes of a core; the four above are its beginning with other seeds"]
async fn both_paths_say_the_same_a_million_times() {
    compare(5, 1_000_000).await;
}
