//! How long to wait before the control plane is tried again. Pure: randomness is an argument.

use std::time::Duration;

/// After the first failure.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);
/// However many there were.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

/// Doubles with each failure. Half of each pause is by chance, so that the gateways that a restarted control plane lost
/// don't all come back at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Before the first failure.
    pub(crate) const fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// The pause after one more failure.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        let half = whole / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(random % span)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_within_their_bounds(random in proptest::collection::vec(any::<u64>(), 1..20)) {
            let mut backoff = Backoff::new();
            for (failures, random) in random.into_iter().enumerate() {
                let whole = (SHORTEST * 2_u32.pow(failures as u32)).min(LONGEST);
                let pause = backoff.pause(random);
                prop_assert!(pause >= whole / 2 && pause < whole, "{pause:?} of {whole:?}");
            }
        }
    }
}
