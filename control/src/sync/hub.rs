//! Who is connected, and what each has put in force.
//!
//! Owns the table of living gateways. A registration waits here until the other members of the group have it, so that
//! a job that was told "registered" is known wherever its packets may go. Bounded by the number of gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use parking_lot::Mutex;
use tidegate_control_wire::claim::{Claim, End, EndedBy, Granted, Member, Refusal};
use tidegate_control_wire::frame::{Ack, Hello};
use tidegate_control_wire::record::{Ending, LeaseRecord};
use tidegate_policy::effective::Generation;
use tokio::sync::watch;

use crate::model::{Actor, GatewayView, Job};
use crate::store::{ClaimError, Store, StoreError};

/// How long a registration waits for the other gateways of its group. Below the 2 s that a gateway waits for the answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Refusals of leases that are remembered for who waits for them.
const MAX_REFUSALS: usize = 1_024;

/// The living gateways. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    store: Store,
    members: Arc<Mutex<Members>>,
    /// Seats given so far: no two are of one number.
    seats: Arc<AtomicU64>,
    refusals: Arc<Mutex<Vec<(CompactString, String)>>>,
}

/// Who is connected, by name, and who that is of each group: a registration looks at its own group only.
#[derive(Debug, Default)]
struct Members {
    seats: BTreeMap<CompactString, Seat>,
    groups: BTreeMap<CompactString, BTreeSet<CompactString>>,
}

impl Members {
    /// Who had the seat before loses it.
    fn seat(&mut self, gateway: &CompactString, seat: Seat) {
        self.leave(gateway);
        let group = self.groups.entry(seat.group.clone()).or_default();
        group.insert(gateway.clone());
        self.seats.insert(gateway.clone(), seat);
    }

    fn leave(&mut self, gateway: &CompactString) {
        let Some(seat) = self.seats.remove(gateway) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&seat.group) {
            group.remove(gateway);
            if group.is_empty() {
                self.groups.remove(&seat.group);
            }
        }
    }

    /// The gateways of a group.
    fn of(&self, group: &str) -> impl Iterator<Item = (&CompactString, &Seat)> {
        let names = self.groups.get(group).into_iter().flatten();
        names.filter_map(|name| self.seats.get_key_value(name))
    }
}

/// A connected gateway.
#[derive(Debug)]
struct Seat {
    group: CompactString,
    /// Which of its connections this is: a new one takes the seat of an old one.
    number: u64,
    in_force: watch::Sender<Generation>,
    /// Leases that it could not put in place since it is connected.
    refused: u64,
}

/// A gateway's presence; leaving is dropping it.
#[derive(Debug)]
pub(super) struct Presence {
    hub: Hub,
    gateway: CompactString,
    number: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut members = self.hub.members.lock();
        let seat = members.seats.get(&self.gateway);
        if seat.is_some_and(|seat| seat.number == self.number) {
            members.leave(&self.gateway);
        }
    }
}

