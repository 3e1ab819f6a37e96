//! How many wrong tokens an address may show: ten at once, then one a second.
//!
//! Pure: the time is an argument. The table is bounded; addresses that find no place in it share one allowance, so a
//! crowd of guessers throttles itself and never grows the table. Tokens are 256 random bits: this protects the store and
//! the log from noise, not the tokens from being guessed.

use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;
use jiff::Timestamp;

/// Wrong tokens at once.
pub(crate) const BURST: i64 = 10;
/// Between two more, in microseconds.
const INTERVAL: i64 = 1_000_000;
/// Addresses that are remembered.
pub(crate) const MAX_PEERS: usize = 8_192;

/// Allowances by address. Each is the instant at which it will be whole again (the "generic cell rate algorithm").
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    whole_at: HashMap<IpAddr, i64>,
    overflow: i64,
}

impl Throttle {
    /// Whether an address may show one more. `Err` is how many seconds to wait, at least 1.
    pub(crate) fn check(&self, peer: IpAddr, now: Timestamp) -> Result<(), u64> {
        let now = now.as_microsecond();
        let whole_at = self.known(peer, now).copied().unwrap_or(now).max(now);
        let early = whole_at + INTERVAL - now - BURST * INTERVAL;
        if early > 0 {
            return Err(early.unsigned_abs().div_ceil(INTERVAL.unsigned_abs()));
        }
        Ok(())
    }

    /// An address has shown a wrong one. Those that were let through together may go below nothing; nobody waits longer
    /// than for a whole allowance.
    pub(crate) fn charge(&mut self, peer: IpAddr, now: Timestamp) {
        let now = now.as_microsecond();
        let peer = network(peer);
        if self.whole_at.len() >= MAX_PEERS && !self.whole_at.contains_key(&peer) {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
        }
        let whole_at = if self.whole_at.len() >= MAX_PEERS && !self.whole_at.contains_key(&peer) {
            &mut self.overflow
        } else {
            self.whole_at.entry(peer).or_insert(now)
        };
        *whole_at = ((*whole_at).max(now) + INTERVAL).min(now + BURST * INTERVAL);
    }

    /// When the allowance of an address will be whole again; the shared one of those that find no place.
    fn known(&self, peer: IpAddr, now: i64) -> Option<&i64> {
        let full = self.whole_at.len() >= MAX_PEERS && self.overflow > now;
        self.whole_at
            .get(&network(peer))
            .or(full.then_some(&self.overflow))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.whole_at.len()
    }
}

/// Whose allowance it is: an IPv6 host owns its whole /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::Ipv4Addr;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn peer(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    /// Shows a wrong token, when that is allowed.
    fn show(throttle: &mut Throttle, peer: IpAddr, now: Timestamp) -> Result<(), u64> {
        throttle.check(peer, now)?;
        throttle.charge(peer, now);
        Ok(())
    }

    #[test]
    fn ten_at_once_then_one_a_second() {
        let mut throttle = Throttle::default();
        for _ in 0..BURST {
            show(&mut throttle, peer(1), at(0)).unwrap();
        }
        assert_eq!(show(&mut throttle, peer(1), at(0)), Err(1));
        assert_eq!(show(&mut throttle, peer(2), at(0)), Ok(()), "another address");
        assert_eq!(show(&mut throttle, peer(1), at(1)), Ok(()));
        assert_eq!(
            show(&mut throttle, peer(1), at(1)),
            Err(1),
            "refused tries cost nothing more"
        );
        for _ in 0..BURST {
            show(&mut throttle, peer(1), at(100)).unwrap();
        }
        assert_eq!(show(&mut throttle, peer(1), at(100)), Err(1));
    }

    #[test]
    fn who_is_only_looked_at_leaves_no_trace_and_who_went_too_far_waits_a_bounded_time() {
        let mut throttle = Throttle::default();
        throttle.check(peer(1), at(0)).unwrap();
        assert_eq!(throttle.len(), 0);
        for _ in 0..10_000 {
            throttle.charge(peer(1), at(0));
        }
        assert_eq!(throttle.check(peer(1), at(0)), Err(1));
        throttle.check(peer(1), at(1)).unwrap();
    }

    #[test]
    fn the_table_is_bounded_and_newcomers_share_one_allowance() {
        let mut throttle = Throttle::default();
        for number in 0..MAX_PEERS as u32 {
            show(&mut throttle, peer(number), at(0)).unwrap();
        }
        let crowd = (0..100).filter(|number| show(&mut throttle, peer(1_000_000 + number), at(0)).is_ok());
        assert_eq!(crowd.count(), BURST as usize);
        assert_eq!(throttle.len(), MAX_PEERS);
        show(&mut throttle, peer(2_000_000), at(5)).unwrap();
        assert_eq!(throttle.len(), 1, "those that are whole again make room");
    }

    #[test]
    fn a_v6_host_can_not_use_its_other_addresses() {
        let mut throttle = Throttle::default();
        let host = |low: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, low]);
        for low in 0..BURST as u16 {
            show(&mut throttle, host(low), at(0)).unwrap();
        }
        assert_eq!(show(&mut throttle, host(999), at(0)), Err(1));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        show(&mut throttle, mapped, at(0)).unwrap();
        assert!(
            throttle
                .whole_at
                .contains_key(&"192.0.2.1".parse::<IpAddr>().unwrap())
        );
    }
}
