//! Forgetting what jobs reached, and where it is kept: lots on SQLite, a partition a day on PostgreSQL.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{Backend, EventFilter, EventRetention, Forgotten, Item, Store};
use tidegate_control_wire::batch::{BatchHead, ProcessReport};
use tidegate_control_wire::event::{EventRecord, Process};

use crate::bench::Bench;
use crate::ingest::{event, head, ingest, names, rollups};

const DAY: Duration = Duration::from_hours(24);

fn ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

fn at(seq: u64, days: i64) -> (u64, Item) {
    let time = ago(days);
    (
        seq,
        EventRecord {
            time,
            ..event(&format!("n{seq}.test"))
        }
        .into(),
    )
}

fn today() -> i64 {
    Timestamp::now().as_second().div_euclid(86_400)
}

/// Partitions of raw events, by their day, counted from today.
async fn days(store: &Store) -> Vec<i64> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(relname AS TEXT) FROM pg_catalog.pg_class WHERE relispartition AND relkind = 'r' \
         AND relname LIKE 'events_day_%' ORDER BY relname",
    )
    .fetch_all(store.events_db().read())
    .await
    .unwrap();
    let day = |name: &String| name.strip_prefix("events_day_").unwrap().parse::<i64>().unwrap() - today();
    names.iter().map(day).collect()
}

pub(crate) async fn what_is_old_is_forgotten_each_kind_in_its_time(bench: Bench) {
    let store = bench.open().await;
    let mut sent = vec![at(1, 40), at(2, 20), at(3, 5), at(4, 0)];
    for (seq, days) in [(5, 20), (6, 0)] {
        let report = ProcessReport {
            time: ago(days),
            job_id: format!("job_{seq}").into(),
            name: "a.test".into(),
            address: None,
            port: 0,
            process: Process::default(),
        };
        sent.push((seq, report.into()));
    }
    let long = store.clone().keeping(EventRetention {
        events: 60 * DAY,
        rollups: 60 * DAY,
    });
    assert_eq!(
        ingest(&long, BatchHead { dropped: 3, ..head() }, sent)
            .await
            .stored,
        6
    );
    assert_eq!(names(&store).await.len(), 4);

    let short = store.clone().keeping(EventRetention {
        events: 10 * DAY,
        rollups: 30 * DAY,
    });
    let forgotten = short.forget_events().await.unwrap();
    let expected = Forgotten {
        events: 2,
        reports: 1,
        rollups: 1,
        losses: 0,
        sources: 0,
        observed: 7,
        // Of its hour, of its workflow's day and of its policy's; its job went on.
        sums: 3,
    };
    assert_eq!(forgotten, expected);
    assert_eq!(names(&store).await, ["n3.test", "n4.test"]);
    assert_eq!(rollups(&store).await.len(), 3);
    assert_eq!(short.forget_events().await.unwrap(), Forgotten::default());
    // The numbers go on although what they counted is gone.
    let none = store.clone().keeping(EventRetention {
        events: Duration::ZERO,
        rollups: 30 * DAY,
    });
    none.forget_events().await.unwrap();
    assert_eq!(ingest(&store, head(), vec![at(6, 0), at(7, 0)]).await.stored, 7);
    let last: i64 = sqlx::query_scalar("SELECT MAX(seq) FROM events")
        .fetch_one(store.events_db().read())
        .await
        .unwrap();
    assert_eq!(last, 5, "a number is never given twice");
}

/// Days that heads of events are of, counted from today.
async fn head_days(store: &Store) -> Vec<i64> {
    let days: Vec<i64> = sqlx::query_scalar("SELECT day FROM event_subjects ORDER BY day, number")
        .fetch_all(store.events_db().read())
        .await
        .unwrap();
    days.iter().map(|day| day - today()).collect()
}

