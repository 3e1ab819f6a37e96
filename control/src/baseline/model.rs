//! Baselines as they are shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::import::LeftOut;
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
    /// Sorted by endpoint, port and transport.
    pub endpoints: Vec<BaselineEndpoint>,
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
