//! What the store holds and the API shows: plain data, named as interface.md names it.
//!
//! Owns shapes only. The store fills them in, the API and the CLI (de)serialize them, the web UI will show them.
//! Times are RFC 3339 in JSON. What people write refuses unknown fields; what programs read tolerates them.

mod policies;
mod sessions;
mod stats;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::frame::ServedNetwork;
use tidegate_control_wire::record::{BlockLayer, LeaseRecord};
pub use tidegate_control_wire::secret::Role;
use utoipa::ToSchema;

pub use self::policies::{
    Apply, AttachPreview, Attachment, ClusterFallBack, Counters, DeletePreview, DiagnosticView, Displaced,
    EffectivePolicy, FallBack, FallsBack, Held, Policy, PolicyMode, PolicySummary, PolicyVersion, Set,
    SetSummary,
};
pub use self::sessions::{NewSession, Proven, TokenFilter, TokenKind};
pub use self::stats::{
    EndedLease, FirstSeen, IdlePolicy, ReasonCount, RefusedName, Tried, UnidentifiedSource, VerdictCounts,
    VerdictHour,
};

/// Who did something: in every history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    /// A person or a program: the token's name, or who logged in.
    pub subject: String,
    /// The token that was shown.
    pub token_id: Option<String>,
    /// By which way: `api`, `cli`, `ui`, `harden-runner`, `sync`, `system`.
    pub via: String,
}

impl Actor {
    /// The program itself: expiry, the feed, the configuration.
    pub fn system() -> Self {
        Self {
            subject: "tidegate".into(),
            token_id: None,
            via: "system".into(),
        }
    }
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number in the chain, from 1, without gaps.
    pub seq: u64,
    /// When, in microseconds as it was hashed.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// `policy.created`, `policy.updated`, `policy.attached`, `policy.detached`, `policy.moved` (both at once),
    /// `policy.deleted`, `set.written`, `set.deleted`, and those of tokens, sessions, jobs, the block list, detections and
    /// their suppressions.
    pub action: String,
    /// Organization concerned; empty when none is.
    pub owner: String,
    /// What: `policy acme/base`, `token tok_…`.
    pub target: String,
    /// The policy, by its immutable id.
    pub policy_id: Option<String>,
    /// What changed: versions, scopes, texts. Secrets never.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// Hash of the entry before; 64 zeros for the first.
    pub previous: String,
    /// SHA-256 over the entry and `previous`.
    pub hash: String,
}

/// A token as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it may do.
    #[schema(value_type = String)]
    pub role: Role,
    /// For people; a gateway's is the gateway's name.
    pub name: String,
    /// Owners that it is limited to; empty limits nothing, but a runner token needs owners or repos.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Repositories (`owner/name`) that a runner token is limited to.
    #[serde(default)]
    pub repos: Vec<String>,
    /// Networks that a runner's or provisioner's token is limited to.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The cluster that a runner's or provisioner's token stands for.
    #[serde(default)]
    pub cluster: Option<String>,
    /// When it stops being good.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// A token without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id, named in histories.
    pub id: String,
    /// What it may do.
    #[schema(value_type = String)]
    pub role: Role,
    /// For people.
    pub name: String,
    /// Owners that it is limited to; empty limits nothing.
    pub owners: Vec<String>,
    /// Repositories that it is limited to.
    pub repos: Vec<String>,
    /// Networks that it is limited to.
    pub networks: Vec<String>,
    /// The cluster that it stands for.
    pub cluster: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it stops being good.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was last shown, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// A token, or a session: those are listed apart.
    #[serde(default)]
    pub kind: TokenKind,
    /// A session's: the token that was shown for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// A session's: who logged in at the issuer, as `ISSUER|SUBJECT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

impl Token {
    /// True while it is good at this moment.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }
}

