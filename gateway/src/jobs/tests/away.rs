//! The control plane is away, was never heard of, or is not there at all.

use tidegate_control_wire::claim::{End, EndedBy, Refusal};
use tidegate_control_wire::record::Ending;
use tidegate_policy::effective::{PolicySet, Store};
use tidegate_policy::job::Assurance;

use super::fixture::{Mode, World, asker, at, body, mac, oidc};
use crate::jobs::asker::Asker;
use crate::jobs::refused::{AuthError, StartError};
use crate::jobs::{Shown, claimed};

#[tokio::test]
async fn jobs_are_registered_at_once_and_told_of_when_control_is_back() {
    let world = World::ephemeral();
    world.control.set(Mode::Away);
    let one = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    let two = world
        .sign("10.77.1.3", &oidc("acme/api", "2", "jti-1", 0), 0)
        .await
        .unwrap();
    assert_eq!(one.lease.began.0, 7, "as far as the store was followed");
    assert!(one.members.is_empty());
    assert_eq!(
        (world.judged("10.77.1.2", 1), world.judged("10.77.1.3", 1)),
        ("web".into(), "acme".into())
    );
    let shown = Shown {
        bearer: Some(world.tokens.any.expose()),
        oidc: None,
    };
    world.jobs.end(asker("10.77.1.2"), shown, at(2)).await.unwrap();
    assert_eq!(world.jobs.outbox().depth(), 3);
    assert!(!world.jobs.outbox().flush(&*world.control).await);
    world.control.set(Mode::There);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let (begun, ended) = world.control.told();
    assert_eq!(begun, [one.lease.id.as_str(), two.lease.id.as_str()]);
    assert_eq!(ended, [one.lease.id.as_str()]);
    assert!(world.control.claims.lock().iter().all(|claim| claim.granted));
    assert!(
        world.control.claims.lock()[1].proof.is_some(),
        "control learns the proof"
    );
}

#[tokio::test]
async fn a_token_is_not_good_twice_while_control_is_away() {
    let world = World::ephemeral();
    let token = oidc("acme/web", "1", "jti-1", 0);
    world.sign("10.77.1.2", &token, 0).await.unwrap();
    world.control.set(Mode::Away);
    assert_eq!(
        world.sign("10.77.1.3", &token, 1).await.unwrap_err(),
        StartError::Replayed
    );
    let other = oidc("acme/api", "2", "jti-2", 0);
    let first = world.sign("10.77.1.4", &other, 1).await.unwrap();
    let again = world.sign("10.77.1.4", &other, 2).await.unwrap();
    assert_eq!((again.fresh, &again.lease.id), (false, &first.lease.id));
    assert_eq!(
        world.sign("10.77.1.5", &other, 2).await.unwrap_err(),
        StartError::Replayed
    );
}

/// The control plane took the claim, its answer did not come, and there is no room to take the lease down: the job is told
/// to try again. That it does so is no replay; that somebody else does is one.
#[tokio::test]
async fn a_job_that_was_told_to_try_again_can_and_nobody_else_can_by_its_token() {
    let world = World::ephemeral().with_outbox(1);
    let end = End {
        at: at(0).wall,
        by: EndedBy::Operator,
        ending: Ending::Quarantine,
    };
    world.jobs.outbox().end(&"job_before".into(), end);
    world.control.set(Mode::Silent);
    let token = oidc("acme/web", "1", "jti-1", 0);
    let refused = world.sign("10.77.1.2", &token, 0).await.unwrap_err();
    assert!(matches!(refused, StartError::Outbox(_)), "{refused:?}");
    assert!(world.leases.leases().is_empty());

    world.control.set(Mode::There);
    let replayed = |outcome: &Result<_, StartError>| {
        matches!(
            outcome,
            Err(StartError::Control {
                code: Refusal::Replayed,
                ..
            } | StartError::Replayed)
        )
    };
    let elsewhere = world.sign("10.77.1.3", &token, 1).await;
    assert!(replayed(&elsewhere), "{elsewhere:?}");
    let body = serde_json::json!({"oidc_token": token, "job": "another"});
    let other = world.start(asker("10.77.1.2"), None, &body, 1).await;
    assert!(replayed(&other), "{other:?}");

    let another = Asker {
        mac: Some(mac(9)),
        ..asker("10.77.1.2")
    };
    let body = serde_json::json!({"oidc_token": token});
    let other = world.start(another, None, &body, 1).await;
    assert!(replayed(&other), "{other:?}");

    let started = world.sign("10.77.1.2", &token, 2).await.unwrap();
    let known: Vec<_> = world
        .control
        .claims
        .lock()
        .iter()
        .map(|claim| claim.lease.id.clone())
        .collect();
    assert_eq!(
        known,
        std::slice::from_ref(&started.lease.id),
        "it is the lease that control has"
    );
    assert_eq!(world.judged("10.77.1.2", 2), "web");
    let elsewhere = world.sign("10.77.1.3", &token, 3).await;
    assert!(replayed(&elsewhere), "{elsewhere:?}");
}

#[tokio::test]
async fn a_job_of_before_can_be_replaced_by_a_stronger_one() {
    let world = World::ephemeral();
    let first = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    world.control.set(Mode::Away);
    let stronger = world
        .sign("10.77.1.2", &oidc("acme/web", "1", "jti-1", 1), 1)
        .await
        .unwrap();
    assert_eq!(stronger.lease.assurance(), Assurance::Signed);
    assert!(world.jobs.outbox().is_ended(&first.lease.id));
    world.control.set(Mode::There);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    assert_eq!(
        world.control.claims.lock()[1].replaces,
        std::slice::from_ref(&first.lease.id)
    );
}

#[tokio::test]
async fn a_gateway_that_was_never_synced_knows_no_credentials_and_says_so() {
    let world = World::ephemeral();
    let never = PolicySet {
        store: Store::NeverRead,
        ..PolicySet::default()
    };
    world.leases.set_policies(std::sync::Arc::new(never));
    let unknown = tidegate_control_wire::secret::Secret::new(tidegate_control_wire::secret::Role::Runner);
    let refused = world
        .declare("10.77.1.2", &unknown, &body("acme/web", "1"), 0)
        .await;
    assert_eq!(refused.unwrap_err(), StartError::Auth(AuthError::NeverSynced));
}

#[tokio::test]
async fn without_a_control_plane_claims_are_taken_and_nothing_is_to_be_told() {
    let world = World::ephemeral();
    world.control.set(Mode::Off);
    let unknown = tidegate_control_wire::secret::Secret::new(tidegate_control_wire::secret::Role::Runner);
    let refused = world
        .declare("10.77.1.2", &unknown, &body("acme/web", "1"), 0)
        .await;
    assert_eq!(refused.unwrap_err(), StartError::Auth(AuthError::NoControl));
    let claim = claimed("acme", "web", "1", b"").unwrap();
    world
        .jobs
        .monitor(asker("10.77.1.2"), claim, at(0))
        .await
        .unwrap();
    let nothing = Shown {
        bearer: None,
        oidc: None,
    };
    world.jobs.end(asker("10.77.1.2"), nothing, at(1)).await.unwrap();
    world.jobs.tick(at(2)).await;
    assert_eq!(world.jobs.outbox().depth(), 0);
}
