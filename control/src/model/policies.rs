//! Policies and endpoint sets as the store holds them and the API shows them.

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::record::scope_text;
use tidegate_policy::job::Scope;
use utoipa::ToSchema;

/// The mode of a policy's egress facet, or that it leaves egress to the next scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyMode {
    /// What is not allowed is refused.
    Block,
    /// What is not allowed is recorded.
    Audit,
    /// It decides the lockdown facet only.
    None,
}

/// When a change of a policy is put in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Apply {
    /// For every job, those that run included.
    #[default]
    Now,
    /// For jobs that begin afterwards; those that run keep the version they began with.
    NextJob,
}

/// One thing that a document's reader has to say, as `tidegate check` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiagnosticView {
    /// `error`, `warning` or `note`.
    pub severity: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Characters that it is about.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Immutable; a re-created name is another policy.
    pub id: String,
    /// Unique among the owner's.
    pub name: String,
    /// Organization.
    pub owner: String,
    /// Of the newest version; from 1. Also the `ETag`.
    pub version: u32,
    /// Of the newest version.
    pub mode: PolicyMode,
    /// Whether it decides the lockdown facet.
    pub lockdown: bool,
    /// The document as written.
    pub yaml: String,
    /// How many endpoints it lists itself, denied ones included.
    pub endpoints: u32,
    /// Its parsed form.
    #[schema(value_type = Object)]
    pub parsed: serde_json::Value,
    /// Where it is attached, sorted.
    #[schema(value_type = Vec<String>)]
    pub attachments: Vec<String>,
    /// When the name was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the newest version was.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
    /// When it was deleted; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
    /// Warnings and notes about the newest version. Filled in where a document was written.
    #[serde(default)]
    pub diagnostics: Vec<DiagnosticView>,
}

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVersion {
    /// From 1.
    pub version: u32,
    /// The document as written.
    pub yaml: String,
    /// When it was put in force.
    pub apply: Apply,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// How many policies there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// All.
    pub total: u64,
    /// In block mode.
    pub block: u64,
    /// In audit mode.
    pub audit: u64,
    /// Attached nowhere.
    pub unattached: u64,
}

/// An endpoint set, for `use:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Set {
    /// Organization.
    pub owner: String,
    /// Unique among the owner's.
    pub name: String,
    /// From 1. Also the `ETag`.
    pub version: u32,
    /// The document as written.
    pub yaml: String,
    /// How many endpoints it lists.
    pub endpoints: u32,
    /// Names of the owner's policies that use it, sorted.
    pub used_by: Vec<String>,
    /// When it was last written.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
    /// Warnings and notes. Filled in where a document was written.
    #[serde(default)]
    pub diagnostics: Vec<DiagnosticView>,
}

/// What came of attaching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The policy with its attachments as they are now.
    pub policy: Policy,
    /// Policies that lost a scope to it.
    pub displaced: Vec<Displaced>,
    /// What somebody should know: `workflow:acme/web/ci.yml is stricter than repo:acme/web …`.
    pub warnings: Vec<String>,
}

/// A policy that lost a scope to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Displaced {
    /// The scope.
    pub scope: String,
    /// Name of the policy that held it.
    pub policy: String,
    /// Its owner.
    pub owner: String,
}

/// A scope with its policy, of one policy's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The scope.
    #[serde(with = "scope_text")]
    pub scope: Scope,
    /// Id of the policy.
    pub policy: CompactString,
}
