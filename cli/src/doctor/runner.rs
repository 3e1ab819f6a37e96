//! A runner, examined: its way to the gateway, its resolver, packets' sizes, the runner API, its hooks.
//!
//! Owns the order in which things are asked. The judgements are their own modules'.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;

use super::args::Doctor;
use super::exchange;
use super::finding::{Finding, Severity, word};
use super::probe::{NOBODY, OWN_NAME, Said, addresses, answers_at};
use super::resolver::{Asked, ResolvConf};
use super::routes::{Crossing, Route, is_on_link};
use super::{api, clock, hooks, host, mtu, resolver, routes};
use crate::Usage;
use crate::hook::settings::{DEFAULT_CONFIG, Settings};

/// The machine's servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Those of systemd-resolved, where the machine asks that one.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";
/// Servers that are asked where the gateway is.
const MAX_ASKED: usize = 8;
/// A hook that takes longer is felt.
const SLOW: Duration = Duration::from_millis(200);

/// Examines this machine.
pub(super) fn examine(args: &Doctor) -> Result<Vec<Finding>, Usage> {
    let config = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let mut findings = Vec::new();
    let settings = settings(args, config, &mut findings)?;
    let url = settings.api().unwrap_or_else(|error| {
        findings.push(hook_setting(config, &error));
        Settings::default()
            .api()
            .unwrap_or_else(|_| unreachable!("the default is an address"))
    });
    let machine = Machine::look(args.gateway);
    findings.extend(machine.ways());
    findings.extend(machine.names());
    findings.extend(machine.sizes());
    findings.extend(machine.runner_api(&url, &settings, &hooks::install(&settings, config)));
    findings.extend(hooks::judge(&settings, config, args.runner_dir.as_deref()));
    Ok(findings)
}

/// The hooks' settings. Those that were named must be there.
fn settings(args: &Doctor, config: &Path, findings: &mut Vec<Finding>) -> Result<Settings, Usage> {
    let read = Settings::read(args.config.as_deref());
    match read {
        Err(error) if args.config.is_some() && !config.exists() => Err(error),
        Err(error) => {
            findings.push(hook_setting(config, &error));
            Ok(Settings::default())
        }
        Ok(settings) => Ok(settings),
    }
}

fn hook_setting(config: &Path, error: &Usage) -> Finding {
    let place = config.display().to_string();
    let what = format!("every hook fails by its settings: {}", error.0);
    Finding::new(Severity::Problem, "hooks", &place, what).mend(format!(
        "rm {0} && tidegate hook install --config {0}",
        word(&place)
    ))
}

/// What this machine says of itself, and what answered.
struct Machine {
    routes: Vec<Route>,
    conf: ResolvConf,
    /// The servers of a stub resolver, where the machine asks one.
    stub: Option<ResolvConf>,
    asked: Vec<Asked>,
    /// The gateway's addresses.
    gateway: Vec<IpAddr>,
}

impl Machine {
    fn look(named: Option<IpAddr>) -> Self {
        let routes = host::routes();
        let conf = ResolvConf::parse(&host::text(RESOLV_CONF));
        let asks_itself = !conf.servers.is_empty() && conf.servers.iter().all(IpAddr::is_loopback);
        let stub = asks_itself.then(|| ResolvConf::parse(&host::text(RESOLVED_CONF)));
        let hops = routes
            .iter()
            .filter(|route| route.is_wide())
            .filter_map(|route| route.via);
        let servers = named
            .into_iter()
            .chain(conf.servers.iter().copied())
            .chain(stub.iter().flat_map(|stub| stub.servers.iter().copied()))
            .chain(hops.filter(|hop| !is_scoped(*hop)));
        let mut seen = BTreeSet::new();
        let asked: Vec<Asked> = servers
            .filter(|server| seen.insert(*server))
            .take(MAX_ASKED)
            .map(|server| Asked {
                server,
                said: addresses(server, OWN_NAME),
                is_on_link: is_on_link(&routes, server),
            })
            .collect();
        let gateway = asked.iter().find_map(|one| match &one.said {
            Said::Addresses(found) => Some(found.clone()),
            Said::Nothing(_) | Said::Silence => None,
        });
        Self {
            gateway: gateway.unwrap_or_default(),
            routes,
            conf,
            stub,
            asked,
        }
    }

    /// The ways out, by both families.
    fn ways(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.gateway.is_empty() {
            let what = format!(
                "nobody answers {OWN_NAME}: no gateway with a runner API was found where this machine's resolver and routes are"
            );
            let place = self.asked.iter().map(|one| one.server.to_string());
            let place = place.collect::<Vec<_>>().join(" ");
            let finding = Finding::new(Severity::Problem, "gateway", place, what);
            findings.push(finding.mend("tidegate doctor --from-runner --gateway ADDRESS"));
        }
        for (nobody, v4) in NOBODY.into_iter().zip([true, false]) {
            findings.extend(routes::judge(
                &self.routes,
                v4,
                &self.gateway,
                self.crossing(nobody),
            ));
        }
        findings
    }

