//! The appliance's life: start closed, come up, keep in step, reload, drain, end closed.
//!
//! Start order is what makes it safe: runner interfaces are closed by kernel settings before anything else,
//! sockets stand before packets are diverted to them, and readiness is said only when all of it is in place.

use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tidegate_dns::clock::Clock;
use tidegate_dns::resolver::ResolverConfig;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch as state};

use crate::config::{ConfigError, GatewayConfig, NetworkConfig};
use crate::core::Core;
use crate::dataplane::{CoreSockets, DataPlane, ThreadError};
use crate::encrypted::{self, EncryptedDns, EncryptedError};
use crate::events::log::EventLog;
use crate::events::{Carrier, Shipper, Sinks, Spool};
use crate::intercept::{self, InstallError, InterceptState};
use crate::link::LinkError;
use crate::listen::ListenError;
use crate::networks::{self, NetworkError, Served};
use crate::only::Only;
use crate::parts::{self, PartsError};
use crate::raw::{Drops, Echo, OBSERVED_QUEUE, Observer, RawSender};
use crate::runner_api::{Cleartext, Links, Listeners, Parts as RunnerParts, RunnerApi, ServeError};
use crate::sync::{self, Connector, Control, ControlLink, Remote, RemoteError};
use crate::tally::Attributed;
use crate::watch::FileWatch;
use crate::{http, keep, metrics, pings, policies, status};

/// How long open flows may go on after SIGTERM. Below the 40 s after which the unit file's manager kills.
const DRAIN: Duration = Duration::from_secs(30);
/// Changes of policy files are taken together when they come this close.
const SETTLE: Duration = Duration::from_millis(50);

