//! Shows that no question walks through the whole record: by which index SQLite answers, and where a request stops.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use super::*;

/// Rows of the long record: more than one request looks at.
const ROWS: i64 = WINDOW * WINDOWS + 50_000;

/// A record of an event every second, of 100 jobs in 10 repositories, of which only the oldest was refused.
async fn long_record() -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("control.db").display());
    let store = Store::open(&url).await.unwrap();
    let insert = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
         INSERT INTO events (at, subject, job, repo, endpoint, body) \
         SELECT i * 1000000, 1 + i % 100, 0, 0, 'h' || (i % 1000) || '.test', \
         replace(replace($2, '%I', i), '%V', CASE WHEN i = 1 THEN 'refuse\",\"reason\":\"not-allowed' ELSE 'permit' END) FROM n";
    let heads = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) \
         INSERT INTO event_subjects (number, day, gateway, owner, repo, workflow, job_id, run_id, head) \
         SELECT 1 + i, 0, 'gw-1', 'acme', 'acme/r' || (i % 10), 'ci.yml', 'job_' || i, 'r' || i, $1 FROM n";
    let keys = "UPDATE events SET job = $1, repo = $2 WHERE subject = $3";
    let head = "{\"schema\":1,\"gateway\":\"gw-1\",\"source\":\"10.77.1.2\",\"mode\":\"block\"}";
    let body = "{\"time\":\"2026-05-01T12:00:00.000Z\",\"id\":\"i%I\",\"kind\":\"tls\",\"verdict\":\"%V\"}";
    store
        .events
        .write(move |tx| {
            Box::pin(async move {
                let record = sqlx::query(insert).bind(ROWS).bind(body);
                record.execute(tx.connection()).await?;
                sqlx::query(heads).bind(head).execute(tx.connection()).await?;
                for i in 0..100_i64 {
                    sqlx::query(keys)
                        .bind(key(&format!("job_{i}")))
                        .bind(key(&format!("acme/r{}", i % 10)))
                        .bind(1 + i)
                        .execute(tx.connection())
                        .await?;
                }
                tx.entered(Generation(ROWS.unsigned_abs()));
                Ok(())
            })
        })
        .await
        .unwrap();
    (store, folder)
}

/// What only the oldest has, and no index knows.
fn rare() -> EventFilter {
    EventFilter {
        reason: Some("not-allowed".into()),
        ..EventFilter::default()
    }
}

fn refused() -> EventFilter {
    EventFilter {
        verdicts: vec![Verdict::Refuse],
        ..EventFilter::default()
    }
}

/// How many windows this is at least.
fn windows(rows: i64) -> usize {
    usize::try_from(rows / WINDOW).unwrap()
}

#[tokio::test]
async fn a_request_for_what_is_hardly_there_stops_and_says_where_to_go_on() {
    let (store, _folder) = long_record().await;
    let mut request = PageRequest::default();
    let first = store.events(&rare(), &request).await.unwrap();
    assert_eq!(first.items, [], "the newest {} rows have none", WINDOW * WINDOWS);
    request.after = Some(first.next.expect("there is more"));
    // A slow machine may stop sooner, but never without a step.
    for _ in 0..windows(ROWS) {
        let page = store.events(&rare(), &request).await.unwrap();
        if page.next.is_none() {
            assert_eq!(page.items.iter().map(|one| one.seq).collect::<Vec<_>>(), [1]);
            return;
        }
        assert_eq!(page.items, []);
        request.after = page.next;
    }
    panic!("it goes on at {:?}", request.after);
}

#[tokio::test]
async fn the_same_holds_upwards_and_in_the_order_of_storing() {
    let (store, _folder) = long_record().await;
    let mut run = store.events_onwards(&rare(), None, 10).await.unwrap();
    assert_eq!(run.items.iter().map(|one| one.seq).collect::<Vec<_>>(), [1]);
    assert!(run.next.is_some(), "what lies behind was not looked at yet");
    for _ in 0..windows(ROWS) {
        let Some(next) = run.next else { break };
        run = store.events_onwards(&rare(), Some(next), 10).await.unwrap();
        assert_eq!(run.items, []);
    }
    assert_eq!(run.next, None);
    let mut tail = store.events_after(&rare(), 1, 10).await.unwrap();
    assert!(
        tail.more && tail.upto <= 1 + (WINDOW * WINDOWS).unsigned_abs(),
        "{tail:?}"
    );
    for _ in 0..windows(ROWS) {
        assert_eq!(tail.items, []);
        if !tail.more {
            break;
        }
        tail = store.events_after(&rare(), tail.upto, 10).await.unwrap();
    }
    assert_eq!((tail.upto, tail.more), (ROWS.unsigned_abs(), false));
}

/// An older program stored them without their ids: they are filled in beside everything else, and found as before
/// meanwhile.
#[tokio::test]
async fn the_one_refusal_of_a_long_record_is_found_at_once_when_refusals_are_indexed() {
    let (store, _folder) = long_record().await;
    let mark = "UPDATE event_marks SET value = $1 WHERE name = 'refused-unfilled'";
    let marked = store.events.write(move |tx| {
        Box::pin(async move { Ok(sqlx::query(mark).bind(ROWS).execute(tx.connection()).await?) })
    });
    marked.await.unwrap();
    let request = PageRequest::default();
    let page = store.events(&refused(), &request).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_some(), "{page:?}");
    store.index_refusals().await.unwrap();
    let by_id = EventFilter {
        id: Some("I1".into()),
        ..EventFilter::default()
    };
    for filter in [refused(), by_id] {
        let page = store.events(&filter, &request).await.unwrap();
        assert_eq!(page.items.iter().map(|one| one.seq).collect::<Vec<_>>(), [1]);
        assert_eq!(page.next, None);
    }
}

