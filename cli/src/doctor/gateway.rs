//! A gateway's host, examined: the running gateway's own word, the kernel's settings, links, routes, the runner API's
//! certificate, and who is behind its addresses.
//!
//! Owns the order in which things are asked. Changes nothing, and asks nobody outside but the configured resolvers, for the
//! size of packets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tidegate_gateway::config::{GatewayConfig, RunnerApiConfig};

use super::certificate::{self, Fault};
use super::finding::{Finding, Severity, word};
use super::probe::{OWN_NAME, answers_at};
use super::routes::Route;
use super::{host, mtu};

/// Sources that are shown of those that are not bound.
const MAX_SOURCES: usize = 20;

/// Examines this machine.
pub(super) async fn examine(config: &GatewayConfig, file: &Path) -> Vec<Finding> {
    let status = tidegate_gateway::status::fetch(&config.state_dir).await;
    let mut findings = match &status {
        Ok(status) => running(status, file),
        Err(error) => {
            let finding = Finding::new(
                Severity::Problem,
                "gateway",
                file.display().to_string(),
                error.to_string(),
            );
            vec![finding.mend("systemctl start tidegate-gateway")]
        }
    };
    let runners: Vec<&str> = config
        .networks
        .iter()
        .map(|network| network.interface.as_str())
        .collect();
    for interface in &runners {
        findings.extend(link(interface));
        findings.extend(settings(interface, host::setting));
        findings.extend(machines(interface, &host::text("/proc/net/arp")));
    }
    findings.extend(namespace(host::setting));
    let routes = host::routes();
    findings.extend(ways(&routes, &runners));
    findings.extend(upstream_path(config, &routes));
    if let Some(api) = &config.runner_api {
        findings.extend(certificate(api, Timestamp::now()));
    } else {
        let what = "no runner API is configured, so hooks, summaries and tidegate.internal don't work";
        let finding = Finding::new(Severity::Warning, "runner-api", file.display().to_string(), what);
        let lines =
            "gateway.runner-api: {listen: [\"ADDRESS:443\"], tls: {cert: runner.pem, key: runner.key}}";
        findings.push(finding.mend(format!("add {lines}")));
    }
    findings
}

/// What a running gateway says of itself.
fn running(status: &Value, file: &Path) -> Vec<Finding> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown = format!("tidegate status --config {}", word(&file.display().to_string()));
    let mut findings = Vec::new();
    if status["interception"]["state"] != "up" {
        let what = "interception is not in place: runners are closed off until it is";
        findings.push(
            Finding::new(Severity::Problem, "interception", "nftables", what)
                .mend("systemctl restart tidegate-gateway"),
        );
    }
    for one in status["degraded"].as_array().into_iter().flatten().map(text) {
        if !one.starts_with("interception is down") {
            findings.push(Finding::new(Severity::Problem, "gateway", "status", one).mend(&shown));
        }
    }
    let failing = status["upstreams"].as_array().into_iter().flatten();
    for one in failing.filter(|one| one["state"] == "failing") {
        let place = text(&one["upstream"]);
        let finding = Finding::new(
            Severity::Warning,
            "upstream",
            &place,
            "this resolver does not answer",
        );
        findings.push(finding.mend(format!("dig @{} . NS   # from this machine", word(&place))));
    }
    let unbound = status["unbound_sources"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for one in unbound.iter().take(MAX_SOURCES) {
        let what =
            "this address is refused everything: its machine is not known, or holds a job by another address";
        let finding = Finding::new(Severity::Warning, "sources", text(&one["source"]), what);
        findings.push(finding.mend(format!("ip neigh show {}", word(&text(&one["source"])))));
    }
    findings
}

