//! The global block list: entries of the deployment, and whole layers.

use tidegate_control::model::PageRequest;
use tidegate_control::store::{BlockUpdate, MAX_ENTRIES, MAX_LAYER, MetaKey, Since, Store, StoreError};
use tidegate_control_wire::record::{BlockLayer, Change, MAX_BLOCK_CHANGE};
use tidegate_policy::effective::Generation;

use crate::bench::Bench;
use crate::fixture::{NASTY, actor, in_seconds};

/// Patterns that gateways are told to add and to remove, in order.
async fn told(store: &Store, after: Generation) -> (Vec<String>, Vec<String>) {
    let Since::Page(page) = store.changes_since(after, "a", 1_000).await.unwrap() else {
        panic!("{after} is too old");
    };
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for change in page.changes {
        let Change::Block(change) = change else {
            panic!("{change:?}")
        };
        assert!(change.add.len() + change.remove.len() <= MAX_BLOCK_CHANGE);
        add.extend(
            change
                .add
                .into_iter()
                .map(|one| format!("{}:{one}", change.layer.as_str())),
        );
        remove.extend(
            change
                .remove
                .into_iter()
                .map(|one| format!("{}:{one}", change.layer.as_str())),
        );
    }
    (add, remove)
}

fn newest(store: &Store) -> Generation {
    *store.db().newest().borrow()
}

/// Patterns on every page.
async fn listed(store: &Store, layer: Option<BlockLayer>, search: Option<&str>) -> Vec<String> {
    let mut request = PageRequest {
        after: None,
        limit: 2,
    };
    let mut seen = Vec::new();
    loop {
        let page = store.block_entries(layer, &request, search).await.unwrap();
        seen.extend(page.items.into_iter().map(|one| one.pattern));
        match page.next {
            Some(next) => request.after = Some(next),
            None => return seen,
        }
    }
}

