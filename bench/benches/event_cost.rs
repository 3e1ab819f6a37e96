//! What an event costs the thread that emits it and the thread that writes it, and what happens at rates past both.
//!
//! Owns the numbers under "Events and metrics on the data plane" in `bench/README.md`. Run by
//! `cargo bench -p tidegate-bench --bench event_cost [-- SECONDS]`: that long for each paced run. A producer stands for a
//! data-plane worker: it wakes once a millisecond and emits what is due. The writer counts for summaries and writes
//! the log file, as a gateway without a control plane does. Needs two cores.

#![expect(clippy::disallowed_methods, reason = "a benchmark is about the real clock")]

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use metrics::{counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tempfile::TempDir;
use tidegate_bench::emitters::Emitters;
use tidegate_bench::measure::{LOAD_CORE, Quantiles, SERVER_CORE, Spread, pin};
use tidegate_dns::clock::Clock;
use tidegate_gateway::config::EventLogConfig;
use tidegate_gateway::events::log::EventLog;
use tidegate_gateway::events::{EventPipeline, Sinks, Witness};
use tidegate_gateway::tally::Tallies;
use tidegate_policy::event::{EventId, EventIds, EventSink, NetworkEvent};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Jobs that emit.
const JOBS: usize = 32;
/// Events of one measurement of the emitting side alone: less than the queue holds, and so few that most rounds see nobody
/// else on their core.
const ALONE: usize = 2_048;
const ROUNDS: usize = 101;
/// Between two turns of a producer.
const TURN: Duration = Duration::from_millis(1);
/// Events a second of the paced runs.
const RATES: [u64; 3] = [50_000, 200_000, 400_000];

fn main() -> Result<()> {
    let seconds = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse::<u64>().ok())
        .unwrap_or(4);
    let fleet = Emitters::new(JOBS);
    println!("an event is {} bytes in memory\n", size_of::<NetworkEvent>());
    alone(&fleet);
    counted();
    println!(
        "\n| producer, writer | events/s asked | emitted | dropped | emit p50 / p99 / p99.9 / max µs | latest turn ms | \
         producer's CPU µs/event | writer's CPU µs/event written | writer's waits a second |\n|---|---|---|---|---|---|---|---|---|"
    );
    for place in [Place::Apart, Place::Together] {
        for rate in RATES {
            paced(&fleet, place, rate, Duration::from_secs(seconds))?;
        }
    }
    full_speed(&fleet, Duration::from_secs(seconds))
}

/// A data plane whose events nobody wants.
struct Nobody(EventIds);

impl EventSink for Nobody {
    fn mint(&self) -> EventId {
        self.0.mint()
    }

    fn emit(&self, event: NetworkEvent) {
        drop(black_box(event));
    }
}

/// Nanoseconds of the emitting side, nobody taking what is queued.
fn alone(fleet: &Emitters) {
    println!("| emitting side alone | ns/event |\n|---|---|");
    let rounds = |work: &dyn Fn() -> f64| Spread::of((0..ROUNDS).map(|_| work()));
    let nobody = Nobody(EventIds::new(1));
    let built = |sink: &dyn EventSink| {
        each(|| {
            for n in 0..ALONE {
                sink.emit(fleet.event(sink.mint(), n % JOBS, n));
            }
        })
    };
    println!(
        "| built, emitted to a sink that drops it | {:.0} |",
        rounds(&|| built(&nobody))
    );
    println!(
        "| built, emitted to the queue | {:.0} |",
        rounds(&|| built(&*EventPipeline::new("gw-1", 1)))
    );
    let emitted = rounds(&|| {
        let pipeline = EventPipeline::new("gw-1", 1);
        let events: Vec<NetworkEvent> = (0..ALONE)
            .map(|n| fleet.event(fleet.ids.mint(), n % JOBS, n))
            .collect();
        each(|| {
            for event in events {
                pipeline.emit(event);
            }
        })
    });
    println!("| emitted to the queue | {emitted:.0} |");
    let minted = rounds(&|| {
        each(|| {
            for _ in 0..ALONE {
                black_box(fleet.ids.mint());
            }
        })
    });
    println!("| an id minted | {minted:.0} |");
}

