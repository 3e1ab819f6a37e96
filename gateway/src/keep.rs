//! What keeps the running gateway in step beside the data plane: interception mended, links followed, leases
//! expired. Each is one endless task of the control runtime, started by [`crate::appliance`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tidegate_policy::lease::Mac;
use tidegate_policy::subject::Network;
use tokio::sync::watch as state;

use crate::appliance::chain;
use crate::core::Core;
use crate::intercept::{self, InterceptPlan, InterceptState};
use crate::{networks, parts};

/// Between two looks at what has expired.
const TICK: Duration = Duration::from_secs(1);
/// Addresses that the kernel is told of in one transaction.
const MAX_BOUND_AT_ONCE: usize = 1_000;

pub(crate) async fn interception(core: Arc<Core>, told: state::Sender<InterceptState>) {
    gauge!("tidegate_interception_up").set(1.0);
    let mut seen = told.subscribe();
    tokio::spawn(async move {
        while seen.changed().await.is_ok() {
            let down = matches!(*seen.borrow_and_update(), InterceptState::Down { .. });
            gauge!("tidegate_interception_up").set(if down { 0.0 } else { 1.0 });
        }
    });
    match intercept::watch(Arc::clone(&core.guard), told).await {
        Ok(never) => match never {},
        Err(error) => tracing::error!(%error, "can't hear changes of the ruleset; they won't be mended"),
    }
}

/// Hands every change of the links on: to leases (who is whom), and to the never-dial set.
pub(crate) async fn links(core: Arc<Core>, networks: Vec<Arc<Network>>) {
    let mut links = core.links.subscribe();
    loop {
        let snapshot = Arc::clone(&links.borrow_and_update());
        let indices: Vec<(u32, Arc<Network>)> = core
            .config
            .load()
            .networks
            .iter()
            .zip(&networks)
            .filter_map(|(config, network)| {
                Some((snapshot.interface(&config.interface)?.index, Arc::clone(network)))
            })
            .collect();
        core.apply_links(&indices);
        bind_sources(&core).await;
        // Compared with what is in force: an address may have come while the gateway started.
        let config = core.config.load_full();
        if core.never_dial(&config) != core.leases.policies().world.never_dial {
            core.dns
                .reconfigure(parts::handler_config(&config, &snapshot, &core.pages));
            apply(&core, Core::apply_policies).await;
        }
        v6_usable(&core).await;
        if links.changed().await.is_err() {
            return;
        }
    }
}

/// The control plane is never dialled for a job, wherever its name leads by now.
pub(crate) async fn control_addresses(core: Arc<Core>) {
    loop {
        core.control.moved().await;
        if core.never_dial(&core.config.load()) != core.leases.policies().world.never_dial {
            apply(&core, Core::apply_never_dial).await;
        }
    }
}

/// Without a route to the IPv6 internet, IPv6 connections are refused before they are accepted, so that
/// clients fall back to IPv4 at once.
async fn v6_usable(core: &Core) {
    let usable = networks::has_v6_route();
    core.proxy.set_ipv6_usable(usable);
    let plan = core.guard.plan();
    if plan.refuse_v6_tcp == usable
        && let Err(error) = core
            .guard
            .replace(InterceptPlan {
                refuse_v6_tcp: !usable,
                ..plan
            })
            .await
    {
        tracing::error!(error = chain(&error), "IPv6 could not be switched");
    }
}

/// Tells the kernel which machine may use which leased address.
async fn bind_sources(core: &Core) {
    let bindings = core.leases.bindings().into_iter();
    let wanted: Vec<(IpAddr, Option<Mac>)> = bindings
        .map(|binding| (binding.address, Some(binding.mac)))
        .collect();
    bind(core, &wanted).await;
}

async fn bind(core: &Core, wanted: &[(IpAddr, Option<Mac>)]) {
    // A script of this many lines is one packet of netlink messages.
    for some in wanted.chunks(MAX_BOUND_AT_ONCE) {
        if let Err(error) = core.guard.bind_all(some).await {
            tracing::warn!(
                error = chain(&error),
                "leased addresses are not bound to their machines"
            );
        }
    }
}

/// Tells the kernel of sources whose lease, and so whose machine, may be another.
pub(crate) async fn bindings(core: Arc<Core>) {
    loop {
        let sources = core.rebind.next().await;
        let wanted: Vec<(IpAddr, Option<Mac>)> = sources
            .into_iter()
            .map(|source| (source, core.leases.binding(source)))
            .collect();
        bind(&core, &wanted).await;
    }
}

pub(crate) async fn time(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        core.jobs.tick(core.now()).await;
        core.publish();
    }
}

/// Compiling a million-entry list takes a second: not on a runtime's thread.
pub(crate) async fn apply(core: &Arc<Core>, work: impl FnOnce(&Core) + Send + 'static) {
    let core = Arc::clone(core);
    if tokio::task::spawn_blocking(move || work(&core)).await.is_err() {
        tracing::error!("putting a change in force panicked; the old state stays");
    }
}
