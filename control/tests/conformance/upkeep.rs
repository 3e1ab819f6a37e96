//! What the store knows of itself, forgets, and gives away as a copy; gateways and issuers.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tidegate_control::model::{NewToken, PageRequest};
use tidegate_control::store::{Backend, MetaKey, Retention, Store, StoreError};
use tidegate_control_wire::claim::{EndedBy, OnceProof};
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_control_wire::oidc::{Issuer, JwkSet};
use tidegate_control_wire::record::Ending;
use tidegate_control_wire::secret::Role;
use tidegate_policy::effective::Generation;

use crate::bench::Bench;
use crate::fixture::{actor, claim, claimed, end, in_seconds, token, wanted};
use crate::ingest;
use crate::reader::{Reader, snapshot, whole};

pub(crate) async fn an_epoch_is_made_once(bench: Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    let (mine, theirs) = tokio::join!(one.epoch(), two.epoch());
    let epoch = mine.unwrap();
    assert_eq!(theirs.unwrap(), epoch);
    drop((one, two));
    assert_eq!(bench.open().await.epoch().await.unwrap(), epoch);
    assert!(epoch.len() > 20, "{epoch}");
}

pub(crate) async fn single_values_are_kept(bench: Bench) {
    let store = bench.open().await;
    assert_eq!(store.feed_checked_at().await.unwrap(), None);
    let at = in_seconds(-60);
    store.set_feed_checked_at(at).await.unwrap();
    let known = store.feed_checked_at().await.unwrap().unwrap();
    assert_eq!(known.as_microsecond(), at.as_microsecond());
    assert_eq!(store.meta(MetaKey::FeedSerial).await.unwrap(), None);
    for serial in ["1", "2"] {
        store.set_meta(MetaKey::FeedSerial, serial).await.unwrap();
        assert_eq!(
            store.meta(MetaKey::FeedSerial).await.unwrap().as_deref(),
            Some(serial)
        );
    }
    assert_eq!(store.db().newest().borrow().0, 0, "no business of gateways");
}

fn hello(name: &str, version: &str) -> Hello {
    Hello {
        protocol: 1,
        gateway: name.into(),
        group: Some("zone-a".into()),
        version: version.into(),
        networks: vec![ServedNetwork {
            name: "runners".into(),
            cluster: "prod".into(),
            ranges: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ..ServedNetwork::default()
        }],
        resume: None,
    }
}

pub(crate) async fn gateways_are_remembered_as_they_were_last_seen(bench: Bench) {
    let store = bench.open().await;
    let second = hello("gw-2", "1.0");
    let first = hello("gw-1", "1.0");
    store
        .gateway_seen(&second, "gateway:gw-2", Generation(0))
        .await
        .unwrap();
    store
        .gateway_seen(&first, "group:zone-a", Generation(3))
        .await
        .unwrap();
    let before = store.gateways().await.unwrap();
    store
        .gateway_seen(&hello("gw-1", "1.1"), "group:zone-b", Generation(7))
        .await
        .unwrap();
    let after = store.gateways().await.unwrap();
    let names: Vec<_> = after.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["gw-1", "gw-2"]);
    let one = &after[0];
    assert_eq!(
        (one.group.as_str(), one.version.as_str(), one.generation),
        ("group:zone-b", "1.1", 7)
    );
    assert_eq!(
        (one.networks.as_slice(), one.connected),
        (first.networks.as_slice(), false)
    );
    assert_eq!(one.first_seen_at, before[0].first_seen_at);
    assert!(one.last_seen_at >= before[0].last_seen_at);
    assert_eq!(after[1], before[1]);
}

/// Many gateways at as many positions are told by one walk, few by themselves: both say the same.
pub(crate) async fn since_when_gateways_are_behind_is_told_alike_of_few_and_of_many(bench: Bench) {
    let store = bench.open().await;
    for n in 0..60_u64 {
        let hello = hello(&format!("gw-{n:02}"), "1.0");
        let group = format!("gateway:gw-{n:02}");
        store.gateway_seen(&hello, &group, Generation(n)).await.unwrap();
        let issuer = Issuer {
            issuer: format!("https://{n}.example"),
            audience: "tidegate".into(),
            owners: Vec::new(),
            jwks: JwkSet { keys: Vec::new() },
        };
        store.put_issuer(&issuer, &actor()).await.unwrap();
    }
    let mut many = store.gateways().await.unwrap();
    let now = in_seconds(0);
    store.tell_of_gateways(&mut many, now).await.unwrap();
    assert!(many.iter().all(|one| one.behind_since.is_some()));
    assert!(many.is_sorted_by_key(|one| one.behind_since));
    for few in many.chunks(7) {
        let mut again = few.to_vec();
        for one in &mut again {
            one.behind_since = None;
        }
        store.tell_of_gateways(&mut again, now).await.unwrap();
        assert_eq!(again, few);
    }
}

