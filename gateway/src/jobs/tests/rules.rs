//! Who may register, replace and end what.

use std::sync::Arc;

use serde_json::json;
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::oidc::{Issuer, JwkSet};
use tidegate_control_wire::record::{Change, CredentialKind, Ending};
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::{RegisterError, StaticLease};

use super::fixture::{Mode, World, asker, at, body, claim_of, ip, mac, oidc};
use crate::jobs::asker::Asker;
use crate::jobs::refused::{AuthError, StartError};
use crate::jobs::registrar::JOB_LIFETIME;
use crate::sync::EndedLeases;

#[tokio::test]
async fn a_runner_token_registers_a_declared_job_for_its_own_address() {
    let world = World::ephemeral();
    let started = world
        .declare("10.77.1.2", &world.tokens.any, &body("Acme/Web", "1"), 0)
        .await
        .unwrap();
    assert!(started.fresh);
    assert_eq!(started.lease.assurance(), Assurance::Declared);
    assert_eq!(started.lease.began.0, 8, "where the store says that it began");
    assert_eq!(started.members.len(), 1);
    assert_eq!(world.judged("10.77.1.2", 1), "web");
    assert_eq!(*world.changed.lock(), [ip("10.77.1.2")]);
    let claims = world.control.claims.lock();
    let [claim] = claims.as_slice() else {
        panic!("one claim, not {claims:?}");
    };
    let lease = &claim.lease;
    assert_eq!((&*lease.gateway, &*lease.network), ("gw-1", "runners"));
    assert_eq!(lease.sources, [ip("10.77.1.2")]);
    assert_eq!(
        (&*lease.identity.repo, &*lease.identity.cluster),
        ("acme/web", "prod")
    );
    assert_eq!(lease.identity.assurance, Assurance::Declared);
    assert_eq!(
        (lease.credential, lease.token_id.as_deref()),
        (CredentialKind::RunnerToken, Some("tok_any"))
    );
    assert_eq!(lease.expires_at, at(JOB_LIFETIME.as_secs()).wall);
    assert!(!claim.granted && claim.proof.is_none() && claim.replaces.is_empty());
}

#[tokio::test]
async fn an_oidc_token_registers_a_signed_job_and_its_claims_override_the_body() {
    let world = World::ephemeral();
    let token = oidc("Acme/Web", "1", "jti-1", 0);
    let body = json!({
        "repo": "evil/other", "run_id": 99, "workflow": "evil.yml", "actor": "root", "event": "x",
        "job": "build", "runner_name": "r-1", "oidc_token": token
    });
    let started = world.start(asker("10.77.1.2"), None, &body, 0).await.unwrap();
    let identity = &started.lease.job.identity;
    assert_eq!(identity.assurance, Assurance::Signed);
    assert_eq!(
        (&*identity.repo, &*identity.workflow, &*identity.run_id),
        ("acme/web", "ci.yml", "1")
    );
    assert_eq!((&*identity.actor, &*identity.event), ("octocat", "push"));
    assert_eq!(
        (&*identity.job, &*identity.runner_name),
        ("build", "r-1"),
        "what no token says"
    );
    let claims = world.control.claims.lock();
    let proof = claims[0].proof.as_ref().unwrap();
    assert_eq!(
        proof.expires_at,
        at(300 + 60).wall,
        "remembered until it can't be used, leeway included"
    );
    assert_eq!(
        (claims[0].lease.credential, &claims[0].lease.token_id),
        (CredentialKind::Oidc, &None)
    );
}

#[tokio::test]
async fn an_oidc_token_may_be_the_bearer() {
    let world = World::ephemeral();
    let token = oidc("acme/web", "1", "jti-1", 0);
    let started = world
        .start(asker("10.77.1.2"), Some(&token), &json!({}), 0)
        .await
        .unwrap();
    assert_eq!(started.lease.assurance(), Assurance::Signed);
    let other = oidc("acme/web", "1", "jti-2", 0);
    let both = world
        .start(asker("10.77.1.3"), Some(&token), &json!({"oidc_token": other}), 0)
        .await;
    assert!(
        matches!(both, Err(StartError::Auth(AuthError::Proof(_)))),
        "{both:?}"
    );
}

