//! The database below the store: the line of writers, migrations, several control planes, what is there after an end
//! without a goodbye.

use std::time::Duration;

use futures_util::future::join_all;
use tidegate_control::store::{Backend, ChangeKind, Db, Store, StoreError};
use tidegate_policy::effective::Generation;

use crate::bench::{Bench, within};

async fn change(store: &Store, key: String) -> Result<Generation, StoreError> {
    let work = store
        .db()
        .write(move |tx| Box::pin(async move { tx.change(ChangeKind::Policy, &key).await }));
    work.await
}

async fn generations(store: &Store) -> Vec<i64> {
    sqlx::query_scalar("SELECT generation FROM changes ORDER BY generation")
        .fetch_all(store.db().read())
        .await
        .unwrap()
}

pub(crate) async fn a_change_is_answered_after_its_commit_and_numbered(bench: Bench) {
    let store = bench.open().await;
    let mut newest = store.db().newest();
    assert_eq!(newest.borrow().0, 0);
    let one = change(&store, "pol_1".into()).await.unwrap();
    assert_eq!(generations(&store).await, [one.0.cast_signed()]);
    let known = newest.wait_for(|known| *known >= one).await.unwrap();
    assert_eq!(*known, one);
}

pub(crate) async fn many_writers_are_committed_together_and_one_that_fails_harms_no_other(bench: Bench) {
    let store = bench.open().await;
    let writers = (0..400_u32).map(|at| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .db()
                .write(move |tx| {
                    Box::pin(async move {
                        tx.change(ChangeKind::Policy, &format!("pol_{at}")).await?;
                        match at % 10 {
                            3 => return Err(StoreError::NotFound { what: at.to_string() }),
                            // The database itself refuses this one.
                            5 => {
                                let wrong = sqlx::query("INSERT INTO meta (key, value) VALUES ('k', NULL)");
                                wrong.execute(tx.connection()).await?;
                            }
                            7 => panic!("a fault of one operation"),
                            _ => {}
                        }
                        Ok(())
                    })
                })
                .await
        })
    });
    let mut outcomes = [0; 5];
    for writer in join_all(writers).await {
        let outcome = match writer.unwrap() {
            Ok(()) => 0,
            Err(StoreError::NotFound { .. }) => 1,
            Err(StoreError::Refused(_)) => 2,
            Err(StoreError::Closed) => 3,
            Err(_) => 4,
        };
        outcomes[outcome] += 1;
    }
    assert_eq!(outcomes, [280, 40, 40, 40, 0]);
    assert_eq!(generations(&store).await.len(), 280);
}

pub(crate) async fn more_writers_than_the_line_holds_are_told_to_come_back(bench: Bench) {
    let store = bench.open().await;
    let (go, started) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let (go, started) = (std::sync::Arc::new(go), std::sync::Arc::new(started));
    let (waits, tells) = (go.clone(), started.clone());
    let first = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .db()
                .write(move |_| {
                    Box::pin(async move {
                        tells.notify_one();
                        waits.notified().await;
                        Ok(())
                    })
                })
                .await
        }
    });
    started.notified().await;
    let others: Vec<_> = (0..5_000)
        .map(|at| Box::pin(change(&store, at.to_string())))
        .collect();
    let mut others = join_all(others);
    // Polled once, every one of them stands in line or was refused.
    assert!(futures_util::poll!(&mut others).is_pending());
    go.notify_one();
    let outcomes = others.await;
    let busy = outcomes
        .iter()
        .filter(|one| matches!(one, Err(StoreError::Busy)))
        .count();
    let done = outcomes.iter().filter(|one| one.is_ok()).count();
    assert_eq!((done, busy), (4_096, 5_000 - 4_096));
    first.await.unwrap().unwrap();
}

pub(crate) async fn tables_are_brought_up_to_date_once_by_whoever_comes_first(bench: Bench) {
    let stores = join_all((0..4).map(|_| Store::open(bench.url()))).await;
    for store in stores {
        change(&store.unwrap(), "pol_1".into()).await.unwrap();
    }
    let again = bench.open().await;
    assert_eq!(generations(&again).await.len(), 4);
}

