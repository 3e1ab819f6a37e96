//! The authority behind the lease table: where a source stands, and which subject follows.
//!
//! Owns the tables; [`super::hold`], [`super::evidence`] and [`super::reload`] change them, each for one
//! kind of cause, and keep the cache in step by [`State::displace`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use super::books::Books;
use super::link::{Link, Machine};
use super::mac::Mac;
use super::pool::{MAX_ON_DEMAND, Origin, Pool};
use super::quarantine::{MAX_QUARANTINED, Quarantine};
use super::shards::{Cached, Shards};
use super::sources::Sources;
use super::{Lease, StaticLease};
use crate::Moment;
use crate::effective::PolicySet;
use crate::event::JobRecord;
use crate::job::{Assurance, JobIdentity};
use crate::rulebook::Rulebook;
use crate::special;
use crate::subject::{Network, RunnerKind, Standing, Subject};
use crate::verdict::Reason;

/// Unbound sources without link evidence that are remembered for `status`.
const MAX_UNBOUND: usize = 256;

/// Key within the process: of a lease its subject's id, of a static range its own number.
pub(super) type Key = u64;

/// A lease and the sources that it holds.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lease: Arc<Lease>,
    pub(super) sources: Sources,
}

/// One held source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Source {
    pub(super) joined: bool,
    pub(super) mac: Option<Mac>,
    /// The machine that was in quarantine there, when somebody who knows machines gave the address to the lease.
    pub(super) left: Option<Mac>,
}

impl Source {
    /// True when it is bound to the machine of the lease before: perhaps the neighbour tables only have not noticed yet
    /// that another one has the address by now.
    pub(super) fn is_presumed(&self) -> bool {
        self.mac.is_some() && self.mac == self.left
    }
}

/// By what a source is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// By a lease, registered or joined.
    Lease(Key),
    /// It shares the machine of this source, which lies in the range of a static lease.
    Beside(IpAddr),
}

/// A range of a static lease.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) key: Key,
    pub(super) net: IpNet,
    pub(super) id: CompactString,
    pub(super) identity: JobIdentity,
    pub(super) pinned: Option<CompactString>,
}

/// Where a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no network.
    Foreign,
    /// Held by a lease.
    Lease(Key),
    /// In the range of a static lease: as the machine whose first address this is.
    Range(Key, IpAddr),
    /// Its lease ended, or its machine's did.
    Quarantined,
    /// Its machine holds a lease by other addresses, or may.
    Unbound,
    /// None of that.
    Unleased,
}

/// The deny-all subjects of a network, which need no state of their own.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) quarantined: Arc<Subject>,
    pub(super) unbound: Arc<Subject>,
    pub(super) limit: Arc<Subject>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) cache: Arc<Shards>,
    pub(super) networks: Vec<Arc<Network>>,
    /// Ranges of networks, longest prefix first.
    pub(super) routes: Vec<(IpNet, Arc<Network>)>,
    pub(super) books: Books,
    pub(super) leases: HashMap<Key, Entry>,
    pub(super) by_id: HashMap<CompactString, Key>,
    /// Leases by network; networks without any are left out.
    pub(super) counts: HashMap<CompactString, usize>,
    pub(super) held: HashMap<IpAddr, Hold>,
    /// Registered sources by the machine that they are bound to.
    pub(super) bound: HashMap<Machine, Vec<IpAddr>>,
    /// Leased IPv4 sources, by network, whose machines nobody has seen yet.
    pub(super) unseen: HashMap<CompactString, HashSet<IpAddr>>,
    /// Ranges of static leases, longest prefix first.
    pub(super) ranges: Vec<Range>,
    /// The static leases as they were set last.
    pub(super) statics: Vec<StaticLease>,
    /// Last key given to a static range.
    pub(super) range_keys: Key,
    pub(super) quarantine: Quarantine,
    pub(super) link: Link,
    pub(super) pools: HashMap<CompactString, Pool>,
    pub(super) denied: HashMap<CompactString, Denied>,
    foreign: Arc<Subject>,
    /// Unbound sources without link evidence that asked last.
    pub(super) unbound: VecDeque<IpAddr>,
    /// Changes that no caller was told of yet.
    pub(super) owed: Vec<IpAddr>,
    pub(super) pool_capacity: usize,
}

