//! From batches of changes to what is in force: policies, block lists, credentials, leases.
//!
//! Owns the mirror of the control plane's records and its file on disk. Everything here may take a second (a block list
//! of a million names) and waits for the disk: it runs beside the runtimes, and of several batches that wait, the state
//! after the last one is put in force once. Driven by batches of [`super::client`], and once at start.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::HashSet;
use jiff::Timestamp;
use metrics::gauge;
use tidegate_control_wire::frame::{Batch, RefusedLease};
use tidegate_control_wire::mirror::{LeaseTouch, Mirror, Touched};
use tidegate_control_wire::record::{Ending, LeaseRecord};
use tidegate_policy::Moment;
use tidegate_policy::effective::Store;
use tidegate_policy::lease::{AdoptError, AdoptedLease, EndError, LeaseTable, Mac, Party};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::state::Control;
use crate::appliance::chain;
use crate::config::GatewayConfig;
use crate::core::Core;
use crate::journal::{Journal, News};
use crate::policies::Synced;

/// While the disk refuses, it is tried again after this, though no batch came.
const DISK_AGAIN: Duration = Duration::from_secs(10);

/// What the control plane's records make of this gateway.
pub(crate) struct Enforcer {
    mirror: Mirror,
    journal: Journal,
    /// Policies of which it was said that they can't be used: id and version.
    unusable: HashSet<(CompactString, u32)>,
}

impl Enforcer {
    /// What was last known, from disk. A file that can't be used is said to be so, and nothing is known.
    pub(crate) fn load(config: &GatewayConfig, control: &Control) -> Self {
        let mut enforcer = Self {
            mirror: Mirror::new(),
            journal: Journal::unread(&config.state_dir),
            unusable: HashSet::new(),
        };
        if !control.is_configured() {
            return enforcer;
        }
        let mirror = &mut enforcer.mirror;
        let read = Journal::read(&config.state_dir, |batch| {
            mirror.apply(batch);
        });
        match read {
            Ok(journal) => enforcer.journal = journal,
            Err(error) => {
                let error = chain(&error);
                tracing::error!(file = %enforcer.journal.path().display(), error,
                    "the synced state on disk is lost: jobs are refused until the control plane is reached");
                enforcer.mirror = Mirror::new();
            }
        }
        if enforcer.mirror.is_synced() {
            control.heard(enforcer.journal.newest(), None);
            enforcer.tell(control);
            tracing::info!(generation = %enforcer.mirror.generation(), "the synced state was read from disk");
        }
        enforcer
    }

    /// What the policy set is made of beside the files. Compiles block lists that changed.
    pub(crate) fn synced(&mut self, control: &Control) -> Synced {
        let known = self.mirror.is_synced() || !control.is_configured();
        let synced = Synced {
            attached: self.mirror.attached(),
            layers: self.mirror.block_layers(),
            store: if known { Store::Known } else { Store::NeverRead },
        };
        if self.mirror.unread_patterns() > 0 {
            let patterns = self.mirror.unread_patterns();
            tracing::warn!(
                patterns,
                "synced block list patterns are not understood and block nothing"
            );
        }
        synced
    }

    /// Puts the leases of the disk's state in place, each with the machine that it was bound to.
    pub(crate) fn restore_leases(&self, control: &Control, table: &Leases<'_>) {
        for lease in self.mirror.leases() {
            if control.is_ended(&lease.id) {
                continue;
            }
            if let Err(error) = table.adopt(lease, |source| control.machine_of(source)) {
                tracing::warn!(lease = %lease.id, %error, "a lease of the synced state is not in place");
            }
        }
    }

    /// Takes batches into the mirror, oldest first.
    fn learn(&mut self, batches: Vec<Batch>, control: &Control) -> Learnt {
        let (mut news, mut touched, mut newest) = (News::default(), Touched::default(), None);
        let was_synced = self.mirror.is_synced();
        for batch in batches {
            newest = Some(batch.at);
            news.add(&batch);
            touched.merge(self.mirror.apply(batch));
        }
        let differs = touched.policies || touched.blocks || was_synced != self.mirror.is_synced();
        Learnt {
            synced: differs.then(|| self.synced(control)),
            leases: touched.leases,
            news,
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
        self.keep(&core.control, learnt.news, core.clock.now());
        core.control.acknowledge(self.mirror.generation(), refused);
        if let Some(at) = learnt.newest {
            let lag = Timestamp::now().duration_since(at).as_secs_f64();
            gauge!("tidegate_policy_sync_lag_seconds").set(lag.max(0.0));
            gauge!("tidegate_policy_generation").set(self.mirror.generation().0 as f64);
        }
    }

    fn tell(&mut self, control: &Control) {
        control.in_force(self.mirror.resume(), self.mirror.credentials());
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
        self.unusable = unusable;
    }

    fn keep(&mut self, control: &Control, news: News, now: Moment) {
        self.journal.keep(news, &self.mirror, now);
        let count = self.unusable.len();
        let unusable =
            (count > 0).then(|| format!("{count} synced policies can't be used; the log names them"));
        let problems = self.journal.problem().map(ToOwned::to_owned);
        control.set_problems(problems.into_iter().chain(unusable).collect());
    }
}

/// What batches brought.
struct Learnt {
    /// What the policy set is made of now; `None` when that is what it was.
    synced: Option<Synced>,
    leases: Vec<LeaseTouch>,
    news: News,
    /// Control's time of the newest.
    newest: Option<Timestamp>,
}

/// The lease table as the control plane's records speak of it.
pub(crate) struct Leases<'a> {
    table: &'a LeaseTable,
    now: Moment,
    /// The same moment, in the records' time.
    wall: Timestamp,
}

