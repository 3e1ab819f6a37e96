//! Who asks, as the gateway itself sees them, and when.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use tidegate_policy::Moment;
use tidegate_policy::lease::Mac;

/// The time of a request, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For what is decided here.
    pub(crate) moment: Moment,
    /// For what is said to others.
    pub(crate) wall: Timestamp,
}

impl Now {
    /// When a moment is, or was.
    pub(crate) fn wall_of(self, moment: Moment) -> Timestamp {
        let ahead = SignedDuration::try_from(moment.since(self.moment)).unwrap_or(SignedDuration::MAX);
        let behind = SignedDuration::try_from(self.moment.since(moment)).unwrap_or(SignedDuration::MAX);
        // One of the two is zero.
        let later = self.wall.saturating_add(ahead).unwrap_or(Timestamp::MAX);
        later.saturating_sub(behind).unwrap_or(Timestamp::MIN)
    }
}

/// Who sits at the other end of a request's connection, as the gateway itself sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Its address, IPv4 in IPv4's own form.
    pub(crate) source: IpAddr,
    /// Its machine; `None` off-link.
    pub(crate) mac: Option<Mac>,
}
