//! What outlives the process: leases that control is to be told of, which machine a source was bound to, quarantine.
//!
//! Owns when the disk is waited for, which is never on an async thread, and what is put back in place after a restart.
//! Driven by [`super::registrar`].

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_control_wire::claim::{Claim, End, EndedBy};
use tidegate_control_wire::record::Ending;
use tidegate_policy::Moment;
use tidegate_policy::lease::{AdoptError, AdoptedLease, LeaseTable, Mac};

use super::asker::Now;
use super::ledger::{Ledger, Mark};
use super::outbox::{Outbox, OutboxFull, Told};
use crate::sync::EndedLeases;

/// Leases that expire within this time are watched, so that none ends between two looks without being told of.
const WATCH: Duration = Duration::from_secs(30);

/// Keeps it.
pub(crate) struct Keeper {
    leases: Arc<LeaseTable>,
    outbox: Arc<Outbox>,
    ledger: Arc<Mutex<Ledger>>,
    /// Leases that expire soon, and when.
    expiring: Mutex<HashMap<CompactString, Moment>>,
}

impl Keeper {
    pub(super) fn open(leases: Arc<LeaseTable>, outbox: Arc<Outbox>, state_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            leases,
            outbox,
            ledger: Arc::new(Mutex::new(Ledger::open(state_dir)?)),
            expiring: Mutex::default(),
        })
    }

    /// Why something would not outlive the process.
    pub(crate) fn problems(&self) -> Vec<String> {
        let ledger = self.ledger.lock().problem().map(str::to_owned);
        self.outbox.problem().into_iter().chain(ledger).collect()
    }

    pub(super) async fn grant(&self, claim: Claim, tried: bool) -> Result<(), OutboxFull> {
        let outbox = Arc::clone(&self.outbox);
        let taken = tokio::task::spawn_blocking(move || outbox.grant(claim, tried)).await;
        taken.unwrap_or_else(|error| {
            tracing::error!(%error, "a lease was not taken down");
            Err(OutboxFull)
        })
    }

    pub(super) async fn end(&self, id: CompactString, end: End) {
        // Before anything is waited for: the stream may name it at this moment.
        self.outbox.note_ended(&id);
        let outbox = Arc::clone(&self.outbox);
        if let Err(error) = tokio::task::spawn_blocking(move || outbox.end(&id, end)).await {
            tracing::error!(%error, "the end of a lease was not taken down");
        }
    }

    /// Takes down how all sources are.
    pub(super) async fn save(&self, now: Now) {
        let (leases, ledger) = (Arc::clone(&self.leases), Arc::clone(&self.ledger));
        let saved = tokio::task::spawn_blocking(move || {
            // Locked first: of two that save at once, the later look is written later.
            let mut ledger = ledger.lock();
            ledger.save(&marks(&leases, now));
        });
        if let Err(error) = saved.await {
            tracing::error!(%error, "the sources were not taken down");
        }
    }

    /// Ends what has expired; gives back the sources that changed.
    pub(super) async fn expire(&self, now: Now, tell: bool) -> Vec<IpAddr> {
        let mut expired: HashMap<CompactString, Moment> = std::mem::take(&mut *self.expiring.lock());
        let horizon = now.moment.plus(WATCH);
        for view in self.leases.leases() {
            if let Some(expires) = view.lease.expires.filter(|at| *at <= horizon) {
                expired.insert(view.lease.id.clone(), expires);
            }
        }
        let changed = self.leases.expire(now.moment);
        let later = expired.extract_if(|_, at| *at > now.moment).collect();
        *self.expiring.lock() = later;
        for (id, at) in expired {
            // One that is there again was registered anew under its id; one that ended otherwise was told of.
            if tell && self.leases.lease(&id).is_none() && !self.is_ended(&id) {
                let end = End {
                    at: now.wall_of(at),
                    by: EndedBy::Expiry,
                    ending: Ending::Quarantine,
                };
                self.end(id, end).await;
            }
        }
        changed
    }

    /// Puts back what the last process left; gives back the leases among it.
    pub(super) fn restore(&self, now: Now) -> Vec<Claim> {
        let told = self.outbox.waiting();
        let ended: HashSet<&str> = told
            .iter()
            .flat_map(|told| match told {
                Told::Grant(claim) => claim.replaces.iter().map(CompactString::as_str).collect(),
                Told::End { id, .. } => vec![id.as_str()],
            })
            .collect();
        let mut restored = Vec::new();
        for claim in told.iter().filter_map(|told| match told {
            Told::Grant(claim) => Some(claim),
            Told::End { .. } => None,
        }) {
            if !ended.contains(claim.lease.id.as_str()) {
                self.adopt(claim, now);
            }
            restored.push(Claim::clone(claim));
        }
        let quarantined = self.ledger.lock().quarantined();
        for one in quarantined {
            let network = self.leases.lookup(one.0, now.moment).network.name.clone();
            self.leases.quarantine(&[one], &network, now.moment);
        }
        restored
    }

    fn adopt(&self, claim: &Claim, now: Now) {
        let lease = &claim.lease;
        let left = lease.expires_at.duration_since(now.wall);
        let with_machine = |source: &IpAddr| (*source, self.machine_of(*source));
        let sources: Vec<(IpAddr, Option<Mac>)> = lease.sources.iter().map(with_machine).collect();
        let adopted = AdoptedLease {
            id: lease.id.clone(),
            network: lease.network.clone(),
            sources: sources.clone(),
            identity: lease.identity.clone(),
            began: lease.began,
            lifetime: Duration::try_from(left).unwrap_or_default(),
        };
        if let Err(error) = self.leases.adopt(adopted, now.moment) {
            tracing::warn!(lease = %lease.id, %error, "a lease of before the restart is not put in place again");
            let by = match error {
                AdoptError::Expired(_) => EndedBy::Expiry,
                AdoptError::SourceCount(_)
                | AdoptError::Foreign(_)
                | AdoptError::Elsewhere { .. }
                | AdoptError::Static(_)
                | AdoptError::Full => EndedBy::Replaced,
            };
            // Nobody saw its machine go, so its addresses are not free.
            self.leases.quarantine(&sources, &lease.network, now.moment);
            let end = End {
                at: now.wall,
                by,
                ending: Ending::Quarantine,
            };
            self.outbox.end(&lease.id, end);
        }
    }
}