pub(crate) async fn an_issuer_is_written_when_it_is_another(bench: Bench) {
    let store = bench.open().await;
    let issuer = |url: &str, audience: &str| Issuer {
        issuer: url.into(),
        audience: audience.into(),
        owners: Vec::new(),
        jwks: JwkSet { keys: Vec::new() },
    };
    let (one, two) = (
        issuer("https://one.example", "tidegate"),
        issuer("https://two.example", "tidegate"),
    );
    assert!(store.put_issuer(&two, &actor()).await.unwrap());
    assert!(store.put_issuer(&one, &actor()).await.unwrap());
    let at = *store.db().newest().borrow();
    assert!(!store.put_issuer(&one, &actor()).await.unwrap(), "nothing new");
    assert_eq!(*store.db().newest().borrow(), at);
    assert_eq!(store.issuers().await.unwrap(), [one.clone(), two]);
    let other = issuer("https://two.example", "other");
    assert!(store.put_issuer(&other, &actor()).await.unwrap());
    store
        .remove_issuers_except(std::slice::from_ref(&other.issuer), &actor())
        .await
        .unwrap();
    assert_eq!(store.issuers().await.unwrap(), std::slice::from_ref(&other));
    let at = *store.db().newest().borrow();
    store
        .remove_issuers_except(std::slice::from_ref(&other.issuer), &actor())
        .await
        .unwrap();
    assert_eq!(*store.db().newest().borrow(), at);
    let audit = store
        .audit_log(None, &PageRequest::default(), false)
        .await
        .unwrap();
    let actions: Vec<_> = audit.items.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(
        actions,
        ["issuer.added", "issuer.added", "issuer.updated", "issuer.removed"]
    );
}

pub(crate) async fn only_what_nobody_needs_is_forgotten(bench: Bench) {
    let store = bench.open().await;
    let proof = |key: &str, seconds| {
        Some(OnceProof {
            issuer: "https://issuer.example".into(),
            key: key.into(),
            expires_at: in_seconds(seconds),
        })
    };
    let mut one = claim("job_1", &["10.0.0.1"]);
    (one.proof, one.granted) = (proof("over", -5), true);
    claimed(&store, &one).await;
    let mut two = claim("job_2", &["10.0.0.2"]);
    two.proof = proof("good", 600);
    claimed(&store, &two).await;
    store
        .end_job("job_1", None, &end(EndedBy::Job, Ending::Release))
        .await
        .unwrap();
    for name in ["a.example", "b.example"] {
        let entry = store.add_block_entry(name, "x", None, &actor()).await.unwrap();
        store.remove_block_entry(&entry.id, &actor()).await.unwrap();
    }
    store
        .add_block_entry("c.example", "x", None, &actor())
        .await
        .unwrap();

    let kept = store.prune(Retention::default()).await.unwrap();
    assert_eq!(
        (kept.changes, kept.jobs, kept.proofs, kept.block_entries),
        (0, 0, 1, 0)
    );
    let (before, _) = snapshot(&store, "a").await;
    let all = Retention {
        changes: Duration::ZERO,
        jobs: Duration::ZERO,
        seen: Duration::ZERO,
    };
    let forgotten = store.prune(all).await.unwrap();
    assert_eq!(
        (
            forgotten.changes,
            forgotten.jobs,
            forgotten.proofs,
            forgotten.block_entries
        ),
        (7, 1, 0, 2)
    );
    let (after, of) = snapshot(&store, "a").await;
    assert_eq!(
        (whole(&after), of.0),
        (whole(&before), 8),
        "nothing that is in force"
    );
    let mut again = claim("job_3", &["10.0.0.3"]);
    again.proof = two.proof;
    assert!(
        store.claim(&again, "a", "gw-1").await.is_err(),
        "the proof is still spent"
    );
    assert!(store.job("job_2").await.is_ok());
}

