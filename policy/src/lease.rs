//! The lease table: which job holds which source address, and so by what a source is judged.
//!
//! Owns leases, quarantine, link evidence, and one [`Subject`] for every source that is asked for. It
//! never decides what a policy means ([`crate::effective`]) nor who a credential belongs to (the
//! gateway). `dns` and `proxy` call [`LeaseTable::lookup`] for every packet's source; the gateway calls
//! everything else. Calls that change who a source is return the sources concerned, so that each of their
//! flows is judged again.
//!
//! A lookup is one shard's read lock ([`shards`]); what it does not find there, and every change, goes
//! through one mutex ([`state`]), which is never held across anything but table work.

mod books;
mod changes;
mod claim;
mod demand;
mod end;
mod enrich;
mod evidence;
mod hold;
mod link;
mod mac;
mod pool;
mod quarantine;
mod register;
mod reload;
mod restore;
mod shards;
mod sources;
mod state;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use ipnet::IpNet;
use parking_lot::Mutex;

use crate::Moment;
use crate::effective::{Asked, Generation, PolicySet};
use crate::event::JobRecord;
use crate::job::{Assurance, JobIdentity};
use crate::special;
use crate::subject::{Network, Subject};

use shards::Shards;
use state::State;

pub use changes::{Changes, Lasting};
pub use link::{MAX_NEIGHBOURS, Neighbour};
pub use mac::{Mac, MacError};
pub use pool::MAX_ON_DEMAND;
pub use quarantine::MAX_QUARANTINED;
pub use register::{
    Credential, EndError, MAX_SOURCES, Party, Preview, RegisterError, Registered, Registration, TokenScope,
};
pub use restore::{AdoptError, AdoptedLease};

/// Leases that are held at once.
pub const MAX_LEASES: usize = 131_072;
/// Addresses that may join a lease by its machine's hardware address; the further ones stay unbound.
pub const MAX_JOINED: usize = 64;

/// A job's hold on its sources in one network.
#[derive(Debug)]
pub struct Lease {
    /// Its id, also that of its job in events.
    pub id: CompactString,
    /// Whose it is, as it was granted; [`Subject::job`] may know more of it by now.
    pub job: Arc<JobRecord>,
    /// Name of the network.
    pub network: CompactString,
    /// When it was put in place here.
    pub since: Moment,
    /// Where the policy store's history stood when it began: policies that changed later for the next job only
    /// govern it by the version that it began with. [`Generation::NEWEST`] for static leases.
    pub began: Generation,
    /// When it ends by itself; never for static leases.
    pub expires: Option<Moment>,
    /// The policy that a static lease names itself.
    pub pinned: Option<CompactString>,
    /// Who its sources are judged as.
    pub subject: Arc<Subject>,
}

impl Lease {
    /// How well the job is known.
    pub fn assurance(&self) -> Assurance {
        self.job.identity.assurance
    }

    /// What it asks of the policies.
    fn asks<'a>(&'a self, network: &'a Network) -> Asked<'a> {
        Asked {
            job: Some(&self.job.identity),
            pinned: self.pinned.as_deref(),
            network,
            began: self.began,
        }
    }
}

/// A lease that the configuration makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticLease {
    /// Addresses and ranges. The single addresses are one machine; in a range each address is a machine
    /// of its own.
    pub sources: Vec<IpNet>,
    /// The job. Cluster and assurance are filled in by the table.
    pub identity: JobIdentity,
    /// Name of the policy that it pins ([`PolicySet::pinned`]).
    pub pinned: Option<CompactString>,
}

/// A lease as `status` and the API show it.
#[derive(Clone, Debug)]
pub struct LeaseView {
    /// The lease.
    pub lease: Arc<Lease>,
    /// Its sources with their machines, those that joined by link evidence included.
    pub sources: Vec<SourceView>,
}

/// One source of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// The address.
    pub address: IpAddr,
    /// It was not registered, but its machine's hardware address is the lease's.
    pub joined: bool,
    /// The hardware address that it is bound to.
    pub mac: Option<Mac>,
}

/// A leased address and the only hardware address that may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The source.
    pub address: IpAddr,
    /// Its machine.
    pub mac: Mac,
    /// Name of the network.
    pub network: CompactString,
}

/// A source that is refused everything because it is bound to no lease, though its machine may hold one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnboundSource {
    /// The source.
    pub address: IpAddr,
    /// Its machine, when it was seen.
    pub mac: Option<Mac>,
}

