//! The nftables ruleset as a pure function of the plan: owns every word of the
//! table `inet tidegate`; never runs anything. [`install`](super::install)
//! carries it out.
//!
//! What the rules are for, and what they are not: they *divert*. Nothing depends
//! on them for "closed", which is forwarding off (`sysctl`) and the refusing
//! routing rule (`routing`). A packet from a runner meets, in this order:
//!
//! 1. `notrack_in`: a job's SYN flood must not fill a conntrack table that nobody
//!    needs. Fragments are put together before this, by the defragmenter that
//!    the `tproxy` expression pulls in.
//! 2. `from_runner`: forged sources out, then flows that have a socket, then the
//!    rest to its listener. The mark is set only *after* `tproxy` found a
//!    transparent socket; marked first, a packet without one would be delivered
//!    to the gateway's own wildcard listeners.
//! 3. `to_gateway`, after routing: of what is delivered locally, only marked
//!    packets, the runner API and the link's own housekeeping get in. The
//!    proxy's own port is closed to direct hits: its sockets are on loopback
//!    addresses, and a packet to an address of the gateway is not diverted.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    bindings::BindingTable,
    plan::{InterceptPlan, NetworkPlan, PlanError},
};

/// Name of our table, in the family `inet`.
pub const TABLE: &str = "tidegate";

/// Echo requests to the gateway's own address that are answered a second, over
/// all runners: enough for every `ping` of a fleet, too few to amplify.
const OWN_ECHO_PER_SECOND: u32 = 500;

/// The errors that open sockets act on. Redirects are not among them.
const ICMP_ERRORS: &str = "{ destination-unreachable, time-exceeded, parameter-problem }";

/// As [`ICMP_ERRORS`].
const ICMPV6_ERRORS: &str = "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }";

/// Errors from runner-side routers that reach the gateway's sockets a second.
/// The kernel checks each against an open connection; this bounds the checking.
const ICMP_ERRORS_PER_SECOND: u32 = 10_000;

/// The text of the whole table for one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    text: String,
}

impl Ruleset {
    /// Checks the plan and writes the ruleset for it.
    pub fn compile(plan: &InterceptPlan) -> Result<Self, PlanError> {
        plan.check()?;
        Ok(Self {
            text: Writer::new(plan).table(),
        })
    }

    /// One transaction for `nft -f -`: whatever stood under our name goes, the
    /// table stands anew and the bound addresses are in it. No packet sees an
    /// intermediate state.
    pub fn script(&self, bindings: &BindingTable) -> String {
        format!("{}{}{}", Self::removal(), self.text, bindings.fill_script())
    }

    /// The transaction that leaves no table of ours. Deleting a table that is not
    /// there is an error, so it is declared first.
    pub fn removal() -> String {
        format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
    }

    /// The table itself.
    pub fn text(&self) -> &str {
        &self.text
    }
}

struct Writer<'a> {
    plan: &'a InterceptPlan,
    /// `"runners0", "runners1"`: an anonymous set, so that nobody's
    /// `flush set` can take an interface out without a rule change being seen.
    interfaces: String,
    set_divert: String,
    has_divert: String,
}

impl<'a> Writer<'a> {
    fn new(plan: &'a InterceptPlan) -> Self {
        let interfaces: Vec<_> = plan.interfaces().map(|name| format!("\"{name}\"")).collect();
        let mark = plan.steering.divert_mark;
        Self {
            plan,
            interfaces: interfaces.join(", "),
            set_divert: format!("meta mark set meta mark | {mark:#010x}"),
            has_divert: format!("meta mark & {mark:#010x} == {mark:#010x}"),
        }
    }

    fn table(&self) -> String {
        [
            format!("table inet {TABLE} {{\n"),
            Self::objects(),
            self.untracked(),
            self.divert(),
            self.dns_chains(),
            self.runner_packets(),
            self.input(),
            self.to_gateway(),
            self.forward(),
            "}\n".to_owned(),
        ]
        .concat()
    }

