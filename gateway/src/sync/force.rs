//! From batches of changes to what is in force: policies, block lists, credentials, leases.
//!
//! Owns the mirror of the control plane's records. All of it runs beside the runtimes, and of several batches that wait,
//! the state after the last one is put in force once. What may take a second is done apart, so that a policy never waits
//! for it: large block lists ([`blocks`]) and the disk ([`super::disk`]). Driven by batches of [`super::client`], and once
//! at start.

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashSet;
use jiff::Timestamp;
use metrics::gauge;
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::{LeaseTouch, Mirror, StaleLayer, Touched};
use tidegate_policy::effective::Store;
use tokio::sync::{Notify, mpsc};

use super::disk::Disk;
use super::leases::Leases;
use super::state::Control;
use crate::config::GatewayConfig;
use crate::core::Core;
use crate::journal::{News, Snapshot};
use crate::policies::Synced;

/// Patterns of a block list that are compiled at once with the batch that brought them: some 20 ms. A change of a longer
/// list is in force a moment later, for the list itself only.
const SMALL_LIST: usize = 20_000;

/// What the control plane's records make of this gateway.
pub(crate) struct Enforcer {
    mirror: Mirror,
    /// What the disk has not been told yet.
    news: News,
    disk: Arc<Disk>,
    /// Large lists wait to be compiled.
    lists: Arc<Notify>,
    /// Policies of which it was said that they can't be used: id and version.
    unusable: HashSet<(CompactString, u32)>,
}

impl Enforcer {
    /// What was last known, from disk.
    pub(crate) fn load(config: &GatewayConfig, control: &Control) -> Self {
        let mut mirror = Mirror::new();
        let disk = if control.is_configured() {
            Disk::read(&config.state_dir, &mut mirror)
        } else {
            Disk::unread(&config.state_dir)
        };
        let mut enforcer = Self {
            mirror,
            news: News::default(),
            disk: Arc::new(disk),
            lists: Arc::default(),
            unusable: HashSet::new(),
        };
        if enforcer.mirror.is_synced() {
            control.heard(enforcer.disk.newest(), None);
            enforcer.tell(control);
            enforcer.look_for_unusable(control);
            tracing::info!(generation = %enforcer.mirror.generation(), "the synced state was read from disk");
        }
        enforcer
    }

    /// What the policy set is made of beside the files. Compiles block lists that changed; where there were lists
    /// before, large ones later.
    pub(crate) fn synced(&mut self, control: &Control, largest: usize) -> Synced {
        for layer in self.mirror.take_stale_layers(largest) {
            self.mirror.put_layer(layer.compile());
        }
        self.lists.notify_one();
        let known = self.mirror.is_synced() || !control.is_configured();
        Synced {
            attached: self.mirror.attached(),
            named: Arc::new(self.mirror.named()),
            layers: self.mirror.block_layers(),
            store: if known { Store::Known } else { Store::NeverRead },
        }
    }

    /// Puts the leases of the disk's state in place, each with the machine that it was bound to.
    pub(crate) fn restore_leases(&self, control: &Control, table: &Leases<'_>) {
        for lease in self.mirror.leases() {
            if control.is_ended(&lease.id) {
                continue;
            }
            if control.has_left(lease) {
                tracing::info!(lease = %lease.id, "a lease of the synced state ended before the restart");
                continue;
            }
            if let Err(error) = table.adopt(lease, |source| control.machine_of(source)) {
                tracing::warn!(lease = %lease.id, %error, "a lease of the synced state is not in place");
            }
        }
    }

    /// Takes batches into the mirror, oldest first.
    fn learn(&mut self, batches: Vec<Batch>, control: &Control) -> Learnt {
        let (mut touched, mut newest) = (Touched::default(), None);
        let was_synced = self.mirror.is_synced();
        for batch in batches {
            newest = Some(batch.at);
            // What does not follow on what is held must not come to stand behind it on disk either.
            if self.mirror.accepts(&batch) {
                self.news.add(&batch);
            }
            touched.merge(self.mirror.apply(batch));
        }
        let differs = touched.policies || touched.blocks || was_synced != self.mirror.is_synced();
        // Before the first snapshot nobody is permitted anything, and nobody must be before its block lists stand.
        let largest = if was_synced { SMALL_LIST } else { usize::MAX };
        if touched.policies {
            self.look_for_unusable(control);
        }
        Learnt {
            synced: differs.then(|| self.synced(control, largest)),
            leases: touched.leases,
            newest,
        }
    }

