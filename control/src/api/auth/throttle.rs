//! How many wrong tokens an address may show: ten at once, then one a second.
//!
//! Pure: the time is an argument. The table is bounded; addresses that find no place in it share one allowance, so a
//! crowd of guessers throttles itself and never grows the table. Tokens are 256 random bits: this protects the store and
//! the log from noise, not the tokens from being guessed.

use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;
use jiff::Timestamp;

/// Wrong tokens at once.
pub(super) const BURST: i64 = 10;
/// Between two more, in microseconds.
const INTERVAL: i64 = 1_000_000;
/// Addresses that are remembered.
pub(super) const MAX_PEERS: usize = 8_192;

/// Allowances by address. Each is the instant at which it will be whole again (the "generic cell rate algorithm").
#[derive(Debug, Default)]
pub(super) struct Throttle {
    whole_at: HashMap<IpAddr, i64>,
    overflow: i64,
}

impl Throttle {
    /// Takes one from the allowance of an address. `Err` is how many seconds to wait, at least 1.
    pub(super) fn take(&mut self, peer: IpAddr, now: Timestamp) -> Result<(), u64> {
        let now = now.as_microsecond();
        let whole_at = self.allowance(peer, now);
        let next = (*whole_at).max(now) + INTERVAL;
        let early = next - now - BURST * INTERVAL;
        if early > 0 {
            return Err(early.unsigned_abs().div_ceil(INTERVAL.unsigned_abs()));
        }
        *whole_at = next;
        Ok(())
    }

    /// Gives back what was taken for a token that turned out to be good.
    pub(super) fn give_back(&mut self, peer: IpAddr, now: Timestamp) {
        let now = now.as_microsecond();
        let whole_at = self.allowance(peer, now);
        *whole_at -= INTERVAL;
        if *whole_at <= now {
            self.whole_at.remove(&network(peer));
        }
    }

    fn allowance(&mut self, peer: IpAddr, now: i64) -> &mut i64 {
        let peer = network(peer);
        if self.whole_at.len() >= MAX_PEERS && !self.whole_at.contains_key(&peer) {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
            if self.whole_at.len() >= MAX_PEERS {
                return &mut self.overflow;
            }
        }
        self.whole_at.entry(peer).or_insert(now)
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

    #[test]
    fn ten_at_once_then_one_a_second() {
        let mut throttle = Throttle::default();
        for _ in 0..BURST {
            throttle.take(peer(1), at(0)).unwrap();
        }
        assert_eq!(throttle.take(peer(1), at(0)), Err(1));
        assert_eq!(throttle.take(peer(2), at(0)), Ok(()), "another address");
        assert_eq!(throttle.take(peer(1), at(1)), Ok(()));
        assert_eq!(throttle.take(peer(1), at(1)), Err(1), "refused tries cost nothing more");
        for _ in 0..BURST {
            throttle.take(peer(1), at(100)).unwrap();
        }
        assert_eq!(throttle.take(peer(1), at(100)), Err(1));
    }

    #[test]
    fn good_tokens_cost_nothing_and_leave_no_trace() {
        let mut throttle = Throttle::default();
        for _ in 0..100 {
            throttle.take(peer(1), at(0)).unwrap();
            throttle.give_back(peer(1), at(0));
        }
        assert_eq!(throttle.len(), 0);
    }

    #[test]
    fn the_table_is_bounded_and_newcomers_share_one_allowance() {
        let mut throttle = Throttle::default();
        for number in 0..MAX_PEERS as u32 {
            throttle.take(peer(number), at(0)).unwrap();
        }
        let crowd = (0..100).filter(|number| throttle.take(peer(1_000_000 + number), at(0)).is_ok());
        assert_eq!(crowd.count() as i64, BURST);
        assert_eq!(throttle.len(), MAX_PEERS);
        throttle.take(peer(2_000_000), at(5)).unwrap();
        assert_eq!(throttle.len(), 1, "those that are whole again make room");
    }

    #[test]
    fn a_v6_host_can_not_use_its_other_addresses() {
        let mut throttle = Throttle::default();
        let host = |low: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, low]);
        for low in 0..BURST as u16 {
            throttle.take(host(low), at(0)).unwrap();
        }
        assert_eq!(throttle.take(host(999), at(0)), Err(1));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        throttle.take(mapped, at(0)).unwrap();
        assert!(throttle.whole_at.contains_key(&"192.0.2.1".parse().unwrap()));
    }
}
