//! Tests of who is woken by what, and of what is kept for streams that are a little behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::prelude::*;
use tidegate_control_wire::frame::read_line;
use tidegate_control_wire::record::Change;
use tokio::time::timeout;

use super::*;
use crate::model::{Actor, Policy};
use crate::sync::tests::{Bench, claim};

/// Longest wait for something that happens by itself.
const PATIENCE: Duration = Duration::from_secs(10);

fn somebody() -> Actor {
    Actor {
        subject: "test".into(),
        token_id: None,
        via: "api".into(),
    }
}

/// A lease of the first group; its generation.
async fn registered(bench: &Bench) -> Generation {
    let claim = claim("job_1", "gw-1");
    let claimed = bench.store.claim(&claim, "group:a", "gw-1").await;
    claimed.unwrap().generation
}

async fn published(bench: &Bench, yaml: &str) -> Policy {
    let made = bench.store.create_policy("acme", "base", yaml, &somebody()).await;
    made.unwrap()
}

async fn heard(listener: &mut Listener) {
    timeout(PATIENCE, listener.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_registration_wakes_the_gateways_of_its_group_and_nobody_else() {
    let bench = Bench::new().await;
    let news = News::follow(bench.store.clone());
    let begun = *bench.store.db().newest().borrow();
    let (mut own, mut other) = (news.listen("group:a"), news.listen("group:b"));
    let generation = registered(&bench).await;
    heard(&mut own).await;
    assert!(
        matches!(own.after(begun), Step::Look),
        "its lease is in the store"
    );
    assert!(
        matches!(own.after(generation), Step::Nothing(_)),
        "and it is told once"
    );
    // What follows for everybody is the first that the other group hears of.
    published(&bench, "egress-policy: block\n").await;
    heard(&mut other).await;
    assert_eq!(*other.own.borrow(), Generation(0));
    assert!(
        matches!(other.after(begun), Step::Send(_)),
        "without a look at the store"
    );
}

#[tokio::test]
async fn a_position_moves_on_over_what_concerns_others_only() {
    let bench = Bench::new().await;
    let news = News::follow(bench.store.clone());
    let begun = *bench.store.db().newest().borrow();
    let (mut own, mut other) = (news.listen("group:a"), news.listen("group:b"));
    let generation = registered(&bench).await;
    heard(&mut own).await;
    // Groups are told a moment before the window is: the wait is for the latter.
    let moved = async {
        loop {
            match other.after(begun) {
                Step::Nothing(seen) if seen >= generation => return seen,
                Step::Nothing(_) => tokio::task::yield_now().await,
                step @ (Step::Send(_) | Step::Look) => panic!("{step:?}"),
            }
        }
    };
    assert_eq!(timeout(PATIENCE, moved).await.unwrap(), generation);
}

#[tokio::test]
async fn a_publication_is_read_and_written_once_for_all_streams() {
    let bench = Bench::new().await;
    let news = News::follow(bench.store.clone());
    let begun = *bench.store.db().newest().borrow();
    let mut listeners = [news.listen("group:a"), news.listen("group:b")];
    let yaml = "egress-policy: block\nallowed-endpoints: a.example:443\n";
    let made = published(&bench, yaml).await;
    let mut sent = Vec::new();
    for listener in &mut listeners {
        heard(listener).await;
        match listener.after(begun) {
            Step::Send(deltas) => sent.push(deltas),
            step @ (Step::Nothing(_) | Step::Look) => panic!("{step:?}"),
        }
    }
    let [[one], [other]] = [&*sent[0], &*sent[1]] else {
        panic!("{sent:?}")
    };
    assert!(Arc::ptr_eq(one, other), "the same bytes for everybody");
    let lines = one.lines.split_inclusive(|byte| *byte == b'\n');
    let frames: Vec<Frame> = lines.map(|line| read_line(line).unwrap()).collect();
    let [
        Frame::Change(Change::Policy(record)),
        Frame::Commit { generation, .. },
    ] = &*frames
    else {
        panic!("{frames:?}")
    };
    assert_eq!(record.id, made.id);
    assert_eq!(record.versions[0].yaml, yaml);
    assert_eq!(*generation, one.upto);
}

#[tokio::test]
async fn a_group_is_forgotten_with_its_last_listener() {
    let bench = Bench::new().await;
    let news = News::follow(bench.store.clone());
    let (first, second) = (news.listen("group:a"), news.listen("group:a"));
    let known = || news.board.groups.lock().len();
    drop(first);
    assert_eq!(known(), 1);
    drop(second);
    assert_eq!(known(), 0);
}

fn delta(from: Generation, upto: Generation, bytes: usize) -> Delta {
    Delta {
        from,
        upto,
        lines: vec![b'x'; bytes].into(),
    }
}

#[test]
fn what_is_kept_is_bounded_in_number_and_in_bytes() {
    let mut window = Window::at(Generation(0));
    for one in 0..1_000 {
        window.take(
            Generation(one + 1),
            true,
            Some(delta(Generation(one), Generation(one + 1), 10)),
        );
    }
    assert_eq!(window.deltas.len(), MAX_DELTAS);
    assert!(matches!(window.after(Generation(1)), Step::Look));
    window.take(
        Generation(1_001),
        true,
        Some(delta(Generation(1_000), Generation(1_001), MAX_BYTES)),
    );
    assert_eq!(window.deltas.len(), 1);
    assert!(matches!(window.after(Generation(1_000)), Step::Send(_)));
    assert!(matches!(window.after(Generation(999)), Step::Look));
}

proptest! {
    /// Whatever was seen: who is told to send is brought from where it is to the newest without a gap, who is told that
    /// there is nothing has missed nothing, and everybody else looks at the store.
    #[test]
    fn a_stream_is_brought_on_without_a_gap(
        seen in proptest::collection::vec((1..5_u64, 0..3_u8), 0..120),
        at in 0..400_u64,
    ) {
        let mut window = Window::at(Generation(0));
        let (mut now, mut newest_shared) = (0, 0);
        for (step, kind) in seen {
            let before = window.upto();
            now += step;
            let upto = Generation(now);
            match kind {
                0 => window.take(upto, false, None),
                1 => window.take(upto, true, None),
                _ => window.take(upto, true, Some(delta(before, upto, 1))),
            }
            if kind > 0 {
                newest_shared = now;
            }
        }
        match window.after(Generation(at)) {
            Step::Nothing(told) => {
                prop_assert!(newest_shared <= at, "{newest_shared} was missed at {at}");
                prop_assert_eq!(told.0, now.max(at));
            }
            Step::Send(deltas) => {
                prop_assert!(deltas[0].from.0 <= at && at < deltas[0].upto.0);
                prop_assert!(deltas.windows(2).all(|two| two[0].upto == two[1].from));
                prop_assert_eq!(deltas.last().map(|last| last.upto.0), Some(newest_shared));
            }
            Step::Look => prop_assert!(at < newest_shared),
        }
    }
}