    /// Counters are named for what was dropped; sets are filled at run time.
    fn objects() -> String {
        let mut text = String::new();
        for counter in ["forged_source", "spoofed", "not_diverted", "closed", "forwarded"] {
            let _ = writeln!(text, "\tcounter {counter} {{\n\t}}");
        }
        for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
            let _ = write!(
                text,
                "\tset bound_sources{family} {{\n\t\ttype {kind}\n\t\tsize 65536\n\t}}\n\
                 \tset bound{family} {{\n\t\ttype {kind} . ether_addr\n\t\tsize 65536\n\t}}\n"
            );
        }
        text
    }

    fn untracked(&self) -> String {
        let to = &self.interfaces;
        chain(
            "notrack_in",
            Some("prerouting priority raw"),
            &[format!("iifname {{ {to} }} notrack")],
        ) + &chain(
            "notrack_out",
            Some("output priority raw"),
            &[format!("oifname {{ {to} }} notrack")],
        )
    }

    fn divert(&self) -> String {
        let mut rules = vec![format!("iifname {{ {} }} goto from_runner", self.interfaces)];
        if self.plan.preserve_source {
            // Answers to connections that the gateway opened under a runner's address.
            rules.push(format!(
                "meta l4proto {{ tcp, udp }} socket transparent 1 {} accept",
                self.set_divert
            ));
        }
        chain("divert", Some("prerouting priority mangle"), &rules)
    }

    /// Port 53 goes to the DNS sockets of the network that the query came from,
    /// whatever address it was sent to.
    fn dns_chains(&self) -> String {
        let networks = self.plan.networks.iter().enumerate();
        networks
            .map(|(position, network)| chain(&dns_chain(position), None, &self.dns_rules(network)))
            .collect()
    }

    fn dns_rules(&self, network: &NetworkPlan) -> Vec<String> {
        let mut rules = Vec::new();
        let Self { set_divert, .. } = self;
        for protocol in ["udp", "tcp"] {
            if let Some(address) = network.dns_v4 {
                rules.push(format!(
                    "meta nfproto ipv4 {protocol} dport 53 tproxy ip to {address}:53 {set_divert} accept"
                ));
            }
            if let Some(address) = network.dns_v6 {
                rules.push(format!(
                    "meta nfproto ipv6 {protocol} dport 53 tproxy ip6 to [{address}]:53 {set_divert} accept"
                ));
            }
        }
        // No DNS socket (yet): a chain entered by `goto` would end in the base
        // chain's "accept".
        rules.push("counter name not_diverted drop".to_owned());
        rules
    }

    fn runner_packets(&self) -> String {
        let mut rules = Self::link_housekeeping();
        rules.extend(self.sources());
        rules.extend(self.steered());
        rules.push("counter name not_diverted drop".to_owned());
        chain("from_runner", None, &rules)
    }

    /// What has no source address yet, or none that a route could vouch for.
    fn link_housekeeping() -> Vec<String> {
        vec![
            "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept".to_owned(),
            // Duplicate address detection and the listener reports before it (RFC 4862, RFC 3590).
            "ip6 saddr :: ip6 daddr ff02::/16 meta l4proto ipv6-icmp accept".to_owned(),
        ]
    }

    fn sources(&self) -> Vec<String> {
        let marks = self.plan.steering.divert_mark | self.plan.steering.spoof_mark;
        let spoof = self.plan.steering.spoof_mark;
        let mut rules = vec![
            // A source that the gateway would not answer through this interface: another
            // network's, the gateway's own, or one it has no route to.
            "fib saddr . iif oif missing counter name forged_source drop".to_owned(),
            // The kernel would follow a routing header after the verdict.
            "exthdr rt exists counter name not_diverted drop".to_owned(),
            // Our bits mean what we say only if nobody else set them before.
            format!(
                "meta mark & {marks:#010x} != 0 meta mark set meta mark & {:#010x}",
                !marks
            ),
        ];
        for (family, ip) in [(4, "ip"), (6, "ip6")] {
            rules.push(format!(
                "meta l4proto udp {ip} saddr @bound_sources{family} {ip} saddr . ether saddr != @bound{family} \
                 counter name spoofed meta mark set meta mark | {spoof:#010x}"
            ));
        }
        rules
    }

    fn steered(&self) -> Vec<String> {
        let Self { set_divert, plan, .. } = self;
        let dns: Vec<_> = plan.networks.iter().enumerate().map(dns_verdict).collect();
        let dns = dns.join(", ");
        let errors = format!(
            "limit rate {ICMP_ERRORS_PER_SECOND}/second burst {ICMP_ERRORS_PER_SECOND} packets {set_divert} accept"
        );
        let mut rules = vec![
            // Open connections first. A SYN is left to `tproxy`, which alone hands a
            // reused tuple in TIME-WAIT to the listener.
            format!("tcp flags & (fin | syn | rst | ack) != syn socket transparent 1 {set_divert} accept"),
            "fib daddr type { broadcast, multicast, anycast } accept".to_owned(),
            "ip6 daddr ff00::/8 accept".to_owned(),
            format!("udp dport 53 iifname vmap {{ {dns} }}"),
            // TCP 53 to a foreign address is the proxy's: in audit it is relayed.
            format!("tcp dport 53 fib daddr type local iifname vmap {{ {dns} }}"),
            "fib daddr type local accept".to_owned(),
            // The gateway's sockets speak to runners from foreign addresses, so that errors
            // about their packets (path MTU above all) are addressed to those.
            format!("icmp type {ICMP_ERRORS} {errors}"),
            format!("icmpv6 type {ICMPV6_ERRORS} {errors}"),
        ];
        rules.extend(self.to_proxy());
        rules
    }

    fn to_proxy(&self) -> Vec<String> {
        let Self { set_divert, plan, .. } = self;
        let (tcp, udp) = (plan.tcp_port, plan.udp_port);
        let mut rules = Vec::new();
        if plan.refuse_v6_tcp {
            rules.push("meta nfproto ipv6 meta l4proto tcp reject with tcp reset".to_owned());
        }
        rules.extend([
            format!("meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:{tcp} {set_divert} accept"),
            format!("meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:{tcp} {set_divert} accept"),
            format!("meta nfproto ipv4 meta l4proto udp tproxy ip to 127.0.0.1:{udp} {set_divert} accept"),
            format!("meta nfproto ipv6 meta l4proto udp tproxy ip6 to [::1]:{udp} {set_divert} accept"),
        ]);
        rules
    }

    fn input(&self) -> String {
        chain(
            "input",
            Some("input priority filter"),
            &[format!("iifname {{ {} }} goto to_gateway", self.interfaces)],
        )
    }

    fn to_gateway(&self) -> String {
        let mut rules = vec![
            format!("{} accept", self.has_divert),
            "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept".to_owned(),
            "icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept"
                .to_owned(),
            "ip protocol igmp accept".to_owned(),
            "udp sport 68 udp dport 67 accept".to_owned(),
            "udp sport 546 udp dport 547 accept".to_owned(),
            format!("icmp type {ICMP_ERRORS} accept"),
            format!("icmpv6 type {ICMPV6_ERRORS} accept"),
        ];
        rules.extend(self.runner_api());
        rules.extend(self.own_echo());
        rules.push("counter name closed drop".to_owned());
        chain("to_gateway", None, &rules)
    }

    fn runner_api(&self) -> Vec<String> {
        let listens = |v4: bool| {
            let of_family = self.plan.runner_api.iter().filter(move |at| at.is_ipv4() == v4);
            let pairs: Vec<_> = of_family
                .map(|at: &SocketAddr| format!("{} . {}", at.ip(), at.port()))
                .collect();
            pairs.join(", ")
        };
        [("ip", listens(true)), ("ip6", listens(false))]
            .into_iter()
            .filter(|(_, pairs)| !pairs.is_empty())
            .map(|(ip, pairs)| format!("{ip} daddr . tcp dport {{ {pairs} }} accept"))
            .collect()
    }

    /// A runner may see that its router is there.
    fn own_echo(&self) -> Vec<String> {
        let own = self.plan.own_addresses();
        let of_family = |v4: bool| {
            let addresses: Vec<_> = own
                .iter()
                .filter(|a| a.is_ipv4() == v4)
                .map(IpAddr::to_string)
                .collect();
            addresses.join(", ")
        };
        let limit = format!("limit rate {OWN_ECHO_PER_SECOND}/second burst {OWN_ECHO_PER_SECOND} packets");
        [
            ("ip", "icmp", of_family(true)),
            ("ip6", "icmpv6", of_family(false)),
        ]
        .into_iter()
        .filter(|(_, _, addresses)| !addresses.is_empty())
        .map(|(ip, icmp, addresses)| {
            format!("{ip} daddr {{ {addresses} }} {icmp} type echo-request {limit} accept")
        })
        .collect()
    }

    /// A second belt behind forwarding off, in both directions.
    fn forward(&self) -> String {
        let Self { interfaces, .. } = self;
        chain(
            "forward",
            Some("forward priority filter"),
            &[
                format!("iifname {{ {interfaces} }} counter name forwarded drop"),
                format!("oifname {{ {interfaces} }} counter name forwarded drop"),
            ],
        )
    }
}

fn dns_chain(position: usize) -> String {
    format!("dns_{position}")
}

fn dns_verdict((position, network): (usize, &NetworkPlan)) -> String {
    format!("\"{}\" : goto {}", network.interface, dns_chain(position))
}

fn chain(name: &str, hook: Option<&str>, rules: &[String]) -> String {
    let mut text = format!("\tchain {name} {{\n");
    if let Some(hook) = hook {
        let _ = writeln!(text, "\t\ttype filter hook {hook}; policy accept;");
    }
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
    text
}

#[cfg(test)]
mod tests;
