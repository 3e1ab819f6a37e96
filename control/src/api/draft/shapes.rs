//! What a draft is asked by, and what is answered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::baselines::ImportMode;
use crate::baseline::collapse::Collapsed;
use crate::baseline::{LeftOut, State as BaselineState};
use crate::model::DiagnosticView;

/// What a policy is drafted from, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct DraftRequest {
    /// Organization whose policy it is to be.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        example = "acme"
    )]
    pub(super) owner: String,
    /// Where endpoints come from.
    pub(super) from: DraftSource,
    /// Reached since.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) since: Option<Timestamp>,
    /// Reached in at least so many runs; 2 when nothing is said. What is given counts without.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) min_runs: Option<u32>,
    /// Mode of the policy; `audit` when nothing is said.
    #[serde(default)]
    #[schema(inline)]
    pub(super) mode: Option<ImportMode>,
    /// These too, though an import leaves them out.
    #[serde(default)]
    pub(super) include: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// Patterns in the place of what they cover; `auto` for those that cover three endpoints or more.
    #[serde(default)]
    pub(super) collapse: Option<Collapse>,
}

/// Where endpoints come from: any of it, or all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct DraftSource {
    /// A baseline: `org:acme`, `repo:acme/web`, `workflow:acme/web/ci.yml`, `cluster:prod`.
    #[serde(default)]
    #[schema(example = "repo:acme/web")]
    pub(super) scope: Option<String>,
    /// Further ones; what any of them takes counts.
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// Endpoints that are given, of a job or of a file.
    #[serde(default)]
    pub(super) endpoints: Vec<String>,
}

/// What becomes of several names below one domain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(in crate::api) enum Collapse {
    /// `auto`: a pattern wherever it covers three endpoints or more.
    Word(CollapseWord),
    /// These patterns. One that strangers can register names for is refused.
    Patterns(Vec<String>),
}

/// How patterns are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum CollapseWord {
    /// By themselves.
    Auto,
}

/// A drafted policy.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Drafted {
    /// The document; it says where it comes from.
    pub(super) yaml: String,
    /// Everything that could be taken, sorted, and what is.
    pub(super) endpoints: Vec<DraftEndpoint>,
    /// What is left out, by reason.
    pub(super) left_out: Vec<LeftOutCount>,
    /// Given texts that are no endpoints.
    pub(super) unreadable: Vec<String>,
    /// The baselines that were looked at.
    pub(super) baselines: Vec<DraftBaseline>,
    /// Patterns that stand for several endpoints now.
    pub(super) collapsed: Vec<Collapsed>,
    /// Patterns that could stand for three endpoints or more.
    pub(super) suggestions: Vec<Collapsed>,
    /// Warnings and notes about the document.
    pub(super) diagnostics: Vec<DiagnosticView>,
}

/// An endpoint that could be taken.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DraftEndpoint {
    /// In the canonical spelling.
    pub(super) endpoint: String,
    /// Whether the document has it, by itself or by a pattern.
    pub(super) chosen: bool,
    /// Trusted runs that reached it, in the baseline with the most; null for one that was given.
    pub(super) runs: Option<u64>,
    /// First reached.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) first_seen: Option<Timestamp>,
    /// Last reached.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) last_seen: Option<Timestamp>,
    /// The scopes whose baselines have it.
    pub(super) from: Vec<String>,
}

/// How many endpoints are left out for a reason.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct LeftOutCount {
    /// Why.
    pub(super) reason: LeftOut,
    /// The same for people, behind a number.
    pub(super) phrase: &'static str,
    /// How many; one that has several reasons counts for each.
    pub(super) count: usize,
}

/// A baseline that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DraftBaseline {
    /// Whose.
    pub(super) scope: String,
    /// Whether it is stable.
    #[schema(value_type = String)]
    pub(super) state: BaselineState,
    /// Its trusted runs.
    pub(super) runs: u64,
}
