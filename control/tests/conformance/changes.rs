//! What gateways are told: changes since a position, and snapshots, which must always mean the same.

use jiff::Timestamp;
use tidegate_control::model::{Apply, NewToken};
use tidegate_control::store::{
    BlockUpdate, ChangesPage, Expected, MAX_BLOCK_DELTA, Retention, Since, Store, StoreError,
};
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::record::{BlockLayer, Change, Ending, MAX_VERSIONS, PolicyRecord};
use tidegate_control_wire::secret::Role;
use tidegate_policy::effective::Generation;
use tokio::sync::mpsc;

use crate::bench::Bench;
use crate::fixture::{actor, claim, claimed, end, in_seconds, token, wanted};
use crate::reader::{Reader, snapshot, whole};

fn page(since: Since) -> ChangesPage {
    match since {
        Since::Page(page) => page,
        Since::TooOld => panic!("too old"),
    }
}

fn newest(store: &Store) -> Generation {
    *store.db().newest().borrow()
}

/// Forget every change but the newest, and everything that has ended.
fn everything() -> Retention {
    Retention {
        changes: std::time::Duration::ZERO,
        jobs: std::time::Duration::ZERO,
        seen: std::time::Duration::ZERO,
    }
}

fn yaml(version: u32) -> String {
    format!("egress-policy: block\nallowed-endpoints: v{version}.example:443\n")
}

async fn policy_record(store: &Store) -> PolicyRecord {
    let changes = page(store.changes_since(Generation(0), "a", 5_000).await.unwrap()).changes;
    let (listed, _) = snapshot(store, "a").await;
    let record = |changes: &[Change]| {
        changes.iter().find_map(|change| match change {
            Change::Policy(record) => Some(record.clone()),
            _ => None,
        })
    };
    assert_eq!(record(&changes), record(&listed), "both ways tell the same");
    record(&changes).unwrap()
}

pub(crate) async fn a_policy_has_the_versions_that_may_govern_somebody(bench: Bench) {
    let store = bench.open().await;
    store
        .create_policy("acme", "base", &yaml(1), &actor())
        .await
        .unwrap();
    let publish = async |apply: Apply, from: u32, to: u32| {
        for version in from..=to {
            let expected = Expected::Version(version - 1);
            let text = yaml(version);
            store
                .update_policy("acme", "base", expected, &text, apply, &actor())
                .await
                .unwrap();
        }
        let record = policy_record(&store).await;
        let versions: Vec<u32> = record.versions.iter().map(|one| one.version).collect();
        assert!(record.versions.is_sorted_by_key(|one| one.since));
        assert!(record.versions.iter().all(|one| one.yaml == yaml(one.version)));
        assert_eq!(record.versions.last().unwrap().since, newest(&store));
        versions
    };
    assert_eq!(publish(Apply::NextJob, 2, 4).await, [1, 2, 3, 4]);
    assert_eq!(publish(Apply::Now, 5, 5).await, [5]);
    assert_eq!(publish(Apply::NextJob, 6, 6).await, [5, 6]);
    let many = publish(Apply::NextJob, 7, 30).await;
    assert_eq!(many, (15..=30).collect::<Vec<u32>>());
    assert_eq!(many.len(), MAX_VERSIONS);

    // Together they have to fit into one line of the stream.
    let long = |version: u32| format!("{}# {}\n", yaml(version), "x".repeat(900_000));
    for version in 31..=38 {
        store
            .update_policy(
                "acme",
                "base",
                Expected::Any,
                &long(version),
                Apply::NextJob,
                &actor(),
            )
            .await
            .unwrap();
    }
    let record = policy_record(&store).await;
    let versions: Vec<u32> = record.versions.iter().map(|one| one.version).collect();
    assert_eq!(versions, [35, 36, 37, 38]);
}

