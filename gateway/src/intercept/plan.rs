//! What is to be intercepted, as typed input: owns the plan's types and their
//! checks; never touches the kernel. `gateway` builds it from the configuration
//! and hands it to [`install`](super::install).

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Longest name the kernel gives an interface (`IFNAMSIZ` less its NUL).
const INTERFACE_NAME_MAX: usize = 15;

/// Most networks in one plan; every rule that names them stays one set.
pub const MAX_NETWORKS: usize = 64;

/// Why a plan can't be installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The name is empty, longer than 15 bytes, or holds a character that the
    /// kernel or nftables reads as something else.
    #[error("{0:?} is not an interface name (1 to 15 of letters, digits, '-', '_', '.', ':', '@')")]
    InterfaceName(String),
    /// A plan intercepts at least one network.
    #[error("no networks to intercept")]
    NoNetworks,
    /// More than [`MAX_NETWORKS`].
    #[error("{0} networks, at most {MAX_NETWORKS}")]
    TooManyNetworks(usize),
    /// Two networks on one interface could not be told apart.
    #[error("networks {0:?} and {1:?} share the interface {2}")]
    SharedInterface(String, String, InterfaceName),
    /// The loopback interface carries the gateway's own delivery.
    #[error("network {0:?} can't be on the loopback interface")]
    Loopback(String),
    /// Port 0 is not a listener.
    #[error("the {0} listener has port 0")]
    NoPort(&'static str),
    /// Zero, or overlapping bits.
    #[error("marks {0:#x} (divert) and {1:#x} (spoof) must be two different single bits")]
    Marks(u32, u32),
    /// 0 and 253 to 255 are the kernel's own tables.
    #[error("routing table {0} is reserved by the kernel")]
    Table(u32),
    /// The two rules must lie between the kernel's local and main tables.
    #[error("rule priority {0} must be between 1 and 32763")]
    Priority(u32),
}

/// The name of a network interface, safe to stand quoted in a ruleset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Accepts 1 to 15 ASCII letters, digits and `-_.:@`.
    ///
    /// Narrower than the kernel, which takes anything without a slash or a
    /// space: a `*` would be a wildcard and a `"` an escape in a ruleset.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let fits = (1..=INTERFACE_NAME_MAX).contains(&text.len());
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b));
        if !fits || !plain || text == "." || text == ".." {
            return Err(PlanError::InterfaceName(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One runner-facing network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Its name in the configuration; only for messages.
    pub name: String,
    /// The interface its runners arrive on.
    pub interface: InterfaceName,
    /// The gateway's own addresses on that interface.
    pub addresses: Vec<IpAddr>,
    /// Where the network's IPv4 DNS sockets are bound, port 53.
    pub dns_v4: Option<Ipv4Addr>,
    /// Where the network's IPv6 DNS sockets are bound, port 53.
    pub dns_v6: Option<Ipv6Addr>,
}

impl NetworkPlan {
    /// A network whose DNS sockets stand on the first address of each family
    /// that is not link-local (a link-local socket would need a scope).
    pub fn new(name: &str, interface: InterfaceName, addresses: Vec<IpAddr>) -> Self {
        let dns_v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let dns_v6 = addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => Some(*v6),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        });
        Self {
            name: name.to_owned(),
            interface,
            addresses,
            dns_v4,
            dns_v6,
        }
    }
}

/// The numbers by which diverted packets are steered to local delivery.
///
/// They live in the network namespace, so gateways in different namespaces
/// don't meet; the defaults keep clear of the low marks and tables that other
/// software likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    /// Mark bit of a packet that a transparent socket was found for.
    pub divert_mark: u32,
    /// Mark bit of a datagram whose MAC is not its source's.
    pub spoof_mark: u32,
    /// Routing table that delivers everything locally.
    pub table: u32,
    /// Priority of the rule that looks into [`table`](Self::table); the two
    /// after it are taken as well.
    pub priority: u32,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            divert_mark: 0x0100_0000,
            spoof_mark: 0x0200_0000,
            table: 7453,
            priority: 7453,
        }
    }
}

/// Everything that interception needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptPlan {
    /// The runner-facing networks, 1 to [`MAX_NETWORKS`].
    pub networks: Vec<NetworkPlan>,
    /// Port of the proxy's transparent TCP listeners, on 127.0.0.1 and ::1.
    pub tcp_port: u16,
    /// Port of the proxy's transparent UDP sockets, on 127.0.0.1 and ::1.
    pub udp_port: u16,
    /// Where the runner API listens (TCP).
    pub runner_api: Vec<SocketAddr>,
    /// Whether IPv6 connections to elsewhere are refused before they are accepted:
    /// the gateway has no usable IPv6 upstream, and only a refused connection makes
    /// clients fall back to IPv4.
    pub refuse_v6_tcp: bool,
    /// Whether the gateway dials with the runner's own address (`egress: preserve`):
    /// then answers from elsewhere to its sockets are steered to them as well.
    pub preserve_source: bool,
    /// Marks, table and priority.
    pub steering: Steering,
}

