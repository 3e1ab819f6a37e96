//! Sessions: what they come of, how many there are, how they end.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_control::model::{NewSession, NewToken, PageRequest, Proven, Token, TokenFilter, TokenKind};
use tidegate_control::store::{Retention, Store, StoreError};
use tidegate_control_wire::secret::{Role, Secret};

use crate::bench::Bench;
use crate::fixture::{NASTY, actor, in_seconds, token, wanted};

/// Sessions of one token or person at most.
const MOST: usize = 50;

fn by_token(parent: &Token) -> NewSession {
    NewSession {
        proven: Proven::Token(parent.id.clone()),
        expires_at: in_seconds(3600),
    }
}

fn by_person(subject: &str) -> NewSession {
    NewSession {
        proven: Proven::Person {
            person: format!("https://id.example|{subject}"),
            name: " Ada\u{7} L. ".into(),
            role: Role::Editor,
            owners: vec!["Beta".into(), "acme".into(), "ACME".into()],
        },
        expires_at: in_seconds(3600),
    }
}

async fn made(store: &Store, wanted: &NewSession) -> Result<(Secret, Token, u64), StoreError> {
    let secret = Secret::session(Role::Viewer);
    let (session, displaced) = store.create_session(wanted, &secret.digest(), "ui").await?;
    Ok((secret, session, displaced))
}

async fn listed(store: &Store, kind: TokenKind, living: Option<bool>) -> Vec<String> {
    let filter = TokenFilter {
        kind,
        living,
        ..TokenFilter::default()
    };
    let request = PageRequest {
        after: None,
        limit: 1_000,
    };
    let page = store.tokens(&filter, &request, |_| true).await.unwrap();
    page.items.into_iter().map(|one| one.id).collect()
}

async fn actions(store: &Store) -> Vec<String> {
    let audit = store
        .audit_log(None, &PageRequest::default(), false)
        .await
        .unwrap();
    audit.items.into_iter().map(|one| one.action).collect()
}

pub(crate) async fn a_session_is_listed_apart_and_ends_with_its_token(bench: Bench) {
    let store = bench.open().await;
    let limited = NewToken {
        owners: vec!["acme".into()],
        expires_at: Some(in_seconds(600)),
        ..wanted(Role::Editor)
    };
    let (_, parent) = token(&store, &limited).await;
    let (secret, session, displaced) = made(&store, &by_token(&parent)).await.unwrap();
    assert_eq!((session.kind, displaced), (TokenKind::Session, 0));
    assert_eq!(
        (session.role, session.owners.as_slice()),
        (Role::Editor, parent.owners.as_slice())
    );
    assert_eq!(
        (&session.name, session.parent.as_deref()),
        (&parent.name, Some(parent.id.as_str()))
    );
    assert_eq!(
        session.expires_at, parent.expires_at,
        "it does not outlive its token"
    );
    assert_eq!(
        store.token_by_digest(&secret.digest()).await.unwrap(),
        Some(session.clone())
    );
    let tokens = listed(&store, TokenKind::Token, None).await;
    assert_eq!(tokens, std::slice::from_ref(&parent.id));
    let living = listed(&store, TokenKind::Session, Some(true)).await;
    assert_eq!(living, std::slice::from_ref(&session.id));
    assert_eq!(store.db().newest().borrow().0, 0, "gateways never hear of it");

    let (_, other, _) = made(&store, &by_token(&parent)).await.unwrap();
    let ended = store.end_session(&other.id, &actor()).await.unwrap();
    assert!(ended.revoked_at.is_some());
    assert_eq!(
        store.end_session(&other.id, &actor()).await.unwrap(),
        ended,
        "once"
    );
    let outcome = store.end_session(&parent.id, &actor()).await;
    assert!(
        matches!(outcome, Err(StoreError::NotFound { .. })),
        "a token is no session"
    );
    store.revoke_token(&parent.id, &actor()).await.unwrap();
    let session = store.token(&session.id).await.unwrap();
    assert!(session.revoked_at.is_some(), "{session:?}");
    assert_eq!(store.token(&other.id).await.unwrap().revoked_at, ended.revoked_at);
    assert_eq!(listed(&store, TokenKind::Session, Some(true)).await, [""; 0]);
    assert_eq!(listed(&store, TokenKind::Session, Some(false)).await.len(), 2);
    assert_eq!(
        actions(&store).await,
        [
            "token.created",
            "session.created",
            "session.created",
            "session.ended",
            "token.revoked"
        ]
    );
}

pub(crate) async fn a_person_has_a_session_of_its_own(bench: Bench) {
    let store = bench.open().await;
    let (_, session, _) = made(&store, &by_person("7")).await.unwrap();
    assert_eq!(session.name, "Ada\u{fffd} L.");
    assert_eq!(session.owners, ["acme", "beta"]);
    assert_eq!((session.role, session.parent.as_deref()), (Role::Editor, None));
    assert_eq!(session.person.as_deref(), Some("https://id.example|7"));
    let log = store
        .audit_log(None, &PageRequest::default(), true)
        .await
        .unwrap();
    let entry = &log.items[0];
    assert_eq!(
        (entry.actor.token_id.as_deref(), entry.actor.via.as_str()),
        (None, "ui")
    );
    assert_eq!(entry.detail["person"], "https://id.example|7");
    let odd = NewSession {
        proven: Proven::Person {
            person: "https://id.example|8".into(),
            name: "x".into(),
            role: Role::Viewer,
            owners: vec!["a/b".into()],
        },
        expires_at: in_seconds(60),
    };
    let outcome = made(&store, &odd).await.map(|made| made.1);
    assert!(
        matches!(outcome, Err(StoreError::Invalid { field: "owner", .. })),
        "{outcome:?}"
    );
    for nasty in NASTY {
        let outcome = store.end_session(nasty, &actor()).await;
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
    }
}

