//! Snapshots, credentials, block lists and leases.

use super::*;

#[test]
fn a_snapshot_that_says_the_same_changes_nothing_and_compiles_nothing() {
    let all = vec![
        set("acme", "base", "- b.test:443\n"),
        policy("pol-1", vec![version(1, 1, "use: [base]\n")]),
        attach("repo:acme/web", "pol-1"),
        token("tok-1", "secret"),
        issuer("https://issuer.test", "tidegate"),
        block(BlockLayer::Builtin, &["evil.test", "*.bad.test"], &[]),
        lease("job-1", "10.0.0.1"),
    ];
    let mut scene = Scene::new(all.clone());
    let (compiled, layers) = (scene.policy_of("acme/web", 1), scene.layers());
    let credentials = Arc::clone(scene.mirror.credentials());
    assert_eq!(scene.snapshot_is(all), Touched::default());
    assert!(Arc::ptr_eq(&compiled, &scene.policy_of("acme/web", 1)));
    let again = scene.layers();
    assert!(layers.iter().zip(&again).all(|(one, two)| Arc::ptr_eq(one, two)));
    assert_eq!(
        credentials.tokens().count(),
        scene.mirror.credentials().tokens().count()
    );
    assert_eq!(scene.mirror.generation(), Generation(2));
}

#[test]
fn what_a_snapshot_leaves_out_is_gone() {
    let mut scene = Scene::new(vec![
        policy("pol-1", vec![version(1, 1, BLOCK)]),
        attach("repo:acme/web", "pol-1"),
        attach("org:acme", "pol-1"),
        token("tok-1", "secret"),
        issuer("https://issuer.test", "tidegate"),
        block(BlockLayer::Feed, &["evil.test"], &[]),
        lease("job-1", "10.0.0.1"),
        lease("job-2", "10.0.0.2"),
    ]);
    let touched = scene.snapshot_is(vec![
        policy("pol-1", vec![version(1, 1, BLOCK)]),
        attach("org:acme", "pol-1"),
        lease("job-2", "10.0.0.2"),
        lease("job-3", "10.0.0.1"),
    ]);
    assert!(touched.policies && touched.blocks && touched.credentials);
    let gone = LeaseTouch::Gone {
        id: "job-1".into(),
        ending: Ending::Quarantine,
        sources: vec!["10.0.0.1".parse().unwrap()],
    };
    assert_eq!(
        touched.leases,
        [gone, LeaseTouch::New(lease_boxed("job-3", "10.0.0.1"))],
        "the source is free before another holds it"
    );
    assert!(scene.mirror.credentials().token(&digest("secret")).is_none());
    assert_eq!(scene.mirror.credentials().issuers().count(), 0);
    assert!(scene.layers().iter().all(|layer| layer.is_empty()));
    assert_eq!(scene.mirror.attachments().count(), 1);
}

#[test]
fn tokens_and_issuers_are_replaced_and_revoked_by_id() {
    let mut scene = Scene::new(vec![token("tok-1", "first"), issuer("https://issuer.test", "a")]);
    let before = Arc::clone(scene.mirror.credentials());
    assert!(before.token(&digest("first")).is_some());
    assert!(
        !scene.say(vec![token("tok-1", "first")]).credentials,
        "nothing new"
    );
    assert!(
        scene
            .say(vec![token("tok-1", "second"), issuer("https://issuer.test", "b")])
            .credentials
    );
    let now = Arc::clone(scene.mirror.credentials());
    assert!(now.token(&digest("first")).is_none() && now.token(&digest("second")).is_some());
    assert_eq!(
        now.issuer("https://issuer.test").map(|one| one.audience.as_str()),
        Some("b")
    );
    assert!(
        before.token(&digest("first")).is_some(),
        "who holds the old pointer sees the old state"
    );
    let gone = vec![
        Change::TokenGone { id: "tok-1".into() },
        Change::TokenGone { id: "never".into() },
        Change::IssuerGone {
            issuer: "https://issuer.test".into(),
        },
    ];
    assert!(scene.say(gone.clone()).credentials);
    assert!(!scene.say(gone).credentials, "it was gone before");
    assert_eq!(scene.mirror.credentials().tokens().count(), 0);
}

