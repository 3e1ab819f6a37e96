//! The control plane as a whole: put together, kept in step, ended.
//!
//! Owns the order of things: the store first, then the first admin token, the mirror, the listener; then the tasks that
//! let time pass (leases and entries that expire, what may be forgotten) and that bring the world in (issuers' keys, the
//! block list's feed). `cli` runs it alone (`tidegate control`) or beside a gateway (`tidegate up`).

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use sd_notify::NotifyState;
use tidegate_control_ui::UiSettings;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState, Deployment};
use crate::bootstrap::{self, BootstrapError};
use crate::config::ControlConfig;
use crate::server::{Link, Listener, ServeError};
use crate::store::{Retention, Store, StoreError};
use crate::sync::{self, Hub, SyncState};
use crate::view::View;
use crate::world::{self, WorldError};

/// Between two looks at what has expired.
const TICK: Duration = Duration::from_secs(1);
/// Between two sweeps of what may be forgotten.
const SWEEP: Duration = Duration::from_mins(10);

/// Why the control plane can't run.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The store can't be opened.
    #[error("can't open the store {place}")]
    Store {
        /// Its URL, without a password.
        place: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The first admin token can't be had.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Nothing can be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Issuers or the feed can't be followed.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The system refused something.
    #[error("{what}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// A control plane that is ready to serve.
pub struct ControlPlane {
    listener: Listener,
    router: Router,
    closing: CancellationToken,
    tasks: JoinSet<()>,
}

impl ControlPlane {
    /// Opens everything. To be called on a multi-thread runtime, which the tasks stay on.
    pub async fn start(config: ControlConfig) -> Result<Self, ControlError> {
        let opened = |source| ControlError::Store {
            place: crate::store::place(&config.store),
            source,
        };
        let store = Store::open(&config.store)
            .await
            .map_err(opened)?
            .strict(config.strict)
            .keeping(config.keep_events);
        bootstrap::first_admin(&store, config.bootstrap_token.as_deref()).await?;
        world::apply_builtin(&store).await.map_err(opened)?;
        let view = View::open(&store).await.map_err(opened)?;
        let tls = config
            .tls
            .as_ref()
            .map(|(chain, key)| (chain.as_path(), key.as_path()));
        let listener = Listener::open(config.listen, tls).await?;
        let hub = Hub::new(store.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(time(store.clone()));
        tasks.spawn(sweep(store.clone(), kept(&config)));
        let keys = world::follow_issuers(&store, &config.oidc, &mut tasks).await?;
        let feed = world::follow_feed(&store, config.feed.as_ref(), &mut tasks).await?;
        let mut state = ApiState::new(store.clone(), view, hub.clone());
        if let Some(login) = world::login(&store, config.login.as_ref()).await? {
            state = state.with_login(login);
        }
        let (issuers, seen_as) = (keys.clone(), seen_as(&config));
        let state = state.with_deployment(Deployment {
            config,
            issuers,
            feed,
        });
        let closing = state.closing();
        let api = api::router(state);
        let ui = tidegate_control_ui::router(api.clone(), seen_as);
        let router = api
            .merge(sync::router(SyncState::new(store, hub, keys)))
            .merge(ui);
        Ok(Self {
            listener,
            router,
            closing,
            tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Connections of a gateway inside of this process.
    pub fn link(&self, gateway: &str) -> Link {
        Link::new(&self.router, gateway)
    }

    /// Serves until `stop` is done.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) {
        if let Ok(address) = self.address() {
            tracing::info!(%address, "the control plane is up");
        }
        let closing = self.closing;
        let stop = async move {
            stop.await;
            closing.cancel();
        };
        self.listener.serve(self.router, stop).await;
        self.tasks.shutdown().await;
    }
}

/// How browsers reach the web UI.
fn seen_as(config: &ControlConfig) -> UiSettings {
    let public_origin = config.public_url.clone();
    let is_https = |origin: &String| origin.starts_with("https://");
    UiSettings {
        secure: config.tls.is_some() || public_origin.as_ref().is_some_and(is_https),
        public_origin,
    }
}

/// How long records are kept.
fn kept(config: &ControlConfig) -> Retention {
    Retention {
        jobs: config.keep_jobs,
        seen: config.keep_events.rollups,
        ..Retention::default()
    }
}

/// Runs a control plane by itself until SIGTERM or SIGINT.
pub fn run(config: ControlConfig) -> Result<(), ControlError> {
    let system = |what| move |source| ControlError::System { what, source };
    let runtime = Builder::new_multi_thread()
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("can't start the runtime"))?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system("can't listen for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("can't listen for signals"))?;
        let plane = ControlPlane::start(config).await?;
        say(&[NotifyState::Ready]);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        plane.serve(stop).await;
        say(&[NotifyState::Stopping]);
        tracing::info!("stopped");
        Ok(())
    })
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager heard the state");
    }
}

/// Ends what has expired.
async fn time(store: Store) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = jiff::Timestamp::now();
        if let Err(error) = store.expire_jobs(now).await {
            tracing::error!(error = error.chain(), "expired jobs could not be ended");
        }
        if let Err(error) = store.expire_block_entries(now).await {
            tracing::error!(
                error = error.chain(),
                "expired block entries could not be removed"
            );
        }
    }
}

/// Forgets what nobody can need any more, and notes what only events tell of.
async fn sweep(store: Store, kept: Retention) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        if let Err(error) = store.prune(kept).await {
            tracing::error!(error = error.chain(), "old records could not be removed");
        }
        if let Err(error) = store.forget_events().await {
            tracing::error!(error = error.chain(), "old events could not be removed");
        }
        if let Err(error) = store.note_seen().await {
            tracing::error!(error = error.chain(), "what events tell of could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::Path;

    use super::*;

    #[test]
    fn cookies_are_secure_where_browsers_come_by_https_though_a_proxy_ends_it() {
        let seen = |control: &str| {
            let text = format!("version: 1\ncontrol:\n  store: sqlite:///x\n{control}");
            seen_as(&ControlConfig::parse(&text, Path::new("/t.yaml"), None).unwrap())
        };
        assert_eq!(seen(""), UiSettings::default());
        let behind = seen("  public-url: https://t.test\n");
        assert_eq!(
            (behind.secure, behind.public_origin.as_deref()),
            (true, Some("https://t.test"))
        );
        assert!(seen("  tls: {cert: a, key: b}\n").secure);
        assert!(!seen("  public-url: http://localhost:8080\n").secure);
    }

    #[test]
    fn records_are_kept_as_long_as_is_configured() {
        let days = |days: u64| Duration::from_hours(24 * days);
        let said = |control: &str| {
            let text = format!("version: 1\ncontrol:\n  store: sqlite:///x\n{control}");
            kept(&ControlConfig::parse(&text, Path::new("/t.yaml"), None).unwrap())
        };
        let usual = said("");
        assert_eq!((usual.jobs, usual.seen), (days(30), days(400)));
        let short = said("  retention: {events: 7d, rollups: 40d}\n");
        assert_eq!((short.jobs, short.seen), (days(7), days(40)));
        assert_eq!(short.changes, usual.changes);
    }
}
