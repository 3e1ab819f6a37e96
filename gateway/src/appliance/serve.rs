//! Everything beside the data plane, from readiness to the order to end: links, keepers, the runner API, status, metrics,
//! signals and changed files.
//!
//! Owns which tasks of the control runtime there are. It opens nothing that packets are diverted to: that stands before.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as state};
use tokio::task::JoinSet;

use super::reload::{changed, reload, watch_files};
use super::{ApplianceError, DRAIN, Plane, Signals, during};
use crate::core::Core;
use crate::encrypted::EncryptedDns;
use crate::intercept::InterceptState;
use crate::networks::Served;
use crate::raw::{Drops, Echo, OBSERVED_QUEUE, Observer, RawSender};
use crate::runner_api::{Cleartext, Links, Listeners, Parts as RunnerParts, RunnerApi};
use crate::sync::Connector;
use crate::tally::Attributed;
use crate::{http, keep, metrics, pings, status};

/// Changes of policy files are taken together when they come this close.
const SETTLE: Duration = Duration::from_millis(50);

/// What the control runtime takes over from the start.
pub(super) struct Extras {
    pub(super) served: Vec<Served>,
    pub(super) figures: Option<metrics::Page>,
    pub(super) encrypted: Option<EncryptedDns>,
    pub(super) api: Option<(Listeners, Cleartext)>,
    pub(super) connector: Option<Arc<dyn Connector>>,
}

/// Everything beside the data plane, until the process is told to end.
pub(super) async fn control(
    core: &Arc<Core>,
    extras: Extras,
    mut signals: Signals,
    plane: &mut Plane,
) -> Result<(), ApplianceError> {
    let Extras {
        served,
        figures,
        encrypted,
        api,
        connector,
    } = extras;
    let mut tasks = JoinSet::new();
    if let Some(encrypted) = encrypted {
        encrypted.serve(&core.dns, &mut tasks)?;
    }
    let (told, interception) = state::channel(InterceptState::Up);
    tasks.spawn(keep::interception(Arc::clone(core), told));
    tasks.spawn(keep::links(
        Arc::clone(core),
        served
            .iter()
            .map(|one| one.network.clone())
            .map(Arc::new)
            .collect(),
    ));
    tasks.spawn(keep::time(Arc::clone(core)));
    tasks.spawn(keep::bindings(Arc::clone(core)));
    observe(core, &served, &mut tasks)?;
    if let Some(connector) = connector {
        plane.follow(core, &served, connector);
        let jobs = Arc::clone(&core.jobs);
        tasks.spawn(async move { jobs.tell().await });
    }
    if let Some((listeners, cleartext)) = api {
        let api = runner_api(core, &served);
        listeners.serve(&api, &mut tasks)?;
        cleartext.serve(&api, &mut tasks)?;
    }
    pages(core, interception, figures, &mut tasks).await?;
    let mut watch = watch_files(core);
    say(&[sd_notify::NotifyState::Ready]);
    tracing::info!(pid = process::id(), "up");
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.reload.recv() => {
                reload(core);
                watch = watch_files(core);
            }
            () = changed(watch.as_ref()) => {
                // Editors write in several steps; the last text counts. Nothing waits for this.
                tokio::time::sleep(SETTLE).await;
                keep::apply(core, Core::apply_policies).await;
            }
            Some(ended) = tasks.join_next() => tracing::error!(?ended, "a control task ended"),
            Some(ended) = plane.sync.join_next() => tracing::error!(?ended, "a task of the sync ended"),
            Some(ended) = plane.shipping.join_next() => tracing::error!(?ended, "shipping events ended"),
        }
    }
    say(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping: open flows have {} s", DRAIN.as_secs());
    tasks.shutdown().await;
    Ok(())
}

/// The pages that runners may see.
fn runner_api(core: &Arc<Core>, served: &[Served]) -> Arc<RunnerApi> {
    let interface = |one: &Served| (one.network.clone(), one.plan.interface.to_string());
    let links = Links {
        monitor: Arc::clone(&core.links),
        networks: served.iter().map(interface).collect(),
    };
    Arc::new(RunnerApi::new(RunnerParts {
        jobs: Arc::clone(&core.jobs),
        leases: Arc::clone(&core.leases),
        machines: Arc::new(links),
        clock: core.clock.clone(),
        counts: Arc::clone(&core.asked),
        reports: Arc::new(Attributed {
            tallies: Arc::clone(&core.tallies),
            events: Arc::clone(&core.events),
        }),
        tallies: Arc::clone(&core.tallies),
        events: Arc::clone(&core.events),
    }))
}

fn say(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager heard the state");
    }
}

/// Starts an observer a runner interface, and what answers them.
fn observe(core: &Arc<Core>, served: &[Served], tasks: &mut JoinSet<()>) -> Result<(), ApplianceError> {
    let (queue, observed) = mpsc::channel(OBSERVED_QUEUE);
    let drops = Drops::default();
    for one in served {
        let own = one.plan.addresses.clone();
        let observer = Observer::open(one.plan.interface.clone(), own).map_err(|error| {
            during(format!("can't observe {}", one.plan.interface))(std::io::Error::other(error))
        })?;
        tasks.spawn(observer.run(queue.clone(), drops.clone()));
    }
    let echo = Echo::open().map_err(during("can't open the echo sockets"))?;
    let sender = RawSender::open().map_err(during("can't open the raw sockets"))?;
    tasks.spawn(pings::run(Arc::clone(core), observed, echo, sender));
    Ok(())
}

/// Opens the status socket and the metrics page.
async fn pages(
    core: &Arc<Core>,
    interception: state::Receiver<InterceptState>,
    figures: Option<metrics::Page>,
    tasks: &mut JoinSet<()>,
) -> Result<(), ApplianceError> {
    let config = core.config.load_full();
    let socket = status::listen(&config.state_dir).map_err(during(format!(
        "can't open the status socket in {}",
        config.state_dir.display()
    )))?;
    tasks.spawn(http::serve_unix(
        socket,
        status::pages(Arc::clone(core), interception),
    ));
    if let (Some(address), Some(figures)) = (config.metrics, figures) {
        let listener = TcpListener::bind(address)
            .await
            .map_err(during(format!("can't serve metrics on {address}")))?;
        let page: http::Handler = Arc::new(move |path, _| match path {
            "/metrics" => http::Page::text(figures.render()),
            _ => http::Page::error(hyper::StatusCode::NOT_FOUND, "there is /metrics"),
        });
        tasks.spawn(http::serve_tcp(listener, page));
    }
    Ok(())
}