pub(crate) async fn tokens_and_gateways_are_forgotten_long_after_their_end(bench: Bench) {
    let store = bench.open().await;
    let (_, kept) = token(&store, &wanted(Role::Runner)).await;
    let (_, revoked) = token(&store, &wanted(Role::Runner)).await;
    store.revoke_token(&revoked.id, &actor()).await.unwrap();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(200);
    let brief = NewToken {
        expires_at: Some(soon),
        ..wanted(Role::Runner)
    };
    let (_, expired) = token(&store, &brief).await;
    store
        .gateway_seen(&hello("gw-1", "1.0"), "group:a", Generation(0))
        .await
        .unwrap();
    let over = async || {
        while jiff::Timestamp::now() <= soon {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), over())
        .await
        .unwrap();
    let mut reader = Reader::new("a", 100);
    reader.catch_up(&store).await;
    assert_eq!(reader.mirror().credentials().tokens().count(), 2);

    let none = store.prune(Retention::default()).await.unwrap();
    assert_eq!((none.tokens, none.gateways), (0, 0));
    let forgotten = store.prune(Duration::ZERO).await.unwrap();
    assert_eq!((forgotten.tokens, forgotten.gateways), (2, 1));
    for id in [revoked.id, expired.id] {
        assert!(
            matches!(store.token(&id).await, Err(StoreError::NotFound { .. })),
            "{id}"
        );
    }
    assert_eq!(store.token(&kept.id).await.unwrap(), kept);
    reader.catch_up(&store).await;
    assert_eq!(reader.state(), whole(&snapshot(&store, "a").await.0));
    assert_eq!(reader.mirror().credentials().tokens().count(), 1);
}

pub(crate) async fn a_long_log_is_forgotten_in_lots(bench: Bench) {
    let store = bench.open().await;
    let many: i64 = 4_500;
    store
        .db()
        .write(move |tx| {
            Box::pin(async move {
                for at in 0..many {
                    let sql = "INSERT INTO changes (kind, key, group_name, at) VALUES ('policy', $1, '', $2)";
                    sqlx::query(sql)
                        .bind(format!("pol_{at}"))
                        .bind(at)
                        .execute(tx.connection())
                        .await?;
                }
                tx.change(tidegate_control::store::ChangeKind::Policy, "pol_newest")
                    .await
            })
        })
        .await
        .unwrap();
    assert_eq!(store.prune(Duration::ZERO).await.unwrap().changes, many as u64);
    assert_eq!(store.prune(Duration::ZERO).await.unwrap().changes, 0);
}

pub(crate) async fn a_backup_is_another_store_with_the_same_content(bench: Bench) {
    let store = bench.open().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("copy's.db");
    if store.db().backend() == Backend::Postgres {
        let outcome = store.backup(&file).await;
        match outcome {
            Err(StoreError::Conflict { reason }) => assert!(reason.contains("pg_dump"), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(!file.exists());
        return;
    }
    let epoch = store.epoch().await.unwrap();
    token(&store, &wanted(Role::Runner)).await;
    claimed(&store, &claim("job_1", &["10.0.0.1"])).await;
    ingest::ingest(&store, ingest::head(), ingest::entries(1..=3)).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for at in 0..50 {
                claimed(&store, &claim(&format!("job_w{at}"), &[&format!("10.0.1.{at}")])).await;
            }
        })
    };
    store.backup(&file).await.unwrap();
    writer.await.unwrap();
    for file in ["copy's.db", "copy's-events.db"].map(|name| directory.path().join(name)) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|one| one.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["copy's-events.db", "copy's.db"], "nothing is left over");
    // Delivered after the copy: with the copy in its place, the gateway goes on behind it.
    ingest::ingest(&store, ingest::head(), ingest::entries(4..=5)).await;

    let copy = Store::open(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    let (there, _) = snapshot(&copy, "a").await;
    let (here, _) = snapshot(&store, "a").await;
    assert!(
        whole(&there).is_subset(&whole(&here)) && there.len() >= 2,
        "{there:?}"
    );
    assert_ne!(copy.epoch().await.unwrap(), epoch, "gateways begin anew with it");
    assert_eq!(store.epoch().await.unwrap(), epoch);
    copy.verify_audit(None)
        .await
        .unwrap()
        .expect("its chain is whole");
    let next = ingest::ingest(&copy, ingest::head(), ingest::entries(3..=7)).await;
    assert_eq!(next.stored, 7);
    assert_eq!(ingest::names(&copy).await, ingest::named(1..=7));
    claimed(&copy, &claim("job_copy", &["10.9.9.9"])).await;
    assert!(store.job("job_copy").await.is_err());

    let twice = store.backup(&file).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
    let half = store.backup(&directory.path().join("copy's-events.db")).await;
    assert!(matches!(half, Err(StoreError::Conflict { .. })), "{half:?}");
    let nowhere = store.backup(&directory.path().join("no/such/dir.db")).await;
    assert!(matches!(nowhere, Err(StoreError::File { .. })), "{nowhere:?}");
    assert!(
        store
            .token_by_digest(&tidegate_control_wire::secret::digest("x"))
            .await
            .unwrap()
            .is_none()
    );
}
