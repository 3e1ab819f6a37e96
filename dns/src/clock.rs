//! The data plane's clock: the one place that reads the system's monotonic clock.
//!
//! Everything that decides takes a [`Moment`] as an argument; the shells of `dns`, `proxy` and `gateway`
//! get theirs here, and tests put a clock of their own in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_policy::Moment;

/// A source of moments. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's monotonic clock; its origin is the moment of this call.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that moves only when the returned handle is stored to (milliseconds).
    pub fn manual() -> (Self, Arc<AtomicU64>) {
        let millis = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&millis))), millis)
    }

    /// Begins to measure a span, finer than moments count.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn stopwatch(&self) -> Stopwatch {
        match &self.0 {
            Source::System(_) => Stopwatch(Begin::System(Instant::now())),
            Source::Manual(_) => Stopwatch(Begin::Manual(self.clone(), self.now())),
        }
    }

    /// The present moment, and a span that begins with it: one reading of the clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn read(&self) -> (Moment, Stopwatch) {
        match &self.0 {
            Source::System(origin) => {
                let now = Instant::now();
                let passed = now.saturating_duration_since(*origin).as_millis();
                let moment = Moment::from_millis(u64::try_from(passed).unwrap_or(u64::MAX));
                (moment, Stopwatch(Begin::System(now)))
            }
            Source::Manual(_) => (self.now(), self.stopwatch()),
        }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System(origin) => {
                Moment::from_millis(u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(millis) => Moment::from_millis(millis.load(Ordering::Relaxed)),
        }
    }
}

/// A span that is being measured, for metrics.
#[derive(Clone, Debug)]
pub struct Stopwatch(Begin);

#[derive(Clone, Debug)]
enum Begin {
    System(Instant),
    Manual(Clock, Moment),
}

impl Stopwatch {
    /// How long it has been.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Begin::System(begun) => begun.elapsed(),
            Begin::Manual(clock, begun) => clock.now().since(*begun),
        }
    }
}