pub(crate) async fn what_is_not_good_any_more_makes_no_session(bench: Bench) {
    let store = bench.open().await;
    let (_, parent) = token(&store, &wanted(Role::Viewer)).await;
    let (_, session, _) = made(&store, &by_token(&parent)).await.unwrap();
    let outcome = made(&store, &by_token(&session)).await.map(|made| made.1);
    assert!(
        matches!(outcome, Err(StoreError::Invalid { field: "token", .. })),
        "{outcome:?}"
    );
    for role in [Role::Runner, Role::Gateway, Role::Provisioner] {
        let (_, machine) = token(&store, &wanted(role)).await;
        let outcome = made(&store, &by_token(&machine)).await.map(|made| made.1);
        assert!(
            matches!(outcome, Err(StoreError::Invalid { field: "role", .. })),
            "{outcome:?}"
        );
    }
    let late = NewSession {
        expires_at: in_seconds(-1),
        ..by_token(&parent)
    };
    let outcome = made(&store, &late).await.map(|made| made.1);
    assert!(
        matches!(
            outcome,
            Err(StoreError::Invalid {
                field: "expires_at",
                ..
            })
        ),
        "{outcome:?}"
    );
    store.revoke_token(&parent.id, &actor()).await.unwrap();
    for gone in [parent.id.as_str(), "tok_none", ""] {
        let wanted = NewSession {
            proven: Proven::Token(gone.into()),
            expires_at: in_seconds(60),
        };
        let outcome = made(&store, &wanted).await.map(|made| made.1);
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
    }
    assert_eq!(listed(&store, TokenKind::Session, Some(true)).await, [""; 0]);
}

pub(crate) async fn one_session_too_many_ends_the_oldest(bench: Bench) {
    let store = bench.open().await;
    let (_, parent) = token(&store, &wanted(Role::Viewer)).await;
    let mut ids = Vec::new();
    for _ in 0..MOST {
        let (_, session, displaced) = made(&store, &by_token(&parent)).await.unwrap();
        assert_eq!(displaced, 0);
        ids.push(session.id);
    }
    let (_, person, displaced) = made(&store, &by_person("1")).await.unwrap();
    assert_eq!(displaced, 0, "a person's own");
    let (_, last, displaced) = made(&store, &by_token(&parent)).await.unwrap();
    assert_eq!(displaced, 1);
    ids.push(person.id);
    ids.push(last.id);
    assert_eq!(listed(&store, TokenKind::Session, Some(true)).await, ids[1..]);
    for _ in 0..MOST {
        made(&store, &by_person("1")).await.unwrap();
    }
    let living = listed(&store, TokenKind::Session, Some(true)).await;
    assert_eq!(living.len(), 2 * MOST);
}

pub(crate) async fn of_a_login_and_the_end_of_its_token_at_once_none_is_left_over(bench: Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    for _ in 0..10 {
        let (_, parent) = token(&one, &wanted(Role::Viewer)).await;
        let (session, me) = (by_token(&parent), actor());
        let (made, revoked) = tokio::join!(made(&one, &session), two.revoke_token(&parent.id, &me));
        revoked.unwrap();
        if let Ok((_, session, _)) = made {
            let session = one.token(&session.id).await.unwrap();
            assert!(session.revoked_at.is_some(), "{session:?}");
        }
    }
    assert_eq!(listed(&one, TokenKind::Session, Some(true)).await, [""; 0]);
}

pub(crate) async fn a_session_is_no_admin_and_is_forgotten_after_a_day(bench: Bench) {
    let store = bench.open().await;
    let (_, admin) = token(&store, &wanted(Role::Admin)).await;
    let person = NewSession {
        proven: Proven::Person {
            person: "https://id.example|1".into(),
            name: "ada".into(),
            role: Role::Admin,
            owners: Vec::new(),
        },
        expires_at: in_seconds(3600),
    };
    let (_, session, _) = made(&store, &person).await.unwrap();
    store.revoke_token(&admin.id, &actor()).await.unwrap();
    assert!(!store.has_admin().await.unwrap(), "a session is gone tomorrow");
    store.end_session(&session.id, &actor()).await.unwrap();
    let kept = store.prune(Retention::default()).await.unwrap();
    assert_eq!((kept.tokens, kept.sessions), (0, 0));
    let sql = "UPDATE tokens SET revoked_at = revoked_at - $1";
    let day = i64::try_from(Duration::from_hours(25).as_micros()).unwrap();
    sqlx::query(sql)
        .bind(day)
        .execute(store.db().read())
        .await
        .unwrap();
    let gone = store.prune(Retention::default()).await.unwrap();
    assert_eq!((gone.tokens, gone.sessions), (0, 1), "tokens are kept longer");
    assert_eq!(listed(&store, TokenKind::Token, None).await, [admin.id]);
    assert!(Timestamp::now() > session.created_at);
}