/// A runner interface as a link.
fn link(interface: &str) -> Vec<Finding> {
    let Some(size) = host::mtu(interface) else {
        let finding = Finding::new(Severity::Problem, "link", interface, "there is no such interface");
        return vec![finding.mend("ip -brief link   # and name one of them as the network's interface")];
    };
    let mut findings = Vec::new();
    if !host::is_up(interface) {
        let finding = Finding::new(
            Severity::Problem,
            "link",
            interface,
            "it is down, or has no carrier",
        );
        findings.push(finding.mend(format!("ip link set dev {} up", word(interface))));
    }
    findings.extend(mtu::judge(interface, size, "", |_| true));
    for port in host::ports(interface) {
        if host::mtu(&port).is_some_and(|least| least < size) {
            let what = format!(
                "packets of {interface}'s MTU ({size}) get lost in this port of it, which takes less"
            );
            let finding = Finding::new(Severity::Problem, "mtu", &port, what);
            findings.push(finding.mend(format!("ip link set dev {} mtu {size}", word(&port))));
        }
    }
    findings
}

/// What the kernel does with packets of a runner interface.
fn settings(interface: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own = |family: &str, key: &str| format!("{family}/conf/{interface}/{key}");
    for name in [
        own("ipv4", "forwarding"),
        own("ipv6", "forwarding"),
        own("ipv6", "force_forwarding"),
    ] {
        if read(&name).is_some_and(|value| value != "0") {
            let what = "the kernel forwards this interface's packets itself, past the gateway";
            let finding = Finding::new(Severity::Problem, "forwarding", format!("net/{name}"), what);
            findings.push(finding.mend(set(&name, "0")));
        }
    }
    // The kernel takes the larger of both (Documentation/networking/ip-sysctl.rst), and 2 is the loose check.
    let (all, one) = ("ipv4/conf/all/rp_filter".to_owned(), own("ipv4", "rp_filter"));
    let value = |name: &str| read(name).and_then(|text| text.parse::<u32>().ok());
    let (wide, narrow) = (value(&all).unwrap_or_default(), value(&one));
    let wrong = match narrow {
        Some(_) if wide > 1 => Some((
            all,
            "it makes the check of source addresses a loose one for all interfaces",
        )),
        Some(2..) => Some((one, "the check of source addresses is a loose one")),
        Some(0) if wide == 0 => Some((one, "source addresses are not checked")),
        Some(_) | None => None,
    };
    if let Some((name, why)) = wrong {
        let what = format!("{why}: a runner of {interface} may speak by another link's address");
        let finding = Finding::new(Severity::Problem, "rp_filter", format!("net/{name}"), what);
        findings.push(finding.mend(set(&name, "1")));
    }
    findings
}

/// What the kernel does in all.
fn namespace(read: impl Fn(&str) -> Option<String>) -> Option<Finding> {
    let name = "ipv6/conf/all/forwarding";
    read(name).filter(|value| value != "0")?;
    let what = "the kernel forwards IPv6 between all interfaces, whatever each of them says";
    Some(Finding::new(Severity::Problem, "forwarding", format!("net/{name}"), what).mend(set(name, "0")))
}

fn set(name: &str, value: &str) -> String {
    // A dot in an interface's name is a slash's place otherwise.
    format!("sysctl -w {}={value}", word(&format!("net/{name}")))
}

/// The gateway's own way out.
fn ways(routes: &[Route], runners: &[&str]) -> Vec<Finding> {
    let wide: Vec<&Route> = routes.iter().filter(|route| route.is_wide()).collect();
    let mut findings = Vec::new();
    for route in wide
        .iter()
        .filter(|route| runners.contains(&route.device.as_str()))
    {
        let what = "the gateway's own way out leads back to the runners, by a route that one of them may have given it";
        let family = if route.to.addr().is_ipv4() { "" } else { "-6 " };
        let finding = Finding::new(Severity::Problem, "route", &route.device, what);
        findings.push(finding.mend(format!(
            "ip {family}route del {} dev {}",
            route.to,
            word(&route.device)
        )));
    }
    if !wide.iter().any(|route| route.to.addr().is_ipv4()) {
        let what = "the gateway has no default route by IPv4, so it reaches nothing";
        findings.push(
            Finding::new(Severity::Problem, "route", "IPv4", what).mend("ip route add default via NEXT-HOP"),
        );
    }
    if !wide.iter().any(|route| route.to.addr().is_ipv6()) {
        let what = "the gateway has no default route by IPv6: jobs that try it are refused at once and go on by IPv4";
        findings.push(Finding::new(Severity::Note, "route", "IPv6", what));
    }
    findings
}

