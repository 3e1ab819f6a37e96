//! From configured networks and the machine's interfaces to what decisions and interception need.
//!
//! Reads the interfaces' addresses; changes nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use hashbrown::HashSet;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, SockaddrStorage};
use thiserror::Error;
use tidegate_policy::subject::Network;

use crate::config::NetworkConfig;
use crate::intercept::{InterfaceName, NetworkPlan, PlanError};

/// A network that can't be served as configured.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The kernel does not tell its interfaces.
    #[error("can't list the machine's interfaces")]
    List(#[source] nix::Error),
    /// The interface is not there, or has no address.
    #[error(
        "network {network}: the interface {interface} does not exist or has no address; give it one before starting the gateway"
    )]
    NoAddress {
        /// The network.
        network: String,
        /// Its interface.
        interface: String,
    },
    /// The interface's name is not one.
    #[error("network {network}")]
    Name {
        /// The network.
        network: String,
        /// Why.
        #[source]
        source: PlanError,
    },
}

/// One network, for decisions and for interception.
pub(crate) struct Served {
    pub(crate) network: Network,
    pub(crate) plan: NetworkPlan,
}

/// Looks up every configured network's addresses.
pub(crate) fn resolve(configs: &[NetworkConfig]) -> Result<Vec<Served>, NetworkError> {
    let machine = Machine::read()?;
    configs.iter().map(|config| serve(config, &machine)).collect()
}

fn serve(config: &NetworkConfig, machine: &Machine) -> Result<Served, NetworkError> {
    let own: Vec<IpNet> = machine
        .addresses
        .iter()
        .filter(|(interface, _)| *interface == config.interface)
        .map(|(_, net)| *net)
        .collect();
    if own.is_empty() {
        return Err(NetworkError::NoAddress {
            network: config.name.to_string(),
            interface: config.interface.clone(),
        });
    }
    let interface = InterfaceName::parse(&config.interface).map_err(|source| NetworkError::Name {
        network: config.name.to_string(),
        source,
    })?;
    Ok(Served {
        network: Network {
            name: config.name.clone(),
            cluster: config.cluster.clone(),
            ranges: own.iter().map(IpNet::trunc).collect(),
            runners: config.runners,
            min_assurance: config.min_assurance,
            adjacent: machine.adjacent.contains(&config.interface),
        },
        plan: NetworkPlan::new(&config.name, interface, own.iter().map(IpNet::addr).collect()),
    })
}

/// What the kernel says of the machine's interfaces.
struct Machine {
    /// Every (interface, address/prefix).
    addresses: Vec<(String, IpNet)>,
    /// Interfaces with a hardware address: runners on them are neighbours.
    adjacent: HashSet<String>,
}

impl Machine {
    fn read() -> Result<Self, NetworkError> {
        let mut machine = Self {
            addresses: Vec::new(),
            adjacent: HashSet::new(),
        };
        for one in getifaddrs().map_err(NetworkError::List)? {
            let Some(address) = one.address else { continue };
            if address
                .as_link_addr()
                .and_then(LinkAddr::addr)
                .is_some_and(|mac| mac != [0; 6])
            {
                machine.adjacent.insert(one.interface_name);
            } else if let Some(net) = one.netmask.and_then(|mask| masked(&address, &mask)) {
                machine.addresses.push((one.interface_name, net));
            }
        }
        Ok(machine)
    }
}

fn masked(address: &SockaddrStorage, mask: &SockaddrStorage) -> Option<IpNet> {
    let (address, mask) = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => (IpAddr::V4(v4.ip()), IpAddr::V4(mask.as_sockaddr_in()?.ip())),
        (None, Some(v6)) => (IpAddr::V6(v6.ip()), IpAddr::V6(mask.as_sockaddr_in6()?.ip())),
        (None, None) => return None,
    };
    IpNet::with_netmask(address, mask).ok()
}

/// True when the machine has a route to the IPv6 internet. Connecting a UDP socket sends nothing: it only
/// asks the routing table.
pub(crate) fn has_v6_route() -> bool {
    // Any global unicast address (RFC 4291 §2.4) will do.
    let anywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1)), 9);
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(anywhere))
        .is_ok()
}
