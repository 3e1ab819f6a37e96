//! What the rest of the gateway knows of the control plane, and what it tells it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use compact_str::CompactString;
use hyper::body::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_control_wire::batch::BatchStored;
use tidegate_control_wire::claim::{Claim, End, Granted};
use tidegate_control_wire::frame::Resume;
use tidegate_control_wire::mirror::Credentials;
use tidegate_control_wire::record::LeaseRecord;
use tidegate_policy::Moment;
use tidegate_policy::effective::Generation;
use tidegate_policy::lease::Mac;
use tokio::sync::{Notify, watch};

use super::acks::Acks;
use super::calls::{Calls, ClaimError};
use super::connect::Pending;
use super::ended::EndedLeases;
use crate::events::{Carrier, ShipError};

/// Away for longer than this, the gateway is degraded: seconds.
const MAX_AWAY: i64 = 60;

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

impl LinkState {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connected => "connected",
            Self::Away { .. } => "away",
            Self::Refused { .. } => "refused",
        }
    }

    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Off | Self::Connected => None,
            Self::Away { error } => error.as_deref(),
            Self::Refused { error } => Some(error),
        }
    }
}

/// What `status` shows beside the connection itself.
#[derive(Default)]
struct Told {
    since: Timestamp,
    /// Control's time, when it was last heard that what is held is the newest.
    heard: Option<Timestamp>,
    feed_checked: Option<Timestamp>,
    resume: Option<Resume>,
    /// Synced policies that can't be used.
    unusable: usize,
    /// Why the newest state is not on disk.
    disk: Option<String>,
}

/// The control plane as the rest of the gateway sees it.
pub(crate) struct Control {
    credentials: ArcSwap<Credentials>,
    generation: AtomicU64,
    addresses: ArcSwap<Vec<IpAddr>>,
    ended: OnceLock<Arc<dyn EndedLeases>>,
    calls: Mutex<Option<Calls>>,
    link: watch::Sender<LinkState>,
    told: Mutex<Told>,
    acks: Acks,
    forgotten: Notify,
    moved: Notify,
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
            told: Mutex::new(Told {
                since: Timestamp::now(),
                ..Told::default()
            }),
            acks: Acks::default(),
            forgotten: Notify::new(),
            moved: Notify::new(),
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

    /// Says that a token of this issuer names a key that was not synced; true when the issuer will be asked again.
    pub(crate) async fn unknown_key(&self, issuer: &str) -> bool {
        let calls = self.calls.lock().clone();
        match calls {
            Some(calls) => calls.unknown_key(issuer).await.is_ok(),
            None => false,
        }
    }

    /// Tokens and issuers of this moment.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// Position of the newest change that is in force; 0 before the first.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// How the connection is, and every change of it.
    pub(crate) fn link(&self) -> watch::Receiver<LinkState> {
        self.link.subscribe()
    }

    /// Where the control plane is: never dialled for a job.
    pub(crate) fn addresses(&self) -> Arc<Vec<IpAddr>> {
        self.addresses.load_full()
    }

    /// Waits until it is elsewhere.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Asks `ended` before a lease is taken over from the stream or from disk. To be called once, before the state is
    /// loaded.
    pub(crate) fn heed(&self, ended: Arc<dyn EndedLeases>) {
        if self.ended.set(ended).is_err() {
            tracing::error!("ended leases are heeded by somebody already");
        }
    }

    /// For `status`; `None` without a control plane.
    pub(crate) fn report(&self) -> Option<Value> {
        let link = self.link.borrow().clone();
        if link == LinkState::Off {
            return None;
        }
        let told = self.told.lock();
        let age = told.heard.map(|heard| seconds_since(heard).max(0));
        Some(json!({
            "state": link.as_str(),
            "since": told.since.to_string(),
            "generation": self.generation(),
            "epoch": told.resume.as_ref().map(|resume| resume.epoch.clone()),
            "age_seconds": age,
            "error": link.error(),
        }))
    }

    /// What is wrong, in the words of `status`.
    pub(crate) fn degraded(&self) -> Vec<String> {
        let told = self.told.lock();
        let link = match &*self.link.borrow() {
            LinkState::Off | LinkState::Connected => None,
            LinkState::Away { error } => (seconds_since(told.since) > MAX_AWAY).then(|| {
                let error = error.as_deref().unwrap_or("no answer yet");
                format!("the control plane is away since {}: {error}", told.since)
            }),
            LinkState::Refused { error } => {
                Some(format!("the control plane gives this gateway nothing: {error}"))
            }
        };
        let count = told.unusable;
        let unusable = (count > 0).then(|| {
            format!(
                "synced policies that can't be used, so that whom they govern is refused everything: {count}"
            )
        });
        link.into_iter()
            .chain(unusable)
            .chain(told.disk.clone())
            .collect()
    }

