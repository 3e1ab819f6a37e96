//! Points in time, as people write and read them.

use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A point in time as it is written: itself, or how far it is from now.
#[derive(Clone, Copy, Debug)]
enum Written {
    At(Timestamp),
    From(Span),
}

impl Written {
    /// Reads a time (RFC 3339), or a span that is more than nothing.
    fn read(text: &str) -> Option<Self> {
        if let Ok(at) = text.parse() {
            return Some(Self::At(at));
        }
        let span: Span = text.parse().ok()?;
        span.is_positive().then_some(Self::From(span))
    }

    /// Days are days of UTC. Nothing beyond the ends of the calendar.
    fn point(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::From(span) => {
                let point = now.to_zoned(TimeZone::UTC).checked_add(span).ok()?;
                Some(point.timestamp())
            }
        }
    }
}

/// When something ends: at a time, or so long from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry(Written);

/// A text that is neither.
#[derive(Clone, Debug, thiserror::Error)]
#[error("write a time as 2030-01-31T12:00:00Z, or so long from now as 12h or 90d")]
pub(crate) struct ExpiryError;

impl FromStr for Expiry {
    type Err = ExpiryError;

    fn from_str(text: &str) -> Result<Self, ExpiryError> {
        Written::read(text).map(Self).ok_or(ExpiryError)
    }
}

impl Expiry {
    /// The point in time. An error when the calendar ends before it.
    pub(crate) fn from(self, now: Timestamp) -> Result<Timestamp, ExpiryError> {
        self.0.point(now).ok_or(ExpiryError)
    }
}

/// When something was: at a time, or so long ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Past(Written);

/// A text that is neither.
#[derive(Clone, Debug, thiserror::Error)]
#[error("write a time as 2026-01-31T12:00:00Z, or so long ago as 2h or 7d")]
pub(crate) struct PastError;

impl FromStr for Past {
    type Err = PastError;

    fn from_str(text: &str) -> Result<Self, PastError> {
        Written::read(text).map(Self).ok_or(PastError)
    }
}

impl Past {
    /// The point in time. An error when the calendar begins after it.
    pub(crate) fn from(self, now: Timestamp) -> Result<Timestamp, PastError> {
        let back = match self.0 {
            Written::At(at) => Written::At(at),
            Written::From(span) => Written::From(span.negate()),
        };
        back.point(now).ok_or(PastError)
    }
}

/// To the second, in UTC.
pub(crate) fn show(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// The same, or a dash.
pub(crate) fn show_or_dash(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_expiry_is_a_time_or_a_span_from_now() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let end = |text: &str| text.parse::<Expiry>().unwrap().from(now).unwrap().to_string();
        assert_eq!(end("2030-01-01T00:00:00Z"), "2030-01-01T00:00:00Z");
        assert_eq!(end("12h"), "2026-02-01T00:00:00Z");
        assert_eq!(end("90d"), "2026-05-01T12:00:00Z");
        for wrong in ["", "soon", "-3d", "0s", "12", "2026-01-31"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong:?}");
        }
        let far: Expiry = "19000y".parse().unwrap();
        assert!(far.from(now).is_err());
    }

    #[test]
    fn the_past_is_a_time_or_a_span_before_now() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let begin = |text: &str| text.parse::<Past>().unwrap().from(now).unwrap().to_string();
        assert_eq!(begin("2030-01-01T00:00:00Z"), "2030-01-01T00:00:00Z");
        assert_eq!(begin("2h"), "2026-03-01T10:00:00Z");
        assert_eq!(begin("7d"), "2026-02-22T12:00:00Z");
        for wrong in ["", "yesterday", "-3d", "0s", "12", "2026-01-31"] {
            assert!(wrong.parse::<Past>().is_err(), "{wrong:?}");
        }
        let far: Past = "19000y".parse().unwrap();
        assert!(far.from(now).is_err());
    }

    #[test]
    fn times_are_shown_to_the_second() {
        let time: Timestamp = "2026-01-31T12:00:09.123456Z".parse().unwrap();
        assert_eq!(show(time), "2026-01-31 12:00:09Z");
        assert_eq!(show_or_dash(None), "-");
    }
}