/// Nanoseconds of what is counted for a query or a flow, by handles that are kept.
fn counted() {
    let exporter = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &[0.000_05, 0.001, 0.1])
        .expect("there are buckets")
        .build_recorder();
    let upkeep = exporter.handle();
    let theirs = metrics::with_local_recorder(&exporter, || histogram!("exporter_seconds"));
    let page = tidegate_gateway::metrics::install().expect("the only recorder");
    let (ours, counter) = (histogram!("gateway_seconds"), counter!("gateway_total"));
    println!("\n| counting | ns |\n|---|---|");
    let row = |what: &str, work: &dyn Fn()| {
        let took = Spread::of((0..ROUNDS).map(|_| {
            each(|| {
                for _ in 0..ALONE {
                    work();
                }
            })
        }));
        println!("| {what} | {took:.0} |");
    };
    row("a counter", &|| counter.increment(1));
    row("a duration", &|| ours.record(black_box(0.000_02)));
    row("a duration, by the exporter's own histogram", &|| {
        theirs.record(black_box(0.000_02));
    });
    let added = each(|| upkeep.run_upkeep()) / ROUNDS as f64;
    println!("| the same, to be added up by its upkeep later | {added:.0} |");
    row("a clock read", &|| {
        black_box(Instant::now());
    });
    assert!(page.render().contains("gateway_seconds_count"));
}

/// Nanoseconds that each of so many takes.
fn each(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_nanos() as f64 / ALONE as f64
}

/// On which cores they are.
#[derive(Clone, Copy)]
enum Place {
    Apart,
    Together,
}

impl Place {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Apart => "a core each",
            Self::Together => "one core",
        }
    }
}

/// Counts what was dropped, beside the gateway's own witness.
struct Counting {
    tallies: Tallies,
    lost: AtomicU64,
}

impl Witness for Counting {
    fn see(&self, events: &mut dyn Iterator<Item = &NetworkEvent>) {
        self.tallies.see(events);
    }

    fn lost(&self, verdicts: u64) {
        self.lost.fetch_add(verdicts, Ordering::Relaxed);
    }
}

/// A pipeline whose writer runs on its own core.
struct Running {
    _dir: TempDir,
    pipeline: Arc<EventPipeline>,
    counting: Arc<Counting>,
    writer: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(place: Place) -> Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let log = EventLog::open(EventLogConfig {
            file: dir.path().join("events.ndjson"),
            rotate_bytes: 64 << 20,
            keep: 2,
        })?;
        let counting = Arc::new(Counting {
            tallies: Tallies::new("gw-1", None, jiff::Timestamp::now()),
            lost: AtomicU64::new(0),
        });
        let pipeline = EventPipeline::new("gw-1", 1);
        pipeline.witness(counting.clone());
        let sinks = Sinks {
            log: Some(log),
            spool: None,
        };
        pin(match place {
            Place::Apart => LOAD_CORE,
            Place::Together => SERVER_CORE,
        })?;
        let writer = pipeline.write_to(sinks, Clock::system())?;
        pin(SERVER_CORE)?;
        Ok(Self {
            _dir: dir,
            pipeline,
            counting,
            writer,
        })
    }

    /// Ends the writer; how many verdicts were dropped.
    fn end(self) -> u64 {
        self.pipeline.close();
        self.writer.join().expect("the writer's end");
        self.counting.lost.load(Ordering::Relaxed)
    }
}

