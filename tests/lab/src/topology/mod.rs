//! Owns the shape of the lab: which namespaces there are and how veths and
//! bridges join them. Makes them with a handful of `ip -batch` calls; which
//! addresses they get is `scripts`'. Removes nothing (`claim` does). `Lab`
//! drives it.
//!
//! ```text
//! runner ──┐
//! runner ──┴─ runners0 [ gw ] up0 ───── up0 [ net ] direct0 ─── [ direct ]
//!                                           [     ] ctl0 ────── [ ctl ]
//! ```
//!
//! With a second gateway the bridges are in a machine of their own:
//!
//! ```text
//! runner ──┐ runners0      ┌─ runners0 [ gw  ] up0 ───── up0 [ net ]
//! runner ──┴───────[ lan ]─┴─ runners0 [ gw2 ] up0 ───── up1 [     ]
//! ```

mod scripts;

use std::fmt::Write as _;
use std::path::Path;

use self::scripts::{gateway_port, port};
use crate::claim::Claim;
use crate::error::LabError;
use crate::machine::{Machine, Plan};
use crate::{netns, plan, tool};

/// Which machines a lab shall have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// The runners of each network.
    pub(crate) networks: Vec<usize>,
    pub(crate) direct: bool,
    pub(crate) control: bool,
    pub(crate) second_gateway: bool,
}

/// The machines of a lab.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) gw: Machine,
    pub(crate) gw2: Option<Machine>,
    /// Joins the runner networks when there are two gateways.
    lan: Option<Machine>,
    pub(crate) net: Machine,
    pub(crate) direct: Option<Machine>,
    pub(crate) ctl: Option<Machine>,
    /// By network, then by index.
    pub(crate) runners: Vec<Vec<Machine>>,
}

impl Topology {
    /// Makes all namespaces and joins them.
    pub(crate) fn build(claim: &Claim, shape: &Shape) -> Result<Self, LabError> {
        let topology = Self::plan(claim, shape)?;
        topology.make_namespaces()?;
        topology.join()?;
        topology.address()?;
        Ok(topology)
    }

    fn plan(claim: &Claim, shape: &Shape) -> Result<Self, LabError> {
        let dir = claim.dir();
        let machine = |role: &str, interface| machine_plan(claim.namespace(role), &dir, interface);
        let runner = |network: usize, index: usize| {
            let mut plan = machine(&format!("runner{network}-{index}"), "eth0");
            plan.v4 = plan::runner_v4(network, index);
            plan.v6 = plan::runner_v6(network, index);
            plan.network = Some(network);
            plan.resolvers = vec![plan::gateway_v4(network).to_string()];
            Machine::new(plan)
        };
        let runners = shape.networks.iter().enumerate();
        let runners = runners.map(|(network, size)| (0..*size).map(|i| runner(network, i)).collect());
        let at = |role, interface, v4, v6| {
            let mut plan = machine(role, interface);
            (plan.v4, plan.v6) = (v4, v6);
            Machine::new(plan)
        };
        let gw2 = || at("gw2", "up0", plan::SECOND_UPLINK_V4, plan::SECOND_UPLINK_V6);
        let lan = || Machine::new(machine("lan", "runners0"));
        let direct = || at("direct", "eth0", plan::DIRECT_V4, plan::DIRECT_V6);
        let ctl = || at("ctl", "eth0", plan::CONTROL_V4, plan::CONTROL_V6);
        Ok(Self {
            gw: at("gw", "up0", plan::GATEWAY_UPLINK_V4, plan::GATEWAY_UPLINK_V6)?,
            gw2: shape.second_gateway.then(gw2).transpose()?,
            lan: shape.second_gateway.then(lan).transpose()?,
            net: Machine::new(machine("net", "up0"))?,
            direct: shape.direct.then(direct).transpose()?,
            ctl: shape.control.then(ctl).transpose()?,
            runners: runners.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn machines(&self) -> impl Iterator<Item = &Machine> {
        let some = [&self.gw2, &self.lan, &self.direct, &self.ctl]
            .into_iter()
            .flatten();
        let ends = [&self.gw, &self.net].into_iter().chain(some);
        ends.chain(self.runners.iter().flatten())
    }

    /// The internet's ends of the gateways' uplinks.
    pub(crate) fn uplinks(&self) -> Vec<&'static str> {
        let second = self.gw2.as_ref().map(|_| "up1");
        std::iter::once("up0").chain(second).collect()
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
        if self.ctl.is_some() {
            // Else the internet's servers are all that is there to reach.
            self.net.sysctl("net/ipv4/ip_forward", "1")?;
            self.net.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        // The internet's servers bind addresses that only a route makes local.
        self.net.sysctl("net/ipv6/ip_nonlocal_bind", "1")
    }

    /// The machine that has the runner networks' bridges.
    fn switch(&self) -> &Machine {
        self.lan.as_ref().unwrap_or(&self.gw)
    }

    /// Veths are born in their namespaces: the host never sees one.
    fn join(&self) -> Result<(), LabError> {
        let (net, switch) = (self.net.name(), self.switch().name());
        let mut script = String::new();
        let mut veth = |(end, name): (&Machine, &str), (far_end, far_name): (&str, &str)| {
            let far = format!("type veth peer name {far_name} netns {far_end}");
            let _infallible = writeln!(script, "link add {name} netns {} {far}", end.name());
        };
        veth((&self.gw, "up0"), (net, "up0"));
        for (network, runners) in self.runners.iter().enumerate() {
            for (index, runner) in runners.iter().enumerate() {
                veth((runner, "eth0"), (switch, &port(network, index)));
            }
            if let Some(second) = &self.gw2 {
                for (number, gateway) in [(1, &self.gw), (2, second)] {
                    let name = format!("runners{network}");
                    veth((gateway, &name), (switch, &gateway_port(network, number)));
                }
            }
        }
        for (end, far) in [(&self.direct, "direct0"), (&self.ctl, "ctl0")] {
            if let Some(end) = end {
                veth((end, "eth0"), (net, far));
            }
        }
        if let Some(second) = &self.gw2 {
            veth((second, "up0"), (net, "up1"));
        }
        tool::ip(None, &script)
    }

    fn address(&self) -> Result<(), LabError> {
        let sizes: Vec<_> = self.runners.iter().map(Vec::len).collect();
        let mut internet = scripts::internet();
        if let Some(direct) = &self.direct {
            internet += &scripts::internet_to_direct();
            direct.ip(&scripts::direct())?;
        }
        if let Some(ctl) = &self.ctl {
            internet += &scripts::internet_to_control();
            ctl.ip(&scripts::control())?;
        }
        if let Some(second) = &self.gw2 {
            internet += &scripts::internet_to_second_gateway();
            second.ip(&scripts::second_gateway(sizes.len()))?;
        }
        self.net.ip(&internet)?;
        let mut gateway = scripts::gateway_uplink();
        match &self.lan {
            None => gateway += &scripts::bridges_in_gateway(&sizes),
            Some(lan) => lan.ip(&scripts::bridges_of_two_gateways(&sizes))?,
        }
        gateway += &scripts::gateway_networks(sizes.len());
        self.gw.ip(&gateway)?;
        for (network, runners) in self.runners.iter().enumerate() {
            for (index, runner) in runners.iter().enumerate() {
                runner.ip(&scripts::runner(network, index))?;
            }
        }
        Ok(())
    }
}

fn machine_plan(namespace: String, dir: &Path, interface: &'static str) -> Plan {
    Plan {
        namespace,
        v4: plan::NEXT_HOP_V4,
        v6: plan::NEXT_HOP_V6,
        interface,
        network: None,
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
