//! What every handler shares.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::auth::Authenticator;
use super::draft::DRAFTS;
use super::events::{SUMMARIES, Streams};
use super::login::LOGINS;
use super::memo::Memo;
use super::seen::SeenTables;
use super::settings::Deployment;
use super::simulate::SIMULATIONS;
use super::turns::Turns;
use crate::login::Login;
use crate::store::{DetectionCounters, Store};
use crate::sync::Hub;
use crate::view::View;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the API answers from. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(super) store: Store,
    pub(super) view: View,
    pub(super) hub: Hub,
    pub(super) clock: Clock,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) streams: Arc<Streams>,
    pub(super) summaries: Arc<Turns>,
    pub(super) simulations: Arc<Turns>,
    pub(super) drafts: Arc<Turns>,
    pub(super) seen: Arc<SeenTables>,
    /// How many detections there are, by whose.
    pub(super) detections: Arc<Memo<DetectionCounters>>,
    pub(super) login: Option<Arc<Login>>,
    pub(super) deployment: Option<Arc<Deployment>>,
    pub(super) logins: Arc<Turns>,
    pub(super) closing: CancellationToken,
}

impl ApiState {
    /// An API over a store, its mirror and the gateways that are connected here.
    pub fn new(store: Store, view: View, hub: Hub) -> Self {
        Self::with_clock(store, view, hub, Arc::new(Timestamp::now))
    }

    /// The same with another clock: for what expires, and for what is rate-limited.
    pub fn with_clock(store: Store, view: View, hub: Hub, clock: Clock) -> Self {
        Self {
            authenticator: Arc::new(Authenticator::new(store.clone(), Arc::clone(&clock))),
            store,
            view,
            hub,
            clock,
            streams: Arc::default(),
            summaries: Arc::new(Turns::of(SUMMARIES)),
            simulations: Arc::new(Turns::of(SIMULATIONS)),
            drafts: Arc::new(Turns::of(DRAFTS)),
            seen: Arc::default(),
            detections: Arc::default(),
            login: None,
            deployment: None,
            logins: Arc::new(Turns::of(LOGINS)),
            closing: CancellationToken::new(),
        }
    }

    /// What `GET /settings` tells of.
    #[must_use]
    pub fn with_deployment(mut self, deployment: Deployment) -> Self {
        self.deployment = Some(Arc::new(deployment));
        self
    }

    /// People may log in at this issuer, too.
    #[must_use]
    pub fn with_login(mut self, login: Login) -> Self {
        self.login = Some(Arc::new(login));
        self
    }

    /// To be cancelled when the program ends: answers that go on for ever end with it.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ApiState")
            .field("store", &self.store)
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}
