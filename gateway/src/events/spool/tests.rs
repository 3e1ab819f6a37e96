//! The spool on a real disk: over restarts, kills, damage, a full disk, and a week without a control plane.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
pub(crate) mod fixture;
mod model;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use serde_json::Value;
use tidegate_control_wire::batch::{BatchHead, Lane, ProcessReport};
use tidegate_control_wire::event::Process;
use tidegate_policy::Moment;
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::Verdict;

use self::fixture::{entries, event};
use super::*;

/// Far above what these tests write.
const ROOMY: u64 = 64 << 20;
/// Most entries of a batch.
const MANY: u64 = 5_000;

/// A moment, in seconds.
fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1_000)
}

fn opened(state_dir: &Path, bound: u64) -> Arc<Spool> {
    let spool = Spool::new(state_dir, bound);
    spool.open(at(0));
    assert_eq!(spool.depth().disk_error, None);
    spool
}

fn append(spool: &Spool, events: &[NetworkEvent]) {
    spool.append(&Encoded::of(events), &[], Losses::default(), at(0));
}

fn refusal(job: &str, name: &str) -> NetworkEvent {
    event(job, name, Verdict::Refuse)
}

fn permit(job: &str, name: &str) -> NetworkEvent {
    event(job, name, Verdict::Permit)
}

/// A batch, read.
struct Read {
    head: BatchHead,
    entries: Vec<(u64, Value)>,
    batch: Batch,
}

impl Read {
    fn seqs(&self) -> Vec<u64> {
        self.entries.iter().map(|(seq, _)| *seq).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.entries
            .iter()
            .map(|(_, entry)| entry["event"]["name"].as_str().unwrap())
            .collect()
    }
}

fn next(spool: &Spool, lane: Lane) -> Option<Read> {
    next_of(spool, lane, MANY)
}

fn next_of(spool: &Spool, lane: Lane, most: u64) -> Option<Read> {
    let batch = spool.next(lane, most)?;
    let end = batch.body.iter().position(|byte| *byte == b'\n').unwrap();
    let head: BatchHead = serde_json::from_slice(&batch.body[..end]).unwrap();
    let entries = entries(&batch.body[end + 1..]);
    assert_eq!((head.lane, entries.len() as u64), (lane, batch.entries));
    assert_eq!(
        (entries[0].0, entries[entries.len() - 1].0),
        (batch.first, batch.last)
    );
    Some(Read { head, entries, batch })
}

fn stored(spool: &Spool, read: &Read) -> u64 {
    spool.stored(read.head.lane, (&read.batch, read.batch.last, 0))
}

fn segments(state_dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(state_dir.join(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".ndjson"))
        .collect();
    names.sort();
    names
}

#[test]
fn each_lane_is_numbered_from_one_and_delivered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(
        &spool,
        &[
            permit("job_1", "a.test"),
            refusal("job_1", "b.test"),
            permit("job_1", "c.test"),
        ],
    );
    append(&spool, &[event("job_1", "d.test", Verdict::WouldRefuse)]);
    let refusals = next(&spool, Lane::Refusals).unwrap();
    assert_eq!(
        (refusals.seqs(), refusals.names()),
        (vec![1, 2], vec!["b.test", "d.test"])
    );
    let permits = next(&spool, Lane::Permits).unwrap();
    assert_eq!(
        (permits.seqs(), permits.names()),
        (vec![1, 2], vec!["a.test", "c.test"])
    );
    assert_eq!(refusals.head.spool, permits.head.spool);
    assert_eq!(spool.depth().entries, 4);
    assert_eq!(stored(&spool, &refusals), 0);
    assert_eq!(stored(&spool, &permits), 0);
    assert!(next(&spool, Lane::Refusals).is_none() && next(&spool, Lane::Permits).is_none());
    assert_eq!(spool.depth().oldest, None);
    append(&spool, &[refusal("job_1", "e.test")]);
    assert_eq!(next(&spool, Lane::Refusals).unwrap().seqs(), [3]);
}

#[test]
fn a_batch_that_was_not_stored_is_the_same_again_and_a_part_of_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    let all: Vec<_> = (0..10).map(|n| refusal("job_1", &format!("n{n}.test"))).collect();
    append(&spool, &all);
    let first = next_of(&spool, Lane::Refusals, 4).unwrap();
    spool.failed(Lane::Refusals);
    let again = next_of(&spool, Lane::Refusals, 4).unwrap();
    assert_eq!((first.seqs(), first.names()), (again.seqs(), again.names()));
    assert_eq!(
        spool.stored(Lane::Refusals, (&again.batch, 3, 0)),
        7,
        "three of four"
    );
    let rest = next_of(&spool, Lane::Refusals, 4).unwrap();
    assert_eq!(rest.seqs(), [4, 5, 6, 7]);
    assert_eq!(
        spool.stored(Lane::Refusals, (&rest.batch, 4, 0)),
        6,
        "a late answer counts too"
    );
    assert_eq!(next(&spool, Lane::Refusals).unwrap().seqs(), [5, 6, 7, 8, 9, 10]);
}

