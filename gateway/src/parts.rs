//! Putting the gateway's parts together: from a configuration to a [`Core`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use tidegate_dns::clock::Clock;
use tidegate_dns::front::budget::BudgetConfig;
use tidegate_dns::front::{DnsHandler, HandlerConfig, Parts};
use tidegate_dns::resolver::{
    DEFAULT_CACHE_BYTES, Resolver, ResolverConfig, UpstreamSpec, UpstreamSyntaxError,
};
use tidegate_policy::lease::LeaseTable;
use tidegate_proxy::config::{Egress as ProxyEgress, ProxyConfig, QuicMode, Timeouts};
use tidegate_proxy::{Proxy, ProxyParts};

use crate::adapters::{Errors, Leases, Names, Streams};
use crate::appliance::ApplianceError;
use crate::config::{DnsConfig, Egress, GatewayConfig};
use crate::core::{Core, never_dial, rejudge, static_leases};
use crate::dataplane::{PROXY_TCP_PORT, PROXY_UDP_PORT};
use crate::encrypted;
use crate::events::EventPipeline;
use crate::intercept::{self, InterceptPlan, NetworkPlan, Steering};
use crate::jobs::{Authority, Now, Parts as RegistrarParts, Registrar};
use crate::link::{LinkSnapshot, Monitor};
use crate::networks::{Served, has_v6_route};
use crate::policies::PolicyFiles;
use crate::raw::{RawSender, Refuser};
use crate::rebind::Rebind;
use crate::runner_api::{Links, cleartext_addresses};
use crate::sync::{Control, Enforcer, Leases as SyncedLeases};
use crate::tally::Tallies;