/// Emits at a rate for a while, and prints what it was like.
fn paced(fleet: &Emitters, place: Place, rate: u64, long: Duration) -> Result<()> {
    let running = Running::start(place)?;
    let sink: &dyn EventSink = &*running.pipeline;
    let mut waits = Vec::with_capacity((rate * long.as_secs()) as usize + 1024);
    let (mut emitted, mut latest) = (0_u64, Duration::ZERO);
    let (own, writers) = (Thread::own()?, Thread::named("events")?);
    let (own_before, writer_before) = (own.read()?, writers.read()?);
    let begun = Instant::now();
    let mut turn = begun;
    while turn.duration_since(begun) < long {
        turn += TURN;
        let now = Instant::now();
        std::thread::sleep(turn.saturating_duration_since(now));
        latest = latest.max(Instant::now().saturating_duration_since(turn));
        let due = (turn.duration_since(begun).as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
        while emitted < due {
            let event = fleet.event(sink.mint(), emitted as usize % JOBS, emitted as usize);
            let before = Instant::now();
            sink.emit(event);
            waits.push(before.elapsed());
            emitted += 1;
        }
    }
    // The writer's last batch is its work too.
    std::thread::sleep(Duration::from_millis(200));
    let (own_after, writer_after) = (own.read()?, writers.read()?);
    let lost = running.end();
    let waits = Quantiles::of(waits);
    let at = |share| waits.at(share).as_nanos() as f64 / 1e3;
    let cpu = |after: Thread, before: Thread, events: u64| {
        after.busy.saturating_sub(before.busy).as_nanos() as f64 / 1e3 / events.max(1) as f64
    };
    println!(
        "| {} | {rate} | {emitted} | {lost} | {:.2} / {:.2} / {:.2} / {:.0} | {:.1} | {:.2} | {:.2} | {:.0} |",
        place.as_str(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        latest.as_secs_f64() * 1e3,
        cpu(own_after, own_before, emitted),
        cpu(writer_after, writer_before, emitted.saturating_sub(lost)),
        (writer_after.waits - writer_before.waits) as f64 / long.as_secs_f64(),
    );
    Ok(())
}

/// Emits as fast as one core can.
fn full_speed(fleet: &Emitters, long: Duration) -> Result<()> {
    let running = Running::start(Place::Apart)?;
    let sink: &dyn EventSink = &*running.pipeline;
    let begun = Instant::now();
    let (mut emitted, mut longest) = (0_u64, Duration::ZERO);
    while begun.elapsed() < long {
        let event = fleet.event(sink.mint(), emitted as usize % JOBS, emitted as usize);
        let before = Instant::now();
        sink.emit(event);
        longest = longest.max(before.elapsed());
        emitted += 1;
    }
    let lost = running.end();
    println!(
        "\nWithout a pause: {:.0} emitted a second, {:.0} % of them dropped and counted, the longest emit {:.0} µs.",
        emitted as f64 / long.as_secs_f64(),
        100.0 * lost as f64 / emitted as f64,
        longest.as_secs_f64() * 1e6
    );
    Ok(())
}

/// A thread of this process, and what the scheduler says of it.
#[derive(Clone, Copy)]
struct Thread {
    id: u64,
    busy: Duration,
    waits: u64,
}

impl Thread {
    fn own() -> Result<Self> {
        let link = fs::read_link("/proc/thread-self")?;
        let id = link
            .file_name()
            .and_then(|name| name.to_str())
            .context("no thread")?;
        Self::of(id.parse()?)
    }

    /// The only thread of that name.
    fn named(name: &str) -> Result<Self> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(thread) = Self::find(name)? {
                return Ok(thread);
            }
            // A thread takes its name when it first runs.
            anyhow::ensure!(Instant::now() < deadline, "no thread is called {name}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn find(name: &str) -> Result<Option<Self>> {
        for task in fs::read_dir("/proc/self/task")? {
            let path = task?.path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
                let id = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .context("no thread")?;
                return Self::of(id.parse()?).map(Some);
            }
        }
        Ok(None)
    }

    fn of(id: u64) -> Result<Self> {
        let path = format!("/proc/self/task/{id}");
        let busy = fs::read_to_string(format!("{path}/schedstat"))?;
        let busy = busy.split(' ').next().context("no schedstat")?.parse()?;
        let status = fs::read_to_string(format!("{path}/status"))?;
        let waits = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .context("no switches")?;
        Ok(Self {
            id,
            busy: Duration::from_nanos(busy),
            waits: waits.trim().parse()?,
        })
    }

    fn read(&self) -> Result<Self> {
        Self::of(self.id)
    }
}
