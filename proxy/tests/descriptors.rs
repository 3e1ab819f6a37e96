//! Out of descriptors: the accept loop waits and lives on. In a process of its own, since the limit is the
//! process's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tidegate_dns::{Clock, Subjects};
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::rulebook::{Rulebook, World};
use tidegate_policy::subject::{Network, RunnerKind, Standing, Subject};
use tidegate_policy::verdict::Reason;
use tidegate_policy::{DnsName, Moment};
use tidegate_proxy::address::{ClientAddr, OriginalDst};
use tidegate_proxy::config::ProxyConfig;
use tidegate_proxy::seams::{Families, Found, Lookup, LookupError, Pending, StreamDns, Unreachable};
use tidegate_proxy::{Proxy, ProxyParts};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// Counts what the test looks at.
#[derive(Clone, Default)]
struct Counts(Arc<AtomicU64>);

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "tidegate_accept_failures_total" {
            return Counter::from_arc(Arc::clone(&self.0));
        }
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Every neighbour of a proxy that refuses everything: none but the sink is ever asked.
struct Nobody {
    subject: Arc<Subject>,
    ids: EventIds,
    events: AtomicU64,
}

impl Subjects for Nobody {
    fn subject(&self, _: IpAddr, _: Moment) -> Arc<Subject> {
        Arc::clone(&self.subject)
    }
}

impl EventSink for Nobody {
    fn mint(&self) -> EventId {
        self.ids.mint()
    }

    fn emit(&self, _: NetworkEvent) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }
}

impl Lookup for Nobody {
    fn charge(&self, _: u64, _: &DnsName, _: &RuleRef) -> bool {
        unreachable!("must not be called")
    }

    fn addresses<'a>(&'a self, _: &'a QueryPermit, _: Families) -> Pending<'a, Result<Found, LookupError>> {
        unreachable!("must not be called")
    }

    fn learn_ech<'a>(&'a self, _: &'a QueryPermit, _: &'a Rulebook) -> Pending<'a, ()> {
        unreachable!("must not be called")
    }
}

impl StreamDns for Nobody {
    fn serve(&self, _: TcpStream, _: ClientAddr, _: OriginalDst) -> Pending<'static, ()> {
        unreachable!("must not be called")
    }

    fn relay(&self, _: TcpStream, _: ClientAddr, _: OriginalDst) -> Pending<'static, ()> {
        unreachable!("must not be called")
    }
}

impl Unreachable for Nobody {
    fn refuse(&self, _: ClientAddr, _: OriginalDst, _: &[u8]) {
        unreachable!("must not be called")
    }
}

fn nobody() -> Arc<Nobody> {
    let network = Network {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: Vec::new(),
        runners: RunnerKind::Ephemeral,
        min_assurance: None,
        adjacent: false,
    };
    let book = Rulebook::deny_all(Arc::new(World::default()), Reason::NoPolicy);
    let subject = Subject::new(Arc::new(network), None, Standing::Unleased, Arc::new(book));
    Arc::new(Nobody {
        subject: Arc::new(subject),
        ids: EventIds::new(1),
        events: AtomicU64::new(0),
    })
}

/// Takes every descriptor that the process may still have.
fn take_all_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let poll = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[test]
fn l17_without_descriptors_connections_wait_and_are_served_when_there_are_some() {
    let failures = Counts::default();
    metrics::set_global_recorder(failures.clone()).ok().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 128, hard).unwrap();
    let nobody = nobody();
    let parts = ProxyParts {
        subjects: nobody.clone(),
        lookup: nobody.clone(),
        dns: nobody.clone(),
        sink: nobody.clone(),
        clock: Clock::system(),
        icmp: nobody.clone(),
    };
    let proxy = Proxy::new(ProxyConfig::default(), parts);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let serving = tokio::spawn(Arc::clone(&proxy).serve_tcp(listener));
        tokio::task::yield_now().await;
        let taken = take_all_descriptors();
        client.connect(&address.into()).unwrap();
        until("an accept that fails", || failures.0.load(Ordering::Relaxed) >= 2).await;
        assert_eq!(nobody.events.load(Ordering::Relaxed), 0);
        drop(taken);
        until("the waiting connection is judged", || {
            nobody.events.load(Ordering::Relaxed) == 1
        })
        .await;
        proxy.drain(PATIENCE).await;
        serving.await.unwrap().unwrap();
    });
}