#[test]
fn only_block_layers_that_changed_are_rebuilt() {
    let mut scene = Scene::new(vec![
        block(BlockLayer::Builtin, &["evil.test"], &[]),
        block(BlockLayer::Feed, &["*.feed.test", "203.0.113.0/24"], &[]),
    ]);
    let before = scene.layers();
    assert!(
        scene
            .say(vec![block(BlockLayer::Deployment, &["own.test"], &[])])
            .blocks
    );
    let after = scene.layers();
    let kept: Vec<bool> = before
        .iter()
        .zip(&after)
        .map(|(one, two)| Arc::ptr_eq(one, two))
        .collect();
    assert_eq!(kept, [true, true, false]);
    let hit = |layer: &GlobalBlock, name: &str| layer.find_name(&DnsName::parse(name).unwrap()).is_some();
    assert!(hit(&after[0], "evil.test") && hit(&after[1], "x.feed.test") && hit(&after[2], "own.test"));
    assert!(after[1].find_address("203.0.113.9".parse().unwrap()).is_some());
    let no_news = vec![block(BlockLayer::Deployment, &["own.test"], &["never.test"])];
    assert!(
        !scene.say(no_news).blocks,
        "adding what is there and removing what is not"
    );
    assert!(
        scene
            .say(vec![block(BlockLayer::Feed, &[], &["*.feed.test"])])
            .blocks
    );
    assert!(!hit(&scene.layers()[1], "x.feed.test"));
}

#[test]
fn a_pattern_that_is_not_understood_is_counted_and_the_others_block() {
    let mut scene = Scene::new(vec![block(
        BlockLayer::Feed,
        &["evil.test", "new-kind:x", "a..b"],
        &[],
    )]);
    let layers = scene.layers();
    assert!(
        layers[1]
            .find_name(&DnsName::parse("evil.test").unwrap())
            .is_some()
    );
    assert_eq!(scene.mirror.unread_patterns(), 2);
}

#[test]
fn leases_are_touched_once_in_the_order_in_which_it_happened() {
    let mut scene = Scene::new(vec![lease("job-1", "10.0.0.1")]);
    let touched = scene.say(vec![
        lease("job-1", "10.0.0.1"),
        lease("job-2", "10.0.0.2"),
        lease_gone("job-1", Ending::Release),
        lease("job-3", "10.0.0.1"),
        lease_gone("job-2", Ending::Quarantine),
        lease_gone("unknown", Ending::Quarantine),
    ]);
    let gone = |id: &str, ending, sources: &[&str]| LeaseTouch::Gone {
        id: id.into(),
        ending,
        sources: sources.iter().map(|one| one.parse().unwrap()).collect(),
    };
    assert_eq!(
        touched.leases,
        [
            gone("job-1", Ending::Release, &["10.0.0.1"]),
            LeaseTouch::New(lease_boxed("job-3", "10.0.0.1")),
            gone("job-2", Ending::Quarantine, &["10.0.0.2"]),
            gone("unknown", Ending::Quarantine, &[]),
        ],
        "what is held already is no news; one that came and went within the batch may be known here by another way"
    );
    let held: Vec<&str> = scene.mirror.leases().map(|one| one.id.as_str()).collect();
    assert_eq!(held, ["job-3"]);
}

