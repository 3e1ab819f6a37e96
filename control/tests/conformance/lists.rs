//! Lists as tables need them, and what they are counted from: the same on both databases, at any size.

use jiff::Timestamp;
use tidegate_control::model::{PageRequest, Policy, PolicySummary};
use tidegate_control::store::{AttachRequest, BlockUpdate, PolicyFilter, Store, StoreError};
use tidegate_control_wire::record::BlockLayer;

use crate::bench::Bench;
use crate::fixture::actor;
use crate::policies::{AUDIT, BLOCK, LOCKDOWN, adding, made};

async fn pages(store: &Store, filter: &PolicyFilter, limit: u32) -> (Vec<Policy>, Vec<PolicySummary>) {
    let (mut whole, mut short) = (Vec::new(), Vec::new());
    let mut page = PageRequest { after: None, limit };
    loop {
        let found = store.policies(Some("acme"), filter, &page).await.unwrap();
        let told = store.policy_summaries(Some("acme"), filter, &page).await.unwrap();
        assert_eq!(found.next, told.next);
        whole.extend(found.items);
        short.extend(told.items);
        page.after = found.next;
        if page.after.is_none() {
            return (whole, short);
        }
    }
}

pub(crate) async fn a_summary_says_what_the_whole_policy_says(bench: Bench) {
    let store = bench.open().await;
    for at in 0..9 {
        let yaml = [BLOCK, AUDIT, LOCKDOWN][at % 3];
        made(&store, &format!("Policy {at}"), yaml).await;
        let scopes: Vec<String> = (0..at).map(|scope| format!("repo:acme/r{at}-{scope}")).collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        if !scopes.is_empty() {
            let name = format!("Policy {at}");
            store
                .attach("acme", &name, &adding(&scopes), &actor())
                .await
                .unwrap();
        }
    }
    for filter in [
        PolicyFilter::default(),
        PolicyFilter {
            search: Some("POLICY".into()),
            ..PolicyFilter::default()
        },
        PolicyFilter {
            attached: Some(false),
            ..PolicyFilter::default()
        },
    ] {
        for limit in [1, 2, 4, 1_000] {
            let (whole, short) = pages(&store, &filter, limit).await;
            assert_eq!(whole.len(), short.len());
            for (whole, short) in whole.iter().zip(&short) {
                assert_eq!(
                    (&whole.id, &whole.name, whole.mode),
                    (&short.id, &short.name, short.mode)
                );
                assert_eq!(whole.attachments.len(), short.attached as usize);
                assert!(whole.attachments.starts_with(&short.attachments) && short.attachments.len() <= 3);
                assert!(short.changed_at >= whole.updated_at);
                let attached = short.attached > 0;
                assert_eq!(attached, short.changed_at > whole.updated_at, "{short:?}");
            }
        }
    }
    let counters = store.counters(Some("acme")).await.unwrap();
    assert_eq!(
        (
            counters.total,
            counters.block,
            counters.audit,
            counters.unattached
        ),
        (9, 3, 3, 1)
    );
}

pub(crate) async fn deleted_policies_are_listed_the_latest_first(bench: Bench) {
    let store = bench.open().await;
    for name in ["a", "b", "c", "b"] {
        made(&store, name, BLOCK).await;
        store.delete_policy("acme", name, None, &actor()).await.unwrap();
    }
    made(&store, "living", BLOCK).await;
    let filter = PolicyFilter {
        deleted: true,
        ..PolicyFilter::default()
    };
    for limit in [1, 3, 100] {
        let (whole, short) = pages(&store, &filter, limit).await;
        let names: Vec<&str> = short.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "b", "a"]);
        assert!(whole.iter().all(|one| one.deleted_at.is_some()));
    }
    let search = PolicyFilter {
        search: Some("C".into()),
        ..filter.clone()
    };
    assert_eq!(pages(&store, &search, 10).await.1.len(), 1);
    for after in ["x", "1", "/", "1/a\0b", "acme/base"] {
        let page = PageRequest {
            after: Some(after.into()),
            limit: 1,
        };
        let outcome = store.policy_summaries(Some("acme"), &filter, &page).await;
        assert!(
            matches!(outcome, Err(StoreError::Invalid { field: "after", .. })),
            "{after:?}: {outcome:?}"
        );
    }
}