/// Why a job could not be registered from here.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No gateway serves the sources.
    #[error("{0}")]
    NoGateway(String),
    /// The store, or a gateway, refused it.
    #[error("{detail}")]
    Refused {
        /// Which kind of refusal.
        code: Refusal,
        /// One sentence.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// Nobody is connected yet.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            members: Arc::default(),
            seats: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// The group of a gateway: what it says, else a group of its own.
    pub(super) fn group_of(hello: &Hello) -> CompactString {
        match hello.group.as_deref() {
            Some(group) if !group.is_empty() => compact_str::format_compact!("group:{group}"),
            _ => compact_str::format_compact!("gateway:{}", hello.gateway),
        }
    }

    /// Gives a gateway that holds everything up to `held` its seat. An older connection of the same gateway loses it and
    /// is told so by its receiver, which ends.
    pub(super) fn join(&self, hello: &Hello, held: Generation) -> (Presence, watch::Receiver<Generation>) {
        let (in_force, seen) = watch::channel(held);
        let number = self.seats.fetch_add(1, Ordering::Relaxed);
        let mut members = self.members.lock();
        let seat = Seat {
            group: Self::group_of(hello),
            number,
            in_force,
            refused: 0,
        };
        members.seat(&hello.gateway, seat);
        let presence = Presence {
            hub: self.clone(),
            gateway: hello.gateway.clone(),
            number,
        };
        (presence, seen)
    }

    /// The group that a connected gateway said.
    pub(super) fn group(&self, gateway: &str) -> Option<CompactString> {
        self.members
            .lock()
            .seats
            .get(gateway)
            .map(|seat| seat.group.clone())
    }

    /// A gateway has put something in force.
    pub(super) fn acknowledge(&self, gateway: &str, ack: Ack) {
        let refused = ack.refused.len() as u64;
        if refused > 0 {
            let mut refusals = self.refusals.lock();
            let spare = (refusals.len() + ack.refused.len()).saturating_sub(MAX_REFUSALS);
            let spare = spare.min(refusals.len());
            refusals.drain(..spare);
            refusals.extend(
                ack.refused
                    .into_iter()
                    .take(MAX_REFUSALS)
                    .map(|one| (one.id, one.reason)),
            );
        }
        if let Some(seat) = self.members.lock().seats.get_mut(gateway) {
            seat.refused = seat.refused.saturating_add(refused);
            seat.in_force.send_if_modified(|known| {
                let newer = ack.generation > *known;
                *known = ack.generation.max(*known);
                newer
            });
        }
    }

    /// Waits until every living gateway of the group but `except` has this in force, or until patience ends.
    async fn in_force(&self, group: &str, except: &str, generation: Generation) -> Vec<Member> {
        let waiting: Vec<(CompactString, watch::Receiver<Generation>)> = {
            let members = self.members.lock();
            let others = members.of(group).filter(|(name, _)| *name != except);
            others
                .map(|(name, seat)| (name.clone(), seat.in_force.subscribe()))
                .collect()
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut members = Vec::with_capacity(waiting.len());
        for (gateway, mut seen) in waiting {
            let reached =
                tokio::time::timeout_at(deadline, seen.wait_for(|known| *known >= generation)).await;
            members.push(Member {
                gateway,
                has_it: matches!(reached, Ok(Ok(_))),
            });
        }
        members
    }

    /// Records a lease for a gateway that asks, and tells its group.
    pub(super) async fn claim(
        &self,
        claim: &Claim,
        group: &str,
        gateway: &str,
    ) -> Result<Granted, ClaimError> {
        let claimed = self.store.claim(claim, group, gateway).await?;
        let members = if claim.granted {
            Vec::new()
        } else {
            self.in_force(group, gateway, claimed.generation).await
        };
        Ok(Granted {
            began: claimed.record.began,
            members,
        })
    }

    /// Registers a job for a provisioner: recorded, then put in place by the gateways that serve its sources.
    pub async fn register(&self, mut lease: LeaseRecord, networks: &[String]) -> Result<Job, RegisterError> {
        let (group, network, cluster) = self.home_of(&lease.sources, networks).await?;
        if !lease.identity.cluster.is_empty() && lease.identity.cluster != cluster {
            return Err(RegisterError::Refused {
                code: Refusal::Invalid,
                detail: format!(
                    "cluster {:?} is not network {network}'s, which is {cluster:?}",
                    lease.identity.cluster
                ),
            });
        }
        lease.network = network;
        lease.identity.cluster = cluster;
        let id = lease.id.clone();
        let replaces = self.rivals(&group, &lease).await?;
        let claim = Claim {
            lease,
            replaces,
            proof: None,
            granted: false,
        };
        let claimed = self
            .store
            .claim(&claim, &group, "")
            .await
            .map_err(RegisterError::from)?;
        self.in_force(&group, "", claimed.generation).await;
        if let Some(reason) = self.refusal(&id) {
            let end = End {
                at: jiff::Timestamp::now(),
                by: EndedBy::Operator,
                ending: Ending::Release,
            };
            self.store.end_job(&id, None, &end).await?;
            return Err(RegisterError::Refused {
                code: Refusal::Held,
                detail: format!("a gateway could not put it in place: {reason}"),
            });
        }
        Ok(self.store.job(&id).await?)
    }

    /// Leases on these sources: a provisioner's word counts above theirs.
    async fn rivals(&self, group: &str, lease: &LeaseRecord) -> Result<Vec<CompactString>, StoreError> {
        let mut replaces = Vec::new();
        for source in &lease.sources {
            if let Some(held) = self.store.lease_at(Some(group), *source).await?
                && !replaces.contains(&held.lease.id)
            {
                replaces.push(held.lease.id);
            }
        }
        Ok(replaces)
    }

    fn refusal(&self, id: &str) -> Option<String> {
        let mut refusals = self.refusals.lock();
        let at = refusals.iter().position(|(refused, _)| refused == id)?;
        Some(refusals.swap_remove(at).1)
    }

    /// The group, network and cluster that every source lies in, among the networks that the token allows.
    async fn home_of(
        &self,
        sources: &[IpAddr],
        networks: &[String],
    ) -> Result<(CompactString, CompactString, CompactString), RegisterError> {
        let gateways = self.store.gateways().await?;
        let mut homes: Vec<(CompactString, CompactString, CompactString)> = Vec::new();
        for gateway in &gateways {
            for network in &gateway.networks {
                let allowed = networks.is_empty() || networks.iter().any(|name| *name == network.name);
                let around = |source: &IpAddr| network.ranges.iter().any(|range| range.contains(source));
                let home = (
                    CompactString::from(&gateway.group),
                    network.name.clone(),
                    network.cluster.clone(),
                );
                if allowed && sources.iter().all(around) && !homes.contains(&home) {
                    homes.push(home);
                }
            }
        }
        match homes.as_slice() {
            [home] => Ok(home.clone()),
            [] => Err(RegisterError::NoGateway(
                "no network that this token is for holds all these sources; ask `tidegate gateway list`"
                    .into(),
            )),
            more => {
                let names: Vec<String> = more
                    .iter()
                    .map(|(group, network, _)| format!("{network} of {group}"))
                    .collect();
                Err(RegisterError::NoGateway(format!(
                    "the sources lie in several networks ({}); use a token that is limited to one of them",
                    names.join(", ")
                )))
            }
        }
    }

    /// Ends a job and waits until its gateways know.
    pub async fn end(&self, job: &Job, by: EndedBy, ending: Ending) -> Result<bool, StoreError> {
        let end = End {
            at: jiff::Timestamp::now(),
            by,
            ending,
        };
        let ended = self.store.end_job(&job.lease.id, None, &end).await?;
        // Its group's newest, not the store's: of what concerns others only, a gateway hears nothing.
        let newest = self.store.newest_of(&job.group).await?;
        self.in_force(&job.group, "", newest).await;
        Ok(ended)
    }

    /// Marks who of these gateways is connected here, and how far it is.
    pub fn mark(&self, gateways: &mut [GatewayView]) {
        let members = self.members.lock();
        for gateway in gateways {
            if let Some(seat) = members.seats.get(gateway.name.as_str()) {
                gateway.connected = true;
                gateway.generation = seat.in_force.borrow().0;
                gateway.refused_leases = seat.refused;
            }
        }
    }

    /// Who does things by itself.
    pub(crate) fn system() -> Actor {
        Actor {
            subject: "tidegate".into(),
            token_id: None,
            via: "system".into(),
        }
    }
}

impl From<ClaimError> for RegisterError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Refused { code, detail } => Self::Refused { code, detail },
            ClaimError::Store(error) => Self::Store(error),
        }
    }
}
