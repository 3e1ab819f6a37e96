//! Leases: one holder a source, one use a proof, one answer a claim; whoever asks at the same moment.

use tidegate_control::model::NewToken;
use tidegate_control::store::{LeaseFilter, Since, Store, StoreError};
use tidegate_control_wire::claim::{Claim, EndedBy, OnceProof, Refusal};
use tidegate_control_wire::record::{Change, Ending};
use tidegate_control_wire::secret::Role;
use tidegate_policy::effective::Generation;

use crate::bench::Bench;
use crate::fixture::{NASTY, actor, claim, claimed, end, in_seconds, refused, token, wanted};

fn once(key: &str) -> OnceProof {
    OnceProof {
        issuer: "https://issuer.example".into(),
        key: key.into(),
        expires_at: in_seconds(600),
    }
}

/// What gateways of a group are told after a position.
async fn told(store: &Store, after: Generation, group: &str) -> Vec<Change> {
    match store.changes_since(after, group, 1_000).await.unwrap() {
        Since::Page(page) => page.changes,
        Since::TooOld => panic!("{after} is too old"),
    }
}

pub(crate) async fn a_claim_is_recorded_once_and_answered_the_same(bench: Bench) {
    let store = bench.open().await;
    let mut asked = claim("job_1", &["::ffff:10.0.0.1", "fd00::1", "10.0.0.1"]);
    asked.lease.identity.owner = "Acme".into();
    asked.lease.identity.repo = "Web".into();
    asked.proof = Some(once("jti-1"));
    let first = claimed(&store, &asked).await;
    assert!(!first.repeated && first.stands);
    assert_eq!(first.record.began, first.generation);
    assert_eq!(
        first.record.sources,
        [
            "10.0.0.1".parse::<std::net::IpAddr>().unwrap(),
            "fd00::1".parse().unwrap()
        ]
    );
    assert_eq!(first.record.identity.repo, "acme/web");
    assert_eq!(
        told(&store, Generation(0), "a").await,
        [Change::Lease(first.record.clone())]
    );
    assert_eq!(told(&store, Generation(0), "b").await, [], "another group");

    let again = claimed(&store, &asked).await;
    assert!(again.repeated && again.stands);
    assert_eq!(
        (&again.record, again.generation),
        (&first.record, first.generation)
    );
    assert_eq!(
        *store.db().newest().borrow(),
        first.generation,
        "nothing was written"
    );

    assert!(
        store
            .end_job("job_1", Some("a"), &end(EndedBy::Job, Ending::Quarantine))
            .await
            .unwrap()
    );
    let late = claimed(&store, &asked).await;
    assert!(late.repeated && !late.stands);

    let mut other = asked.clone();
    other.lease.identity.job = "deploy".into();
    let (code, detail) = refused(store.claim(&other, "a", "gw-1").await);
    assert_eq!(code, Refusal::Invalid, "{detail}");
    let (code, _) = refused(store.claim(&asked, "b", "gw-1").await);
    assert_eq!(code, Refusal::Invalid, "the id is another group's");
}