impl InterceptPlan {
    /// Refuses a plan that could not be carried out as written.
    pub fn check(&self) -> Result<(), PlanError> {
        match self.networks.len() {
            0 => return Err(PlanError::NoNetworks),
            1..=MAX_NETWORKS => {}
            more => return Err(PlanError::TooManyNetworks(more)),
        }
        self.check_interfaces()?;
        if self.tcp_port == 0 {
            return Err(PlanError::NoPort("TCP"));
        }
        if self.udp_port == 0 {
            return Err(PlanError::NoPort("UDP"));
        }
        self.steering.check()
    }

    fn check_interfaces(&self) -> Result<(), PlanError> {
        for (position, network) in self.networks.iter().enumerate() {
            if network.interface.as_str() == "lo" {
                return Err(PlanError::Loopback(network.name.clone()));
            }
            let earlier = self.networks[..position]
                .iter()
                .find(|other| other.interface == network.interface);
            if let Some(other) = earlier {
                return Err(PlanError::SharedInterface(
                    other.name.clone(),
                    network.name.clone(),
                    network.interface.clone(),
                ));
            }
        }
        Ok(())
    }

    /// The runner interfaces, in the plan's order.
    pub fn interfaces(&self) -> impl Iterator<Item = &InterfaceName> {
        self.networks.iter().map(|network| &network.interface)
    }

    /// Every runner-facing address of the gateway, without repeats.
    pub(super) fn own_addresses(&self) -> Vec<IpAddr> {
        let mut seen = HashSet::new();
        self.networks
            .iter()
            .flat_map(|network| network.addresses.iter().copied())
            .filter(|address| seen.insert(*address))
            .collect()
    }
}

impl Steering {
    fn check(&self) -> Result<(), PlanError> {
        let single = |mark: u32| mark.is_power_of_two();
        if !single(self.divert_mark) || !single(self.spoof_mark) || self.divert_mark == self.spoof_mark {
            return Err(PlanError::Marks(self.divert_mark, self.spoof_mark));
        }
        if matches!(self.table, 0 | 253..=255) {
            return Err(PlanError::Table(self.table));
        }
        if !(1..=32_763).contains(&self.priority) {
            return Err(PlanError::Priority(self.priority));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn plan() -> InterceptPlan {
        let network = |name: &str, interface: &str| {
            NetworkPlan::new(name, InterfaceName::parse(interface).unwrap(), Vec::new())
        };
        InterceptPlan {
            networks: vec![network("a", "run0"), network("b", "run1")],
            tcp_port: 15001,
            udp_port: 15001,
            runner_api: Vec::new(),
            refuse_v6_tcp: false,
            preserve_source: false,
            steering: Steering::default(),
        }
    }

    #[test]
    fn interface_names_that_a_ruleset_would_misread_are_refused() {
        for bad in [
            "",
            "eth*",
            "a b",
            "a\"b",
            "a/b",
            ".",
            "..",
            "sixteen-letters-",
            "é",
            "a\nb",
            "{a}",
        ] {
            assert_eq!(
                InterfaceName::parse(bad),
                Err(PlanError::InterfaceName(bad.to_owned()))
            );
        }
        for good in ["runners0", "br-ci.100", "a", "fifteen-letters"] {
            assert_eq!(InterfaceName::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn dns_stands_on_the_first_address_that_needs_no_scope() {
        let addresses = ["fe80::1", "10.77.1.1", "fd77:1::1", "10.77.1.2"];
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let network = NetworkPlan::new("n", InterfaceName::parse("r0").unwrap(), addresses);
        assert_eq!(network.dns_v4, Some("10.77.1.1".parse().unwrap()));
        assert_eq!(network.dns_v6, Some("fd77:1::1".parse().unwrap()));
    }

    #[test]
    fn a_plan_names_what_is_wrong_with_it() {
        assert_eq!(plan().check(), Ok(()));

        let mut none = plan();
        none.networks.clear();
        assert_eq!(none.check(), Err(PlanError::NoNetworks));

        let mut many = plan();
        many.networks = vec![many.networks[0].clone(); MAX_NETWORKS + 1];
        assert_eq!(many.check(), Err(PlanError::TooManyNetworks(65)));

        let mut shared = plan();
        shared.networks[1].interface = shared.networks[0].interface.clone();
        assert!(matches!(shared.check(), Err(PlanError::SharedInterface(..))));

        let mut loopback = plan();
        loopback.networks[0].interface = InterfaceName::parse("lo").unwrap();
        assert_eq!(loopback.check(), Err(PlanError::Loopback("a".to_owned())));

        let mut port = plan();
        port.udp_port = 0;
        assert_eq!(port.check(), Err(PlanError::NoPort("UDP")));

        let mut marks = plan();
        marks.steering.spoof_mark = marks.steering.divert_mark;
        assert!(matches!(marks.check(), Err(PlanError::Marks(..))));

        let mut table = plan();
        table.steering.table = 254;
        assert_eq!(table.check(), Err(PlanError::Table(254)));

        let mut priority = plan();
        priority.steering.priority = 0;
        assert_eq!(priority.check(), Err(PlanError::Priority(0)));
    }
}
