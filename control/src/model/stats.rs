//! Sums as the API shows them: verdicts over time, what is refused most, what was reached first, who asks without a lease.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Verdicts of an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictHour {
    /// When the hour began.
    #[schema(value_type = String, format = DateTime)]
    pub hour: Timestamp,
    /// How often each verdict came in it.
    #[serde(flatten)]
    pub verdicts: VerdictCounts,
}

/// How often each verdict came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictCounts {
    /// Let through.
    pub permit: u64,
    /// Refused.
    pub refuse: u64,
    /// Let through in audit mode, would be refused in block mode.
    pub would_refuse: u64,
}

/// A name or an address that was refused, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedName {
    /// The name, else the address.
    pub endpoint: String,
    /// Refused.
    pub refuse: u64,
    /// Would be refused in block mode.
    pub would_refuse: u64,
    /// How many workflows asked for it; those without a job are none.
    pub workflows: u64,
    /// Why, as events spell it; null when there are several reasons.
    pub reason: Option<String>,
    /// What that reason means, in a sentence.
    pub meaning: Option<String>,
    /// When last.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
}

/// An endpoint that an organization's jobs had not reached before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FirstSeen {
    /// The organization.
    pub owner: String,
    /// The name, else the address.
    pub endpoint: String,
    /// The port; 0 without.
    pub port: u16,
    /// `tcp` or `udp`.
    pub transport: String,
    /// When first.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Timestamp,
    /// When last.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// How often.
    pub calls: u64,
    /// Runs whose identity is trusted that reached it; 0: forks' pull requests or claimed identities only.
    pub runs: u64,
    /// No other organization reached it before; null for tokens that are limited to owners, and where there are more than
    /// 200 organizations to compare with.
    pub anywhere: Option<bool>,
}

/// A policy that says nothing to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdlePolicy {
    /// Its owner.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Where it is attached; empty: nowhere.
    pub attachments: Vec<String>,
    /// When its newest version was made.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What a source without a lease tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnidentifiedSource {
    /// Its address.
    pub source: String,
    /// The network that it is in.
    pub network: String,
    /// The gateway that saw it.
    pub gateway: String,
    /// When first, within the days that were asked for.
    #[schema(value_type = String, format = DateTime)]
    pub first_at: Timestamp,
    /// When last.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// Verdicts that let something through.
    pub permits: u64,
    /// Refusals.
    pub refusals: u64,
    /// What block mode would refuse.
    pub would_refuse: u64,
    /// Why, the most frequent first.
    pub reasons: Vec<ReasonCount>,
    /// What it tried, the most frequent first; ten at most.
    pub tried: Vec<Tried>,
    /// How many further endpoints it tried.
    pub further: u64,
    /// The job that holds a lease on this address by now.
    pub lease_now: Option<String>,
    /// The last job that held one, and when that ended.
    pub near: Option<EndedLease>,
}

/// How often a reason came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonCount {
    /// As events spell it.
    pub reason: String,
    /// What it means, in a sentence.
    pub meaning: String,
    /// How often.
    pub count: u64,
}

/// Something that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tried {
    /// The name, else the address.
    pub endpoint: String,
    /// The port; 0 without.
    pub port: u16,
    /// The verdict, as events spell it.
    pub verdict: String,
    /// How often.
    pub count: u64,
}

/// A job whose lease on an address ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedLease {
    /// The job.
    pub job_id: String,
    /// When its lease ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
}