impl<'a> Leases<'a> {
    /// The table at this moment.
    pub(crate) fn new(core: &'a Core) -> Self {
        Self::at(&core.leases, core.clock.now(), Timestamp::now())
    }

    pub(crate) fn at(table: &'a LeaseTable, now: Moment, wall: Timestamp) -> Self {
        Self { table, now, wall }
    }

    /// Takes over leases that began or ended, in the order in which they did. Gives back the sources that have another
    /// subject now, and the leases that can't be in place here.
    fn follow(&self, control: &Control, touches: Vec<LeaseTouch>) -> (Vec<IpAddr>, Vec<RefusedLease>) {
        let (mut changed, mut refused) = (Vec::new(), Vec::new());
        for touch in touches {
            match touch {
                LeaseTouch::New(lease) if control.is_ended(&lease.id) => {}
                LeaseTouch::New(lease) => match self.adopt(&lease, |_| None) {
                    Ok(sources) => changed.extend(sources),
                    Err(error) => {
                        tracing::warn!(lease = %lease.id, %error, "a lease of the control plane is not in place here");
                        refused.push(RefusedLease {
                            id: lease.id.clone(),
                            reason: error.to_string(),
                        });
                    }
                },
                LeaseTouch::Gone { id, ending, sources } => changed.extend(self.end(&id, ending, &sources)),
            }
        }
        (changed, refused)
    }

    fn adopt(
        &self,
        lease: &LeaseRecord,
        machine: impl Fn(IpAddr) -> Option<Mac>,
    ) -> Result<Vec<IpAddr>, AdoptError> {
        let lifetime = lease.expires_at.duration_since(self.wall);
        let adopted = AdoptedLease {
            id: lease.id.clone(),
            network: lease.network.clone(),
            sources: lease
                .sources
                .iter()
                .map(|source| (*source, machine(*source)))
                .collect(),
            identity: lease.identity.clone(),
            began: lease.began,
            // One that is over already has no time left, and is not put in place.
            lifetime: lifetime.try_into().unwrap_or_default(),
        };
        match self.table.adopt(adopted, self.now) {
            Err(AdoptError::Expired(_)) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Ends a lease. One that ended here before is ended all the same: what its sources became is control's to say.
    fn end(&self, id: &str, ending: Ending, sources: &[IpAddr]) -> Vec<IpAddr> {
        let mut changed = match self.table.end(id, &Party::Operator, self.now) {
            Ok(changed) => changed,
            Err(EndError::Unknown(_)) => Vec::new(),
            Err(error) => {
                tracing::warn!(lease = id, %error, "a lease that the control plane ended stays");
                return Vec::new();
            }
        };
        if ending == Ending::Release {
            changed.extend(self.table.release_quarantine(sources, &Party::Operator));
        }
        changed
    }
}

/// Puts batches in force as they come, until no more can come.
pub(crate) async fn run(core: Arc<Core>, mut batches: mpsc::Receiver<Batch>) {
    loop {
        let waiting = match timeout(DISK_AGAIN, batches.recv()).await {
            Ok(None) => return,
            Ok(Some(first)) => {
                let mut all = vec![first];
                while let Ok(next) = batches.try_recv() {
                    all.push(next);
                }
                all
            }
            // Nothing new; perhaps the disk takes now what it refused before.
            Err(_) => Vec::new(),
        };
        let own = Arc::clone(&core);
        let work = tokio::task::spawn_blocking(move || {
            let mut enforcer = own.enforcer.lock();
            if waiting.is_empty() {
                enforcer.keep(&own.control, News::default(), own.clock.now());
            } else {
                enforcer.take(&own, waiting);
            }
        });
        if work.await.is_err() {
            tracing::error!(
                "putting changes of the control plane in force panicked; what was in force stays"
            );
            core.enforcer.lock().mirror = Mirror::new();
            core.control.forget();
        }
    }
}

#[cfg(test)]
mod tests;
