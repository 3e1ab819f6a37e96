//! The database below the store: the line of writers, migrations, what is there after an end without a goodbye.

use tidegate_control::store::{ChangeKind, StoreError};

use crate::bench::Bench;

pub(crate) async fn a_change_is_answered_after_its_commit_and_numbered(bench: Bench) {
    let store = bench.open().await;
    let mut newest = store.db().newest();
    assert_eq!(newest.borrow().0, 0);
    let one = store
        .db()
        .write(|tx| Box::pin(async move { tx.change(ChangeKind::Policy, "pol_1").await }))
        .await
        .unwrap();
    let known = newest.wait_for(|known| *known >= one).await.unwrap();
    assert_eq!(*known, one);
}

pub(crate) async fn many_writers_are_committed_together_and_one_that_fails_harms_no_other(bench: Bench) {
    let store = bench.open().await;
    let mut writers = Vec::new();
    for at in 0..400_u32 {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            store
                .db()
                .write(move |tx| {
                    Box::pin(async move {
                        tx.change(ChangeKind::Policy, &format!("pol_{at}")).await?;
                        if at % 10 == 3 {
                            return Err(StoreError::NotFound { what: at.to_string() });
                        }
                        if at % 10 == 7 {
                            // The database itself refuses this one.
                            let wrong = sqlx::query("INSERT INTO meta (key, value) VALUES ('k', NULL)");
                            wrong.execute(tx.connection()).await?;
                        }
                        Ok(())
                    })
                })
                .await
        }));
    }
    let mut failed = 0;
    for writer in writers {
        failed += u32::from(writer.await.unwrap().is_err());
    }
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM changes")
        .fetch_one(store.db().read())
        .await
        .unwrap();
    assert_eq!((failed, count), (80, 320));
}
