//! What a proposed change is asked by, and what is answered.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::diff::Diff;
use crate::model::{DiagnosticView, PolicyMode};

/// What is to become of a policy.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ProposeRequest {
    /// The text that is changed; the newest stored version when absent.
    #[serde(default)]
    #[schema(example = "egress-policy: audit\n")]
    pub(super) yaml: Option<String>,
    /// The mode that it gets.
    #[serde(default)]
    #[schema(inline)]
    pub(super) mode: Option<ProposedMode>,
    /// Endpoints that it allows from then on: `host[:ports][/udp]`.
    #[serde(default)]
    #[schema(example = json!(["packages.example:443"]))]
    pub(super) allow: Vec<String>,
    /// Endpoints that it denies from then on.
    #[serde(default)]
    pub(super) deny: Vec<String>,
    /// Endpoints that leave both lists. One that stands in neither is an error.
    #[serde(default)]
    pub(super) remove: Vec<String>,
    /// Endpoint sets that it uses from then on.
    #[serde(default, rename = "use")]
    pub(super) use_sets: Vec<String>,
    /// Its lockdown section; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ProposedLockdown>)]
    pub(super) lockdown: LockdownChange,
    /// Compare with the newest stored version, not with `yaml`.
    #[serde(default)]
    pub(super) against_stored: bool,
}

/// A mode that a policy gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum ProposedMode {
    /// What is not allowed is refused.
    Block,
    /// What is not allowed is recorded.
    Audit,
}

/// A lockdown section.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ProposedLockdown {
    /// Whether a detection locks the job down.
    pub(super) enabled: bool,
    /// Which; none means all: `Privileged-Container`, `Runner-Worker-Memory-Read`, `Reverse-Shell`.
    #[serde(default)]
    pub(super) detections: Vec<String>,
}

/// What is to become of an endpoint set.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ProposeSetRequest {
    /// The text that is changed; the stored one when absent.
    #[serde(default)]
    #[schema(example = "- git.example:443\n")]
    pub(super) yaml: Option<String>,
    /// Endpoints that it has from then on.
    #[serde(default)]
    pub(super) add: Vec<String>,
    /// Endpoints that leave it. One that it does not have is an error.
    #[serde(default)]
    pub(super) remove: Vec<String>,
    /// Compare with the stored text, not with `yaml`.
    #[serde(default)]
    pub(super) against_stored: bool,
}

/// A changed document; nothing of it is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Proposal {
    /// The text after the change.
    pub(super) yaml: String,
    /// Whether the change makes a difference.
    pub(super) changed: bool,
    /// The stored version that it is about; 0 when nothing is stored under this name.
    pub(super) base_version: u32,
    /// For `If-Match` of the request that stores it; null when nothing is stored.
    pub(super) etag: Option<String>,
    /// The mode after the change; `none` for a set.
    pub(super) mode: PolicyMode,
    /// What the change is.
    pub(super) diff: Diff,
    /// Everything there is to say about the text after the change.
    pub(super) diagnostics: Vec<DiagnosticView>,
    /// What was asked to be allowed, and was so already: not written again.
    pub(super) covered: Vec<CoveredEndpoint>,
}

/// An endpoint that adds nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CoveredEndpoint {
    /// In the canonical spelling.
    pub(super) endpoint: String,
    /// What covers it, as written.
    pub(super) by: String,
    /// The line of that, in this document or in the set.
    pub(super) line: u32,
    /// The endpoint set that it stands in; null for the document itself.
    pub(super) set: Option<String>,
}

/// What becomes of the lockdown section: absent, it stays.
#[derive(Debug, Default)]
pub(in crate::api) enum LockdownChange {
    #[default]
    Keep,
    Drop,
    Write(ProposedLockdown),
}

/// A section that may be null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LockdownChange, D::Error> {
    let given = Option::<ProposedLockdown>::deserialize(deserializer)?;
    Ok(given.map_or(LockdownChange::Drop, LockdownChange::Write))
}
