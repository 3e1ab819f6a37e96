//! Who may end what, and what an ended job can still do.

use std::sync::Arc;

use serde_json::json;
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::record::Ending;
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::{RegisterError, StaticLease};
use tidegate_policy::subject::RunnerKind;

use super::fixture::{NOTHING, World, asker, at, body, claim_of, declared, ip, mac, oidc, signed};
use crate::jobs::asker::Asker;
use crate::jobs::proof::Shown;
use crate::jobs::refused::{EndError, MonitorError, StartError};
use crate::jobs::registrar::JOB_LIFETIME;

/// A root job that ends its own lease and tries to become another repository gets nothing.
#[tokio::test]
async fn an_ended_job_is_quarantined_and_none_of_its_credentials_brings_it_back() {
    let world = World::ephemeral();
    let tokens = &world.tokens;
    world.see(&[("10.77.1.2", 2)]);
    let started = world
        .declare("10.77.1.2", &tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let ended = world
        .jobs
        .end(asker("10.77.1.2"), declared(&tokens.any), at(1))
        .await
        .unwrap();
    assert_eq!(ended, started.lease.id);
    assert_eq!(world.judged("10.77.1.2", 1), "quarantined");
    for (source, octet) in [("10.77.1.2", 2), ("10.77.1.9", 2), ("fd77:1::9", 2)] {
        let asker = Asker {
            source: ip(source),
            mac: Some(mac(octet)),
        };
        for (bearer, body) in [
            (Some(tokens.any.expose()), body("acme/web", "1")),
            (Some(tokens.any.expose()), body("acme/api", "2")),
            (None, json!({"oidc_token": oidc("acme/web", "1", source, 2)})),
        ] {
            let refused = world.start(asker, bearer, &body, 2).await.unwrap_err();
            assert!(
                matches!(refused, StartError::Lease(RegisterError::Quarantined(_))),
                "{source}: {refused}"
            );
        }
        let refused = world.jobs.monitor(asker, claim_of("acme/web", "1"), at(2)).await;
        assert_eq!(
            refused,
            Err(MonitorError::Lease(RegisterError::Quarantined(ip(source))))
        );
    }
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let (_, end) = world.control.ends.lock()[0].clone();
    assert_eq!(
        (end.by, end.ending, end.at),
        (EndedBy::Job, Ending::Quarantine, at(1).wall)
    );
    // Another machine at the address is another runner.
    world.see(&[("10.77.1.2", 3)]);
    let next = Asker {
        source: ip("10.77.1.2"),
        mac: Some(mac(3)),
    };
    world
        .start(next, Some(tokens.any.expose()), &body("acme/api", "2"), 3)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_job_ends_only_its_own_lease_and_only_by_a_credential_of_its_kind() {
    let world = World::ephemeral();
    let tokens = &world.tokens;
    world
        .declare("10.77.1.2", &tokens.acme, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    world
        .sign("10.77.1.3", &oidc("acme/api", "2", "jti-1", 0), 0)
        .await
        .unwrap();
    let own = oidc("acme/api", "2", "jti-2", 1);
    let other = oidc("acme/api", "3", "jti-3", 1);
    for (source, shown, want) in [
        (
            "10.77.1.4",
            declared(&tokens.any),
            "no job is registered for 10.77.1.4",
        ),
        ("10.77.1.2", NOTHING, "show a runner token"),
        ("10.77.1.2", declared(&tokens.short), "expired"),
        ("10.77.1.2", declared(&tokens.other_network), "not for network"),
        ("10.77.1.2", declared(&tokens.other_cluster), "does not match"),
        ("10.77.1.2", signed(&other), "of another job"),
        ("10.77.1.3", NOTHING, "show a runner token"),
        (
            "10.77.1.3",
            declared(&tokens.any),
            "known by signed is not ended by a runner token",
        ),
        ("10.77.1.3", signed(&other), "of another job"),
    ] {
        let refused = world
            .jobs
            .end(asker(source), shown, at(60))
            .await
            .expect_err(want);
        assert!(refused.to_string().contains(want), "{source}: {refused}");
    }
    assert_eq!(
        (world.judged("10.77.1.2", 60), world.judged("10.77.1.3", 60)),
        ("web".into(), "acme".into())
    );
    world
        .jobs
        .end(asker("10.77.1.3"), signed(&own), at(60))
        .await
        .unwrap();
    world
        .jobs
        .end(asker("10.77.1.2"), declared(&tokens.any), at(60))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_for_other_owners_does_not_end_a_job() {
    let world = World::ephemeral();
    world
        .declare("10.77.1.2", &world.tokens.any, &body("evil/web", "1"), 0)
        .await
        .unwrap();
    let refused = world
        .jobs
        .end(asker("10.77.1.2"), declared(&world.tokens.acme), at(1))
        .await;
    assert!(
        matches!(refused, Err(EndError::Scope(RegisterError::NotNamed(_)))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn leases_of_the_configuration_are_not_ended_by_a_job() {
    let world = World::ephemeral();
    let lease = |net: &str| StaticLease {
        sources: vec![net.parse().unwrap()],
        identity: claim_of("acme/web", "1"),
        pinned: None,
    };
    world
        .leases
        .set_static(vec![lease("10.77.1.2/32"), lease("10.77.1.64/26")], at(0).moment);
    for source in ["10.77.1.2", "10.77.1.65"] {
        let refused = world
            .jobs
            .end(asker(source), declared(&world.tokens.any), at(1))
            .await;
        assert_eq!(refused, Err(EndError::NotByJob(Assurance::Static)), "{source}");
        let refused = world.sign(source, &oidc("acme/api", "2", source, 0), 0).await;
        assert!(matches!(
            refused,
            Err(StartError::Lease(RegisterError::Held {
                assurance: Assurance::Static,
                ..
            }))
        ));
    }
}

/// "On `persistent` networks the runner token may register the next job, only for owners and repositories that the token
/// names."
#[tokio::test]
async fn on_persistent_networks_a_token_registers_the_next_job_of_whom_it_names() {
    let world = World::new(RunnerKind::Persistent);
    let tokens = &world.tokens;
    let unnamed = world
        .declare("10.77.1.2", &tokens.any, &body("acme/web", "1"), 0)
        .await;
    assert!(
        matches!(unnamed, Err(StartError::Lease(RegisterError::NotNamed(_)))),
        "{unnamed:?}"
    );
    let other = world
        .declare("10.77.1.2", &tokens.acme, &body("evil/web", "1"), 0)
        .await;
    assert!(
        matches!(other, Err(StartError::Lease(RegisterError::NotNamed(_)))),
        "{other:?}"
    );
    world
        .declare("10.77.1.2", &tokens.acme, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let early = world
        .declare("10.77.1.2", &tokens.acme, &body("acme/api", "2"), 1)
        .await;
    assert!(
        matches!(early, Err(StartError::Lease(RegisterError::Held { .. }))),
        "{early:?}"
    );
    world
        .jobs
        .end(asker("10.77.1.2"), declared(&tokens.acme), at(2))
        .await
        .unwrap();
    assert_eq!(world.judged("10.77.1.2", 2), "default");
    world
        .declare("10.77.1.2", &tokens.acme, &body("acme/api", "2"), 3)
        .await
        .unwrap();
    // An OIDC token that was used is not good for a second job of the same machine either.
    let token = oidc("acme/web", "3", "jti-1", 3);
    world.sign("10.77.1.3", &token, 3).await.unwrap();
    world
        .jobs
        .end(asker("10.77.1.3"), signed(&token), at(4))
        .await
        .unwrap();
    assert_eq!(
        world.sign("10.77.1.3", &token, 5).await.unwrap_err(),
        StartError::Replayed
    );
}

#[tokio::test]
async fn a_lease_that_nobody_ends_expires_and_control_is_told() {
    let world = World::ephemeral();
    let started = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let over = JOB_LIFETIME.as_secs();
    world.jobs.tick(at(over - 1)).await;
    assert_eq!(world.jobs.outbox().depth(), 0);
    // A lookup may find it out first.
    assert_eq!(world.judged("10.77.1.2", over), "quarantined");
    world.changed.lock().clear();
    world.jobs.tick(at(over + 2)).await;
    world.jobs.tick(at(over + 3)).await;
    assert_eq!(*world.changed.lock(), [ip("10.77.1.2")]);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let ends = world.control.ends.lock();
    let [(id, end)] = ends.as_slice() else {
        panic!("told once, not {ends:?}");
    };
    assert_eq!((id.as_str(), end.by), (&*started.lease.id, EndedBy::Expiry));
    assert_eq!(end.at, at(over).wall);
}

/// The end of a job is told in the background; its machine's next job must not be refused for it.
#[tokio::test]
async fn the_next_job_of_a_machine_waits_for_the_news_of_the_last_ones_end() {
    let world = World::new(RunnerKind::Persistent);
    *world.control.strict.lock() = true;
    let jobs = Arc::clone(&world.jobs);
    let telling = tokio::spawn(async move { jobs.tell().await });
    let token = &world.tokens.acme;
    for run in ["1", "2", "3"] {
        let started = world
            .declare("10.77.1.2", token, &body("acme/web", run), 0)
            .await
            .unwrap();
        let ended = world
            .jobs
            .end(asker("10.77.1.2"), declared(token), at(1))
            .await
            .unwrap();
        assert_eq!(ended, started.lease.id);
    }
    telling.abort();
}

/// The stream may bring the lease at any moment of its end: it has to know before the lease is out of its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_noted_before_the_lease_is_gone() {
    let world = World::ephemeral();
    let token = &world.tokens.acme;
    let started = world
        .declare("10.77.1.2", token, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let (jobs, shown) = (Arc::clone(&world.jobs), world.tokens.acme.expose().to_owned());
    let changed = Arc::clone(&world.changed);
    // Whoever ends the lease stops here, behind its end.
    let held = changed.lock();
    let ending = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let shown = Shown {
            bearer: Some(&shown),
            oidc: None,
        };
        runtime
            .block_on(jobs.end(asker("10.77.1.2"), shown, at(1)))
            .unwrap()
    });
    let is_gone = (0..100_000_000).any(|_| {
        std::thread::yield_now();
        world.judged("10.77.1.2", 1) == "quarantined"
    });
    assert!(is_gone, "the lease stays");
    assert!(world.jobs.outbox().is_ended(&started.lease.id));
    drop(held);
    assert_eq!(ending.join().unwrap(), started.lease.id);
}
