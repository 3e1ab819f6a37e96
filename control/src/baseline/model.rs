//! Baselines as they are shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::import::{LeftOut, Seen};
use super::sighting::Transport;
use super::standing::State;

/// What a scope's jobs were seen to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Baseline {
    /// Whose jobs.
    pub scope: String,
    /// Whether what is new means something.
    pub state: State,
    /// Trusted runs that were seen.
    pub runs: u64,
    /// Those after the last change.
    pub runs_since_change: u64,
    /// When a trusted run last reached something new; absent before the first run.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// When it was first found to be stable; absent while it never was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stable_at: Option<Timestamp>,
    /// Endpoints that found no room: the baseline holds 10 000, and 1 000 that only strangers reached.
    pub endpoints_dropped: u64,
    /// How many endpoints it has, those of strangers among them.
    pub endpoints_total: u64,
    /// Sorted by endpoint, port and transport.
    pub endpoints: Vec<BaselineEndpoint>,
    /// Where the next page of endpoints begins; absent on the last one, and where no page was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A baseline among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BaselineScope {
    /// Whose jobs.
    pub scope: String,
    /// Whether what is new means something.
    pub state: State,
    /// Trusted runs that were seen.
    pub runs: u64,
    /// Those after the last change.
    pub runs_since_change: u64,
    /// When a trusted run last reached something new; absent before the first run.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub changed_at: Option<Timestamp>,
    /// When it was first found to be stable; absent while it never was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stable_at: Option<Timestamp>,
    /// How many endpoints it has, those of strangers among them.
    pub endpoints: u64,
    /// Endpoints that found no room.
    pub endpoints_dropped: u64,
    /// When something of it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
}

/// One endpoint of a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BaselineEndpoint {
    /// The name, else the address; without a port.
    pub endpoint: String,
    /// The port.
    pub port: u16,
    /// `tcp` (with judged QUIC) or `udp`.
    pub transport: Transport,
    /// When it was first reached.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Timestamp,
    /// When it was last reached. Repeats within a run are added every few seconds.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// How often, by every kind of run. After a crash of the control plane the last seconds' may be missing.
    pub calls: u64,
    /// In how many trusted runs.
    pub runs: u64,
    /// Whether an import takes it by default.
    pub imported: bool,
    /// Why not.
    pub left_out: Vec<LeftOut>,
    /// Calls of each of the days that were asked for, today the last; empty where none were, and for organizations and
    /// clusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub daily: Vec<u64>,
}

impl BaselineEndpoint {
    /// As it was seen, with why an import leaves it out.
    pub fn of(seen: &Seen, left_out: Vec<LeftOut>) -> Self {
        Self {
            endpoint: seen.target.endpoint.to_string(),
            port: seen.target.port,
            transport: seen.target.transport,
            first_seen: seen.first_at,
            last_seen: seen.last_at,
            calls: seen.calls,
            runs: seen.runs,
            imported: left_out.is_empty(),
            left_out,
            daily: Vec::new(),
        }
    }
}

/// One run's way to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Observation {
    /// The endpoint.
    pub endpoint: String,
    /// The port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub transport: Transport,
    /// `owner/name`.
    pub repo: String,
    /// The workflow's file.
    pub workflow: String,
    /// The job's id within the workflow, of the job that reached it first.
    pub job: String,
    /// The run; a job without one by the id of its lease.
    pub run: String,
    /// What triggered the run.
    pub event: String,
    /// Git ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// For pull requests: where the change comes from.
    pub head_repo: String,
    /// How well the job is known.
    pub assurance: String,
    /// When the run reached it first.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
}
