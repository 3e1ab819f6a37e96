//! Tokens: what is kept of them, which limits they may have, how they end.

use jiff::Timestamp;
use tidegate_control::model::{NewToken, PageRequest, TokenFilter};
use tidegate_control::store::{Since, Store, StoreError};
use tidegate_control_wire::record::Change;
use tidegate_control_wire::secret::{Role, Secret, digest};
use tidegate_policy::effective::Generation;

use crate::bench::Bench;
use crate::fixture::{NASTY, actor, claim, claimed, in_seconds, token, wanted};

async fn changes(store: &Store, after: Generation) -> (Vec<Change>, Generation) {
    match store.changes_since(after, "a", 100).await.unwrap() {
        Since::Page(page) => (page.changes, page.upto),
        Since::TooOld => panic!("{after} is too old"),
    }
}

pub(crate) async fn a_token_is_known_by_its_digest_and_its_text_is_nowhere(bench: Bench) {
    let store = bench.open().await;
    let (secret, made) = token(&store, &wanted(Role::Runner)).await;
    let found = store.token_by_digest(&secret.digest()).await.unwrap();
    assert_eq!(found, Some(made.clone()));
    assert_eq!(store.token(&made.id).await.unwrap(), made);
    let unknown = store.token_by_digest(&digest("tgr_unknown")).await.unwrap();
    assert_eq!(unknown, None);

    let audit = store
        .audit_log(None, &PageRequest::default(), true)
        .await
        .unwrap();
    let told = serde_json::to_string(&audit).unwrap();
    assert!(
        told.contains("token.created") && told.contains(&made.id),
        "{told}"
    );
    assert!(!told.contains(secret.expose()), "the text is in the history");
    let hash = secret.digest().to_string();
    assert!(!told.contains(&hash), "the digest is in the history");

    let twice = store
        .create_token(&wanted(Role::Viewer), &secret.digest(), &actor())
        .await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
}

pub(crate) async fn limits_are_canonical_and_fit_the_role(bench: Bench) {
    let store = bench.open().await;
    let asked = NewToken {
        owners: vec!["Beta".into(), "acme".into(), "ACME".into()],
        repos: vec!["Acme/Web".into()],
        networks: vec!["runners".into()],
        cluster: Some(" prod ".into()),
        expires_at: Some(in_seconds(60)),
        name: " CI of acme ".into(),
        ..wanted(Role::Runner)
    };
    let (_, made) = token(&store, &asked).await;
    assert_eq!(made.owners, ["acme", "beta"]);
    assert_eq!(made.repos, ["acme/web"]);
    assert_eq!(
        (made.name.as_str(), made.cluster.as_deref()),
        ("CI of acme", Some("prod"))
    );
    assert_eq!(made.created_by, "ada");

    let limited = |role, change: fn(&mut NewToken)| {
        let mut token = wanted(role);
        change(&mut token);
        token
    };
    let wrong = [
        ("owners", limited(Role::Runner, |one| one.owners.clear())),
        (
            "owners",
            limited(Role::Gateway, |one| one.owners.push("acme".into())),
        ),
        (
            "repos",
            limited(Role::Editor, |one| one.repos.push("acme/web".into())),
        ),
        (
            "repos",
            limited(Role::Provisioner, |one| one.repos.push("acme/web".into())),
        ),
        (
            "repos",
            limited(Role::Runner, |one| one.repos.push("acme".into())),
        ),
        (
            "repos",
            limited(Role::Runner, |one| one.repos.push("acme/web/x".into())),
        ),
        (
            "repos",
            limited(Role::Runner, |one| one.repos.push("acme/..".into())),
        ),
        (
            "owners",
            limited(Role::Runner, |one| one.owners.push("a b".into())),
        ),
        (
            "owners",
            limited(Role::Runner, |one| one.owners = vec!["x".into(); 201]),
        ),
        (
            "networks",
            limited(Role::Viewer, |one| one.networks.push("runners".into())),
        ),
        (
            "networks",
            limited(Role::Runner, |one| one.networks.push(" ".into())),
        ),
        (
            "cluster",
            limited(Role::Admin, |one| one.cluster = Some("prod".into())),
        ),
        (
            "cluster",
            limited(Role::Runner, |one| one.cluster = Some(String::new())),
        ),
        ("name", limited(Role::Viewer, |one| one.name = "  ".into())),
        ("name", limited(Role::Viewer, |one| one.name = "x".repeat(129))),
        ("name", limited(Role::Viewer, |one| one.name = "a\nb".into())),
        ("name", limited(Role::Gateway, |one| one.name = "gw 1".into())),
        (
            "expires_at",
            limited(Role::Viewer, |one| one.expires_at = Some(in_seconds(-1))),
        ),
    ];
    for (field, token) in wrong {
        let secret = Secret::new(token.role);
        match store.create_token(&token, &secret.digest(), &actor()).await {
            Err(StoreError::Invalid { field: found, .. }) => assert_eq!(found, field, "{token:?}"),
            other => panic!("{token:?}: {other:?}"),
        }
        assert_eq!(store.token_by_digest(&secret.digest()).await.unwrap(), None);
    }
    for nasty in NASTY {
        let odd = NewToken {
            owners: vec![nasty.to_owned()],
            ..wanted(Role::Runner)
        };
        let made = store.create_token(&odd, &digest(nasty), &actor()).await;
        assert!(
            matches!(made, Err(StoreError::Invalid { field: "owners", .. })),
            "{made:?}"
        );
    }
    for good in &NASTY[..7] {
        let named = NewToken {
            name: (*good).to_owned(),
            ..wanted(Role::Viewer)
        };
        let (secret, _) = token(&store, &named).await;
        let found = store.token_by_digest(&secret.digest()).await.unwrap().unwrap();
        assert_eq!(found.name, *good);
    }
}