/// Why the gateway can't run. Nothing crosses in any of these cases.
#[derive(Debug, Error)]
pub enum ApplianceError {
    /// A network is not there.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A socket can't be opened.
    #[error("can't listen")]
    Listen(#[from] ListenError),
    /// Packets can't be diverted.
    #[error("can't intercept the runner networks")]
    Intercept(#[from] InstallError),
    /// The links can't be read.
    #[error("can't read the machine's links")]
    Links(#[from] LinkError),
    /// Resolver or proxy can't be made from the configuration.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// DNS over TLS and HTTPS can't be served.
    #[error(transparent)]
    Encrypted(#[from] EncryptedError),
    /// The runner API can't be served.
    #[error(transparent)]
    RunnerApi(#[from] ServeError),
    /// A thread can't be started.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// The control plane can't be reached as configured.
    #[error(transparent)]
    Control(#[from] RemoteError),
    /// Anything else of the system.
    #[error("{what}")]
    System {
        /// What was being done.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Names what was being done when the system refused.
fn during(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ApplianceError {
    let what = what.into();
    move |source| ApplianceError::System { what, source }
}

/// The gateway as one process.
pub struct Appliance;

impl Appliance {
    /// Runs the gateway of the configuration that stands at `file` until SIGTERM or SIGINT, in step with the control
    /// plane behind `link`; without one, by its files alone.
    pub fn run(file: &Path, config: GatewayConfig, link: Option<ControlLink>) -> Result<(), ApplianceError> {
        raise_descriptor_limit();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(during("can't start the control runtime"))?;
        // Registered before anything can be waited for, so that an early SIGTERM is not the default one.
        let signals = {
            let _entered = runtime.enter();
            Signals::register().map_err(during("can't listen for signals"))?
        };
        let connector: Option<Arc<dyn Connector>> = match link {
            None => None,
            Some(ControlLink::Remote(plane)) => Some(Arc::new(Remote::new(plane)?)),
            Some(ControlLink::InProcess(connector)) => Some(connector),
        };
        run(&runtime, file, config, (signals, connector))
    }
}

/// A shell's soft limit (1 024) is for programs that call `select`; a flow takes up to four descriptors.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open descriptors can't be raised");
    }
}

/// The signals that the appliance answers.
struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

fn run(
    runtime: &Runtime,
    file: &Path,
    config: GatewayConfig,
    (signals, connector): (Signals, Option<Arc<dyn Connector>>),
) -> Result<(), ApplianceError> {
    // Where nobody asks for figures, none are kept.
    let figures = config
        .metrics
        .map(|_| metrics::install())
        .transpose()
        .map_err(|error| during("can't install the metrics recorder")(std::io::Error::other(error)))?;
    let state_dir = config.state_dir.display().to_string();
    let _only = Only::take(&config.state_dir)
        .map_err(during(format!("can't use the state directory {state_dir}")))?;
    let served = networks::resolve(&config.networks)?;
    let plan = parts::plan(&served, &config);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sockets: Vec<CoreSockets> = (0..cores)
        .map(|_| CoreSockets::open(&plan.networks))
        .collect::<Result<_, _>>()?;
    let encrypted = EncryptedDns::open(&config.dns, &plan.networks)?;
    let api = config
        .runner_api
        .as_ref()
        .map(|api| {
            let taken = encrypted::addresses(&config.dns, &plan.networks);
            let listeners = Listeners::open(api, &plan.networks, &taken)?;
            Ok::<_, ServeError>((listeners, Cleartext::open(api)?))
        })
        .transpose()?;
    let log = config
        .events
        .clone()
        .map(EventLog::open)
        .transpose()
        .map_err(during("can't open the event log"))?;
    let clock = Clock::system();
    let plane = Arc::new(Control::new(connector.is_some()));
    let spool = connector
        .is_some()
        .then(|| Spool::new(&config.state_dir, config.spool_bytes));
    // From here on rules may stand, and who fails takes them away.
    let undo = |_: &_| remove_rules(runtime);
    let core = runtime
        .block_on(parts::assemble(file, config, &served, plan, (&clock, plane)))
        .inspect_err(undo)?;
    let writer = core
        .events
        .write_to(Sinks { log, spool }, clock)
        .map_err(during("can't start the event writer"))
        .inspect_err(undo)?;
    let data_plane =
        DataPlane::start(sockets, &core.proxy, &core.dns).inspect_err(|_| remove_rules(runtime))?;
    let mut plane = Plane::default();
    let outcome = runtime.block_on(control(
        &core,
        Extras {
            served,
            figures,
            encrypted,
            api,
            connector,
        },
        signals,
        &mut plane,
    ));
    // Orderly end: flows first, then the rules (forwarding stays off), then the record of it all.
    runtime.block_on(core.proxy.drain(DRAIN));
    data_plane.stop();
    remove_rules(runtime);
    core.events.close();
    if writer.join().is_err() {
        tracing::error!("the event writer had panicked");
    }
    runtime.block_on(plane.leave(&core));
    tracing::info!("stopped");
    outcome
}

/// What speaks with the control plane. It ends last: events of the flows that were drained are told too.
#[derive(Default)]
struct Plane {
    sync: tokio::task::JoinSet<()>,
    shipping: tokio::task::JoinSet<()>,
    shipper: Option<Shipper>,
}

impl Plane {
    fn follow(&mut self, core: &Arc<Core>, served: &[Served], connector: Arc<dyn Connector>) {
        sync::follow(core, served, connector, &mut self.sync);
        if let Some(spool) = core.events.spool() {
            let carrier = Arc::clone(&core.control) as Arc<dyn Carrier>;
            let shipper = Shipper::new(Arc::clone(spool), carrier);
            shipper.start(&mut self.shipping);
            self.shipper = Some(shipper);
        }
    }

    /// One last try to ship what is spooled, then the connection goes.
    async fn leave(mut self, core: &Arc<Core>) {
        self.shipping.shutdown().await;
        if let Some(shipper) = self.shipper {
            shipper.finish().await;
        }
        self.sync.shutdown().await;
        sync::flush(core).await;
    }
}

/// What the control runtime takes over from the start.
struct Extras {
    served: Vec<Served>,
    figures: Option<metrics::Page>,
    encrypted: Option<EncryptedDns>,
    api: Option<(Listeners, Cleartext)>,
    connector: Option<Arc<dyn Connector>>,
}

fn remove_rules(runtime: &Runtime) {
    if let Err(error) = runtime.block_on(intercept::cleanup()) {
        tracing::error!(%error, "the interception rules could not be removed; runners stay closed off");
    }
}

/// Everything beside the data plane, until the process is told to end.
async fn control(
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
    let mut tasks = tokio::task::JoinSet::new();
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

/// Re-reads the configuration; a bad one is refused whole and the old one stays.
fn reload(core: &Arc<Core>) {
    match GatewayConfig::read(&core.file).and_then(|config| check_reload(core, config)) {
        Ok((config, resolver)) => {
            core.apply_config(config, &resolver);
            *core.refused_config.lock() = None;
            tracing::info!("the configuration was re-read");
        }
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, "the new configuration is refused, the old one stays");
            *core.refused_config.lock() = Some(error);
        }
    }
}

/// What can't change while running: listeners and networks are opened once.
fn check_reload(core: &Core, config: GatewayConfig) -> Result<(GatewayConfig, ResolverConfig), ConfigError> {
    let old = core.config.load();
    // Policies of networks are read anew like all others; what a network is stays.
    let networks = |config: &GatewayConfig| -> Vec<NetworkConfig> {
        let bare = |one: &NetworkConfig| NetworkConfig {
            default_policy: None,
            always_allow: None,
            ..one.clone()
        };
        config.networks.iter().map(bare).collect()
    };
    let refuse = |key: &str| ConfigError::Value {
        path: core.file.clone(),
        key: key.to_owned(),
        message: "can't change while the gateway runs; restart it".into(),
    };
    let fixed = [
        ("gateway.name", old.name == config.name),
        ("gateway.group", old.group == config.group),
        ("gateway.control-plane", old.control_plane == config.control_plane),
        ("gateway.state-dir", old.state_dir == config.state_dir),
        ("gateway.networks", networks(&old) == networks(&config)),
        ("gateway.dns.tls", old.dns.tls == config.dns.tls),
        ("gateway.proxy", old.proxy == config.proxy),
        ("gateway.runner-api", old.runner_api == config.runner_api),
        (
            "gateway.events",
            old.events == config.events && old.spool_bytes == config.spool_bytes,
        ),
        ("gateway.metrics", old.metrics == config.metrics),
    ];
    if let Some((key, _)) = fixed.iter().find(|(_, same)| !same) {
        return Err(refuse(key));
    }
    match parts::resolver_config(&config.dns) {
        Ok(resolver) => Ok((config, resolver)),
        Err(error) => Err(ConfigError::Value {
            path: core.file.clone(),
            key: "gateway.dns".into(),
            message: chain(&error),
        }),
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn watch_files(core: &Core) -> Option<FileWatch> {
    FileWatch::over(&policies::watched_paths(&core.config.load()))
        .inspect_err(|error| tracing::error!(error = chain(error), "changed policies need a reload"))
        .ok()
}

async fn changed(watch: Option<&FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Starts an observer a runner interface, and what answers them.
fn observe(
    core: &Arc<Core>,
    served: &[Served],
    tasks: &mut tokio::task::JoinSet<()>,
) -> Result<(), ApplianceError> {
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
    tasks: &mut tokio::task::JoinSet<()>,
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
