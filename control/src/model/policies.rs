//! Policies and endpoint sets as the store holds them and the API shows them.

use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::record::scope_text;
use tidegate_policy::effective::Named;
use tidegate_policy::job::Scope;
use tidegate_policy::verdict::Mode;
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

/// A policy that precedence picks, or that it looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EffectivePolicy {
    /// Its immutable id.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Mode of its egress facet.
    pub mode: PolicyMode,
    /// It can't be put in force (an endpoint set is missing, say), so everything is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unusable: bool,
}

impl EffectivePolicy {
    /// As the policy crate names it. One that can't be put in force refuses what it does not allow: everything.
    pub(crate) fn of(named: &Named, owner: String, unusable: bool) -> Self {
        Self {
            id: named.meta.id.to_string(),
            owner,
            name: named.meta.name.to_string(),
            version: named.meta.version,
            mode: match named.mode {
                Some(Mode::Audit) => PolicyMode::Audit,
                Some(Mode::Block) => PolicyMode::Block,
                None if unusable => PolicyMode::Block,
                None => PolicyMode::None,
            },
            unusable,
        }
    }
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

/// What a table shows of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySummary {
    /// Immutable; a re-created name is another policy.
    pub id: String,
    /// Unique among the owner's.
    pub name: String,
    /// Organization.
    pub owner: String,
    /// Of the newest version; from 1.
    pub version: u32,
    /// Of the newest version.
    pub mode: PolicyMode,
    /// Whether it decides the lockdown facet.
    pub lockdown: bool,
    /// How many endpoints it lists itself, denied ones included.
    pub endpoints: u32,
    /// To how many scopes it is attached.
    pub attached: u32,
    /// The first three of them, sorted.
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
    /// When anything of it last changed, what it is attached to included.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
    /// By whom.
    pub changed_by: String,
    /// When it was deleted; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
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

/// What a table shows of an endpoint set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetSummary {
    /// Organization.
    pub owner: String,
    /// Unique among the owner's.
    pub name: String,
    /// From 1. Also the `ETag`.
    pub version: u32,
    /// How many endpoints it lists.
    pub endpoints: u32,
    /// How many of the owner's policies use it.
    pub used: u32,
    /// The first three of their names, sorted.
    pub used_by: Vec<String>,
    /// When it was last written.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// By whom.
    pub updated_by: String,
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

/// What attaching and detaching would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachPreview {
    /// The policy's version now.
    pub version: u32,
    /// Its mode now.
    pub mode: PolicyMode,
    /// Scopes that it would take.
    pub attach: Vec<String>,
    /// Scopes that it would leave.
    pub detach: Vec<String>,
    /// Scopes that were asked for and that it holds already.
    pub unchanged: Vec<String>,
    /// Policies that would lose a scope to it; needs `replace`.
    pub displaced: Vec<Displaced>,
    /// What decides egress of the scopes' jobs where this policy does not any more.
    pub falls_back: Vec<FallsBack>,
    /// What somebody should know.
    pub warnings: Vec<String>,
    /// Names what was shown here: a change that carries it is refused when something differs by then.
    pub shown: String,
}

/// What deleting a policy would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletePreview {
    /// Its id.
    pub id: String,
    /// Its version now.
    pub version: u32,
    /// Its mode now.
    pub mode: PolicyMode,
    /// Scopes that it would leave.
    pub detached: Vec<String>,
    /// What decides egress of the scopes' jobs then.
    pub falls_back: Vec<FallsBack>,
    /// Names what was shown here: a deletion that carries it is refused when something differs by then.
    pub shown: String,
}

/// A scope whose policy goes, and what its jobs get then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FallsBack {
    /// The scope.
    pub scope: String,
    /// The policy of a wider scope; null for their cluster's policy or their network's default.
    pub to: Option<FallBack>,
    /// Without a wider scope's policy: what jobs get in each cluster that some were seen in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_cluster: Vec<ClusterFallBack>,
}

/// What a scope's jobs get in one cluster, where no wider scope's policy decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterFallBack {
    /// The cluster; empty for networks without one.
    pub cluster: String,
    /// The cluster's policy; null for the network's default.
    pub to: Option<FallBack>,
    /// The defaults of the networks that they were seen in, as gateways name them: `NAME (audit)`, `deny-all`. None when no
    /// gateway says.
    pub defaults: Vec<String>,
}

/// A policy of a wider scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FallBack {
    /// The wider scope.
    pub scope: String,
    /// The policy's owner.
    pub owner: String,
    /// Its name.
    pub policy: String,
    /// Its mode.
    pub mode: PolicyMode,
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