    /// Puts batches in force, and says so.
    fn take(&mut self, core: &Core, batches: Vec<Batch>) {
        let learnt = self.learn(batches, &core.control);
        if let Some(synced) = learnt.synced {
            core.apply_synced(synced);
        }
        let (changed, refused) = Leases::new(core).follow(&core.control, learnt.leases);
        core.rejudge_sources(&changed);
        self.tell(&core.control);
        core.control.acks().add(self.mirror.generation(), refused);
        self.disk.due();
        if let Some(at) = learnt.newest {
            let lag = Timestamp::now().duration_since(at).as_secs_f64();
            gauge!("tidegate_policy_sync_lag_seconds").set(lag.max(0.0));
            gauge!("tidegate_policy_generation").set(self.mirror.generation().0 as f64);
        }
    }

    fn tell(&self, control: &Control) {
        control.in_force(self.mirror.resume(), self.mirror.credentials());
    }

    fn look_for_unusable(&mut self, control: &Control) {
        let mut unusable = HashSet::new();
        for (policy, editions) in self.mirror.policies() {
            for edition in editions {
                let Some(problem) = &edition.problem else { continue };
                let key = (policy.id.clone(), edition.version);
                if !self.unusable.contains(&key) {
                    tracing::error!(owner = %policy.owner, policy = %policy.name, version = edition.version, %problem,
                        "a synced policy can't be used; whom it governs is refused everything");
                }
                unusable.insert(key);
            }
        }
        control.set_unusable(unusable.len());
        self.unusable = unusable;
    }

    /// Everything is to be sent anew: what is held may be half of something.
    fn start_over(&mut self, control: &Control) {
        self.mirror = Mirror::new();
        self.news = News::default();
        control.forget();
    }

    /// What the disk has not been told yet.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Everything, for the disk.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        Snapshot::of(&self.mirror)
    }

    pub(super) fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.disk)
    }
}

/// What batches brought.
struct Learnt {
    /// What the policy set is made of now; `None` when that is what it was.
    synced: Option<Synced>,
    leases: Vec<LeaseTouch>,
    /// Control's time of the newest.
    newest: Option<Timestamp>,
}

/// Puts batches in force as they come, until no more can come.
pub(super) async fn run(core: Arc<Core>, mut batches: mpsc::Receiver<Batch>) {
    while let Some(first) = batches.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = batches.try_recv() {
            waiting.push(next);
        }
        let own = Arc::clone(&core);
        let work = tokio::task::spawn_blocking(move || own.enforcer.lock().take(&own, waiting));
        if work.await.is_err() {
            tracing::error!(
                "putting changes of the control plane in force panicked; what was in force stays"
            );
            core.enforcer.lock().start_over(&core.control);
        }
    }
}

/// Compiles large block lists that changed, and puts them in force when they are.
pub(super) async fn blocks(core: Arc<Core>) {
    let due = Arc::clone(&core.enforcer.lock().lists);
    loop {
        due.notified().await;
        let own = Arc::clone(&core);
        let work = tokio::task::spawn_blocking(move || compile_large(&own));
        if work.await.is_err() {
            tracing::error!("compiling a block list panicked; the list that was in force stays");
        }
    }
}

fn compile_large(core: &Core) {
    let stale = core.enforcer.lock().mirror.take_stale_layers(usize::MAX);
    if stale.is_empty() {
        return;
    }
    // Nobody waits for the enforcer meanwhile.
    let compiled: Vec<_> = stale.into_iter().map(StaleLayer::compile).collect();
    let mut enforcer = core.enforcer.lock();
    if !enforcer.mirror.is_synced() {
        // It was forgotten meanwhile: what is in force stays until everything was sent anew.
        return;
    }
    for layer in compiled {
        enforcer.mirror.put_layer(layer);
    }
    let synced = enforcer.synced(&core.control, SMALL_LIST);
    core.apply_synced(synced);
    let unread = enforcer.mirror.unread_patterns();
    if unread > 0 {
        tracing::warn!(
            unread,
            "synced block list patterns are not understood and block nothing"
        );
    }
}

#[cfg(test)]
mod tests;
