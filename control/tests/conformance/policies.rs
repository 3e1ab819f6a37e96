//! Policies: made, found, listed, counted, changed, deleted; what is refused leaves nothing behind.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use futures_util::future::join_all;
use tidegate_control::model::{Actor, Apply, Counters, Page, PageRequest, Policy, PolicyMode};
use tidegate_control::store::{AttachRequest, Expected, PolicyFilter, Store, StoreError};

use crate::bench::Bench;
use crate::fixture::{NASTY, actor};

/// A policy in block mode.
pub(crate) const BLOCK: &str =
    "# who reads this?\negress-policy:   block\nallowed-endpoints: >\n  GitHub.com:443\n";
/// One in audit mode.
pub(crate) const AUDIT: &str = "egress-policy: audit\r\n";
/// One that decides only lockdown.
pub(crate) const LOCKDOWN: &str = "lockdown-mode: {enabled: true}\n";

/// Attaches where nothing else is.
pub(crate) fn adding(scopes: &[&str]) -> AttachRequest {
    AttachRequest {
        add: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        ..AttachRequest::default()
    }
}

/// Makes `acme`'s policy of this name.
pub(crate) async fn made(store: &Store, name: &str, yaml: &str) -> Policy {
    store.create_policy("acme", name, yaml, &actor()).await.unwrap()
}

async fn everything(store: &Store, filter: &PolicyFilter) -> Page<Policy> {
    store
        .policies(None, filter, &PageRequest::default())
        .await
        .unwrap()
}

fn names(page: &Page<Policy>) -> Vec<&str> {
    page.items.iter().map(|policy| policy.name.as_str()).collect()
}

pub(crate) async fn a_policy_is_kept_as_written_with_its_parsed_form(bench: Bench) {
    let store = bench.open().await;
    let policy = store
        .create_policy("Acme", "Base", BLOCK, &actor())
        .await
        .unwrap();
    assert_eq!((policy.owner.as_str(), policy.name.as_str()), ("acme", "Base"));
    assert_eq!(
        (policy.version, policy.mode, policy.endpoints),
        (1, PolicyMode::Block, 1)
    );
    assert_eq!(policy.yaml, BLOCK);
    assert_eq!(
        policy.parsed["allowed-endpoints"][0]["endpoint"],
        "github.com:443"
    );
    assert_eq!(policy.updated_by, "ada");
    assert_eq!(policy.created_at, policy.updated_at);
    assert_eq!(store.policy("ACME", "Base").await.unwrap(), policy);
    assert_eq!(store.policy_by_id(&policy.id).await.unwrap(), policy);
    let another = made(&store, "audit", AUDIT).await;
    assert_eq!((another.mode, another.yaml.as_str()), (PolicyMode::Audit, AUDIT));
    let third = made(&store, "lockdown", LOCKDOWN).await;
    assert_eq!((third.mode, third.lockdown), (PolicyMode::None, true));
}

pub(crate) async fn names_are_unique_per_owner_and_in_one_encoding(bench: Bench) {
    let store = bench.open().await;
    made(&store, "B\u{fc}ro", BLOCK).await;
    let taken = store
        .create_policy("ACME", "Bu\u{308}ro", AUDIT, &actor())
        .await
        .unwrap_err();
    assert!(matches!(taken, StoreError::Conflict { .. }), "{taken}");
    assert_eq!(taken.to_string(), "there is a policy acme/Büro already");
    // Another spelling and another owner are other names.
    made(&store, "b\u{fc}ro", BLOCK).await;
    store
        .create_policy("other", "B\u{fc}ro", BLOCK, &actor())
        .await
        .unwrap();
    assert_eq!(
        store.policy("acme", "Bu\u{308}ro").await.unwrap().name,
        "B\u{fc}ro"
    );
}

pub(crate) async fn one_of_many_that_want_a_name_gets_it(bench: Bench) {
    let store = bench.open().await;
    let all = join_all((0..20).map(|_| {
        let store = store.clone();
        async move { store.create_policy("acme", "base", BLOCK, &actor()).await }
    }));
    let (won, lost): (Vec<_>, Vec<_>) = all.await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(
        lost.iter()
            .all(|one| matches!(one, Err(StoreError::Conflict { .. })))
    );
}

