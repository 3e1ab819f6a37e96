//! Rates of what runners can make the gateway send: owns the arithmetic; reads no
//! clock (`now` is an argument). Driven by [`Refuser`](super::Refuser) and by
//! whoever answers echo requests for a job.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Most sources a [`SourceBudget`] tells apart at once.
pub const MAX_SOURCES: usize = 16_384;

/// A bucket that fills at a steady rate up to a burst.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_token: Duration,
    burst: u32,
    /// When the bucket was, or will be, empty: `burst` tokens before it is full.
    empty_at: Instant,
}

impl TokenBucket {
    /// A full bucket. `per_second` and `burst` of 0 are taken as 1.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let per_token = Duration::from_secs(1) / per_second.max(1);
        let burst = burst.max(1);
        Self {
            per_token,
            burst,
            empty_at: now.checked_sub(per_token * burst).unwrap_or(now),
        }
    }

    /// Takes one token if there is one. A `now` that goes back adds nothing.
    pub fn take(&mut self, now: Instant) -> bool {
        let fullest = now
            .checked_sub(self.per_token * self.burst)
            .unwrap_or(self.empty_at);
        let empty_at = self.empty_at.max(fullest);
        let allowed = empty_at + self.per_token <= now;
        if allowed {
            self.empty_at = empty_at + self.per_token;
        }
        allowed
    }

    /// Whether it has refilled, so that forgetting it changes nothing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.empty_at + self.per_token * self.burst <= now
    }
}

/// One bucket per source, in bounded memory. A source is an address, or whatever else (`K`) is to be held to a rate.
///
/// At the bound, buckets that have refilled are forgotten; if none has, sources
/// that are not known yet share one bucket. So a flood of forged sources can't
/// grow the table, and takes nothing from the sources that were there before.
#[derive(Debug)]
pub struct SourceBudget<K = IpAddr> {
    per_second: u32,
    burst: u32,
    buckets: HashMap<K, TokenBucket>,
    shared: TokenBucket,
    swept: Instant,
}

impl<K: Eq + Hash> SourceBudget<K> {
    /// A sweep of a full table takes about 100 µs: not more often than this.
    const SWEEP_SPACING: Duration = Duration::from_millis(100);

    /// Each source may take `per_second` at a steady rate and `burst` at once.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            buckets: HashMap::new(),
            shared: TokenBucket::new(per_second, burst, now),
            swept: now,
        }
    }

    /// Takes one token of a source's.
    pub fn take(&mut self, source: K, now: Instant) -> bool {
        if let Some(bucket) = self.buckets.get_mut(&source) {
            return bucket.take(now);
        }
        if self.buckets.len() >= MAX_SOURCES {
            self.sweep(now);
        }
        if self.buckets.len() >= MAX_SOURCES {
            return self.shared.take(now);
        }
        let mut bucket = TokenBucket::new(self.per_second, self.burst, now);
        let allowed = bucket.take(now);
        self.buckets.insert(source, bucket);
        allowed
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= Self::SWEEP_SPACING {
            self.swept = now;
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "only a point to count from")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 3, start);
        let taken = (0..5).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.is_full(start + Duration::from_millis(399)));
        assert!(bucket.is_full(start + Duration::from_millis(400)));
    }

    #[test]
    fn a_full_table_shares_one_bucket_among_the_new_and_forgets_the_refilled() {
        let start = Instant::now();
        let mut budget = SourceBudget::new(10, 2, start);
        let source = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        for n in 0..MAX_SOURCES {
            assert!(budget.take(source(n), start));
        }
        let strangers = (0..10)
            .filter(|n| budget.take(source(MAX_SOURCES + n), start))
            .count();
        assert_eq!(strangers, 2, "one shared bucket");
        assert_eq!(budget.buckets.len(), MAX_SOURCES);
        assert!(budget.take(source(5), start), "the known keep their own");
        let later = start + Duration::from_secs(1);
        assert!(budget.take(source(MAX_SOURCES), later));
        assert_eq!(budget.buckets.len(), 1, "the refilled are forgotten");
    }

    proptest! {
        /// Never more than the burst and the rate over any run of attempts.
        #[test]
        fn is_never_exceeded(steps in proptest::collection::vec(0_u64..50, 1..200), rate in 1_u32..100, burst in 1_u32..20) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, burst, start);
            let mut passed = Duration::ZERO;
            let mut taken = 0_u32;
            for step in steps {
                passed += Duration::from_millis(step);
                taken += u32::from(bucket.take(start + passed));
                let allowed = f64::from(burst) + passed.as_secs_f64() * f64::from(rate);
                prop_assert!(f64::from(taken) <= allowed + 1e-6);
            }
        }
    }
}
