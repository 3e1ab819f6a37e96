//! Whether a lease may be granted: what stands in the way of a registration.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::hold::Grant;
use super::link::Machine;
use super::register::{Credential, MAX_SOURCES, Preview, RegisterError, Registered, Registration, admit};
use super::state::{Hold, Key, Place, State, canonical};
use super::{Lease, MAX_LEASES};
use crate::Moment;
use crate::job::{Assurance, JobIdentity};
use crate::subject::Network;
use crate::verdict::Reason;

/// What stands in the way of a registration.
enum Rivals {
    /// Nothing.
    None,
    /// The same job's own lease.
    Same(Arc<Lease>),
    /// Leases that it may replace.
    Replaced(Vec<Key>),
}

/// A registration that may be granted.
struct Weighed {
    sources: Vec<IpAddr>,
    network: Arc<Network>,
    identity: JobIdentity,
    rivals: Rivals,
}

/// Leases up to which this credential registers another one. Who shows none leaves half of the table to those who do: a
/// claim costs nothing, and its lease lives for days.
fn most(credential: &Credential) -> usize {
    match credential {
        Credential::Claimed => MAX_LEASES / 2,
        Credential::RunnerToken(_) | Credential::Oidc | Credential::Forge | Credential::Provisioner(_) => {
            MAX_LEASES
        }
    }
}

impl State {
    pub(super) fn register(
        &mut self,
        request: Registration,
        now: Moment,
    ) -> Result<Registered, RegisterError> {
        let weighed = self.weigh(&request, now)?;
        let replaced = match weighed.rivals {
            Rivals::Same(lease) => {
                // It may have come from elsewhere first, which does not know the machine.
                let changed = request
                    .mac
                    .map(|mac| self.bind_loose(&lease, &weighed.sources, mac));
                return Ok(Registered {
                    lease,
                    changed: changed.unwrap_or_default(),
                });
            }
            Rivals::None => Vec::new(),
            Rivals::Replaced(keys) => keys,
        };
        let sources = weighed.sources.into_iter().map(|source| (source, request.mac));
        let grant = Grant {
            id: request.id,
            identity: weighed.identity,
            sources: sources.collect(),
            began: request.began,
            expires: now.plus(request.lifetime),
        };
        Ok(self.grant(grant, &weighed.network, &replaced, now))
    }

    pub(super) fn preview(&mut self, request: &Registration, now: Moment) -> Result<Preview, RegisterError> {
        let weighed = self.weigh(request, now)?;
        let (held, replaced) = match weighed.rivals {
            Rivals::Same(lease) => (Some(lease), Vec::new()),
            Rivals::None => (None, Vec::new()),
            Rivals::Replaced(keys) => (None, keys),
        };
        let (inherited, heir) = self.inherited(&request.id, &weighed.identity, &replaced);
        let kept = held.as_ref().and_then(|lease| self.leases.get(&lease.subject.id));
        let known = kept.map_or(&inherited, |entry| &entry.sources).iter();
        let known = known.filter(|(_, source)| !source.joined);
        let asked = weighed.sources.iter().filter(|_| kept.is_none());
        let sources: Vec<IpAddr> = known.map(|(address, _)| address).chain(asked).copied().collect();
        let began = held.as_ref().or(heir.as_ref()).map(|old| old.began);
        let id = |key: &Key| self.leases.get(key).map(|entry| entry.lease.id.clone());
        Ok(Preview {
            replaces: replaced.iter().filter_map(id).collect(),
            network: weighed.network.name.clone(),
            identity: weighed.identity,
            sources: canonical(&sources),
            began: began.map_or(request.began, |old| old.min(request.began)),
            held,
        })
    }

    /// Whether a registration may be granted, and what it would replace. Changes nothing but that leases which
    /// have expired are ended first.
    fn weigh(&mut self, request: &Registration, now: Moment) -> Result<Weighed, RegisterError> {
        let sources = canonical(&request.sources);
        let network = self.one_network(&sources)?;
        let identity = admit(request, &network)?;
        self.end_expired(&sources, now);
        let rivals = self.rivals(request, &sources, &network, &identity)?;
        if !matches!(rivals, Rivals::Same(_)) {
            if self.by_id.contains_key(&request.id) {
                return Err(RegisterError::DuplicateId(request.id.clone()));
            }
            if self.leases.len() >= most(&request.credential) {
                return Err(RegisterError::Full);
            }
        }
        Ok(Weighed {
            sources,
            network,
            identity,
            rivals,
        })
    }

