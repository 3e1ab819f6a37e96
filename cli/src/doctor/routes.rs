//! The routes of a machine, from `/proc/net/route` and `/proc/net/ipv6_route`, and whether they lead through the gateway.
//!
//! Pure. Only the kernel's main table stands in those files; rules for other tables are not seen, but what passes the
//! gateway by is noticed by asking ([`super::runner`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::finding::{Finding, Severity};

/// Routes that are looked at.
const MAX_ROUTES: usize = 4_096;
/// Flags of a route (linux/route.h).
const UP: u32 = 1;
const GATEWAY: u32 = 2;
const REJECT: u32 = 0x200;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: IpNet,
    /// The next hop; `None` on a link of its own.
    pub(super) via: Option<IpAddr>,
    pub(super) device: String,
    pub(super) metric: u32,
}

/// The routes in the text of `/proc/net/route`. Lines that are not understood are left out.
pub(super) fn parse_v4(text: &str) -> Vec<Route> {
    let routes = text.lines().skip(1).filter_map(v4_line);
    routes.take(MAX_ROUTES).collect()
}

fn v4_line(line: &str) -> Option<Route> {
    let mut words = line.split_whitespace();
    let device = words.next()?;
    let to = v4(words.next()?)?;
    let via = v4(words.next()?)?;
    let flags = u32::from_str_radix(words.next()?, 16).ok()?;
    let metric = words.nth(2)?.parse().ok()?;
    let mask = v4(words.next()?)?;
    if flags & UP == 0 || flags & REJECT != 0 {
        return None;
    }
    Some(Route {
        to: Ipv4Net::with_netmask(to, mask).ok()?.into(),
        via: (flags & GATEWAY != 0).then_some(via.into()),
        device: device.to_owned(),
        metric,
    })
}