pub(crate) async fn a_claim_that_makes_no_sense_is_refused_with_its_field(bench: Bench) {
    let store = bench.open().await;
    let many: Vec<String> = (0..17).map(|at| format!("10.0.0.{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let with = |change: fn(&mut Claim)| {
        let mut one = claim("job_1", &["10.0.0.1"]);
        change(&mut one);
        one
    };
    let wrong = [
        ("sources", claim("job_1", &[])),
        ("sources", claim("job_1", &many)),
        ("id", claim("", &["10.0.0.1"])),
        ("id", with(|one| one.lease.id = "x".repeat(2_000).into())),
        ("network", with(|one| one.lease.network = "".into())),
        (
            "expires_at",
            with(|one| one.lease.expires_at = one.lease.started_at),
        ),
        (
            "expires_at",
            with(|one| {
                one.lease.started_at = in_seconds(-20);
                one.lease.expires_at = in_seconds(-10);
            }),
        ),
        ("replaces", with(|one| one.replaces = vec!["job_0".into(); 65])),
        ("repo", with(|one| one.lease.identity.repo = "acme/a\0b".into())),
        ("ref", with(|one| one.lease.identity.git_ref = "a\nb".into())),
        (
            "head_repo",
            with(|one| one.lease.identity.head_repo = "fork/a\0".into()),
        ),
        ("token_id", with(|one| one.lease.token_id = Some("\u{1}".into()))),
        ("proof", with(|one| one.proof = Some(once(&"k".repeat(2_000))))),
    ];
    for (field, claim) in wrong {
        let (code, detail) = refused(store.claim(&claim, "a", "gw-1").await);
        assert_eq!(code, Refusal::Invalid);
        assert!(detail.starts_with(&format!("{field}: ")), "{field}: {detail}");
    }
    let (_, detail) = refused(store.claim(&claim("job_1", &["10.0.0.1"]), "", "gw-1").await);
    assert!(detail.starts_with("group: "), "{detail}");
    assert_eq!(store.db().newest().borrow().0, 0, "nothing was stored");
}

pub(crate) async fn a_proof_is_good_for_one_job(bench: Bench) {
    let store = bench.open().await;
    let mut one = claim("job_1", &["10.0.0.1"]);
    one.proof = Some(once("jti-1"));
    claimed(&store, &one).await;
    store
        .end_job("job_1", None, &end(EndedBy::Job, Ending::Release))
        .await
        .unwrap();

    let mut two = claim("job_2", &["10.0.0.2"]);
    two.proof = Some(once("jti-1"));
    for group in ["a", "b"] {
        let (code, _) = refused(store.claim(&two, group, "gw-1").await);
        assert_eq!(code, Refusal::Replayed, "{group}");
    }
    // Another issuer's, or another token's.
    two.proof = Some(once("jti-2"));
    claimed(&store, &two).await;
    let mut three = claim("job_3", &["10.0.0.3"]);
    three.proof = Some(OnceProof {
        issuer: "https://other.example".into(),
        ..once("jti-1")
    });
    claimed(&store, &three).await;
    assert!(claimed(&store, &one).await.repeated, "the same job once more");
}

pub(crate) async fn a_token_that_is_not_good_registers_nothing(bench: Bench) {
    let store = bench.open().await;
    let (_, good) = token(&store, &wanted(Role::Runner)).await;
    let (_, revoked) = token(&store, &wanted(Role::Runner)).await;
    store.revoke_token(&revoked.id, &actor()).await.unwrap();
    let brief = NewToken {
        expires_at: Some(jiff::Timestamp::now() + jiff::SignedDuration::from_millis(300)),
        ..wanted(Role::Runner)
    };
    let (_, expired) = token(&store, &brief).await;
    let is_over = async || {
        while jiff::Timestamp::now() <= expired.expires_at.unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), is_over())
        .await
        .unwrap();
    for (at, id) in [revoked.id.as_str(), &expired.id, "tok_unknown", "' OR 1=1"]
        .into_iter()
        .enumerate()
    {
        let mut asked = claim(&format!("job_{at}"), &["10.0.0.1"]);
        asked.lease.token_id = Some(id.into());
        let (code, _) = refused(store.claim(&asked, "a", "gw-1").await);
        assert_eq!(code, Refusal::TokenGone, "{id}");
    }
    let mut asked = claim("job_9", &["10.0.0.1"]);
    asked.lease.token_id = Some(good.id.as_str().into());
    claimed(&store, &asked).await;
    // Granted while control was away: recorded, not judged again.
    let mut away = claim("job_10", &["10.0.0.2"]);
    away.lease.token_id = Some(revoked.id.as_str().into());
    away.granted = true;
    assert!(claimed(&store, &away).await.stands);
}

pub(crate) async fn a_source_is_held_in_its_group_until_replaced_ended_or_expired(bench: Bench) {
    let store = bench.open().await;
    claimed(&store, &claim("job_1", &["10.0.0.1", "fd00::1"])).await;
    let second = claim("job_2", &["10.0.0.9", "::ffff:10.0.0.1"]);
    let (code, detail) = refused(store.claim(&second, "a", "gw-2").await);
    assert_eq!(code, Refusal::Held);
    assert!(
        detail.contains("10.0.0.1") && detail.contains("job_1") && detail.contains("acme/web"),
        "{detail}"
    );
    store
        .claim(&second, "b", "gw-3")
        .await
        .expect("another group's machines");
    store
        .end_job("job_2", Some("b"), &end(EndedBy::Job, Ending::Release))
        .await
        .unwrap();

    let mut third = claim("job_3", &["10.0.0.1"]);
    third.replaces = vec![
        "job_1".into(),
        "job_2".into(),
        "job_unknown".into(),
        "job_3".into(),
    ];
    let before = *store.db().newest().borrow();
    let third = claimed(&store, &third).await;
    assert_eq!(third.ended, ["job_1"]);
    assert_eq!(
        told(&store, before, "a").await,
        [
            Change::LeaseGone {
                id: "job_1".into(),
                ending: Ending::Quarantine,
                sources: Vec::new(),
            },
            Change::Lease(third.record.clone()),
        ],
        "gateways free a source before they give it away"
    );
    let one = store.job("job_1").await.unwrap();
    assert_eq!(one.ended_by, Some(EndedBy::Replaced));
    let at = async |source: &str| {
        let job = store.lease_at(Some("a"), source.parse().unwrap()).await.unwrap();
        job.map(|job| job.lease.id.to_string())
    };
    assert_eq!(at("10.0.0.1").await.as_deref(), Some("job_3"));
    assert_eq!(at("::ffff:10.0.0.1").await.as_deref(), Some("job_3"));
    assert_eq!(at("fd00::1").await, None, "a lease is replaced whole");

    store
        .end_job("job_3", None, &end(EndedBy::Job, Ending::Quarantine))
        .await
        .unwrap();
    claimed(&store, &claim("job_4", &["10.0.0.1"])).await;
}

