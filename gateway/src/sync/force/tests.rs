//! Tests of putting batches in force: what the lease table makes of them, and what a restart finds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use tidegate_control_wire::record::{BlockChange, BlockLayer, Change, Ending};
use tidegate_policy::DnsName;
use tidegate_policy::effective::Generation;
use tidegate_policy::job::Scope;
use tidegate_policy::lease::Party;
use tidegate_policy::subject::Standing;
use tidegate_policy::verdict::Reason;

use super::*;
use fixture::*;

#[test]
fn what_was_never_synced_refuses_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    assert_eq!(
        gateway.judged("10.0.0.9"),
        Err(Reason::PolicyUnknown),
        "it may be a job that could not register, and no block list is known"
    );
    // A lease that this gateway granted itself before it ever heard of a policy.
    let Change::Lease(own) = lease("own", "10.0.0.3", 6) else {
        unreachable!()
    };
    Leases::at(&gateway.table, NOW, wall())
        .adopt(&own, |_| None)
        .unwrap();
    assert_eq!(
        gateway.judged("10.0.0.3"),
        Err(Reason::PolicyUnknown),
        "never a looser default"
    );
    gateway.take(vec![batch(true, 1, Vec::new())]);
    assert_eq!(
        gateway.judged("10.0.0.3"),
        Ok("default.yaml".into()),
        "an empty store is a known one"
    );
}

#[test]
fn a_restart_with_control_away_finds_policies_credentials_and_leases_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot()]);
    gateway.take(vec![batch(
        false,
        6,
        vec![
            policy("org", AUDIT),
            attach("org:acme", "org"),
            lease("old", "10.0.0.7", 0),
        ],
    )]);
    assert_eq!(gateway.judged("10.0.0.1"), Ok("web".into()));
    drop(gateway);
    let again = Gateway::start(folder.path());
    assert_eq!(again.judged("10.0.0.1"), Ok("web".into()));
    assert_eq!(again.standing("10.0.0.2"), Standing::Leased);
    assert_eq!(
        again.standing("10.0.0.7"),
        Standing::Unleased,
        "its time was over"
    );
    assert_eq!(again.control.generation(), Generation(6));
    let report = again.control.report().unwrap();
    assert_eq!(
        (&report["state"], &report["epoch"]),
        (&"away".into(), &"one".into())
    );
    assert!(report["age_seconds"].is_i64(), "how old it is can be told");
}

#[test]
fn a_damaged_file_is_as_if_it_had_never_synced() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot(), batch(false, 6, vec![policy("org", AUDIT)])]);
    drop(gateway);
    let file = folder.path().join("state").join(crate::journal::FILE);
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replacen("\"kind\"", "\"kynd\"", 1);
    std::fs::write(&file, text).unwrap();
    let mut again = Gateway::start(folder.path());
    assert_eq!(again.control.generation(), Generation(0));
    assert_eq!(again.standing("10.0.0.1"), Standing::Unleased);
    assert!(again.control.resume().is_none(), "a whole snapshot is asked for");
    again.take(vec![snapshot()]);
    drop(again);
    assert_eq!(
        Gateway::start(folder.path()).judged("10.0.0.1"),
        Ok("web".into()),
        "the next snapshot mends it"
    );
}

#[test]
fn leases_begin_end_and_move_as_control_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot()]);
    let (changed, refused) = gateway.take(vec![batch(
        false,
        6,
        vec![
            gone("job-1", Ending::Quarantine),
            gone("job-2", Ending::Release),
            lease("job-3", "10.0.0.3", 6),
        ],
    )]);
    assert!(refused.is_empty());
    for source in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        assert!(
            changed.contains(&source.parse().unwrap()),
            "flows of {source} are judged again"
        );
    }
    assert_eq!(gateway.standing("10.0.0.1"), Standing::Quarantined);
    assert_eq!(
        gateway.standing("10.0.0.2"),
        Standing::Unleased,
        "its machine is gone"
    );
    assert_eq!(gateway.standing("10.0.0.3"), Standing::Leased);
    // The release of one that was quarantined here before, by the job's own end.
    gateway.take(vec![batch(false, 7, vec![lease("job-4", "10.0.0.4", 6)])]);
    gateway.table.end("job-4", &Party::Operator, NOW).unwrap();
    assert_eq!(gateway.standing("10.0.0.4"), Standing::Quarantined);
    gateway.take(vec![batch(false, 8, vec![gone("job-4", Ending::Release)])]);
    assert_eq!(gateway.standing("10.0.0.4"), Standing::Unleased);
}

