//! A reader of the store's changes, as a gateway is one, and what snapshots come to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tidegate_control::store::{Since, Store};
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::record::{Change, MAX_BLOCK_CHANGE};
use tidegate_policy::effective::Generation;
use tokio::sync::mpsc;

/// Everything in a snapshot, and the generation that it is of.
pub(crate) async fn snapshot(store: &Store, group: &str) -> (Vec<Change>, Generation) {
    let (changes, mut taken) = mpsc::channel(8);
    let reading = {
        let (store, group) = (store.clone(), group.to_owned());
        tokio::spawn(async move { store.snapshot(&group, changes).await })
    };
    let mut all = Vec::new();
    while let Some(change) = taken.recv().await {
        all.push(change);
    }
    (all, reading.await.unwrap().unwrap())
}

/// The things in a snapshot, whatever their order; block entries one by one.
pub(crate) fn whole(changes: &[Change]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for change in changes {
        if let Change::Block(block) = change {
            assert!(
                block.add.len() <= MAX_BLOCK_CHANGE && block.remove.is_empty(),
                "{block:?}"
            );
            for pattern in &block.add {
                assert!(
                    all.insert(format!("{:?} {pattern}", block.layer)),
                    "{pattern} twice"
                );
            }
        } else {
            let text = serde_json::to_string(change).unwrap();
            assert!(!text.contains("gone"), "{text}");
            assert!(all.insert(text.clone()), "twice: {text}");
        }
    }
    all
}

/// Follows the store with pages of some size.
pub(crate) struct Reader {
    mirror: Mirror,
    group: String,
    limit: u32,
    /// How often it began anew.
    pub(crate) resets: u32,
    /// How often it went on from where it was.
    pub(crate) goes_on: u32,
}

impl Reader {
    pub(crate) fn new(group: &str, limit: u32) -> Self {
        Self {
            mirror: Mirror::new(),
            group: group.to_owned(),
            limit,
            resets: 0,
            goes_on: 0,
        }
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What it holds.
    pub(crate) fn state(&self) -> BTreeSet<String> {
        whole(&self.mirror.snapshot().collect::<Vec<_>>())
    }

    /// Takes in everything up to now, as the sync server says it: one batch of all pages, or a snapshot.
    pub(crate) async fn catch_up(&mut self, store: &Store) {
        let epoch = store.epoch().await.unwrap();
        let mut batch = Batch {
            epoch,
            reset: false,
            changes: Vec::new(),
            generation: self.mirror.generation(),
            at: Timestamp::UNIX_EPOCH,
        };
        loop {
            let looked = store
                .changes_since(batch.generation, &self.group, self.limit)
                .await
                .unwrap();
            match looked {
                Since::Page(page) if self.mirror.is_synced() => {
                    batch.changes.extend(page.changes);
                    batch.generation = page.upto;
                    if !page.more {
                        self.goes_on += 1;
                        break;
                    }
                }
                Since::Page(_) | Since::TooOld => {
                    (batch.changes, batch.generation) = snapshot(store, &self.group).await;
                    batch.reset = true;
                    self.resets += 1;
                    break;
                }
            }
        }
        self.mirror.apply(batch);
    }
}
