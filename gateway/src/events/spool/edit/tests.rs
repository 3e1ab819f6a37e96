//! What merging, thinning and clearing keep, and what they count.

use std::sync::Arc;

use proptest::prelude::*;
use tidegate_control_wire::batch::ProcessReport;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::event::{Kind, NetworkEvent};
use tidegate_policy::verdict::{Reason, Verdict};

use super::*;
use crate::events::spool::tests::fixture::{counts, entries, event, lines};

const NO_MARKS: Marks = Marks {
    stored: 0,
    pinned: 0,
    tried: 0,
};

fn numbers(edited: &Edited) -> Vec<u64> {
    let numbers: Vec<u64> = entries(&edited.text).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(
        (numbers.len() as u64, numbers.last()),
        (edited.entries, Some(&edited.last))
    );
    numbers
}

fn permit(seq: u64, job: &str, name: &str) -> (u64, NetworkEvent) {
    (seq, event(job, name, Verdict::Permit))
}

#[test]
fn what_says_the_same_becomes_the_last_of_it_with_counts_and_bytes_summed() {
    let mut later = permit(9, "job_1", "a.test");
    later.1.time = "2026-01-02T00:00:00Z".parse().expect("a time");
    later.1.count = 5;
    let mut bytes_only = permit(7, "job_1", "a.test");
    (
        bytes_only.1.count,
        bytes_only.1.bytes_up,
        bytes_only.1.duration_ms,
    ) = (0, 90, 70);
    let text = lines(&[
        permit(1, "job_1", "a.test"),
        permit(3, "job_1", "b.test"),
        permit(5, "job_2", "a.test"),
        bytes_only,
        later,
    ]);
    let merged = merge(&text, NO_MARKS);
    assert_eq!((numbers(&merged), merged.dropped), (vec![3, 5, 9], 0));
    let all = entries(&merged.text);
    let one = &all[2].1["event"];
    assert_eq!(
        (
            &one["count"],
            &one["bytes_up"],
            &one["bytes_down"],
            &one["duration_ms"],
            &one["time"]
        ),
        (
            &6.into(),
            &110.into(),
            &300.into(),
            &70.into(),
            &"2026-01-02T00:00:00.000Z".into()
        )
    );
    let alone = lines(&[permit(3, "job_1", "b.test")]);
    assert!(
        merged.text.starts_with(&alone),
        "what is alone is the same bytes as before"
    );
    assert_eq!(merge(&merged.text, NO_MARKS), merged, "twice is as good as once");
}

#[test]
fn whatever_a_reader_could_want_to_tell_apart_is_not_merged() {
    let changes: [fn(&mut NetworkEvent); 9] = [
        |event| event.kind = Kind::Quic,
        |event| event.name = None,
        |event| event.qtype = Some("AAAA".into()),
        |event| event.address = Some([192, 0, 2, 1].into()),
        |event| event.port = 8443,
        |event| event.verdict = Verdict::WouldRefuse,
        |event| event.reason = Some(Reason::NotAllowed),
        |event| event.rule = Some(RuleRef::global("*.test:443")),
        |event| Arc::make_mut(&mut event.subject).policy_version = Some(7),
    ];
    let mut all = vec![permit(1, "job_1", "a.test")];
    for (at, change) in changes.iter().enumerate() {
        let mut one = permit(at as u64 + 2, "job_1", "a.test");
        change(&mut one.1);
        all.push(one);
    }
    let text = lines(&all);
    assert_eq!(merge(&text, NO_MARKS).text, text);
}

#[test]
fn what_the_store_may_have_is_not_merged_with_what_it_can_not_have() {
    let all: Vec<_> = (1..=8).map(|seq| permit(seq, "job_1", "a.test")).collect();
    let marks = Marks {
        stored: 2,
        pinned: 4,
        tried: 5,
    };
    let merged = merge(&lines(&all), marks);
    assert_eq!(numbers(&merged), [3, 4, 5, 8]);
    assert_eq!(entries(&merged.text)[3].1["event"]["count"], 3);
    assert_eq!(merged.dropped, 0, "what is stored is not lost");
}

