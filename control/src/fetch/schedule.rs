//! When to fetch again.
//!
//! Owns the pace: an interval with jitter, a growing pause after failures, and a lower bound for those who are in a
//! hurry. It reads no clock; the moments are arguments.

use std::time::Duration;

use tidegate_policy::Moment;

/// How often a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two answers, a tenth more or less: a fleet must not ask at the same moment.
    pub interval: Duration,
    /// After the first failure; doubles up to the interval.
    pub retry: Duration,
    /// At least this long between two attempts that somebody hurried. The first is made at once: whoever rotates keys
    /// just after a regular look is not made to wait for the next.
    pub hurried: Duration,
}

impl Pace {
    /// Every `interval`, after a failure first in five seconds, in a hurry once a minute.
    pub const fn every(interval: Duration) -> Self {
        Self {
            interval,
            retry: Duration::from_secs(5),
            hurried: Duration::from_mins(1),
        }
    }
}

/// The next attempt, and why then.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    failures: u32,
    /// The last attempt that was hurried, begun or due.
    hurried: Option<Moment>,
    due: Moment,
}

impl Schedule {
    /// The first attempt is due at once.
    pub(crate) fn new(pace: Pace, now: Moment) -> Self {
        Self {
            pace,
            failures: 0,
            hurried: None,
            due: now,
        }
    }

    /// When to try next.
    pub(crate) fn due(&self) -> Moment {
        self.due
    }

    /// Attempts that failed since the last good one.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt ended well. `chance` (0 is the least, [`u16::MAX`] the most) spreads the next one.
    pub(crate) fn succeeded(&mut self, now: Moment, chance: u16) {
        self.failures = 0;
        self.due = now.plus(spread(self.pace.interval, chance));
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Moment, chance: u16) {
        let doubled = self.pace.retry.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        self.due = now.plus(spread(doubled.min(self.pace.interval), chance));
    }

    /// Somebody can't wait for the interval.
    pub(crate) fn hurry(&mut self, now: Moment) {
        let soonest = self
            .hurried
            .map_or(now, |last| last.plus(self.pace.hurried))
            .max(now);
        if soonest < self.due {
            self.due = soonest;
            self.hurried = Some(soonest);
        }
    }
}

/// A span of 0.9 to 1.1 times its length.
fn spread(span: Duration, chance: u16) -> Duration {
    span.mul_f64(0.9 + 0.2 * f64::from(chance) / f64::from(u16::MAX))
}

/// A chance from the system.
pub(crate) fn chance() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness the fleet asks at the same moment, which is no reason to stop.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn the_interval_is_spread_by_a_tenth() {
        let mut schedule = Schedule::new(Pace::every(HOUR), at(10));
        assert_eq!(schedule.due(), at(10));
        schedule.succeeded(at(10), 0);
        assert_eq!(schedule.due(), at(10 + 3240));
        schedule.succeeded(at(10), u16::MAX);
        assert_eq!(schedule.due(), at(10 + 3960));
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_the_interval() {
        let mut schedule = Schedule::new(Pace::every(HOUR), at(0));
        let mut waits = Vec::new();
        for _ in 0..40 {
            schedule.failed(at(0), u16::MAX / 2);
            waits.push(schedule.due().as_millis() / 1000);
        }
        assert_eq!(&waits[..4], [4, 9, 19, 39]);
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&3599));
        assert_eq!(schedule.failures(), 40);
        schedule.succeeded(at(50), 0);
        assert_eq!(schedule.failures(), 0);
    }

    #[test]
    fn hurry_is_granted_once_a_minute() {
        let mut schedule = Schedule::new(Pace::every(HOUR), at(0));
        schedule.succeeded(at(0), 0);
        schedule.hurry(at(1));
        assert_eq!(schedule.due(), at(1), "a regular attempt does not count");
        schedule.hurry(at(1));
        schedule.succeeded(at(1), 0);
        for now in [2, 30, 59] {
            schedule.hurry(at(now));
            assert_eq!(schedule.due(), at(61), "hurried at {now}");
        }
        schedule.failed(at(61), 0);
        let retry = schedule.due();
        schedule.hurry(at(62));
        assert_eq!(
            schedule.due(),
            retry,
            "nobody is made to wait longer by being in a hurry"
        );
        schedule.succeeded(retry, 0);
        schedule.hurry(at(500));
        assert_eq!(schedule.due(), at(500));
    }
}
