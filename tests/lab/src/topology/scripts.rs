//! Owns the lines of `ip -batch` that give the lab's machines their addresses,
//! routes and bridges. Text only; `Topology` gives it to the machines.

use std::fmt::Write as _;

use crate::plan;

/// The host part of the second gateway's MACs.
const SECOND: usize = 0xfe;

/// The bridge's port for a runner.
pub(super) fn port(network: usize, index: usize) -> String {
    format!("port{network}-{index}")
}

/// The bridge's port for gateway 1 or 2, when the bridge is not in a gateway.
pub(super) fn gateway_port(network: usize, number: usize) -> String {
    format!("gw{network}-{number}")
}

/// Locally administered, and the same in every lab: `00` is the gateway.
fn mac(network: usize, host: usize) -> String {
    format!("02:77:{:02x}:00:00:{host:02x}", network + 1)
}

/// The internet's end of the first uplink, and every address that it plays.
pub(super) fn internet() -> String {
    let mut lines = format!(
        "link set lo up\nlink set up0 up\n\
         addr add {}/24 dev up0\naddr add {}/24 dev up0\n\
         addr add {}/64 dev up0 nodad\naddr add {}/64 dev up0 nodad\n",
        plan::NEXT_HOP_V4,
        plan::DNS_V4,
        plan::NEXT_HOP_V6,
        plan::DNS_V6
    );
    for range in plan::INTERNET_V4.iter().chain(&plan::INTERNET_V6) {
        let _infallible = writeln!(lines, "route add local {range} dev lo");
    }
    lines
}

/// A link of its own for a machine whose addresses are out of the uplink's
/// subnet.
fn internet_to(link: &str, v4: impl std::fmt::Display, v6: impl std::fmt::Display) -> String {
    format!(
        "link set {link} up\naddr add fe80::1/64 dev {link} nodad\n\
         route add {v4}/32 dev {link}\nroute add {v6}/128 dev {link}\n"
    )
}

pub(super) fn internet_to_direct() -> String {
    internet_to("direct0", plan::DIRECT_V4, plan::DIRECT_V6)
}

pub(super) fn internet_to_second_gateway() -> String {
    internet_to("up1", plan::SECOND_UPLINK_V4, plan::SECOND_UPLINK_V6)
}

pub(super) fn internet_to_control() -> String {
    let (v4, v6) = (plan::CONTROL_HOP_V4, plan::CONTROL_HOP_V6);
    format!("link set ctl0 up\naddr add {v4}/24 dev ctl0\naddr add {v6}/64 dev ctl0 nodad\n")
}

/// The other end of [`internet_to`].
fn beyond(link: &str, v4: impl std::fmt::Display, v6: impl std::fmt::Display) -> String {
    format!(
        "link set lo up\nlink set {link} up\n\
         addr add {v4}/32 dev {link}\naddr add {v6}/128 dev {link} nodad\n\
         route add default via {} dev {link} onlink\nroute add default via fe80::1 dev {link}\n",
        plan::NEXT_HOP_V4
    )
}

pub(super) fn direct() -> String {
    beyond("eth0", plan::DIRECT_V4, plan::DIRECT_V6)
}

pub(super) fn control() -> String {
    format!(
        "link set lo up\nlink set eth0 up\n\
         addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n\
         route add default via {}\nroute add default via {}\n",
        plan::CONTROL_V4,
        plan::CONTROL_V6,
        plan::CONTROL_HOP_V4,
        plan::CONTROL_HOP_V6
    )
}

pub(super) fn gateway_uplink() -> String {
    format!(
        "link set lo up\nlink set up0 up\n\
         addr add {}/24 dev up0\naddr add {}/64 dev up0 nodad\n\
         route add default via {}\nroute add default via {}\n",
        plan::GATEWAY_UPLINK_V4,
        plan::GATEWAY_UPLINK_V6,
        plan::NEXT_HOP_V4,
        plan::NEXT_HOP_V6
    )
}

/// The bridges and their ports, in the gateway: [`gateway_networks`] goes on.
pub(super) fn bridges_in_gateway(sizes: &[usize]) -> String {
    let bridges = sizes.iter().enumerate();
    bridges.map(|(network, size)| bridge(network, *size)).collect()
}

/// The bridges in a machine of their own: the gateways are ports too.
pub(super) fn bridges_of_two_gateways(sizes: &[usize]) -> String {
    let bridges = sizes.iter().enumerate().map(|(network, size)| {
        let [one, two] = [1, 2].map(|number| gateway_port(network, number));
        bridge(network, *size)
            + &format!(
                "link set {one} master runners{network} up\nlink set {two} master runners{network} up\n\
                 link set runners{network} up\n"
            )
    });
    bridges.collect()
}

fn bridge(network: usize, size: usize) -> String {
    let bridge = format!("runners{network}");
    let mut lines = format!("link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
    for index in 0..size {
        let port = port(network, index);
        let _infallible = writeln!(lines, "link set {port} master {bridge} up");
    }
    lines
}

/// The first gateway's addresses on the runner networks, on its own bridges or
/// on links to the switch.
pub(super) fn gateway_networks(count: usize) -> String {
    (0..count).fold(String::new(), |lines, network| {
        let (v4, v6) = (plan::gateway_v4(network), plan::gateway_v6(network));
        lines + &on_network(network, 0, v4, v6)
    })
}

pub(super) fn second_gateway(networks: usize) -> String {
    let uplink = beyond("up0", plan::SECOND_UPLINK_V4, plan::SECOND_UPLINK_V6);
    (0..networks).fold(uplink, |lines, network| {
        let (v4, v6) = (plan::second_gateway_v4(network), plan::second_gateway_v6(network));
        lines + &on_network(network, SECOND, v4, v6)
    })
}

fn on_network(network: usize, host: usize, v4: impl std::fmt::Display, v6: impl std::fmt::Display) -> String {
    let mac = mac(network, host);
    format!(
        "link set runners{network} address {mac}\nlink set runners{network} up\n\
         addr add {v4}/24 dev runners{network}\naddr add {v6}/64 dev runners{network} nodad\n"
    )
}

pub(super) fn runner(network: usize, index: usize) -> String {
    format!(
        "link set lo up\nlink set eth0 address {} up\n\
         addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n\
         route add default via {}\nroute add default via {}\n",
        mac(network, index + 1),
        plan::runner_v4(network, index),
        plan::runner_v6(network, index),
        plan::gateway_v4(network),
        plan::gateway_v6(network)
    )
}