#[test]
fn reports_of_the_same_process_are_one() {
    let report = |name: &str| ProcessReport {
        time: jiff::Timestamp::UNIX_EPOCH,
        job_id: "job_1".into(),
        name: "a.test".into(),
        address: None,
        port: 443,
        process: Process {
            name: name.into(),
            ..Process::default()
        },
    };
    let mut text = Vec::new();
    for (seq, name) in [(1, "curl"), (2, "npm"), (3, "curl")] {
        let json = serde_json::to_vec(&report(name)).expect("JSON");
        line::write(&mut text, seq, What::Report, &json);
    }
    let merged = merge(&text, NO_MARKS);
    assert_eq!((numbers(&merged), merged.dropped), (vec![2, 3], 0));
    assert_eq!(
        clear(&text, NO_MARKS).dropped,
        3,
        "each report that goes is counted"
    );
}

#[test]
fn clearing_leaves_what_is_on_its_way_and_counts_what_was_not_stored() {
    let all: Vec<_> = (1..=6).map(|seq| permit(seq, "job_1", "a.test")).collect();
    let marks = Marks {
        stored: 2,
        pinned: 4,
        tried: 4,
    };
    let cleared = clear(&lines(&all), marks);
    assert_eq!((numbers(&cleared), cleared.dropped), (vec![3, 4], 2));
}

#[test]
fn a_damaged_line_is_told_and_nothing_is_made_of_it() {
    let text = [lines(&[permit(1, "job_1", "a.test")]), b"nonsense\n".to_vec()].concat();
    for edited in [
        merge(&text, NO_MARKS),
        clear(&text, NO_MARKS),
        thin(&text, "job_1", 1, NO_MARKS),
    ] {
        assert_eq!(edited.damaged, 1);
    }
}

#[test]
fn of_many_parties_the_noisiest_are_counted() {
    let mut all: Vec<_> = (1..=20)
        .map(|seq| permit(seq, &format!("job_{seq}"), "a.test"))
        .collect();
    all.push(permit(21, "job_7", "a.test"));
    let text = lines(&all);
    assert_eq!(survey(&text, NO_MARKS, 100).len(), 20);
    let few = survey(&text, NO_MARKS, 3);
    assert!(few.contains_key("job_7") && few.len() <= 3, "{few:?}");
    let marks = Marks {
        pinned: 21,
        ..NO_MARKS
    };
    assert!(survey(&text, marks, 100).is_empty());
}

fn any_event() -> impl Strategy<Value = NetworkEvent> {
    (0..3, 0..3, 0..4_u64, any::<bool>()).prop_map(|(job, name, count, permit)| {
        let verdict = if permit { Verdict::Permit } else { Verdict::Refuse };
        let mut event = event(&format!("job_{job}"), &format!("n{name}.test"), verdict);
        event.count = count;
        event
    })
}

proptest! {
    #[test]
    fn no_verdict_is_lost_uncounted(
        events in proptest::collection::vec(any_event(), 0..40),
        (stored, pinned, tried) in (0..10_u64, 0..10_u64, 0..10_u64),
        need in 0..5_000_u64,
    ) {
        let marks = Marks { stored, pinned: stored + pinned, tried: stored + pinned + tried };
        let all: Vec<_> = (1..).zip(events).collect();
        let text = lines(&all);
        let pending: Vec<_> = all.iter().filter(|(seq, _)| *seq > stored).cloned().collect();
        let total: u64 = pending.iter().map(|(_, event)| event.count).sum();
        let sum = |edited: &Edited| counts(&edited.text).values().sum::<u64>();
        let merged = merge(&text, marks);
        prop_assert_eq!(counts(&merged.text), counts(&lines(&pending)), "by job too");
        prop_assert_eq!(merged.dropped, 0);
        prop_assert!(merged.text.len() <= lines(&pending).len() + 8 * merged.entries as usize);
        let thinned = thin(&text, "job_1", need, marks);
        prop_assert_eq!(sum(&thinned) + thinned.dropped, total);
        let others = |text: &[u8]| {
            let mut counts = counts(text);
            counts.remove("job_1");
            counts
        };
        prop_assert_eq!(others(&thinned.text), others(&lines(&pending)), "nobody else pays");
        let cleared = clear(&text, marks);
        prop_assert_eq!(sum(&cleared) + cleared.dropped, total);
        for edited in [merged, thinned, cleared] {
            let kept: Vec<u64> = entries(&edited.text).iter().map(|(seq, _)| *seq).collect();
            let on_its_way = all.iter().map(|(seq, _)| *seq).filter(|seq| (stored + 1..=marks.pinned).contains(seq));
            prop_assert!(on_its_way.clone().all(|seq| kept.contains(&seq)));
        }
    }
}
