//! From what was written to what it means: paths, names, spans, and the rules between keys.

mod plane;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tidegate_policy::DnsName;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::endpoint::{Host, NamePattern};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::rulebook::Destination;
use tidegate_policy::settings::{self, SettingsError, parse_span};
use tidegate_policy::subject::RunnerKind;

use super::{
    ConfigError, DnsConfig, Egress, EventLogConfig, GatewayConfig, NetworkConfig, ProxyConfig,
    RunnerApiConfig, StaticLeaseConfig, raw,
};
use crate::events::{DEFAULT_BYTES, MIN_BYTES};

/// Rotation when the file names no size.
const DEFAULT_ROTATE: u64 = 64 << 20;
/// Rotated files kept when the file names no number.
const DEFAULT_KEEP: u32 = 4;
/// Longest URL in the configuration, in bytes.
const MAX_URL: usize = 1_024;
/// Addresses that the runner API listens on, at most.
const MAX_LISTENERS: usize = 16;

/// Reads `text`, which stands at `path`.
pub(super) fn file(text: &str, path: &Path) -> Result<GatewayConfig, ConfigError> {
    let at = At { path };
    let file: raw::File = settings::read(text).map_err(|error| at.syntax(error))?;
    if file.version != 1 {
        let message = format!(
            "{} is not a version that this program reads; write 1",
            file.version
        );
        return Err(at.value("version", message));
    }
    let gateway = file
        .gateway
        .ok_or_else(|| at.value("gateway", "the section is missing".into()))?;
    at.gateway(gateway)
}

/// The place of the file: for errors, and for what relative paths are relative to.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a Path,
}