pub(crate) async fn a_revoked_token_stays_listed_and_leaves_the_gateways(bench: Bench) {
    let store = bench.open().await;
    let (_, before) = changes(&store, Generation(0)).await;
    let (secret, runner) = token(&store, &wanted(Role::Runner)).await;
    let (_, editor) = token(&store, &wanted(Role::Editor)).await;
    let (told, at) = changes(&store, before).await;
    match told.as_slice() {
        [Change::Token(record)] => {
            assert_eq!(
                (record.id.as_str(), record.digest),
                (runner.id.as_str(), secret.digest())
            );
            assert_eq!(record.owners, ["acme"]);
        }
        other => panic!("{other:?}"),
    }
    let revoked = store.revoke_token(&runner.id, &actor()).await.unwrap();
    assert!(revoked.revoked_at.is_some());
    let again = store.revoke_token(&runner.id, &actor()).await.unwrap();
    assert_eq!(again, revoked, "a second time changes nothing");
    store.revoke_token(&editor.id, &actor()).await.unwrap();
    let (told, _) = changes(&store, at).await;
    assert_eq!(
        told,
        [Change::TokenGone {
            id: runner.id.as_str().into()
        }]
    );
    assert_eq!(
        store.token_by_digest(&secret.digest()).await.unwrap(),
        Some(revoked)
    );

    let audit = store
        .audit_log(None, &PageRequest::default(), false)
        .await
        .unwrap();
    let actions: Vec<_> = audit.items.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(
        actions,
        ["token.created", "token.created", "token.revoked", "token.revoked"]
    );
    for unknown in NASTY.into_iter().chain(["", "tok_0"]) {
        let outcome = store.revoke_token(unknown, &actor()).await;
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
        let outcome = store.token(unknown).await;
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
    }
}

pub(crate) async fn tokens_are_listed_page_by_page(bench: Bench) {
    let store = bench.open().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(token(&store, &wanted(Role::Viewer)).await.1.id);
    }
    let mut request = PageRequest {
        after: None,
        limit: 2,
    };
    let mut seen = Vec::new();
    loop {
        let page = store
            .tokens(&TokenFilter::default(), &request, |_| true)
            .await
            .unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|one| one.id));
        match page.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, made);
    request.after = Some("a\0b".into());
    let odd = store.tokens(&TokenFilter::default(), &request, |_| true).await;
    assert!(
        matches!(odd, Err(StoreError::Invalid { field: "after", .. })),
        "{odd:?}"
    );
}

pub(crate) async fn last_use_is_noted_at_most_once_a_minute_and_never_goes_back(bench: Bench) {
    let store = bench.open().await;
    let (_, made) = token(&store, &wanted(Role::Viewer)).await;
    let used = async |at: Timestamp| {
        store
            .touch_tokens(&[(made.id.clone(), at), ("tok_gone".into(), at)])
            .await
            .unwrap();
        store.token(&made.id).await.unwrap().last_used_at.unwrap()
    };
    let first = in_seconds(-600);
    let micros = |at: Timestamp| at.as_microsecond();
    assert_eq!(micros(used(first).await), micros(first));
    assert_eq!(
        micros(used(in_seconds(-541)).await),
        micros(first),
        "within the minute"
    );
    assert_eq!(
        micros(used(in_seconds(-900)).await),
        micros(first),
        "earlier than known"
    );
    let later = in_seconds(-300);
    assert_eq!(micros(used(later).await), micros(later));
    assert!(
        used(in_seconds(900)).await <= Timestamp::now(),
        "a caller's clock is ahead"
    );
    store.touch_tokens(&[]).await.unwrap();
}

pub(crate) async fn a_claim_is_a_use_of_the_token_that_was_shown_for_it(bench: Bench) {
    let store = bench.open().await;
    let (_, made) = token(&store, &wanted(Role::Runner)).await;
    let used = async || store.token(&made.id).await.unwrap().last_used_at;
    assert_eq!(used().await, None);
    let mut late = claim("job_a", &["10.0.0.1"]);
    late.granted = true;
    late.lease.token_id = Some(made.id.as_str().into());
    late.lease.started_at = in_seconds(-600);
    claimed(&store, &late).await;
    let first = late.lease.started_at.as_microsecond();
    assert_eq!(
        used().await.unwrap().as_microsecond(),
        first,
        "when it was shown, not when control heard of it"
    );
    let mut now = claim("job_b", &["10.0.0.2"]);
    now.lease.token_id.clone_from(&late.lease.token_id);
    claimed(&store, &now).await;
    assert!(used().await.unwrap().as_microsecond() > first);
}

pub(crate) async fn only_a_living_admin_without_limits_is_one(bench: Bench) {
    let store = bench.open().await;
    assert!(!store.has_admin().await.unwrap());
    token(&store, &wanted(Role::Editor)).await;
    let limited = NewToken {
        owners: vec!["acme".into()],
        ..wanted(Role::Admin)
    };
    token(&store, &limited).await;
    assert!(!store.has_admin().await.unwrap());
    let (_, admin) = token(&store, &wanted(Role::Admin)).await;
    assert!(store.has_admin().await.unwrap());
    store.revoke_token(&admin.id, &actor()).await.unwrap();
    assert!(!store.has_admin().await.unwrap());
}
