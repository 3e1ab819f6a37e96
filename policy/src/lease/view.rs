//! What `status`, the API and the interception rules read of the lease table.

use std::net::IpAddr;
use std::sync::Arc;

use super::mac::Mac;
use super::quarantine::Record;
use super::state::{Entry, Hold, Place, Source, State};
use super::{Binding, Lease, LeaseView, QuarantinedSource, SourceView, UnboundSource};
use crate::effective::PolicySet;
use crate::subject::Subject;

impl State {
    pub(super) fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(self.books.policies())
    }

    pub(super) fn lease(&self, id: &str) -> Option<Arc<Lease>> {
        let key = self.by_id.get(id)?;
        self.leases.get(key).map(|entry| Arc::clone(&entry.lease))
    }

    pub(super) fn lease_at(&self, source: IpAddr) -> Option<Arc<Lease>> {
        match self.held.get(&source)? {
            Hold::Lease(key) => self.leases.get(key).map(|entry| Arc::clone(&entry.lease)),
            Hold::Beside(_) => None,
        }
    }

    pub(super) fn leases(&self) -> Vec<LeaseView> {
        let mut views: Vec<LeaseView> = self.leases.values().map(view).collect();
        views.sort_by(|one, other| one.lease.id.cmp(&other.lease.id));
        views
    }

    pub(super) fn view(&self, id: &str) -> Option<LeaseView> {
        self.leases.get(self.by_id.get(id)?).map(view)
    }

    pub(super) fn subjects(&self) -> Vec<Arc<Subject>> {
        let leased = self.leases.values().map(|entry| &entry.lease.subject);
        let on_demand = self
            .pools
            .values()
            .flat_map(|pool| pool.iter().map(|(_, slot)| &slot.subject));
        leased.chain(on_demand).map(Arc::clone).collect()
    }

    pub(super) fn binding(&self, source: IpAddr) -> Option<Mac> {
        match self.held.get(&source)? {
            Hold::Lease(key) => self.leases.get(key)?.sources.get(&source)?.mac,
            Hold::Beside(_) => None,
        }
    }

    pub(super) fn bindings(&self) -> Vec<Binding> {
        let bound = |entry: &Entry| {
            let network = entry.lease.network.clone();
            let of = move |(address, source): (&IpAddr, &Source)| {
                Some(Binding {
                    address: *address,
                    mac: source.mac?,
                    network: network.clone(),
                })
            };
            entry.sources.iter().filter_map(of).collect::<Vec<_>>()
        };
        let mut all: Vec<Binding> = self.leases.values().flat_map(bound).collect();
        all.sort_by_key(|binding| binding.address);
        all
    }

    pub(super) fn unbound_sources(&self) -> Vec<UnboundSource> {
        let seen = self.link.rows().map(|(address, _)| address);
        let mut all: Vec<IpAddr> = seen.chain(self.unbound.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|address| self.place(*address) == Place::Unbound);
        let mac = |address: IpAddr| self.link.machine(address).map(|(_, mac)| *mac);
        all.into_iter()
            .map(|address| UnboundSource {
                address,
                mac: mac(address),
            })
            .collect()
    }

    pub(super) fn quarantined_sources(&self) -> Vec<QuarantinedSource> {
        let view = |(address, record): (&IpAddr, &Record)| QuarantinedSource {
            address: *address,
            mac: record.machine.as_ref().map(|(_, mac)| *mac),
            since: record.since,
        };
        let mut all: Vec<QuarantinedSource> = self.quarantine.iter().map(view).collect();
        all.sort_by_key(|one| one.address);
        all
    }
}

fn view(entry: &Entry) -> LeaseView {
    let sources = entry.sources.iter();
    let sources = sources.map(|(address, source)| SourceView {
        address: *address,
        joined: source.joined,
        mac: source.mac,
    });
    LeaseView {
        lease: Arc::clone(&entry.lease),
        sources: sources.collect(),
    }
}