/// `tidegate_events_shipped_total`: an entry that has to be sent again is not shipped yet.
#[test]
fn what_is_stored_of_a_batch_counts_as_shipped_and_what_is_not_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = Arc::new(AtomicU64::new(0));
    let mut spool = Spool::new(dir.path(), ROOMY);
    Arc::get_mut(&mut spool).unwrap().shipped = Counter::from_arc(Arc::clone(&shipped));
    spool.open(at(0));
    let all: Vec<_> = (0..6).map(|n| refusal("job_1", &format!("n{n}.test"))).collect();
    append(&spool, &all);
    let count = || shipped.load(Ordering::Relaxed);
    let read = next_of(&spool, Lane::Refusals, 4).unwrap();
    spool.stored(Lane::Refusals, (&read.batch, 3, 0));
    assert_eq!(count(), 3);
    let read = next_of(&spool, Lane::Refusals, 2).unwrap();
    spool.stored(Lane::Refusals, (&read.batch, read.batch.last, 1));
    assert_eq!(count(), 4, "one is refused for good");
    let read = next(&spool, Lane::Refusals).unwrap();
    assert_eq!(spool.stored(Lane::Refusals, (&read.batch, 1_000_000, 0)), 1);
    assert_eq!(count(), 4, "the store means another spool");
}

#[test]
fn one_entry_that_is_never_taken_is_skipped_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &[refusal("job_1", "a.test"), refusal("job_1", "b.test")]);
    let bad = next_of(&spool, Lane::Refusals, 1).unwrap();
    spool.skip(Lane::Refusals, &bad.batch);
    let good = next(&spool, Lane::Refusals).unwrap();
    assert_eq!((good.names(), good.head.dropped), (vec!["b.test"], 1));
}

#[test]
fn reports_go_with_the_permits() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    let report = ProcessReport {
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        job_id: "job_1".into(),
        name: "a.test".into(),
        address: None,
        port: 443,
        process: Process::default(),
    };
    spool.append(
        &Encoded::of(&[permit("job_1", "a.test")]),
        std::slice::from_ref(&report),
        Losses::default(),
        at(0),
    );
    let read = next(&spool, Lane::Permits).unwrap();
    let told: ProcessReport = serde_json::from_value(read.entries[1].1["report"].clone()).unwrap();
    assert_eq!((read.seqs(), told), (vec![1, 2], report));
}

#[test]
fn the_spool_goes_on_after_a_restart_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ids, mut last) = (Vec::<CompactString>::new(), 0);
    for round in 0..6 {
        let spool = opened(dir.path(), ROOMY);
        append(&spool, &[refusal("job_1", &format!("n{round}.test"))]);
        let read = next_of(&spool, Lane::Refusals, 1).unwrap();
        assert_eq!(
            read.names(),
            [format!("n{}.test", round / 2)],
            "one is delivered in two rounds"
        );
        ids.push(read.head.spool.clone());
        let all = next(&spool, Lane::Refusals).unwrap();
        let newest = *all.seqs().last().unwrap();
        assert!(newest > last, "no number is given twice");
        last = newest;
        spool.failed(Lane::Refusals);
        if round % 2 == 1 {
            let read = next_of(&spool, Lane::Refusals, 1).unwrap();
            stored(&spool, &read);
            spool.close();
            spool.finish();
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn after_an_orderly_end_numbers_go_on_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let spool = opened(dir.path(), ROOMY);
        append(&spool, &[refusal("job_1", "a.test")]);
        assert_eq!(next(&spool, Lane::Refusals).unwrap().seqs().last(), Some(&round));
        spool.close();
    }
}

/// Lines reach the disk later than the store: after a power failure their numbers must not be given to others.
#[test]
fn numbers_that_a_power_failure_took_from_the_disk_are_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &[refusal("job_1", "a.test"), refusal("job_1", "b.test")]);
    let read = next(&spool, Lane::Refusals).unwrap();
    drop(spool);
    let file = dir.path().join(FOLDER).join(&segments(dir.path())[0]);
    std::fs::write(&file, b"").unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &[refusal("job_1", "c.test")]);
    let after = next(&spool, Lane::Refusals).unwrap();
    assert!(after.seqs()[0] > read.batch.last, "{:?}", after.seqs());
}

#[test]
fn an_older_copy_of_the_spool_goes_on_under_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    append(&spool, &[refusal("job_1", "a.test")]);
    let read = next(&spool, Lane::Refusals).unwrap();
    // The store heard of numbers that are far beyond whatever was reserved here.
    spool.stored(Lane::Refusals, (&read.batch, u64::from(u32::MAX), 0));
    let again = next(&spool, Lane::Refusals).unwrap();
    assert_eq!(again.names(), ["a.test"], "it was not stored");
    assert_ne!(again.head.spool, read.head.spool);
}

