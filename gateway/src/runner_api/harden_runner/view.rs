//! The shapes of answers that the clients read (harden-runner-wire.md).

use serde::Serialize;
use tidegate_policy::document::HostSettings;
use tidegate_policy::endpoint::Protocols;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::rulebook::CompiledPolicy;
use tidegate_policy::verdict::Mode;

/// A policy as the clients take it.
#[derive(Debug, Serialize)]
pub(super) struct PolicyView {
    owner: String,
    /// Never empty: the hooks take an empty one for "not found".
    policy_name: String,
    /// Always there: the action calls `join` on it, and falls back to recording when that throws. Endpoint sets are
    /// flattened in. Written with their ports, which the agent reads; those of UDP alone it can't read, so they are left
    /// out: the gateway is who enforces them.
    allowed_endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    denied_endpoints: Vec<String>,
    /// Never empty: the action fails the job or records otherwise.
    egress_policy: &'static str,
    #[serde(flatten)]
    host: HostView,
}

/// What the document says to the runner's own agent. Left out where it says nothing: the action overwrites its own
/// `disable-sudo: true` with a `false` that it is told.
#[derive(Debug, Default, Serialize)]
struct HostView {
    #[serde(rename = "disable_sudo", skip_serializing_if = "Option::is_none")]
    sudo: Option<bool>,
    #[serde(
        rename = "disable_sudo_and_containers",
        skip_serializing_if = "Option::is_none"
    )]
    sudo_and_containers: Option<bool>,
    #[serde(rename = "disable_file_monitoring", skip_serializing_if = "Option::is_none")]
    file_monitoring: Option<bool>,
    #[serde(rename = "disable_telemetry", skip_serializing_if = "Option::is_none")]
    telemetry: Option<bool>,
}

impl From<HostSettings> for HostView {
    fn from(said: HostSettings) -> Self {
        Self {
            sudo: said.disable_sudo,
            sudo_and_containers: said.disable_sudo_and_containers,
            file_monitoring: said.disable_file_monitoring,
            telemetry: said.disable_telemetry,
        }
    }
}

impl PolicyView {
    /// A policy of this owner, as it was spelled in the request.
    pub(super) fn of(owner: &str, policy: &CompiledPolicy) -> Self {
        Self {
            owner: owner.to_owned(),
            policy_name: policy.meta.name.to_string(),
            allowed_endpoints: policy.allowed().texts().filter_map(with_port).collect(),
            denied_endpoints: policy.denied().texts().map(str::to_owned).collect(),
            egress_policy: match policy.mode {
                Mode::Block => "block",
                Mode::Audit => "audit",
            },
            host: policy.host.into(),
        }
    }

    /// One that can't be used: everything is refused, and that is what is said.
    pub(super) fn unusable(owner: &str, name: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            policy_name: name.to_owned(),
            allowed_endpoints: Vec::new(),
            denied_endpoints: Vec::new(),
            egress_policy: "block",
            host: HostView::default(),
        }
    }
}

/// An endpoint in its canonical spelling, when it is one of TCP.
fn with_port(text: &str) -> Option<String> {
    let (endpoint, _) = parse_endpoint(text, Role::Allowed).ok()?;
    (endpoint.protocols != Protocols::Udp).then(|| endpoint.to_string())
}

/// Whether a workflow has a policy.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct CheckView {
    pub(super) has_policy: bool,
    /// The hook polls until the policy is applied.
    pub(super) should_sleep: bool,
}

/// Whether the policy is in force.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct StatusView {
    status: &'static str,
}

impl StatusView {
    pub(super) const fn of(applied: bool) -> Self {
        Self {
            status: if applied { "APPLIED" } else { "NOT_APPLIED" },
        }
    }
}

/// What the agent may switch on: nothing, the gateway does its work.
#[derive(Debug, Serialize)]
pub(super) struct FlagsView {
    agent_type: &'static str,
    enable_armour: bool,
    enable_custom_detection_rules: bool,
}

impl Default for FlagsView {
    fn default() -> Self {
        Self {
            agent_type: "agent-oss",
            enable_armour: false,
            enable_custom_detection_rules: false,
        }
    }
}