pub(crate) async fn what_events_have_in_common_is_stored_once_a_day_and_goes_after_the_last_of_them(
    bench: Bench,
) {
    let keeping = |store: &Store, days: u32| {
        store.clone().keeping(EventRetention {
            events: days * DAY,
            rollups: 90 * DAY,
        })
    };
    let store = keeping(&bench.open().await, 60);
    let sent = [(1, 40), (2, 5), (3, 5), (4, 0), (5, 0)].map(|(seq, days)| at(seq, days));
    ingest(&store, head(), sent.into()).await;
    assert_eq!(head_days(&store).await, [-40, -5, 0]);
    ingest(&store, head(), vec![at(6, 0)]).await;
    assert_eq!(head_days(&store).await, [-40, -5, 0], "today's is known");
    // Another control plane may have forgotten that of an old day meanwhile.
    ingest(&store, head(), vec![at(7, 5)]).await;
    assert_eq!(head_days(&store).await, [-40, -5, -5, 0]);
    keeping(&store, 10).forget_events().await.unwrap();
    assert_eq!(head_days(&store).await, [-5, -5, 0]);
    keeping(&store, 0).forget_events().await.unwrap();
    // Numbers are counted on from the last one; today's is known by name.
    assert_eq!(head_days(&store).await, [-5, 0]);
    ingest(&store, head(), vec![at(8, 0), at(9, 5)]).await;
    assert_eq!(head_days(&store).await, [-5, -5, 0]);
    let read = store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap();
    let read = |name: &str| {
        let stored = read.items.iter().find(|one| one.event.endpoint() == name);
        stored.expect(name).event.clone()
    };
    for name in ["n8.test", "n9.test"] {
        let expected = event(name);
        assert_eq!(
            (read(name).job, read(name).network),
            (expected.job, expected.network)
        );
    }
}

pub(crate) async fn a_spool_that_was_silent_for_long_is_forgotten_with_its_losses(bench: Bench) {
    let store = bench.open().await;
    ingest(&store, BatchHead { dropped: 3, ..head() }, vec![at(1, 0)]).await;
    ingest(
        &store,
        BatchHead {
            spool: "s2".into(),
            ..head()
        },
        vec![at(1, 0)],
    )
    .await;
    let long_ago = ago(500).as_microsecond();
    for sql in [
        "UPDATE event_sources SET last_at = $1 WHERE spool = 's1'",
        "UPDATE event_losses SET day = $1 / 86400000000",
    ] {
        sqlx::query(sql)
            .bind(long_ago)
            .execute(store.events_db().read())
            .await
            .unwrap();
    }
    let forgotten = store.forget_events().await.unwrap();
    assert_eq!((forgotten.sources, forgotten.losses), (1, 1));
    assert_eq!(ingest(&store, head(), Vec::new()).await.stored, 0);
    let other = BatchHead {
        spool: "s2".into(),
        ..head()
    };
    assert_eq!(ingest(&store, other, Vec::new()).await.stored, 1);
}

pub(crate) async fn many_old_events_go_in_lots(bench: Bench) {
    let store = bench.open().await;
    for from in [1, 5_001] {
        ingest(
            &store,
            head(),
            (from..from + 5_000).map(|seq| at(seq, 20)).collect(),
        )
        .await;
    }
    let short = store.clone().keeping(EventRetention {
        events: 10 * DAY,
        ..EventRetention::default()
    });
    let forgotten = short.forget_events().await.unwrap().events;
    let (rows, partitions) = (10_000, 1);
    let expected = if store.events_db().backend() == Backend::Sqlite {
        rows
    } else {
        partitions
    };
    assert_eq!(forgotten, expected);
    assert_eq!(names(&store).await.len(), 0);
}

