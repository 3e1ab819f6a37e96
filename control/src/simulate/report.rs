//! The answer of a simulation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Mode, Verdict};
use utoipa::ToSchema;

/// What a candidate policy would have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Simulation {
    /// The candidate.
    pub policy: SimulatedPolicy,
    /// Where it would be attached, or would decide.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The clusters in which it would decide there; none when it would in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// What was looked at.
    pub window: Window,
    /// Jobs that it would have governed, as far as events still tell them apart.
    pub jobs: u64,
    /// Runs of theirs.
    pub runs: u64,
    /// How many of the jobs the lists are about, as far as events still tell them apart.
    #[serde(default)]
    pub affected: Affected,
    /// Refused then, let through by the candidate. Those that were reached most come first, as in every list.
    pub newly_permitted: Vec<Change>,
    /// Let through then, refused by the candidate.
    pub newly_refused: Vec<Change>,
    /// Of a candidate that audits: let through, and recorded as what it would refuse if it blocked.
    pub would_refuse: Vec<Change>,
    /// What the record tells too little of.
    pub undecided: Vec<Change>,
    /// How many all of them are: lists have 200 lines at most, 20 when more than three policies are tried at once.
    pub counts: Counts,
    /// What stays as it was.
    pub unchanged: Unchanged,
    /// Verdicts on DNS queries for names that flows were recorded of too: they follow those, and stand in no list.
    pub dns: Dns,
    /// How far the record can be trusted.
    pub completeness: Completeness,
}

/// Jobs by what would become of something of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Affected {
    /// Something that was refused would be let through.
    pub newly_permitted: u64,
    /// Something that was let through would be refused.
    pub newly_refused: u64,
    /// Something would be recorded as what the candidate would refuse if it blocked.
    pub would_refuse: u64,
}

/// The policy that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SimulatedPolicy {
    /// Its name.
    pub name: String,
    /// The stored version that was tried; absent for a document that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What it does.
    #[schema(value_type = String)]
    pub mode: Mode,
    /// It is no stored policy, but the default of a network, as its gateway tells it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network_default: bool,
}

/// A policy that was tried, and where.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The policy.
    pub policy: SimulatedPolicy,
    /// See [`Simulation::scopes`].
    pub scopes: Vec<String>,
    /// See [`Simulation::clusters`].
    pub clusters: Vec<String>,
}

/// A span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Window {
    /// From.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Until.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
}

/// Calls alike that would be decided alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The name, else the address.
    pub endpoint: String,
    /// Port; 0 without ports.
    pub port: u16,
    /// What kind of traffic.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// How often it was decided.
    pub verdicts: u64,
    /// When last.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// What was decided.
    #[schema(value_type = String)]
    pub before: Verdict,
    /// What the candidate decides; absent when that is not known.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Verdict>,
    /// Why it would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule that decides, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Its line in the candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The allowed endpoint that came nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whose calls these were, a few of them.
    pub jobs: Vec<JobOf>,
    /// Of how many workflows.
    pub workflows: u64,
}

/// A job that made a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobOf {
    /// `owner/name`.
    pub repo: String,
    /// File name; empty when it has none.
    pub workflow: String,
    /// Job id within the workflow; empty where only sums are left.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// The forge's run number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run_id: String,
    /// Id of its lease.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job_id: String,
}

/// How many lines a list has without its bound, and how many verdicts they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// Different calls.
    pub calls: u64,
    /// Verdicts.
    pub verdicts: u64,
}

/// The lists in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Of `newly_permitted`.
    pub newly_permitted: Counted,
    /// Of `newly_refused`.
    pub newly_refused: Counted,
    /// Of `would_refuse`.
    pub would_refuse: Counted,
    /// Of `undecided`.
    pub undecided: Counted,
}

/// What stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unchanged {
    /// Let through then and now.
    pub permitted: Counted,
    /// Refused then and now.
    pub refused: Counted,
}

/// Verdicts on queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dns {
    /// Refused then, answered by the candidate.
    pub newly_permitted: u64,
    /// Answered then, refused by the candidate.
    pub newly_refused: u64,
    /// Answered, and recorded as what it would refuse.
    pub would_refuse: u64,
    /// Not known.
    pub undecided: u64,
    /// As before.
    pub unchanged: u64,
}

/// How far the record can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Completeness {
    /// From here on every event was read; before, sums by days.
    #[schema(value_type = String, format = DateTime)]
    pub events_since: Timestamp,
    /// Events that were read.
    pub events: u64,
    /// Sums by days that were read.
    pub sums: u64,
    /// Verdicts that were read and not judged: over the bound of different calls.
    pub left_out: u64,
    /// Verdicts that gateways dropped in these days, of whichever jobs.
    pub dropped: u64,
    /// Verdicts of events that stand for many, or of sums: they can't be told apart any more.
    pub aggregated: u64,
    /// Verdicts on an address without a name.
    pub address_only: u64,
    /// Verdicts that were refusals then: what these jobs would have gone on to reach is not in the record.
    pub refused_then: u64,
    /// The same for people, a sentence each.
    pub sentences: Vec<String>,
}
