//! Versions: immutable, diffed in the history, brought back by a rollback, in force at once or for the next job.

use sqlx::Row;
use tidegate_control::model::{Apply, PageRequest};
use tidegate_control::store::{Expected, Store, StoreError};

use crate::bench::Bench;
use crate::fixture::actor;
use crate::policies::{AUDIT, BLOCK, made};

async fn update(store: &Store, yaml: &str, apply: Apply) -> u32 {
    let updated = store
        .update_policy("acme", "base", Expected::Any, yaml, apply, &actor())
        .await;
    updated.unwrap().version
}

pub(crate) async fn every_version_stays_as_it_was_written(bench: Bench) {
    let store = bench.open().await;
    made(&store, "base", BLOCK).await;
    for at in 2..=12 {
        assert_eq!(update(&store, &format!("# {at}\n{AUDIT}"), Apply::Now).await, at);
    }
    let mut page = PageRequest {
        after: None,
        limit: 5,
    };
    let mut seen = Vec::new();
    loop {
        let part = store.versions("acme", "base", &page).await.unwrap();
        seen.extend(part.items);
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    let numbers: Vec<u32> = seen.iter().map(|version| version.version).collect();
    assert_eq!(numbers, (1..=12).rev().collect::<Vec<_>>());
    assert_eq!(seen[11].yaml, BLOCK);
    let fifth = store.version("acme", "base", 5).await.unwrap();
    assert_eq!(fifth, seen[7]);
    assert_eq!(
        (fifth.yaml.as_str(), fifth.created_by.as_str()),
        ("# 5\negress-policy: audit\r\n", "ada")
    );
    for missing in [0, 13, u32::MAX] {
        let error = store.version("acme", "base", missing).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }
    let wrong = PageRequest {
        after: Some("x".into()),
        limit: 0,
    };
    assert!(matches!(
        store.versions("acme", "base", &wrong).await,
        Err(StoreError::Invalid { .. })
    ));
    let id = store.policy("acme", "base").await.unwrap().id;
    store.delete_policy("acme", "base", None, &actor()).await.unwrap();
    assert!(
        store
            .versions("acme", "base", &PageRequest::default())
            .await
            .is_err()
    );
    let all = store.versions_of(&id, &PageRequest::default()).await.unwrap();
    assert_eq!(all.items, seen, "they outlive the policy");
    assert_eq!(store.version_of(&id, 5).await.unwrap(), Some(fifth));
    assert_eq!(store.version_of(&id, 13).await.unwrap(), None);
}

pub(crate) async fn the_history_of_an_update_shows_what_changed(bench: Bench) {
    let store = bench.open().await;
    let policy = made(&store, "base", BLOCK).await;
    update(&store, &BLOCK.replace("GitHub.com", "gitlab.com"), Apply::NextJob).await;
    let history = store.history(&policy.id, &PageRequest::default()).await.unwrap();
    let entry = &history.items[0];
    assert_eq!(
        (entry.action.as_str(), entry.target.as_str()),
        ("policy.updated", "policy acme/base")
    );
    assert_eq!(
        (&entry.detail["from"], &entry.detail["to"]),
        (&1.into(), &2.into())
    );
    assert_eq!(entry.detail["apply"], "next-job");
    let unified = entry.detail["diff"]["unified"].as_str().unwrap();
    assert_eq!(
        unified,
        "@@ -1,4 +1,4 @@\n # who reads this?\n egress-policy:   block\n allowed-endpoints: >\n-  GitHub.com:443\n\
         +  gitlab.com:443\n"
    );
    let rows = entry.detail["diff"]["side_by_side"].as_array().unwrap();
    assert_eq!(rows[3]["kind"], "changed");
    assert_eq!(
        (&rows[3]["old"]["number"], &rows[3]["new"]["text"]),
        (&4.into(), &"  gitlab.com:443".into())
    );
}

pub(crate) async fn a_rollback_is_a_new_version_with_the_old_text(bench: Bench) {
    let store = bench.open().await;
    let policy = made(&store, "base", BLOCK).await;
    update(&store, AUDIT, Apply::Now).await;
    let rollback =
        |expected, to| store.rollback_policy("acme", "base", expected, to, Apply::Now, &crate::policies::ADA);
    let stale = rollback(Expected::Version(1), 1).await.unwrap_err();
    assert!(matches!(stale, StoreError::Stale { current: 2, .. }), "{stale}");
    let back = rollback(Expected::Version(2), 1).await.unwrap();
    assert_eq!((back.version, back.yaml.as_str()), (3, BLOCK));
    let missing = rollback(Expected::Any, 9).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no version 9 of policy acme/base");
    let history = store.history(&policy.id, &PageRequest::default()).await.unwrap();
    assert_eq!(history.items[0].detail["rollback_to"], 1);
    // A set that the old text used may be gone by now.
    store
        .put_set("acme", "corp", None, "- a.test:443\n", &actor())
        .await
        .unwrap();
    update(&store, "use: [corp]\n", Apply::Now).await;
    update(&store, AUDIT, Apply::Now).await;
    store.delete_set("acme", "corp", None, &actor()).await.unwrap();
    let error = rollback(Expected::Any, 4).await.unwrap_err();
    assert!(matches!(error, StoreError::Document(_)), "{error}");
}

pub(crate) async fn a_version_says_from_which_change_on_it_governs(bench: Bench) {
    let store = bench.open().await;
    let policy = made(&store, "base", BLOCK).await;
    made(&store, "other", BLOCK).await;
    update(&store, AUDIT, Apply::NextJob).await;
    update(&store, BLOCK, Apply::Now).await;
    let rows = sqlx::query(
        "SELECT v.version, v.apply, c.kind, c.key FROM policy_versions v JOIN changes c ON c.generation = v.since \
         WHERE v.policy_id = $1 ORDER BY v.since",
    )
    .bind(&policy.id)
    .fetch_all(store.db().read())
    .await
    .unwrap();
    let found: Vec<(i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let wanted = [(1, "now"), (2, "next-job"), (3, "now")].map(|(at, apply)| (at, apply.to_owned()));
    assert_eq!(found, wanted);
    for row in &rows {
        assert_eq!(
            (row.get::<String, _>(2), row.get::<String, _>(3)),
            ("policy".into(), policy.id.clone())
        );
    }
}