impl State {
    pub(super) fn new(networks: Vec<Network>, policies: Arc<PolicySet>, cache: Arc<Shards>) -> Self {
        let nowhere = Arc::new(Network {
            name: CompactString::default(),
            cluster: CompactString::default(),
            ranges: Vec::new(),
            runners: RunnerKind::Ephemeral,
            min_assurance: None,
            adjacent: false,
        });
        let foreign = deny(&policies, &nowhere, Standing::Foreign, Reason::NoPolicy);
        let mut state = Self {
            cache,
            networks: Vec::new(),
            routes: Vec::new(),
            books: Books::new(policies),
            leases: HashMap::new(),
            by_id: HashMap::new(),
            counts: HashMap::new(),
            held: HashMap::new(),
            bound: HashMap::new(),
            unseen: HashMap::new(),
            ranges: Vec::new(),
            statics: Vec::new(),
            range_keys: 0,
            quarantine: Quarantine::new(MAX_QUARANTINED),
            link: Link::default(),
            pools: HashMap::new(),
            denied: HashMap::new(),
            foreign,
            unbound: VecDeque::new(),
            owed: Vec::new(),
            pool_capacity: MAX_ON_DEMAND,
        };
        state.route(networks);
        state
    }

    /// The network that a source lies in: longest prefix.
    pub(super) fn network_of(&self, source: IpAddr) -> Option<&Arc<Network>> {
        self.routes
            .iter()
            .find(|(net, _)| net.contains(&source))
            .map(|(_, network)| network)
    }

