//! Attachments: one policy a scope, displacement with both histories, what is warned of.

use futures_util::future::join_all;
use tidegate_control::model::{AuditEntry, PageRequest};
use tidegate_control::store::{AttachRequest, Store, StoreError};
use tidegate_policy::job::Scope;

use crate::bench::Bench;
use crate::fixture::actor;
use crate::policies::{AUDIT, BLOCK, LOCKDOWN, adding, made};

fn scopes(texts: &[&str]) -> Vec<Scope> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn taking(texts: &[&str]) -> AttachRequest {
    AttachRequest {
        replace: true,
        ..adding(texts)
    }
}

async fn warnings(store: &Store, name: &str, request: &AttachRequest) -> Vec<String> {
    store
        .attach("acme", name, request, &actor())
        .await
        .unwrap()
        .warnings
}

async fn history(store: &Store, name: &str) -> Vec<AuditEntry> {
    let policy = store.policy("acme", name).await.unwrap();
    store
        .history(&policy.id, &PageRequest::default())
        .await
        .unwrap()
        .items
}

pub(crate) async fn a_policy_holds_many_scopes_and_leaves_them_in_one_step(bench: Bench) {
    let store = bench.open().await;
    made(&store, "base", BLOCK).await;
    let request = adding(&[
        "repo:Acme/Web",
        "org:acme",
        "cluster:prod",
        "workflow:acme/web/CI.yml",
        "org:ACME",
    ]);
    let attached = store.attach("acme", "base", &request, &actor()).await.unwrap();
    assert_eq!(
        attached.policy.attachments,
        [
            "cluster:prod",
            "org:acme",
            "repo:acme/web",
            "workflow:acme/web/CI.yml"
        ]
    );
    assert!(attached.displaced.is_empty());
    let held = store
        .held(&"repo:acme/WEB".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(held, store.policy("acme", "base").await.unwrap());
    let request = AttachRequest {
        add: scopes(&["org:other", "org:acme"]),
        remove: scopes(&["cluster:prod", "repo:acme/web"]),
        replace: false,
    };
    let attached = store.attach("acme", "base", &request, &actor()).await.unwrap();
    assert_eq!(
        attached.policy.attachments,
        ["org:acme", "org:other", "workflow:acme/web/CI.yml"]
    );
    let history = history(&store, "base").await;
    assert_eq!(history[0].action, "policy.moved");
    assert_eq!(
        history[0].detail["from"],
        serde_json::json!(["cluster:prod", "repo:acme/web"])
    );
    assert_eq!(
        history[0].detail["to"],
        serde_json::json!(["org:other"]),
        "the other one it held already"
    );
}

pub(crate) async fn a_held_scope_is_refused_with_its_holder_and_nothing_is_attached(bench: Bench) {
    let store = bench.open().await;
    made(&store, "base", BLOCK).await;
    made(&store, "mine", AUDIT).await;
    store
        .attach("acme", "base", &adding(&["repo:acme/web"]), &actor())
        .await
        .unwrap();
    let before = *store.db().newest().borrow();
    let request = adding(&["org:acme", "repo:acme/web"]);
    let error = store
        .attach("acme", "mine", &request, &actor())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }));
    let text = error.to_string();
    assert!(
        text.contains("repo:acme/web is held by policy acme/base"),
        "{text}"
    );
    assert!(store.policy("acme", "mine").await.unwrap().attachments.is_empty());
    assert_eq!(history(&store, "mine").await.len(), 1);
    assert_eq!(*store.db().newest().borrow(), before);
}

pub(crate) async fn replacing_displaces_and_both_histories_say_so(bench: Bench) {
    let store = bench.open().await;
    let base = made(&store, "base", BLOCK).await;
    let mine = made(&store, "mine", BLOCK).await;
    store
        .attach("acme", "base", &adding(&["repo:acme/web", "org:acme"]), &actor())
        .await
        .unwrap();
    let attached = store
        .attach("acme", "mine", &taking(&["repo:acme/web"]), &actor())
        .await
        .unwrap();
    assert_eq!(attached.policy.attachments, ["repo:acme/web"]);
    let displaced = &attached.displaced[0];
    assert_eq!(
        (
            displaced.scope.as_str(),
            displaced.policy.as_str(),
            displaced.owner.as_str()
        ),
        ("repo:acme/web", "base", "acme")
    );
    assert_eq!(
        store.policy("acme", "base").await.unwrap().attachments,
        ["org:acme"]
    );
    let (of_base, of_mine) = (history(&store, "base").await, history(&store, "mine").await);
    assert_eq!(
        (of_base[0].action.as_str(), of_mine[0].action.as_str()),
        ("policy.detached", "policy.attached")
    );
    assert_eq!(of_base[0].detail["scope"], "repo:acme/web");
    assert_eq!(of_base[0].detail["to"]["id"], mine.id.as_str());
    assert_eq!(of_mine[0].detail["from"]["id"], base.id.as_str());
    assert_eq!(of_mine[0].detail["from"]["name"], "base");
    // What it holds already is no error and no change.
    let before = *store.db().newest().borrow();
    store
        .attach("acme", "mine", &adding(&["repo:acme/web"]), &actor())
        .await
        .unwrap();
    assert_eq!(*store.db().newest().borrow(), before);
}

