//! This machine's clock against the gateway's. Pure.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Finding, Severity};

/// From here on a token may be refused for its times: half of what the gateway grants a forge's clock.
const BEARABLE: SignedDuration = SignedDuration::from_secs(30);

/// The time in a `Date` header (RFC 9110 §5.6.7).
pub(super) fn date(header: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(header).ok()?;
    Some(zoned.timestamp())
}

/// What is wrong with a clock that says `here` when the gateway's says `there`.
pub(super) fn judge(here: Timestamp, there: Timestamp) -> Option<Finding> {
    let apart = here.duration_since(there);
    if apart.abs() <= BEARABLE {
        return None;
    }
    let way = if apart.is_positive() { "ahead of" } else { "behind" };
    let what = format!(
        "this machine's clock is {} s {way} the gateway's; tokens and certificates are judged by such clocks",
        apart.abs().as_secs()
    );
    let finding = Finding::new(Severity::Problem, "clock", "this machine", what);
    Some(finding.mend("timedatectl set-ntp true   # on whichever of the two is wrong"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_minute_is_too_much_and_a_few_seconds_are_not() {
        let there = date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(there.to_string(), "1994-11-06T08:49:37Z");
        for seconds in [0, 5, -30] {
            assert_eq!(judge(there + SignedDuration::from_secs(seconds), there), None);
        }
        let ahead = judge(there + SignedDuration::from_secs(90), there).unwrap();
        assert!(ahead.what.contains("90 s ahead"), "{ahead:?}");
        let behind = judge(there - SignedDuration::from_secs(4_000), there).unwrap();
        assert!(behind.what.contains("4000 s behind"), "{behind:?}");
        assert_eq!(date("yesterday"), None);
    }
}
