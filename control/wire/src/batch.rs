//! Events on their way to the store: what a gateway's spool sends, and what it hears back.
//!
//! A spool numbers what it keeps, from 1, in each of its lanes; the store keeps, in the same transaction as the events,
//! up to which number of which lane of which spool it has them. So a batch may come twice, late or cut, and each
//! event is stored once. Numbers may leave gaps: what was dropped, or merged into another event. A lane is sent in order,
//! one batch at a time.
//!
//! The body of a batch is lines of JSON: one [`BatchHead`], then an [`Entry`] each.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::Process;

/// Entries of one batch at most.
pub const MAX_ENTRIES: usize = 5_000;
/// Longest body of a batch, in bytes.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// What is kept apart, so that when a spool is full refusals stay longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Refusals, those that audit mode only records included. Sent first.
    Refusals,
    /// Permits, and what agents reported.
    Permits,
}

impl Lane {
    /// Both, in the order in which they are sent.
    pub const ALL: [Self; 2] = [Self::Refusals, Self::Permits];

    /// The spelling in the store and in file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refusals => "refusals",
            Self::Permits => "permits",
        }
    }
}

/// The first line of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHead {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// Id of the spool, made with its folder.
    pub spool: CompactString,
    /// Which lane.
    pub lane: Lane,
    /// Verdicts of this lane that the spool and the queue before it dropped since the spool was made.
    pub dropped: u64,
}

/// A line after the first, as a gateway sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Its number in the lane; larger than that of the line before.
    pub seq: u64,
    /// A network event ([`crate::event::EventRecord`]).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a RawValue>,
    /// What an agent on the runner reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ProcessReport>,
}

/// An agent's report: this process of this job reached for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// When, by the gateway's clock.
    pub time: jiff::Timestamp,
    /// Id of the job's lease.
    pub job_id: CompactString,
    /// The name, without its trailing dot; empty when only an address was reported.
    #[serde(default)]
    pub name: CompactString,
    /// The address, when reported.
    #[serde(default)]
    pub address: Option<std::net::IpAddr>,
    /// The port, when reported; 0 otherwise.
    #[serde(default)]
    pub port: u16,
    /// The process.
    pub process: Process,
}

/// What the store says to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStored {
    /// Everything of the lane up to this number is stored; the spool may forget it.
    pub stored: u64,
    /// Entries of this batch that were no events, or somebody else's: they are not stored and would never be.
    #[serde(default)]
    pub refused: u64,
}
