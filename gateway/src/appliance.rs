//! The appliance's life: start closed, come up, keep in step, reload, drain, end closed.
//!
//! Start order is what makes it safe: runner interfaces are closed by kernel settings before anything else,
//! sockets stand before packets are diverted to them, and readiness is said only when all of it is in place.

mod reload;
mod serve;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tidegate_dns::clock::Clock;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use self::serve::Extras;
use crate::config::GatewayConfig;
use crate::core::Core;
use crate::dataplane::{CoreSockets, DataPlane, ThreadError};
use crate::encrypted::{self, EncryptedDns, EncryptedError};
use crate::events::log::EventLog;
use crate::events::{Carrier, Shipper, Sinks, Spool};
use crate::intercept::{self, InstallError, InterceptPlan};
use crate::link::LinkError;
use crate::listen::ListenError;
use crate::metrics;
use crate::networks::{self, NetworkError, Served};
use crate::only::Only;
use crate::parts::{self, PartsError};
use crate::runner_api::{Cleartext, Listeners, ServeError};
use crate::sync::{self, Connector, Control, ControlLink, Remote, RemoteError};

/// How long open flows may go on after SIGTERM. Below the 40 s after which the unit file's manager kills.
const DRAIN: Duration = Duration::from_secs(30);
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
    let opened = Opened::new(&config, &plan)?;
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
        .write_to(
            Sinks {
                log: opened.log,
                spool,
            },
            clock,
        )
        .map_err(during("can't start the event writer"))
        .inspect_err(undo)?;
    let data_plane =
        DataPlane::start(opened.sockets, &core.proxy, &core.dns).inspect_err(|_| remove_rules(runtime))?;
    let mut plane = Plane::default();
    let outcome = runtime.block_on(serve::control(
        &core,
        Extras {
            served,
            figures,
            encrypted: opened.encrypted,
            api: opened.api,
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

/// What stands before packets are diverted to it.
struct Opened {
    sockets: Vec<CoreSockets>,
    encrypted: Option<EncryptedDns>,
    api: Option<(Listeners, Cleartext)>,
    log: Option<EventLog>,
}

impl Opened {
    fn new(config: &GatewayConfig, plan: &InterceptPlan) -> Result<Self, ApplianceError> {
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
        Ok(Self {
            sockets,
            encrypted,
            api,
            log,
        })
    }
}

/// What speaks with the control plane. It ends last: events of the flows that were drained are told too.
#[derive(Default)]
struct Plane {
    sync: JoinSet<()>,
    shipping: JoinSet<()>,
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

fn remove_rules(runtime: &Runtime) {
    if let Err(error) = runtime.block_on(intercept::cleanup()) {
        tracing::error!(%error, "the interception rules could not be removed; runners stay closed off");
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