#[test]
fn files_go_when_they_are_stored_and_do_not_pile_up_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let spool = opened(dir.path(), MIN_BYTES);
        append(&spool, &[refusal("job_1", "a.test")]);
    }
    // 20 entries, of some 500 bytes each, in files of 4 KiB.
    assert!(segments(dir.path()).len() <= 4, "{:?}", segments(dir.path()));
    let spool = opened(dir.path(), MIN_BYTES);
    while let Some(read) = next(&spool, Lane::Refusals) {
        stored(&spool, &read);
    }
    assert!(segments(dir.path()).len() <= 1, "{:?}", segments(dir.path()));
    assert!(spool.depth().bytes < MIN_BYTES / 16);
    assert_eq!(spool.depth().entries, 0);
}

#[test]
fn what_was_lost_on_the_way_is_told_with_the_next_batch_and_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    let lost = Losses {
        refusals: 3,
        permits: 40,
    };
    spool.append(&Encoded::default(), &[], lost, at(0));
    spool.keep();
    drop(spool);
    let spool = opened(dir.path(), ROOMY);
    assert_eq!(spool.depth().dropped, lost);
    append(&spool, &[refusal("job_1", "a.test"), permit("job_1", "a.test")]);
    assert_eq!(next(&spool, Lane::Refusals).unwrap().head.dropped, 3);
    assert_eq!(next(&spool, Lane::Permits).unwrap().head.dropped, 40);
}

#[test]
fn status_tells_how_much_waits_and_since_when() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(dir.path(), ROOMY);
    let mut later = permit("job_1", "a.test");
    later.time = "2026-01-01T00:01:00Z".parse().unwrap();
    append(&spool, &[refusal("job_1", "a.test"), later]);
    let now = "2026-01-01T00:02:00Z".parse().unwrap();
    let report = spool.depth().report(now);
    assert_eq!(
        (&report["entries"], &report["oldest_seconds"]),
        (&2.into(), &120.into())
    );
    assert!(
        report["bytes"].as_u64() > Some(500) && report["error"].is_null(),
        "{report}"
    );
    let read = next(&spool, Lane::Refusals).unwrap();
    stored(&spool, &read);
    assert_eq!(spool.depth().report(now)["oldest_seconds"], 60);
    drop(spool);
    let spool = opened(dir.path(), ROOMY);
    assert_eq!(
        spool.depth().report(now)["entries"],
        2,
        "after a kill it is sent again"
    );
}

/// A week without control: the spool is full many times over. All permits may go, refusals of quiet jobs never.
#[test]
fn a_week_of_absence_costs_permits_first_and_quiet_jobs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 4 * MIN_BYTES;
    let spool = opened(dir.path(), bound);
    let (mut taken, mut quiet) = (0, 0);
    for day in 0..7 {
        for hour in 0..24 {
            let mut events = Vec::new();
            for n in 0..20 {
                events.push(permit(&format!("job_{day}"), &format!("n{n}.h{hour}.test")));
                events.push(refusal("job_noisy", &format!("n{n}.h{hour}.d{day}.test")));
            }
            events.push(refusal(&format!("job_{day}_{hour}"), "quiet.test"));
            quiet += 1;
            taken += events.len() as u64;
            append(&spool, &events);
            assert!(spool.depth().bytes <= bound);
        }
    }
    let dropped = spool.depth().dropped;
    assert!(
        dropped.permits == 7 * 24 * 20 && dropped.refusals > 0,
        "{dropped:?}"
    );
    drop(spool);
    let spool = opened(dir.path(), bound);
    let (mut kept, mut quiet_kept) = (0, 0);
    for lane in Lane::ALL {
        while let Some(read) = next(&spool, lane) {
            for (_, entry) in &read.entries {
                let count = entry["event"]["count"].as_u64().unwrap();
                kept += count;
                quiet_kept += count * u64::from(entry["event"]["name"] == "quiet.test");
            }
            assert_eq!(read.head.dropped, dropped.of(lane), "told, after the kill too");
            stored(&spool, &read);
        }
    }
    assert_eq!((quiet_kept, kept + dropped.total()), (quiet, taken));
}

#[test]
fn identical_verdicts_of_a_week_fit_without_any_loss() {
    for (verdict, lane) in [
        (Verdict::Permit, Lane::Permits),
        (Verdict::Refuse, Lane::Refusals),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let spool = opened(dir.path(), MIN_BYTES);
        let events: Vec<_> = (0..20).map(|_| event("job_1", "a.test", verdict)).collect();
        for n in 0..100 {
            append(&spool, &events);
            assert_eq!(spool.depth().dropped, Losses::default(), "round {n}");
        }
        let mut kept = 0;
        while let Some(read) = next(&spool, lane) {
            let counts = read.entries.iter().map(|(_, one)| &one["event"]["count"]);
            kept += counts.map(|count| count.as_u64().unwrap()).sum::<u64>();
            stored(&spool, &read);
        }
        assert_eq!(kept, 2_000);
    }
}

#[test]
fn whoever_waits_hears_of_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let spool = opened(dir.path(), ROOMY);
        // Opening says that there may be something from before.
        spool.filled(Lane::Refusals).await;
        append(&spool, &[refusal("job_1", "a.test")]);
        let heard = tokio::time::timeout(Duration::from_secs(20), spool.filled(Lane::Refusals));
        heard.await.unwrap();
        assert!(spool.has_refusals());
    });
}
