//! How often one address may show a wrong credential, or claim another job without any.
//!
//! Pure: `now` is an argument. A credential can't be guessed, but each guess of an OIDC token costs a signature's check; a
//! claim costs the control plane a row that it keeps for months.

use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_policy::Moment;

/// Failures (or claims) that are free.
const BURST: u32 = 10;
/// After those, one in this time.
const PER: Duration = Duration::from_secs(1);
/// Addresses told apart; more than these share what one has.
const MAX_SOURCES: usize = 16_384;

/// Who failed how often: for each address the moment from which all is forgotten.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    sources: HashMap<IpAddr, Moment>,
    shared: Moment,
}

impl Throttle {
    /// Whole seconds that the address has to wait before it may show a credential again; 0 when it may now.
    pub(super) fn wait(&self, source: IpAddr, now: Moment) -> u64 {
        let failures = self.0.lock();
        let known = failures.sources.get(&source).copied();
        let forgotten = known.unwrap_or_else(|| match failures.sources.len() {
            MAX_SOURCES.. => failures.shared,
            _ => now,
        });
        let over = forgotten.since(now).saturating_sub(PER * (BURST - 1));
        over.as_secs() + u64::from(over.subsec_nanos() > 0)
    }

    /// Notes a failure.
    pub(super) fn failed(&self, source: IpAddr, now: Moment) {
        let mut failures = self.0.lock();
        if failures.sources.len() >= MAX_SOURCES && !failures.sources.contains_key(&source) {
            failures.sources.retain(|_, forgotten| *forgotten > now);
        }
        let full = failures.sources.len() >= MAX_SOURCES && !failures.sources.contains_key(&source);
        let forgotten = if full {
            &mut failures.shared
        } else {
            failures.sources.entry(source).or_insert(now)
        };
        *forgotten = (*forgotten).max(now).plus(PER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn source(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn ten_failures_are_free_and_then_one_a_second() {
        let throttle = Throttle::default();
        for _ in 0..BURST {
            assert_eq!(throttle.wait(source(1), at(0)), 0);
            throttle.failed(source(1), at(0));
        }
        assert_eq!(throttle.wait(source(1), at(0)), 1);
        assert_eq!(throttle.wait(source(1), at(999)), 1);
        assert_eq!(throttle.wait(source(2), at(0)), 0, "another address has its own");
        assert_eq!(throttle.wait(source(1), at(1_000)), 0);
        throttle.failed(source(1), at(1_000));
        assert_eq!(throttle.wait(source(1), at(1_000)), 1);
        assert_eq!(throttle.wait(source(1), at(60_000)), 0, "all is forgotten");
    }

    #[test]
    fn at_the_bound_the_new_share_one_budget_and_the_known_keep_theirs() {
        let throttle = Throttle::default();
        for number in 0..MAX_SOURCES as u32 {
            throttle.failed(source(number), at(0));
        }
        for number in 0..BURST {
            let stranger = source(1_000_000 + number);
            assert_eq!(throttle.wait(stranger, at(0)), 0);
            throttle.failed(stranger, at(0));
        }
        assert_eq!(throttle.wait(source(2_000_000), at(0)), 1);
        assert_eq!(throttle.wait(source(7), at(0)), 0);
        throttle.failed(source(2_000_000), at(5_000));
        assert_eq!(
            throttle.0.lock().sources.len(),
            1,
            "who waited long enough is forgotten"
        );
    }
}
