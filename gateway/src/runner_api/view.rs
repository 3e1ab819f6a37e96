//! What runners are shown of their job, as JSON.
//!
//! Owns shapes only (interface.md). It shows a source its own job and no other.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;
use tidegate_control_wire::claim::Member;
use tidegate_policy::explain::Explanation;
use tidegate_policy::job::JobIdentity;
use tidegate_policy::rulebook::{Governing, Rulebook};

/// The policy that governs a job.
#[derive(Debug, Serialize)]
pub(super) struct PolicyView {
    id: String,
    name: String,
    version: u32,
    mode: &'static str,
    scope: String,
}

/// What governs a job: a policy, or nothing and so everything is refused.
#[derive(Debug, Serialize)]
pub(super) struct GovernedView {
    /// `null` when everything is refused.
    policy: Option<PolicyView>,
    /// Why everything is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

impl GovernedView {
    pub(super) fn of(book: &Rulebook) -> Self {
        match &book.governing {
            Governing::Policy(policy, scope) => Self {
                policy: Some(PolicyView {
                    id: policy.meta.id.to_string(),
                    name: policy.meta.name.to_string(),
                    version: policy.meta.version,
                    mode: policy.mode.as_str(),
                    scope: scope.to_string(),
                }),
                refused: None,
            },
            Governing::DenyAll(reason) => Self {
                policy: None,
                refused: Some(reason.as_str()),
            },
        }
    }
}

/// A job that was registered.
#[derive(Debug, Serialize)]
pub(super) struct StartedView {
    pub(super) id: String,
    pub(super) sources: Vec<IpAddr>,
    pub(super) assurance: &'static str,
    #[serde(flatten)]
    pub(super) governed: GovernedView,
    /// `null` for leases of the configuration.
    pub(super) expires_at: Option<Timestamp>,
    /// The other gateways of the group.
    pub(super) members: Vec<Member>,
}

/// The job that holds the calling source.
#[derive(Debug, Serialize)]
pub(super) struct CurrentView {
    pub(super) id: String,
    /// `assurance` is in it.
    #[serde(flatten)]
    pub(super) identity: JobIdentity,
    pub(super) network: String,
    pub(super) sources: Vec<IpAddr>,
    #[serde(flatten)]
    pub(super) governed: GovernedView,
    pub(super) expires_at: Option<Timestamp>,
}

/// What would happen to the calling source, and why.
#[derive(Debug, Serialize)]
pub(super) struct WhyView {
    pub(super) source: IpAddr,
    /// The job that holds it.
    pub(super) job: Option<String>,
    #[serde(flatten)]
    pub(super) explanation: Explanation,
}

/// The answer that the Harden-Runner action expects (harden-runner-wire.md).
#[derive(Debug, Serialize)]
pub(super) struct MonitorView {
    pub(super) runner_ip_address: IpAddr,
    pub(super) one_time_key: String,
    pub(super) monitoring_started: bool,
}
