//! Tests of the event pipeline's bounds.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_control_wire::batch::ProcessReport;
use tidegate_control_wire::event::Process;
use tidegate_dns::clock::Clock;
use tidegate_policy::Moment;
use tidegate_policy::event::{EventIds, EventSink, Kind, NetworkEvent};
use tidegate_policy::verdict::{Reason, Verdict};

use super::aggregate::{Aggregator, VERBATIM};
use super::encode::Encoded;
use super::log::EventLog;
use super::queue::{EventQueue, QUEUE_REPORTS, Queued};
use super::{EventPipeline, Sinks, Witness};
use crate::config::EventLogConfig;

fn event(source: u8, verdict: Verdict) -> NetworkEvent {
    let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, [10, 77, 1, source].into());
    event.verdict = verdict;
    event.reason = (verdict != Verdict::Permit).then_some(Reason::NotAllowed);
    event
}

fn report(port: u16) -> ProcessReport {
    ProcessReport {
        time: jiff::Timestamp::UNIX_EPOCH,
        job_id: "job_1".into(),
        name: "github.test".into(),
        address: None,
        port,
        process: Process::default(),
    }
}

/// Counts verdicts.
#[derive(Default)]
struct Count(Mutex<u64>);

impl Witness for Count {
    fn see(&self, events: &mut dyn Iterator<Item = &NetworkEvent>) {
        *self.0.lock() += events.map(|event| event.count).sum::<u64>();
    }
}

#[tokio::test]
async fn a_witness_has_seen_every_event_of_a_flood_once_it_is_settled() {
    let pipeline = EventPipeline::new("gw-1", 1);
    let count = Arc::new(Count::default());
    pipeline.witness(count.clone());
    let writer = pipeline
        .write_to(Sinks::default(), Clock::system())
        .expect("a thread");
    for round in 1..=20_u64 {
        for _ in 0..u64::from(VERBATIM) / 10 {
            pipeline.emit(event(1, Verdict::Refuse));
        }
        pipeline.settled(&[]).await;
        assert_eq!(*count.0.lock(), round * u64::from(VERBATIM) / 10);
    }
    pipeline.close();
    writer.join().expect("the writer ended");
}

