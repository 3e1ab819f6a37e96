//! PostgreSQL that is restarted and killed under load: what was acknowledged is there, the history holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::future::join_all;
use tidegate_control::model::{Apply, PageRequest};
use tidegate_control::store::{Expected, Store, StoreError};
use tidegate_lab::PostgresServer;

use crate::bench::within;
use crate::fixture::actor;

const WRITERS: u32 = 8;

/// Writes versions of one policy until it is told to stop; the newest that was acknowledged.
async fn write(store: Store, name: String, stop: Arc<AtomicBool>, done: Arc<AtomicU32>) -> u32 {
    let mut acknowledged = 1;
    while !stop.load(Ordering::Relaxed) {
        let yaml = format!("# {acknowledged}\negress-policy: audit\n");
        match store
            .update_policy("acme", &name, Expected::Any, &yaml, Apply::Now, &actor())
            .await
        {
            Ok(policy) => {
                assert!(
                    policy.version > acknowledged,
                    "{} after {acknowledged}",
                    policy.version
                );
                acknowledged = policy.version;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(StoreError::Unavailable(_)) => {}
            Err(other) => panic!("{}", other.chain()),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_change_is_lost_by_restarts_and_kills_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = PostgresServer::start(directory.path()).unwrap();
    let store = Store::open(&server.url()).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut writers = Vec::new();
    for at in 0..WRITERS {
        let name = format!("p{at}");
        store
            .create_policy("acme", &name, "egress-policy: audit\n", &actor())
            .await
            .unwrap();
        writers.push(tokio::spawn(write(
            store.clone(),
            name,
            stop.clone(),
            done.clone(),
        )));
    }
    for round in 0..6 {
        let before = done.load(Ordering::Relaxed);
        within("writers to get on", async || {
            let now = done.load(Ordering::Relaxed);
            if now > before + 3 * WRITERS {
                Ok(())
            } else {
                Err(now - before)
            }
        })
        .await;
        tokio::task::block_in_place(|| {
            if round % 2 == 0 {
                server.kill().unwrap();
            }
            server.restart().unwrap();
        });
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<u32> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    let mut entries = u64::from(WRITERS);
    for (at, acknowledged) in acknowledged.into_iter().enumerate() {
        let policy = store.policy("acme", &format!("p{at}")).await.unwrap();
        // One more may have been committed when the answer was lost.
        assert!(
            policy.version >= acknowledged,
            "{} < {acknowledged}",
            policy.version
        );
        entries += u64::from(policy.version) - 1;
        let page = PageRequest {
            after: None,
            limit: 1,
        };
        let newest = store.versions("acme", &policy.name, &page).await.unwrap();
        assert_eq!(newest.items[0].version, policy.version, "no half-written policy");
    }
    let head = store.verify_audit(None).await.unwrap().unwrap();
    assert_eq!(head.seq, entries, "every version has its entry");
}
