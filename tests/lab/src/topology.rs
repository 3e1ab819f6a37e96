//! Owns the shape of the lab: which namespaces there are and how veths,
//! bridges, addresses and routes join them. Makes them with a handful of
//! `ip -batch` calls; removes nothing (`claim` does). `Lab` drives it.
//!
//! ```text
//! runner ──┐
//! runner ──┴─ runners0 [ gw ] up0 ───── up0 [ net ] direct0 ─── [ direct ]
//! ```

use std::fmt::Write as _;
use std::path::Path;

use crate::claim::Claim;
use crate::error::LabError;
use crate::machine::{Machine, Plan};
use crate::{netns, plan, tool};

/// The machines of a lab.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) gw: Machine,
    pub(crate) net: Machine,
    pub(crate) direct: Option<Machine>,
    /// By network, then by index.
    pub(crate) runners: Vec<Vec<Machine>>,
}

impl Topology {
    /// Makes all namespaces and joins them. `sizes` are the runners per network.
    pub(crate) fn build(claim: &Claim, sizes: &[usize], direct: bool) -> Result<Self, LabError> {
        let topology = Self::plan(claim, sizes, direct)?;
        topology.make_namespaces()?;
        topology.join()?;
        topology.address()?;
        Ok(topology)
    }

    fn plan(claim: &Claim, sizes: &[usize], direct: bool) -> Result<Self, LabError> {
        let dir = claim.dir();
        let runner = |network: usize, index: usize| {
            let role = format!("runner{network}-{index}");
            let mut plan = machine_plan(claim.namespace(&role), &dir, "eth0");
            plan.v4 = plan::runner_v4(network, index);
            plan.v6 = plan::runner_v6(network, index);
            plan.resolvers = vec![plan::gateway_v4(network).to_string()];
            Machine::new(plan)
        };
        let runners = sizes.iter().enumerate();
        let runners = runners.map(|(network, size)| (0..*size).map(|i| runner(network, i)).collect());
        let mut direct_plan = machine_plan(claim.namespace("direct"), &dir, "eth0");
        direct_plan.v4 = plan::DIRECT_V4;
        direct_plan.v6 = plan::DIRECT_V6;
        let mut gw = machine_plan(claim.namespace("gw"), &dir, "up0");
        gw.v4 = plan::GATEWAY_UPLINK_V4;
        gw.v6 = plan::GATEWAY_UPLINK_V6;
        Ok(Self {
            gw: Machine::new(gw)?,
            net: Machine::new(machine_plan(claim.namespace("net"), &dir, "up0"))?,
            direct: direct.then(|| Machine::new(direct_plan)).transpose()?,
            runners: runners.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn machines(&self) -> impl Iterator<Item = &Machine> {
        let ends = [&self.gw, &self.net].into_iter().chain(&self.direct);
        ends.chain(self.runners.iter().flatten())
    }

    /// Kernel parameters come before the links: a link takes the defaults of
    /// the moment it is made.
    fn make_namespaces(&self) -> Result<(), LabError> {
        let script = self.machines().fold(String::new(), |mut script, machine| {
            let _infallible = writeln!(script, "netns add {}", machine.name());
            script
        });
        tool::ip(None, &script)?;
        for machine in self.machines() {
            netns::enter(machine.name(), set_defaults)??;
        }
        // The internet's servers bind addresses that only a route makes local.
        self.net.sysctl("net/ipv6/ip_nonlocal_bind", "1")
    }

    /// Veths are born in their namespaces: the host never sees one.
    fn join(&self) -> Result<(), LabError> {
        let (gw, net) = (self.gw.name(), self.net.name());
        let mut script = format!("link add up0 netns {gw} type veth peer name up0 netns {net}\n");
        let mut veth = |end: &str, name: &str, far_end: &str| {
            let far = format!("type veth peer name {name} netns {far_end}");
            let _infallible = writeln!(script, "link add eth0 netns {end} {far}");
        };
        for (network, runners) in self.runners.iter().enumerate() {
            for (index, runner) in runners.iter().enumerate() {
                veth(runner.name(), &port(network, index), gw);
            }
        }
        if let Some(direct) = &self.direct {
            veth(direct.name(), "direct0", net);
        }
        tool::ip(None, &script)
    }

    fn address(&self) -> Result<(), LabError> {
        self.net.ip(&internet_script(self.direct.is_some()))?;
        self.gw.ip(&gateway_script(&self.runners))?;
        for (network, runners) in self.runners.iter().enumerate() {
            for (index, runner) in runners.iter().enumerate() {
                runner.ip(&runner_script(network, index))?;
            }
        }
        match &self.direct {
            Some(direct) => direct.ip(&direct_script()),
            None => Ok(()),
        }
    }
}

fn machine_plan(namespace: String, dir: &Path, interface: &'static str) -> Plan {
    Plan {
        namespace,
        v4: plan::NEXT_HOP_V4,
        v6: plan::NEXT_HOP_V6,
        interface,
        resolvers: vec![plan::DNS_V4.to_string()],
        lab_dir: dir.to_owned(),
    }
}

/// A fresh namespace copies some IPv4 settings from the host, whose
/// forwarding or filters must not leak into the lab.
fn set_defaults() -> Result<(), LabError> {
    use crate::error::During as _;
    const SETTINGS: [(&str, &str); 9] = [
        ("ipv4/ip_forward", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        // Duplicate detection would hold every address back for a second.
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
    ];
    for (key, value) in SETTINGS {
        std::fs::write(format!("/proc/sys/net/{key}"), value).during(format!("set {key}"))?;
    }
    Ok(())
}

/// The gateway's bridge port for a runner.
fn port(network: usize, index: usize) -> String {
    format!("port{network}-{index}")
}

/// Locally administered, and the same in every lab: `00` is the gateway.
fn mac(network: usize, host: usize) -> String {
    format!("02:77:{:02x}:00:00:{host:02x}", network + 1)
}

fn internet_script(direct: bool) -> String {
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
    if direct {
        // Its own link, its addresses out of the uplink's subnet.
        let (v4, v6) = (plan::DIRECT_V4, plan::DIRECT_V6);
        let _infallible = writeln!(
            lines,
            "link set direct0 up\naddr add fe80::1/64 dev direct0 nodad\n\
             route add {v4}/32 dev direct0\nroute add {v6}/128 dev direct0"
        );
    }
    lines
}

fn gateway_script(runners: &[Vec<Machine>]) -> String {
    let mut lines = format!(
        "link set lo up\nlink set up0 up\n\
         addr add {}/24 dev up0\naddr add {}/64 dev up0 nodad\n\
         route add default via {}\nroute add default via {}\n",
        plan::GATEWAY_UPLINK_V4,
        plan::GATEWAY_UPLINK_V6,
        plan::NEXT_HOP_V4,
        plan::NEXT_HOP_V6
    );
    for (network, runners) in runners.iter().enumerate() {
        let bridge = format!("runners{network}");
        let _infallible = writeln!(
            lines,
            "link add {bridge} address {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {bridge} up\naddr add {}/24 dev {bridge}\naddr add {}/64 dev {bridge} nodad",
            mac(network, 0),
            plan::gateway_v4(network),
            plan::gateway_v6(network)
        );
        for index in 0..runners.len() {
            let port = port(network, index);
            let _infallible = writeln!(lines, "link set {port} master {bridge} up");
        }
    }
    lines
}

fn runner_script(network: usize, index: usize) -> String {
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

fn direct_script() -> String {
    format!(
        "link set lo up\nlink set eth0 up\n\
         addr add {}/32 dev eth0\naddr add {}/128 dev eth0 nodad\n\
         route add default via {} dev eth0 onlink\nroute add default via fe80::1 dev eth0\n",
        plan::DIRECT_V4,
        plan::DIRECT_V6,
        plan::NEXT_HOP_V4
    )
}
