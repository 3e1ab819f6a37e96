//! Which machine sits behind an address of a runner network.
//!
//! Owns the question to the kernel's neighbour table; what the answer means is the lease table's. A seam, so that the
//! pages can be tried without links.

use std::net::IpAddr;
use std::sync::Arc;

use tidegate_policy::lease::Mac;
use tidegate_policy::subject::Network;

use crate::appliance::chain;
use crate::jobs::Pending;
use crate::link::Monitor;

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

impl Links {
    /// The network that a source lies in: longest prefix, as the lease table has it.
    fn network_of(&self, source: IpAddr) -> Option<&(Network, String)> {
        let prefix = |network: &Network| {
            let covering = network.ranges.iter().filter(|range| range.contains(&source));
            covering.map(|range| range.prefix_len()).max()
        };
        self.networks
            .iter()
            .filter(|(network, _)| prefix(network).is_some())
            .max_by_key(|(network, _)| prefix(network))
    }

    async fn look(&self, source: IpAddr) -> Seen {
        let Some((network, interface)) = self.network_of(source) else {
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
        // The same link-local address may be another machine's on each link, so it holds no lease.
        let scoped = matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !scoped && self.network_of(source).is_some()
    }

    fn behind(&self, source: IpAddr) -> Pending<'_, Seen> {
        Box::pin(self.look(source))
    }
}
