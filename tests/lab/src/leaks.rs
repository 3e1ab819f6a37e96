//! Owns the counter of leaks: packets that arrive on the internet's end of the
//! uplink with a runner's source address, whatever they carry. It counts in
//! the kernel before any filter, and works with the gateway dead.
//! Never drops or changes a packet. `Lab` drives it.

use std::process::Command;

use serde_json::Value;

use crate::error::{LabError, invalid};
use crate::{plan, tool};

/// What reached the internet from runner addresses. Always empty, or the
/// gateway leaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaks {
    /// Packets (IPv4, IPv6 and ARP) with a runner's source address.
    pub packets: u64,
    /// Up to 256 distinct `source destination protocol` of each family.
    pub seen: Vec<String>,
}

/// Starts counting on the internet's ends of the gateways' uplinks.
pub(crate) fn install(namespace: &str, uplinks: &[&str]) -> Result<(), LabError> {
    let uplinks = uplinks.join(", ");
    let (v4, v6) = (plan::RUNNERS_V4, plan::RUNNERS_V6);
    let set = |address: &str| format!("type {address} . {address} . inet_proto; size 256; flags dynamic;");
    tool::nft(
        namespace,
        &format!(
            "table netdev tidegate_lab {{
               counter leaks {{ }}
               set seen4 {{ {} }}
               set seen6 {{ {} }}
               chain arrivals {{
                 type filter hook ingress devices = {{ {uplinks} }} priority -500; policy accept;
                 ip saddr {v4} counter name leaks update @seen4 {{ ip saddr . ip daddr . meta l4proto }}
                 ip6 saddr {v6} counter name leaks update @seen6 {{ ip6 saddr . ip6 daddr . meta l4proto }}
                 arp saddr ip {v4} counter name leaks
               }}
             }}\n",
            set("ipv4_addr"),
            set("ipv6_addr")
        ),
    )
}

/// Reads the counter.
pub(crate) fn read(namespace: &str) -> Result<Leaks, LabError> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "nft", "-j"]);
    command.args(["list", "table", "netdev", "tidegate_lab"]);
    let listing = tool::feed(&mut command, b"")?;
    let listing: Value =
        serde_json::from_slice(&listing).map_err(|error| invalid("output of `nft -j`", error))?;
    let mut leaks = Leaks::default();
    for object in listing["nftables"].as_array().into_iter().flatten() {
        leaks.packets += object["counter"]["packets"].as_u64().unwrap_or_default();
        let elements = object["set"]["elem"].as_array();
        leaks.seen.extend(elements.into_iter().flatten().map(element));
    }
    Ok(leaks)
}

fn element(element: &Value) -> String {
    let parts = element["concat"].as_array().into_iter().flatten();
    let parts: Vec<_> = parts.filter_map(Value::as_str).collect();
    parts.join(" ")
}