pub(crate) async fn several_changes_of_one_thing_are_one(bench: Bench) {
    let store = bench.open().await;
    store
        .create_policy("acme", "base", &yaml(1), &actor())
        .await
        .unwrap();
    let (_, runner) = token(&store, &wanted(Role::Runner)).await;
    let one = claimed(&store, &claim("job_1", &["10.0.0.1"])).await;
    store
        .update_policy("acme", "base", Expected::Any, &yaml(2), Apply::Now, &actor())
        .await
        .unwrap();
    store.revoke_token(&runner.id, &actor()).await.unwrap();
    let told = page(store.changes_since(Generation(0), "a", 100).await.unwrap());
    assert_eq!((told.upto, told.more), (newest(&store), false));
    match told.changes.as_slice() {
        [
            Change::Lease(lease),
            Change::Policy(policy),
            Change::TokenGone { id },
        ] => {
            assert_eq!(*lease, one.record);
            assert_eq!((policy.versions.len(), policy.versions[0].version), (1, 2));
            assert_eq!(*id, runner.id);
        }
        other => panic!("{other:?}"),
    }
    let none = page(store.changes_since(told.upto, "a", 100).await.unwrap());
    assert_eq!(
        none,
        ChangesPage {
            changes: vec![],
            upto: told.upto,
            more: false
        }
    );
}

pub(crate) async fn pages_are_bounded_and_end_at_the_newest_change(bench: Bench) {
    let store = bench.open().await;
    for at in 0..25 {
        let group = if at % 5 == 0 { "a" } else { "b" };
        let one = claim(&format!("job_{at}"), &[&format!("10.0.0.{at}")]);
        store.claim(&one, group, "gw-1").await.unwrap();
    }
    store
        .create_policy("acme", "base", &yaml(1), &actor())
        .await
        .unwrap();
    for at in 25..30 {
        let one = claim(&format!("job_{at}"), &[&format!("10.0.0.{at}")]);
        store.claim(&one, "b", "gw-1").await.unwrap();
    }
    let (mut at, mut pages, mut seen) = (Generation(0), 0, 0);
    loop {
        let next = page(store.changes_since(at, "a", 2).await.unwrap());
        assert!(next.changes.len() <= 2 && next.upto > at, "{next:?}");
        (at, pages, seen) = (next.upto, pages + 1, seen + next.changes.len());
        if !next.more {
            break;
        }
    }
    assert_eq!(
        (pages, seen, at),
        (3, 6, newest(&store)),
        "others' leases are passed over"
    );

    // Documents bound a page, too.
    for at in 0..20 {
        let text = format!("{}# {}\n", yaml(1), "x".repeat(900_000));
        store
            .create_policy("acme", &format!("long-{at}"), &text, &actor())
            .await
            .unwrap();
    }
    let first = page(store.changes_since(at, "a", 1_000).await.unwrap());
    assert!(first.more && first.changes.len() == 10, "{}", first.changes.len());
    let second = page(store.changes_since(first.upto, "a", 1_000).await.unwrap());
    assert!(
        !second.more && second.changes.len() == 10,
        "{}",
        second.changes.len()
    );
}

pub(crate) async fn a_position_that_is_not_known_is_too_old(bench: Bench) {
    let store = bench.open().await;
    assert_eq!(
        page(store.changes_since(Generation(0), "a", 10).await.unwrap()).changes,
        []
    );
    let beyond = store.changes_since(Generation(1), "a", 10).await.unwrap();
    assert_eq!(beyond, Since::TooOld, "of a store that was put back");
    assert_eq!(
        store.changes_since(Generation(u64::MAX), "a", 10).await.unwrap(),
        Since::TooOld
    );
    for at in 0..5 {
        claimed(&store, &claim(&format!("job_{at}"), &[&format!("10.0.0.{at}")])).await;
    }
    let before = newest(&store);
    let pruned = store.prune(everything()).await.unwrap();
    assert_eq!(pruned.changes, before.0 - 1, "the newest stays");
    assert_eq!(
        store.changes_since(Generation(0), "a", 10).await.unwrap(),
        Since::TooOld
    );
    let held = Generation(before.0 - 1);
    assert_eq!(
        page(store.changes_since(held, "a", 10).await.unwrap())
            .changes
            .len(),
        1
    );
    drop(store);
    // The numbers go on, and what was forgotten stays forgotten.
    let store = bench.open().await;
    assert_eq!(newest(&store), before);
    assert_eq!(
        store.changes_since(Generation(0), "a", 10).await.unwrap(),
        Since::TooOld
    );
    let next = claimed(&store, &claim("job_next", &["10.0.1.1"])).await;
    assert!(next.generation > before);
    assert_eq!(store.prune(Retention::default()).await.unwrap().changes, 0);
}