#[tokio::test]
async fn asking_again_for_the_same_job_is_granted_the_same_lease() {
    let world = World::ephemeral();
    let job = body("acme/web", "1");
    let first = world
        .declare("10.77.1.2", &world.tokens.any, &job, 0)
        .await
        .unwrap();
    let again = world
        .declare("10.77.1.2", &world.tokens.any, &job, 5)
        .await
        .unwrap();
    assert!(!again.fresh);
    assert_eq!(again.lease.id, first.lease.id);
    let token = oidc("acme/api", "2", "jti-1", 0);
    let first = world.sign("10.77.1.3", &token, 0).await.unwrap();
    let again = world.sign("10.77.1.3", &token, 5).await.unwrap();
    assert_eq!((again.fresh, &again.lease.id), (false, &first.lease.id));
    assert_eq!(world.control.claims.lock().len(), 2);
}

#[tokio::test]
async fn v4_and_v6_of_one_machine_are_one_job() {
    let world = World::ephemeral();
    world.see(&[("10.77.1.2", 2), ("fd77:1::2", 2)]);
    let job = body("acme/web", "1");
    let first = world
        .declare("10.77.1.2", &world.tokens.any, &job, 0)
        .await
        .unwrap();
    let again = world
        .declare("fd77:1::2", &world.tokens.any, &job, 1)
        .await
        .unwrap();
    assert_eq!(again.lease.id, first.lease.id);
    assert_eq!(world.judged("fd77:1::2", 1), "web");
    let other = world
        .declare("fd77:1::2", &world.tokens.any, &body("acme/api", "2"), 2)
        .await;
    assert!(
        matches!(other, Err(StartError::Lease(RegisterError::Held { .. }))),
        "{other:?}"
    );
}

#[tokio::test]
async fn credentials_that_are_not_good_say_what_is_wrong_with_them() {
    let world = World::ephemeral();
    let tokens = &world.tokens;
    let stranger = tidegate_control_wire::secret::Secret::new(tidegate_control_wire::secret::Role::Runner);
    for (token, want) in [
        (stranger.expose(), "not known here"),
        ("Tidegate", "not known here"),
        ("", "not known here"),
        (
            tokens.short.expose(),
            "the token tok_short expired at 2026-03-01T12:00:50Z",
        ),
        (
            tokens.provisioner.expose(),
            "a provisioner's token registers jobs at the control plane",
        ),
        (
            tokens.other_network.expose(),
            "the token is not for network runners",
        ),
        (
            tokens.other_cluster.expose(),
            "cluster \"staging\" does not match \"prod\"",
        ),
    ] {
        let refused = world
            .start(asker("10.77.1.2"), Some(token), &body("acme/web", "1"), 60)
            .await
            .expect_err(want);
        assert!(refused.to_string().contains(want), "{refused}");
    }
    let refused = world
        .declare("10.77.1.2", &tokens.acme, &body("evil/web", "1"), 0)
        .await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the token does not name evil/web"
    );
    let said = json!({"repo": "acme/web", "cluster": "staging"});
    let refused = world.declare("10.77.1.2", &tokens.any, &said, 0).await;
    assert!(matches!(
        refused,
        Err(StartError::Lease(RegisterError::Cluster { .. }))
    ));
    let refused = world
        .start(asker("10.77.1.2"), None, &body("acme/web", "1"), 0)
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("show a runner token")
    );
    assert!(
        world.control.claims.lock().is_empty(),
        "control is asked nothing of these"
    );
    assert_eq!(world.judged("10.77.1.2", 60), "default");
}