    /// The static range that a source lies in: longest prefix.
    pub(super) fn range_of(&self, source: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.net.contains(&source))
    }

    /// Where a source stands.
    pub(super) fn place(&self, source: IpAddr) -> Place {
        let Some(network) = self.network_of(source) else {
            return Place::Foreign;
        };
        match self.held.get(&source) {
            Some(Hold::Lease(key)) => return Place::Lease(*key),
            Some(Hold::Beside(first)) => {
                return self
                    .range_of(*first)
                    .map_or(Place::Unbound, |range| Place::Range(range.key, *first));
            }
            None => {}
        }
        if let Some(range) = self.range_of(source) {
            return Place::Range(range.key, source);
        }
        if self.quarantine.get(source).is_some() {
            return Place::Quarantined;
        }
        match self.link.machine(source) {
            Some(machine) if self.quarantine.has_machine(machine) => Place::Quarantined,
            Some(machine) if self.holds_lease(machine) => Place::Unbound,
            Some(machine) if source.is_ipv6() && self.may_hold_lease(machine) => Place::Unbound,
            Some(_) => Place::Unleased,
            None if self.is_guarded(network) => Place::Unbound,
            None => Place::Unleased,
        }
    }

    /// True when some source of this machine is registered, or lies in a static range.
    pub(super) fn holds_lease(&self, machine: &Machine) -> bool {
        self.bound.contains_key(machine) || self.link.addresses(machine).any(|one| self.in_range_only(one))
    }

    /// True when this machine may be the one of a leased IPv4 source, at which nobody was seen yet: it shows
    /// no IPv4 address at all. A job that keeps silent on IPv4 is not rid of its policy by that.
    fn may_hold_lease(&self, machine: &Machine) -> bool {
        self.unseen.contains_key(&machine.0) && !self.link.addresses(machine).any(|one| one.is_ipv4())
    }

    /// True when nothing but a static range holds the source.
    pub(super) fn in_range_only(&self, source: IpAddr) -> bool {
        !self.held.contains_key(&source) && self.range_of(source).is_some()
    }

    /// True when a source of an unknown machine could be a fresh address of a leased or quarantined one: the
    /// network is adjacent, so machines are known sooner or later, and some machine there is one of these.
    fn is_guarded(&self, network: &Network) -> bool {
        let ranged = || {
            let mut pairs = self
                .ranges
                .iter()
                .flat_map(|range| network.ranges.iter().map(move |net| (range.net, *net)));
            pairs.any(|(one, other)| one.contains(&other) || other.contains(&one))
        };
        (network.adjacent || self.link.is_evident(&network.name))
            && (self.counts.contains_key(&network.name) || self.quarantine.is_in(&network.name) || ranged())
    }

    /// The subject of a source, made when there is none yet.
    pub(super) fn resolve(&mut self, source: IpAddr, now: Moment) -> Arc<Subject> {
        let place = self.place(source);
        if let Place::Lease(key) = place
            && self.is_expired(key, now)
        {
            let changed = self.end_lease(key, Reason::Quarantined, now);
            self.owed.extend(changed);
            return self.resolve(source, now);
        }
        let network = self.network_of(source).map(Arc::clone);
        let (Some(network), place) = (network, place) else {
            return Arc::clone(&self.foreign);
        };
        let denied = self.denied.get(&network.name);
        match (place, denied) {
            (Place::Foreign, _) | (_, None) => Arc::clone(&self.foreign),
            (Place::Quarantined, Some(denied)) => Arc::clone(&denied.quarantined),
            (Place::Unbound, Some(denied)) => {
                let subject = Arc::clone(&denied.unbound);
                self.remember_unbound(source);
                subject
            }
            (Place::Lease(key), Some(_)) => self.leased(source, key),
            (Place::Range(key, first), Some(_)) => {
                self.on_demand(&network, source, first, Origin::Range(key), now)
            }
            (Place::Unleased, Some(_)) => self.on_demand(&network, source, source, Origin::Unleased, now),
        }
    }

    fn leased(&self, source: IpAddr, key: Key) -> Arc<Subject> {
        let Some(entry) = self.leases.get(&key) else {
            return Arc::clone(&self.foreign);
        };
        let subject = Arc::clone(&entry.lease.subject);
        let cached = Cached {
            subject: Arc::clone(&subject),
            last_use: None,
            expires: entry.lease.expires,
        };
        self.cache.put(source, cached);
        subject
    }

    pub(super) fn is_expired(&self, key: Key, now: Moment) -> bool {
        let expires = self.leases.get(&key).and_then(|entry| entry.lease.expires);
        expires.is_some_and(|expires| expires <= now)
    }

    fn remember_unbound(&mut self, source: IpAddr) {
        if self.unbound.contains(&source) {
            return;
        }
        if self.unbound.len() >= MAX_UNBOUND {
            self.unbound.pop_front();
        }
        self.unbound.push_back(source);
    }

    /// Every subject that is refused everything by its standing, with the reason.
    pub(super) fn deny_all_subjects(&self) -> impl Iterator<Item = (&Arc<Subject>, Reason)> {
        let shared = self.denied.values().flat_map(|denied| {
            [
                (&denied.quarantined, Reason::Quarantined),
                (&denied.unbound, Reason::UnboundSource),
                (&denied.limit, Reason::Limit),
            ]
        });
        shared.chain([(&self.foreign, Reason::NoPolicy)])
    }
}

impl Range {
    /// The job of a source in this range.
    pub(super) fn job(&self, network: &Network) -> JobRecord {
        JobRecord {
            id: self.id.clone(),
            identity: static_identity(&self.identity, network),
        }
    }
}

/// A static lease's identity in a network.
pub(super) fn static_identity(identity: &JobIdentity, network: &Network) -> JobIdentity {
    let mut identity = identity.clone().canonical();
    identity.assurance = Assurance::Static;
    if identity.cluster.is_empty() {
        identity.cluster.clone_from(&network.cluster);
    }
    identity
}

/// A subject that is refused everything.
pub(super) fn deny(
    policies: &PolicySet,
    network: &Arc<Network>,
    standing: Standing,
    reason: Reason,
) -> Arc<Subject> {
    let book = Arc::new(Rulebook::deny_all(Arc::clone(&policies.world), reason));
    Arc::new(Subject::new(Arc::clone(network), None, standing, book))
}

/// A source in the form that the tables hold.
pub(super) fn canonical(sources: &[IpAddr]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = sources.iter().map(|source| special::canonical(*source)).collect();
    all.sort_unstable();
    all.dedup();
    all
}