#[test]
fn the_end_of_a_lease_does_not_touch_who_holds_its_source_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot()]);
    gateway.take(vec![batch(false, 6, vec![lease("job-9", "10.0.0.1", 6)])]);
    gateway.take(vec![batch(false, 7, vec![gone("job-1", Ending::Release)])]);
    let lease = gateway.table.lease_at("10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!(lease.id, "job-9");
}

#[test]
fn a_lease_that_ended_here_is_not_resurrected_by_the_stream_or_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start_with(folder.path(), Arc::new(Ended("job-1")));
    let (_, refused) = gateway.take(vec![snapshot()]);
    assert!(refused.is_empty());
    assert_eq!(gateway.standing("10.0.0.1"), Standing::Unleased);
    assert_eq!(gateway.standing("10.0.0.2"), Standing::Leased);
    drop(gateway);
    let again = Gateway::start_with(folder.path(), Arc::new(Ended("job-1")));
    assert_eq!(again.standing("10.0.0.1"), Standing::Unleased);
}

#[test]
fn a_lease_whose_job_ends_it_while_the_stream_brings_it_stays_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start_with(folder.path(), Arc::new(EndsMeanwhile::new("job-1")));
    gateway.take(vec![snapshot()]);
    assert_eq!(gateway.standing("10.0.0.1"), Standing::Quarantined);
    assert_eq!(gateway.standing("10.0.0.2"), Standing::Leased);
}

#[test]
fn a_lease_that_does_not_fit_here_is_told_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    let (_, refused) = gateway.take(vec![batch(
        true,
        1,
        vec![lease("far", "192.0.2.1", 6), lease("job-1", "10.0.0.1", 6)],
    )]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].id, "far");
    assert!(refused[0].reason.contains("192.0.2.1"), "{}", refused[0].reason);
    assert_eq!(
        gateway.standing("10.0.0.1"),
        Standing::Leased,
        "the others are in place"
    );
}

#[test]
fn a_snapshot_that_says_the_same_puts_nothing_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path());
    assert!(
        gateway
            .enforcer
            .lock()
            .learn(vec![snapshot()], &gateway.control)
            .synced
            .is_some()
    );
    let again = Batch {
        generation: Generation(9),
        ..snapshot()
    };
    let learnt = gateway.enforcer.lock().learn(vec![again], &gateway.control);
    assert!(
        learnt.synced.is_none() && learnt.leases.is_empty(),
        "no rulebook is swapped"
    );
    let leases_only = gateway.enforcer.lock().learn(
        vec![batch(false, 10, vec![lease("job-7", "10.0.0.7", 1)])],
        &gateway.control,
    );
    assert!(leases_only.synced.is_none() && leases_only.leases.len() == 1);
}

#[test]
fn of_batches_that_wait_the_last_state_is_put_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![
        snapshot(),
        batch(
            false,
            6,
            vec![policy("web", AUDIT), lease("job-3", "10.0.0.3", 6)],
        ),
        batch(
            false,
            7,
            vec![policy("web", "use: [missing]\n"), gone("job-3", Ending::Release)],
        ),
    ]);
    assert_eq!(gateway.judged("10.0.0.1"), Err(Reason::PolicyUnknown));
    assert_eq!(gateway.standing("10.0.0.3"), Standing::Unleased);
    let degraded = gateway.control.degraded();
    assert_eq!(
        degraded,
        ["synced policies that can't be used, so that whom they govern is refused everything: 1"]
    );
    drop(gateway);
    assert_eq!(Gateway::start(folder.path()).control.generation(), Generation(7));
}

fn hits(synced: &Synced, layer: usize, name: &str) -> bool {
    synced.layers[layer]
        .find_name(&DnsName::parse(name).unwrap())
        .is_some()
}

#[test]
fn a_policy_does_not_wait_for_a_long_block_list_but_nobody_begins_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path());
    let patterns = (0..=SMALL_LIST).map(|at| format!("n{at}.test"));
    let feed = |add: Vec<String>| {
        Change::Block(BlockChange {
            layer: BlockLayer::Feed,
            add,
            remove: Vec::new(),
        })
    };
    let first = batch(true, 1, vec![feed(patterns.collect())]);
    let mut enforcer = gateway.enforcer.lock();
    let synced = enforcer.learn(vec![first], &gateway.control).synced.unwrap();
    assert!(hits(&synced, 1, "n7.test"), "the first snapshot is whole");
    let second = batch(
        false,
        2,
        vec![
            feed(vec!["late.test".into()]),
            policy("web", BLOCK),
            attach("org:acme", "web"),
        ],
    );
    let synced = enforcer.learn(vec![second], &gateway.control).synced.unwrap();
    assert!(
        synced
            .attached
            .contains_key(&"org:acme".parse::<Scope>().unwrap()),
        "the policy is there"
    );
    assert!(
        hits(&synced, 1, "n7.test") && !hits(&synced, 1, "late.test"),
        "the list is still the older one"
    );
    for layer in enforcer.mirror.take_stale_layers(usize::MAX) {
        enforcer.mirror.put_layer(layer.compile());
    }
    assert!(hits(
        &enforcer.synced(&gateway.control, SMALL_LIST),
        1,
        "late.test"
    ));
}