#[tokio::test]
async fn oidc_tokens_that_are_not_good_are_refused() {
    let world = World::ephemeral();
    let good = oidc("acme/web", "1", "jti-1", 0);
    let late = world.sign("10.77.1.2", &good, 361).await.unwrap_err();
    assert!(late.to_string().contains("expired"), "{late}");
    let early = world
        .sign("10.77.1.2", &oidc("acme/web", "1", "jti-1", 100), 30)
        .await
        .unwrap_err();
    assert!(early.to_string().contains("compare the clocks"), "{early}");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let forged = world
        .sign("10.77.1.2", &format!("{signed}.AAAA"), 0)
        .await
        .unwrap_err();
    assert!(forged.to_string().contains("signature"), "{forged}");
    for nonsense in ["x", "a.b.c", ""] {
        assert!(
            world.sign("10.77.1.2", nonsense, 0).await.is_err(),
            "{nonsense:?}"
        );
    }
}

/// An issuer signs with a new key: the token is good as soon as control has fetched it.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_known_yet_is_waited_for() {
    let world = World::ephemeral();
    let token = oidc("acme/web", "1", "jti-1", 0);
    let good = std::mem::take(&mut *world.control.credentials.lock());
    let mut old = Mirror::new();
    let issuers: Vec<Change> = good
        .issuers()
        .map(|issuer| {
            let jwks = JwkSet { keys: Vec::new() };
            Change::Issuer(Issuer {
                jwks,
                ..Issuer::clone(issuer)
            })
        })
        .collect();
    old.apply(Batch {
        reset: true,
        changes: issuers,
        ..Batch::default()
    });
    *world.control.credentials.lock() = Arc::clone(old.credentials());
    let refused = world.sign("10.77.1.2", &token, 0).await.unwrap_err();
    assert!(refused.to_string().contains("is not among the keys"), "{refused}");
    *world.control.newer.lock() = Some(Arc::clone(old.credentials()));
    assert!(world.sign("10.77.1.2", &token, 0).await.is_err(), "not for ever");
    *world.control.newer.lock() = Some(good);
    world.sign("10.77.1.2", &token, 0).await.unwrap();
}

#[tokio::test]
async fn of_both_credentials_both_must_be_good_and_the_token_must_cover_the_job() {
    let tokens_and_repos = [
        ("any", "acme/web", None),
        ("acme", "acme/web", None),
        ("acme", "evil/web", Some("the token does not name evil/web")),
        (
            "other_network",
            "acme/web",
            Some("the token is not for network runners"),
        ),
        ("other_cluster", "acme/web", Some("does not match")),
        ("short", "acme/web", Some("expired at")),
    ];
    for (name, repo, want) in tokens_and_repos {
        let world = World::ephemeral();
        let tokens = &world.tokens;
        let token = match name {
            "any" => &tokens.any,
            "acme" => &tokens.acme,
            "other_network" => &tokens.other_network,
            "other_cluster" => &tokens.other_cluster,
            _ => &tokens.short,
        };
        let body = json!({"oidc_token": oidc(repo, "1", "jti-1", 55)});
        let outcome = world
            .start(asker("10.77.1.2"), Some(token.expose()), &body, 55)
            .await;
        match (outcome, want) {
            (Ok(started), None) => {
                assert_eq!(started.lease.assurance(), Assurance::Signed, "{name}");
                assert!(world.control.claims.lock()[0].lease.token_id.is_some());
            }
            (Err(error), Some(want)) => assert!(error.to_string().contains(want), "{name}: {error}"),
            (outcome, want) => panic!("{name}: {outcome:?}, not {want:?}"),
        }
    }
}