pub(crate) async fn layers_are_counted_with_every_change(bench: Bench) {
    let store = bench.open().await;
    let entries = |names: &[&str]| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), String::new()))
            .collect()
    };
    let update = |full, add: &[&str], remove: &[&str]| BlockUpdate {
        full,
        add: entries(add),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(
        store.block_summary().await.unwrap()[&BlockLayer::Feed].updated_at,
        None
    );
    for (what, expected) in [
        (update(true, &["a.test", "b.test", "c.test"], &[]), 3),
        (
            update(false, &["d.test", "a.test"], &["b.test", "nobody.test"]),
            3,
        ),
        (update(true, &["a.test"], &[]), 1),
        (update(true, &["a.test"], &[]), 1),
        (update(false, &["a.test", "b.test"], &["a.test"]), 2),
    ] {
        store
            .apply_block_layer(BlockLayer::Feed, what.clone(), &[])
            .await
            .unwrap();
        assert_eq!(
            store.block_count().await.unwrap()[&BlockLayer::Feed],
            expected,
            "{what:?}"
        );
    }
    // Another reason for the same name is no other name.
    let reason = BlockUpdate {
        add: vec![("a.test".into(), "why".into())],
        ..BlockUpdate::default()
    };
    store
        .apply_block_layer(BlockLayer::Feed, reason, &[])
        .await
        .unwrap();
    assert_eq!(store.block_count().await.unwrap()[&BlockLayer::Feed], 2);
    let before = Timestamp::now();
    let one = store
        .add_block_entry("own.test", "mine", None, &actor())
        .await
        .unwrap();
    let many = vec!["x.test".to_owned(), "y.test".to_owned(), "own.test".to_owned()];
    store
        .import_block_entries(many, "mine", None, &actor())
        .await
        .unwrap();
    let summary = store.block_summary().await.unwrap()[&BlockLayer::Deployment];
    assert!(
        summary.entries == 3 && summary.updated_at.is_some_and(|at| at >= before),
        "{summary:?}"
    );
    store.remove_block_entry(&one.id, &actor()).await.unwrap();
    assert_eq!(store.block_count().await.unwrap()[&BlockLayer::Deployment], 2);
}

pub(crate) async fn what_was_shown_is_what_is_done_or_nothing_is(bench: Bench) {
    let store = bench.open().await;
    made(&store, "org", AUDIT).await;
    made(&store, "base", BLOCK).await;
    store
        .attach("acme", "org", &adding(&["org:acme"]), &actor())
        .await
        .unwrap();
    let wanted = adding(&["repo:acme/web", "repo:acme/api"]);
    let shown = store.preview_attach("acme", "base", &wanted).await.unwrap();
    assert_eq!(shown.attach.len(), 2);
    assert!(store.policy("acme", "base").await.unwrap().attachments.is_empty());
    let done = store
        .attach_as_shown("acme", "base", (&wanted, Some(&shown.shown)), &actor())
        .await
        .unwrap();
    assert_eq!(done.policy.attachments, shown.attach);
    // Once done, it is not as it was shown any more.
    let again = store
        .attach_as_shown("acme", "base", (&wanted, Some(&shown.shown)), &actor())
        .await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    let leaving = AttachRequest {
        remove: vec!["repo:acme/web".parse().unwrap()],
        ..AttachRequest::default()
    };
    let preview = store.preview_attach("acme", "base", &leaving).await.unwrap();
    assert_eq!(preview.falls_back[0].to.as_ref().unwrap().policy, "org");
    let preview = store.preview_delete("acme", "base").await.unwrap();
    assert_eq!(preview.detached, ["repo:acme/api", "repo:acme/web"]);
    store
        .attach(
            "acme",
            "org",
            &AttachRequest {
                replace: true,
                ..adding(&["repo:acme/web"])
            },
            &actor(),
        )
        .await
        .unwrap();
    let late = store
        .delete_policy_as_shown("acme", "base", (None, Some(&preview.shown)), &actor())
        .await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let preview = store.preview_delete("acme", "base").await.unwrap();
    let gone = store
        .delete_policy_as_shown("acme", "base", (None, Some(&preview.shown)), &actor())
        .await;
    assert_eq!(gone.unwrap(), ["repo:acme/api"]);
}
