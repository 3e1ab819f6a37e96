//! The list of what control is to be told: order, bounds, and what survives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;
use tidegate_control_wire::claim::{EndedBy, Refusal};
use tidegate_control_wire::record::Ending;

use super::*;
use crate::jobs::tests::fixture::{Mode, World, record};

fn open(dir: &TempDir, capacity: usize) -> Outbox {
    Outbox::with_capacity(dir.path(), capacity).unwrap()
}

fn claim(id: &str, replaces: &[&str]) -> Claim {
    Claim {
        lease: record(id),
        replaces: replaces.iter().map(|id| CompactString::from(*id)).collect(),
        proof: None,
        granted: true,
    }
}

fn end() -> End {
    End {
        at: Timestamp::UNIX_EPOCH,
        by: EndedBy::Job,
        ending: Ending::Quarantine,
    }
}

/// `+` and the id of each grant that waits, `-` and the id of each end.
fn waiting(outbox: &Outbox) -> Vec<String> {
    let name = |told: &Told| match told {
        Told::Grant(claim) => format!("+{}", claim.lease.id),
        Told::End { id, .. } => format!("-{id}"),
    };
    outbox.waiting().iter().map(name).collect()
}

fn grant(outbox: &Outbox, id: &str) {
    outbox.grant(claim(id, &[]), false).unwrap();
}

#[tokio::test]
async fn control_is_told_in_order_and_each_once() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::ephemeral());
    let outbox = open(&dir, 8);
    grant(&outbox, "a");
    outbox.end(&"a".into(), end());
    grant(&outbox, "b");
    world.control.set(Mode::Away);
    assert!(!outbox.flush(&*world.control).await);
    assert_eq!(waiting(&outbox), ["+a", "-a", "+b"]);
    world.control.set(Mode::There);
    assert!(outbox.flush(&*world.control).await);
    assert_eq!(
        world.control.told(),
        (vec!["a".into(), "b".into()], vec!["a".into()])
    );
    assert_eq!(outbox.depth(), 0);
    assert!(outbox.flush(&*world.control).await);
    assert_eq!(world.control.told().0.len(), 2, "nothing is told twice");
    assert!(outbox.is_ended("a"), "the stream may still be on its way with it");
    assert!(!outbox.is_ended("b"));
}

#[tokio::test]
async fn what_control_refuses_does_not_stand_in_the_way() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::ephemeral());
    let outbox = open(&dir, 8);
    grant(&outbox, "a");
    grant(&outbox, "b");
    world.control.set(Mode::Refuses(Refusal::Invalid));
    assert!(outbox.flush(&*world.control).await);
    assert_eq!(outbox.depth(), 0);
}

#[tokio::test]
async fn what_waits_survives_a_restart_and_what_was_told_does_not_come_back() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::ephemeral());
    let outbox = open(&dir, 8);
    outbox.grant(claim("a", &["old"]), false).unwrap();
    outbox.end(&"a".into(), end());
    grant(&outbox, "b");
    drop(outbox);
    let outbox = open(&dir, 8);
    assert_eq!(waiting(&outbox), ["+a", "-a", "+b"]);
    for (id, ended) in [("a", true), ("old", true), ("b", false)] {
        assert_eq!(outbox.is_ended(id), ended, "{id}");
    }
    // Told of two of them before the next crash.
    let first = outbox.first().unwrap().number;
    outbox.done(first);
    outbox.done(first + 1);
    drop(outbox);
    let outbox = open(&dir, 8);
    assert_eq!(waiting(&outbox), ["+b"]);
    grant(&outbox, "c");
    assert!(outbox.flush(&*world.control).await);
    assert_eq!(world.control.told().0, ["b", "c"]);
    drop(outbox);
    assert!(waiting(&open(&dir, 8)).is_empty());
    let left = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert_eq!(left, 0, "the file is empty when nothing waits");
}

#[test]
fn at_the_bound_jobs_that_nobody_heard_of_are_forgotten_first() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(&dir, 6);
    outbox.end(&"known".into(), end());
    grant(&outbox, "running");
    grant(&outbox, "gone");
    outbox.end(&"gone".into(), end());
    outbox.grant(claim("heir", &["known"]), false).unwrap();
    outbox.end(&"heir".into(), end());
    grant(&outbox, "new");
    assert_eq!(waiting(&outbox), ["-known", "+running", "+heir", "-heir", "+new"]);
    grant(&outbox, "newer");
    assert_eq!(
        outbox.grant(claim("newest", &[]), false),
        Err(OutboxFull),
        "no lease is granted that control would never hear of"
    );
    outbox.end(&"running".into(), end());
    assert_eq!(outbox.depth(), 7, "an end is always taken");
    drop(outbox);
    assert_eq!(open(&dir, 6).depth(), 7);
}

#[test]
fn a_lease_that_control_may_have_heard_of_is_not_forgotten_before_its_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(&dir, 4);
    for id in ["a", "b"] {
        outbox.grant(claim(id, &[]), true).unwrap();
        outbox.end(&id.into(), end());
    }
    assert_eq!(outbox.grant(claim("c", &[]), false), Err(OutboxFull));
    drop(outbox);
    // After a restart it is not known what was under way: the first entry counts as heard of.
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(&dir, 2);
    grant(&outbox, "a");
    outbox.end(&"a".into(), end());
    drop(outbox);
    assert_eq!(open(&dir, 2).grant(claim("b", &[]), false), Err(OutboxFull));
}

#[test]
fn the_file_is_written_anew_before_it_grows_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(&dir, 8);
    grant(&outbox, "stays");
    for round in 0..2 * MAX_DONE_LINES as u64 {
        let mut waiting = outbox.waiting.lock();
        waiting.done(0);
        assert!(waiting.lines.count() <= MAX_DONE_LINES + 2, "round {round}");
    }
    drop(outbox);
    assert_eq!(waiting(&open(&dir, 8)), ["+stays"]);
}

#[test]
fn ended_leases_are_remembered_up_to_a_bound() {
    let mut ended = Ended::default();
    for number in 0..=MAX_ENDED {
        ended.add(&compact_str::format_compact!("{number}"));
        ended.add(&compact_str::format_compact!("{number}"));
    }
    assert_eq!((ended.known.len(), ended.order.len()), (MAX_ENDED, MAX_ENDED));
    assert!(!ended.known.contains("0") && ended.known.contains("1"));
}

#[tokio::test(start_paused = true)]
async fn control_is_told_as_soon_as_it_is_back_and_of_what_comes_later() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::ephemeral());
    let (outbox, control) = (Arc::new(open(&dir, 8)), Arc::clone(&world.control));
    control.set(Mode::Away);
    grant(&outbox, "a");
    let running = {
        let (outbox, control) = (Arc::clone(&outbox), Arc::clone(&control));
        tokio::spawn(async move { outbox.run(&*control).await })
    };
    tokio::time::sleep(10 * RETRY).await;
    assert_eq!(outbox.depth(), 1);
    control.set(Mode::There);
    for (id, told) in [("b", 2), ("c", 3)] {
        grant(&outbox, id);
        let wait = async {
            while control.told().0.len() < told {
                tokio::time::sleep(RETRY / 10).await;
            }
        };
        tokio::time::timeout(10 * RETRY, wait)
            .await
            .expect("control is told");
    }
    assert_eq!((outbox.depth(), running.is_finished()), (0, false));
    running.abort();
}
