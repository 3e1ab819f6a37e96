//! Whether an upstream is worth asking first: consecutive failures, penalties with back-off, probes.
//! Pure; `now` is an argument.

use std::time::Duration;

use tidegate_policy::Moment;

/// Failures in a row after which an upstream is penalised: one lost datagram is none of its faults.
const TOLERATED: u32 = 3;
/// The first penalty; doubled by each further failure.
const FIRST_PENALTY: Duration = Duration::from_secs(1);
/// The longest penalty: how late a healed upstream is noticed.
const LONGEST_PENALTY: Duration = Duration::from_secs(30);

/// How an upstream is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ask it in its turn.
    Healthy,
    /// Its penalty is over: one query may go to it beside the others.
    Probe,
    /// Ask it only after all others.
    Penalised,
}

/// The record of one upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    until: Moment,
}

impl Health {
    /// How to treat the upstream at `now`. A probe is granted once; until its outcome is noted the
    /// upstream stays penalised.
    pub(crate) fn standing(&mut self, now: Moment) -> Standing {
        if self.failures < TOLERATED {
            return Standing::Healthy;
        }
        if now < self.until {
            return Standing::Penalised;
        }
        self.until = now.plus(self.penalty());
        Standing::Probe
    }

    /// True when it is not penalised; grants no probe.
    pub(crate) fn is_healthy(&self) -> bool {
        self.failures < TOLERATED
    }

    /// It answered, whatever the answer was.
    pub(crate) fn answered(&mut self) {
        self.failures = 0;
    }

    /// It did not answer in time, or the transport failed.
    pub(crate) fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= TOLERATED {
            self.until = now.plus(self.penalty());
        }
    }

    fn penalty(&self) -> Duration {
        let doublings = self.failures.saturating_sub(TOLERATED).min(8);
        (FIRST_PENALTY * (1 << doublings)).min(LONGEST_PENALTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn one_lost_datagram_penalises_nobody() {
        let mut health = Health::default();
        health.failed(at(0));
        health.failed(at(1));
        assert_eq!(health.standing(at(2)), Standing::Healthy);
        health.answered();
        health.failed(at(3));
        assert_eq!(health.standing(at(4)), Standing::Healthy);
    }

    #[test]
    fn a_penalty_ends_in_one_probe_and_grows_until_an_answer() {
        let mut health = Health::default();
        for _ in 0..3 {
            health.failed(at(0));
        }
        assert_eq!(health.standing(at(999)), Standing::Penalised);
        assert_eq!(health.standing(at(1_000)), Standing::Probe);
        assert_eq!(
            health.standing(at(1_001)),
            Standing::Penalised,
            "one probe at a time"
        );
        health.failed(at(1_500));
        assert_eq!(health.standing(at(3_400)), Standing::Penalised);
        assert_eq!(health.standing(at(3_500)), Standing::Probe);
        health.answered();
        assert_eq!(health.standing(at(3_501)), Standing::Healthy);
    }

    #[test]
    fn a_penalty_is_never_longer_than_its_bound() {
        let mut health = Health::default();
        for _ in 0..1_000 {
            health.failed(at(0));
        }
        assert_eq!(health.standing(at(30_000)), Standing::Probe);
    }
}
