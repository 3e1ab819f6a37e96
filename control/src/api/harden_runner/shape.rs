//! Policies and attachments as the clients of the Harden-Runner wire write and read them (harden-runner-wire.md).
//!
//! Shapes only. Fields that are not known are the clients' own affair: they are foreign programs, and newer than this one.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A policy as it is written. What is left out stays as it is stored.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(in crate::api) struct WirePolicyUpdate {
    /// Organization, as in the path.
    pub(super) owner: Option<String>,
    /// Name, as in the path.
    #[serde(rename = "policyName")]
    pub(super) policy_name: Option<String>,
    /// `host:port`, one each.
    #[serde(default, deserialize_with = "list")]
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) allowed_endpoints: Option<Vec<String>>,
    /// Refused even if allowed.
    #[serde(default, deserialize_with = "list")]
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) denied_endpoints: Option<Vec<String>>,
    /// `audit` or `block`.
    #[schema(example = "block")]
    pub(super) egress_policy: Option<String>,
    pub(super) disable_telemetry: Option<bool>,
    pub(super) disable_sudo: Option<bool>,
    pub(super) disable_file_monitoring: Option<bool>,
    /// For host agents.
    pub(super) lockdown: Option<WireLockdown>,
    /// Where it is attached, and nowhere else; left out, its attachments stay.
    pub(super) attachments: Option<WireAttachments>,
}

/// A client without any endpoints writes `null`: that is an empty list, and not "left out".
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(|list| Some(list.unwrap_or_default()))
}

/// A policy as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::api) struct WirePolicy {
    /// Organization, as in the path.
    pub(super) owner: String,
    /// Name.
    #[serde(rename = "policyName")]
    pub(super) policy_name: String,
    /// As written; those of endpoint sets (`use`) are not among them.
    pub(super) allowed_endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) denied_endpoints: Vec<String>,
    /// Empty when the policy decides only lockdown.
    pub(super) egress_policy: String,
    pub(super) disable_telemetry: bool,
    pub(super) disable_sudo: bool,
    pub(super) disable_file_monitoring: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lockdown: Option<WireLockdown>,
    /// Where it is attached; left out when nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attachments: Option<WireAttachments>,
}

/// The lockdown facet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(in crate::api) struct WireLockdown {
    pub(super) enabled: bool,
    /// None means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detections: Option<Vec<String>>,
}

/// Where a policy is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(in crate::api) struct WireAttachments {
    /// The organization, its repositories and their workflows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) org: Option<WireOrg>,
    /// Names of clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) clusters: Option<Vec<String>>,
}

/// Attachments within an organization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(in crate::api) struct WireOrg {
    /// The organization, as in the path.
    #[serde(default)]
    pub(super) name: String,
    /// To the whole of it.
    #[serde(default)]
    pub(super) apply_to_org: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) repos: Option<Vec<WireRepo>>,
}

/// Attachments within a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(in crate::api) struct WireRepo {
    /// Its name, without the organization's.
    pub(super) name: String,
    /// To the whole of it.
    #[serde(default)]
    pub(super) apply_to_repo: bool,
    /// To these files (`ci.yml`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workflows: Option<Vec<String>>,
}