/// Whether full packets reach the resolvers that answer small ones.
fn upstream_path(config: &GatewayConfig, routes: &[Route]) -> Option<Finding> {
    let mut plain = config
        .dns
        .upstreams
        .iter()
        .filter_map(|text| text.parse::<IpAddr>().ok());
    let server = plain.find(|server| answers_at(*server, OWN_NAME, 0))?;
    let covering = routes.iter().filter(|route| route.to.contains(&server));
    let device = &covering.max_by_key(|route| route.to.prefix_len())?.device;
    let size = host::mtu(device)?;
    let found = mtu::judge(device, size, &server.to_string(), |size| {
        answers_at(server, OWN_NAME, size)
    })?;
    // The gateway's own TCP finds a path's size without being told, where its kernel probes for it.
    Some(Finding {
        severity: Severity::Warning,
        ..found
    })
}

/// The runner API's certificate. Who signed it is the runners' to say.
fn certificate(api: &RunnerApiConfig, now: Timestamp) -> Vec<Finding> {
    let place = api.cert.display().to_string();
    let renew = "systemctl reload tidegate-gateway   # with a new certificate in this file";
    let finding = |severity, what: String| Finding::new(severity, "ca", &place, what).mend(renew);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&api.cert).and_then(Iterator::collect);
    let chain = match chain {
        Ok(chain) => chain,
        Err(error) => return vec![finding(Severity::Problem, format!("it can't be read: {error}"))],
    };
    let name = ServerName::try_from(OWN_NAME);
    let faults = certificate::judge(&chain, None, name.as_ref().ok(), now);
    let on = |time: &Option<Timestamp>| time.map_or_else(String::new, |time| format!(", {time}"));
    let told = faults.iter().map(|fault| match fault {
        Fault::Expired(then) => finding(
            Severity::Problem,
            format!("the certificate has expired{}", on(then)),
        ),
        Fault::Expires(then) => finding(
            Severity::Warning,
            format!("the certificate expires within two weeks{}", on(then)),
        ),
        Fault::NotYet => finding(
            Severity::Problem,
            "the certificate is not valid yet, by this machine's clock".into(),
        )
        .mend("timedatectl set-ntp true"),
        Fault::Names(names) => finding(
            Severity::Warning,
            format!(
                "the certificate is for {}, not for {OWN_NAME}, which hooks ask for",
                names.join(", ")
            ),
        ),
        Fault::Broken(why) => finding(Severity::Problem, format!("the certificate can't be read: {why}")),
        Fault::Unknown => finding(
            Severity::Problem,
            "the certificate is signed by nobody known".into(),
        ),
    });
    told.collect()
}