/// A source whose lease ended and whose machine has not changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantinedSource {
    /// The source.
    pub address: IpAddr,
    /// Its machine, when it was seen.
    pub mac: Option<Mac>,
    /// When the lease ended.
    pub since: Moment,
}

/// What a new set of policies changed.
#[derive(Clone, Debug, Default)]
pub struct SwapReport {
    /// Subjects that have another rulebook now: their flows are to be judged again.
    pub swapped: Vec<Arc<Subject>>,
    /// Subjects that kept theirs.
    pub kept: usize,
}

/// What a new set of networks changed.
#[derive(Clone, Debug, Default)]
pub struct NetworksReport {
    /// Sources that have another subject now.
    pub changed: Vec<IpAddr>,
    /// Subjects that have another rulebook now.
    pub policies: SwapReport,
}

/// The lease table; shared by reference, every call takes `now` where time matters.
#[derive(Debug)]
pub struct LeaseTable {
    cache: Arc<Shards>,
    state: Mutex<State>,
}

impl LeaseTable {
    /// A table without leases.
    pub fn new(networks: Vec<Network>, policies: Arc<PolicySet>) -> Self {
        let cache = Arc::new(Shards::new());
        let state = Mutex::new(State::new(networks, policies, Arc::clone(&cache)));
        Self { cache, state }
    }

    /// The subject that a source is judged as. Never fails: a source that nothing is known of gets its
    /// network's default policy, one that may not be known a subject that is refused everything.
    pub fn lookup(&self, source: IpAddr, now: Moment) -> Arc<Subject> {
        self.lookup_lasting(source, now).0
    }

    /// The same, with how long that holds while [`Self::changes`] does not move; `None`: for this lookup alone. Read the
    /// counter before the lookup.
    pub fn lookup_lasting(&self, source: IpAddr, now: Moment) -> (Arc<Subject>, Option<Lasting>) {
        let source = special::canonical(source);
        match self.cache.get(source, now) {
            Some((subject, lasting)) => (subject, Some(lasting)),
            None => (self.state.lock().resolve(source, now), None),
        }
    }

