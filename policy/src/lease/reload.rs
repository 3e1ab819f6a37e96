//! New configuration under living leases: networks, static leases, policies.
//!
//! Whatever means the same before and after keeps its subject, so that tickets survive a reload and
//! nothing is judged again needlessly.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::{CompactString, format_compact};
use hashbrown::HashSet;
use ipnet::IpNet;

use super::books::Books;
use super::link::Machine;
use super::pool::{Origin, Pool};
use super::state::{Denied, Hold, Key, Range, Source, State, canonical, deny, static_identity};
use super::{Lease, NetworksReport, StaticLease, SwapReport};
use crate::Moment;
use crate::effective::{Asked, Generation, PolicySet};
use crate::event::JobRecord;
use crate::rulebook::Rulebook;
use crate::subject::{Network, Standing, Subject};
use crate::verdict::Reason;

/// The single addresses of one static lease that lie in one network.
struct Fixed<'a> {
    spec: &'a StaticLease,
    network: Arc<Network>,
    addresses: BTreeSet<IpAddr>,
}

impl State {
    /// Puts networks in place; equal ones keep their identity.
    pub(super) fn route(&mut self, networks: Vec<Network>) {
        let known = |network: Network| {
            let same = self.networks.iter().find(|known| ***known == network);
            same.map_or_else(|| Arc::new(network), Arc::clone)
        };
        self.networks = networks.into_iter().map(known).collect();
        let ranges = |network: &Arc<Network>| {
            let of = |net: &IpNet| (net.trunc(), Arc::clone(network));
            network.ranges.iter().map(of).collect::<Vec<_>>()
        };
        self.routes = self.networks.iter().flat_map(ranges).collect();
        self.routes
            .sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        let names: HashSet<&CompactString> = self.networks.iter().map(|network| &network.name).collect();
        self.pools.retain(|name, _| names.contains(name));
        self.denied.retain(|name, _| names.contains(name));
        for network in &self.networks {
            let policies = self.books.policies();
            self.denied.entry(network.name.clone()).or_insert_with(|| Denied {
                quarantined: deny(policies, network, Standing::Quarantined, Reason::Quarantined),
                unbound: deny(policies, network, Standing::Unbound, Reason::UnboundSource),
                limit: deny(policies, network, Standing::Unleased, Reason::Limit),
            });
        }
    }

    pub(super) fn set_networks(&mut self, networks: Vec<Network>, now: Moment) -> NetworksReport {
        let mut changed = self.leave_networks(&networks);
        self.route(networks);
        let routes = std::mem::take(&mut self.routes);
        self.link.retain(|address, (network, _)| {
            routes
                .iter()
                .find(|(net, _)| net.contains(&address))
                .is_some_and(|(_, known)| known.name == *network)
        });
        self.routes = routes;
        let strays: Vec<IpAddr> = self
            .held
            .keys()
            .copied()
            .filter(|source| self.is_stray(*source))
            .collect();
        for source in strays {
            changed.extend(self.drop_source(source));
            changed.push(source);
        }
        let specs = std::mem::take(&mut self.statics);
        changed.extend(self.set_static(specs, now));
        NetworksReport {
            changed: canonical(&changed),
            policies: self.reapply(),
        }
    }

    /// Displaces, while the old routes still lead to them, the on-demand subjects of sources that the new
    /// networks put elsewhere.
    fn leave_networks(&mut self, networks: &[Network]) -> Vec<IpAddr> {
        let home = |source: &IpAddr| {
            let ranges = networks
                .iter()
                .flat_map(|network| network.ranges.iter().map(move |net| (net, &network.name)));
            let around = ranges.filter(|(net, _)| net.contains(source));
            around
                .max_by_key(|(net, _)| net.prefix_len())
                .map(|(_, name)| name)
        };
        let of = |(name, pool): (&CompactString, &Pool)| {
            let moved = pool
                .iter()
                .map(|(source, _)| *source)
                .filter(|source| home(source) != Some(name));
            moved.collect::<Vec<_>>()
        };
        let moved: Vec<IpAddr> = self.pools.iter().flat_map(of).collect();
        for source in &moved {
            self.displace(*source);
        }
        moved
    }