pub(crate) async fn an_entry_is_canonical_and_there_once(bench: Bench) {
    let store = bench.open().await;
    let rows = [
        ("Evil.Example.", "evil.example"),
        ("*.Evil.example", "*.evil.example"),
        (" bücher.example ", "xn--bcher-kva.example"),
        ("203.0.113.9", "203.0.113.9/32"),
        ("203.0.113.77/24", "203.0.113.0/24"),
        ("2001:db8::1", "2001:db8::1/128"),
    ];
    for (written, canonical) in rows {
        let entry = store
            .add_block_entry(written, " known bad ", None, &actor())
            .await
            .unwrap();
        assert_eq!(
            (entry.pattern.as_str(), entry.reason.as_str()),
            (canonical, "known bad")
        );
        assert_eq!(
            (entry.layer, entry.created_by.as_str()),
            (BlockLayer::Deployment, "ada")
        );
        for again in [written, canonical] {
            let twice = store.add_block_entry(again, "twice", None, &actor()).await;
            assert!(matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
        }
    }
    let (add, remove) = told(&store, Generation(0)).await;
    assert_eq!((add.len(), remove.len()), (rows.len(), 0));
    let before = newest(&store);
    let long = "x".repeat(501);
    let wrong = [
        ("pattern", "", "why", None),
        ("pattern", "*", "why", None),
        ("pattern", "a.example:443", "why", None),
        ("pattern", "a.example b.example", "why", None),
        ("pattern", "a\0b.example", "why", None),
        ("pattern", "../../etc/passwd", "why", None),
        ("pattern", "'; DROP TABLE block_entries; --", "why", None),
        ("reason", "a.example", "  ", None),
        ("reason", "a.example", &long, None),
        ("reason", "a.example", "a\0b", None),
        ("expires_at", "a.example", "why", Some(in_seconds(-1))),
    ];
    for (field, pattern, reason, expires) in wrong {
        match store.add_block_entry(pattern, reason, expires, &actor()).await {
            Err(StoreError::Invalid { field: found, .. }) => {
                assert_eq!(found, field, "{pattern:?} {reason:?}");
            }
            other => panic!("{pattern:?}: {other:?}"),
        }
    }
    assert_eq!(newest(&store), before);
    for nasty in ["'; DROP TABLE jobs; --", "naïve-日本-\u{1f680}", "%_!\\", "$1"] {
        let pattern = format!("n{}.example", nasty.len());
        let entry = store
            .add_block_entry(&pattern, nasty, None, &actor())
            .await
            .unwrap();
        assert_eq!(entry.reason, nasty);
        store.remove_block_entry(&entry.id, &actor()).await.unwrap();
    }
}

pub(crate) async fn a_removed_entry_is_told_as_gone_and_can_come_again(bench: Bench) {
    let store = bench.open().await;
    let entry = store
        .add_block_entry("evil.example", "first", None, &actor())
        .await
        .unwrap();
    let at = newest(&store);
    store.remove_block_entry(&entry.id, &actor()).await.unwrap();
    assert_eq!(
        told(&store, at).await,
        (vec![], vec!["deployment:evil.example".to_owned()])
    );
    assert_eq!(listed(&store, None, None).await, Vec::<String>::new());
    let twice = store.remove_block_entry(&entry.id, &actor()).await;
    assert!(matches!(twice, Err(StoreError::NotFound { .. })), "{twice:?}");
    let again = store
        .add_block_entry("evil.example", "second", None, &actor())
        .await
        .unwrap();
    assert_ne!(again.id, entry.id);
    assert_eq!(
        told(&store, at).await,
        (vec!["deployment:evil.example".to_owned()], vec![])
    );
    for unknown in NASTY.into_iter().chain(["", "blk_0", "x:y"]) {
        let outcome = store.remove_block_entry(unknown, &actor()).await;
        assert!(
            matches!(outcome, Err(StoreError::NotFound { .. })),
            "{unknown:?}: {outcome:?}"
        );
    }
    let audit = store
        .audit_log(None, &PageRequest::default(), false)
        .await
        .unwrap();
    let actions: Vec<_> = audit.items.iter().map(|one| one.action.as_str()).collect();
    assert_eq!(actions, ["block.added", "block.removed", "block.added"]);
}

pub(crate) async fn an_entry_ends_with_its_time(bench: Bench) {
    let store = bench.open().await;
    for at in 0..250 {
        let pattern = format!("e{at}.example");
        store
            .add_block_entry(&pattern, "for a while", Some(in_seconds(600)), &actor())
            .await
            .unwrap();
    }
    store
        .add_block_entry("later.example", "longer", Some(in_seconds(6_000)), &actor())
        .await
        .unwrap();
    store
        .add_block_entry("stays.example", "for good", None, &actor())
        .await
        .unwrap();
    let at = newest(&store);
    assert_eq!(store.expire_block_entries(in_seconds(60)).await.unwrap(), 0);
    assert_eq!(newest(&store), at);
    assert_eq!(store.expire_block_entries(in_seconds(700)).await.unwrap(), 250);
    let (add, remove) = told(&store, at).await;
    assert_eq!((add.len(), remove.len()), (0, 250));
    assert_eq!(
        listed(&store, None, None).await,
        ["later.example", "stays.example"]
    );
    let audit = store
        .audit_log(
            None,
            &PageRequest {
                after: None,
                limit: 1,
            },
            true,
        )
        .await
        .unwrap();
    assert_eq!(
        (audit.items[0].action.as_str(), audit.items[0].actor.via.as_str()),
        ("block.expired", "system")
    );
}

pub(crate) async fn only_the_deployments_own_entries_can_be_removed(bench: Bench) {
    let store = bench.open().await;
    for layer in [BlockLayer::Builtin, BlockLayer::Feed] {
        let update = BlockUpdate {
            full: true,
            add: vec![("evil.example".into(), "listed".into())],
            remove: Vec::new(),
        };
        assert_eq!(store.apply_block_layer(layer, update, &[]).await.unwrap(), 1);
    }
    // The deployment may have the same: a feed can drop it.
    store
        .add_block_entry("evil.example", "ours", None, &actor())
        .await
        .unwrap();
    let page = store
        .block_entries(None, &PageRequest::default(), None)
        .await
        .unwrap();
    let layers: Vec<_> = page.items.iter().map(|one| one.layer).collect();
    assert_eq!(
        layers,
        [BlockLayer::Builtin, BlockLayer::Deployment, BlockLayer::Feed]
    );
    for entry in page.items {
        let outcome = store.remove_block_entry(&entry.id, &actor()).await;
        match (entry.layer, outcome) {
            (BlockLayer::Deployment, Ok(())) => {}
            (layer, Err(StoreError::Conflict { reason })) => {
                assert!(
                    reason.contains(layer.as_str()) && reason.contains("only the deployment's"),
                    "{reason}"
                );
            }
            (layer, outcome) => panic!("{layer:?}: {outcome:?}"),
        }
    }
    assert_eq!(
        store
            .block_count()
            .await
            .unwrap()
            .into_values()
            .collect::<Vec<_>>(),
        [1, 1, 0]
    );
    let own = store
        .apply_block_layer(BlockLayer::Deployment, BlockUpdate::default(), &[])
        .await;
    assert!(
        matches!(own, Err(StoreError::Invalid { field: "layer", .. })),
        "{own:?}"
    );
}

pub(crate) async fn entries_are_searched_by_any_part_of_their_pattern(bench: Bench) {
    let store = bench.open().await;
    for pattern in ["a_b.example", "axb.example", "*.evil.example", "192.0.2.0/24"] {
        store.add_block_entry(pattern, "x", None, &actor()).await.unwrap();
    }
    let rows: [(&str, &[&str]); 7] = [
        ("_", &["a_b.example"]),
        ("%", &[]),
        ("!", &[]),
        ("EVIL", &["*.evil.example"]),
        ("b.exam", &["a_b.example", "axb.example"]),
        ("192.0", &["192.0.2.0/24"]),
        ("'; --", &[]),
    ];
    for (search, wanted) in rows {
        assert_eq!(listed(&store, None, Some(search)).await, wanted, "{search}");
    }
    assert_eq!(
        listed(&store, Some(BlockLayer::Feed), Some("e")).await,
        Vec::<String>::new()
    );
    let long = "x".repeat(257);
    for odd in ["a\0", &long] {
        let outcome = store
            .block_entries(None, &PageRequest::default(), Some(odd))
            .await;
        assert!(
            matches!(outcome, Err(StoreError::Invalid { field: "search", .. })),
            "{outcome:?}"
        );
    }
    let request = PageRequest {
        after: Some("nonsense".into()),
        limit: 2,
    };
    let odd = store.block_entries(None, &request, None).await;
    assert!(
        matches!(odd, Err(StoreError::Invalid { field: "after", .. })),
        "{odd:?}"
    );
}

pub(crate) async fn a_layer_is_brought_up_to_date_by_what_differs(bench: Bench) {
    let store = bench.open().await;
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), "bad".to_owned()))
            .collect::<Vec<_>>()
    };
    let full = |names: &[&str]| BlockUpdate {
        full: true,
        add: list(names),
        remove: vec!["ignored.example".into()],
    };
    let apply = async |update: BlockUpdate| {
        let before = newest(&store);
        let changed = store
            .apply_block_layer(BlockLayer::Feed, update, &[])
            .await
            .unwrap();
        assert!(newest(&store).0 <= before.0 + 1, "one change");
        let (add, remove) = told(&store, before).await;
        assert_eq!(add.len() + remove.len(), changed);
        let bare = |list: Vec<String>| list.join(" ").replace("feed:", "").replace(".example", "");
        (bare(add), bare(remove))
    };
    let both = |add: &str, remove: &str| (add.to_owned(), remove.to_owned());
    assert_eq!(
        apply(full(&["C.example", "a.example", "a.example.", "*.a.example"])).await,
        both("*.a a c", "")
    );
    assert_eq!(
        apply(full(&["a.example", "*.a.example", "c.example"])).await,
        both("", "")
    );
    assert_eq!(
        apply(full(&["b.example", "c.example", "d.example"])).await,
        both("b d", "*.a a")
    );
    let delta = BlockUpdate {
        full: false,
        add: list(&["d.example", "e.example", "a.example"]),
        remove: vec!["B.example".into(), "unknown.example".into(), "e.example".into()],
    };
    assert_eq!(apply(delta.clone()).await, both("a e", "b"));
    assert_eq!(apply(delta).await, both("", ""), "the same delta again");
    assert_eq!(
        listed(&store, Some(BlockLayer::Feed), None).await,
        ["a.example", "c.example", "d.example", "e.example"]
    );
    // Another reason is written down, too.
    let reason = BlockUpdate {
        add: vec![("a.example".into(), "worse".into())],
        ..BlockUpdate::default()
    };
    assert_eq!(apply(reason).await, both("a", ""));
    let page = store
        .block_entries(None, &PageRequest::default(), Some("a.example"))
        .await
        .unwrap();
    assert_eq!(
        (page.items[0].reason.as_str(), page.items[0].id.as_str()),
        ("worse", "feed:a.example")
    );
    assert_eq!(apply(full(&[])).await, both("", "a c d e"));

    let before = newest(&store);
    let wrong = BlockUpdate {
        add: list(&["good.example", "a b"]),
        ..BlockUpdate::default()
    };
    let outcome = store
        .apply_block_layer(BlockLayer::Feed, wrong, &[(MetaKey::FeedSerial, "9".into())])
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Invalid { field: "pattern", .. })),
        "{outcome:?}"
    );
    assert_eq!(
        (newest(&store), store.meta(MetaKey::FeedSerial).await.unwrap()),
        (before, None),
        "nothing of it"
    );
    let marks = [(MetaKey::FeedSerial, "9".to_owned())];
    store
        .apply_block_layer(BlockLayer::Feed, BlockUpdate::default(), &marks)
        .await
        .unwrap();
    assert_eq!(
        store.meta(MetaKey::FeedSerial).await.unwrap().as_deref(),
        Some("9")
    );
    assert_eq!(newest(&store), before);
}