    /// Counters that move when a source has another subject.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.cache.changes
    }

    /// Grants a lease. Registering again for the same job is granted the lease that it holds.
    pub fn register(&self, request: Registration, now: Moment) -> Result<Registered, RegisterError> {
        self.state.lock().register(request, now)
    }

    /// What [`Self::register`] would do at this moment, without doing it. Only leases that have expired by now
    /// end, as in any call.
    pub fn preview(&self, request: &Registration, now: Moment) -> Result<Preview, RegisterError> {
        self.state.lock().preview(request, now)
    }

    /// Puts a lease in place that was granted elsewhere. It replaces other leases over its sources and lifts
    /// their quarantine, because who granted it was entitled to; the configuration's leases stay. Again with the
    /// same content it changes nothing but that further sources are taken in; with other content under the same
    /// id, the later one is right. Gives back the sources that have another subject now.
    pub fn adopt(&self, lease: AdoptedLease, now: Moment) -> Result<Vec<IpAddr>, AdoptError> {
        self.state.lock().adopt(lease, now)
    }

    /// Takes from a claim without a credential what the record of the job that holds a source leaves open; its
    /// subject, tickets and policy stay. A claim that names another owner, repository or run is left out. False
    /// when the source holds no lease.
    pub fn enrich(&self, source: IpAddr, claim: JobIdentity, now: Moment) -> bool {
        self.state.lock().enrich(special::canonical(source), claim, now)
    }

    /// Ends a lease; gives back the sources concerned.
    pub fn end(&self, id: &str, by: &Party, now: Moment) -> Result<Vec<IpAddr>, EndError> {
        self.state.lock().end(id, by, now)
    }

    /// Ends what has expired. Gives back every source that changed since the last call, those that a
    /// lookup found expired in between included. To be called about once a second.
    pub fn expire(&self, now: Moment) -> Vec<IpAddr> {
        self.state.lock().expire(now)
    }

    /// Lifts quarantine from sources and from the machines behind them, as far as `by` may: a
    /// provisioner in its networks, the forge, an operator. Gives back the sources concerned.
    pub fn release_quarantine(&self, sources: &[IpAddr], by: &Party) -> Vec<IpAddr> {
        self.state.lock().release_quarantine(sources, by)
    }

    /// Ends the lease that holds a source, if any does, and lifts the quarantine of all that it leaves behind: its
    /// machine is gone. Gives back the sources concerned. Not for a job itself, nor for static leases.
    pub fn clear(&self, source: IpAddr, by: &Party, now: Moment) -> Result<Vec<IpAddr>, EndError> {
        self.state.lock().clear(source, by, now)
    }

    /// Quarantines sources of a network of ephemeral runners again, as before a restart of the gateway, with
    /// their machines where they were known. One that holds a lease is left alone, and so is one at which another
    /// machine is seen by now. Those that were quarantined first go first at the bound ([`MAX_QUARANTINED`]).
    /// Gives back the sources concerned.
    pub fn quarantine(&self, sources: &[(IpAddr, Option<Mac>)], network: &str, since: Moment) -> Vec<IpAddr> {
        self.state.lock().restore_quarantine(sources, network, since)
    }

    /// Takes in the whole of the neighbour tables of the adjacent networks. Gives back the sources that
    /// joined or left a lease, or whose quarantine ended.
    pub fn observe_neighbours(&self, snapshot: &[Neighbour]) -> Vec<IpAddr> {
        self.state.lock().observe_neighbours(snapshot)
    }

    /// Takes in one row of them that was asked for between two snapshots, because a source spoke whose machine was not
    /// known ([`Self::is_unseen`]). Sources that joined or left a lease by it are given back by [`Self::expire`].
    pub fn observe_neighbour(&self, row: &Neighbour) {
        self.state.lock().observe_neighbour(row);
    }

    /// True when no machine was seen at this source yet, so that nothing is known of whose it is but its address.
    pub fn is_unseen(&self, source: IpAddr) -> bool {
        self.state
            .lock()
            .link
            .machine(special::canonical(source))
            .is_none()
    }

    /// Puts other policies in place; see [`SwapReport`]. Tickets, leases and flows live on.
    pub fn set_policies(&self, policies: Arc<PolicySet>) -> SwapReport {
        self.state.lock().set_policies(policies)
    }

    /// Puts other networks in place. Leases stay, but for sources that lie in their network no more.
    pub fn set_networks(&self, networks: Vec<Network>, now: Moment) -> NetworksReport {
        self.state.lock().set_networks(networks, now)
    }

    /// Puts other static leases in place. Unchanged ones keep their subjects, and so their tickets.
    pub fn set_static(&self, leases: Vec<StaticLease>, now: Moment) -> Vec<IpAddr> {
        self.state.lock().set_static(leases, now)
    }

    /// Puts other policies and other static leases in place at once, as a configuration that was read again
    /// means them: no lease is judged by the new of one and the old of the other in between. Gives back the
    /// sources that have another subject now.
    pub fn reconfigure(
        &self,
        policies: Arc<PolicySet>,
        leases: Vec<StaticLease>,
        now: Moment,
    ) -> (Vec<IpAddr>, SwapReport) {
        self.state.lock().reconfigure(policies, leases, now)
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.state.lock().policies()
    }

    /// The lease with this id.
    pub fn lease(&self, id: &str) -> Option<Arc<Lease>> {
        self.state.lock().lease(id)
    }

    /// The lease that holds a source by its address. Sources in the range of a static lease have none of
    /// their own.
    pub fn lease_at(&self, source: IpAddr) -> Option<Arc<Lease>> {
        self.state.lock().lease_at(special::canonical(source))
    }

    /// The lease with this id and its sources.
    pub fn view(&self, id: &str) -> Option<LeaseView> {
        self.state.lock().view(id)
    }

    /// Every lease, by id.
    pub fn leases(&self) -> Vec<LeaseView> {
        self.state.lock().leases()
    }

    /// Every living subject with its own rulebook.
    pub fn subjects(&self) -> Vec<Arc<Subject>> {
        self.state.lock().subjects()
    }

    /// The hardware address that a leased source is bound to: a datagram with another one is a spoof.
    pub fn binding(&self, source: IpAddr) -> Option<Mac> {
        self.state.lock().binding(special::canonical(source))
    }

    /// Every binding.
    pub fn bindings(&self) -> Vec<Binding> {
        self.state.lock().bindings()
    }

    /// Sources that are refused because they are bound to no lease: those that the neighbour tables show,
    /// and the last of those that they don't.
    pub fn unbound_sources(&self) -> Vec<UnboundSource> {
        self.state.lock().unbound_sources()
    }

    /// Quarantined sources, by address.
    pub fn quarantined_sources(&self) -> Vec<QuarantinedSource> {
        self.state.lock().quarantined_sources()
    }
}

#[cfg(test)]
mod tests;
