//! When windows end: a timing wheel of pairs, so that to open one, to close one and to let time pass all cost next to nothing.
//!
//! Owns places and moments only; what ends is closed by [`super::Worker`]. Holds each open window once.

use tidegate_policy::Moment;

/// Milliseconds of one spoke.
const STEP: u64 = 20;
/// Spokes: the wheel goes round in twenty seconds, twice the longest window.
const SPOKES: usize = 1_024;

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    spokes: Box<[Vec<u32>]>,
    /// The last step that has passed.
    hand: u64,
    open: usize,
}

impl Wheel {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            spokes: vec![Vec::new(); SPOKES].into_boxed_slice(),
            hand: now.as_millis() / STEP,
            open: 0,
        }
    }

    /// How many windows are open.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Puts a window in that ends at a moment which has not passed yet, and not later than a round from now.
    pub(super) fn put(&mut self, at: u32, ends: Moment) {
        if let Some(spoke) = self.spoke(ends) {
            spoke.push(at);
            self.open += 1;
        }
    }

    /// Takes one out that was put in.
    pub(super) fn take(&mut self, at: u32, ends: Moment) {
        if let Some(spoke) = self.spoke(ends)
            && let Some(index) = spoke.iter().position(|one| *one == at)
        {
            spoke.swap_remove(index);
            self.open -= 1;
        }
    }

    /// Lets time pass up to `now`, one spoke a call: the windows of which all have ended; `None` when none is left.
    pub(super) fn turn(&mut self, now: Moment) -> Option<Vec<u32>> {
        let step = now.as_millis() / STEP;
        if self.open == 0 {
            self.hand = self.hand.max(step);
        }
        // What is older than a round was put in less than a round before it.
        self.hand = self.hand.max(step.saturating_sub(SPOKES as u64));
        while self.hand < step {
            self.hand += 1;
            let ended = self
                .spokes
                .get_mut(self.hand as usize % SPOKES)
                .map(std::mem::take);
            if let Some(ended) = ended.filter(|ended| !ended.is_empty()) {
                self.open -= ended.len();
                return Some(ended);
            }
        }
        None
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        for spoke in &mut self.spokes {
            spoke.clear();
        }
        self.open = 0;
    }

    fn spoke(&mut self, ends: Moment) -> Option<&mut Vec<u32>> {
        let step = ends.as_millis().div_ceil(STEP);
        self.spokes.get_mut(step as usize % SPOKES)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_window_ends_once_and_on_time(steps in proptest::collection::vec((0..4_000_u64, 1..=10_000_u64, any::<bool>()), 1..200)) {
            let (mut wheel, mut now) = (Wheel::new(Moment::from_millis(7)), 7);
            let mut open = BTreeMap::new();
            for (at, (passes, span, is_taken)) in steps.into_iter().enumerate() {
                now += passes * if at % 50 == 49 { 20 } else { 1 };
                while let Some(ended) = wheel.turn(Moment::from_millis(now)) {
                    for one in ended {
                        let ends = open.remove(&one).unwrap();
                        prop_assert!(ends <= now, "{one} ends at {ends}, not at {now}");
                    }
                }
                prop_assert!(open.values().all(|ends| *ends + STEP > now), "{open:?} at {now}");
                open.insert(at as u32, now + span);
                wheel.put(at as u32, Moment::from_millis(now + span));
                if is_taken && let Some((one, ends)) = open.pop_first() {
                    wheel.take(one, Moment::from_millis(ends));
                }
                prop_assert_eq!(wheel.len(), open.len());
            }
            wheel.clear();
            prop_assert_eq!(wheel.len(), 0);
        }
    }
}