impl EndedLeases for Keeper {
    fn is_ended(&self, id: &str) -> bool {
        self.outbox.is_ended(id)
    }

    fn tell_again(&self, id: &CompactString) {
        let end = End {
            at: Timestamp::now(),
            by: EndedBy::Replaced,
            ending: Ending::Quarantine,
        };
        self.outbox.end_again(id, end);
    }

    fn note_ended(&self, id: &CompactString) {
        self.outbox.note_ended(id);
    }

    fn was_left(&self, source: IpAddr, since: Timestamp) -> bool {
        let left = self.ledger.lock().left_at(source);
        left.is_some_and(|left| left >= since)
    }

    fn keep_sources(&self, now: Moment) {
        let now = Now {
            moment: now,
            wall: Timestamp::now(),
        };
        let mut ledger = self.ledger.lock();
        ledger.save(&marks(&self.leases, now));
    }

    fn machine_of(&self, source: IpAddr) -> Option<Mac> {
        self.ledger.lock().mac_of(source)
    }
}

/// How all sources are now.
fn marks(leases: &LeaseTable, now: Now) -> HashMap<IpAddr, Mark> {
    let bound = leases.bindings().into_iter().map(|binding| {
        let mark = Mark {
            mac: Some(binding.mac),
            quarantined: None,
        };
        (binding.address, mark)
    });
    let quarantined = leases.quarantined_sources().into_iter().map(|one| {
        let mark = Mark {
            mac: one.mac,
            quarantined: Some(now.wall_of(one.since)),
        };
        (one.address, mark)
    });
    bound.chain(quarantined).collect()
}