#[tokio::test]
async fn what_is_counted_elsewhere_is_told_before_it_is_settled() {
    let pipeline = EventPipeline::new("gw-1", 1);
    let count = Arc::new(Count::default());
    pipeline.witness(count.clone());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (weak, heard) = (Arc::downgrade(&pipeline), Arc::clone(&asked));
    pipeline.tells(Box::new(move |sources| {
        heard.lock().extend_from_slice(sources);
        let pipeline = weak.upgrade().expect("it stands");
        Box::pin(async move {
            // Not with the first poll, as a worker on another thread.
            tokio::task::yield_now().await;
            pipeline.emit(NetworkEvent {
                count: 41,
                ..event(1, Verdict::Permit)
            });
        })
    }));
    let writer = pipeline
        .write_to(Sinks::default(), Clock::system())
        .expect("a thread");
    let source = [10, 77, 1, 1].into();
    pipeline.settled(&[source]).await;
    assert_eq!((*count.0.lock(), asked.lock().clone()), (41, vec![source]));
    pipeline.close();
    writer.join().expect("the writer ended");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_who_never_tells_has_an_end() {
    let pipeline = EventPipeline::new("gw-1", 1);
    pipeline.tells(Box::new(|_| Box::pin(std::future::pending())));
    pipeline.settled(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_writer_that_takes_nothing_has_an_end() {
    let pipeline = EventPipeline::new("gw-1", 1);
    pipeline.emit(event(1, Verdict::Refuse));
    pipeline.settled(&[]).await;
    assert_eq!(pipeline.backlog(), 1);
}

#[test]
fn a_full_queue_drops_the_oldest_permit_first() {
    let queue = EventQueue::new(2);
    queue.push(event(1, Verdict::Permit));
    queue.push(event(2, Verdict::Refuse));
    queue.push(event(3, Verdict::Refuse));
    let taken = queue.take(Duration::ZERO);
    assert!(taken.open);
    assert_eq!((taken.lost.permits, taken.lost.refusals, taken.upto), (1, 0, 3));
    assert_eq!(
        taken
            .events
            .iter()
            .map(|e| e.source.to_string())
            .collect::<Vec<_>>(),
        ["10.77.1.2", "10.77.1.3"]
    );
}

#[test]
fn without_permits_the_noisiest_party_pays() {
    let queue = EventQueue::new(4);
    for source in [1, 1, 1, 2, 1, 3] {
        queue.push(event(source, Verdict::Refuse));
    }
    let taken = queue.take(Duration::ZERO);
    let of = |source: &str| {
        let of = |one: &&Queued| one.source.to_string() == source;
        taken.events.iter().filter(of).count()
    };
    assert_eq!(
        (of("10.77.1.1"), of("10.77.1.2"), of("10.77.1.3")),
        (2, 1, 1),
        "the noisy one's own event goes, a quiet one's stays in place of a noisy one's"
    );
    assert_eq!((taken.lost.permits, taken.lost.refusals), (0, 2));
}

#[test]
fn reports_are_bounded_by_themselves_and_the_oldest_goes() {
    let queue = EventQueue::new(2);
    for n in 0..=QUEUE_REPORTS {
        queue.push_report(report(n as u16));
    }
    let taken = queue.take(Duration::ZERO);
    assert_eq!(taken.reports.len(), QUEUE_REPORTS);
    assert_eq!(taken.reports[0].port, 1);
    assert_eq!((taken.lost.permits, taken.events.len()), (1, 0));
    queue.close();
    queue.push(event(1, Verdict::Refuse));
    queue.push_report(report(1));
    let lost = queue.take(Duration::ZERO).lost;
    assert_eq!(
        (lost.refusals, lost.permits),
        (1, 1),
        "too late is lost, and counted"
    );
}

#[test]
fn refusals_past_the_bound_of_a_minute_become_one_event_with_a_count() {
    let mut aggregator = Aggregator::default();
    let now = Moment::from_millis(0);
    let mut passes = |verdict, now| {
        let mut events = vec![Queued::from(event(1, verdict))];
        aggregator.sift(&mut events, now);
        events.len() == 1
    };
    for _ in 0..VERBATIM {
        assert!(passes(Verdict::Refuse, now));
    }
    for _ in 0..500 {
        assert!(!passes(Verdict::Refuse, now));
    }
    assert!(passes(Verdict::Permit, now), "permits pass");
    assert!(aggregator.flush(Moment::from_millis(59_999), false).is_empty());
    let flushed = aggregator.flush(Moment::from_millis(60_000), false);
    assert_eq!(flushed.iter().map(|e| e.count).collect::<Vec<_>>(), [500]);
    let mut events = vec![Queued::from(event(1, Verdict::Refuse))];
    aggregator.sift(&mut events, Moment::from_millis(60_001));
    assert_eq!(events.len(), 1);
}

#[test]
fn the_log_rotates_by_size_and_keeps_what_it_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sub/events.ndjson");
    let mut log = EventLog::open(EventLogConfig {
        file: file.clone(),
        rotate_bytes: 4096,
        keep: 2,
    })
    .expect("opens");
    for _ in 0..100 {
        assert_eq!(log.append(&Encoded::of(&[event(1, Verdict::Refuse)])), 1);
    }
    let names: Vec<_> = std::fs::read_dir(file.parent().expect("sub"))
        .expect("listed")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let newest = std::fs::read_to_string(&file).expect("read");
    assert!(
        newest
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
    assert!(newest.len() <= 4096);
}

/// One wake-up a batch must never become none: every event arrives, though the consumer falls asleep between.
#[test]
fn a_sleeping_consumer_is_woken_for_every_batch() {
    let queue = Arc::new(EventQueue::new(10_000));
    let (heard, hears) = std::sync::mpsc::sync_channel(1);
    let consumer = Arc::clone(&queue);
    let thread = std::thread::spawn(move || {
        for _ in 0..1_000 {
            let taken = consumer.take(Duration::from_mins(1));
            assert!(taken.open && heard.send(taken.events.len()).is_ok());
        }
    });
    for _ in 0..1_000 {
        queue.push(event(1, Verdict::Refuse));
        // Only then is the next one pushed: each must wake the consumer by itself.
        let batch = hears.recv_timeout(Duration::from_secs(20));
        assert_eq!(batch.expect("the consumer was woken"), 1);
    }
    thread.join().expect("the consumer ended");
}

/// A data plane must not pay a system call an event: between two batches the consumer is left alone, however much is
/// queued, up to half of the room.
#[test]
fn a_nap_is_ended_by_half_a_queue_and_by_who_waits_and_by_no_event() {
    let queue = Arc::new(EventQueue::new(1_000));
    let (heard, hears) = std::sync::mpsc::sync_channel(1);
    let consumer = Arc::clone(&queue);
    let thread = std::thread::spawn(move || {
        for _ in 0..3 {
            consumer.nap(Duration::from_mins(10));
            let taken = consumer.take(Duration::ZERO);
            assert!(heard.send((taken.events.len(), taken.open)).is_ok());
        }
    });
    let heard = || {
        hears
            .recv_timeout(Duration::from_secs(20))
            .expect("the nap ended")
    };
    for n in 0..501 {
        assert!(hears.try_recv().is_err(), "{n} events ended the nap");
        queue.push(event(1, Verdict::Permit));
    }
    assert_eq!(heard().0, 501);
    queue.push(event(1, Verdict::Permit));
    queue.hurry();
    assert_eq!(heard(), (1, true));
    queue.close();
    assert_eq!(heard(), (0, false));
    thread.join().expect("the consumer ended");
}

/// Threads have shards of their own, and the bound is one for all: who finds it reached takes the room from a permit,
/// wherever that is.
#[test]
fn room_for_a_refusal_is_taken_from_another_threads_permits() {
    let queue = EventQueue::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            queue.push(event(1, Verdict::Permit));
            queue.push(event(2, Verdict::Permit));
        });
    });
    queue.push(event(3, Verdict::Refuse));
    queue.push(event(4, Verdict::Permit));
    let taken = queue.take(Duration::ZERO);
    let sources: Vec<_> = taken.events.iter().map(|one| one.source.to_string()).collect();
    assert_eq!(sources, ["10.77.1.3", "10.77.1.4"]);
    assert_eq!((taken.lost.permits, taken.lost.refusals), (2, 0));
}