pub(crate) async fn bad_input_says_which_field_and_why_and_stores_nothing(bench: Bench) {
    let store = bench.open().await;
    for wrong in NASTY.iter().chain(&["", "..", "../x", "a/b", ".hidden", "x\\y"]) {
        // A name in another encoding of Unicode is none the worse for it.
        if *wrong == "a\u{301}" {
            continue;
        }
        let error = store
            .create_policy("acme", wrong, BLOCK, &actor())
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid { field: "name", .. }),
            "{wrong:?}: {error}"
        );
        let error = store
            .create_policy(wrong, "base", BLOCK, &actor())
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid { field: "owner", .. }),
            "{wrong:?}: {error}"
        );
        assert!(store.policy("acme", wrong).await.is_err());
        assert!(matches!(
            store.policy_by_id(wrong).await,
            Err(StoreError::NotFound { .. })
        ));
    }
    let bomb = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n";
    for (wrong, line) in [
        ("egress-policy: block\negress-policy: audit\n", 2),
        ("egress-policy: block\nallowed-endpoints: 'git hub.com:443x'\n", 2),
        ("egress-policy: [\n", 2),
        ("egress-polcy: block\n", 1),
        (bomb, 1),
    ] {
        let error = store
            .create_policy("acme", "base", wrong, &actor())
            .await
            .unwrap_err();
        let StoreError::Document(diagnostics) = error else {
            panic!("{wrong:?}: {error}")
        };
        assert_eq!(diagnostics[0].line, line, "{wrong:?}: {diagnostics:?}");
    }
    assert!(
        everything(&store, &PolicyFilter::default())
            .await
            .items
            .is_empty()
    );
    let log = store
        .audit_log(None, &PageRequest::default(), true)
        .await
        .unwrap();
    assert!(log.items.is_empty());
    assert_eq!(store.db().newest().borrow().0, 0);
}

pub(crate) async fn texts_go_in_and_out_unchanged_whatever_they_say(bench: Bench) {
    let store = bench.open().await;
    for (at, nasty) in NASTY.iter().filter(|text| !text.contains('\0')).enumerate() {
        let yaml = format!("# {nasty}\negress-policy: audit\n");
        let somebody = Actor {
            subject: (*nasty).to_owned(),
            token_id: Some((*nasty).to_owned()),
            via: (*nasty).to_owned(),
        };
        let name = format!("policy {at}");
        let policy = store
            .create_policy("acme", &name, &yaml, &somebody)
            .await
            .unwrap();
        assert_eq!(
            (policy.yaml.as_str(), policy.updated_by.as_str()),
            (yaml.as_str(), *nasty)
        );
        let page = PageRequest::default();
        let history = store.history(&policy.id, &page).await.unwrap();
        assert_eq!(history.items[0].actor, somebody);
        let search = PolicyFilter {
            search: Some((*nasty).to_owned()),
            ..PolicyFilter::default()
        };
        assert!(everything(&store, &search).await.items.is_empty());
    }
    let nul = Actor {
        subject: "a\0b\u{7}".to_owned(),
        token_id: None,
        via: "api".to_owned(),
    };
    let policy = store.create_policy("acme", "nul", AUDIT, &nul).await.unwrap();
    assert_eq!(policy.updated_by, "a\u{fffd}b\u{fffd}");
    assert!(store.verify_audit(None).await.unwrap().is_ok());
}

pub(crate) async fn a_megabyte_is_kept_and_a_byte_more_is_refused(bench: Bench) {
    let store = bench.open().await;
    let mut yaml = "allowed-endpoints:\n".to_owned();
    let mut at = 0;
    while yaml.len() + 40 < 1 << 20 {
        let _ = writeln!(yaml, "- host-{at}.a-long-enough.test:443");
        at += 1;
    }
    yaml += &"#".repeat((1 << 20) - yaml.len());
    let policy = made(&store, "large", &yaml).await;
    assert_eq!(policy.endpoints, at);
    assert!(store.policy("acme", "large").await.unwrap().yaml == yaml);
    let more = format!("{yaml}#");
    let error = store
        .create_policy("acme", "larger", &more, &actor())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Document(_)), "{error}");
    // A page of such policies ends before its hundredth.
    let long = format!("egress-policy: audit\n{}", "#".repeat(1_000_000));
    for nth in 0..9 {
        made(&store, &format!("large {nth}"), &long).await;
    }
    let page = everything(&store, &PolicyFilter::default()).await;
    assert!((1..10).contains(&page.items.len()) && page.next.is_some());
    let mut seen = page.items.len();
    let mut next = page.next;
    while let Some(after) = next.take() {
        let page = PageRequest {
            after: Some(after),
            limit: 0,
        };
        let page = store
            .policies(None, &PolicyFilter::default(), &page)
            .await
            .unwrap();
        seen += page.items.len();
        next = page.next;
    }
    assert_eq!(seen, 10);
}

