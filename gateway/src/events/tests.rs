//! Tests of the event pipeline's bounds.

use tidegate_policy::Moment;
use tidegate_policy::event::{EventIds, Kind, NetworkEvent};
use tidegate_policy::verdict::{Reason, Verdict};

use super::aggregate::{Aggregator, VERBATIM};
use super::log::EventLog;
use super::queue::EventQueue;
use crate::config::EventLogConfig;

fn event(source: u8, verdict: Verdict) -> NetworkEvent {
    let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, [10, 77, 1, source].into());
    event.verdict = verdict;
    event.reason = (verdict != Verdict::Permit).then_some(Reason::NotAllowed);
    event
}

#[test]
fn a_full_queue_drops_the_oldest_permit_first() {
    let queue = EventQueue::new(2);
    assert_eq!(queue.push(event(1, Verdict::Permit)), 0);
    assert_eq!(queue.push(event(2, Verdict::Refuse)), 0);
    assert_eq!(queue.push(event(3, Verdict::Refuse)), 1);
    let (left, open) = queue.take(std::time::Duration::ZERO);
    assert!(open);
    assert_eq!(
        left.iter().map(|e| e.source.to_string()).collect::<Vec<_>>(),
        ["10.77.1.2", "10.77.1.3"]
    );
}

#[test]
fn without_permits_the_noisiest_party_pays() {
    let queue = EventQueue::new(4);
    for source in [1, 1, 1, 2] {
        assert_eq!(queue.push(event(source, Verdict::Refuse)), 0);
    }
    assert_eq!(
        queue.push(event(1, Verdict::Refuse)),
        1,
        "the noisy one's own event goes"
    );
    assert_eq!(
        queue.push(event(3, Verdict::Refuse)),
        1,
        "a quiet one's event stays, a noisy one's goes"
    );
    let (left, _) = queue.take(std::time::Duration::ZERO);
    let of = |source: &str| left.iter().filter(|e| e.source.to_string() == source).count();
    assert_eq!((of("10.77.1.1"), of("10.77.1.2"), of("10.77.1.3")), (2, 1, 1));
}

#[test]
fn refusals_past_the_bound_of_a_minute_become_one_event_with_a_count() {
    let mut aggregator = Aggregator::default();
    let now = Moment::from_millis(0);
    for _ in 0..VERBATIM {
        assert!(aggregator.take(event(1, Verdict::Refuse), now).is_some());
    }
    for _ in 0..500 {
        assert!(aggregator.take(event(1, Verdict::Refuse), now).is_none());
    }
    assert!(
        aggregator.take(event(1, Verdict::Permit), now).is_some(),
        "permits pass"
    );
    assert!(aggregator.flush(Moment::from_millis(59_999), false).is_empty());
    let flushed = aggregator.flush(Moment::from_millis(60_000), false);
    assert_eq!(flushed.iter().map(|e| e.count).collect::<Vec<_>>(), [500]);
    assert!(
        aggregator
            .take(event(1, Verdict::Refuse), Moment::from_millis(60_001))
            .is_some()
    );
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
        assert_eq!(log.append(&[event(1, Verdict::Refuse)]), 1);
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
    let queue = std::sync::Arc::new(EventQueue::new(10_000));
    let (heard, hears) = std::sync::mpsc::sync_channel(1);
    let consumer = std::sync::Arc::clone(&queue);
    let thread = std::thread::spawn(move || {
        for _ in 0..1_000 {
            let (batch, open) = consumer.take(std::time::Duration::from_mins(1));
            assert!(open && heard.send(batch.len()).is_ok());
        }
    });
    for _ in 0..1_000 {
        assert_eq!(queue.push(event(1, Verdict::Refuse)), 0);
        // Only then is the next one pushed: each must wake the consumer by itself.
        let batch = hears.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(batch.expect("the consumer was woken"), 1);
    }
    thread.join().expect("the consumer ended");
}
