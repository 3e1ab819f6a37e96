//! Keeping interception in place while the gateway runs: owns when to look and
//! how often to mend; never decides what is right ([`Guard`] does). The appliance
//! runs [`watch`] beside its data plane.
//!
//! What is undone is closed until it is mended, so this is about service, not
//! about safety: `nft flush ruleset` costs runners a few milliseconds.

use std::{convert::Infallible, error::Error, fmt::Write as _, io, sync::Arc, time::Duration};

use tokio::{
    sync::watch::Sender,
    time::{Instant, sleep, sleep_until},
};

use super::{
    changes,
    install::{Condition, Guard, InstallError},
};

/// A look without being woken: settings without a notification (`rp_filter`) and
/// flushed sets are found by it. One look costs about 10 ms of CPU.
const PERIOD: Duration = Duration::from_secs(15);

/// Least time between two looks, and so between two repairs: somebody who
/// flushes in a loop gets ten repairs a second.
const SPACING: Duration = Duration::from_millis(100);

/// Waits after failed repairs: doubling between these.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// What [`watch`] last knew. The number of repairs never goes down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterceptState {
    /// In place, never touched.
    Up,
    /// In place, after repairs.
    Restored {
        /// Repairs since the start.
        count: u64,
        /// What the last one mended.
        what: String,
    },
    /// Not in place: runners are closed off. It is being retried.
    Down {
        /// Why, with its causes.
        error: String,
    },
}

/// Watches and mends until dropped. Fails only if it can't listen to the kernel.
pub async fn watch(guard: Arc<Guard>, state: Sender<InterceptState>) -> io::Result<Infallible> {
    let nftables = changes::nftables()?;
    let routing = changes::routing()?;
    let mut keeper = Keeper {
        guard,
        state,
        repairs: 0,
        last: String::new(),
        retry: RETRY_FIRST,
    };
    loop {
        let spaced = Instant::now() + SPACING;
        let pause = keeper.look().await;
        sleep_until(spaced).await;
        tokio::select! {
            changed = nftables.changed() => changed?,
            changed = routing.changed() => changed?,
            () = sleep(pause) => {}
        }
    }
}

struct Keeper {
    guard: Arc<Guard>,
    state: Sender<InterceptState>,
    repairs: u64,
    last: String,
    retry: Duration,
}

impl Keeper {
    /// Looks once, mends if need be, and says how long to wait for a wake-up.
    async fn look(&mut self) -> Duration {
        match self.verify_and_mend().await {
            Ok(()) => {
                self.retry = RETRY_FIRST;
                self.report(self.in_place());
                PERIOD
            }
            Err(error) => {
                self.report(InterceptState::Down {
                    error: with_causes(&error),
                });
                let pause = self.retry;
                self.retry = (self.retry * 2).min(RETRY_LAST);
                pause
            }
        }
    }

    async fn verify_and_mend(&mut self) -> Result<(), InstallError> {
        if let Condition::Deviates(what) = self.guard.verify().await? {
            tracing::warn!(%what, "interception was changed, restoring it");
            self.guard.restore().await?;
            self.repaired(what);
        }
        if self.guard.take_mended() {
            tracing::warn!("interception was changed; binding an address restored it");
            self.repaired("the table was changed".to_owned());
        }
        Ok(())
    }

    fn repaired(&mut self, what: String) {
        self.repairs += 1;
        self.last = what;
    }

    fn in_place(&self) -> InterceptState {
        match self.repairs {
            0 => InterceptState::Up,
            count => InterceptState::Restored {
                count,
                what: self.last.clone(),
            },
        }
    }

    fn report(&self, now: InterceptState) {
        self.state.send_if_modified(|state| {
            let changed = *state != now;
            *state = now;
            changed
        });
    }
}

fn with_causes(error: &InstallError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Writing to a String can't fail.
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}
