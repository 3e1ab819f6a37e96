//! Events on their way through a gateway: from the data plane's threads to the log file and the spool.
//!
//! Owns the numbers under "Events in a gateway" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench spool`.
//! The thread that emits shares two cores with the one that writes; shipping to a store is in the bench `events`.

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use tidegate_dns::clock::Clock;
use tidegate_gateway::config::EventLogConfig;
use tidegate_gateway::events::log::EventLog;
use tidegate_gateway::events::{EventPipeline, QUEUE_EVENTS, Sinks, Spool};
use tidegate_policy::DnsName;
use tidegate_policy::event::{EventSink, JobRecord, Kind, NameSource, NetworkEvent};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::verdict::{Reason, Verdict};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 200_000;
/// Events of one job.
const JOB: usize = 500;

fn main() {
    divan::main();
}

fn job(number: usize) -> Arc<JobRecord> {
    Arc::new(JobRecord {
        id: format!("job_01k7x0000000000000000{number:05}").into(),
        identity: JobIdentity {
            owner: "acme".into(),
            repo: format!("acme/service-{}", number % 40).into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: "19283746501".into(),
            run_attempt: 1,
            runner_name: "runner-17".into(),
            cluster: "prod".into(),
            event: "push".into(),
            git_ref: "refs/heads/main".into(),
            actor: "octo".into(),
            head_repo: "".into(),
            assurance: Assurance::Signed,
        },
    })
}

/// As a fleet makes them: one refusal in fifty, some hundred names.
fn events() -> Vec<NetworkEvent> {
    let ids = tidegate_policy::event::EventIds::new(1);
    let mut jobs = Vec::new();
    (0..EVENTS)
        .map(|n| {
            if n % JOB == 0 {
                jobs.push(job(n / JOB));
            }
            let mut event = NetworkEvent::new(ids.mint(), Kind::Tls, [10, 77, 1, 2].into());
            event.network = "runners".into();
            event.job = jobs.last().cloned();
            event.source_port = 40_000;
            event.name = DnsName::parse(&format!("host-{}.bench.example", n % 150)).ok();
            event.name_source = NameSource::Sni;
            event.address = Some([192, 0, 2, (n % 150) as u8].into());
            event.port = 443;
            event.verdict = Verdict::Permit;
            event.rule = Some("*.bench.example:443".into());
            event.policy = Some("web".into());
            event.policy_version = Some(3);
            (event.bytes_up, event.bytes_down, event.duration_ms) = (1_234, 56_789, 321);
            if n % 50 == 0 {
                event.verdict = Verdict::Refuse;
                event.reason = Some(Reason::NotAllowed);
            }
            event
        })
        .collect()
}

/// A pipeline into a fresh folder, or into a spool that is full already.
fn pipeline(spool_bytes: u64) -> (TempDir, Arc<EventPipeline>, std::thread::JoinHandle<()>) {
    let dir = tempfile::tempdir().expect("a folder");
    let log = EventLog::open(EventLogConfig {
        file: dir.path().join("events.ndjson"),
        rotate_bytes: 64 << 20,
        keep: 4,
    });
    let sinks = Sinks {
        log: Some(log.expect("a log")),
        spool: Some(Spool::new(dir.path(), spool_bytes)),
    };
    let pipeline = EventPipeline::new("gw-1", 1);
    let writer = pipeline.write_to(sinks, Clock::system()).expect("a thread");
    (dir, pipeline, writer)
}

fn written(bencher: Bencher<'_, '_>, spool_bytes: u64) {
    let events = events();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| (pipeline(spool_bytes), events.clone()))
        .bench_values(|((dir, pipeline, writer), events)| {
            for event in events {
                // A data plane would lose events here; what is measured is how fast they are written.
                while pipeline.backlog() >= QUEUE_EVENTS / 2 {
                    std::thread::sleep(Duration::from_micros(200));
                }
                pipeline.emit(event);
            }
            pipeline.close();
            writer.join().expect("the writer's end");
            dir
        });
}

/// With room for all of them.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn to_log_and_spool(bencher: Bencher<'_, '_>) {
    written(bencher, 1 << 30);
}

/// With a spool that is full most of the time: permits are merged, and go.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn to_log_and_a_full_spool(bencher: Bencher<'_, '_>) {
    written(bencher, 32 << 20);
}