#[test]
fn an_end_is_noted_and_its_quarantine_is_on_disk_before_the_file_says_it() {
    let folder = tempfile::tempdir().unwrap();
    let noting = Arc::new(Noting::new(folder.path()));
    let mut gateway = Gateway::start_with(folder.path(), noting.clone());
    gateway.take(vec![snapshot()]);
    noting.told.lock().clear();
    gateway.take(vec![batch(false, 6, vec![gone("job-1", Ending::Quarantine)])]);
    assert_eq!(*noting.told.lock(), ["job-1 ended", "sources before the file"]);
    let text = std::fs::read_to_string(&noting.file).unwrap();
    assert!(text.contains("lease-gone"), "{text}");
}

#[test]
fn a_lease_of_the_disk_whose_source_was_quarantined_since_it_began_is_not_resurrected() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot()]);
    drop(gateway);
    for (after, standing) in [
        (-1, Standing::Leased),
        (0, Standing::Unleased),
        (1, Standing::Unleased),
    ] {
        let left = Some((
            "10.0.0.1".parse().unwrap(),
            wall() + jiff::SignedDuration::from_secs(after),
        ));
        let noting = Noting {
            left,
            ..Noting::new(folder.path())
        };
        let again = Gateway::start_with(folder.path(), Arc::new(noting));
        assert_eq!(
            again.standing("10.0.0.1"),
            standing,
            "left {after} s after it began"
        );
        assert_eq!(again.standing("10.0.0.2"), Standing::Leased);
    }
}

/// After a fault nothing is known until everything was sent anew, and the disk keeps what it had: neither an empty store,
/// which would give every job a default, nor changes whose forerunners are missing.
#[test]
fn what_was_forgotten_leaves_the_disk_as_it_was_until_everything_is_sent_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot()]);
    gateway.enforcer.lock().start_over(&gateway.control);
    let late = batch(false, 7, vec![policy("org", AUDIT), attach("org:acme", "org")]);
    gateway.take(vec![late]);
    assert!(gateway.enforcer.lock().snapshot().is_none());
    assert_eq!(
        gateway.judged("10.0.0.1"),
        Ok("web".into()),
        "what was in force stays"
    );
    let again = Gateway::start(folder.path());
    assert_eq!(again.control.generation(), Generation(5), "nothing is left out");
    assert_eq!(again.judged("10.0.0.1"), Ok("web".into()));
}

/// After a reconnection the stream says again what was said before: the word that a machine is gone is about that machine.
#[test]
fn a_release_frees_no_source_that_a_later_lease_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path());
    gateway.take(vec![snapshot()]);
    let source = "10.0.0.1";
    let released = |id: &str| Change::LeaseGone {
        id: id.into(),
        ending: Ending::Release,
        sources: vec![source.parse().unwrap()],
    };
    gateway.take(vec![batch(
        false,
        6,
        vec![released("job-1"), lease("job-8", source, 6)],
    )]);
    assert_eq!(gateway.standing(source), Standing::Leased);
    gateway.take(vec![batch(false, 7, vec![gone("job-8", Ending::Quarantine)])]);
    let again = vec![released("job-1"), gone("job-8", Ending::Quarantine)];
    gateway.take(vec![batch(false, 8, again)]);
    assert_eq!(gateway.standing(source), Standing::Quarantined);
    gateway.take(vec![batch(false, 9, vec![released("job-8")])]);
    assert_eq!(gateway.standing(source), Standing::Unleased);
}

/// A store that was put back to a copy believes in leases that ended since: it hears so, else it would keep their sources
/// from everybody.
#[test]
fn control_is_told_again_of_an_end_that_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let noting = Arc::new(Noting::new(folder.path()));
    let mut gateway = Gateway::start_with(folder.path(), noting.clone());
    gateway.take(vec![snapshot()]);
    noting.told.lock().clear();
    let copy = Batch {
        epoch: "two".into(),
        changes: [snapshot().changes, vec![lease("ended", "10.0.0.9", 6)]].concat(),
        ..snapshot()
    };
    gateway.take(vec![copy]);
    assert_eq!(noting.told.lock()[0], "ended ended again");
    assert_eq!(gateway.standing("10.0.0.9"), Standing::Unleased);
    assert_eq!(gateway.standing("10.0.0.1"), Standing::Leased);
}
