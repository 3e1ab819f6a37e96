//! What goes on beside the line of writers: counts are added, rules that somebody changed elsewhere are read.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::observer::Observer;
use crate::store::{Db, StoreError};

/// Between two looks at what waits, and at the rules. As long as another control plane's rule may not be heeded here.
const UPKEEP: Duration = Duration::from_secs(2);

/// What observing needs of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Observing {
    pub(in crate::store) policies: Db,
    pub(in crate::store) events: Db,
    pub(in crate::store) observer: Arc<Observer>,
}

/// The task that keeps counts and rules current. Ends with the last holder.
#[derive(Debug)]
pub(in crate::store) struct Upkeep(JoinHandle<()>);

impl Observing {
    /// Over the two halves of a store; the rules are read before anything is stored.
    pub(in crate::store) async fn open(policies: &Db, events: &Db) -> Result<Self, StoreError> {
        let observing = Self {
            policies: policies.clone(),
            events: events.clone(),
            observer: Arc::default(),
        };
        observing.read_rules().await?;
        Ok(observing)
    }
}

impl Upkeep {
    /// Begins.
    pub(in crate::store) fn start(observing: Observing) -> Self {
        Self(tokio::spawn(keep(observing)))
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(observing: Observing) {
    let mut ticks = tokio::time::interval(UPKEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = observing.flush().await {
            tracing::debug!(error = error.chain(), "counts wait on");
        }
        if let Err(error) = observing.heed_rules().await {
            tracing::debug!(error = error.chain(), "suppression rules wait to be heeded");
        }
    }
}