    /// True for a held source that does not lie in its holder's network any more.
    fn is_stray(&self, source: IpAddr) -> bool {
        let network = self.network_of(source).map(|network| &network.name);
        match self.held.get(&source) {
            Some(Hold::Lease(key)) => self.leases.get(key).map(|entry| &entry.lease.network) != network,
            Some(Hold::Beside(first)) => self.network_of(*first).map(|network| &network.name) != network,
            None => false,
        }
    }

    /// Takes a source from its lease, and ends the lease when that was its last registered one. Gives back
    /// the sources that went with it.
    fn drop_source(&mut self, source: IpAddr) -> Vec<IpAddr> {
        let hold = self.held.get(&source).copied();
        self.detach(source);
        let Some(Hold::Lease(key)) = hold else {
            return Vec::new();
        };
        let left = self
            .leases
            .get(&key)
            .map(|entry| entry.sources.values().any(|source| !source.joined));
        if left != Some(false) {
            return Vec::new();
        }
        let Some(entry) = self.remove_lease(key) else {
            return Vec::new();
        };
        self.retire(&entry.lease.subject, Reason::LeaseChanged);
        let mut changed = self.settle(&entry);
        changed.extend(entry.sources.keys());
        changed
    }

    pub(super) fn set_static(&mut self, specs: Vec<StaticLease>, now: Moment) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        let mut wanted = self.fixed(&specs);
        let existing: Vec<Key> = self
            .leases
            .iter()
            .filter(|(_, entry)| entry.lease.expires.is_none())
            .map(|(key, _)| *key)
            .collect();
        for key in existing {
            match wanted.iter().position(|fixed| self.is_fixed(key, fixed)) {
                Some(at) => drop(wanted.swap_remove(at)),
                None => changed.extend(self.end_lease(key, Reason::LeaseChanged, now)),
            }
        }
        for fixed in wanted {
            changed.extend(self.fix(fixed, now));
        }
        self.set_ranges(&specs);
        self.statics = specs;
        changed.extend(self.drop_orphans());
        let machines: BTreeSet<Machine> = self.link.rows().map(|(_, machine)| machine.clone()).collect();
        for machine in &machines {
            changed.extend(self.rejoin(machine));
        }
        for network in self.networks.clone() {
            changed.extend(self.recheck(&network.name));
        }
        canonical(&changed)
    }

    /// The static leases over single addresses that the specifications mean under the current networks.
    fn fixed<'a>(&self, specs: &'a [StaticLease]) -> Vec<Fixed<'a>> {
        let mut all: Vec<Fixed<'a>> = Vec::new();
        for spec in specs {
            let from = all.len();
            for net in spec.sources.iter().filter(|net| is_single(net)) {
                let address = net.addr().to_canonical();
                let Some(network) = self.network_of(address) else {
                    continue;
                };
                let of_network = all
                    .iter_mut()
                    .skip(from)
                    .find(|fixed| fixed.network.name == network.name);
                if let Some(fixed) = of_network {
                    fixed.addresses.insert(address);
                } else {
                    let (network, addresses) = (Arc::clone(network), BTreeSet::from([address]));
                    all.push(Fixed {
                        spec,
                        network,
                        addresses,
                    });
                }
            }
        }
        all
    }

    /// True when a lease is what this part of the configuration means.
    fn is_fixed(&self, key: Key, fixed: &Fixed<'_>) -> bool {
        self.leases.get(&key).is_some_and(|entry| {
            let registered = entry.sources.iter().filter(|(_, source)| !source.joined);
            entry.lease.network == fixed.network.name
                && entry.lease.pinned == fixed.spec.pinned
                && entry.lease.job.identity == static_identity(&fixed.spec.identity, &fixed.network)
                && registered.map(|(address, _)| address).eq(&fixed.addresses)
        })
    }

    /// Makes a static lease; it takes its sources from whoever holds them.
    fn fix(&mut self, fixed: Fixed<'_>, now: Moment) -> Vec<IpAddr> {
        let Fixed {
            spec,
            network,
            addresses,
        } = fixed;
        let mut changed: Vec<IpAddr> = addresses.iter().copied().collect();
        for address in &addresses {
            changed.extend(self.drop_source(*address));
            changed.extend(self.lift(*address));
        }
        let first = addresses.first().map(ToString::to_string).unwrap_or_default();
        let identity = static_identity(&spec.identity, &network);
        let job = Arc::new(JobRecord {
            id: format_compact!("static-{first}"),
            identity,
        });
        let asked = Asked::fixed(&job.identity, spec.pinned.as_deref(), &network);
        let book = self.books.of(&asked);
        let subject = Arc::new(Subject::new(
            Arc::clone(&network),
            Some(Arc::clone(&job)),
            Standing::Leased,
            book,
        ));
        let lease = Lease {
            id: job.id.clone(),
            job,
            network: network.name.clone(),
            since: now,
            began: Generation::NEWEST,
            expires: None,
            pinned: spec.pinned.clone(),
            subject,
        };
        let sources = addresses.into_iter().map(|address| (address, Source::default()));
        changed.extend(self.hold(Arc::new(lease), sources.collect()));
        changed
    }

    fn set_ranges(&mut self, specs: &[StaticLease]) {
        let mut before = std::mem::take(&mut self.ranges);
        for spec in specs {
            for net in spec
                .sources
                .iter()
                .filter(|net| !is_single(net))
                .map(IpNet::trunc)
            {
                let same = before.iter().position(|range| {
                    range.net == net && range.identity == spec.identity && range.pinned == spec.pinned
                });
                let range = match same {
                    Some(at) => before.swap_remove(at),
                    None => self.new_range(net, spec),
                };
                self.ranges.push(range);
            }
        }
        self.ranges
            .sort_by_key(|range| std::cmp::Reverse(range.net.prefix_len()));
    }

    fn new_range(&mut self, net: IpNet, spec: &StaticLease) -> Range {
        self.range_keys += 1;
        Range {
            key: self.range_keys,
            net,
            id: format_compact!("static-{net}"),
            identity: spec.identity.clone(),
            pinned: spec.pinned.clone(),
        }
    }

    pub(super) fn reconfigure(
        &mut self,
        policies: Arc<PolicySet>,
        specs: Vec<StaticLease>,
        now: Moment,
    ) -> (Vec<IpAddr>, SwapReport) {
        // New leases are made by the new policies, and old ones that end never see them.
        self.books = Books::new(policies);
        let changed = self.set_static(specs, now);
        (changed, self.reapply())
    }

    pub(super) fn set_policies(&mut self, policies: Arc<PolicySet>) -> SwapReport {
        self.books = Books::new(policies);
        self.reapply()
    }

    /// Gives every subject the rulebook that now follows for it; one that would get an equal one keeps
    /// its own.
    fn reapply(&mut self) -> SwapReport {
        let mut report = SwapReport::default();
        for entry in self.leases.values() {
            let lease = &entry.lease;
            if let Some(network) = self.networks.iter().find(|network| network.name == lease.network) {
                report.apply(&lease.subject, self.books.of(&lease.asks(network)));
            }
        }
        for network in &self.networks {
            for (_, slot) in self.pools.get(&network.name).into_iter().flat_map(Pool::iter) {
                let range = match slot.origin {
                    Origin::Unleased => None,
                    Origin::Range(key) => self.ranges.iter().find(|range| range.key == key),
                };
                let identity = range.map(|range| static_identity(&range.identity, network));
                let pinned = range.and_then(|range| range.pinned.as_deref());
                let asked = identity
                    .as_ref()
                    .map_or(Asked::unleased(network), |job| Asked::fixed(job, pinned, network));
                report.apply(&slot.subject, self.books.of(&asked));
            }
        }
        for (subject, reason) in self.deny_all_subjects() {
            let world = Arc::clone(&self.books.policies().world);
            subject.swap(Arc::new(Rulebook::deny_all(world, reason)));
        }
        report
    }
}

impl SwapReport {
    fn apply(&mut self, subject: &Arc<Subject>, book: Arc<Rulebook>) {
        let own = subject.rulebook();
        if Arc::ptr_eq(&own, &book) || own.is_same(&book) {
            self.kept += 1;
        } else {
            subject.swap(book);
            self.swapped.push(Arc::clone(subject));
        }
    }
}

fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}
