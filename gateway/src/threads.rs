//! A number for every thread, for what is kept apart by thread so that cores don't wait for each other's cache lines.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of this thread among those that ever asked, from 0.
pub(crate) fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}
