//! The audit log: append-only in the database, tamper-evident by its chain.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate_control::model::{Actor, PageRequest};
use tidegate_control::store::chain::{Broken, Head, verify};
use tidegate_control::store::{AuditDraft, AuditFilter, Backend, Store, StoreError};
use tidegate_control_wire::id::new_id;

use crate::bench::Bench;
use crate::fixture::{NASTY, actor, in_seconds};

async fn enter(store: &Store, owner: &'static str, detail: Value, fail: bool) -> Result<(), StoreError> {
    let work = store.db().write(move |tx| {
        Box::pin(async move {
            let draft = AuditDraft {
                action: "test.done",
                owner,
                target: "a\u{1b}[31mthing".to_owned(),
                policy_id: None,
                detail,
            };
            tx.audit(draft, &actor()).await?;
            if fail { Err(StoreError::Busy) } else { Ok(()) }
        })
    });
    work.await
}

async fn sql(store: &Store, statement: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(store.db().read()).await.map(drop)
}

/// What somebody with the database's own password can do.
async fn unguarded(store: &Store) {
    let statements: &[&'static str] = match store.db().backend() {
        Backend::Sqlite => &[
            "DROP TRIGGER audit_log_stays",
            "DROP TRIGGER audit_log_grows",
            "DROP TRIGGER audit_log_follows",
        ],
        Backend::Postgres => &["DROP TRIGGER audit_log_stays ON audit_log"],
    };
    for statement in statements {
        sql(store, statement).await.unwrap();
    }
}

pub(crate) async fn entries_of_many_writers_are_one_chain_without_gaps(bench: Bench) {
    let stores = [bench.open().await, bench.open().await];
    let writers = (0..200).map(|at| enter(&stores[at % 2], "acme", json!({ "at": at }), at % 5 == 0));
    let done = join_all(writers).await.into_iter().flatten().count();
    assert_eq!(done, 160);
    let page = PageRequest {
        after: None,
        limit: 1_000,
    };
    let log = stores[0].audit_log(None, &page, false).await.unwrap();
    let head = verify(&log.items).unwrap();
    assert_eq!(head.seq, 160);
    assert_eq!(stores[1].verify_audit(None).await.unwrap(), Ok(head));
    let entry = &log.items[0];
    assert_eq!(entry.target, "a\u{fffd}[31mthing");
    assert_eq!(entry.actor, actor());
}

