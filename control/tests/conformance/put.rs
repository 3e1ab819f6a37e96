//! Policies that are written whole: document and attachments in one transaction, on every database.

use tidegate_control::store::{Attaching, Expected, Put, StoreError};
use tidegate_policy::job::Scope;

use crate::bench::Bench;
use crate::fixture::actor;
use crate::policies::{AUDIT, BLOCK, adding, made};

fn put(expected: Expected, yaml: Option<&str>, attaching: Attaching) -> Put {
    Put {
        expected,
        yaml: yaml.map(str::to_owned),
        attaching,
        written: None,
    }
}

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) async fn a_policy_is_written_whole_with_its_attachments(bench: Bench) {
    let store = bench.open().await;
    let write = async |put: Put| store.put_policy("Acme", "base", put, &actor()).await;
    let only = Attaching::Only(scopes(&["org:acme", "cluster:prod"]));
    let mut first = put(Expected::Absent, Some(BLOCK), only);
    first.written = Some("{\"as\": \"written\"}".into());
    let policy = write(first.clone()).await.unwrap();
    assert_eq!(policy.attachments, ["cluster:prod", "org:acme"]);
    let written = store.written_attachments(&policy.id).await.unwrap();
    assert_eq!(written.as_deref(), Some("{\"as\": \"written\"}"));
    assert!(matches!(
        write(first).await,
        Err(StoreError::Stale { current: 1, .. })
    ));

    let also = Attaching::Also(scopes(&["repo:acme/web", "org:acme"]));
    let policy = write(put(Expected::Version(1), Some(AUDIT), also)).await.unwrap();
    assert_eq!((policy.version, policy.attachments.len()), (2, 3));
    assert!(matches!(
        write(put(Expected::Version(1), None, Attaching::AsItIs)).await,
        Err(StoreError::Stale { current: 2, .. })
    ));
    let policy = write(put(Expected::Any, None, Attaching::Only(Vec::new())))
        .await
        .unwrap();
    assert_eq!(
        (policy.version, policy.attachments.len()),
        (2, 0),
        "its document stays"
    );
    assert_eq!(policy.yaml, AUDIT);
    let nothing = put(Expected::Any, None, Attaching::AsItIs);
    let missing = store.put_policy("acme", "none", nothing, &actor()).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

/// A scope that another policy holds stops all of it, the new document and the history included.
pub(crate) async fn a_held_scope_leaves_nothing_of_a_whole_write(bench: Bench) {
    let store = bench.open().await;
    made(&store, "holder", BLOCK).await;
    let hold = adding(&["repo:acme/web"]);
    store.attach("acme", "holder", &hold, &actor()).await.unwrap();
    let wanted = Attaching::Only(scopes(&["org:acme", "repo:acme/web"]));
    let refused = put(Expected::Absent, Some(BLOCK), wanted.clone());
    let error = store
        .put_policy("acme", "base", refused, &actor())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Conflict { reason } if reason.contains("policy acme/holder")),
        "{error:?}"
    );
    assert!(matches!(
        store.policy("acme", "base").await,
        Err(StoreError::NotFound { .. })
    ));

    made(&store, "base", BLOCK).await;
    let refused = put(Expected::Version(1), Some(AUDIT), wanted);
    assert!(store.put_policy("acme", "base", refused, &actor()).await.is_err());
    let policy = store.policy("acme", "base").await.unwrap();
    assert_eq!((policy.version, policy.attachments.len()), (1, 0));
    assert_eq!(policy.yaml, BLOCK);
}