pub(crate) async fn a_feed_that_was_loaded_is_told_by_a_snapshot(bench: Bench) {
    let store = bench.open().await;
    let before = claimed(&store, &claim("job_1", &["10.0.0.1"])).await.generation;
    let feed = BlockUpdate {
        full: true,
        add: (0..=MAX_BLOCK_DELTA)
            .map(|at| (format!("n{at}.example"), String::new()))
            .collect(),
        remove: Vec::new(),
    };
    store
        .apply_block_layer(BlockLayer::Feed, feed, &[])
        .await
        .unwrap();
    for limit in [1, 5_000] {
        let since = store.changes_since(before, "a", limit).await.unwrap();
        assert_eq!(
            since,
            Since::TooOld,
            "with every bound alike, or a gateway would turn in circles"
        );
    }
    let (changes, of) = snapshot(&store, "a").await;
    let patterns: usize = changes
        .iter()
        .map(|change| match change {
            Change::Block(change) => change.add.len(),
            _ => 0,
        })
        .sum();
    assert_eq!((patterns, of), (MAX_BLOCK_DELTA + 1, newest(&store)));
    assert_eq!(page(store.changes_since(of, "a", 10).await.unwrap()).changes, []);
}

pub(crate) async fn leases_are_told_to_their_own_group_only(bench: Bench) {
    let store = bench.open().await;
    token(&store, &wanted(Role::Runner)).await;
    let mine = claimed(&store, &claim("job_1", &["10.0.0.1"])).await;
    store
        .claim(&claim("job_2", &["10.0.0.1"]), "b", "gw-2")
        .await
        .unwrap();
    for (group, leases) in [
        ("a", vec!["job_1"]),
        ("b", vec!["job_2"]),
        ("", vec![]),
        ("'; --", vec![]),
    ] {
        let told = page(store.changes_since(Generation(0), group, 100).await.unwrap()).changes;
        let (listed, _) = snapshot(&store, group).await;
        let ids = |changes: &[Change]| {
            let leases = changes.iter().filter_map(|change| match change {
                Change::Lease(lease) => Some(lease.id.to_string()),
                _ => None,
            });
            leases.collect::<Vec<_>>()
        };
        assert_eq!((ids(&told), ids(&listed)), (ids(&told), ids(&told)), "{group:?}");
        assert_eq!(ids(&told), leases, "{group:?}");
        assert_eq!(told.len(), leases.len() + 1, "everybody knows the token");
    }
    // Told as gone to who can have known it.
    store
        .end_job("job_1", None, &end(EndedBy::Job, Ending::Release))
        .await
        .unwrap();
    let told = page(store.changes_since(mine.generation, "b", 100).await.unwrap()).changes;
    assert!(
        !told
            .iter()
            .any(|change| matches!(change, Change::LeaseGone { .. })),
        "{told:?}"
    );
}

pub(crate) async fn what_was_forgotten_is_told_as_gone(bench: Bench) {
    let store = bench.open().await;
    let one = claimed(&store, &claim("job_1", &["10.0.0.1"])).await;
    store
        .end_job("job_1", None, &end(EndedBy::Job, Ending::Release))
        .await
        .unwrap();
    let keep_changes = Retention {
        jobs: std::time::Duration::ZERO,
        ..Retention::default()
    };
    let pruned = store.prune(keep_changes).await.unwrap();
    assert_eq!((pruned.jobs, pruned.changes), (1, 0));
    let told = page(store.changes_since(one.generation, "a", 10).await.unwrap()).changes;
    let ending = Ending::Quarantine;
    assert_eq!(
        told,
        [Change::LeaseGone {
            id: "job_1".into(),
            ending,
            sources: Vec::new(),
        }],
        "the safe one of two endings"
    );
    let job = store.job("job_1").await;
    assert!(matches!(job, Err(StoreError::NotFound { .. })), "{job:?}");
}

pub(crate) async fn a_snapshot_that_nobody_reads_ends(bench: Bench) {
    let store = bench.open().await;
    for at in 0..10 {
        claimed(&store, &claim(&format!("job_{at}"), &[&format!("10.0.0.{at}")])).await;
    }
    let (changes, mut taken) = mpsc::channel(1);
    let reading = {
        let store = store.clone();
        tokio::spawn(async move { store.snapshot("a", changes).await })
    };
    taken.recv().await.unwrap();
    drop(taken);
    let outcome = reading.await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Unread)), "{outcome:?}");
    assert_eq!(
        snapshot(&store, "a").await.0.len(),
        10,
        "its transaction harms nobody"
    );
}