/// What is set on the connection that writes.
async fn set_for_writing(db: &Db, name: &'static str) -> String {
    let said = db.write(move |tx| {
        Box::pin(async move {
            let sql = "SELECT current_setting($1)";
            let said = sqlx::query_scalar(sql).bind(name).fetch_one(tx.connection());
            Ok(said.await?)
        })
    });
    said.await.unwrap()
}

/// An index of a large table takes longer than any statement later may.
pub(crate) async fn a_migration_may_take_as_long_as_it_needs(bench: Bench) {
    if !bench.url().starts_with("postgres") {
        // SQLite ends no statement for the time it takes; what waits for another process is looked at again.
        let store = bench.open().await;
        assert_eq!(store.db().backend(), Backend::Sqlite);
        return;
    }
    sqlx::any::install_default_drivers();
    let watcher = sqlx::AnyPool::connect(bench.url()).await.unwrap();
    for sql in [
        "CREATE TABLE watched (tag TEXT, limits TEXT)",
        "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO watched \
         VALUES (tg_tag, current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')); END $$",
        "CREATE EVENT TRIGGER watching ON ddl_command_start EXECUTE FUNCTION watch()",
    ] {
        sqlx::query(sql).execute(&watcher).await.unwrap();
    }
    let store = bench.open().await;
    let seen: Vec<(String, String)> = sqlx::query_as("SELECT tag, limits FROM watched")
        .fetch_all(&watcher)
        .await
        .unwrap();
    for made in ["CREATE TABLE", "CREATE INDEX", "ALTER TABLE"] {
        assert!(seen.iter().any(|(tag, _)| tag == made), "{made}: {seen:?}");
    }
    let hurried: Vec<_> = seen.iter().filter(|(_, limits)| limits != "0 0").collect();
    assert!(hurried.is_empty(), "{hurried:?}");
    for db in [store.db(), store.events_db()] {
        assert_eq!(set_for_writing(db, "statement_timeout").await, "30s");
        assert_eq!(set_for_writing(db, "lock_timeout").await, "10s");
    }
}

pub(crate) async fn two_control_planes_see_each_others_changes_in_order(bench: Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    let writers = [&one, &two].map(|store| {
        let store = store.clone();
        tokio::spawn(async move {
            for at in 0..100 {
                change(&store, format!("pol_{at}")).await.unwrap();
            }
        })
    });
    // Whatever is seen at any moment, nothing with a smaller number comes later.
    let mut seen = Vec::new();
    within("both to have written", async || {
        let now = generations(&two).await;
        assert_eq!(&now[..seen.len()], seen.as_slice());
        seen = now;
        Err::<(), _>(seen.len()).or(if seen.len() == 200 {
            Ok(())
        } else {
            Err(seen.len())
        })
    })
    .await;
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    for store in [&one, &two] {
        let last = *seen.last().unwrap();
        let mut newest = store.db().newest();
        let told = newest.wait_for(|known| known.0.cast_signed() >= last);
        let told = tokio::time::timeout(Duration::from_secs(10), told).await;
        told.expect("it is told of what the other one wrote").unwrap();
    }
}

pub(crate) async fn what_was_acknowledged_is_there_after_an_end_without_a_goodbye(bench: Bench) {
    let mut acknowledged = 0;
    for _ in 0..5 {
        let store = bench.open().await;
        let done = join_all((0..20).map(|at| change(&store, at.to_string()))).await;
        acknowledged += done.into_iter().flatten().count();
        // One more is on its way when everything is dropped.
        let mut unfinished = Box::pin(change(&store, "unfinished".into()));
        assert!(futures_util::poll!(&mut unfinished).is_pending());
    }
    let store = bench.open().await;
    let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM changes WHERE key <> 'unfinished'")
        .fetch_one(store.db().read())
        .await
        .unwrap();
    assert_eq!((acknowledged, found), (100, 100));
}

pub(crate) async fn a_url_says_what_it_is_and_hides_its_password(bench: Bench) {
    let store = bench.open().await;
    let place = store.db().place();
    assert!(
        place.starts_with(bench.url().split(':').next().unwrap()),
        "{place}"
    );
    assert!(!place.contains('@'), "{place}");
    for wrong in ["mysql://localhost/x", "control.db", ""] {
        let error = Store::open(wrong).await.unwrap_err();
        assert!(matches!(error, StoreError::Url(_)), "{error}");
    }
}