/// "A source holds at most one lease. Registering over a held one is refused, except by a stronger assurance."
#[tokio::test]
async fn a_held_source_goes_over_to_a_stronger_assurance_only() {
    let world = World::ephemeral();
    let first = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let equal = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/api", "2"), 1)
        .await
        .unwrap_err();
    assert!(
        matches!(&equal, StartError::Lease(RegisterError::Held { assurance, .. }) if *assurance == Assurance::Declared)
    );
    assert_eq!(
        world.judged("10.77.1.2", 1),
        "web",
        "a job can't become another repository"
    );

    let stronger = world
        .sign("10.77.1.2", &oidc("acme/api", "3", "jti-1", 2), 2)
        .await
        .unwrap();
    assert_eq!(
        world.control.claims.lock()[1].replaces,
        std::slice::from_ref(&first.lease.id)
    );
    assert_eq!(world.judged("10.77.1.2", 3), "acme");
    assert!(
        world.jobs.outbox().is_ended(&first.lease.id),
        "the stream can't bring it back"
    );

    let weaker = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 4)
        .await;
    assert!(matches!(
        weaker,
        Err(StartError::Lease(RegisterError::Held { .. }))
    ));
    let equal = world
        .sign("10.77.1.2", &oidc("acme/web", "4", "jti-2", 4), 4)
        .await;
    assert!(matches!(
        equal,
        Err(StartError::Lease(RegisterError::Held { .. }))
    ));
    assert!(world.leases.lease(&stronger.lease.id).is_some());
    assert_eq!(
        world.control.claims.lock().len(),
        2,
        "control is not asked what the table refuses"
    );
}

#[tokio::test]
async fn an_oidc_token_registers_one_machine_and_no_other() {
    let world = World::ephemeral();
    let token = oidc("acme/web", "1", "jti-1", 0);
    world.sign("10.77.1.2", &token, 0).await.unwrap();
    assert_eq!(
        world.sign("10.77.1.3", &token, 1).await.unwrap_err(),
        StartError::Replayed
    );
    world.see(&[("10.77.1.3", 3)]);
    assert_eq!(world.judged("10.77.1.3", 1), "default");
    assert_eq!(world.control.claims.lock().len(), 1);
}

#[tokio::test]
async fn what_control_refuses_is_not_put_in_place_and_can_be_tried_again() {
    use tidegate_control_wire::claim::Refusal;
    let world = World::ephemeral();
    let token = oidc("acme/web", "1", "jti-1", 0);
    for code in [
        Refusal::Held,
        Refusal::TokenGone,
        Refusal::Invalid,
        Refusal::Replayed,
    ] {
        world.control.set(Mode::Refuses(code));
        let refused = world.sign("10.77.1.2", &token, 0).await.unwrap_err();
        assert!(matches!(refused, StartError::Control { code: said, .. } if said == code));
        assert_eq!(world.judged("10.77.1.2", 0), "default");
    }
    assert_eq!(world.jobs.outbox().depth(), 0);
    world.control.set(Mode::There);
    world.sign("10.77.1.2", &token, 1).await.unwrap();
}

#[tokio::test]
async fn of_two_registrations_of_one_source_at_once_one_wins() {
    let world = World::ephemeral();
    let (one, two) = (body("acme/web", "1"), body("acme/api", "2"));
    let (one, two) = tokio::join!(
        world.declare("10.77.1.2", &world.tokens.any, &one, 0),
        world.declare("10.77.1.2", &world.tokens.any, &two, 0),
    );
    assert!(one.is_ok());
    assert!(
        matches!(two, Err(StartError::Lease(RegisterError::Held { .. }))),
        "{two:?}"
    );
    assert_eq!(
        world.control.told(),
        (vec![one.unwrap().lease.id.to_string()], vec![])
    );
    // The same job twice at once is one job.
    let job = body("acme/web", "3");
    let (one, two) = tokio::join!(
        world.declare("10.77.1.3", &world.tokens.any, &job, 0),
        world.declare("10.77.1.3", &world.tokens.any, &job, 0),
    );
    assert_eq!(one.unwrap().lease.id, two.unwrap().lease.id);
}

