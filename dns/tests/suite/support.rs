//! A handler with one job before a fake upstream, and a client's view of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tidegate_dns::resolver::{DEFAULT_CACHE_BYTES, Timing};
use tidegate_dns::{
    Client, Clock, DnsHandler, HandlerConfig, Parts, Resolver, ResolverConfig, Subjects, Transport,
};
use tidegate_policy::compile::block::{BlockEntry, GlobalBlock, GlobalBlocks};
use tidegate_policy::document::{ParseOptions, PolicyDocument};
use tidegate_policy::endpoint::NamePattern;
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};
use tidegate_policy::job::Scope;
use tidegate_policy::lease::{Changes, Lasting};
use tidegate_policy::rulebook::{
    CompiledPolicy, Governing, InternalDomains, PolicyMeta, RuleList, Rulebook, World,
};
use tidegate_policy::subject::{Network, RunnerKind, Standing, Subject};
use tidegate_policy::verdict::{Reason, Verdict};
use tidegate_policy::{DnsName, Moment};

use crate::upstream::Upstream;

/// The runner of the one job.
pub(crate) const RUNNER: &str = "127.0.0.1:40000";
/// The gateway's own DNS address.
pub(crate) const OWN: &str = "127.0.0.1:53";

pub(crate) fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

/// Keeps every event.
pub(crate) struct Recorder {
    ids: EventIds,
    events: Mutex<Vec<NetworkEvent>>,
}

impl EventSink for Recorder {
    fn mint(&self) -> EventId {
        self.ids.mint()
    }

    fn emit(&self, event: NetworkEvent) {
        self.events.lock().push(event);
    }
}

/// Subjects by source address.
pub(crate) struct Sources {
    default: Arc<Subject>,
    others: Mutex<HashMap<IpAddr, Arc<Subject>>>,
    changes: Arc<Changes>,
}

impl Sources {
    /// Another subject at a source: its lease ended, or began.
    pub(crate) fn put(&self, source: &str, subject: Arc<Subject>) {
        let source = source.parse().unwrap();
        self.others.lock().insert(source, subject);
        self.changes.note(source);
    }
}

impl Subjects for Sources {
    fn subject(&self, source: IpAddr, _now: Moment) -> Arc<Subject> {
        Arc::clone(self.others.lock().get(&source).unwrap_or(&self.default))
    }

    fn lasting(&self, source: IpAddr, now: Moment) -> (Arc<Subject>, Option<Lasting>) {
        (self.subject(source, now), Some(Lasting { until: None }))
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        Some(Arc::clone(&self.changes))
    }
}

/// How a bench is set up.
pub(crate) struct Setup {
    pub(crate) policy: String,
    pub(crate) others: Vec<(&'static str, String)>,
    pub(crate) blocked: Vec<&'static str>,
    pub(crate) internal: Vec<&'static str>,
    pub(crate) config: HandlerConfig,
    pub(crate) resolver: ResolverConfig,
    pub(crate) cache_bytes: usize,
    pub(crate) manual_clock: bool,
}

/// A block policy that allows these endpoints.
pub(crate) fn block(allowed: &str) -> String {
    format!(
        "egress-policy: block\nplatform: none\nallowed-endpoints: |\n  {}\n",
        allowed.replace(' ', "\n  ")
    )
}

/// An audit policy that allows these endpoints.
pub(crate) fn audit(allowed: &str) -> String {
    block(allowed).replace("policy: block", "policy: audit")
}

impl Setup {
    pub(crate) fn new(policy: String) -> Self {
        let own = OWN.parse::<SocketAddr>().unwrap().ip();
        Self {
            policy,
            others: Vec::new(),
            blocked: Vec::new(),
            internal: Vec::new(),
            config: HandlerConfig {
                own: [own].into_iter().collect(),
                ..HandlerConfig::default()
            },
            resolver: ResolverConfig {
                timing: quick(),
                ..ResolverConfig::default()
            },
            cache_bytes: DEFAULT_CACHE_BYTES,
            manual_clock: true,
        }
    }

    pub(crate) async fn start(self) -> Bench {
        let upstream = Upstream::start().await;
        self.before(upstream)
    }

    /// Starts before an upstream that is there already; other upstreams of the setup come after it.
    pub(crate) fn before(mut self, upstream: Upstream) -> Bench {
        self.resolver
            .upstreams
            .insert(0, upstream.address.to_string().parse().unwrap());
        let world = Arc::new(self.world());
        let book = rulebook(&self.policy, &world);
        let network = Arc::new(Network {
            name: CompactString::from("runners"),
            cluster: CompactString::from("lab"),
            ranges: Vec::new(),
            runners: RunnerKind::Ephemeral,
            min_assurance: None,
            adjacent: false,
        });
        let subject = |book| Arc::new(Subject::new(Arc::clone(&network), None, Standing::Leased, book));
        let others = self.others.iter().map(|(source, policy)| {
            let source: IpAddr = source.parse().unwrap();
            (source, subject(rulebook(policy, &world)))
        });
        let others: HashMap<IpAddr, Arc<Subject>> = others.collect();
        let subject = subject(book);
        let (clock, millis) = if self.manual_clock {
            Clock::manual()
        } else {
            (Clock::system(), Arc::default())
        };
        let resolver = Resolver::new(&self.resolver, self.cache_bytes, clock.clone());
        let sink = Arc::new(Recorder {
            ids: EventIds::new(7),
            events: Mutex::default(),
        });
        let subjects = Arc::new(Sources {
            default: Arc::clone(&subject),
            others: Mutex::new(others),
            changes: Arc::default(),
        });
        let parts = Parts {
            resolver: Arc::clone(&resolver),
            subjects: Arc::clone(&subjects) as Arc<dyn Subjects>,
            sink: Arc::clone(&sink) as Arc<dyn EventSink>,
            clock: clock.clone(),
        };
        let handler = DnsHandler::new(parts, self.config);
        Bench {
            handler,
            resolver,
            sink,
            subjects,
            subject,
            upstream,
            clock,
            millis,
            world,
        }
    }

