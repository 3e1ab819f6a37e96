//! Injected time: the one type in which the decision core counts.
//!
//! Nothing here reads a clock; the shell that owns one (`gateway`, a test) makes the moments.

use std::time::Duration;

/// A point on the process's monotonic clock, in milliseconds since an origin of the shell's choice.
///
/// Millisecond steps are enough: the shortest span that the core compares is one second (a TTL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment moved into the future; saturates instead of wrapping.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