pub(crate) async fn what_can_not_be_attached_or_detached_is_refused(bench: Bench) {
    let store = bench.open().await;
    made(&store, "base", BLOCK).await;
    made(&store, "other", BLOCK).await;
    store
        .attach("acme", "other", &adding(&["org:acme"]), &actor())
        .await
        .unwrap();
    let refused = |request: AttachRequest| {
        let store = store.clone();
        async move {
            store
                .attach("acme", "base", &request, &actor())
                .await
                .unwrap_err()
        }
    };
    let removing = |texts: &[&str]| AttachRequest {
        remove: scopes(texts),
        ..AttachRequest::default()
    };
    let error = refused(removing(&["org:acme"])).await;
    assert_eq!(
        error.to_string(),
        "org:acme is held by policy acme/other, not by policy acme/base"
    );
    let error = refused(removing(&["org:nobody"])).await;
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    assert!(matches!(
        refused(AttachRequest::default()).await,
        StoreError::Invalid { .. }
    ));
    let both = AttachRequest {
        add: scopes(&["org:x"]),
        ..removing(&["org:X"])
    };
    assert!(matches!(
        refused(both).await,
        StoreError::Invalid { field: "remove", .. }
    ));
    for scope in [
        Scope::Network("runners".into()),
        Scope::Lease("x".into()),
        Scope::Organization("a'b".into()),
        Scope::Repository("acme/..".into()),
        Scope::Workflow("acme/web/a\0b".into()),
    ] {
        let request = AttachRequest {
            add: vec![scope.clone()],
            ..AttachRequest::default()
        };
        assert!(
            matches!(refused(request).await, StoreError::Invalid { field: "add", .. }),
            "{scope}"
        );
        assert!(
            matches!(store.held(&scope).await, Err(StoreError::Invalid { .. })),
            "{scope}"
        );
    }
    let many = AttachRequest {
        add: (0..1_001)
            .map(|at| Scope::Organization(format!("o{at}").into()))
            .collect(),
        ..AttachRequest::default()
    };
    assert!(matches!(
        refused(many).await,
        StoreError::Invalid { field: "add", .. }
    ));
    let missing = store.attach("acme", "none", &adding(&["org:x"]), &actor()).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    assert!(store.policy("acme", "base").await.unwrap().attachments.is_empty());
}

pub(crate) async fn of_many_that_want_a_scope_exactly_one_gets_it(bench: Bench) {
    let (store, other) = (bench.open().await, bench.open().await);
    for at in 0..10 {
        made(&store, &format!("p{at}"), BLOCK).await;
    }
    let all = (0..10).map(|at| {
        let store = if at % 2 == 0 { store.clone() } else { other.clone() };
        async move {
            store
                .attach("acme", &format!("p{at}"), &adding(&["repo:acme/web"]), &actor())
                .await
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(all).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(
        lost.iter()
            .all(|one| matches!(one, Err(StoreError::Conflict { .. })))
    );
    let counters = store.counters(None).await.unwrap();
    assert_eq!(counters.unattached, 9);
}

pub(crate) async fn a_stricter_workflow_than_its_repository_is_warned_of(bench: Bench) {
    let store = bench.open().await;
    made(&store, "audit", AUDIT).await;
    made(&store, "one", "allowed-endpoints: a.test:443\n").await;
    made(&store, "two", "allowed-endpoints: a.test:443 b.test:443\n").await;
    let workflow = adding(&["workflow:acme/web/ci.yml"]);
    let nothing_wider = warnings(&store, "one", &workflow).await;
    assert_eq!(
        nothing_wider,
        [
            "workflow:acme/web/ci.yml (policy acme/one) is stricter than repo:acme/web, which holds no policy about \
          egress: a pull request can add another workflow file, which gets the latter"
        ]
    );
    let audit = warnings(&store, "audit", &adding(&["org:acme"])).await;
    assert_eq!(audit.len(), 1);
    assert!(
        audit[0].contains("than org:acme (policy acme/audit, which audits only)"),
        "{audit:?}"
    );
    let two = warnings(&store, "two", &adding(&["repo:acme/web"])).await;
    assert_eq!(two.len(), 1);
    assert!(
        two[0].contains("(policy acme/two, which also permits b.test:443)"),
        "{two:?}"
    );
    let same = warnings(&store, "one", &taking(&["repo:acme/web"])).await;
    assert_eq!(same, [""; 0], "the same policy on both");
    let leaving = AttachRequest {
        remove: scopes(&["repo:acme/web"]),
        ..AttachRequest::default()
    };
    let left = warnings(&store, "one", &leaving).await;
    assert!(left[0].contains("than org:acme"), "{left:?}");
    // A looser workflow, and one of another repository whose name begins alike, are nobody's business.
    let looser = warnings(&store, "audit", &taking(&["workflow:acme/web/ci.yml"])).await;
    assert_eq!(looser, [""; 0]);
    assert_eq!(
        warnings(&store, "one", &adding(&["workflow:acme/web-2/ci.yml"]))
            .await
            .len(),
        1
    );
    assert_eq!(
        warnings(&store, "two", &adding(&["repo:acme/web"])).await,
        [""; 0]
    );
}

pub(crate) async fn handing_egress_to_a_wider_scope_is_warned_of(bench: Bench) {
    let store = bench.open().await;
    for (name, yaml) in [("strict", BLOCK), ("base", AUDIT), ("lock", LOCKDOWN)] {
        made(&store, name, yaml).await;
    }
    assert_eq!(
        warnings(&store, "lock", &adding(&["repo:acme/api"])).await,
        [""; 0],
        "nothing was there"
    );
    store
        .attach(
            "acme",
            "strict",
            &adding(&["repo:acme/web", "org:acme"]),
            &actor(),
        )
        .await
        .unwrap();
    let warned = warnings(&store, "lock", &taking(&["repo:acme/web"])).await;
    assert_eq!(
        warned,
        ["lock decides only lockdown: egress of repo:acme/web comes from org:acme (policy acme/strict) now"]
    );
    let warned = warnings(&store, "lock", &taking(&["org:acme"])).await;
    assert!(
        warned[0].ends_with("comes from the cluster's policy or the network's default policy now"),
        "{warned:?}"
    );
}