#[test]
fn touches_of_two_batches_are_those_of_one() {
    let mut one = Scene::new(vec![lease("job-1", "10.0.0.1")]);
    let mut first = one.say(vec![
        lease_gone("job-1", Ending::Release),
        lease("job-2", "10.0.0.2"),
    ]);
    let second = one.say(vec![
        lease_gone("job-2", Ending::Quarantine),
        lease_gone("job-1", Ending::Release),
        token("tok-1", "x"),
    ]);
    first.merge(second);
    let mut other = Scene::new(vec![lease("job-1", "10.0.0.1")]);
    let together = other.say(vec![
        lease_gone("job-1", Ending::Release),
        lease("job-2", "10.0.0.2"),
        lease_gone("job-2", Ending::Quarantine),
        lease_gone("job-1", Ending::Release),
        token("tok-1", "x"),
    ]);
    assert_eq!(first, together);
}

#[test]
fn only_a_snapshot_begins_and_only_the_same_store_goes_on() {
    let mut mirror = Mirror::new();
    let delta = batch(false, 5, vec![policy("pol-1", vec![version(1, 1, BLOCK)])]);
    assert!(!mirror.accepts(&delta));
    assert_eq!(mirror.apply(delta), Touched::default());
    assert!(!mirror.is_synced() && mirror.resume().is_none());
    mirror.apply(batch(true, 7, Vec::new()));
    assert_eq!(
        mirror.resume().map(|at| (at.epoch, at.generation)),
        Some(("one".into(), Generation(7)))
    );
    let held = batch(false, 7, vec![attach("org:acme", "pol-1")]);
    assert!(mirror.accepts(&held));
    assert_eq!(
        mirror.apply(held),
        Touched::default(),
        "generation 7 is held already"
    );
    let foreign = Batch {
        epoch: "two".into(),
        ..batch(false, 8, vec![attach("org:acme", "pol-1")])
    };
    assert!(!mirror.accepts(&foreign));
    assert_eq!(mirror.apply(foreign), Touched::default());
    let anew = Batch {
        epoch: "two".into(),
        ..batch(true, 2, vec![attach("org:acme", "pol-1")])
    };
    assert!(mirror.apply(anew).policies);
    assert_eq!(
        (mirror.epoch(), mirror.generation()),
        ("two", Generation(2)),
        "another store counts from anew"
    );
}

#[test]
fn a_large_layer_can_be_compiled_elsewhere_while_the_old_one_stays() {
    let mut scene = Scene::new(vec![block(
        BlockLayer::Feed,
        &["a.test", "b.test", "c.test"],
        &[],
    )]);
    let before = scene.layers();
    scene.say(vec![
        block(BlockLayer::Feed, &["d.test"], &[]),
        block(BlockLayer::Deployment, &["own.test"], &[]),
    ]);
    let small = scene.mirror.take_stale_layers(3);
    assert_eq!(small.len(), 1);
    for layer in small {
        scene.mirror.put_layer(layer.compile());
    }
    let between = scene.mirror.block_layers();
    assert!(Arc::ptr_eq(&before[1], &between[1]) && !Arc::ptr_eq(&before[2], &between[2]));
    let large = scene.mirror.take_stale_layers(usize::MAX);
    scene.say(vec![block(BlockLayer::Feed, &["e.test"], &[])]);
    for layer in large {
        scene.mirror.put_layer(layer.compile());
    }
    let hit = |layer: &GlobalBlock, name: &str| layer.find_name(&DnsName::parse(name).unwrap()).is_some();
    let then = scene.mirror.block_layers();
    assert!(
        hit(&then[1], "d.test") && !hit(&then[1], "e.test"),
        "as it was when it was taken"
    );
    let overtaken = scene.mirror.take_stale_layers(usize::MAX);
    scene.say(vec![block(BlockLayer::Feed, &[], &["d.test"])]);
    assert!(
        hit(&scene.layers()[1], "e.test"),
        "what came meanwhile made it stale again"
    );
    for layer in overtaken {
        scene.mirror.put_layer(layer.compile());
    }
    let last = scene.mirror.block_layers();
    assert!(
        !hit(&last[1], "d.test"),
        "an older compilation that ends later is left out"
    );
}
