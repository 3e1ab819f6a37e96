//! Bounds on work in progress, in all and a source: what is over them is dropped and counted.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Counts what is in progress. Shared by all threads.
#[derive(Debug)]
pub struct Limit {
    in_all: usize,
    a_source: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

/// One place; dropping it frees the place.
#[derive(Debug)]
pub struct Slot {
    limit: Arc<Limit>,
    source: IpAddr,
}

impl Limit {
    /// At most `in_all` at once, and `a_source` of one source.
    pub fn new(in_all: usize, a_source: usize) -> Arc<Self> {
        Arc::new(Self {
            in_all,
            a_source,
            held: Mutex::default(),
        })
    }

    /// Takes a place for `source`; `None` at a bound.
    pub fn take(self: &Arc<Self>, source: IpAddr) -> Option<Slot> {
        let mut held = self.held.lock();
        if held.all >= self.in_all {
            return None;
        }
        let count = held.sources.entry(source).or_default();
        if *count >= self.a_source {
            return None;
        }
        *count += 1;
        held.all += 1;
        Some(Slot {
            limit: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.limit.held.lock();
        held.all = held.all.saturating_sub(1);
        if let Some(count) = held.sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_the_places_of_others() {
        let limit = Limit::new(3, 2);
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held = [limit.take(one), limit.take(one)];
        assert!(limit.take(one).is_none(), "a source's bound");
        let other = limit.take(two);
        assert!(other.is_some());
        assert!(limit.take(two).is_none(), "the bound in all");
        drop(held);
        assert!(limit.take(one).is_some());
        drop(other);
        assert_eq!(
            limit.held.lock().sources.len(),
            0,
            "nothing is kept of those that left"
        );
    }
}
