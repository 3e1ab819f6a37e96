//! Events on their way through a gateway: from the data plane's threads to the log file and the spool.
//!
//! Owns the numbers under "Events in a gateway" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench spool`.
//! The thread that emits shares two cores with the one that writes; shipping to a store is in the bench `events`.

use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use tidegate_bench::emitters::Emitters;
use tidegate_dns::clock::Clock;
use tidegate_gateway::config::EventLogConfig;
use tidegate_gateway::events::log::EventLog;
use tidegate_gateway::events::{EventPipeline, QUEUE_EVENTS, Sinks, Spool};
use tidegate_policy::event::{EventSink, NetworkEvent};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 200_000;
/// Events of one job.
const JOB: usize = 500;

fn main() {
    divan::main();
}

/// As a fleet makes them: one refusal in fifty, some hundred names.
fn events() -> Vec<NetworkEvent> {
    let emitters = Emitters::new(EVENTS / JOB);
    (0..EVENTS)
        .map(|n| emitters.event(emitters.ids.mint(), n / JOB, n))
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
