//! What a restart of the gateway must not lose.

use tidegate_policy::lease::RegisterError;

use super::fixture::{Mode, World, asker, at, body, ip, mac, oidc};
use crate::jobs::Shown;
use crate::jobs::asker::Asker;
use crate::jobs::refused::StartError;
use crate::jobs::registrar::JOB_LIFETIME;
use crate::sync::EndedLeases;

#[tokio::test]
async fn leases_that_control_was_not_told_of_are_in_place_again() {
    let world = World::ephemeral();
    world.control.set(Mode::Away);
    let token = oidc("acme/api", "2", "jti-1", 0);
    let one = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    world.sign("10.77.1.3", &token, 0).await.unwrap();
    world.jobs.tick(at(1)).await;
    let world = world.restarted(100);
    assert_eq!(
        (world.judged("10.77.1.2", 100), world.judged("10.77.1.3", 100)),
        ("web".into(), "acme".into())
    );
    let lease = world.leases.lease(&one.lease.id).unwrap();
    assert_eq!(lease.began.0, 7);
    assert_eq!(
        lease.expires.unwrap(),
        at(JOB_LIFETIME.as_secs()).moment,
        "its time goes on"
    );
    assert_eq!(
        world.leases.binding(ip("10.77.1.2")),
        Some(mac(2)),
        "bound to its machine"
    );
    assert_eq!(
        world.sign("10.77.1.9", &token, 101).await.unwrap_err(),
        StartError::Replayed
    );
    world.control.set(Mode::There);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    assert_eq!(world.control.claims.lock().len(), 2);
}

#[tokio::test]
async fn another_machine_that_took_the_address_meanwhile_inherits_nothing() {
    let world = World::ephemeral();
    world.control.set(Mode::Away);
    world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    world.jobs.tick(at(1)).await;
    let world = world.restarted(100);
    let other = Asker {
        source: ip("10.77.1.2"),
        mac: Some(mac(99)),
    };
    assert_eq!(
        world.leases.binding(other.source),
        Some(mac(2)),
        "not to the new one"
    );
    let refused = world
        .start(
            other,
            Some(world.tokens.any.expose()),
            &body("acme/api", "2"),
            101,
        )
        .await;
    assert!(
        matches!(refused, Err(StartError::Lease(RegisterError::Held { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn quarantine_outlives_the_process_at_once_and_ends_with_the_machine() {
    let world = World::ephemeral();
    world.see(&[("10.77.1.2", 2), ("fd77:1::2", 2)]);
    let any = world.tokens.any.expose().to_owned();
    let shown = Shown {
        bearer: Some(&any),
        oidc: None,
    };
    let started = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    world.jobs.end(asker("10.77.1.2"), shown, at(1)).await.unwrap();
    // Killed before the next second's look.
    let world = world.restarted(10);
    assert_eq!(world.judged("10.77.1.2", 10), "quarantined");
    assert_eq!(world.judged("fd77:1::2", 10), "quarantined");
    assert!(
        world.jobs.keeper().is_ended(&started.lease.id),
        "the synced state can't bring it back"
    );
    let again = world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 11)
        .await;
    assert!(
        matches!(again, Err(StartError::Lease(RegisterError::Quarantined(_)))),
        "{again:?}"
    );
    world.see(&[("10.77.1.2", 5)]);
    world.jobs.tick(at(12)).await;
    let world = world.restarted(20);
    world.see(&[("10.77.1.2", 5)]);
    assert_eq!(world.judged("10.77.1.2", 20), "default", "another machine");
}

#[tokio::test]
async fn a_lease_that_expired_while_the_gateway_was_down_leaves_its_machine_quarantined() {
    let world = World::ephemeral();
    world.control.set(Mode::Away);
    world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 0)
        .await
        .unwrap();
    world.jobs.tick(at(1)).await;
    let over = JOB_LIFETIME.as_secs() + 1;
    let world = world.restarted(over);
    assert_eq!(world.judged("10.77.1.2", over), "quarantined");
    world.control.set(Mode::There);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let (begun, ended) = world.control.told();
    assert_eq!((begun.len(), &ended), (1, &begun));
}

/// The disk may not have heard of an end that control was told of: the quarantine that it left says so.
#[tokio::test]
async fn a_source_that_was_left_after_a_lease_began_says_that_the_lease_ended() {
    let world = World::ephemeral();
    let any = world.tokens.any.expose().to_owned();
    let shown = Shown {
        bearer: Some(&any),
        oidc: None,
    };
    world
        .declare("10.77.1.2", &world.tokens.any, &body("acme/web", "1"), 10)
        .await
        .unwrap();
    world.jobs.end(asker("10.77.1.2"), shown, at(20)).await.unwrap();
    assert!(world.jobs.outbox().flush(&*world.control).await);
    let world = world.restarted(30);
    let keeper = world.jobs.keeper();
    for (source, began, left) in [
        ("10.77.1.2", 10, true),
        ("10.77.1.2", 21, false),
        ("10.77.1.3", 10, false),
    ] {
        assert_eq!(
            keeper.was_left(ip(source), at(began).wall),
            left,
            "{source}, begun at {began}"
        );
    }
}

#[tokio::test]
async fn an_end_is_told_again_once_at_a_time() {
    let world = World::ephemeral();
    let id: compact_str::CompactString = "job_1".into();
    for _ in 0..2 {
        world.jobs.keeper().tell_again(&id);
    }
    assert_eq!(world.jobs.outbox().depth(), 1);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    world.jobs.keeper().tell_again(&id);
    assert!(world.jobs.outbox().flush(&*world.control).await);
    assert_eq!(world.control.told().1, ["job_1", "job_1"]);
}
