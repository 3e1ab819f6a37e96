//! The configuration file as it is written: names, shapes and defaults, nothing resolved.
//!
//! One struct a section; an unknown key is an error. What the values mean is decided in
//! [`super::resolve`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use tidegate_policy::job::Assurance;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Version of the format: 1.
    pub(super) version: u32,
    /// The gateway's half.
    pub(super) gateway: Option<Gateway>,
    /// The control plane's half; the gateway doesn't look into it.
    #[serde(rename = "control")]
    pub(super) _control: Option<serde_yaml::Value>,
}

/// `gateway:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) group: Option<String>,
    #[serde(default = "default_state_dir")]
    pub(super) state_dir: PathBuf,
    pub(super) networks: Vec<Network>,
    pub(super) default_policy: Option<PathBuf>,
    #[serde(default)]
    pub(super) endpoint_sets: BTreeMap<String, PathBuf>,
    pub(super) dns: Dns,
    #[serde(default)]
    pub(super) proxy: Proxy,
    #[serde(default)]
    pub(super) egress: Egress,
    #[serde(default)]
    pub(super) global_block: Vec<PathBuf>,
    #[serde(default)]
    pub(super) static_leases: Vec<StaticLease>,
    pub(super) runner_api: Option<RunnerApi>,
    #[serde(default)]
    pub(super) events: Events,
    #[serde(default)]
    pub(super) metrics: Metrics,
    pub(super) control_plane: Option<ControlPlane>,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/tidegate".into()
}

/// One entry of `networks:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) interface: String,
    #[serde(default)]
    pub(super) cluster: String,
    #[serde(default)]
    pub(super) runners: Runners,
    pub(super) default_policy: Option<PathBuf>,
    pub(super) min_assurance: Option<Assurance>,
    pub(super) always_allow: Option<PathBuf>,
}

/// `runners:` of a network.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Runners {
    #[default]
    Ephemeral,
    Persistent,
}

/// `dns:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Dns {
    pub(super) upstreams: Vec<String>,
    #[serde(default)]
    pub(super) forward: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) internal_domains: Vec<String>,
    #[serde(default)]
    pub(super) hosts: BTreeMap<String, Vec<IpAddr>>,
    /// PEM file of further roots that DoT and DoH upstreams may chain to.
    pub(super) upstream_ca: Option<PathBuf>,
    /// Certificate and key with which the gateway itself serves DoT and DoH to runners.
    pub(super) tls: Option<Tls>,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// `runner-api:`. TLS is not optional: runners show their tokens here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RunnerApi {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) tls: Tls,
    /// Where people see a job: a URL in which `{job}` stands for its id.
    pub(super) job_page: Option<String>,
}

/// `proxy:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Proxy {
    pub(super) detect_timeout: String,
    pub(super) destination: Destination,
    pub(super) ticket_hold: String,
    pub(super) quic: Quic,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            detect_timeout: "3s".into(),
            destination: Destination::Resolve,
            ticket_hold: "1h".into(),
            quic: Quic::Refuse,
        }
    }
}

/// `proxy.destination`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Destination {
    Resolve,
    TicketOnly,
}

/// `proxy.quic`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Quic {
    Refuse,
    Inspect,
}

/// `egress:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Egress {
    #[serde(default)]
    pub(super) source: EgressSource,
}

/// `egress.source`: a word, or a list of addresses.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected `gateway`, `preserve` or a list of addresses")]
pub(super) enum EgressSource {
    Word(EgressWord),
    Addresses(Vec<IpAddr>),
}

impl Default for EgressSource {
    fn default() -> Self {
        Self::Word(EgressWord::Gateway)
    }
}

/// The words of `egress.source`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EgressWord {
    Gateway,
    Preserve,
}

/// One entry of `static-leases:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticLease {
    pub(super) sources: Vec<Source>,
    pub(super) owner: String,
    #[serde(default)]
    pub(super) repo: String,
    #[serde(default)]
    pub(super) workflow: String,
    #[serde(default)]
    pub(super) job: String,
    pub(super) policy: Option<PathBuf>,
}

/// An address or a range.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected an address such as 10.77.1.2, or a range such as 10.77.1.0/24"
)]
pub(super) enum Source {
    Net(IpNet),
    Address(IpAddr),
}

/// `control-plane:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ControlPlane {
    pub(super) url: String,
    pub(super) token_file: PathBuf,
    /// PEM file of the roots that its certificate must chain to; without it, the system's.
    pub(super) ca: Option<PathBuf>,
}

/// `events:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Events {
    pub(super) file: Option<PathBuf>,
    /// Size at which the file is rotated.
    pub(super) rotate_bytes: Option<u64>,
    /// Rotated files kept.
    pub(super) keep: Option<u32>,
    /// Bytes that wait for the control plane at most.
    pub(super) spool_bytes: Option<u64>,
}

/// `metrics:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: Option<SocketAddr>,
}