pub(crate) async fn a_lease_whose_time_is_over_holds_nothing(bench: Bench) {
    let store = bench.open().await;
    let mut brief = claim("job_1", &["10.0.0.1"]);
    brief.granted = true;
    brief.lease.started_at = in_seconds(-60);
    brief.lease.expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(300);
    assert!(claimed(&store, &brief).await.stands);
    let over = async || {
        while jiff::Timestamp::now() <= brief.lease.expires_at {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), over())
        .await
        .unwrap();
    // Nobody has swept yet.
    let next = claimed(&store, &claim("job_2", &["10.0.0.1"])).await;
    assert_eq!(next.ended, ["job_1"]);
    assert_eq!(store.job("job_1").await.unwrap().ended_by, Some(EndedBy::Expiry));
}

pub(crate) async fn what_was_granted_while_control_was_away_stands_when_it_is_the_newer(bench: Bench) {
    let store = bench.open().await;
    let away = |id: &str, source: &str, started: i64| {
        let mut one = claim(id, &[source]);
        one.granted = true;
        one.lease.started_at = in_seconds(started);
        one
    };
    let holder = async |source: &str| {
        let job = store.lease_at(Some("a"), source.parse().unwrap()).await.unwrap();
        job.map(|job| job.lease.id.to_string())
    };
    // Whoever is heard first.
    for (source, order) in [("10.0.0.1", [-30, -20]), ("10.0.0.2", [-20, -30])] {
        for started in order {
            let id = format!("job_{source}_{started}");
            let outcome = claimed(&store, &away(&id, source, started)).await;
            assert_eq!(
                outcome.stands,
                started == -20 || order[0] == -30 && started == -30,
                "{id}"
            );
            assert!(
                claimed(&store, &away(&id, source, started)).await.repeated,
                "{id}"
            );
        }
        assert_eq!(holder(source).await, Some(format!("job_{source}_-20")));
        let old = store.job(&format!("job_{source}_-30")).await.unwrap();
        assert_eq!(old.ended_by, Some(EndedBy::Replaced));
    }
    // Gateways hear of the one that lost, too: one of them gave it away.
    let gone = told(&store, Generation(0), "a").await;
    let gone = |id: &str| {
        gone.iter()
            .any(|one| matches!(one, Change::LeaseGone { id: gone, .. } if gone == id))
    };
    assert!(gone("job_10.0.0.1_-30") && gone("job_10.0.0.2_-30"));

    // Its gateway says that it took the place of one whose clock was ahead.
    let mut later = away("job_later", "10.0.0.1", -25);
    later.replaces = vec!["job_10.0.0.1_-20".into()];
    assert!(claimed(&store, &later).await.stands);

    let mut over = away("job_over", "10.0.0.3", -30);
    over.lease.expires_at = in_seconds(-10);
    assert!(!claimed(&store, &over).await.stands);
    let over = store.job("job_over").await.unwrap();
    assert_eq!(over.ended_by, Some(EndedBy::Expiry));
    assert_eq!(
        over.ended_at.unwrap().as_microsecond(),
        over.lease.expires_at.as_microsecond()
    );
}

