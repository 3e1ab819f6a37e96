//! Recently refused associations: so that a client that goes on sending costs one event, not one a
//! datagram. Owns a bounded memory of them; never emits. Driven by [`super::serve`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_policy::Moment;

use super::table::Pair;

/// Refusals remembered; the oldest go first.
const CAPACITY: usize = 8_192;
/// How long a refusal stands without judging anew; short, since a ticket or a policy may come.
const STANDS: Duration = Duration::from_secs(5);

/// A bounded memory of refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Pair, Known>,
    order: VecDeque<Pair>,
}

#[derive(Debug)]
struct Known {
    until: Moment,
    /// Datagrams since the last event.
    suppressed: u64,
}

impl Refusals {
    /// True when this pair was refused a moment ago; then the datagram is counted.
    pub(super) fn stands(&self, pair: &Pair, now: Moment) -> bool {
        let mut inner = self.inner.lock();
        match inner.known.get_mut(pair) {
            Some(known) if known.until > now => {
                known.suppressed += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Remembers a refusal that has an event; returns how many datagrams this event stands for: itself and
    /// those since the one before.
    pub(super) fn remember(&self, pair: Pair, now: Moment) -> u64 {
        let mut inner = self.inner.lock();
        let fresh = Known {
            until: now.plus(STANDS),
            suppressed: 0,
        };
        if let Some(before) = inner.known.insert(pair, fresh) {
            return 1 + before.suppressed;
        }
        inner.order.push_back(pair);
        if inner.order.len() > CAPACITY
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.known.remove(&oldest);
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{ClientAddr, OriginalDst};

    fn pair(port: u16) -> Pair {
        let client = ClientAddr::new(([10, 0, 0, 1], port).into());
        Pair {
            client,
            original: OriginalDst::new(([192, 0, 2, 1], 443).into()),
        }
    }

    #[test]
    fn a_refusal_stands_for_a_while_and_the_next_event_counts_what_came_between() {
        let refusals = Refusals::default();
        let start = Moment::from_millis(0);
        assert!(!refusals.stands(&pair(1), start));
        assert_eq!(refusals.remember(pair(1), start), 1);
        assert!(refusals.stands(&pair(1), start) && refusals.stands(&pair(1), start));
        assert!(!refusals.stands(&pair(2), start));
        let later = start.plus(STANDS);
        assert!(!refusals.stands(&pair(1), later), "judged anew");
        assert_eq!(refusals.remember(pair(1), later), 3);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let refusals = Refusals::default();
        let now = Moment::from_millis(0);
        for port in 0..=u16::try_from(CAPACITY).unwrap_or(u16::MAX) {
            refusals.remember(pair(port), now);
        }
        assert!(!refusals.stands(&pair(0), now));
        assert!(refusals.stands(&pair(1), now));
    }
}