#[tokio::test]
async fn what_was_forgotten_is_no_way_to_walk() {
    let (store, _folder) = long_record().await;
    let delete = "DELETE FROM events WHERE seq < $1";
    store
        .events
        .write(move |tx| {
            Box::pin(async move {
                sqlx::query(delete).bind(ROWS).execute(tx.connection()).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    let tail = store.events_after(&EventFilter::default(), 0, 10).await.unwrap();
    assert_eq!(
        tail.items.iter().map(|one| one.seq).collect::<Vec<_>>(),
        [ROWS.unsigned_abs()]
    );
    assert!(!tail.more);
}

/// How SQLite would answer.
async fn plan(store: &Store, sql: &Sql) -> String {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.shown())))
        .fetch_all(store.events.read())
        .await
        .unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    lines.join("; ")
}

#[tokio::test]
async fn every_question_is_answered_by_its_index_without_sorting() {
    let (store, _folder) = long_record().await;
    let job = || EventFilter {
        job: Some("job_7".into()),
        repo: Some("acme/r7".into()),
        since: Some(Timestamp::UNIX_EPOCH),
        upto: Some(100),
        ..EventFilter::default()
    };
    let repo = || EventFilter {
        job: None,
        kind: Some(Kind::Dns),
        until: Some(Timestamp::MAX),
        ..job()
    };
    let all = || EventFilter {
        owners: vec!["acme".into()],
        owner: Some("acme".into()),
        workflow: Some("ci.yml".into()),
        job_name: Some("build".into()),
        run: Some("r1".into()),
        name: Some(NamePattern::Below("test".into())),
        reason: Some("not-allowed".into()),
        gateway: Some("gw-1".into()),
        id: Some("i1".into()),
        network: Some("runners".into()),
        source: Some("10.77.1.2".parse().unwrap()),
        policy: Some("base".into()),
        scope: Some("org:acme".into()),
        unidentified: Some(false),
        ..rare()
    };
    let strange = || EventFilter {
        unidentified: Some(true),
        ..refused()
    };
    let refused_of = || EventFilter {
        repo: Some("acme/r7".into()),
        ..refused()
    };
    let all_refused = || EventFilter {
        verdicts: vec![Verdict::WouldRefuse, Verdict::Refuse],
        ..EventFilter::default()
    };
    for (filter, index) in [
        (job(), "INDEX events_by_job "),
        (strange(), "INDEX events_by_job "),
        (repo(), "INDEX events_by_repo "),
        (all(), "INDEX events_by_time "),
        (EventFilter::default(), "INDEX events_by_time "),
        (refused(), "INDEX events_refused "),
        (all_refused(), "INDEX events_refused "),
        (refused_of(), "INDEX events_refused_of_repo "),
    ] {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for from in [
                None,
                Some(Place {
                    at: 5_000_000,
                    seq: 5,
                }),
            ] {
                let mut question = Question::new(&filter, order, true).unwrap();
                question.behind(from);
                let edge = question.edge(WINDOW);
                let told = filter == EventFilter::default() || filter == all_refused();
                assert_eq!(edge.is_none(), told, "{filter:?}");
                let rows = question.rows(edge.is_some().then_some(Place { at: 9, seq: 9 }), 10);
                for sql in edge.iter().chain([&rows]) {
                    let plan = plan(&store, sql).await;
                    assert!(
                        plan.starts_with("SEARCH events USING") && plan.contains(index),
                        "{filter:?} {order:?}: {plan}"
                    );
                    assert!(!plan.contains("TEMP B-TREE"), "{filter:?} {order:?}: {plan}");
                }
            }
        }
        let by_number = query::between(&filter, (1, 100), 10).unwrap();
        let plan = plan(&store, &by_number).await;
        assert!(
            plan.contains("USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
            "{plan}"
        );
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[tokio::test]
async fn a_refusal_is_found_by_its_id_alone() {
    let (store, _folder) = long_record().await;
    let filter = EventFilter {
        id: Some("i1".into()),
        job: Some("job_1".into()),
        repo: Some("acme/r1".into()),
        ..refused()
    };
    let question = Question::of_refusal(&filter, "i1", Order::NewestFirst).unwrap();
    for sql in question.edge(WINDOW).iter().chain([&question.rows(None, 10)]) {
        let plan = plan(&store, sql).await;
        assert!(plan.contains("INDEX events_refused_by_id "), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[test]
fn a_window_is_as_narrow_as_what_is_known_of_it() {
    let time = |second: i64| Some(Timestamp::from_second(second).unwrap());
    let place = |second: i64| {
        Some(Place {
            at: second * 1_000_000,
            seq: 1,
        })
    };
    let filter = EventFilter {
        since: time(10),
        until: time(20),
        ..rare()
    };
    for (order, from, edge, first, last) in [
        (Order::NewestFirst, None, None, 10_000_000, 19_999_999),
        (Order::NewestFirst, place(15), place(12), 12_000_000, 15_000_000),
        (Order::NewestFirst, place(30), place(5), 10_000_000, 19_999_999),
        (Order::OldestFirst, place(12), place(15), 12_000_000, 15_000_000),
        (Order::OldestFirst, None, place(15), 10_000_000, 15_000_000),
    ] {
        let mut question = Question::new(&filter, order, true).unwrap();
        question.behind(from);
        assert_eq!(question.times(edge), (first, last), "{order:?}");
    }
    let all = EventFilter::default();
    let always = Question::new(&all, Order::NewestFirst, true).unwrap().times(None);
    assert_eq!(always, (i64::MIN, i64::MAX));
}
