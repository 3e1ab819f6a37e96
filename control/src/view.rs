//! The control plane's own mirror: what gateways make of the store's records, for `effective` and "who allows this?".
//!
//! Follows the store's changes like a gateway would, with the same code. Reads never wait for a compilation but their
//! own: an answer about what was just written waits until the mirror is there, bounded by [`PATIENCE`].

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::RwLock;
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::{Mirror, StaleLayer};
use tidegate_policy::compile::block::GlobalBlocks;
use tidegate_policy::effective::{Attached, Generation, PolicySet};
use tokio::sync::{mpsc, watch};

use crate::store::{Since, Store, StoreError};

/// How long a reader waits for the mirror to have what was committed before it asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Changes in one look at the store.
const LOOK: u32 = 2_000;
/// Between two tries when the store fails.
const RETRY: Duration = Duration::from_millis(500);
/// Leases are of no use here: a group that no gateway has.
const NO_GROUP: &str = "";

/// The mirror. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    mirror: Arc<RwLock<Mirror>>,
    attached: Arc<ArcSwap<PolicySet>>,
    reached: watch::Receiver<Generation>,
    shared: watch::Receiver<Generation>,
}

impl View {
    /// Reads the whole store, and follows it from then on.
    pub async fn open(store: &Store) -> Result<Self, StoreError> {
        let mirror = Arc::new(RwLock::new(Mirror::new()));
        let attached = Arc::new(ArcSwap::default());
        let (told, reached) = watch::channel(Generation(0));
        let follower = Follower {
            store: store.clone(),
            mirror: Arc::clone(&mirror),
            attached: Arc::clone(&attached),
            told,
        };
        follower.snapshot().await?;
        tokio::spawn(follower.follow());
        Ok(Self {
            mirror,
            attached,
            reached,
            shared: store.db().shared(),
        })
    }

    /// Waits until everything that this process committed before this call is in the mirror. Leases are not in it, so
    /// that nobody waits for the registrations of a busy fleet.
    pub async fn current(&self) {
        let wanted = *self.shared.borrow();
        let mut reached = self.reached.clone();
        let waiting = reached.wait_for(|reached| *reached >= wanted);
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            tracing::warn!("the mirror is behind the store; an answer is older than it should be");
        }
    }

    /// The policies by what they are attached to, for [`PolicySet::facets`].
    pub fn policies(&self) -> Arc<PolicySet> {
        self.attached.load_full()
    }

    /// The global block list as gateways have it. Compiles what changed since it was asked for last, about a second for a
    /// million patterns: not to be called where others wait.
    pub fn block_list(&self) -> GlobalBlocks {
        let stale = self.mirror.write().take_stale_layers(usize::MAX);
        let compiled: Vec<_> = stale.into_iter().map(StaleLayer::compile).collect();
        let mut mirror = self.mirror.write();
        for layer in compiled {
            mirror.put_layer(layer);
        }
        GlobalBlocks::new(mirror.block_layers())
    }

    /// Looks into the mirror. Keep it short: the follower waits.
    pub fn with<T>(&self, look: impl FnOnce(&Mirror) -> T) -> T {
        look(&self.mirror.read())
    }
}

/// What keeps the mirror in step.
struct Follower {
    store: Store,
    mirror: Arc<RwLock<Mirror>>,
    attached: Arc<ArcSwap<PolicySet>>,
    told: watch::Sender<Generation>,
}

impl Follower {
    async fn follow(self) {
        let mut newest = self.store.db().newest();
        loop {
            newest.borrow_and_update();
            match self.catch_up().await {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(error = error.chain(), "the mirror could not follow the store");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = self.told.closed() => return,
            }
        }
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let at = *self.told.borrow();
            match self.store.changes_since(at, NO_GROUP, LOOK).await? {
                Since::TooOld => return self.snapshot().await,
                Since::Page(page) => {
                    let more = page.more;
                    if page.upto > at {
                        self.apply(Batch {
                            changes: page.changes,
                            generation: page.upto,
                            ..Batch::default()
                        })
                        .await?;
                    }
                    if !more {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn snapshot(&self) -> Result<(), StoreError> {
        let (changes, mut listed) = mpsc::channel(256);
        let store = self.store.clone();
        let reading = tokio::spawn(async move { store.snapshot(NO_GROUP, changes).await });
        let mut all = Vec::new();
        while let Some(change) = listed.recv().await {
            all.push(change);
        }
        let generation = reading.await.map_err(|_| StoreError::Closed)??;
        self.apply(Batch {
            reset: true,
            changes: all,
            generation,
            ..Batch::default()
        })
        .await
    }

    /// Compiles off the runtime's threads: a set that ten thousand policies use takes a while.
    async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let generation = batch.generation;
        let (mirror, policies) = (Arc::clone(&self.mirror), Arc::clone(&self.attached));
        let work = move || {
            let mut mirror = mirror.write();
            if mirror.apply(batch).policies {
                let attached: HashMap<_, Attached> = mirror.attached();
                policies.store(Arc::new(PolicySet {
                    attached,
                    ..PolicySet::default()
                }));
            }
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| StoreError::Closed)?;
        self.told.send_replace(generation);
        Ok(())
    }
}