/// A gateway that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayView {
    /// Its name.
    pub name: String,
    /// Gateways of one group share their leases.
    pub group: String,
    /// Networks that it serves.
    #[schema(value_type = Vec<Object>)]
    pub networks: Vec<ServedNetwork>,
    /// Version of its program.
    pub version: String,
    /// First connection.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Timestamp,
    /// Last word.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen_at: Timestamp,
    /// What it has put in force.
    pub generation: u64,
    /// It is connected to this control plane.
    pub connected: bool,
    /// The newest change that concerns it.
    pub newest_generation: u64,
    /// How many generations that is ahead of what it has in force; those that concern others only count, too. 0 when it
    /// has everything.
    pub lag: u64,
    /// Since when there is a change that it has not in force.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub behind_since: Option<Timestamp>,
    /// Living leases of its group.
    pub leases: u64,
    /// Leases that it could not put in place since it is connected here.
    pub refused_leases: u64,
    /// Verdicts that it dropped.
    pub drops: Drops,
    /// What it sent of events, by lane.
    pub spool: Vec<SpoolLane>,
    /// The token of its name; absent when none is good.
    pub token: Option<GatewayToken>,
    /// What is wrong with it; empty when all is well.
    pub degraded: Vec<Degraded>,
}

/// Verdicts that are missing from the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drops {
    /// Said today (UTC).
    pub today: u64,
    /// Said today and on the six days before.
    pub week: u64,
}

/// A lane of a gateway's spool, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpoolLane {
    /// `refusals` or `permits`.
    pub lane: String,
    /// When it sent something last.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// Verdicts that it dropped since it was made.
    pub dropped: u64,
}

/// A gateway's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayToken {
    /// Its id.
    pub id: String,
    /// When it ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was shown last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// Something that is wrong with a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Degraded {
    /// What, for programs.
    pub code: DegradedCode,
    /// The same as a sentence.
    pub text: String,
}

/// What is wrong with a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DegradedCode {
    /// Nothing was heard of it for a while.
    Away,
    /// A change is older than it should be, and not in force.
    Behind,
    /// It dropped verdicts today: the record lacks them.
    Drops,
    /// A lease could not be put in place.
    RefusedLeases,
    /// No good token has its name, or the last one ends soon.
    Token,
    /// Its program is another version than the control plane's.
    Version,
}

/// A job and its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// The lease as gateways know it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub lease: LeaseRecord,
    /// Gateways that share it.
    pub group: String,
    /// When it ended; absent while it runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Who ended it.
    #[schema(value_type = Option<String>)]
    pub ended_by: Option<EndedBy>,
    /// What the verdicts about it add up to by now. Absent where none was asked for or heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<JobCounts>,
}

/// What the verdicts about a job add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobCounts {
    /// Permitted.
    pub permit: u64,
    /// Refused, search suffixes among them.
    pub refuse: u64,
    /// Let through by audit mode, and refused in block mode.
    pub would_refuse: u64,
    /// Bytes from the runner.
    pub bytes_up: u64,
    /// Bytes to the runner.
    pub bytes_down: u64,
    /// The last event that was counted.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
}

/// A living lease, as `GET /leases` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// The source.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// The job that holds it.
    pub job_id: String,
    /// `owner/name`.
    pub repo: String,
    /// Name of the network.
    pub network: String,
    /// Gateways that share it.
    pub group: String,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// An entry of the global block list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockEntryView {
    /// Its id, for removing it.
    pub id: String,
    /// Name, wildcard, address or range.
    pub pattern: String,
    /// Why.
    pub reason: String,
    /// `builtin`, `feed` or `deployment`; only the last can be removed.
    #[schema(value_type = String)]
    pub layer: BlockLayer,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// What the record of events lacks: verdicts that a gateway could not keep until they were stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventLoss {
    /// The day on which the gateway said so, in UTC.
    #[schema(format = Date)]
    pub day: String,
    /// The gateway.
    pub gateway: String,
    /// `refusals` or `permits`.
    pub lane: String,
    /// How many.
    pub dropped: u64,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// At most as many as were asked for.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    pub next: Option<String>,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// [`Page::next`] of the page before.
    pub after: Option<String>,
    /// Items at most; 1 to [`PageRequest::MOST`], 0 for the default.
    pub limit: u32,
}

impl PageRequest {
    /// Items of a page when nothing is said.
    pub const DEFAULT: u32 = 100;
    /// Items of a page at most.
    pub const MOST: u32 = 1_000;

    /// The limit in force.
    pub fn size(&self) -> u32 {
        if self.limit == 0 {
            Self::DEFAULT
        } else {
            self.limit.min(Self::MOST)
        }
    }
}
