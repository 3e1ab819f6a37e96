//! The record as simulations read it: events from the newest back, sums by days, losses.

use jiff::{SignedDuration, Timestamp};
use tidegate_control::store::{Item, RecordOf, Store};
use tidegate_control_wire::batch::BatchHead;
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::job::Scope;

use crate::bench::Bench;
use crate::ingest::{event, head, ingest};

/// More than two steps of the walk.
const MANY: u64 = 10_020;

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn hours(ago: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(ago)
}

/// Events of three repositories, two clusters, some at one and the same time.
fn made(n: u64) -> EventRecord {
    let mut one = event(&format!("n{n}.test"));
    one.time = hours(1) - SignedDuration::from_secs((n / 7).cast_signed());
    let job = one.job.as_mut().unwrap();
    job.repo = ["acme/web", "acme/api", "other/web"][(n % 3) as usize].into();
    job.owner = if n % 3 == 2 { "other" } else { "acme" }.into();
    job.workflow = if n.is_multiple_of(2) {
        "ci.yml"
    } else {
        "release.yml"
    }
    .into();
    job.cluster = if n.is_multiple_of(5) { "lab" } else { "prod" }.into();
    one
}

async fn filled(bench: &Bench) -> Store {
    let store = bench.open().await;
    let all: Vec<(u64, Item)> = (1..=MANY).map(|n| (n, made(n).into())).collect();
    for batch in all.chunks(5_000) {
        ingest(&store, head(), batch.to_vec()).await;
    }
    store
}

/// Every event of some scopes, as the walk gives them.
async fn walked(store: &Store, wanted: &RecordOf) -> Vec<(Timestamp, String)> {
    let (mut all, mut next) = (Vec::new(), None);
    let mut back_to: Option<Timestamp> = None;
    loop {
        let piece = store.recorded_events(wanted, next).await.unwrap();
        for (at, event) in &piece.events {
            assert!(
                back_to.is_none_or(|back_to| *at < back_to),
                "what was said to be read was not"
            );
            all.push((*at, event.name.clone().unwrap().to_string()));
        }
        back_to = piece.back_to;
        next = piece.next;
        if next.is_none() {
            return all;
        }
    }
}

pub(crate) async fn a_walk_back_meets_each_event_of_its_scopes_once(bench: Bench) {
    let store = filled(&bench).await;
    for (texts, is_in) in [
        (vec!["org:acme"], (|n| n % 3 != 2) as fn(u64) -> bool),
        (vec!["repo:acme/web"], |n| n % 3 == 0),
        (
            vec!["workflow:acme/web/ci.yml", "workflow:acme/web/release.yml"],
            |n| n % 3 == 0,
        ),
        (vec!["workflow:acme/web/ci.yml", "repo:other/web"], |n| {
            n % 6 == 0 || n % 3 == 2
        }),
        (vec!["cluster:lab"], |n| n % 5 == 0),
        (vec!["org:nobody"], |_| false),
    ] {
        let wanted = RecordOf::new(&scopes(&texts), hours(24), hours(0));
        let found = walked(&store, &wanted).await;
        assert!(
            found.is_sorted_by(|one, other| one.0 >= other.0),
            "{texts:?}: the newest come first"
        );
        let mut names: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        let mut expected: Vec<String> = (1..=MANY)
            .filter(|n| is_in(*n))
            .map(|n| format!("n{n}.test"))
            .collect();
        expected.sort_unstable();
        assert_eq!(names.len(), expected.len(), "{texts:?}");
        assert_eq!(names, expected, "{texts:?}");
    }
    // Once: `made` goes by the clock, which goes on while the store is read.
    let (from, to) = (made(700).time, made(70).time);
    let span = RecordOf::new(&scopes(&["org:acme"]), from, to);
    for (at, name) in walked(&store, &span).await {
        assert!(at >= from && at < to, "{name}");
    }
}

pub(crate) async fn sums_are_of_whole_days_the_newest_first_and_bounded(bench: Bench) {
    let store = bench.open().await;
    let days = [(1, 0), (2, 24), (3, 48), (4, 24)];
    let batch = days.map(|(seq, ago)| {
        let name = if seq == 4 { "twice.test" } else { "a.test" };
        let one = EventRecord {
            time: hours(ago),
            count: seq,
            ..event(name)
        };
        (seq, Item::from(one))
    });
    ingest(&store, BatchHead { dropped: 9, ..head() }, batch.to_vec()).await;
    let wanted = RecordOf::new(&scopes(&["repo:acme/web"]), hours(24), hours(0));
    let today = {
        let start = Timestamp::now().as_second().div_euclid(86_400) * 86_400;
        Timestamp::from_second(start).unwrap()
    };
    let (sums, more) = store.recorded_sums(&wanted, today, 10).await.unwrap();
    let mut found: Vec<_> = sums
        .iter()
        .map(|sum| (sum.endpoint.as_str(), sum.verdicts))
        .collect();
    found.sort_unstable();
    assert_eq!(
        (found, more),
        (vec![("a.test", 2), ("twice.test", 4)], false),
        "neither today nor before yesterday"
    );
    let (cut, more) = store.recorded_sums(&wanted, today, 1).await.unwrap();
    assert_eq!((cut.len(), more), (1, true));
    let lab = RecordOf::new(&scopes(&["cluster:lab"]), hours(24), hours(0));
    assert_eq!(store.recorded_sums(&lab, today, 10).await.unwrap().0, []);
    assert_eq!(store.recorded_losses(hours(48), hours(0)).await.unwrap(), 9);
    assert_eq!(store.recorded_losses(hours(96), hours(72)).await.unwrap(), 0);
}