pub(crate) async fn the_log_is_read_from_either_end_in_pages_and_by_owner(bench: Bench) {
    let store = bench.open().await;
    for at in 0..250 {
        let owner = if at % 2 == 0 { "acme" } else { "" };
        enter(&store, owner, json!({}), false).await.unwrap();
    }
    for (owner, newest_first, wanted) in [
        (None, false, (1..=250).collect::<Vec<u64>>()),
        (None, true, (1..=250).rev().collect()),
        (
            Some("ACME"),
            true,
            (1..=250).rev().filter(|seq| seq % 2 == 1).collect(),
        ),
    ] {
        let mut page = PageRequest {
            after: None,
            limit: 60,
        };
        let mut seen = Vec::new();
        loop {
            let part = store.audit_log(owner, &page, newest_first).await.unwrap();
            seen.extend(part.items.into_iter().map(|entry| entry.seq));
            page.after = part.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(seen, wanted);
    }
    for wrong in ["-1", "x", "1.5", "\0", "99999999999999999999"] {
        let page = PageRequest {
            after: Some(wrong.into()),
            limit: 0,
        };
        let error = store.audit_log(None, &page, true).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid { field: "after", .. }),
            "{error}"
        );
    }
    let unknown = store
        .history("pol_0000000000000000000000000a", &PageRequest::default())
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn the_log_is_asked_by_who_what_to_what_and_when(bench: Bench) {
    let store = bench.open().await;
    let person = |subject: &str, token: Option<&str>| Actor {
        subject: subject.into(),
        token_id: token.map(str::to_owned),
        via: if token.is_some() { "ui" } else { "system" }.into(),
    };
    let session = new_id("ses");
    let did = [
        (
            person("ada", Some(&session)),
            "policy.updated",
            "policy acme/base",
        ),
        (person("ada", None), "policy.created", "policy acme/other"),
        (person("bo", None), "policy.updated", "policy acme/base"),
        (person("bo", None), "policies.odd", "policy acme_base"),
        (person("%", None), "set.written", "endpoint set acme/\u{1f680}"),
    ];
    for (actor, action, target) in did.clone() {
        let work = store.db().write(move |tx| {
            Box::pin(async move {
                let draft = AuditDraft {
                    action,
                    owner: "acme",
                    target: target.to_owned(),
                    policy_id: None,
                    detail: json!({}),
                };
                tx.audit(draft, &actor).await
            })
        });
        work.await.unwrap();
    }
    let ask = async |change: &dyn Fn(&mut AuditFilter)| {
        let mut filter = AuditFilter::default();
        change(&mut filter);
        let mut seen = [Vec::new(), Vec::new()];
        for (newest_first, seen) in [false, true].into_iter().zip(&mut seen) {
            let mut page = PageRequest {
                after: None,
                limit: 1,
            };
            loop {
                let part = store.audit_entries(&filter, &page, newest_first).await.unwrap();
                seen.extend(part.items.into_iter().map(|one| one.seq));
                match part.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
        seen[1].reverse();
        assert_eq!(seen[0], seen[1], "{filter:?}: from either end");
        seen[0].clone()
    };
    assert_eq!(ask(&|_| {}).await, [1, 2, 3, 4, 5]);
    assert_eq!(ask(&|filter| filter.actor = Some("ada".into())).await, [1, 2]);
    assert_eq!(ask(&|filter| filter.actor = Some(session.clone())).await, [1]);
    assert_eq!(
        ask(&|filter| filter.actor = Some("%".into())).await,
        [5],
        "no pattern"
    );
    assert_eq!(ask(&|filter| filter.via = Some("ui".into())).await, [1]);
    assert_eq!(
        ask(&|filter| filter.action = Some("policy.updated".into())).await,
        [1, 3]
    );
    assert_eq!(
        ask(&|filter| filter.action = Some("policy.*".into())).await,
        [1, 2, 3]
    );
    assert_eq!(
        ask(&|filter| filter.action = Some("*".into())).await,
        [1, 2, 3, 4, 5]
    );
    assert_eq!(
        ask(&|filter| filter.target = Some("policy acme/*".into())).await,
        [1, 2, 3]
    );
    assert_eq!(
        ask(&|filter| filter.target = Some("policy acme_base".into())).await,
        [4]
    );
    assert_eq!(
        ask(&|filter| filter.target = Some("endpoint set acme/*".into())).await,
        [5]
    );
    let both = ask(&|filter| {
        filter.actor = Some("bo".into());
        filter.action = Some("policy.*".into());
    });
    assert_eq!(both.await, [3]);
    assert_eq!(ask(&|filter| filter.owner = Some("ACME".into())).await.len(), 5);
    let past = |filter: &mut AuditFilter| filter.until = Some(in_seconds(-300));
    assert_eq!(ask(&past).await, [0; 0]);
    let future = |filter: &mut AuditFilter| filter.since = Some(in_seconds(300));
    assert_eq!(ask(&future).await, [0; 0]);
    let now = |filter: &mut AuditFilter| {
        filter.since = Some(in_seconds(-300));
        filter.until = Some(in_seconds(300));
    };
    assert_eq!(ask(&now).await, [1, 2, 3, 4, 5]);
    for nasty in NASTY.iter().filter(|text| !text.contains('\0')) {
        assert_eq!(ask(&|filter| filter.target = Some((*nasty).into())).await, [0; 0]);
    }
    let nul = AuditFilter {
        actor: Some("a\0b".into()),
        ..AuditFilter::default()
    };
    let odd = store.audit_entries(&nul, &PageRequest::default(), true).await;
    assert!(
        matches!(odd, Err(StoreError::Invalid { field: "actor", .. })),
        "{odd:?}"
    );
}

pub(crate) async fn the_database_refuses_to_change_the_log(bench: Bench) {
    let store = bench.open().await;
    for _ in 0..3 {
        enter(&store, "acme", json!({}), false).await.unwrap();
    }
    let replace = "INSERT INTO audit_log SELECT seq, at, 'x', token_id, via, action, owner, target, policy_id, detail, \
                   previous, hash FROM audit_log WHERE seq = 2";
    let mut statements = vec![
        "UPDATE audit_log SET subject = 'mallory' WHERE seq = 2",
        "DELETE FROM audit_log WHERE seq = 3",
        "DELETE FROM audit_log",
        replace,
    ];
    match store.db().backend() {
        Backend::Sqlite => statements.push(
            "INSERT OR REPLACE INTO audit_log SELECT seq, at, 'x', token_id, via, action, owner, target, policy_id, \
             detail, previous, hash FROM audit_log WHERE seq = 2",
        ),
        Backend::Postgres => statements.push("TRUNCATE audit_log"),
    }
    for statement in statements {
        assert!(sql(&store, statement).await.is_err(), "{statement}");
    }
    assert_eq!(store.verify_audit(None).await.unwrap().unwrap().seq, 3);
}

pub(crate) async fn tampering_below_the_database_breaks_the_chain(bench: Bench) {
    let store = bench.open().await;
    for at in 0..150 {
        enter(&store, "acme", json!({ "at": at }), false).await.unwrap();
    }
    let whole = store.verify_audit(None).await.unwrap().unwrap();
    unguarded(&store).await;
    let broken = |remembered: Option<Head>| {
        let store = store.clone();
        async move { store.verify_audit(remembered).await.unwrap() }
    };
    for (statement, undo, wanted) in [
        (
            "UPDATE audit_log SET subject = 'mallory' WHERE seq = 120",
            "UPDATE audit_log SET subject = 'ada' WHERE seq = 120",
            Broken::Edited { seq: 120 },
        ),
        (
            "UPDATE audit_log SET at = at + 1 WHERE seq = 1",
            "UPDATE audit_log SET at = at - 1 WHERE seq = 1",
            Broken::Edited { seq: 1 },
        ),
        (
            "UPDATE audit_log SET detail = 'no JSON' WHERE seq = 120",
            "UPDATE audit_log SET detail = '{\"at\":119}' WHERE seq = 120",
            Broken::Edited { seq: 120 },
        ),
        (
            "UPDATE audit_log SET seq = -seq WHERE seq = 50",
            "UPDATE audit_log SET seq = 50 WHERE seq = -50",
            Broken::Order {
                expected: 1,
                found: u64::MAX - 49,
            },
        ),
        (
            "UPDATE audit_log SET seq = 1000 WHERE seq = 50",
            "UPDATE audit_log SET seq = 50 WHERE seq = 1000",
            Broken::Order {
                expected: 50,
                found: 51,
            },
        ),
        (
            "UPDATE audit_log SET policy_id = '' WHERE seq = 7",
            "UPDATE audit_log SET policy_id = NULL WHERE seq = 7",
            Broken::Edited { seq: 7 },
        ),
    ] {
        sql(&store, statement).await.unwrap();
        assert_eq!(broken(None).await, Err(wanted), "{statement}");
        sql(&store, undo).await.unwrap();
        assert_eq!(broken(None).await, Ok(whole.clone()), "{undo}");
    }
    sql(&store, "DELETE FROM audit_log WHERE seq > 140")
        .await
        .unwrap();
    assert_eq!(broken(None).await.unwrap().seq, 140, "consistent in itself");
    assert_eq!(
        broken(Some(whole)).await,
        Err(Broken::Truncated {
            remembered: 150,
            found: 140
        })
    );
}

pub(crate) async fn an_entry_never_is_why_an_operation_fails(bench: Bench) {
    let store = bench.open().await;
    let large = "x".repeat(1 << 20);
    enter(&store, "acme", json!({ "large": large }), false)
        .await
        .unwrap();
    let stranger = Actor {
        subject: "\0".repeat(10_000),
        token_id: None,
        via: String::new(),
    };
    store
        .create_policy("acme", "base", "egress-policy: audit\n", &stranger)
        .await
        .unwrap();
    let log = store
        .audit_log(None, &PageRequest::default(), false)
        .await
        .unwrap();
    assert_eq!(log.items[0].detail, json!({ "left_out_bytes": (1 << 20) + 12 }));
    assert_eq!(log.items[1].actor.subject.chars().count(), 300);
    assert!(verify(&log.items).is_ok());
}
