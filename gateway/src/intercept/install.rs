//! Putting interception in place, comparing it with what must be, mending and
//! removing it: owns the order of the steps; never decides what they say
//! ([`Ruleset`], `Routing`, `sysctl` do). The appliance's start drives it, and
//! `watch` after that.
//!
//! The order is closed before diverted: first the kernel settings, then the
//! routing rules (whose blackhole closes as well), then the ruleset in one
//! transaction. Every interruption leaves "nothing crosses".

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::net::if_::if_nametoindex;
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    bindings::{BindingTable, BindingsFull},
    nft::{self, NftError},
    plan::{InterceptPlan, InterfaceName, PlanError},
    routing::{self, Routing, RoutingError},
    ruleset::Ruleset,
    sysctl::{self, Setting, SysctlError},
};
use crate::link::{Mac, netlink::Netlink};

/// Why interception is not in place. Runner traffic is closed nevertheless.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The plan contradicts itself.
    #[error("the interception plan is wrong")]
    Plan(#[from] PlanError),
    /// A kernel setting could not be made.
    #[error("runner interfaces can't be closed")]
    Sysctl(#[from] SysctlError),
    /// A routing rule or route could not be made.
    #[error("diverted packets can't be routed")]
    Routing(#[from] RoutingError),
    /// The ruleset could not be installed or read.
    #[error("the ruleset is not in place")]
    Nft(#[from] NftError),
    /// Something undid the ruleset while it was being read back.
    #[error("the ruleset vanished while it was installed")]
    Vanished,
    /// A runner interface does not exist; everything else is in place.
    #[error("there is no interface {0}")]
    NoInterface(InterfaceName),
    /// See [`BindingsFull`].
    #[error("an address can't be bound to its machine")]
    Bindings(#[from] BindingsFull),
}

/// What was found in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All is as installed.
    Intact,
    /// What differs, in words for `status` and the log.
    Deviates(String),
}

/// Interception that was put in place.
///
/// Dropping it removes nothing: a gateway that dies must leave the diversion to
/// nowhere, which is closed. [`Guard::remove`] is the orderly end.
#[derive(Debug)]
pub struct Guard {
    wanted: Mutex<Arc<Wanted>>,
    bindings: Mutex<BindingTable>,
    /// The table as nft read it back after the last installation.
    installed: Mutex<Option<Value>>,
    /// One script at a time: a restore between the memory's change and the
    /// kernel's would add an element twice.
    turn: tokio::sync::Mutex<()>,
    /// A binding met a table that was tampered with, and mended it before `watch` looked.
    mended: AtomicBool,
}

/// A plan and what it means for each part of the kernel.
#[derive(Debug)]
struct Wanted {
    plan: InterceptPlan,
    ruleset: Ruleset,
    routing: Routing,
}

impl Wanted {
    fn compile(plan: InterceptPlan) -> Result<Arc<Self>, PlanError> {
        Ok(Arc::new(Self {
            ruleset: Ruleset::compile(&plan)?,
            routing: Routing::compile(&plan),
            plan,
        }))
    }

    /// The settings of the interfaces that exist, and the first that doesn't.
    fn settings(&self) -> (Vec<Setting>, Option<&InterfaceName>) {
        let exists = |name: &&InterfaceName| if_nametoindex(name.as_str()).is_ok();
        let missing = self.plan.interfaces().find(|name| !exists(name));
        (sysctl::settings(self.plan.interfaces().filter(exists)), missing)
    }
}

/// Puts a plan in place, over whatever a dead predecessor left.
pub async fn install(plan: InterceptPlan) -> Result<Guard, InstallError> {
    let guard = Guard {
        wanted: Mutex::new(Wanted::compile(plan)?),
        bindings: Mutex::default(),
        installed: Mutex::default(),
        turn: tokio::sync::Mutex::default(),
        mended: AtomicBool::default(),
    };
    guard.restore().await?;
    Ok(guard)
}

/// Removes the table, the rules and the routes of any plan. Forwarding stays off.
pub async fn cleanup() -> Result<(), InstallError> {
    nft::apply(&Ruleset::removal()).await?;
    routing::remove_all(&Netlink::open().map_err(RoutingError::from)?).await?;
    Ok(())
}

impl Guard {
    /// The plan that is in place.
    pub fn plan(&self) -> InterceptPlan {
        self.wanted.lock().plan.clone()
    }

    /// Changes to another plan; open flows of networks that stay live on. A plan
    /// that can't be compiled leaves the old one. Interfaces that are no longer
    /// intercepted stay closed.
    pub async fn replace(&self, plan: InterceptPlan) -> Result<(), InstallError> {
        let wanted = Wanted::compile(plan)?;
        let _turn = self.turn.lock().await;
        *self.wanted.lock() = wanted;
        self.put_in_place().await
    }

    /// Puts everything in place (again). Harmless when nothing was missing.
    pub async fn restore(&self) -> Result<(), InstallError> {
        let _turn = self.turn.lock().await;
        self.put_in_place().await
    }

    /// The caller holds `turn`. An interface that is gone doesn't keep the others
    /// from being mended; it is the error at the end.
    async fn put_in_place(&self) -> Result<(), InstallError> {
        let wanted = Arc::clone(&self.wanted.lock());
        let (settings, missing) = wanted.settings();
        sysctl::apply(&settings)?;
        wanted
            .routing
            .apply(&Netlink::open().map_err(RoutingError::from)?)
            .await?;
        let script = wanted.ruleset.script(&self.bindings.lock());
        nft::apply(&script).await?;
        let reading = nft::read_back().await?.ok_or(InstallError::Vanished)?;
        *self.installed.lock() = Some(reading);
        missing.map_or(Ok(()), |name| Err(InstallError::NoInterface(name.clone())))
    }

    /// Compares what is in place with what was installed.
    pub async fn verify(&self) -> Result<Condition, InstallError> {
        let _turn = self.turn.lock().await;
        let wanted = Arc::clone(&self.wanted.lock());
        let (settings, missing) = wanted.settings();
        if let Some(what) = sysctl::first_deviation(&settings)? {
            return Ok(Condition::Deviates(what));
        }
        if let Some(what) = wanted
            .routing
            .first_deviation(&Netlink::open().map_err(RoutingError::from)?)
            .await?
        {
            return Ok(Condition::Deviates(what));
        }
        let deviation = match nft::read_back().await? {
            None => Some("the table is gone"),
            reading if reading != *self.installed.lock() => Some("the table was changed"),
            Some(_) => None,
        };
        match (deviation, missing) {
            (Some(what), _) => Ok(Condition::Deviates(what.to_owned())),
            (None, Some(name)) => Err(InstallError::NoInterface(name.clone())),
            (None, None) => Ok(Condition::Intact),
        }
    }

    /// Tells the kernel which machine may use an address (`None`: any again). If
    /// the table was tampered with, it is restored whole.
    pub async fn bind(&self, address: IpAddr, mac: Option<Mac>) -> Result<(), InstallError> {
        self.bind_all(&[(address, mac)]).await
    }

    /// [`bind`](Self::bind) of many addresses as one transaction. Those that find no room any more are the error at
    /// the end; the others are bound.
    pub async fn bind_all(&self, wanted: &[(IpAddr, Option<Mac>)]) -> Result<(), InstallError> {
        let _turn = self.turn.lock().await;
        let (mut script, mut full) = (String::new(), Ok(()));
        {
            let mut bindings = self.bindings.lock();
            for (address, mac) in wanted {
                match bindings.set(*address, *mac) {
                    Ok(change) => script.push_str(&change.unwrap_or_default()),
                    Err(error) => full = Err(error.into()),
                }
            }
        }
        if script.is_empty() {
            return full;
        }
        match nft::apply(&script).await {
            Ok(()) => full,
            Err(NftError::Refused(_)) => {
                self.put_in_place().await?;
                self.mended.store(true, Ordering::Relaxed);
                full
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether [`bind`](Self::bind) restored the table since this was last asked, so that such a repair is counted too.
    pub(super) fn take_mended(&self) -> bool {
        self.mended.swap(false, Ordering::Relaxed)
    }

    /// How many addresses are bound to a machine.
    pub fn bound(&self) -> usize {
        self.bindings.lock().len()
    }

    /// The named counters of what was dropped: (name, packets) since the last installation.
    pub async fn counters(&self) -> Result<Vec<(String, u64)>, InstallError> {
        Ok(nft::read_counters().await?)
    }

    /// The orderly end: [`cleanup`]. Runner interfaces stay closed.
    pub async fn remove(self) -> Result<(), InstallError> {
        cleanup().await
    }
}
