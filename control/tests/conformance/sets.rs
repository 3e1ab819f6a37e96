//! Endpoint sets: used by name, not deleted while they are.

use tidegate_control::model::{Apply, PageRequest};
use tidegate_control::store::{Expected, StoreError};

use crate::bench::Bench;
use crate::fixture::{NASTY, actor};
use crate::policies::{AUDIT, made};

const LIST: &str = "# ours\n- a.test:443\n- b.test:443\n";

pub(crate) async fn a_set_is_kept_as_written_and_has_versions(bench: Bench) {
    let store = bench.open().await;
    let put = |expected, yaml| store.put_set("Acme", "Corp.base", expected, yaml, &crate::policies::ADA);
    let missing = put(Some(Expected::Any), LIST).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
    let set = put(None, LIST).await.unwrap();
    assert_eq!(
        (set.owner.as_str(), set.name.as_str(), set.version),
        ("acme", "Corp.base", 1)
    );
    assert_eq!((set.yaml.as_str(), set.endpoints), (LIST, 2));
    assert_eq!(store.set("acme", "Corp.base").await.unwrap(), set);
    let stale = put(Some(Expected::Version(2)), LIST).await.unwrap_err();
    assert!(matches!(stale, StoreError::Stale { current: 1, .. }), "{stale}");
    assert_eq!(
        put(Some(Expected::Version(1)), "- a.test:443\n")
            .await
            .unwrap()
            .version,
        2
    );
    assert_eq!(put(None, "- c.test:443\n").await.unwrap().version, 3);
    let broken = put(None, "- 'a b:x'\n").await.unwrap_err();
    assert!(matches!(broken, StoreError::Document(_)), "{broken}");
    let log = store
        .audit_log(Some("acme"), &PageRequest::default(), true)
        .await
        .unwrap();
    assert_eq!(log.items.len(), 3);
    assert_eq!(log.items[0].action, "set.written");
    assert_eq!(log.items[0].target, "endpoint set acme/Corp.base");
    let unified = log.items[0].detail["diff"]["unified"].as_str().unwrap();
    assert_eq!(unified, "@@ -1 +1 @@\n-- a.test:443\n+- c.test:443\n");
    store
        .delete_set("acme", "Corp.base", Some(Expected::Version(3)), &actor())
        .await
        .unwrap();
    assert!(matches!(
        store.set("acme", "Corp.base").await,
        Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn a_policy_can_use_only_sets_of_its_owner(bench: Bench) {
    let store = bench.open().await;
    store
        .put_set("other", "corp-base", None, LIST, &actor())
        .await
        .unwrap();
    let uses = "egress-policy: block\nuse: [corp-base]\n";
    let error = store
        .create_policy("acme", "base", uses, &actor())
        .await
        .unwrap_err();
    let StoreError::Document(diagnostics) = error else {
        panic!("{error}")
    };
    assert_eq!((diagnostics[0].line, diagnostics[0].column), (2, 7));
    assert_eq!(diagnostics[0].message, "acme has no endpoint set `corp-base`");
    store
        .put_set("acme", "corp-base", None, LIST, &actor())
        .await
        .unwrap();
    made(&store, "base", uses).await;
    assert_eq!(store.set("acme", "corp-base").await.unwrap().used_by, ["base"]);
    assert!(store.set("other", "corp-base").await.unwrap().used_by.is_empty());
}

pub(crate) async fn a_used_set_is_not_deleted_before_no_job_needs_it(bench: Bench) {
    let store = bench.open().await;
    store.put_set("acme", "corp", None, LIST, &actor()).await.unwrap();
    made(&store, "a", "use: [corp]\n").await;
    made(&store, "b", "use: [corp]\n").await;
    let delete = || store.delete_set("acme", "corp", None, &crate::policies::ADA);
    let error = delete().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("endpoint set acme/corp is used by a, b"),
        "{error}"
    );
    store.delete_policy("acme", "a", None, &actor()).await.unwrap();
    let update = |apply| store.update_policy("acme", "b", Expected::Any, AUDIT, apply, &crate::policies::ADA);
    update(Apply::NextJob).await.unwrap();
    let error = delete().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Conflict { .. }),
        "jobs run under the version before: {error}"
    );
    update(Apply::Now).await.unwrap();
    delete().await.unwrap();
    assert!(matches!(delete().await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn sets_are_listed_by_name_and_bad_names_are_refused(bench: Bench) {
    let store = bench.open().await;
    for name in ["b", "A", "a.1", "_", "9"] {
        store.put_set("acme", name, None, LIST, &actor()).await.unwrap();
    }
    made(&store, "base", "use: [a.1]\n").await;
    let mut page = PageRequest {
        after: None,
        limit: 2,
    };
    let mut names = Vec::new();
    loop {
        let part = store.sets("acme", None, &page).await.unwrap();
        names.extend(part.items.into_iter().map(|set| (set.name, set.used_by.len())));
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    let wanted = [("9", 0), ("A", 0), ("_", 0), ("a.1", 1), ("b", 0)];
    assert_eq!(names, wanted.map(|(name, used)| (name.to_owned(), used)));
    for wrong in NASTY {
        let error = store
            .put_set("acme", wrong, None, LIST, &actor())
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid { field: "name", .. }),
            "{wrong:?}: {error}"
        );
        let page = PageRequest {
            after: Some(wrong.to_owned()),
            limit: 0,
        };
        assert!(matches!(
            store.sets("acme", None, &page).await,
            Err(StoreError::Invalid { field: "after", .. })
        ));
    }
}

pub(crate) async fn a_set_that_is_to_be_new_is_not_written_over_another(bench: Bench) {
    let store = bench.open().await;
    let ada = actor();
    let make = |name: &'static str| store.put_set("acme", name, Some(Expected::Absent), LIST, &ada);
    assert_eq!(make("corp").await.unwrap().version, 1);
    let again = make("corp").await.unwrap_err();
    assert!(matches!(again, StoreError::Stale { current: 1, .. }), "{again:?}");
    make("base").await.unwrap();
    assert_eq!(store.set_names("ACME").await.unwrap(), ["base", "corp"]);
    assert_eq!(store.set_names("other").await.unwrap(), [""; 0]);
}