    /// Who answers for an address that is nobody's.
    fn crossing(&self, nobody: IpAddr) -> Crossing {
        if !self.has_way(nobody) {
            Crossing::Nowhere
        } else if addresses(nobody, OWN_NAME).is_gateway() {
            Crossing::Gateway
        } else {
            Crossing::Elsewhere
        }
    }

    fn names(&self) -> Vec<Finding> {
        let of = |conf: &ResolvConf| -> Vec<Asked> {
            let asked = self.asked.iter().filter(|one| conf.servers.contains(&one.server));
            asked.cloned().collect()
        };
        let Some(stub) = &self.stub else {
            return resolver::judge(&self.conf, RESOLV_CONF, &of(&self.conf), &self.gateway);
        };
        let mut findings = resolver::judge(stub, RESOLVED_CONF, &of(stub), &self.gateway);
        // That file is written by its service, which is told by a command of its own.
        let device = self
            .routes
            .iter()
            .find(|route| route.is_wide())
            .map(|route| route.device.as_str());
        if let (Some(device), Some(gateway)) = (device, self.gateway.first()) {
            for finding in &mut findings {
                finding.mend = Some(format!("resolvectl dns {} {gateway}", word(device)));
            }
        }
        let silent = of(&self.conf).into_iter().filter(|one| !one.said.is_gateway());
        findings.extend(silent.map(|one| {
            let what = format!(
                "the resolver on this machine, {}, does not know {OWN_NAME}",
                one.server
            );
            Finding::new(Severity::Warning, "resolver", RESOLV_CONF, what).mend("resolvectl status")
        }));
        findings
    }

    /// The link to the gateway, and the path.
    fn sizes(&self) -> Option<Finding> {
        let answered = self.asked.iter().filter(|one| one.said.is_gateway());
        let server = answered
            .map(|one| one.server)
            .chain(self.gateway.iter().copied())
            .find(|server| self.gateway.contains(server))?;
        let covering = self.routes.iter().filter(|route| route.to.contains(&server));
        let device = &covering.max_by_key(|route| route.to.prefix_len())?.device;
        let mtu = host::mtu(device)?;
        mtu::judge(device, mtu, &server.to_string(), |size| {
            answers_at(server, OWN_NAME, size)
        })
    }

    fn runner_api(&self, url: &Url, settings: &Settings, install: &str) -> Vec<Finding> {
        let name = url.host_str().unwrap_or_default();
        let host = name.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(443);
        let there = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) if host == OWN_NAME => self.gateway.clone(),
            Err(_) => self.addresses_of(host),
        };
        if there.is_empty() {
            if self.gateway.is_empty() {
                return Vec::new();
            }
            let what = "its name has no address here, so no hook reaches it";
            let finding = Finding::new(Severity::Problem, "runner-api", host, what);
            return vec![finding.mend(format!("{install} --runner-api https://{OWN_NAME}"))];
        }
        let mut findings = Vec::new();
        let mut answers = Vec::new();
        for address in there.into_iter().filter(|address| self.has_way(*address)) {
            let address = SocketAddr::new(address, port);
            match exchange::ask(address, host) {
                Err(error) => findings.push(api::silent(address, error)),
                Ok(answer) => {
                    findings.extend(api::judge(address, &answer, install, host::is_own));
                    answers.push((address, answer));
                }
            }
        }
        let Some((address, answer)) = answers.first() else {
            return findings;
        };
        let now = Timestamp::now();
        findings.extend(api::certificate(&answer.chain, host, settings, install, now));
        findings.extend(answer.date.and_then(|there| clock::judge(now, there)));
        findings.extend(round_trip(*address, host, answer.took));
        findings.extend(answer.seen.as_ref().map(api::who));
        findings
    }

    fn has_way(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.routes.iter().any(|route| route.to.contains(&address))
    }

    /// A name's addresses, from whoever of the servers has some.
    fn addresses_of(&self, host: &str) -> Vec<IpAddr> {
        let mut servers = self.asked.iter().map(|one| one.server);
        let found = servers.find_map(|server| match addresses(server, host) {
            Said::Addresses(found) => Some(found),
            Said::Nothing(_) | Said::Silence => None,
        });
        found.unwrap_or_default()
    }
}

/// Whether hooks are felt. One slow answer may be chance.
fn round_trip(address: SocketAddr, host: &str, took: Duration) -> Option<Finding> {
    if took <= SLOW {
        return None;
    }
    let took = exchange::ask(address, host).map_or(took, |again| took.min(again.took));
    if took <= SLOW {
        return None;
    }
    let what = format!(
        "it took {} ms to answer; hooks wait for it twice a job",
        took.as_millis()
    );
    let finding = Finding::new(Severity::Warning, "round-trip", host, what);
    Some(finding.mend("tidegate status   # on the gateway"))
}

/// True for an address that means nothing without its link.
fn is_scoped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
