//! What ledgers hold after batches in any order, what is outside of a stable baseline, and what happens at the bound.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use proptest::prelude::*;
use tidegate_control_wire::event::EventRecord;

use super::super::batch::Batch;
use super::*;
use crate::baseline::State;

/// An event of a run of `acme/web`, so many seconds after the beginning.
fn event(run: u64, name: &str, event: &str, second: i64) -> EventRecord {
    let time = Timestamp::from_second(second).unwrap();
    let text = format!(
        r#"{{"schema":1,"time":"{time}","id":"e{run}-{name}","gateway":"gw-1","source":"10.77.1.2","kind":"tls",
        "name":"{name}","port":443,"mode":"audit","verdict":"permit",
        "job":{{"id":"job_{run}","owner":"acme","repo":"acme/web","run_id":"{run}","event":"{event}",
        "head_repo":"","assurance":"signed"}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

const FIRST: First = First {
    wide: true,
    workflow: true,
    cluster: true,
};

/// Told to ledgers as if nothing but the ledgers were known. Gives what was outside, as `scope endpoint`.
fn tell(ledgers: &mut Ledgers, events: &[EventRecord]) -> Vec<String> {
    let batch = Batch::of(events, Timestamp::MAX);
    let groups: Vec<(&Group<'_>, Target)> = batch
        .reached
        .iter()
        .map(|group| (group, group.target()))
        .collect();
    for group in batch.runs.iter().filter(|group| group.trust() == Trust::Trusted) {
        ledgers.enter(Deed::Run, group, 0, FIRST);
    }
    for (number, (group, _)) in groups.iter().enumerate() {
        ledgers.enter(Deed::Reached, group, number, FIRST);
    }
    let mut outside = Vec::new();
    ledgers.advance(&groups, |scope, number, outcome| {
        let (group, target) = &groups[number];
        let told = format!("{scope} {}", target.endpoint);
        outside.push(match outcome {
            Outcome::Told(id) => format!("{told} told by {id}"),
            Outcome::Inside | Outcome::Outside => told.clone(),
        });
        Some(format!("{told} of {}", group.job.id))
    });
    outside.sort();
    outside
}

/// A baseline of `a.example` that a hundred runs made stable.
fn stable() -> Ledgers {
    let mut ledgers = Ledgers::default();
    let events: Vec<_> = (0..=100).map(|run| event(run, "a.example", "push", 0)).collect();
    assert_eq!(tell(&mut ledgers, &events), [""; 0]);
    let (_, ledger) = &ledgers.0["repo:acme/web"];
    assert_eq!(ledger.standing.state(Timestamp::UNIX_EPOCH), State::Stable);
    ledgers
}

#[test]
fn a_new_endpoint_of_a_stable_baseline_is_outside_of_every_scope_and_told_once() {
    let mut ledgers = stable();
    let outside = tell(&mut ledgers, &[event(200, "evil.example", "push", 1)]);
    assert_eq!(outside, ["org:acme evil.example", "repo:acme/web evil.example"]);
    let again = tell(&mut ledgers, &[event(201, "evil.example", "push", 2)]);
    assert_eq!(
        again,
        [
            "org:acme evil.example told by org:acme evil.example of job_200",
            "repo:acme/web evil.example told by repo:acme/web evil.example of job_200",
        ]
    );
    let (_, ledger) = &ledgers.0["repo:acme/web"];
    assert_eq!(ledger.standing.state(Timestamp::UNIX_EPOCH), State::Unstable);
    let row = ledger.rows.values().find(|row| row.late).unwrap();
    assert_eq!(
        (row.runs, row.accepted),
        (2, false),
        "it stays late however often it is repeated"
    );
}

#[test]
fn a_fork_is_outside_and_unsettles_nothing_and_its_acceptance_is_not_the_scopes() {
    let mut ledgers = stable();
    let outside = tell(&mut ledgers, &[event(200, "evil.example", "pull_request", 1)]);
    assert_eq!(outside.len(), 2);
    let state = |ledgers: &Ledgers| {
        let (_, ledger) = &ledgers.0["repo:acme/web"];
        (ledger.standing.state(Timestamp::UNIX_EPOCH), ledger.standing.runs)
    };
    assert_eq!(state(&ledgers), (State::Stable, 101));
    let told = |id: &str| (id.to_owned(), (id.to_owned(), Status::Suppressed));
    let ids = [
        "org:acme evil.example of job_200",
        "repo:acme/web evil.example of job_200",
    ];
    ledgers.settle(&ids.into_iter().map(told).collect());
    let fork = tell(&mut ledgers, &[event(201, "evil.example", "pull_request", 2)]);
    assert_eq!(fork, [""; 0], "it was suppressed");
    let own = tell(&mut ledgers, &[event(202, "evil.example", "push", 3)]);
    assert_eq!(own.len(), 2, "nobody said so of the scope's own runs: {own:?}");
    assert_eq!(state(&ledgers).0, State::Unstable);
}

#[test]
fn at_its_bound_a_baseline_counts_what_finds_no_room_and_still_tells_of_it() {
    let mut ledgers = stable();
    for (_, ledger) in ledgers.0.values_mut() {
        ledger.endpoints = MAX_ENDPOINTS;
        ledger.strangers = MAX_STRANGERS;
    }
    let events = [
        event(200, "own.example", "push", 1),
        event(201, "fork.example", "pull_request", 2),
    ];
    assert_eq!(tell(&mut ledgers, &events).len(), 4);
    let (_, ledger) = &ledgers.0["repo:acme/web"];
    assert_eq!(
        (ledger.dropped, ledger.rows.len(), ledger.endpoints),
        (2, 1, MAX_ENDPOINTS)
    );
    assert_eq!(
        tell(&mut ledgers, &[event(202, "a.example", "push", 3)]),
        [""; 0],
        "what it holds it knows"
    );
}

#[test]
fn strangers_make_way_when_the_scope_itself_reaches_what_they_did() {
    let mut ledgers = Ledgers::default();
    tell(&mut ledgers, &[event(1, "a.example", "pull_request", 0)]);
    let counts = |ledgers: &Ledgers| {
        let (_, ledger) = &ledgers.0["repo:acme/web"];
        (ledger.endpoints, ledger.strangers)
    };
    assert_eq!(counts(&ledgers), (0, 1));
    tell(&mut ledgers, &[event(2, "a.example", "push", 0)]);
    assert_eq!(counts(&ledgers), (1, 0));
}

proptest! {
    /// However a record is cut into batches and shuffled, the same endpoints are held with the same counts.
    #[test]
    fn what_a_baseline_holds_does_not_depend_on_the_order(
        told in prop::collection::vec((0..12_u64, 0..5_u8, prop::bool::ANY), 1..60),
        cut in 1..7_usize,
        order in any::<u64>(),
    ) {
        let mut told: Vec<_> = told
            .into_iter()
            .map(|(run, name, fork)| (run + if fork { 100 } else { 0 }, name, fork))
            .collect();
        told.sort_unstable();
        told.dedup();
        let make = |told: &[(u64, u8, bool)], cut: usize| {
            let mut ledgers = Ledgers::default();
            for lot in told.chunks(cut) {
                let of = |(run, name, fork): &(u64, u8, bool)| {
                    let trigger = if *fork { "pull_request" } else { "push" };
                    event(*run, &format!("n{name}.example"), trigger, i64::from(*name))
                };
                tell(&mut ledgers, &lot.iter().map(of).collect::<Vec<_>>());
            }
            let (_, ledger) = ledgers.0.remove("repo:acme/web").unwrap();
            let mut rows: Vec<_> = ledger
                .rows
                .into_iter()
                .map(|(target, row)| (target, row.first, row.last, row.calls, row.runs, row.fork_runs))
                .collect();
            rows.sort();
            (rows, ledger.endpoints, ledger.strangers)
        };
        let mut shuffled = told.clone();
        shuffled.sort_by_key(|(run, name, fork)| {
            (run * 31 + u64::from(*name) * 7 + u64::from(*fork)).wrapping_mul(order | 1)
        });
        prop_assert_eq!(make(&told, told.len()), make(&shuffled, cut));
    }
}
