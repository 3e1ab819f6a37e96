//! `resolv.conf`: which servers a machine asks, and that they are the gateway.
//!
//! Pure. A loopback address is a stub resolver on the machine; who that one asks stands in a file of its own where it is
//! systemd-resolved.

use std::net::IpAddr;

use super::finding::{Finding, Severity, word};
use super::probe::Said;

/// Name servers that are looked at; libc takes three.
const MAX_SERVERS: usize = 16;

/// What of a `resolv.conf` matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    /// Lines that say something else (`search`, `options`).
    others: Vec<String>,
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines().map(str::trim) {
            match line.strip_prefix("nameserver") {
                Some(rest) => {
                    // A zone says by which link, and is of no matter here.
                    let address = rest.trim().split('%').next().unwrap_or_default();
                    read.servers.extend(address.parse::<IpAddr>().ok());
                }
                None if line.is_empty() || line.starts_with(['#', ';']) => {}
                None => read.others.push(line.to_owned()),
            }
        }
        read.servers.truncate(MAX_SERVERS);
        read
    }

    /// The command that has it name this server and no other.
    fn replaced(&self, file: &str, server: IpAddr) -> String {
        let lines = std::iter::once(format!("nameserver {server}")).chain(self.others.iter().cloned());
        let lines: Vec<String> = lines.map(|line| word(&line)).collect();
        format!("printf '%s\\n' {} > {file}", lines.join(" "))
    }
}

/// A server with what it said when it was asked where the gateway is.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) server: IpAddr,
    pub(super) said: Said,
    /// Nothing stands between it and this machine, so nobody else answered in its stead.
    pub(super) is_on_link: bool,
}

/// What is wrong with a file of servers. `gateway` are the gateway's addresses, as far as they are known.
pub(super) fn judge(conf: &ResolvConf, file: &str, asked: &[Asked], gateway: &[IpAddr]) -> Vec<Finding> {
    let best = gateway
        .iter()
        .find(|address| address.is_ipv4())
        .or(gateway.first());
    let mend = |finding: Finding| match best {
        Some(best) => finding.mend(conf.replaced(file, *best)),
        None => finding.mend("tidegate doctor --from-runner --gateway ADDRESS"),
    };
    if conf.servers.is_empty() {
        let what = "it names no server, so every name is asked of this machine itself";
        return vec![mend(Finding::new(Severity::Problem, "resolver", file, what))];
    }
    let mut findings = Vec::new();
    for one in asked.iter().filter(|one| !one.server.is_loopback()) {
        let server = one.server;
        let is_gateway = gateway.contains(&server) || (one.is_on_link && one.said.is_gateway());
        let finding = |what: String| mend(Finding::new(Severity::Problem, "resolver", file, what));
        match (&one.said, is_gateway) {
            (Said::Addresses(_), true) => {}
            (Said::Silence, _) => findings.push(finding(format!("{server} does not answer"))),
            (_, false) => findings.push(finding(format!(
                "{server} is not the gateway: in audit it is asked itself, and its answers are nobody's evidence"
            ))),
            (Said::Nothing(rcode), true) => findings.push(finding(format!(
                "{server} answers {rcode} when it is asked for the gateway's own name"
            ))),
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn asked(server: &str, said: Said, is_on_link: bool) -> Asked {
        Asked {
            server: ip(server),
            said,
            is_on_link,
        }
    }

    #[test]
    fn a_file_is_read_as_libc_reads_it() {
        let conf = ResolvConf::parse(
            "# made by dhcp\nnameserver 10.77.1.1\nnameserver\tfe80::1%eth0\n;x\nsearch corp.example it's.example\n\
             options edns0\nnameserver nobody\n",
        );
        assert_eq!(conf.servers, [ip("10.77.1.1"), ip("fe80::1")]);
        assert_eq!(
            conf.replaced("/etc/resolv.conf", ip("10.77.1.1")),
            r"printf '%s\n' 'nameserver 10.77.1.1' 'search corp.example it'\''s.example' 'options edns0' > /etc/resolv.conf"
        );
    }

    #[test]
    fn only_the_gateway_is_asked() {
        let gateway = [ip("10.77.1.1")];
        let here = Said::Addresses(gateway.to_vec());
        let conf = |text: &str| ResolvConf::parse(text);
        let judge = |text: &str, asked: &[Asked]| judge(&conf(text), "/etc/resolv.conf", asked, &gateway);
        let sound = "nameserver 10.77.1.1\n";
        assert_eq!(judge(sound, &[asked("10.77.1.1", here.clone(), true)]), []);
        // Another gateway of the group, on the same link.
        assert_eq!(judge(sound, &[asked("10.77.1.254", here.clone(), true)]), []);
        // Behind the gateway, which answers in its stead: yet it may be asked itself.
        for (server, said, part) in [
            ("203.0.113.53", here, "is not the gateway"),
            (
                "10.77.1.9",
                Said::Nothing("NXDOMAIN".into()),
                "is not the gateway",
            ),
            ("10.77.1.1", Said::Nothing("REFUSED".into()), "answers REFUSED"),
            ("10.77.1.1", Said::Silence, "does not answer"),
        ] {
            let found = judge(
                "nameserver x\nnameserver 192.0.2.1\n",
                &[asked(server, said, server.starts_with("10."))],
            );
            assert_eq!(found.len(), 1);
            assert!(found[0].what.contains(part), "{found:?}");
            assert!(
                found[0].mend.as_ref().unwrap().contains("nameserver 10.77.1.1"),
                "{found:?}"
            );
        }
        assert!(judge("options x\n", &[])[0].what.contains("names no server"));
    }
}
