//! The memory that flows hold before their verdict. Owns one counter with a bound for all of them; never
//! allocates itself. Driven by the readers of first bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::Gauge;

/// A bound on bytes, shared by all flows of the proxy.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
    gauge: Gauge,
}

impl Budget {
    /// A budget of `limit` bytes, shown as `tidegate_flow_detect_bytes`.
    pub fn new(limit: usize) -> Arc<Self> {
        let gauge = metrics::gauge!("tidegate_flow_detect_bytes");
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
            gauge,
        })
    }

    /// An empty share, to be grown.
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            held: 0,
        }
    }

    /// Bytes held at this moment.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            });
        if taken.is_ok() {
            self.gauge.increment(bytes as f64);
        }
        taken.is_ok()
    }
}

/// What one flow holds of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    /// Makes the share at least `bytes`; false when the budget has no room for that.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.held);
        let granted = more == 0 || self.budget.take(more);
        if granted {
            self.held += more;
        }
        granted
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
        self.budget.gauge.decrement(self.held as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.grow_to(60) && one.grow_to(10), "a share never shrinks");
        assert!(!two.grow_to(41));
        assert!(two.grow_to(40));
        assert_eq!(budget.used(), 100);
        drop(one);
        assert!(two.grow_to(100));
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}