    fn world(&self) -> World {
        let entries = self.blocked.iter().map(|text| match text.parse() {
            Ok(net) => BlockEntry::Net(net),
            Err(_) => match text.strip_prefix("*.") {
                Some(below) => BlockEntry::Name {
                    name: name(below),
                    below: true,
                },
                None => BlockEntry::Name {
                    name: name(text),
                    below: false,
                },
            },
        });
        let internal = self
            .internal
            .iter()
            .map(|text| NamePattern::exact(&name(text)))
            .collect();
        World {
            global: GlobalBlocks::new([Arc::new(GlobalBlock::build(entries))]),
            internal: InternalDomains::new(internal),
            ..World::default()
        }
    }
}

/// Times that let tests of silence end soon, and leave a loaded machine time to answer. Nothing is sent
/// twice within a second, so that queries can be counted.
pub(crate) fn quick() -> Timing {
    Timing {
        per_try: Duration::from_millis(1_500),
        hedge: Duration::from_secs(1),
        total: Duration::from_secs(3),
        stale_after: Duration::from_millis(200),
        ..Timing::default()
    }
}

/// `DENY` stands for deny-all with reason policy-unknown.
pub(crate) fn rulebook(policy: &str, world: &Arc<World>) -> Arc<Rulebook> {
    if policy == "DENY" {
        return Arc::new(Rulebook::deny_all(Arc::clone(world), Reason::PolicyUnknown));
    }
    let parsed = PolicyDocument::parse(policy, &ParseOptions::default());
    let document = parsed
        .document
        .unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    let meta = PolicyMeta {
        id: "p".into(),
        name: "ci".into(),
        version: 3,
    };
    let pack = Arc::new(RuleList::compile([]));
    let policy = CompiledPolicy::compile(&document, meta, &hashbrown::HashMap::new(), &pack).unwrap();
    Arc::new(Rulebook {
        world: Arc::clone(world),
        governing: Governing::Policy(Arc::new(policy), Scope::Cluster("lab".into())),
        host: None,
    })
}

/// Everything under test.
pub(crate) struct Bench {
    pub(crate) handler: Arc<DnsHandler>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) sink: Arc<Recorder>,
    pub(crate) subjects: Arc<Sources>,
    pub(crate) subject: Arc<Subject>,
    pub(crate) upstream: Upstream,
    pub(crate) clock: Clock,
    millis: Arc<AtomicU64>,
    pub(crate) world: Arc<World>,
}

pub(crate) fn client(transport: Transport) -> Client {
    Client {
        source: RUNNER.parse().unwrap(),
        asked: OWN.parse().unwrap(),
        transport,
        spoofed: false,
    }
}

/// A query with EDNS; change it before it is sent.
pub(crate) fn query(asked: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(asked).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

impl Bench {
    /// Asks over UDP.
    pub(crate) async fn ask(&self, asked: &str, kind: RecordType) -> Message {
        self.send(&query(asked, kind)).await
    }

    /// Sends a query over UDP.
    pub(crate) async fn send(&self, query: &Message) -> Message {
        self.send_as(query, &client(Transport::Udp)).await
    }

    pub(crate) async fn send_as(&self, query: &Message, client: &Client) -> Message {
        let bytes = self
            .handler
            .handle_bytes(&query.to_vec().unwrap(), client)
            .await
            .expect("an answer");
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, query.metadata.id);
        message
    }

    /// Moves the clock.
    pub(crate) fn pass(&self, span: Duration) {
        self.millis.fetch_add(span.as_millis() as u64, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Events so far; none is left.
    pub(crate) fn events(&self) -> Vec<NetworkEvent> {
        std::mem::take(&mut *self.sink.events.lock())
    }

    /// The one event so far.
    pub(crate) fn event(&self) -> NetworkEvent {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:#?}");
        events.remove(0)
    }

    pub(crate) fn holds(&self, asked: &str, address: &str) -> bool {
        self.subject
            .tickets()
            .holds(&name(asked), address.parse().unwrap(), self.now())
    }

    /// Asks, and asserts that the name is refused for this reason without an upstream hearing of it.
    pub(crate) async fn assert_refused(&self, asked: &str, kind: RecordType, reason: Reason) {
        self.events();
        let before = self.upstream.log().len();
        let answer = self.ask(asked, kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{asked}");
        assert!(answer.answers.is_empty());
        let event = self.event();
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(reason)),
            "{asked}"
        );
        assert_eq!(self.upstream.log().len(), before, "{asked} reached the upstream");
    }

    /// Asks for addresses, and asserts that they are answered.
    pub(crate) async fn assert_answered(&self, asked: &str) -> Message {
        let answer = self.ask(asked, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{asked}");
        assert!(!answer.answers.is_empty(), "{asked}: {answer}");
        answer
    }
}

/// The extended error of an answer: code and text.
pub(crate) fn extended_error(answer: &Message) -> Option<(u16, String)> {
    let edns = answer.edns.as_ref()?;
    let EdnsOption::Unknown(15, data) = edns.option(EdnsCode::Unknown(15))? else {
        panic!("another option than the one asked for")
    };
    let code = u16::from_be_bytes(*data.first_chunk()?);
    Some((code, String::from_utf8(data[2..].to_vec()).unwrap()))
}

/// The data of an answer's records, as text.
pub(crate) fn data(answer: &Message) -> Vec<String> {
    answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}
