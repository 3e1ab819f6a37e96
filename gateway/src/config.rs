//! The gateway's configuration: what was written (`raw`) and what it means ([`GatewayConfig`]).
//!
//! Owns reading and checking the file; never acts on it. Relative paths are relative to the file.
//! `cli` reads it at start, [`crate::appliance`] again on SIGHUP; a bad file is refused whole.

mod raw;
mod resolve;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use compact_str::CompactString;
use ipnet::IpNet;
use thiserror::Error;
use tidegate_policy::DnsName;
use tidegate_policy::endpoint::NamePattern;
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::rulebook::Destination;
use tidegate_policy::subject::RunnerKind;

/// Why a configuration is refused. One clear sentence each: what, where, what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not the YAML that is expected.
    #[error("{path}{position}: {message}{hint}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// `:line:column`, where known.
        position: String,
        /// What is wrong.
        message: String,
        /// What to do, after `; `, where known.
        hint: String,
    },
    /// A value that does not mean anything.
    #[error("{path}: {key}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// What is wrong and what to write.
        message: String,
    },
}

/// A gateway's configuration, resolved: paths absolute, names canonical, defaults filled in.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Name of the gateway, in every event.
    pub name: CompactString,
    /// Gateways of one group share their leases.
    pub group: Option<CompactString>,
    /// The control plane in another process.
    pub control_plane: Option<ControlPlaneConfig>,
    /// Where it keeps its state: the status socket, the last known policies.
    pub state_dir: PathBuf,
    /// Runner-facing networks, at least one.
    pub networks: Vec<NetworkConfig>,
    /// Policy of sources without a lease in networks that name none.
    pub default_policy: Option<PathBuf>,
    /// Endpoint sets for `use:`, by name.
    pub endpoint_sets: Vec<(String, PathBuf)>,
    /// The resolver.
    pub dns: DnsConfig,
    /// The proxy.
    pub proxy: ProxyConfig,
    /// Global block lists.
    pub global_block: Vec<PathBuf>,
    /// Leases from the file.
    pub static_leases: Vec<StaticLeaseConfig>,
    /// Where runners register their jobs; `None` serves none.
    pub runner_api: Option<RunnerApiConfig>,
    /// The event log; `None` keeps none. Without it, a control plane and a runner API, no event is kept at all.
    pub events: Option<EventLogConfig>,
    /// Bytes of events that wait on disk for the control plane, at most; 64 KiB or more.
    pub spool_bytes: u64,
    /// Where Prometheus scrapes; `None` counts nothing.
    pub metrics: Option<SocketAddr>,
}

/// `control-plane:` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlaneConfig {
    /// Whether it is reached by TLS; without, only on loopback.
    pub tls: bool,
    /// Its host: a name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The gateway's token, read anew at each connect.
    pub token_file: PathBuf,
    /// Roots that its certificate must chain to (PEM); `None` means the system's.
    pub ca: Option<PathBuf>,
}

/// One runner-facing network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its name.
    pub name: CompactString,
    /// The interface; everything from it is diverted or dropped.
    pub interface: String,
    /// Cluster of its jobs.
    pub cluster: CompactString,
    /// Kind of its runners.
    pub runners: RunnerKind,
    /// Policy of its sources without a lease.
    pub default_policy: Option<PathBuf>,
    /// Weaker identities get the default policy.
    pub min_assurance: Option<Assurance>,
    /// Endpoints that every job of the network may reach.
    pub always_allow: Option<PathBuf>,
}

/// `dns:` resolved. Upstreams stay text: `tidegate-dns` owns their grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Upstreams, tried in this order.
    pub upstreams: Vec<String>,
    /// Split DNS: zones with upstreams of their own.
    pub forward: Vec<(DnsName, Vec<String>)>,
    /// Names that may resolve to private addresses.
    pub internal_domains: Vec<NamePattern>,
    /// Names answered to every job.
    pub hosts: Vec<(DnsName, Vec<IpAddr>)>,
    /// Further roots for DoT and DoH upstreams (PEM).
    pub upstream_ca: Option<PathBuf>,
    /// Certificate and key for serving DoT and DoH to runners.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// `proxy:` and `egress:` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// How long a begun hello or request may take; 100 ms to 60 s.
    pub detect_timeout: Duration,
    /// What happens to an allowed name towards an unticketed address.
    pub destination: Destination,
    /// Least life of a ticket; 1 s to 7 days.
    pub ticket_hold: Duration,
    /// Which address the gateway dials from.
    pub egress: Egress,
}

/// The source address of dialled connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// The gateway's own, chosen by the kernel's routes.
    Gateway,
    /// The runner's.
    Preserve,
    /// These, spread by destination.
    Addresses(Vec<IpAddr>),
}

/// A lease from the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticLeaseConfig {
    /// Its addresses and ranges.
    pub sources: Vec<IpNet>,
    /// Its job.
    pub identity: JobIdentity,
    /// Its policy file; without one, precedence picks.
    pub policy: Option<PathBuf>,
}

/// The runner API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerApiConfig {
    /// Where it listens: 1 to 16 of the gateway's own runner-facing addresses, each with a port.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain (PEM), sent whatever name a client asks for.
    pub cert: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// Where summaries send people to see a job: an `http` or `https` URL in which `{job}` stands for its id.
    pub job_page: Option<String>,
}

/// The event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLogConfig {
    /// NDJSON file.
    pub file: PathBuf,
    /// Rotated at this size, in bytes.
    pub rotate_bytes: u64,
    /// Rotated files kept.
    pub keep: u32,
}

impl GatewayConfig {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a configuration that stands at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        resolve::file(text, path)
    }
}

#[cfg(test)]
mod tests;
