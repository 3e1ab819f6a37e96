//! What the rest of the gateway knows of the control plane.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_control_wire::claim::{Claim, End, Granted};
use tidegate_control_wire::mirror::Credentials;
use tidegate_policy::effective::Generation;
use tokio::sync::watch;

use super::calls::{Calls, ClaimError};

/// How the connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// There is no control plane in the configuration.
    Off,
    /// Changes come in.
    Connected,
    /// It does not answer.
    Away {
        /// What was tried and what came of it; `None` before the first try ended.
        error: Option<String>,
    },
    /// It answers, but gives this gateway nothing: its token, its version or its configuration is wrong.
    Refused {
        /// Why.
        error: String,
    },
}

/// Leases that ended here while control was away, and that it has not been told of: the stream may still name them.
pub(crate) trait EndedLeases: Send + Sync {
    /// True when the lease must not be taken over from the stream again.
    fn is_ended(&self, id: &str) -> bool;
}

/// The control plane as the rest of the gateway sees it.
pub(crate) struct Control {
    credentials: ArcSwap<Credentials>,
    generation: AtomicU64,
    addresses: ArcSwap<Vec<IpAddr>>,
    ended: OnceLock<Arc<dyn EndedLeases>>,
    pub(super) calls: Mutex<Option<Calls>>,
    pub(super) link: watch::Sender<LinkState>,
}

impl Control {
    /// Nothing synced yet. `configured` is false where there is no control plane at all.
    pub(crate) fn new(configured: bool) -> Self {
        let link = if configured {
            LinkState::Away { error: None }
        } else {
            LinkState::Off
        };
        Self {
            credentials: ArcSwap::default(),
            generation: AtomicU64::new(0),
            addresses: ArcSwap::default(),
            ended: OnceLock::new(),
            calls: Mutex::new(None),
            link: watch::Sender::new(link),
        }
    }

    /// True where there is a control plane.
    pub(crate) fn is_configured(&self) -> bool {
        *self.link.borrow() != LinkState::Off
    }

    /// Has a lease recorded. Answers within two seconds; at once when control is away.
    pub(crate) async fn claim(&self, claim: &Claim) -> Result<Granted, ClaimError> {
        let calls = self.calls.lock().clone().ok_or(ClaimError::Away)?;
        calls.claim(claim).await
    }

    /// Has the end of a lease recorded. Answers within two seconds; at once when control is away.
    pub(crate) async fn end(&self, id: &str, end: &End) -> Result<(), ClaimError> {
        let calls = self.calls.lock().clone().ok_or(ClaimError::Away)?;
        calls.end(id, end).await
    }

    /// Tokens and issuers of this moment.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    pub(super) fn set_credentials(&self, credentials: Arc<Credentials>) {
        self.credentials.store(credentials);
    }

    /// Position of the newest change that is in force; 0 before the first.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    pub(super) fn set_generation(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Release);
    }

    /// How the connection is, and every change of it.
    pub(crate) fn link(&self) -> watch::Receiver<LinkState> {
        self.link.subscribe()
    }

    /// Where the control plane is: never dialled for a job.
    pub(crate) fn addresses(&self) -> Arc<Vec<IpAddr>> {
        self.addresses.load_full()
    }

    pub(super) fn set_addresses(&self, addresses: Vec<IpAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// Asks `ended` before a lease is taken over from the stream or from disk. To be called once, before the state is
    /// loaded.
    pub(crate) fn heed(&self, ended: Arc<dyn EndedLeases>) {
        if self.ended.set(ended).is_err() {
            tracing::error!("ended leases are heeded by somebody already");
        }
    }

    pub(super) fn is_ended(&self, id: &str) -> bool {
        self.ended.get().is_some_and(|ended| ended.is_ended(id))
    }
}