    /// The network that all sources lie in.
    fn one_network(&self, sources: &[IpAddr]) -> Result<Arc<Network>, RegisterError> {
        let Some(first) = sources.first().filter(|_| sources.len() <= MAX_SOURCES) else {
            return Err(RegisterError::SourceCount(sources.len()));
        };
        let network = self.network_of(*first).ok_or(RegisterError::Foreign(*first))?;
        for source in sources {
            let other = self.network_of(*source).ok_or(RegisterError::Foreign(*source))?;
            if other.name != network.name {
                return Err(RegisterError::Apart(*first, *source));
            }
        }
        Ok(Arc::clone(network))
    }

    /// Ends the leases over these sources that have expired.
    pub(super) fn end_expired(&mut self, sources: &[IpAddr], now: Moment) {
        for source in sources {
            if let Some(Hold::Lease(key)) = self.held.get(source).copied()
                && self.is_expired(key, now)
            {
                let changed = self.end_lease(key, Reason::Quarantined, now);
                self.owed.extend(changed);
            }
        }
    }

    /// The leases that stand in the way, if this registration may replace them.
    fn rivals(
        &self,
        request: &Registration,
        sources: &[IpAddr],
        network: &Network,
        identity: &JobIdentity,
    ) -> Result<Rivals, RegisterError> {
        let vouched = request.credential.knows_machines();
        let mut keys: Vec<Key> = Vec::new();
        for source in sources {
            match self.stands(*source, request, network) {
                Place::Foreign => return Err(RegisterError::Foreign(*source)),
                Place::Unleased => {}
                Place::Quarantined if vouched => {}
                Place::Quarantined => return Err(RegisterError::Quarantined(*source)),
                Place::Unbound if vouched => {}
                Place::Unbound => return Err(RegisterError::Unbound(*source)),
                Place::Range(..) if request.credential.is_provisioner() => {}
                Place::Range(key, _) => return Err(self.held_by_range(*source, key)),
                Place::Lease(key) => keys.push(key),
            }
        }
        // A party that knows machines may register one of a machine's further addresses by itself.
        keys.retain(|key| !(vouched && self.only_joined(*key, sources)));
        keys.sort_unstable();
        keys.dedup();
        if let [key] = keys.as_slice()
            && let Some(entry) = self.leases.get(key)
            && entry.lease.job.identity == *identity
            && sources
                .iter()
                .all(|source| self.held.get(source) == Some(&Hold::Lease(*key)))
        {
            return Ok(Rivals::Same(Arc::clone(&entry.lease)));
        }
        for key in &keys {
            self.may_replace(*key, sources, request, identity.assurance)?;
        }
        Ok(if keys.is_empty() {
            Rivals::None
        } else {
            Rivals::Replaced(keys)
        })
    }

    /// Where a source stands, judged by the machine that the request comes from too: a fresh address of
    /// a leased or quarantined machine is no way around the rules.
    fn stands(&self, source: IpAddr, request: &Registration, network: &Network) -> Place {
        let place = self.place(source);
        let (Place::Unleased | Place::Unbound, Some(mac)) = (place, request.mac) else {
            return place;
        };
        let machine: Machine = (network.name.clone(), mac);
        if self.quarantine.has_machine(&machine) {
            return Place::Quarantined;
        }
        match self
            .bound
            .get(&machine)
            .and_then(|held| held.first())
            .and_then(|held| self.held.get(held))
        {
            Some(Hold::Lease(key)) if !request.credential.knows_machines() => Place::Lease(*key),
            Some(_) => place,
            None if self.holds_lease(&machine) => Place::Unbound,
            None => Place::Unleased,
        }
    }

    /// True when none of these sources is a registered one of the lease.
    pub(super) fn only_joined(&self, key: Key, sources: &[IpAddr]) -> bool {
        let Some(entry) = self.leases.get(&key) else {
            return false;
        };
        sources
            .iter()
            .all(|source| entry.sources.get(source).is_none_or(|held| held.joined))
    }

    fn may_replace(
        &self,
        key: Key,
        sources: &[IpAddr],
        request: &Registration,
        assurance: Assurance,
    ) -> Result<(), RegisterError> {
        let Some(entry) = self.leases.get(&key) else {
            return Ok(());
        };
        let known = entry.lease.assurance();
        let provisioner = request.credential.is_provisioner() && known != Assurance::Static;
        if provisioner || assurance > known {
            return Ok(());
        }
        let source = sources
            .iter()
            .find(|source| self.held.get(*source) == Some(&Hold::Lease(key)));
        let source = source
            .or(sources.first())
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Err(RegisterError::Held {
            source_address: source,
            lease: entry.lease.id.clone(),
            assurance: known,
        })
    }

    fn held_by_range(&self, source: IpAddr, key: Key) -> RegisterError {
        let range = self.ranges.iter().find(|range| range.key == key);
        let lease = range.map(|range| range.id.clone()).unwrap_or_default();
        RegisterError::Held {
            source_address: source,
            lease,
            assurance: Assurance::Static,
        }
    }
}
