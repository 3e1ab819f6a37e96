//! `tidegate up`: a gateway and its control plane in one process, which speak the same protocol as two would.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tidegate_control::plane::ControlPlane;
use tidegate_control::server::Link;
use tidegate_gateway::appliance::Appliance;
use tidegate_gateway::sync::{ConnectError, Connected, Connector, ControlLink, Pending};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::Usage;
use crate::args::Config;

/// Runs both until the process is told to end: the gateway first takes its leave, then the control plane.
pub(crate) fn run(args: &Config) -> anyhow::Result<ExitCode> {
    crate::gateway::log_to_stderr();
    let gateway = crate::gateway::read_config(&args.config)?;
    if gateway.control_plane.is_some() {
        let message = "gateway.control-plane: `up` has its own control plane; remove the key, or run `tidegate gateway`";
        return Err(Usage(message.into()).into());
    }
    std::fs::create_dir_all(&gateway.state_dir)
        .with_context(|| format!("can't make the state directory {}", gateway.state_dir.display()))?;
    let control = crate::control::read_config(&args.config, Some(&gateway.state_dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store")
        .enable_all()
        .build()?;
    let plane = runtime
        .block_on(ControlPlane::start(control))
        .context("the control plane can't run")?;
    let link = InProcess {
        link: plane.link(&gateway.name),
        runtime: runtime.handle().clone(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = runtime.spawn(plane.serve(async move {
        // Told, or the teller is gone: both mean the end.
        drop(stopped.await);
    }));
    let outcome = Appliance::run(
        &args.config,
        gateway,
        Some(ControlLink::InProcess(Arc::new(link))),
    );
    drop(stop);
    runtime
        .block_on(serving)
        .context("the control plane ended badly")?;
    outcome.context("the gateway can't run")?;
    Ok(ExitCode::SUCCESS)
}

/// Ways to the control plane of this process.
struct InProcess {
    link: Link,
    runtime: Handle,
}

impl Connector for InProcess {
    fn origin(&self) -> &'static str {
        "http://in-process"
    }

    fn connect<'a>(
        &'a self,
        _told: &'a (dyn Fn(Vec<IpAddr>) + Send + Sync),
    ) -> Pending<'a, Result<Connected, ConnectError>> {
        Box::pin(async move {
            // The far end is served where the control plane lives.
            let _entered = self.runtime.enter();
            Ok(Connected {
                stream: Box::new(self.link.connect()),
                token: None,
            })
        })
    }
}