/// Control said yes, and meanwhile somebody else was granted the source here: control is told that it did not come about.
#[tokio::test]
async fn a_lease_that_can_not_be_put_in_place_after_all_is_taken_back() {
    let world = World::ephemeral();
    let job = body("acme/web", "1");
    let start = world.declare("10.77.1.2", &world.tokens.any, &job, 0);
    let meanwhile = async {
        tokio::task::yield_now().await;
        let fixed = StaticLease {
            sources: vec!["10.77.1.2/32".parse().unwrap()],
            identity: claim_of("acme/fixed", "9"),
            pinned: None,
        };
        world.leases.set_static(vec![fixed], at(0).moment);
    };
    let (outcome, ()) = tokio::join!(start, meanwhile);
    assert!(
        matches!(outcome, Err(StartError::Lease(RegisterError::Held { .. }))),
        "{outcome:?}"
    );
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let (begun, ended) = world.control.told();
    assert_eq!((begun.len(), &ended), (1, &begun));
    let (_, end) = world.control.ends.lock()[0].clone();
    assert_eq!(
        (end.by, end.ending),
        (EndedBy::Replaced, Ending::Quarantine),
        "a job frees nothing"
    );
}

/// Control records a lease and ends it before its answer comes (a provisioner's word, the job's own at another gateway):
/// the stream, which does not wait for the answer, said so before.
#[tokio::test]
async fn a_lease_that_control_ended_before_its_answer_came_is_not_put_in_place() {
    let world = World::ephemeral();
    let keeper = Arc::clone(world.jobs.keeper());
    *world.control.meanwhile.lock() = Some(Box::new(move |claim| keeper.note_ended(&claim.lease.id)));
    let refused = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await;
    assert!(
        matches!(refused, Err(StartError::Lease(RegisterError::Quarantined(_)))),
        "{refused:?}"
    );
    assert_eq!(world.judged("10.77.1.2", 1), "quarantined");
    assert!(world.leases.leases().is_empty());
}

/// Who is root on a runner changes its hardware address between two requests: it is still one source.
#[tokio::test]
async fn of_two_machines_at_one_source_at_once_one_wins_while_control_is_away_too() {
    for mode in [Mode::There, Mode::Away] {
        let world = World::ephemeral();
        world.control.set(mode.clone());
        let any = Some(world.tokens.any.expose());
        let (web, api) = (body("acme/web", "1"), body("acme/api", "2"));
        let other = Asker {
            source: ip("10.77.1.2"),
            mac: Some(mac(99)),
        };
        let (one, two) = tokio::join!(
            world.start(asker("10.77.1.2"), any, &web, 0),
            world.start(other, any, &api, 0),
        );
        assert!(one.is_ok(), "{one:?}");
        assert!(
            matches!(two, Err(StartError::Lease(RegisterError::Held { .. }))),
            "{two:?}"
        );
        let waits = world.jobs.outbox().depth();
        assert_eq!(
            waits,
            usize::from(mode == Mode::Away),
            "one was granted, {mode:?}"
        );
        assert_eq!(world.control.claims.lock().len() + waits, 1);
        assert_eq!(world.judged("10.77.1.2", 1), "web");
    }
}

/// Who is root on a runner can have a token of a repository of its own signed by the same forge, for the same audience.
#[tokio::test]
async fn a_strangers_repository_takes_no_source_over() {
    let world = World::ephemeral();
    world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let open = Arc::clone(&world.control.credentials.lock());
    let mut mirror = Mirror::new();
    let changes = open.issuers().map(|issuer| {
        Change::Issuer(Issuer {
            owners: vec!["Acme".into()],
            ..Issuer::clone(issuer)
        })
    });
    mirror.apply(Batch {
        reset: true,
        changes: changes.collect(),
        ..Batch::default()
    });
    *world.control.credentials.lock() = Arc::clone(mirror.credentials());
    let refused = world
        .sign("10.77.1.2", &oidc("evil/web", "1", "jti-1", 1), 1)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("does not name among the owners"),
        "{refused}"
    );
    assert_eq!(world.judged("10.77.1.2", 2), "web");
    world
        .sign("10.77.1.2", &oidc("acme/api", "2", "jti-2", 2), 2)
        .await
        .unwrap();
}