pub(crate) async fn lists_are_paged_in_one_order_on_every_database(bench: Bench) {
    let store = bench.open().await;
    let mut wanted = BTreeSet::new();
    for owner in ["acme", "acme-labs", "b"] {
        for name in ["Zulu", "alpha", "a b", "a-b", "Ä", "é", "基", "_", "10", "9"] {
            store.create_policy(owner, name, AUDIT, &actor()).await.unwrap();
            wanted.insert((owner.to_owned(), name.to_owned()));
        }
    }
    let mut found = Vec::new();
    let mut page = PageRequest {
        after: None,
        limit: 4,
    };
    loop {
        let part = store
            .policies(None, &PolicyFilter::default(), &page)
            .await
            .unwrap();
        assert!(part.items.len() <= 4);
        found.extend(part.items.into_iter().map(|policy| (policy.owner, policy.name)));
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(
        found,
        wanted.into_iter().collect::<Vec<_>>(),
        "in the order of their bytes"
    );
    let of_one = store
        .policies(Some("B"), &PolicyFilter::default(), &PageRequest::default())
        .await;
    assert_eq!(of_one.unwrap().items.len(), 10);
    for wrong in ["nonsense", "a/b/c", "a\0/b", "'/"] {
        let page = PageRequest {
            after: Some(wrong.into()),
            limit: 1,
        };
        let error = store
            .policies(None, &PolicyFilter::default(), &page)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid { field: "after", .. }),
            "{error}"
        );
    }
}

pub(crate) async fn policies_are_found_by_name_mode_attachment_and_id(bench: Bench) {
    let store = bench.open().await;
    let strict = made(&store, "Büro streng", BLOCK).await;
    let loose = made(&store, "loose", AUDIT).await;
    let lock = made(&store, "lock", LOCKDOWN).await;
    store
        .attach("acme", "loose", &adding(&["org:acme", "repo:acme/web"]), &actor())
        .await
        .unwrap();
    let filter = |change: fn(&mut PolicyFilter)| {
        let mut filter = PolicyFilter::default();
        change(&mut filter);
        filter
    };
    for (filter, wanted) in [
        (filter(|_| {}), vec!["Büro streng", "lock", "loose"]),
        (
            filter(|one| one.search = Some("LO".into())),
            vec!["lock", "loose"],
        ),
        (
            filter(|one| one.search = Some("BÜRO".into())),
            vec!["Büro streng"],
        ),
        // ASCII in a name that is not, and what LIKE would take for more than itself.
        (
            filter(|one| one.search = Some("O STR".into())),
            vec!["Büro streng"],
        ),
        (filter(|one| one.search = Some("%".into())), vec![]),
        (filter(|one| one.search = Some("l_ck".into())), vec![]),
        (filter(|one| one.search = Some("\\".into())), vec![]),
        (
            filter(|one| one.mode = Some(PolicyMode::Block)),
            vec!["Büro streng"],
        ),
        (filter(|one| one.mode = Some(PolicyMode::None)), vec!["lock"]),
        (filter(|one| one.attached = Some(true)), vec!["loose"]),
        (
            filter(|one| one.attached = Some(false)),
            vec!["Büro streng", "lock"],
        ),
    ] {
        assert_eq!(names(&everything(&store, &filter).await), wanted, "{filter:?}");
    }
    let ids = vec![strict.id.clone(), lock.id, "'".into()];
    let by_id = PolicyFilter {
        ids: Some(ids),
        ..PolicyFilter::default()
    };
    assert_eq!(names(&everything(&store, &by_id).await), ["Büro streng", "lock"]);
    let counted = store.counters(Some("acme")).await.unwrap();
    let wanted = Counters {
        total: 3,
        block: 1,
        audit: 1,
        unattached: 2,
    };
    assert_eq!((counted, store.counters(None).await.unwrap()), (wanted, wanted));
    assert_eq!(store.counters(Some("nobody")).await.unwrap(), Counters::default());
    assert_eq!(loose.version, 1);
}

