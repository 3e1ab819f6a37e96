//! The memory that flows hold before their verdict. Owns one counter with a bound for all of them and a smaller
//! one for each job; never allocates the bytes itself. Driven by the readers of first bytes.

use std::sync::Arc;

use hashbrown::HashMap;
use metrics::Gauge;
use parking_lot::Mutex;

/// What part of the whole one job may hold: its half-open hellos must not keep another job's from being read.
const JOBS_PART: usize = 8;

/// A bound on bytes, shared by all flows of the proxy.
#[derive(Debug)]
pub struct Budget {
    used: Mutex<Used>,
    limit: usize,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    /// By subject; only those that hold something.
    by_subject: HashMap<u64, usize>,
}

impl Budget {
    /// A budget of `limit` bytes, an eighth of them for one subject at most, shown as
    /// `tidegate_flow_detect_bytes`.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: Mutex::default(),
            limit,
            gauge: metrics::gauge!("tidegate_flow_detect_bytes"),
        })
    }

    /// An empty share of one subject, to be grown.
    pub fn share(self: &Arc<Self>, subject: u64) -> Share {
        Share {
            budget: Arc::clone(self),
            subject,
            held: 0,
        }
    }

    /// Bytes held at this moment.
    pub fn used(&self) -> usize {
        self.used.lock().all
    }

    fn take(&self, subject: u64, bytes: usize) -> bool {
        let mut used = self.used.lock();
        let theirs = used.by_subject.get(&subject).copied().unwrap_or_default();
        let (Some(all), Some(theirs)) = (used.all.checked_add(bytes), theirs.checked_add(bytes)) else {
            return false;
        };
        if all > self.limit || theirs > self.limit / JOBS_PART {
            return false;
        }
        used.all = all;
        used.by_subject.insert(subject, theirs);
        self.gauge.set(all as f64);
        true
    }

    fn give_back(&self, subject: u64, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut used = self.used.lock();
        used.all = used.all.saturating_sub(bytes);
        if let Some(theirs) = used.by_subject.get_mut(&subject) {
            *theirs = theirs.saturating_sub(bytes);
            if *theirs == 0 {
                used.by_subject.remove(&subject);
            }
        }
        self.gauge.set(used.all as f64);
    }
}

/// What one flow holds of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    subject: u64,
    held: usize,
}

impl Share {
    /// Makes the share at least `bytes`; false when the budget, or the subject's part of it, has no room for
    /// that.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.held);
        let granted = more == 0 || self.budget.take(self.subject, more);
        if granted {
            self.held += more;
        }
        granted
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.subject, self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(800);
        let mut all: Vec<Share> = (0..8).map(|subject| budget.share(subject)).collect();
        assert!(
            all.iter_mut().all(|share| share.grow_to(60) && share.grow_to(10)),
            "a share never shrinks"
        );
        assert!(all.iter_mut().all(|share| share.grow_to(100)));
        assert_eq!(budget.used(), 800);
        assert!(!budget.share(8).grow_to(1));
        drop(all.pop());
        assert!(budget.share(8).grow_to(100));
        drop(all);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn l16_one_job_can_not_take_the_others_part() {
        let budget = Budget::new(800);
        let (mut one, mut two) = (budget.share(1), budget.share(1));
        assert!(one.grow_to(60) && !two.grow_to(41) && two.grow_to(40));
        assert!(budget.share(2).grow_to(100), "another job is served");
        drop(one);
        assert!(two.grow_to(100));
    }
}