impl At<'_> {
    fn value(self, key: &str, message: String) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key: key.to_owned(),
            message,
        }
    }

    fn syntax(self, error: SettingsError) -> ConfigError {
        ConfigError::Syntax {
            path: self.path.to_owned(),
            position: error.position,
            message: error.message,
            hint: error.hint,
        }
    }

    fn join(self, file: PathBuf) -> PathBuf {
        match self.path.parent() {
            Some(folder) if file.is_relative() => folder.join(file),
            _ => file,
        }
    }

    fn gateway(self, raw: raw::Gateway) -> Result<GatewayConfig, ConfigError> {
        if raw.name.is_empty() {
            return Err(self.value("gateway.name", "write a name for this gateway".into()));
        }
        if raw.networks.is_empty() {
            return Err(self.value(
                "gateway.networks",
                "name at least one runner-facing interface".into(),
            ));
        }
        Ok(GatewayConfig {
            name: raw.name.into(),
            group: raw.group.map(|group| self.group(group)).transpose()?,
            control_plane: raw
                .control_plane
                .map(|plane| self.control_plane(plane))
                .transpose()?,
            state_dir: self.join(raw.state_dir),
            networks: self.networks(raw.networks)?,
            default_policy: raw.default_policy.map(|file| self.join(file)),
            endpoint_sets: raw
                .endpoint_sets
                .into_iter()
                .map(|(name, file)| (name, self.join(file)))
                .collect(),
            dns: self.dns(raw.dns)?,
            proxy: self.proxy(&raw.proxy, raw.egress)?,
            global_block: raw.global_block.into_iter().map(|file| self.join(file)).collect(),
            static_leases: self.leases(raw.static_leases)?,
            runner_api: raw.runner_api.map(|api| self.runner_api(api)).transpose()?,
            spool_bytes: self.spool_bytes(raw.events.spool_bytes)?,
            events: raw.events.file.map(|file| EventLogConfig {
                file: self.join(file),
                rotate_bytes: raw.events.rotate_bytes.unwrap_or(DEFAULT_ROTATE).max(4096),
                keep: raw.events.keep.unwrap_or(DEFAULT_KEEP).max(1),
            }),
            metrics: raw.metrics.listen,
        })
    }

    fn networks(self, raw: Vec<raw::Network>) -> Result<Vec<NetworkConfig>, ConfigError> {
        let mut networks: Vec<NetworkConfig> = Vec::new();
        for (index, one) in raw.into_iter().enumerate() {
            let key = format!("gateway.networks[{index}]");
            if networks
                .iter()
                .any(|other| other.name == one.name || other.interface == one.interface)
            {
                let message = format!("{} or {} is named twice", one.name, one.interface);
                return Err(self.value(&key, message));
            }
            // IFNAMSIZ, without characters that mean something to nft.
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
            if one.interface.is_empty() || one.interface.len() > 15 || !one.interface.chars().all(plain) {
                let message = format!("{:?} is not the name of an interface", one.interface);
                return Err(self.value(&format!("{key}.interface"), message));
            }
            networks.push(NetworkConfig {
                name: one.name.into(),
                interface: one.interface,
                cluster: one.cluster.into(),
                runners: match one.runners {
                    raw::Runners::Ephemeral => RunnerKind::Ephemeral,
                    raw::Runners::Persistent => RunnerKind::Persistent,
                },
                default_policy: one.default_policy.map(|file| self.join(file)),
                min_assurance: one.min_assurance,
                always_allow: one.always_allow.map(|file| self.join(file)),
            });
        }
        Ok(networks)
    }

    fn dns(self, raw: raw::Dns) -> Result<DnsConfig, ConfigError> {
        if raw.upstreams.is_empty() {
            return Err(self.value(
                "gateway.dns.upstreams",
                "name at least one upstream resolver".into(),
            ));
        }
        let mut forward = Vec::new();
        for (zone, upstreams) in raw.forward {
            let name = self.name(&format!("gateway.dns.forward.{zone}"), &zone)?;
            forward.push((name, upstreams));
        }
        let mut hosts = Vec::new();
        for (host, addresses) in raw.hosts {
            hosts.push((self.name(&format!("gateway.dns.hosts.{host}"), &host)?, addresses));
        }
        let mut internal_domains = Vec::new();
        for (index, domain) in raw.internal_domains.iter().enumerate() {
            internal_domains.push(self.pattern(&format!("gateway.dns.internal-domains[{index}]"), domain)?);
        }
        Ok(DnsConfig {
            upstreams: raw.upstreams,
            forward,
            internal_domains,
            hosts,
            upstream_ca: raw.upstream_ca.map(|file| self.join(file)),
            tls: raw.tls.map(|tls| (self.join(tls.cert), self.join(tls.key))),
        })
    }

    fn proxy(self, raw: &raw::Proxy, egress: raw::Egress) -> Result<ProxyConfig, ConfigError> {
        if matches!(raw.quic, raw::Quic::Inspect) {
            let message = "this version can't inspect QUIC yet; write refuse".to_owned();
            return Err(self.value("gateway.proxy.quic", message));
        }
        let week = Duration::from_hours(7 * 24);
        Ok(ProxyConfig {
            detect_timeout: self.span(
                "gateway.proxy.detect-timeout",
                &raw.detect_timeout,
                Duration::from_millis(100)..=Duration::from_mins(1),
            )?,
            ticket_hold: self.span(
                "gateway.proxy.ticket-hold",
                &raw.ticket_hold,
                Duration::from_secs(1)..=week,
            )?,
            destination: match raw.destination {
                raw::Destination::Resolve => Destination::Resolve,
                raw::Destination::TicketOnly => Destination::TicketOnly,
            },
            egress: match egress.source {
                raw::EgressSource::Word(raw::EgressWord::Gateway) => Egress::Gateway,
                raw::EgressSource::Word(raw::EgressWord::Preserve) => Egress::Preserve,
                raw::EgressSource::Addresses(addresses) if addresses.is_empty() => {
                    return Err(self.value("gateway.egress.source", "the list of addresses is empty".into()));
                }
                raw::EgressSource::Addresses(addresses) => Egress::Addresses(addresses),
            },
        })
    }

    fn leases(self, raw: Vec<raw::StaticLease>) -> Result<Vec<StaticLeaseConfig>, ConfigError> {
        let mut leases: Vec<StaticLeaseConfig> = Vec::new();
        for (index, one) in raw.into_iter().enumerate() {
            let key = format!("gateway.static-leases[{index}]");
            let sources: Vec<IpNet> = one
                .sources
                .iter()
                .map(|source| match source {
                    raw::Source::Net(net) => net.trunc(),
                    raw::Source::Address(address) => IpNet::from(*address),
                })
                .collect();
            if sources.is_empty() || one.owner.is_empty() {
                return Err(self.value(&key, "a lease needs sources and an owner".into()));
            }
            if let Some(twice) = sources
                .iter()
                .find(|net| leases.iter().any(|other| other.sources.contains(net)))
            {
                return Err(self.value(&key, format!("{twice} is held by another static lease already")));
            }
            let identity = JobIdentity {
                owner: one.owner.into(),
                repo: one.repo.into(),
                workflow: one.workflow.into(),
                job: one.job.into(),
                run_id: "".into(),
                run_attempt: 0,
                runner_name: "".into(),
                cluster: "".into(),
                event: "".into(),
                git_ref: "".into(),
                actor: "".into(),
                head_repo: "".into(),
                assurance: Assurance::Static,
            }
            .canonical();
            leases.push(StaticLeaseConfig {
                sources,
                identity,
                policy: one.policy.map(|file| self.join(file)),
            });
        }
        Ok(leases)
    }

    fn runner_api(self, raw: raw::RunnerApi) -> Result<RunnerApiConfig, ConfigError> {
        let key = "gateway.runner-api.listen";
        if raw.listen.is_empty() || raw.listen.len() > MAX_LISTENERS {
            let message =
                format!("write 1 to {MAX_LISTENERS} of the gateway's own addresses, such as 10.77.1.1:443");
            return Err(self.value(key, message));
        }
        for (index, address) in raw.listen.iter().enumerate() {
            let key = format!("{key}[{index}]");
            if raw.listen[..index].contains(address) {
                return Err(self.value(&key, format!("{address} is named twice")));
            }
            if address.port() == 0 {
                return Err(self.value(&key, format!("{address} has no port; 443 is usual")));
            }
            // Every address would be one of the upstream side too, and a link-local one needs a scope.
            let ip = address.ip();
            let scoped = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || scoped {
                let message =
                    format!("{ip} can't be listened on; write a runner-facing address of this gateway");
                return Err(self.value(&key, message));
            }
        }
        // What ends a link in Markdown, or a line, is in no URL as people write it.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&'*+,;=%{}".contains(c);
        let is_url = |url: &String| {
            let web = url.starts_with("https://") || url.starts_with("http://");
            web && url.len() <= MAX_URL && url.chars().all(plain)
        };
        if let Some(wrong) = raw.job_page.iter().find(|url| !is_url(url)) {
            let message = format!("{wrong:?} is no URL; write https://HOST/PATH/{{job}}");
            return Err(self.value("gateway.runner-api.job-page", message));
        }
        Ok(RunnerApiConfig {
            listen: raw.listen,
            job_page: raw.job_page,
            cert: self.join(raw.tls.cert),
            key: self.join(raw.tls.key),
        })
    }

    fn spool_bytes(self, bytes: Option<u64>) -> Result<u64, ConfigError> {
        match bytes {
            None => Ok(DEFAULT_BYTES),
            Some(bytes) if bytes >= MIN_BYTES => Ok(bytes),
            Some(bytes) => {
                let message =
                    format!("{bytes} bytes are too few for events to wait in; write {MIN_BYTES} or more");
                Err(self.value("gateway.events.spool-bytes", message))
            }
        }
    }

    fn name(self, key: &str, text: &str) -> Result<DnsName, ConfigError> {
        DnsName::parse(text).map_err(|error| self.value(key, format!("{text:?} is not a host name: {error}")))
    }

    fn pattern(self, key: &str, text: &str) -> Result<NamePattern, ConfigError> {
        match parse_endpoint(text, Role::Denied).map(|(endpoint, _)| endpoint.host) {
            Ok(Host::Name(pattern)) => Ok(pattern),
            Ok(Host::Net(_)) => Err(self.value(key, format!("{text:?} is an address; write a domain"))),
            Err(error) => Err(self.value(key, error.to_string())),
        }
    }

    fn span(
        self,
        key: &str,
        text: &str,
        bounds: std::ops::RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let Some(span) = parse_span(text) else {
            return Err(self.value(
                key,
                format!("{text:?} is not a time span; write 500ms, 3s, 10m, 1h or 2d"),
            ));
        };
        if bounds.contains(&span) {
            return Ok(span);
        }
        Err(self.value(
            key,
            format!(
                "{text} is out of bounds: {:?} to {:?}",
                bounds.start(),
                bounds.end()
            ),
        ))
    }
}