/// A partition is there before its events, today's and tomorrow's are made ahead, old ones are dropped whole.
pub(crate) async fn a_day_is_a_partition_of_its_own(bench: Bench) {
    let store = bench.open().await;
    if store.events_db().backend() == Backend::Sqlite {
        // One table; forgetting leaves it as it is.
        store.forget_events().await.unwrap();
        ingest(&store, head(), vec![at(1, 0)]).await;
        assert_eq!(names(&store).await, ["n1.test"]);
        return;
    }
    assert_eq!(days(&store).await, Vec::<i64>::new());
    ingest(&store, head(), vec![at(1, 3), at(2, 12), at(3, 3)]).await;
    assert_eq!(days(&store).await, [-12, -3]);
    store.forget_events().await.unwrap();
    assert_eq!(days(&store).await, [-12, -3, 0, 1]);
    let short = store.clone().keeping(EventRetention {
        events: 10 * DAY,
        ..EventRetention::default()
    });
    assert_eq!(short.forget_events().await.unwrap().events, 1);
    assert_eq!(days(&store).await, [-3, 0, 1]);
    // A late event of the dropped day only counts; that day does not come back.
    ingest(&short, head(), vec![at(4, 12)]).await;
    assert_eq!(days(&store).await, [-3, 0, 1]);
    assert_eq!(names(&store).await.len(), 2);
    // Two that need a day at once: one makes it.
    let two = bench.open().await;
    let other = BatchHead {
        spool: "s2".into(),
        ..head()
    };
    tokio::join!(
        ingest(&store, head(), vec![at(5, 7)]),
        ingest(&two, other, vec![at(1, 7)]),
    );
    assert_eq!(days(&store).await, [-7, -3, 0, 1]);
}

/// What the API and the upkeep ask is answered by an index, on a partition as on the whole.
pub(crate) async fn questions_by_job_repository_time_and_number_use_an_index(bench: Bench) {
    let store = bench.open().await;
    ingest(&store, head(), vec![at(1, 0)]).await;
    let explain = match store.events_db().backend() {
        Backend::Sqlite => "EXPLAIN QUERY PLAN ",
        Backend::Postgres => "EXPLAIN ",
    };
    let from = today() * 86_400_000_000;
    for condition in [
        format!("job = 1 AND at > {from} ORDER BY at"),
        format!("repo = 1 AND at BETWEEN {from} AND {} ORDER BY at", from + 7),
        format!("at > {from} ORDER BY at"),
        "seq > 5 ORDER BY seq".to_owned(),
    ] {
        let mut connection = store.events_db().read().acquire().await.unwrap();
        if store.events_db().backend() == Backend::Postgres {
            // A table of one row is read whole unless that is forbidden.
            let forbid = sqlx::query("SET enable_seqscan = off");
            forbid.execute(&mut *connection).await.unwrap();
        }
        let sql = format!("{explain} SELECT body FROM events WHERE {condition} LIMIT 10");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let column = if store.events_db().backend() == Backend::Postgres {
            0
        } else {
            3
        };
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, column)).collect();
        let plan = plan.join("\n");
        let by_index = plan.contains("Index") || plan.contains("USING INDEX") || plan.contains("PRIMARY KEY");
        let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
        assert!(by_index && !sorts, "{condition}: {plan}");
        connection.detach();
    }
}

/// An acknowledged batch survives a power cut: both databases sync before they say that a commit is done.
pub(crate) async fn a_commit_of_events_is_synced(bench: Bench) {
    let store = bench.open().await;
    let questions: &[(&str, &str)] = match store.events_db().backend() {
        Backend::Sqlite => &[
            ("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous", "2"),
            ("SELECT journal_mode FROM pragma_journal_mode", "wal"),
            ("SELECT CAST(page_size AS TEXT) FROM pragma_page_size", "8192"),
        ],
        Backend::Postgres => &[("SELECT current_setting('synchronous_commit')", "on")],
    };
    for (question, expected) in questions.iter().copied() {
        let said = store.events_db().write(move |tx| {
            Box::pin(async move {
                let said: String = sqlx::query_scalar(question).fetch_one(tx.connection()).await?;
                Ok(said)
            })
        });
        assert_eq!(said.await.unwrap(), expected, "{question}");
    }
}