/// The kernel prints the four octets as one number of the machine's own order.
fn v4(hex: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(hex, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

/// The routes in the text of `/proc/net/ipv6_route`, but those of addresses of its own.
pub(super) fn parse_v6(text: &str) -> Vec<Route> {
    let routes = text.lines().filter_map(v6_line);
    routes.take(MAX_ROUTES).collect()
}

fn v6_line(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [to, length, _, _, via, metric, _, _, flags, device] = words.as_slice() else {
        return None;
    };
    let number = |hex: &str| u32::from_str_radix(hex, 16).ok();
    let flags = number(flags)?;
    if flags & UP == 0 || flags & REJECT != 0 || *device == "lo" {
        return None;
    }
    let length = u8::from_str_radix(length, 16).ok()?;
    Some(Route {
        to: Ipv6Net::new(v6(to)?, length).ok()?.into(),
        via: (flags & GATEWAY != 0).then_some(v6(via)?.into()),
        device: (*device).to_owned(),
        metric: number(metric)?,
    })
}

fn v6(hex: &str) -> Option<Ipv6Addr> {
    u128::from_str_radix(hex, 16).ok().map(Ipv6Addr::from)
}

impl Route {
    /// True for the default route, and for the pieces that some VPNs cut it into.
    pub(super) fn is_wide(&self) -> bool {
        match self.to {
            IpNet::V4(to) => to.prefix_len() < 8,
            IpNet::V6(to) => to.prefix_len() < 8 && !to.addr().is_multicast(),
        }
    }

    fn is_v4(&self) -> bool {
        matches!(self.to, IpNet::V4(_))
    }

    /// `default via 10.0.0.1 dev eth0 metric 100`, as `ip route` writes it.
    fn words(&self) -> String {
        let to = if self.to.prefix_len() == 0 {
            "default".to_owned()
        } else {
            self.to.to_string()
        };
        let via = self.via.map(|via| format!(" via {via}")).unwrap_or_default();
        let metric = match self.metric {
            0 => String::new(),
            metric => format!(" metric {metric}"),
        };
        format!("{to}{via} dev {}{metric}", self.device)
    }

    /// The command that does this to it.
    fn command(&self, verb: &str) -> String {
        let family = if self.is_v4() { "" } else { "-6 " };
        format!("ip {family}route {verb} {}", self.words())
    }
}

/// True when an address is reached without a next hop.
pub(super) fn is_on_link(routes: &[Route], address: IpAddr) -> bool {
    let covering = routes.iter().filter(|route| route.to.contains(&address));
    let nearest = covering.max_by_key(|route| route.to.prefix_len());
    nearest.is_some_and(|route| route.via.is_none())
}

/// How a family gets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// The gateway answered for an address that is nobody's.
    Gateway,
    /// Nobody did.
    Elsewhere,
    /// The machine has no route out.
    Nowhere,
}

/// What the routes of one family are, given where the gateway is and what came of asking.
pub(super) fn judge(routes: &[Route], v4: bool, gateway: &[IpAddr], crossing: Crossing) -> Vec<Finding> {
    let of_family: Vec<&Route> = routes.iter().filter(|route| route.is_v4() == v4).collect();
    let gateway = gateway.iter().find(|address| address.is_ipv4() == v4);
    let mut wide: Vec<&Route> = of_family
        .iter()
        .copied()
        .filter(|route| route.is_wide())
        .collect();
    wide.sort_by_key(|route| (route.to.prefix_len() != 0, route.metric));
    let mut findings = Vec::new();
    let Some(first) = wide.first().copied() else {
        return no_default(&of_family, v4, gateway).into_iter().collect();
    };
    let leads_there = |route: &Route| match (route.via, gateway) {
        (Some(via), Some(gateway)) => via == *gateway,
        (Some(_), None) => false,
        (None, _) => false,
    };
    if crossing == Crossing::Elsewhere {
        findings.push(astray(first, v4, gateway));
    }
    for other in wide.iter().skip(1).filter(|route| !leads_there(route)) {
        if other.via.is_some() && other.via == first.via && crossing == Crossing::Gateway {
            continue;
        }
        let what = "this other way out is taken when the first one is gone, or by who asks for it, and passes the gateway by";
        findings
            .push(Finding::new(Severity::Problem, "route", other.words(), what).mend(other.command("del")));
    }
    let narrow = of_family
        .iter()
        .filter(|route| !route.is_wide() && route.via.is_some());
    for route in narrow.filter(|route| route.via != first.via && !leads_there(route)) {
        let what = "these addresses are reached by another next hop, so the gateway does not judge them";
        findings
            .push(Finding::new(Severity::Warning, "route", route.words(), what).mend(route.command("del")));
    }
    findings
}

fn no_default(routes: &[&Route], v4: bool, gateway: Option<&IpAddr>) -> Option<Finding> {
    if !v4 {
        // A machine without IPv6 reaches nothing by it.
        return None;
    }
    let what = "there is no default route, so nothing but this link is reached";
    let finding = Finding::new(Severity::Problem, "route", "IPv4", what);
    let device = gateway.and_then(|gateway| routes.iter().find(|route| route.to.contains(gateway)));
    Some(match (gateway, device) {
        (Some(gateway), Some(route)) => {
            finding.mend(format!("ip route add default via {gateway} dev {}", route.device))
        }
        (Some(gateway), None) => finding.mend(format!("ip route add default via {gateway}")),
        (None, _) => finding.mend("ip route add default via GATEWAY"),
    })
}

/// The way out that does not lead through the gateway.
fn astray(first: &Route, v4: bool, gateway: Option<&IpAddr>) -> Finding {
    let family = if v4 { "IPv4" } else { "IPv6" };
    let what = format!("{family} does not leave by the gateway: nobody there answers for every address");
    let finding = Finding::new(Severity::Problem, "route", first.words(), what);
    match gateway {
        Some(gateway) if first.via != Some(*gateway) && first.to.prefix_len() == 0 => {
            let better = Route {
                via: Some(*gateway),
                ..first.clone()
            };
            finding.mend(better.command("replace"))
        }
        Some(_) if first.to.prefix_len() != 0 => finding.mend(first.command("del")),
        Some(_) => {
            finding.mend("tidegate doctor   # on the gateway: it does not take this machine's traffic")
        }
        None if v4 => finding.mend("tidegate doctor --from-runner --gateway ADDRESS"),
        None => finding.mend(first.command("del")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const V4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t01014D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00014D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
";
    const V6: &str = "\
fd770001000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd770001000000000000000000000001 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0
";

    fn gateway() -> [IpAddr; 2] {
        ["10.77.1.1".parse().unwrap(), "fd77:1::1".parse().unwrap()]
    }

    fn v4_with(line: &str) -> Vec<Route> {
        parse_v4(&format!("{V4}{line}\n"))
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let routes = parse_v4(V4);
        assert_eq!(routes.len(), 3);
        assert_eq!(routes[0].words(), "default via 10.77.1.1 dev eth0");
        assert_eq!(routes[1].to.to_string(), "10.77.1.0/24");
        assert_eq!(routes[1].via, None);
        let routes = parse_v6(V6);
        assert_eq!(
            routes[1].command("del"),
            "ip -6 route del default via fd77:1::1 dev eth0 metric 1024"
        );
        assert_eq!(routes.iter().filter(|route| route.is_wide()).count(), 1);
        for odd in ["", "x", "eth0\tzz\n", "Iface\neth0 00000000 0000"] {
            assert!(parse_v4(odd).is_empty() && parse_v6(odd).is_empty());
        }
        assert!(is_on_link(&parse_v4(V4), gateway()[0]));
        assert!(!is_on_link(&parse_v4(V4), "192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_machine_that_crosses_the_gateway_is_sound() {
        assert_eq!(judge(&parse_v4(V4), true, &gateway(), Crossing::Gateway), []);
        assert_eq!(judge(&parse_v6(V6), false, &gateway(), Crossing::Gateway), []);
        assert_eq!(judge(&parse_v4(V4), false, &gateway(), Crossing::Nowhere), []);
    }

    #[test]
    fn a_second_way_out_is_named_with_its_end() {
        for (line, command) in [
            (
                "eth0\t00000000\t03014D0A\t0003\t0\t0\t100\t00000000\t0\t0\t0",
                "ip route del default via 10.77.1.3 dev eth0 metric 100",
            ),
            (
                "wg0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0",
                "ip route del 0.0.0.0/1 dev wg0",
            ),
        ] {
            let found = judge(&v4_with(line), true, &gateway(), Crossing::Gateway);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].severity, Severity::Problem);
            assert_eq!(found[0].mend.as_deref(), Some(command));
        }
        let narrow = v4_with("eth0\t007100CB\t03014D0A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0");
        let found = judge(&narrow, true, &gateway(), Crossing::Gateway);
        assert_eq!(found[0].severity, Severity::Warning);
        assert_eq!(
            found[0].mend.as_deref(),
            Some("ip route del 203.0.113.0/24 via 10.77.1.3 dev eth0")
        );
    }

    #[test]
    fn a_way_out_that_leads_elsewhere_is_turned() {
        let elsewhere = V4.replace("01014D0A\t0003", "03014D0A\t0003");
        let found = judge(&parse_v4(&elsewhere), true, &gateway(), Crossing::Elsewhere);
        assert_eq!(
            found[0].mend.as_deref(),
            Some("ip route replace default via 10.77.1.1 dev eth0")
        );
        // A gateway that has no IPv6 judges none.
        let found = judge(&parse_v6(V6), false, &gateway()[..1], Crossing::Elsewhere);
        assert_eq!(
            found[0].mend.as_deref(),
            Some("ip -6 route del default via fd77:1::1 dev eth0 metric 1024")
        );
        let mut none = parse_v4(V4);
        none.retain(|route| !route.is_wide());
        let found = judge(&none, true, &gateway(), Crossing::Nowhere);
        assert_eq!(
            found[0].mend.as_deref(),
            Some("ip route add default via 10.77.1.1 dev eth0")
        );
    }
}
