//! What a wrong gateway, or an older program, stores: refusals without ids, such that can't be read, counts of nonsense.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{Backend, EventFilter, EventRetention, Item, UnidentifiedFilter};
use tidegate_control_wire::batch::BatchHead;
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::verdict::Verdict;

use crate::bench::Bench;
use crate::ingest::{event, head, ingest};

/// Another control plane may be an older one for as long as it takes to replace it.
pub(crate) async fn what_an_older_program_stores_beside_this_one_is_found_too(bench: Bench) {
    let store = bench.open().await;
    let refused = EventRecord {
        verdict: Verdict::Refuse,
        id: "id-new".into(),
        ..event("a.test")
    };
    let permitted = EventRecord {
        id: "id-permit".into(),
        ..event("b.test")
    };
    let items = [refused, permitted].map(Item::from);
    ingest(&store, head(), (1..).zip(items).collect()).await;
    store.forget_events().await.unwrap();
    assert_eq!(
        store.sums_since().await.unwrap(),
        None,
        "sums were always made here"
    );
    if store.events_db().backend() == Backend::Sqlite {
        // A file is of one process.
        return;
    }
    let before = Timestamp::now();
    let older = "INSERT INTO events (at, subject, job, repo, endpoint, body) \
        SELECT at, subject, job, repo, endpoint, replace(body, '\"id-', '\"id-older-') FROM events";
    let stored = sqlx::query(older).execute(store.events_db().read());
    assert_eq!(stored.await.unwrap().rows_affected(), 2);
    store.forget_events().await.unwrap();
    let refusals = EventFilter {
        verdicts: vec![Verdict::Refuse],
        ..EventFilter::default()
    };
    let by_id = EventFilter {
        id: Some("id-older-new".into()),
        ..EventFilter::default()
    };
    for (filter, wanted) in [(refusals, 2), (by_id, 1)] {
        let page = store.events(&filter, &PageRequest::default()).await.unwrap();
        assert_eq!(page.items.len(), wanted, "{filter:?}");
    }
    let ids: Vec<String> = sqlx::query_scalar("SELECT refused_id FROM events ORDER BY seq")
        .fetch_all(store.events_db().read())
        .await
        .unwrap();
    assert_eq!(ids, ["id-new", "", "id-older-new", ""]);
    let since = store.sums_since().await.unwrap();
    assert!(since >= Some(before), "they are in no sums: {since:?}");
    store.forget_events().await.unwrap();
    assert_eq!(store.sums_since().await.unwrap(), since, "nothing came since");
}

/// What can't be read keeps nothing else from being forgotten.
pub(crate) async fn what_is_old_is_forgotten_though_a_refusal_can_not_be_read(bench: Bench) {
    let store = bench.open().await;
    let old = EventRecord {
        time: Timestamp::now() - SignedDuration::from_hours(24 * 40),
        ..event("old.test")
    };
    let broken = EventRecord {
        verdict: Verdict::Refuse,
        ..event("broken.test")
    };
    let items = [old, broken].map(Item::from);
    let long = store.clone().keeping(EventRetention {
        events: Duration::from_hours(24 * 60),
        rollups: Duration::from_hours(24 * 60),
    });
    ingest(&long, head(), (1..).zip(items).collect()).await;
    for sql in [
        "UPDATE events SET body = '{', refused_id = '' WHERE endpoint = 'broken.test'",
        "UPDATE event_marks SET value = 2 WHERE name = 'refused-unfilled'",
    ] {
        let done = sqlx::query(sql).execute(store.events_db().read());
        assert_eq!(done.await.unwrap().rows_affected(), 1, "{sql}");
    }
    let store = bench.open().await.keeping(EventRetention {
        events: Duration::from_hours(24 * 10),
        rollups: Duration::from_hours(24 * 30),
    });
    let forgotten = store.forget_events().await.unwrap();
    assert_eq!((forgotten.events, forgotten.rollups), (1, 1), "{forgotten:?}");
}

/// However many rows a gateway fills with the largest counts, what adds them up has an answer.
pub(crate) async fn sums_of_nonsense_are_added_up(bench: Bench) {
    const ROWS: i64 = 5_000;
    let store = bench.open().await;
    let huge = |event: EventRecord| EventRecord {
        count: u64::MAX,
        verdict: Verdict::Refuse,
        ..event
    };
    let stranger = EventRecord {
        job: None,
        ..event("a.test")
    };
    for place in 0..2 {
        let items = [huge(event("a.test")), huge(stranger.clone())].map(Item::from);
        let from = 2 * place + 1;
        let told = BatchHead {
            dropped: u64::MAX,
            ..head()
        };
        ingest(&store, told, (from..).zip(items).collect()).await;
    }
    let copies = "WITH RECURSIVE copies (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL \
        SELECT n + 1 FROM copies WHERE n < $1) SELECT ";
    for (into, rest) in [
        (
            "verdict_hours (owner, hour, verdict, verdicts)",
            "owner || n, hour, verdict, verdicts FROM verdict_hours, copies WHERE owner <> ''",
        ),
        (
            "workflow_days (repo, workflow, day, owner, cluster, permits, refusals, would_refuse, suffixes, last_at)",
            "repo, workflow, day - n, owner, cluster, permits, refusals, would_refuse, suffixes, last_at \
             FROM workflow_days, copies",
        ),
        (
            "stranger_days (day, gateway, network, source, endpoint, port, kind, verdict, reason, verdicts, first_at, \
             last_at)",
            "day, gateway, network, '', endpoint || n, port, kind, verdict, reason, verdicts, first_at, last_at \
             FROM stranger_days, copies",
        ),
        (
            "rollups (repo, workflow, day, endpoint, port, kind, verdict, reason, owner, cluster, verdicts, bytes_up, \
             bytes_down, first_at, last_at)",
            "repo, workflow || n, day, endpoint, port, kind, verdict, 'not-allowed', owner, cluster, verdicts, \
             bytes_up, bytes_down, first_at, last_at FROM rollups, copies WHERE owner <> ''",
        ),
        (
            "event_losses (day, gateway, lane, dropped)",
            "day - n, gateway, lane, dropped FROM event_losses, copies",
        ),
    ] {
        let sql = format!("INSERT INTO {into} {copies}{rest}");
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ROWS);
        let done = done.execute(store.events_db().read()).await.unwrap();
        assert_eq!(done.rows_affected(), ROWS.unsigned_abs(), "{into}");
    }
    let now = Timestamp::now();
    let most = 1_u64 << 40;
    let hours = store.verdict_hours(&[], now, 2).await.unwrap();
    let refused: u64 = hours.iter().map(|hour| hour.verdicts.refuse).sum();
    assert_eq!(refused, most * (ROWS.unsigned_abs() + 2));
    let sums = store.workflow_sums(0, 0).await.unwrap();
    assert_eq!(sums[0].refusals, most * (ROWS.unsigned_abs() + 1));
    let names = store.most_refused(&[], now, 5).await.unwrap();
    assert!(names.items[0].refuse > most * ROWS.unsigned_abs(), "{names:?}");
    let filter = UnidentifiedFilter {
        network: None,
        gateway: None,
        source: None,
        since: now,
    };
    let (page, beyond) = store
        .unidentified_sources(&filter, now, &PageRequest::default())
        .await
        .unwrap();
    assert_eq!(
        (page.items[0].refusals, beyond),
        (most, most * ROWS.unsigned_abs())
    );
}
