//! The running gateway's shared parts, and what keeps them in step: policies into leases, leases into flows,
//! links into leases.
//!
//! Owned by [`crate::appliance`]; the control runtime's tasks and the status page share it. Never on the data
//! plane's path.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use metrics::{gauge, histogram};
use parking_lot::Mutex;
use tidegate_dns::clock::Clock;
use tidegate_dns::front::DnsHandler;
use tidegate_dns::resolver::{Resolver, ResolverConfig};
use tidegate_policy::effective::PolicySet;
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::{LeaseTable, Neighbour, StaticLease};
use tidegate_policy::special::NeverDial;
use tidegate_policy::subject::{Network, Subject};
use tidegate_proxy::Proxy;

use crate::adapters::Leases;
use crate::config::GatewayConfig;
use crate::events::EventPipeline;
use crate::intercept::Guard;
use crate::jobs::{Now, Registrar};
use crate::link::{LinkSnapshot, Monitor};
use crate::parts::{self, OwnPages};
use crate::policies::{PolicyFiles, Synced, pinned_key};
use crate::rebind::Rebind;
use crate::runner_api::Counts;
use crate::sync::{Control, Enforcer};
use crate::tally::Tallies;

/// Everything that runs, once.
pub(crate) struct Core {
    pub(crate) file: PathBuf,
    pub(crate) config: ArcSwap<GatewayConfig>,
    pub(crate) clock: Clock,
    pub(crate) files: Mutex<PolicyFiles>,
    /// What the control plane's records make of the policy set.
    pub(crate) synced: ArcSwap<Synced>,
    pub(crate) control: Arc<Control>,
    pub(crate) enforcer: Mutex<Enforcer>,
    pub(crate) leases: Arc<LeaseTable>,
    /// The same for who speaks at this moment.
    pub(crate) sources: Arc<Leases>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) dns: Arc<DnsHandler>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) events: Arc<EventPipeline>,
    /// What each job was seen to do.
    pub(crate) tallies: Arc<Tallies>,
    /// Where runners find the runner API.
    pub(crate) pages: OwnPages,
    pub(crate) links: Arc<Monitor>,
    /// Where leases come from that the configuration does not make.
    pub(crate) jobs: Arc<Registrar>,
    /// What runners asked.
    pub(crate) asked: Arc<Counts>,
    pub(crate) rebind: Arc<Rebind>,
    pub(crate) generation: AtomicU64,
    /// Why the configuration that stands in the file is not the one in force.
    pub(crate) refused_config: Mutex<Option<String>>,
}