pub(crate) async fn an_end_is_told_once_and_a_release_is_told_on(bench: Bench) {
    let store = bench.open().await;
    let began = claimed(&store, &claim("job_1", &["10.0.0.1"])).await;
    let wrong = store
        .end_job("job_1", Some("b"), &end(EndedBy::Job, Ending::Release))
        .await;
    assert!(matches!(wrong, Err(StoreError::NotFound { .. })), "{wrong:?}");
    let mut first = end(EndedBy::Job, Ending::Quarantine);
    first.at = in_seconds(86_400);
    assert!(store.end_job("job_1", Some("a"), &first).await.unwrap());
    let job = store.job("job_1").await.unwrap();
    assert_eq!(job.ended_by, Some(EndedBy::Job));
    assert!(
        job.ended_at.unwrap() <= jiff::Timestamp::now(),
        "a gateway's clock is ahead"
    );
    assert!(job.ended_at.unwrap().as_microsecond() >= job.lease.started_at.as_microsecond());
    let gone = |ending| {
        let sources = match ending {
            Ending::Quarantine => Vec::new(),
            Ending::Release => began.record.sources.clone(),
        };
        [Change::LeaseGone {
            id: "job_1".into(),
            ending,
            sources,
        }]
    };
    assert_eq!(
        told(&store, began.generation, "a").await,
        gone(Ending::Quarantine)
    );

    let left = async |source: &str| {
        let filter = LeaseFilter {
            source: Some(source.parse().unwrap()),
            ..LeaseFilter::default()
        };
        let jobs = store.left_behind(&filter).await.unwrap();
        jobs.iter()
            .map(|job| job.lease.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(left("10.0.0.1").await, ["job_1"]);
    assert_eq!(left("10.0.0.2").await, [""; 0]);
    let after = *store.db().newest().borrow();
    assert!(
        !store
            .end_job("job_1", None, &end(EndedBy::Operator, Ending::Quarantine))
            .await
            .unwrap()
    );
    assert_eq!(told(&store, after, "a").await, []);
    assert!(
        !store
            .end_job("job_1", None, &end(EndedBy::Provisioner, Ending::Release))
            .await
            .unwrap()
    );
    assert_eq!(
        told(&store, after, "a").await,
        gone(Ending::Release),
        "the machine is gone: its address is free"
    );
    assert_eq!(left("10.0.0.1").await, [""; 0]);
    assert!(
        !store
            .end_job("job_1", None, &end(EndedBy::Job, Ending::Quarantine))
            .await
            .unwrap()
    );
    assert_eq!(told(&store, after, "a").await, gone(Ending::Release));
    let job = store.job("job_1").await.unwrap();
    assert_eq!(job.ended_by, Some(EndedBy::Job), "who ended it stays");
    // Once another job has had the source, the word about the first one's machine frees nothing.
    for id in ["job_2", "job_3"] {
        claimed(&store, &claim(id, &["10.0.0.1"])).await;
        assert_eq!(left("10.0.0.1").await, [""; 0], "it is held");
        let quarantine = end(EndedBy::Job, Ending::Quarantine);
        assert!(store.end_job(id, None, &quarantine).await.unwrap());
        assert_eq!(left("10.0.0.1").await, [id]);
    }
    let after = *store.db().newest().borrow();
    let late = end(EndedBy::Provisioner, Ending::Release);
    assert!(!store.end_job("job_2", None, &late).await.unwrap());
    assert_eq!(told(&store, after, "a").await, []);
    assert_eq!(left("10.0.0.1").await, ["job_3"]);
    for unknown in NASTY {
        let outcome = store
            .end_job(unknown, None, &end(EndedBy::Job, Ending::Release))
            .await;
        assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
    }
}

pub(crate) async fn leases_expire_in_lots_and_are_told_to_their_groups(bench: Bench) {
    let store = bench.open().await;
    let mut tasks = Vec::new();
    for at in 0..1_200_u32 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let id = format!("job_{at:04}");
            let mut one = claim(&id, &[&format!("10.0.{}.{}", at / 250, at % 250)]);
            // The last hundred stay.
            one.lease.expires_at = in_seconds(if at < 1_100 { 600 } else { 6_000 });
            let group = if at % 2 == 0 { "a" } else { "b" };
            store.claim(&one, group, "gw-1").await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let before = *store.db().newest().borrow();
    let mut ended = store.expire_jobs(in_seconds(700)).await.unwrap();
    ended.sort_unstable();
    assert_eq!(ended.len(), 1_100);
    assert_eq!(ended.last().map(String::as_str), Some("job_1099"));
    assert_eq!(
        store.expire_jobs(in_seconds(700)).await.unwrap(),
        Vec::<String>::new()
    );
    for group in ["a", "b"] {
        assert_eq!(told(&store, before, group).await.len(), 550, "{group}");
    }
    let job = store.job("job_0000").await.unwrap();
    assert_eq!(job.ended_by, Some(EndedBy::Expiry));
    assert_eq!(
        job.ended_at.unwrap().as_microsecond(),
        job.lease.expires_at.as_microsecond()
    );
    claimed(&store, &claim("job_next", &["10.0.0.0"])).await;
}

pub(crate) async fn of_two_claims_of_one_source_at_once_one_wins(bench: Bench) {
    // Two control planes on one database.
    let (one, two) = (bench.open().await, bench.open().await);
    for round in 0..40 {
        let source = format!("10.0.0.{round}");
        let (mine, theirs) = (
            claim(&format!("job_{round}_1"), &[&source]),
            claim(&format!("job_{round}_2"), &[&source]),
        );
        let (mine, theirs) = tokio::join!(one.claim(&mine, "a", "gw-1"), two.claim(&theirs, "a", "gw-2"));
        let holder = one
            .lease_at(Some("a"), source.parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        match (mine, theirs) {
            (Ok(won), lost) | (lost, Ok(won)) => {
                assert_eq!(refused(lost).0, Refusal::Held);
                assert_eq!(holder.lease, won.record);
            }
            (mine, theirs) => panic!("{mine:?} {theirs:?}"),
        }
    }
}

pub(crate) async fn of_two_uses_of_one_proof_at_once_one_wins(bench: Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    for round in 0..20 {
        let with = |id: String, source: &str| {
            let mut claim = claim(&id, &[source]);
            claim.proof = Some(once(&format!("jti-{round}")));
            claim
        };
        let mine = with(format!("job_{round}_1"), &format!("10.0.1.{round}"));
        let theirs = with(format!("job_{round}_2"), &format!("10.0.2.{round}"));
        let (mine, theirs) = tokio::join!(one.claim(&mine, "a", "gw-1"), two.claim(&theirs, "b", "gw-2"));
        match (mine, theirs) {
            (Ok(_), lost) | (lost, Ok(_)) => assert_eq!(refused(lost).0, Refusal::Replayed),
            (mine, theirs) => panic!("{mine:?} {theirs:?}"),
        }
    }
}

pub(crate) async fn the_end_of_one_and_the_claim_of_the_next_are_in_some_order(bench: Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    let mut now: Option<String> = None;
    for round in 0..40 {
        let next = format!("job_{round}");
        let ending = async {
            match &now {
                Some(id) => one
                    .end_job(id, Some("a"), &end(EndedBy::Job, Ending::Release))
                    .await
                    .map(drop),
                None => Ok(()),
            }
        };
        let asked = claim(&next, &["10.0.0.1"]);
        let (ended, next_one) = tokio::join!(ending, two.claim(&asked, "a", "gw-2"));
        ended.unwrap();
        let holder = two
            .lease_at(Some("a"), "10.0.0.1".parse().unwrap())
            .await
            .unwrap();
        match next_one {
            Ok(claimed) => {
                assert_eq!(holder.map(|job| job.lease), Some(claimed.record));
                now = Some(next);
            }
            refusal @ Err(_) => {
                assert_eq!(refused(refusal).0, Refusal::Held);
                assert_eq!(holder, None, "the end came after it");
                now = None;
            }
        }
    }
}

pub(crate) async fn what_was_answered_is_there_after_a_restart(bench: Bench) {
    let store = bench.open().await;
    let mut asked = Vec::new();
    for (at, nasty) in NASTY.iter().take(7).enumerate() {
        let mut one = claim(&format!("job_{at}"), &[&format!("10.0.0.{at}")]);
        let identity = &mut one.lease.identity;
        (identity.workflow, identity.job, identity.run_id) =
            ((*nasty).into(), (*nasty).into(), (*nasty).into());
        one.lease.network = (*nasty).into();
        one.proof = Some(once(nasty));
        asked.push((one.clone(), claimed(&store, &one).await));
    }
    drop(store);
    let store = bench.open().await;
    for (one, first) in &asked {
        let again = claimed(&store, one).await;
        assert!(again.repeated);
        assert_eq!(
            (&again.record, again.generation),
            (&first.record, first.generation)
        );
        let (code, _) = refused(
            store
                .claim(
                    &claim("job_x", &[&first.record.sources[0].to_string()]),
                    "a",
                    "gw",
                )
                .await,
        );
        assert_eq!(code, Refusal::Held);
        let mut replay = claim("job_y", &["10.0.9.9"]);
        replay.proof.clone_from(&one.proof);
        assert_eq!(
            refused(store.claim(&replay, "a", "gw-1").await).0,
            Refusal::Replayed
        );
    }
}
