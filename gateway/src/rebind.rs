//! Sources whose machine may be another since the kernel was last told: what a granted, ended or joined lease leaves to
//! do for the ruleset.
//!
//! Owns which they are, not which machine it is: that is asked of the lease table when the kernel is told
//! ([`crate::keep`]). Bounded by the sources that the lease table knows: each stands here once.

use std::collections::BTreeSet;
use std::net::IpAddr;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The sources that wait.
#[derive(Debug, Default)]
pub(crate) struct Rebind {
    waiting: Mutex<BTreeSet<IpAddr>>,
    wake: Notify,
}

impl Rebind {
    /// Notes sources.
    pub(crate) fn add(&self, sources: &[IpAddr]) {
        if !sources.is_empty() {
            self.waiting.lock().extend(sources);
            self.wake.notify_one();
        }
    }

    /// Waits for sources, and takes all that wait.
    pub(crate) async fn next(&self) -> Vec<IpAddr> {
        loop {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            if !waiting.is_empty() {
                return waiting.into_iter().collect();
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sources_are_handed_on_once_and_together() {
        let rebind = Rebind::default();
        let source = |octet| IpAddr::from([10, 77, 1, octet]);
        rebind.add(&[source(2), source(3)]);
        rebind.add(&[source(3)]);
        assert_eq!(rebind.next().await, [source(2), source(3)]);
        rebind.add(&[]);
        assert!(futures_util::poll!(Box::pin(rebind.next())).is_pending());
        rebind.add(&[source(4)]);
        assert_eq!(rebind.next().await, [source(4)]);
    }
}