pub(crate) async fn a_long_layer_comes_in_bounded_pieces(bench: Bench) {
    let store = bench.open().await;
    let many = |count: u32| BlockUpdate {
        full: true,
        add: (0..count)
            .map(|at| (format!("n{at}.example"), String::new()))
            .collect(),
        remove: Vec::new(),
    };
    assert_eq!(
        store
            .apply_block_layer(BlockLayer::Feed, many(25_001), &[])
            .await
            .unwrap(),
        25_001
    );
    let Since::Page(page) = store.changes_since(Generation(0), "a", 1).await.unwrap() else {
        panic!("too old");
    };
    assert_eq!((page.changes.len(), page.more), (6, false));
    assert_eq!(told(&store, Generation(0)).await.0.len(), 25_001);
    assert_eq!(
        store
            .apply_block_layer(BlockLayer::Feed, many(24_000), &[])
            .await
            .unwrap(),
        1_001
    );
    let counts = store.block_count().await.unwrap();
    assert_eq!(counts[&BlockLayer::Feed], 24_000);
}

pub(crate) async fn lists_have_their_bounds(bench: Bench) {
    let store = bench.open().await;
    let many = i64::try_from(MAX_ENTRIES).unwrap() - 1;
    store
        .db()
        .write(move |tx| {
            Box::pin(async move {
                for at in 0..many {
                    let sql = "INSERT INTO block_entries (layer, pattern, id, reason, created_at, created_by, changed, \
                               removed) VALUES ('deployment', $1, $1, 'x', 1, 'ada', 0, 0)";
                    let name = format!("e{at}.example");
                    sqlx::query(sql).bind(name).execute(tx.connection()).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
    store
        .add_block_entry("last.example", "x", None, &actor())
        .await
        .unwrap();
    match store.add_block_entry("over.example", "x", None, &actor()).await {
        Err(StoreError::Conflict { reason }) => assert!(reason.contains("10000"), "{reason}"),
        other => panic!("{other:?}"),
    }
    store.remove_block_entry("e0.example", &actor()).await.unwrap();
    store
        .add_block_entry("over.example", "x", None, &actor())
        .await
        .unwrap();
    let huge = BlockUpdate {
        full: true,
        add: vec![("a.example".into(), String::new()); MAX_LAYER + 1],
        remove: Vec::new(),
    };
    let outcome = store.apply_block_layer(BlockLayer::Feed, huge, &[]).await;
    assert!(
        matches!(outcome, Err(StoreError::Invalid { field: "entries", .. })),
        "{outcome:?}"
    );
}

pub(crate) async fn a_list_is_imported_whole_or_not_at_all(bench: Bench) {
    let store = bench.open().await;
    store
        .add_block_entry("known.test", "own", None, &actor())
        .await
        .unwrap();
    let (before, log) = (newest(&store), PageRequest::default());
    let ada = actor();
    let import = |patterns: &[&str]| {
        let patterns = patterns.iter().map(|one| (*one).to_owned()).collect();
        store.import_block_entries(patterns, "an incident", None, &ada)
    };
    let wrong = import(&["a.test", "no name!"]).await.unwrap_err();
    assert!(
        matches!(wrong, StoreError::Invalid { field: "pattern", .. }),
        "{wrong:?}"
    );
    assert_eq!(
        (newest(&store), listed(&store, None, None).await.len()),
        (before, 1)
    );

    let done = import(&["B.test", "known.test", "203.0.113.0/24", "b.test", "*.a.test"])
        .await
        .unwrap();
    assert_eq!((done.added, done.known), (3, 2));
    let (add, remove) = told(&store, before).await;
    assert_eq!(
        add,
        [
            "deployment:*.a.test",
            "deployment:203.0.113.0/24",
            "deployment:b.test"
        ]
    );
    assert_eq!(remove, [""; 0]);
    let last = store.audit_log(None, &log, true).await.unwrap().items.remove(0);
    assert_eq!(
        (last.action.as_str(), &last.detail["added"]),
        ("block.imported", &3.into())
    );
    let own = store
        .block_entries(None, &log, Some("known"))
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(own.reason, "own", "what is there stays as it is");

    let gone = listed(&store, Some(BlockLayer::Deployment), Some("b.test")).await;
    assert_eq!(gone, ["b.test"]);
    let id = store
        .block_entries(None, &log, Some("b.test"))
        .await
        .unwrap()
        .items
        .remove(0)
        .id;
    store.remove_block_entry(&id, &actor()).await.unwrap();
    assert_eq!(
        import(&["b.test"]).await.unwrap().added,
        1,
        "a removed one comes again"
    );
    let many: Vec<String> = (0..MAX_ENTRIES).map(|at| format!("n{at}.test")).collect();
    let full = store
        .import_block_entries(many, "x", None, &actor())
        .await
        .unwrap_err();
    assert!(
        matches!(full, StoreError::Invalid { field: "list", .. }),
        "{full:?}"
    );
}