impl Core {
    /// The system's monotonic time, for the budgets of what is sent by hand.
    #[expect(
        clippy::disallowed_methods,
        reason = "the control runtime's shell; decisions get theirs from the Clock"
    )]
    pub(crate) fn instant() -> Instant {
        Instant::now()
    }

    /// This moment, by both clocks.
    pub(crate) fn now(&self) -> Now {
        Now {
            moment: self.clock.now(),
            wall: Timestamp::now(),
        }
    }

    /// The never-dial set of this moment: the machine's own addresses, its upstreams' and its control plane's.
    pub(crate) fn never_dial(&self, config: &GatewayConfig) -> NeverDial {
        never_dial(&self.links.snapshot(), config, &self.control.addresses())
    }

    /// Reads the policy files again and puts what changed in force: one pointer swap a subject, open flows
    /// re-judged.
    pub(crate) fn apply_policies(&self) {
        self.swap(Files::Read, |core, set| {
            core.leases.set_policies(Arc::new(set)).swapped
        });
    }

    /// Puts what the control plane's records say now in force, in the same way. The files are not read again.
    pub(crate) fn apply_synced(&self, synced: Synced) {
        self.synced.store(Arc::new(synced));
        self.swap(Files::Kept, |core, set| {
            core.leases.set_policies(Arc::new(set)).swapped
        });
    }

    /// Takes over other addresses that are never dialled.
    pub(crate) fn apply_never_dial(&self) {
        self.swap(Files::Kept, |core, set| {
            core.leases.set_policies(Arc::new(set)).swapped
        });
    }

    /// Takes over another configuration, already checked. Networks and listeners stay as they were started.
    pub(crate) fn apply_config(&self, config: GatewayConfig, resolver: &ResolverConfig) {
        let leases = static_leases(&config);
        self.resolver.reconfigure(resolver);
        self.dns.reconfigure(parts::handler_config(
            &config,
            &self.links.snapshot(),
            &self.pages,
        ));
        self.config.store(Arc::new(config));
        self.swap(Files::Read, |core, set| {
            let (changed, report) = core.leases.reconfigure(Arc::new(set), leases, core.clock.now());
            core.rejudge_sources(&changed);
            report.swapped
        });
    }

    /// Makes a policy set of files and records, puts it in force by `swap`, and re-judges the flows of the
    /// subjects that it gives back.
    fn swap(&self, read: Files, swap: impl FnOnce(&Self, PolicySet) -> Vec<Arc<Subject>>) {
        let begun = Self::instant();
        let config = self.config.load_full();
        let (swapped, changed) = {
            // Held until the set is in force: of two changes at the same moment, the later one must be the last.
            let mut files = self.files.lock();
            let before = files.report();
            let (never_dial, synced) = (self.never_dial(&config), self.synced.load());
            let set = match read {
                Files::Read => files.load(&config, never_dial, &synced),
                Files::Kept => files.assemble(&config, never_dial, &synced),
            };
            let changed = files.report() != before;
            (swap(self, set), changed)
        };
        for subject in &swapped {
            self.proxy.registry().rejudge_subject(subject.id);
        }
        self.generation.fetch_add(u64::from(changed), Ordering::Relaxed);
        if !self.control.is_configured() {
            gauge!("tidegate_policy_generation").set(self.generation.load(Ordering::Relaxed) as f64);
        }
        histogram!("tidegate_policy_swap_duration_seconds").record(begun.elapsed().as_secs_f64());
        tracing::info!(subjects = swapped.len(), "policies are in force");
    }

    /// Takes over who uses which address on the runner links.
    pub(crate) fn apply_links(&self, networks: &[(u32, Arc<Network>)]) {
        let snapshot = self.links.snapshot();
        let neighbours: Vec<Neighbour> = snapshot
            .neighbours
            .iter()
            .filter_map(|one| {
                let (_, network) = networks.iter().find(|(index, _)| *index == one.interface)?;
                Some(Neighbour {
                    network: network.name.clone(),
                    address: one.address,
                    mac: one.mac,
                })
            })
            .collect();
        let changed = self.leases.observe_neighbours(&neighbours);
        self.rejudge_sources(&changed);
    }

    /// Publishes how many leases there are, by assurance, and how many tickets all subjects hold; lets the tallies follow.
    pub(crate) fn publish(&self) {
        let leases = self.leases.leases();
        self.tallies.follow(&leases, self.clock.now(), Timestamp::now());
        for assurance in Assurance::ALL {
            let count = leases
                .iter()
                .filter(|view| view.lease.assurance() == assurance)
                .count();
            gauge!("tidegate_leases", "assurance" => assurance.as_str()).set(count as f64);
        }
        let tickets: usize = self
            .leases
            .subjects()
            .iter()
            .map(|subject| subject.tickets().len())
            .sum();
        gauge!("tidegate_tickets").set(tickets as f64);
        if let Some(age) = self.control.block_age() {
            gauge!("tidegate_global_block_age_seconds").set(age);
        }
    }

    /// What follows when these sources have another subject.
    pub(crate) fn rejudge_sources(&self, sources: &[IpAddr]) {
        rejudge((&self.proxy, &self.dns), &self.rebind, sources);
    }
}

/// Whether a policy set is made of the files as they are now, or as they were read last.
#[derive(Clone, Copy)]
enum Files {
    Read,
    Kept,
}

/// Re-judges every open flow of these sources, has the events of what they asked until now told, and the kernel which
/// machines they are.
pub(crate) fn rejudge((proxy, dns): (&Proxy, &DnsHandler), rebind: &Rebind, sources: &[IpAddr]) {
    for source in sources {
        proxy.registry().rejudge_source(*source);
    }
    if !sources.is_empty() {
        // It is done soon; nobody waits for it.
        drop(dns.tell_repeats(sources));
    }
    rebind.add(sources);
}

/// The never-dial set that follows from the machine's links, a configuration, and where the control plane is.
pub(crate) fn never_dial(links: &LinkSnapshot, config: &GatewayConfig, control: &[IpAddr]) -> NeverDial {
    let zones = config.dns.forward.iter().flat_map(|(_, upstreams)| upstreams);
    let upstreams = config.dns.upstreams.iter().chain(zones);
    let upstreams = upstreams.filter_map(|text| {
        text.parse::<tidegate_dns::resolver::UpstreamSpec>()
            .ok()
            .map(|spec| spec.address.ip())
    });
    NeverDial::new(links.local.iter().chain(control).copied().chain(upstreams))
}

/// The leases that a configuration holds itself.
pub(crate) fn static_leases(config: &GatewayConfig) -> Vec<StaticLease> {
    config
        .static_leases
        .iter()
        .map(|lease| StaticLease {
            sources: lease.sources.clone(),
            identity: lease.identity.clone(),
            pinned: lease.policy.as_deref().map(pinned_key),
        })
        .collect()
}
