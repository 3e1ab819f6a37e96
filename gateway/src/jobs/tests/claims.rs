//! What a client may say without a credential.

use serde_json::json;
use tidegate_control_wire::record::CredentialKind;
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::RegisterError;
use tidegate_policy::subject::{RunnerKind, Standing};

use super::fixture::{NOTHING, World, asker, at, body, claim_of, ip};
use crate::jobs::asker::Asker;
use crate::jobs::refused::{MonitorError, StartError};

#[tokio::test]
async fn a_claim_makes_a_lease_that_decides_nothing() {
    let world = World::ephemeral();
    let id = world
        .jobs
        .monitor(asker("10.77.1.2"), claim_of("acme/web", "1"), at(0))
        .await
        .unwrap();
    let lease = world.leases.lease(&id).unwrap();
    assert_eq!(lease.assurance(), Assurance::Claimed);
    assert_eq!(world.judged("10.77.1.2", 1), "default");
    assert!(world.control.claims.lock().is_empty(), "nobody is waited for");
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let claim = world.control.claims.lock()[0].clone();
    assert_eq!(
        (claim.lease.credential, claim.granted),
        (CredentialKind::Claimed, true)
    );
    let again = world
        .jobs
        .monitor(asker("10.77.1.2"), claim_of("acme/web", "1"), at(1))
        .await
        .unwrap();
    assert_eq!(again, id);
    // The job's credential replaces it, and the same run keeps what it was given.
    let started = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 2)
        .await
        .unwrap();
    assert_ne!(started.lease.id, id);
    assert_eq!(world.judged("10.77.1.2", 2), "web");
}

#[tokio::test]
async fn a_claim_enriches_a_lease_and_never_renames_it() {
    let world = World::ephemeral();
    let start = json!({"repo": "acme/web", "run_id": "1"});
    let started = world
        .declare("10.77.1.2", &world.tokens.any, &start, 0)
        .await
        .unwrap();
    for (claim, job) in [
        (claim_of("evil/web", "1"), ""),
        (claim_of("acme/web", "2"), ""),
        (claim_of("acme/web", "1"), "test"),
    ] {
        let id = world
            .jobs
            .monitor(asker("10.77.1.2"), claim, at(1))
            .await
            .unwrap();
        assert_eq!(id, started.lease.id);
        let known = world.leases.lookup(ip("10.77.1.2"), at(1).moment).job().unwrap();
        assert_eq!((&*known.identity.job, &*known.identity.repo), (job, "acme/web"));
    }
    assert_eq!(world.judged("10.77.1.2", 1), "web");
}

#[tokio::test]
async fn a_claim_for_an_address_that_may_hold_no_lease_is_refused() {
    let world = World::ephemeral();
    world.see(&[("10.77.1.2", 2)]);
    world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let fresh = Asker {
        source: ip("fd77:1::77"),
        mac: None,
    };
    let refused = world.jobs.monitor(fresh, claim_of("acme/web", "1"), at(1)).await;
    assert_eq!(
        refused,
        Err(MonitorError::Lease(RegisterError::Unbound(ip("fd77:1::77"))))
    );
    let refused = world
        .start(fresh, Some(world.tokens.any.expose()), &body("acme/web", "1"), 1)
        .await;
    assert!(
        matches!(refused, Err(StartError::Lease(RegisterError::Unbound(_)))),
        "{refused:?}"
    );
    let foreign = Asker {
        source: ip("192.0.2.1"),
        mac: None,
    };
    let refused = world
        .jobs
        .monitor(foreign, claim_of("acme/web", "1"), at(1))
        .await;
    assert_eq!(
        refused,
        Err(MonitorError::Lease(RegisterError::Foreign(ip("192.0.2.1"))))
    );
}

#[tokio::test]
async fn on_persistent_networks_the_next_claim_ends_the_one_before() {
    for (kind, moves_on) in [(RunnerKind::Persistent, true), (RunnerKind::Ephemeral, false)] {
        let world = World::new(kind);
        let first = world
            .jobs
            .monitor(asker("10.77.1.2"), claim_of("acme/web", "1"), at(0))
            .await
            .unwrap();
        let next = world
            .jobs
            .monitor(asker("10.77.1.2"), claim_of("acme/api", "2"), at(9))
            .await
            .unwrap();
        assert_eq!(next != first, moves_on, "{kind:?}");
        let known = world.leases.lookup(ip("10.77.1.2"), at(9).moment).job().unwrap();
        assert_eq!(
            known.identity.repo,
            if moves_on { "acme/api" } else { "acme/web" }
        );
    }
}

#[tokio::test]
async fn a_claimed_lease_ends_without_a_credential() {
    let world = World::ephemeral();
    let id = world
        .jobs
        .monitor(asker("10.77.1.2"), claim_of("acme/web", "1"), at(0))
        .await
        .unwrap();
    assert_eq!(
        world.jobs.end(asker("10.77.1.2"), NOTHING, at(1)).await.unwrap(),
        id
    );
    assert_eq!(
        world.leases.lookup(ip("10.77.1.2"), at(1).moment).standing,
        Standing::Quarantined
    );
}