pub(crate) async fn slow_snapshots_wait_for_each_other_and_leave_room_for_others(bench: Bench) {
    let store = bench.open().await;
    for at in 0..20 {
        claimed(&store, &claim(&format!("job_{at}"), &[&format!("10.0.0.{at}")])).await;
    }
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (changes, taken) = mpsc::channel(1);
        let store = store.clone();
        let reading = tokio::spawn(async move { store.snapshot("a", changes).await });
        slow.push((reading, taken));
    }
    // Some of them have begun; nobody takes anything.
    let begun = async || {
        while !slow.iter().any(|(_, taken)| !taken.is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), begun())
        .await
        .unwrap();
    for _ in 0..20 {
        assert!(store.job("job_1").await.is_ok(), "there are connections left");
    }
    // Once they are read, each gets its turn.
    let mut all = Vec::new();
    for (reading, mut taken) in slow {
        all.push(tokio::spawn(async move {
            let mut count = 0;
            while taken.recv().await.is_some() {
                count += 1;
            }
            (count, reading.await.unwrap().unwrap())
        }));
    }
    for one in all {
        assert_eq!(one.await.unwrap(), (20, newest(&store)));
    }
}

pub(crate) async fn a_snapshot_is_of_one_moment_while_others_write(bench: Bench) {
    let store = bench.open().await;
    for at in 0..300 {
        claimed(
            &store,
            &claim(
                &format!("job_still_{at:03}"),
                &[&format!("10.1.{}.{}", at / 250, at % 250)],
            ),
        )
        .await;
    }
    claimed(&store, &claim("job_0", &["10.0.0.1"])).await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let writer = {
        let store = bench.open().await;
        tokio::spawn(async move {
            let mut last = 0;
            while !*stopped.borrow_and_update() {
                // One transaction: at every moment exactly one lease is on the source.
                let mut next = claim(&format!("job_{}", last + 1), &["10.0.0.1"]);
                next.replaces = vec![format!("job_{last}").into()];
                claimed(&store, &next).await;
                last += 1;
            }
            last
        })
    };
    let mut reader = Reader::new("a", 50);
    let mut moments = std::collections::BTreeSet::new();
    for _ in 0..25 {
        let (changes, of) = snapshot(&store, "a").await;
        moments.insert(of);
        let on_source: Vec<_> = changes
            .iter()
            .filter(|change| match change {
                Change::Lease(lease) => lease.sources == ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()],
                _ => false,
            })
            .collect();
        assert_eq!(
            (changes.len(), on_source.len()),
            (301, 1),
            "at {of}: {on_source:?}"
        );
        match on_source[0] {
            Change::Lease(lease) => assert!(lease.began <= of),
            other => panic!("{other:?}"),
        }
        reader.catch_up(&store).await;
        assert_eq!(
            reader.mirror().leases().count(),
            301,
            "at {}",
            reader.mirror().generation()
        );
    }
    stop.send_replace(true);
    assert!(writer.await.unwrap() > 5, "the writer wrote all the while");
    assert!(moments.len() > 5, "{moments:?}");
    let (listed, _) = snapshot(&store, "a").await;
    reader.catch_up(&store).await;
    assert_eq!(reader.state(), whole(&listed));
}

pub(crate) async fn a_second_control_plane_hears_of_changes(bench: Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    assert_eq!(one.epoch().await.unwrap(), two.epoch().await.unwrap());
    let made = claimed(&one, &claim("job_1", &["10.0.0.1"])).await;
    let mut known = two.db().newest();
    let hears = known.wait_for(|known| *known >= made.generation);
    tokio::time::timeout(std::time::Duration::from_secs(10), hears)
        .await
        .expect("it polls")
        .unwrap();
    let told = page(two.changes_since(Generation(0), "a", 10).await.unwrap()).changes;
    assert_eq!(told, [Change::Lease(made.record)]);
}

pub(crate) async fn a_mirror_takes_a_token_that_expires_and_gateways_look_at_the_time(bench: Bench) {
    let store = bench.open().await;
    let brief = NewToken {
        expires_at: Some(in_seconds(60)),
        ..wanted(Role::Provisioner)
    };
    let (secret, _) = token(&store, &brief).await;
    let (changes, generation) = snapshot(&store, "a").await;
    let mut mirror = Mirror::new();
    mirror.apply(Batch {
        epoch: store.epoch().await.unwrap(),
        reset: true,
        changes,
        generation,
        at: Timestamp::now(),
    });
    let known = mirror.credentials().token(&secret.digest()).cloned().unwrap();
    let micros = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
    assert_eq!(micros(known.expires_at), micros(brief.expires_at));
}
