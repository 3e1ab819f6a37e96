//! Which machine sits behind an address of a runner network.
//!
//! Owns the question to the kernel's neighbour table; what the answer means is the lease table's. A seam, so that the
//! pages can be tried without links.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tidegate_policy::lease::{Mac, Neighbour};
use tidegate_policy::subject::Network;

use crate::appliance::chain;
use crate::jobs::Pending;
use crate::link::{Monitor, ask};

/// What is seen behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// This machine.
    Machine(Mac),
    /// The network has no link of its own: runners are behind a router.
    OffLink,
    /// Nobody yet, though somebody must be there.
    Nobody,
}

/// Who sees machines.
pub(crate) trait Machines: Send + Sync {
    /// True when the address lies in a runner network and can hold a lease.
    fn serves(&self, source: IpAddr) -> bool;
    /// The machine behind it at this moment.
    fn behind(&self, source: IpAddr) -> Pending<'_, Seen>;
}

/// The kernel's view of the runner links.
pub(crate) struct Links {
    pub(crate) monitor: Arc<Monitor>,
    /// The networks with their interfaces.
    pub(crate) networks: Vec<(Network, String)>,
}

/// The network that a source lies in: longest prefix, as the lease table has it.
fn network_of(networks: &[(Network, String)], source: IpAddr) -> Option<&(Network, String)> {
    let covering = networks.iter().filter_map(|one| {
        let ranges = one.0.ranges.iter().filter(|range| range.contains(&source));
        let prefix = ranges.map(IpNet::prefix_len).max()?;
        Some((prefix, one))
    });
    covering.max_by_key(|(prefix, _)| *prefix).map(|(_, one)| one)
}

/// The same link-local address may be another machine's on each link, so it holds no lease.
fn serves(networks: &[(Network, String)], source: IpAddr) -> bool {
    let scoped = matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !scoped && network_of(networks, source).is_some()
}

impl Links {
    /// The machine behind a source at this moment, as the lease table takes it: for one of which it knows nothing yet.
    /// `None` when the kernel doesn't know it either, or has no machines to show there.
    pub(crate) fn neighbour(&self, source: IpAddr) -> Option<Neighbour> {
        let (network, interface) = network_of(&self.networks, source)?;
        let index = self
            .monitor
            .snapshot()
            .interface(interface)
            .map(|one| one.index)?;
        let mac = ask::machine_at(index, source).unwrap_or_else(|error| {
            tracing::warn!(%source, %error, "the kernel can't be asked for a machine");
            None
        })?;
        Some(Neighbour {
            address: source,
            mac,
            network: network.name.clone(),
        })
    }

    async fn look(&self, source: IpAddr) -> Seen {
        let Some((network, interface)) = network_of(&self.networks, source) else {
            return Seen::Nobody;
        };
        if !network.adjacent {
            return Seen::OffLink;
        }
        let snapshot = self.monitor.snapshot();
        let Some(interface) = snapshot.interface(interface) else {
            return Seen::Nobody;
        };
        // The machine spoke a moment ago; the snapshot may be of before.
        let machine = match self.monitor.lookup_neighbour(interface.index, source).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%source, error = chain(&error), "the kernel can't be asked for a machine");
                snapshot.mac_of(interface.index, source)
            }
        };
        machine.map_or(Seen::Nobody, Seen::Machine)
    }
}

impl Machines for Links {
    fn serves(&self, source: IpAddr) -> bool {
        serves(&self.networks, source)
    }

    fn behind(&self, source: IpAddr) -> Pending<'_, Seen> {
        Box::pin(self.look(source))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tidegate_policy::subject::RunnerKind;

    use super::*;

    #[test]
    fn a_source_is_of_the_narrowest_network_around_it() {
        let network = |name: &str, ranges: &[&str]| {
            let network = Network {
                name: name.into(),
                cluster: "".into(),
                ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
                runners: RunnerKind::Ephemeral,
                min_assurance: None,
                adjacent: true,
            };
            (network, format!("{name}0"))
        };
        let networks = [
            network("wide", &["10.77.0.0/16", "fe80::/64"]),
            network("narrow", &["10.77.1.0/24", "fd77:1::/64"]),
        ];
        for (source, want) in [
            ("10.77.1.2", Some("narrow0")),
            ("10.77.2.2", Some("wide0")),
            ("fd77:1::2", Some("narrow0")),
            ("10.78.0.1", None),
            ("127.0.0.1", None),
        ] {
            let found = network_of(&networks, source.parse().unwrap());
            assert_eq!(found.map(|(_, interface)| interface.as_str()), want, "{source}");
            assert_eq!(
                serves(&networks, source.parse().unwrap()),
                want.is_some(),
                "{source}"
            );
        }
        assert!(!serves(&networks, "fe80::2".parse().unwrap()));
    }
}
