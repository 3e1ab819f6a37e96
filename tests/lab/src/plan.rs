//! Owns the lab's address plan: who has which address. Constants and
//! arithmetic only; never makes anything. Topology, servers and tests read it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateway's address on its uplink.
pub const GATEWAY_UPLINK_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The gateway's IPv6 address on its uplink.
pub const GATEWAY_UPLINK_V6: Ipv6Addr = v6(0x100, 1);
/// The second gateway's address on its uplink.
pub const SECOND_UPLINK_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The second gateway's IPv6 address on its uplink.
pub const SECOND_UPLINK_V6: Ipv6Addr = v6(0x100, 2);
/// The internet's end of the uplink: the gateway's next hop.
pub const NEXT_HOP_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// The internet's IPv6 end of the uplink.
pub const NEXT_HOP_V6: Ipv6Addr = v6(0x100, 0xff);
/// The resolver that the gateway uses: UDP and TCP 53, on demand DoT and DoH.
pub const DNS_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
/// The same resolver over IPv6.
pub const DNS_V6: Ipv6Addr = v6(0x100, 0x53);
/// A resolver of somebody else, with answers of its own.
pub const FOREIGN_DNS_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The foreign resolver over IPv6.
pub const FOREIGN_DNS_V6: Ipv6Addr = v6(0x300, 0x53);
/// The machine that sits on the internet without any gateway.
pub const DIRECT_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
/// The direct machine over IPv6.
pub const DIRECT_V6: Ipv6Addr = v6(0x100, 0x200);
/// The control plane's name.
pub const CONTROL_NAME: &str = "control.test";
/// The control plane's address, in a private network behind the internet: a
/// gateway goes there itself, a runner's name with this answer is refused.
pub const CONTROL_V4: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 10);
/// The control plane's IPv6 address.
pub const CONTROL_V6: Ipv6Addr = Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, 0x10);
/// The port that the control plane listens at.
pub const CONTROL_PORT: u16 = 8443;
/// The control plane's next hop.
pub(crate) const CONTROL_HOP_V4: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
/// The control plane's IPv6 next hop.
pub(crate) const CONTROL_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, 1);

/// Ranges in which every address is the internet's own: servers may use any.
pub(crate) const INTERNET_V4: [&str; 2] = ["192.0.2.0/24", "203.0.113.0/24"];
/// IPv6 ranges in which every address is the internet's own.
pub(crate) const INTERNET_V6: [&str; 2] = ["2001:db8:200::/64", "2001:db8:300::/64"];
/// Where every runner network lies; nothing from it may reach the internet.
pub(crate) const RUNNERS_V4: &str = "10.77.0.0/16";
/// Where every runner network's IPv6 lies.
pub(crate) const RUNNERS_V6: &str = "fd77::/16";

/// Runner networks and runners per network that the plan has room for.
pub(crate) const LIMIT: usize = 100;

/// The gateway's address on runner network `network` (from 0): 10.77.1.1, …
pub fn gateway_v4(network: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, network as u8 + 1, 1)
}

/// The gateway's IPv6 address on runner network `network`: fd77:1::1, …
pub fn gateway_v6(network: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, network as u16 + 1, 0, 0, 0, 0, 0, 1)
}

/// The second gateway's address on runner network `network`: 10.77.1.254, …
pub fn second_gateway_v4(network: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, network as u8 + 1, 254)
}

/// The second gateway's IPv6 address on runner network `network`: fd77:1::fe, …
pub fn second_gateway_v6(network: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, network as u16 + 1, 0, 0, 0, 0, 0, 0xfe)
}

/// The address of runner `index` (from 0) of a network: 10.77.1.2, …
pub fn runner_v4(network: usize, index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, network as u8 + 1, index as u8 + 2)
}

/// The IPv6 address of runner `index` of a network: fd77:1::2, …
pub fn runner_v6(network: usize, index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, network as u16 + 1, 0, 0, 0, 0, 0, index as u16 + 2)
}

/// Both addresses of the internet's host `number`: 192.0.2.N, 2001:db8:200::N
/// with the decimal digits of `number` (host 10 is `::10`).
pub fn site(number: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(192, 0, 2, number);
    [v4.into(), v6(0x200, spelled(number)).into()]
}

/// Both addresses of a host of the second range: 203.0.113.N, 2001:db8:300::N.
pub fn foreign_site(number: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(203, 0, 113, number);
    [v4.into(), v6(0x300, spelled(number)).into()]
}

const fn v6(subnet: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, subnet, 0, 0, 0, 0, host)
}

/// The group whose hexadecimal digits read like `number` in decimal.
const fn spelled(number: u8) -> u16 {
    let number = number as u16;
    number / 100 * 0x100 + number / 10 % 10 * 0x10 + number % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_read_alike_in_both_families() {
        assert_eq!(site(66)[1].to_string(), "2001:db8:200::66");
        assert_eq!(foreign_site(253)[1].to_string(), "2001:db8:300::253");
        assert_eq!(runner_v6(1, 0).to_string(), "fd77:2::2");
    }
}