pub(crate) async fn an_update_makes_a_version_and_a_lost_update_is_refused(bench: Bench) {
    let store = bench.open().await;
    let first = made(&store, "base", BLOCK).await;
    let update = |expected, yaml| {
        let store = store.clone();
        async move {
            store
                .update_policy("acme", "base", expected, yaml, Apply::Now, &actor())
                .await
        }
    };
    let second = update(Expected::Version(1), AUDIT).await.unwrap();
    assert_eq!((second.id.as_str(), second.version), (first.id.as_str(), 2));
    assert_eq!(
        (second.mode, second.yaml.as_str(), second.endpoints),
        (PolicyMode::Audit, AUDIT, 0)
    );
    assert_eq!(second.created_at, first.created_at);
    let stale = update(Expected::Version(1), BLOCK).await.unwrap_err();
    assert!(matches!(stale, StoreError::Stale { current: 2, .. }), "{stale}");
    assert_eq!(stale.to_string(), "policy acme/base is at version 2 by now");
    assert_eq!(update(Expected::Any, BLOCK).await.unwrap().version, 3);
    let broken = update(Expected::Any, "egress-policy: maybe\n").await.unwrap_err();
    assert!(matches!(broken, StoreError::Document(_)), "{broken}");
    assert_eq!(store.policy("acme", "base").await.unwrap().version, 3);
    let none = store
        .update_policy("acme", "none", Expected::Any, AUDIT, Apply::Now, &actor())
        .await;
    assert!(matches!(none, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn of_many_updates_of_one_version_exactly_one_wins(bench: Bench) {
    let (store, other) = (bench.open().await, bench.open().await);
    made(&store, "base", BLOCK).await;
    let writers = (0..20).map(|at| {
        let store = if at % 2 == 0 { store.clone() } else { other.clone() };
        let yaml = format!("allowed-endpoints: host-{at}.test:443\n");
        async move {
            store
                .update_policy("acme", "base", Expected::Version(1), &yaml, Apply::Now, &actor())
                .await
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(writers).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(
        lost.iter()
            .all(|one| matches!(one, Err(StoreError::Stale { current: 2, .. }))),
        "{lost:?}"
    );
    // Without a version each of them gets its turn.
    let writers =
        (0..10).map(|_| store.update_policy("acme", "base", Expected::Any, AUDIT, Apply::Now, &ADA));
    let mut versions: Vec<u32> = join_all(writers)
        .await
        .into_iter()
        .map(|one| one.unwrap().version)
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (3..13).collect::<Vec<_>>());
}

pub(crate) static ADA: std::sync::LazyLock<Actor> = std::sync::LazyLock::new(actor);

pub(crate) async fn a_deleted_policy_leaves_its_scopes_and_its_history(bench: Bench) {
    let store = bench.open().await;
    let policy = made(&store, "base", BLOCK).await;
    store
        .attach("acme", "base", &adding(&["repo:acme/web", "org:acme"]), &actor())
        .await
        .unwrap();
    let stale = store
        .delete_policy("acme", "base", Some(Expected::Version(2)), &actor())
        .await;
    assert!(matches!(stale, Err(StoreError::Stale { current: 1, .. })));
    let scopes = store
        .delete_policy("acme", "base", Some(Expected::Version(1)), &actor())
        .await
        .unwrap();
    assert_eq!(scopes, ["org:acme", "repo:acme/web"]);
    assert!(matches!(
        store.policy("acme", "base").await,
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(store.held(&"org:acme".parse().unwrap()).await.unwrap(), None);
    assert_eq!(store.counters(None).await.unwrap(), Counters::default());
    let gone = store.policy_by_id(&policy.id).await.unwrap();
    assert!(gone.deleted_at.is_some() && gone.attachments.is_empty());
    assert_eq!(gone.yaml, BLOCK);
    let history = store.history(&policy.id, &PageRequest::default()).await.unwrap();
    let actions: Vec<&str> = history.items.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "policy.deleted",
            "policy.detached",
            "policy.detached",
            "policy.attached",
            "policy.attached",
            "policy.created"
        ]
    );
    assert_eq!(history.items[2].detail["scope"], "org:acme");
    // The name is free, and what takes it is another policy with a history of its own.
    let again = made(&store, "base", AUDIT).await;
    assert_ne!(again.id, policy.id);
    assert_eq!(again.version, 1);
    let history = store.history(&again.id, &PageRequest::default()).await.unwrap();
    assert_eq!(history.items.len(), 1);
    let twice = store.delete_policy("acme", "gone", None, &actor()).await;
    assert!(matches!(twice, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn a_strict_store_refuses_what_strangers_can_register(bench: Bench) {
    let wide = "allowed-endpoints: '*.github.io:443'\n";
    let store = bench.open().await;
    let lenient = made(&store, "lenient", wide).await;
    assert_eq!(lenient.diagnostics.len(), 1, "warned of");
    assert_eq!(lenient.diagnostics[0].severity, "warning");
    let strict = bench.open().await.strict(true);
    let error = strict
        .create_policy("acme", "strict", wide, &actor())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Document(_)), "{error}");
    assert!(
        strict
            .put_set("acme", "wide", None, "- '*.github.io:443'\n", &actor())
            .await
            .is_err()
    );
    // What is stored stays readable.
    assert_eq!(strict.policy("acme", "lenient").await.unwrap().yaml, wide);
}