/// A part that can't be made from the configuration.
#[derive(Debug, Error)]
pub enum PartsError {
    /// An upstream is spelled wrongly.
    #[error("the configuration's upstreams")]
    Upstream(#[from] UpstreamSyntaxError),
    /// A certificate or key can't be read.
    #[error("can't read certificates or keys from {file}")]
    Pem {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
}

/// What is diverted, and to where.
pub(crate) fn plan(served: &[Served], config: &GatewayConfig) -> InterceptPlan {
    let networks: Vec<NetworkPlan> = served.iter().map(|one| one.plan.clone()).collect();
    InterceptPlan {
        tcp_port: PROXY_TCP_PORT,
        udp_port: PROXY_UDP_PORT,
        runner_api: encrypted::addresses(&config.dns, &networks)
            .into_iter()
            .chain(
                config
                    .runner_api
                    .iter()
                    .flat_map(|api| api.listen.iter().copied().chain(cleartext_addresses(api))),
            )
            .collect(),
        refuse_v6_tcp: !has_v6_route(),
        preserve_source: matches!(config.proxy.egress, Egress::Preserve),
        steering: Steering::default(),
        networks,
    }
}

/// The resolver's configuration.
pub(crate) fn resolver_config(dns: &DnsConfig) -> Result<ResolverConfig, PartsError> {
    let read = |texts: &[String]| -> Result<Vec<UpstreamSpec>, PartsError> {
        texts
            .iter()
            .map(|text| text.parse().map_err(PartsError::from))
            .collect()
    };
    let mut forward = Vec::new();
    for (zone, upstreams) in &dns.forward {
        forward.push((zone.clone(), read(upstreams)?));
    }
    Ok(ResolverConfig {
        upstreams: read(&dns.upstreams)?,
        forward,
        roots: dns
            .upstream_ca
            .as_deref()
            .map(certificates)
            .transpose()?
            .unwrap_or_default(),
        ..ResolverConfig::default()
    })
}

pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PartsError> {
    let failed = |source| PartsError::Pem {
        file: file.to_owned(),
        source,
    };
    CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)
}

/// What the DNS handler is told.
pub(crate) fn handler_config(
    config: &GatewayConfig,
    links: &LinkSnapshot,
    pages: &OwnPages,
) -> HandlerConfig {
    HandlerConfig {
        hosts: config.dns.hosts.clone(),
        pages: pages.clone(),
        ticket_hold: config.proxy.ticket_hold,
        own: links.local.iter().copied().collect(),
        budget: BudgetConfig::default(),
    }
}

/// The addresses of the runner API, by the network from which they are asked for.
pub(crate) type OwnPages = HashMap<CompactString, Vec<IpAddr>>;

/// Each network's own addresses of the runner API; where it has none there, all of them: they are local, and served to
/// every runner.
fn own_pages(config: &GatewayConfig, served: &[Served]) -> OwnPages {
    let Some(api) = &config.runner_api else {
        return OwnPages::new();
    };
    let mut all: Vec<IpAddr> = Vec::new();
    for address in &api.listen {
        if !all.contains(&address.ip()) {
            all.push(address.ip());
        }
    }
    let of = |one: &Served| {
        let is_own = |address: &&IpAddr| one.plan.addresses.contains(address);
        let own: Vec<IpAddr> = all.iter().filter(is_own).copied().collect();
        let reached = if own.is_empty() { all.clone() } else { own };
        (one.network.name.clone(), reached)
    };
    served.iter().map(of).collect()
}

fn proxy_config(config: &GatewayConfig) -> ProxyConfig {
    ProxyConfig {
        timeouts: Timeouts {
            detect: config.proxy.detect_timeout,
            ..Timeouts::default()
        },
        egress: match &config.proxy.egress {
            Egress::Gateway => ProxyEgress::Gateway,
            Egress::Preserve => ProxyEgress::Preserve,
            Egress::Addresses(addresses) => ProxyEgress::Addresses(addresses.clone()),
        },
        ticket_hold: config.proxy.ticket_hold,
        quic: QuicMode::Refuse,
        pages: config.runner_api.is_some(),
        spoof_mark: Steering::default().spoof_mark,
        ..ProxyConfig::default()
    }
}

/// Makes every part and puts interception in place. The sockets of `plan` stand already.
pub(crate) async fn assemble(
    file: &Path,
    config: GatewayConfig,
    served: &[Served],
    plan: InterceptPlan,
    (clock, control): (&Clock, Arc<Control>),
) -> Result<Arc<Core>, ApplianceError> {
    let runner_networks = served
        .iter()
        .map(|one| (one.network.ranges.clone(), one.plan.clone()))
        .collect();
    let guard = Arc::new(intercept::install(plan).await?);
    let runners = served.iter().map(|one| one.plan.interface.clone()).collect();
    let monitor = Arc::new(Monitor::start(runners).await?);
    let mut files = PolicyFiles::new();
    let mut enforcer = Enforcer::load(&config, &control);
    let synced = enforcer.synced(&control, usize::MAX);
    let set = files.load(&config, never_dial(&monitor.snapshot(), &config, &[]), &synced);
    let networks = served.iter().map(|one| one.network.clone()).collect();
    let leases = Arc::new(LeaseTable::new(networks, Arc::new(set)));
    leases.set_static(static_leases(&config), clock.now());
    let events = EventPipeline::new(&config.name, random());
    let job_page = config.runner_api.as_ref().and_then(|api| api.job_page.clone());
    let tallies = Arc::new(Tallies::new(&config.name, job_page, Timestamp::now()));
    tallies.follow(&leases.leases(), clock.now(), Timestamp::now());
    if config.runner_api.is_some() {
        // Nobody else asks for summaries.
        events.witness(tallies.clone());
    }
    let resolver = Resolver::new(&resolver_config(&config.dns)?, DEFAULT_CACHE_BYTES, clock.clone());
    let interfaces = served
        .iter()
        .map(|one| (one.network.clone(), one.plan.interface.to_string()));
    let subjects = Arc::new(Leases {
        table: Arc::clone(&leases),
        links: Links {
            monitor: Arc::clone(&monitor),
            networks: interfaces.collect(),
        },
    });
    let front = Parts {
        resolver: Arc::clone(&resolver),
        subjects: subjects.clone(),
        sink: events.clone(),
        clock: clock.clone(),
    };
    let pages = own_pages(&config, served);
    let dns = DnsHandler::new(front, handler_config(&config, &monitor.snapshot(), &pages));
    let teller = Arc::downgrade(&dns);
    events.tells(Box::new(move |sources| {
        let told = teller.upgrade().map(|dns| dns.tell_repeats(sources));
        Box::pin(async move {
            if let Some(told) = told {
                told.await;
            }
        })
    }));
    let sender = RawSender::open().map_err(|source| ApplianceError::System {
        what: "can't open the raw sockets".into(),
        source,
    })?;
    let proxy = Proxy::new(
        proxy_config(&config),
        ProxyParts {
            subjects: subjects.clone(),
            lookup: Arc::new(Names {
                resolver: Arc::clone(&resolver),
                dns: Arc::clone(&dns),
            }),
            dns: Arc::new(Streams(Arc::clone(&dns))),
            icmp: Arc::new(Errors {
                refuser: Refuser::new(sender, Core::instant()),
                networks: runner_networks,
            }),
            sink: events.clone(),
            clock: clock.clone(),
        },
    );
    let rebind = Arc::new(Rebind::default());
    let jobs = registrar(&config, &leases, &control, (&proxy, &dns, &rebind))?;
    let now = Now {
        moment: clock.now(),
        wall: Timestamp::now(),
    };
    control.heed(jobs.keeper().clone());
    enforcer.restore_leases(&control, &SyncedLeases::at(&leases, now.moment, now.wall));
    jobs.restore(now);
    let generation = if control.is_configured() {
        control.generation().0 as f64
    } else {
        1.0
    };
    metrics::gauge!("tidegate_policy_generation").set(generation);
    Ok(Arc::new(Core {
        file: file.to_owned(),
        config: ArcSwap::from_pointee(config),
        clock: clock.clone(),
        files: parking_lot::Mutex::new(files),
        synced: ArcSwap::from_pointee(synced),
        control,
        enforcer: parking_lot::Mutex::new(enforcer),
        leases,
        sources: subjects,
        resolver,
        dns,
        proxy,
        guard,
        events,
        tallies,
        pages,
        links: monitor,
        jobs,
        asked: Arc::default(),
        rebind,
        generation: AtomicU64::new(1),
        refused_config: parking_lot::Mutex::new(None),
    }))
}

/// What registers jobs, with what the last process left in the state directory.
fn registrar(
    config: &GatewayConfig,
    leases: &Arc<LeaseTable>,
    control: &Arc<Control>,
    (proxy, dns, rebind): (&Arc<Proxy>, &Arc<DnsHandler>, &Arc<Rebind>),
) -> Result<Arc<Registrar>, ApplianceError> {
    let (proxy, dns, rebind) = (Arc::clone(proxy), Arc::clone(dns), Arc::clone(rebind));
    let parts = RegistrarParts {
        gateway: config.name.clone(),
        leases: Arc::clone(leases),
        control: Arc::clone(control) as Arc<dyn Authority>,
        changed: Arc::new(move |sources| rejudge((&proxy, &dns), &rebind, sources)),
    };
    let opened = Registrar::open(parts, &config.state_dir);
    let opened = opened.map_err(|source| ApplianceError::System {
        what: format!(
            "can't read what is known of jobs in {}",
            config.state_dir.display()
        ),
        source,
    });
    opened.map(Arc::new)
}

/// A number that no other start of a gateway is likely to draw: the standard library seeds its hashers from
/// the system's random source.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
