//! How the spool is, for `tidegate status`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::events::queue::Losses;

/// A moment's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Entries that are not stored.
    pub(crate) entries: u64,
    /// Those of them that are refusals.
    pub(crate) refusals: u64,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Bytes at most.
    pub(crate) bound: u64,
    /// When the oldest of them happened.
    pub(crate) oldest: Option<Timestamp>,
    /// Verdicts and reports dropped since the spool was made.
    pub(crate) dropped: Losses,
    /// Why the disk does not work.
    pub(crate) disk_error: Option<String>,
    /// Why nothing is shipped.
    pub(crate) ship_error: Option<String>,
}

impl Depth {
    /// For `status`.
    pub(crate) fn report(&self, now: Timestamp) -> Value {
        let age = |oldest: Timestamp| now.duration_since(oldest).as_secs().max(0);
        json!({
            "entries": self.entries,
            "bytes": self.bytes,
            "bound_bytes": self.bound,
            "oldest_seconds": self.oldest.map(age),
            "dropped": {"refusals": self.dropped.refusals, "permits": self.dropped.permits},
            "error": self.disk_error.as_ref().or(self.ship_error.as_ref()),
        })
    }

    /// What is wrong, in the words of `status`. That control is away is said by the connection.
    pub(crate) fn degraded(&self) -> Option<String> {
        let error = self.disk_error.as_ref()?;
        Some(format!(
            "the event spool can't be used, events are dropped: {error}"
        ))
    }
}