/// Machines that speak by several addresses: one with many, or a router that hides others.
fn machines(interface: &str, arp: &str) -> Vec<Finding> {
    let mut behind: BTreeMap<&str, Vec<Ipv4Addr>> = BTreeMap::new();
    for line in arp.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [address, _, flags, mac, _, device] = words.as_slice()
            && *device == interface
            // 0x2: complete.
            && u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 2 != 0)
            && let Ok(address) = address.parse()
        {
            behind.entry(mac).or_default().push(address);
        }
    }
    let many = behind.iter().filter(|(_, addresses)| addresses.len() > 1);
    many.map(|(mac, addresses)| {
        let listed: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
        let what = format!(
            "{} speak by one machine ({mac}): to the gateway they are one job; behind a router they must be a network of \
             their own",
            listed.join(", ")
        );
        let finding = Finding::new(Severity::Warning, "nat", interface, what);
        finding.mend(format!("ip neigh show dev {}", word(interface)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::routes::{parse_v4, parse_v6};

    fn kernel<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        let sound = [
            ("ipv4/conf/runners0/forwarding", "0"),
            ("ipv6/conf/runners0/forwarding", "0"),
            ("ipv4/conf/runners0/rp_filter", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv6/conf/all/forwarding", "0"),
        ];
        move |name| {
            let mut known = set.iter().chain(&sound);
            known
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn what_the_kernel_forwards_itself_is_named_with_its_setting() {
        assert_eq!(settings("runners0", kernel(&[])), []);
        assert_eq!(namespace(kernel(&[])), None);
        for name in [
            "ipv4/conf/runners0/forwarding",
            "ipv6/conf/runners0/force_forwarding",
        ] {
            let found = settings("runners0", kernel(&[(name, "1")]));
            assert_eq!(found.len(), 1);
            assert_eq!(
                found[0].mend.as_deref(),
                Some(format!("sysctl -w net/{name}=0").as_str())
            );
        }
        let found = namespace(kernel(&[("ipv6/conf/all/forwarding", "1")]));
        assert!(found.is_some_and(|one| one.severity == Severity::Problem));
    }

    #[test]
    fn source_addresses_are_checked_strictly() {
        for (all, one, mended) in [
            ("0", "1", None),
            ("1", "0", None),
            ("1", "1", None),
            ("2", "1", Some("sysctl -w net/ipv4/conf/all/rp_filter=1")),
            ("0", "2", Some("sysctl -w net/ipv4/conf/runners0/rp_filter=1")),
            ("0", "0", Some("sysctl -w net/ipv4/conf/runners0/rp_filter=1")),
        ] {
            let set = [
                ("ipv4/conf/all/rp_filter", all),
                ("ipv4/conf/runners0/rp_filter", one),
            ];
            let found = settings("runners0", kernel(&set));
            let mend = found.first().and_then(|one| one.mend.as_deref());
            assert_eq!(mend, mended, "{all} {one}");
        }
    }

    #[test]
    fn a_gateways_word_of_itself_is_taken() {
        let file = Path::new("/etc/tidegate/tidegate.yaml");
        let sound =
            json!({"interception": {"state": "up"}, "degraded": [], "upstreams": [], "unbound_sources": []});
        assert_eq!(running(&sound, file), []);
        let sick = json!({"interception": {"state": "down"}, "degraded": ["interception is down: x", "the disk is full"],
            "upstreams": [{"upstream": "192.0.2.1", "state": "failing"}, {"upstream": "b", "state": "healthy"}],
            "unbound_sources": [{"source": "fd77:1::9", "mac": null}]});
        let checks: Vec<&str> = running(&sick, file).iter().map(|one| one.check).collect();
        assert_eq!(checks, ["interception", "gateway", "upstream", "sources"]);
    }

    #[test]
    fn the_gateways_own_way_out_is_no_runners() {
        let v4 = |device: &str| {
            parse_v4(&format!(
                "x\n{device}\t00000000\tFE6433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
            ))
        };
        let found = ways(&v4("up0"), &["runners0"]);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Note));
        let found = ways(&v4("runners0"), &["runners0"]);
        assert!(
            found[0]
                .mend
                .as_ref()
                .is_some_and(|mend| mend.contains("dev runners0")),
            "{found:?}"
        );
        let found = ways(&parse_v6(""), &[]);
        assert_eq!(found[0].severity, Severity::Problem);
    }

    #[test]
    fn many_addresses_of_one_machine_are_told() {
        let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
                   10.77.1.2        0x1         0x2         02:77:01:00:00:01     *        runners0\n\
                   10.77.1.3        0x1         0x2         02:77:01:00:00:01     *        runners0\n\
                   10.77.1.4        0x1         0x0         02:77:01:00:00:01     *        runners0\n\
                   10.77.2.2        0x1         0x2         02:77:01:00:00:01     *        runners1\n";
        let found = machines("runners0", arp);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].what.starts_with("10.77.1.2, 10.77.1.3 speak"),
            "{found:?}"
        );
        assert_eq!(machines("runners1", arp), []);
    }
}
