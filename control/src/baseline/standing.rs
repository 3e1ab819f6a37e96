//! When a baseline is stable: a state machine over runs and changes.
//!
//! A *change* is an endpoint that no trusted run of the scope reached before. Times are those of the events; they only
//! matter for the age of the last change, so a batch that comes late changes nothing but when it says so itself. Runs and
//! changes are told in the order in which they are stored; which endpoints a baseline has does not depend on that order,
//! whether one of them is late does.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Runs without a change after which a baseline is stable.
pub const QUIET_RUNS: u64 = 100;
/// Time without a change after which one of [`FEW_RUNS`] is.
pub const QUIET: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Runs that a baseline has at least when time alone makes it stable.
pub const FEW_RUNS: u64 = 10;
/// Runs without a change after which an unsettled baseline is stable again.
pub const SETTLED: u64 = 50;

/// The state of a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not known well enough: what is new means nothing yet.
    Creating,
    /// Nothing new for 100 runs, or for 14 days with 10 runs at least.
    Stable,
    /// It was stable once, and changed within the last 50 runs; or it holds as many endpoints as it can.
    Unstable,
}

impl State {
    /// The spelling in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Stable => "stable",
            Self::Unstable => "unstable",
        }
    }
}

/// Where a baseline stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Trusted runs.
    pub runs: u64,
    /// Trusted runs that began to be seen after the last change.
    pub quiet: u64,
    /// The last change; the first run before there was one.
    pub changed_at: Option<Timestamp>,
    /// When it was first found to be stable.
    pub stable_at: Option<Timestamp>,
    /// It changed since.
    pub unsettled: bool,
    /// It can't hold another endpoint.
    pub full: bool,
}

impl Standing {
    /// The state at a time.
    pub fn state(&self, now: Timestamp) -> State {
        if self.full {
            return State::Unstable;
        }
        match self.stable_at {
            None if self.has_settled(now) => State::Stable,
            None => State::Creating,
            Some(_) if self.unsettled && self.quiet < SETTLED => State::Unstable,
            Some(_) => State::Stable,
        }
    }

    /// A trusted run that was not seen before.
    pub fn run(&mut self, at: Timestamp) {
        self.runs = self.runs.saturating_add(1);
        self.quiet = self.quiet.saturating_add(1);
        self.changed_at.get_or_insert(at);
        self.was_stable(at);
    }

    /// A trusted run reached what none had reached before. True when the endpoint is late: the baseline was stable
    /// once.
    pub fn change(&mut self, at: Timestamp) -> bool {
        let late = self.was_stable(at);
        self.unsettled = late;
        self.quiet = 0;
        self.changed_at = Some(self.changed_at.map_or(at, |before| before.max(at)));
        late
    }

    /// Whether it was stable at this time, or ever before; remembered from now on.
    pub fn was_stable(&mut self, at: Timestamp) -> bool {
        if self.stable_at.is_none() && self.has_settled(at) {
            self.stable_at = Some(at);
        }
        self.stable_at.is_some()
    }

    fn has_settled(&self, now: Timestamp) -> bool {
        let old = |since: Timestamp| now.duration_since(since) >= QUIET;
        self.quiet >= QUIET_RUNS || (self.runs >= FEW_RUNS && self.changed_at.is_some_and(old))
    }
}

#[cfg(test)]
mod tests;
