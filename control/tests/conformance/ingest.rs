//! Events on their way into the store: each once, whatever way its batch came.

use jiff::{SignedDuration, Timestamp};
use tidegate_control::store::{Item, Store};
use tidegate_control_wire::batch::{BatchHead, BatchStored, Lane, ProcessReport};
use tidegate_control_wire::event::{EventJob, EventRecord, Process};
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::job::Assurance;
use tidegate_policy::verdict::{Mode, Verdict};

use crate::bench::Bench;

/// A job of `acme/web`.
pub(crate) fn job(id: &str) -> EventJob {
    EventJob {
        id: id.into(),
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: "42".into(),
        run_attempt: 1,
        runner_name: "runner-1".into(),
        cluster: "prod".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        actor: "ada".into(),
        head_repo: "".into(),
        assurance: Assurance::Signed,
    }
}

/// A permit of that job towards a name, now. Its id is the name's.
pub(crate) fn event(name: &str) -> EventRecord {
    EventRecord {
        schema: 1,
        time: Timestamp::now(),
        id: name.into(),
        gateway: "gw-1".into(),
        network: "runners".into(),
        job: Some(job("job_1")),
        source: "10.0.0.1".parse().unwrap(),
        source_port: 40_000,
        kind: Kind::Tls,
        name: Some(name.into()),
        name_source: NameSource::Sni,
        qtype: None,
        rcode: None,
        answers: Vec::new(),
        address: Some("192.0.2.7".parse().unwrap()),
        port: 443,
        original_address: None,
        mode: Mode::Block,
        verdict: Verdict::Permit,
        reason: None,
        rule: Some("*.test:443".into()),
        rule_source: Some("policy".into()),
        nearest: None,
        policy: Some("acme/base".into()),
        policy_version: Some(3),
        scope: Some("repo:acme/web".into()),
        ech_present: false,
        note: None,
        bytes_up: 100,
        bytes_down: 2_000,
        duration_ms: 12,
        count: 1,
        ja4: None,
        process: None,
    }
}

/// The head of a batch of permits of spool `s1`.
pub(crate) fn head() -> BatchHead {
    BatchHead {
        protocol: tidegate_control_wire::PROTOCOL,
        spool: "s1".into(),
        lane: Lane::Permits,
        dropped: 0,
    }
}

/// Entries with these numbers, each about `n{number}.test`.
fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Item)> {
    let entry = |seq| (seq, event(&format!("n{seq}.test")).into());
    numbers.into_iter().map(entry).collect()
}

pub(crate) async fn ingest(store: &Store, head: BatchHead, entries: Vec<(u64, Item)>) -> BatchStored {
    store.ingest("gw-1", head, entries).await.unwrap()
}

/// Names of the raw events in the order of storing.
async fn names(store: &Store) -> Vec<String> {
    sqlx::query_scalar("SELECT endpoint FROM events ORDER BY seq")
        .fetch_all(store.events_db().read())
        .await
        .unwrap()
}

fn named(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|seq| format!("n{seq}.test")).collect()
}

/// Day, endpoint, verdicts, bytes up.
async fn rollups(store: &Store) -> Vec<(i64, String, i64, i64)> {
    sqlx::query_as("SELECT day, endpoint, verdicts, bytes_up FROM rollups ORDER BY day, endpoint")
        .fetch_all(store.events_db().read())
        .await
        .unwrap()
}

pub(crate) async fn each_event_is_stored_once_under_repeats_overlaps_and_gaps(bench: Bench) {
    let store = bench.open().await;
    for (sent, stored) in [
        (1..=3, 3),
        (1..=3, 3),
        (2..=5, 5),
        (9..=9, 9),
        (4..=9, 9),
        (10..=10, 10),
    ] {
        let answer = ingest(&store, head(), entries(sent)).await;
        assert_eq!((answer.stored, answer.refused), (stored, 0));
    }
    assert_eq!(names(&store).await, named((1..=5).chain(9..=10)));
    let sums = rollups(&store).await;
    assert!(sums.iter().all(|(_, _, verdicts, up)| (*verdicts, *up) == (1, 100)), "{sums:?}");
    assert_eq!(sums.len(), 7);
    // Asking for the mark is a batch without entries.
    assert_eq!(ingest(&store, head(), Vec::new()).await.stored, 10);
}