#[test]
fn a_flood_of_many_threads_is_taken_in_order_or_counted_as_lost() {
    const THREADS: u8 = 4;
    const EACH: u64 = 20_000;
    let queue = EventQueue::new(64);
    let (mut seen, mut lost, mut upto) = (0, 0, 0);
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (1..=THREADS)
            .map(|source| {
                let queue = &queue;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let verdict = if n % 3 == 0 {
                            Verdict::Refuse
                        } else {
                            Verdict::Permit
                        };
                        let mut event = event(source, verdict);
                        event.bytes_up = n;
                        queue.push(event);
                    }
                })
            })
            .collect();
        let mut last = [None; THREADS as usize + 1];
        let mut open = true;
        while open {
            if pushers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                queue.close();
            }
            let taken = queue.take(Duration::from_millis(1));
            open = taken.open;
            assert!(taken.events.len() <= 64 + usize::from(THREADS));
            assert!(taken.upto >= upto, "{} after {upto}", taken.upto);
            upto = taken.upto;
            for event in &taken.events {
                let of = event
                    .source
                    .to_string()
                    .pop()
                    .and_then(|digit| digit.to_digit(10));
                let last = &mut last[of.expect("a digit") as usize];
                assert!(*last < Some(event.bytes_up), "{} after {last:?}", event.bytes_up);
                *last = Some(event.bytes_up);
            }
            seen += taken.events.len() as u64;
            lost += taken.lost.total();
        }
    });
    assert_eq!(seen + lost, u64::from(THREADS) * EACH);
    assert!(seen > 0 && queue.is_empty());
}

/// The bound holds for any number of parties, and the choice among them is by number alone.
#[test]
fn of_many_parties_each_keeps_its_one_refusal_and_the_noisy_one_pays_for_all() {
    let queue = EventQueue::new(100);
    for _ in 0..90 {
        queue.push(event(1, Verdict::Refuse));
    }
    for source in 2..=60 {
        queue.push(event(source, Verdict::WouldRefuse));
    }
    let taken = queue.take(Duration::ZERO);
    let noisy = taken
        .events
        .iter()
        .filter(|one| one.source.to_string() == "10.77.1.1");
    assert_eq!((noisy.count(), taken.events.len()), (41, 100));
    assert_eq!(taken.lost.refusals, 49);
}

#[test]
fn events_that_nobody_asked_for_are_not_kept() {
    let pipeline = EventPipeline::new("gw-1", 1);
    let writer = pipeline
        .write_to(Sinks::default(), Clock::system())
        .expect("a thread");
    pipeline.emit(event(1, Verdict::Permit));
    assert_eq!(pipeline.backlog(), 0);
    pipeline.close();
    writer.join().expect("the writer ended");
}
