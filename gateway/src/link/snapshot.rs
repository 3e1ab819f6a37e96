//! One picture of the links: owns its shape and how it is built from netlink
//! messages; never asks the kernel (`monitor` does).

use std::{collections::BTreeSet, net::IpAddr};

use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use super::Mac;

/// Most neighbours kept of all runner interfaces; of more, the lowest addresses
/// stay. The kernel's own table holds 1 024 by default (`gc_thresh3`).
pub const MAX_NEIGHBOURS: usize = 65_536;

/// An interface of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it, as packet info gives it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, if it has an Ethernet one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
}

/// A machine on a runner interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// The interface it is on.
    pub interface: u32,
    /// An address it uses.
    pub address: IpAddr,
    /// Who it is on that link.
    pub mac: Mac,
}

/// What the kernel knew at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// Every interface, by index.
    pub interfaces: Vec<Interface>,
    /// Every address of the gateway itself, loopback's too: what is never dialled.
    pub local: BTreeSet<IpAddr>,
    /// The machines on the runner interfaces whose hardware address is known,
    /// sorted; at most [`MAX_NEIGHBOURS`].
    pub neighbours: Vec<Neighbour>,
}

impl LinkSnapshot {
    /// The interface of that name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The machine that uses an address on an interface.
    pub fn mac_of(&self, interface: u32, address: IpAddr) -> Option<Mac> {
        let key = |neighbour: &Neighbour| (neighbour.interface, neighbour.address);
        let at = self
            .neighbours
            .binary_search_by_key(&(interface, address), key)
            .ok()?;
        self.neighbours.get(at).map(|neighbour| neighbour.mac)
    }

    /// The addresses that one machine uses on an interface, v4 and v6.
    pub fn addresses_of(&self, interface: u32, mac: Mac) -> impl Iterator<Item = IpAddr> + '_ {
        self.neighbours
            .iter()
            .filter(move |neighbour| neighbour.interface == interface && neighbour.mac == mac)
            .map(|neighbour| neighbour.address)
    }

    pub(super) fn set_neighbours(&mut self, found: impl Iterator<Item = Neighbour>) {
        self.neighbours = found.collect();
        self.neighbours.sort_unstable();
        self.neighbours.truncate(MAX_NEIGHBOURS);
    }
}

pub(super) fn interface(message: &LinkMessage) -> Option<Interface> {
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of a hundred attributes"
        )]
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(bytes) => interface.mac = mac(bytes),
            _ => {}
        }
    }
    (!interface.name.is_empty()).then_some(interface)
}

/// On a point-to-point link `IFA_ADDRESS` is the peer's and `IFA_LOCAL` ours.
pub(super) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in &message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, open enum")]
        match attribute {
            AddressAttribute::Local(local) => return Some(*local),
            AddressAttribute::Address(found) => address = Some(*found),
            _ => {}
        }
    }
    address
}

/// A neighbour whose hardware address the kernel holds to be true or lately was.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let known = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let mut address = None;
    let mut machine = None;
    for attribute in &message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign, open enum")]
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => machine = mac(bytes),
            _ => {}
        }
    }
    known.then_some(Neighbour {
        interface: message.header.ifindex,
        address: address?,
        mac: machine?,
    })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: NeighbourState, attributes: Vec<NeighbourAttribute>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 3;
        message.header.state = state;
        message.attributes = attributes;
        message
    }

    #[test]
    fn only_neighbours_with_a_known_ethernet_address_count() {
        let full = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 77, 1, 2].into())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        ];
        let expected = Neighbour {
            interface: 3,
            address: [10, 77, 1, 2].into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
        };
        assert_eq!(
            neighbour(&entry(NeighbourState::Stale, full.clone())),
            Some(expected)
        );
        for state in [
            NeighbourState::Failed,
            NeighbourState::Incomplete,
            NeighbourState::Noarp,
        ] {
            assert_eq!(neighbour(&entry(state, full.clone())), None, "{state:?}");
        }
        let infiniband = vec![full[0].clone(), NeighbourAttribute::LinkLayerAddress(vec![0; 20])];
        assert_eq!(neighbour(&entry(NeighbourState::Reachable, infiniband)), None);
    }

    #[test]
    fn of_a_point_to_point_address_the_local_end_is_ours() {
        let mut message = AddressMessage::default();
        let peer = AddressAttribute::Address([10, 0, 0, 2].into());
        message.attributes = vec![peer, AddressAttribute::Local([10, 0, 0, 1].into())];
        assert_eq!(local_address(&message), Some([10, 0, 0, 1].into()));
        message.attributes = vec![AddressAttribute::Address(IpAddr::V6(1.into()))];
        assert_eq!(local_address(&message), Some(IpAddr::V6(1.into())));
    }

    #[test]
    fn one_machine_is_found_by_each_of_its_addresses_and_the_table_is_bounded() {
        let mut snapshot = LinkSnapshot::default();
        let neighbour = |n: u32, mac: u8| Neighbour {
            interface: 3,
            address: n.to_be_bytes().into(),
            mac: Mac([2, 0, 0, 0, 0, mac]),
        };
        let many = (0..=MAX_NEIGHBOURS as u32)
            .rev()
            .map(|n| neighbour(n, u8::from(n < 2)));
        snapshot.set_neighbours(many);
        assert_eq!(snapshot.neighbours.len(), MAX_NEIGHBOURS);
        assert_eq!(
            snapshot.mac_of(3, [0, 0, 0, 1].into()),
            Some(Mac([2, 0, 0, 0, 0, 1]))
        );
        assert_eq!(snapshot.mac_of(4, [0, 0, 0, 1].into()), None);
        let both: Vec<_> = snapshot.addresses_of(3, Mac([2, 0, 0, 0, 0, 1])).collect();
        assert_eq!(both, [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0, 0, 0, 1])]);
    }
}
