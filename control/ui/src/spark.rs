//! Small pictures of numbers by day, beside what they are of: bars, and the same in words for who does not see them.
//!
//! Numbers only; draws no text.

use std::fmt::Write;

/// Width of a bar with the space after it, in the picture's units.
const STEP: usize = 3;
/// Height of the picture.
pub(crate) const HEIGHT: u64 = 20;

/// Bars from left to right, today the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spark {
    /// The `d` of a path in a view box of [`Spark::width`] by [`HEIGHT`].
    pub(crate) path: String,
    /// What it shows, in words.
    pub(crate) label: String,
    /// Width of the picture.
    pub(crate) width: usize,
}

impl Spark {
    /// Of calls by day. Any day with a call is seen, however busy others were.
    pub(crate) fn of(days: &[u64]) -> Self {
        let most = days.iter().copied().max().unwrap_or_default();
        let all = days.iter().fold(0_u64, |sum, calls| sum.saturating_add(*calls));
        let mut path = String::new();
        for (at, calls) in days.iter().enumerate().filter(|(_, calls)| **calls > 0) {
            let share = u128::from(*calls) * u128::from(HEIGHT - 2) / u128::from(most.max(1));
            let height = 2 + u64::try_from(share).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = write!(path, "M{} {HEIGHT}v-{height}h2v{height}z", at * STEP);
        }
        let label = if all == 0 {
            format!("no calls in {} days", days.len())
        } else {
            let calls = if all == 1 { "call" } else { "calls" };
            format!("{all} {calls} in {} days, {most} on the busiest", days.len())
        };
        Self {
            path,
            label,
            width: days.len() * STEP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_call_is_seen_beside_a_million() {
        let spark = Spark::of(&[1, 0, 1_000_000]);
        assert_eq!(spark.path, "M0 20v-2h2v2zM6 20v-20h2v20z");
        assert_eq!(spark.label, "1000001 calls in 3 days, 1000000 on the busiest");
        assert_eq!(spark.width, 9);
    }

    #[test]
    fn nothing_is_no_bar_and_the_largest_numbers_fit() {
        assert_eq!(Spark::of(&[]).path, "");
        assert_eq!(Spark::of(&[0; 30]).label, "no calls in 30 days");
        let spark = Spark::of(&[u64::MAX, u64::MAX]);
        assert_eq!(spark.path, "M0 20v-20h2v20zM3 20v-20h2v20z");
    }
}
