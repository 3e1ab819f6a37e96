//! What the stream and the disk say of leases is measured by what happened here: the seam to who remembers that.

use std::net::IpAddr;

use compact_str::CompactString;
use jiff::Timestamp;
use tidegate_policy::Moment;
use tidegate_policy::lease::Mac;

/// Leases that ended here while control was away, and that it has not been told of: the stream may still name them.
pub(crate) trait EndedLeases: Send + Sync {
    /// True when the lease must not be taken over from the stream again.
    fn is_ended(&self, id: &str) -> bool;

    /// The stream says that a lease lives which ended here: control has not heard of that, or has forgotten it.
    fn tell_again(&self, _id: &CompactString) {}

    /// The stream says that a lease has ended: a registration of it that still waits for control's answer is void.
    fn note_ended(&self, _id: &CompactString) {}

    /// True when a source was quarantined at this time or later, as far as is known from before the gateway started anew:
    /// a lease that began before has ended.
    fn was_left(&self, _source: IpAddr, _since: Timestamp) -> bool {
        false
    }

    /// Takes down which sources are quarantined. Called before the end of a lease is written to disk: what reads that
    /// after a restart must find the quarantine too.
    fn keep_sources(&self, _now: Moment) {}

    /// The machine that a leased source was bound to before the gateway started anew.
    fn machine_of(&self, _source: IpAddr) -> Option<Mac> {
        None
    }
}