    /// How long ago the block list's feed was found to be current, in seconds, where there is one.
    pub(crate) fn block_age(&self) -> Option<f64> {
        let checked = self.told.lock().feed_checked?;
        Some(Timestamp::now().duration_since(checked).as_secs_f64().max(0.0))
    }
}

impl Carrier for Control {
    fn reachable(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let mut link = self.link.subscribe();
            // The sender lives as long as this does.
            drop(link.wait_for(|state| *state == LinkState::Connected).await);
        })
    }

    fn ship(&self, batch: Bytes) -> Pending<'_, Result<BatchStored, ShipError>> {
        let calls = self.calls.lock().clone();
        Box::pin(async move {
            match calls {
                Some(calls) => calls.ship(batch).await,
                None => Err(ShipError::Later("the control plane is away".into())),
            }
        })
    }
}

/// What [`super::client`] and [`super::force`] tell.
impl Control {
    pub(super) fn set_addresses(&self, addresses: Vec<IpAddr>) {
        if **self.addresses.load() != addresses {
            self.addresses.store(Arc::new(addresses));
            self.moved.notify_one();
        }
    }

    /// Changes come over this connection; requests can be made on it.
    pub(super) fn connected(&self, calls: Calls) {
        *self.calls.lock() = Some(calls);
        self.turn(LinkState::Connected);
    }

    /// The connection is gone, or there was none. True when that is news.
    pub(super) fn lost(&self, state: LinkState) -> bool {
        *self.calls.lock() = None;
        self.turn(state)
    }

    /// `since` moves with the kind of the state, the error with each.
    fn turn(&self, state: LinkState) -> bool {
        let mut told = self.told.lock();
        let before = self.link.send_replace(state.clone());
        if before.as_str() != state.as_str() {
            told.since = Timestamp::now();
        }
        before != state
    }

    /// Control is there, and says when it looked at the block list's feed.
    pub(super) fn heard(&self, at: Timestamp, feed_checked: Option<Timestamp>) {
        let mut told = self.told.lock();
        told.heard = Some(at);
        told.feed_checked = feed_checked.or(told.feed_checked);
    }

    /// What to go on from.
    pub(super) fn resume(&self) -> Option<Resume> {
        self.told.lock().resume.clone()
    }

    /// This is in force now.
    pub(super) fn in_force(&self, resume: Option<Resume>, credentials: &Arc<Credentials>) {
        self.credentials.store(Arc::clone(credentials));
        let generation = resume.as_ref().map_or(0, |resume| resume.generation.0);
        self.generation.store(generation, Ordering::Release);
        self.told.lock().resume = resume;
    }

    /// How many synced policies can't be used.
    pub(super) fn set_unusable(&self, count: usize) {
        self.told.lock().unusable = count;
    }

    /// Why the newest state is not on disk.
    pub(super) fn set_disk(&self, problem: Option<String>) {
        self.told.lock().disk = problem;
    }

    /// Has everything sent anew: what is held here can't be trusted any more.
    pub(super) fn forget(&self) {
        self.told.lock().resume = None;
        self.forgotten.notify_one();
    }

    /// Waits until everything has to be sent anew.
    pub(super) async fn forgotten(&self) {
        self.forgotten.notified().await;
    }

    pub(super) fn is_ended(&self, id: &str) -> bool {
        self.ended.get().is_some_and(|ended| ended.is_ended(id))
    }

    pub(super) fn tell_again(&self, id: &CompactString) {
        self.ended
            .get()
            .into_iter()
            .for_each(|ended| ended.tell_again(id));
    }

    pub(super) fn note_ended(&self, id: &CompactString) {
        self.ended
            .get()
            .into_iter()
            .for_each(|ended| ended.note_ended(id));
    }

    /// True when a lease of the disk's state ended here, though the disk was not told any more.
    pub(super) fn has_left(&self, lease: &LeaseRecord) -> bool {
        let left = |ended: &Arc<dyn EndedLeases>| {
            let mut sources = lease.sources.iter();
            sources.any(|source| ended.was_left(*source, lease.started_at))
        };
        self.ended.get().is_some_and(left)
    }

    pub(super) fn keep_sources(&self, now: Moment) {
        self.ended
            .get()
            .into_iter()
            .for_each(|ended| ended.keep_sources(now));
    }

    /// What is to be acknowledged.
    pub(super) fn acks(&self) -> &Acks {
        &self.acks
    }

    pub(super) fn machine_of(&self, source: IpAddr) -> Option<Mac> {
        self.ended.get().and_then(|ended| ended.machine_of(source))
    }
}

fn seconds_since(then: Timestamp) -> i64 {
    Timestamp::now().duration_since(then).as_secs()
}
