//! Aggregation of refusal floods: a pure state machine over events and moments.
//!
//! The first [`VERBATIM`] refusals of a minute are passed on at once. Beyond that, refusals of the same
//! (job, name, address, port, reason) become one event with a count, passed on when the minute ends.

use std::net::IpAddr;
use std::time::Duration;

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::{Reason, Verdict};
use tidegate_policy::{DnsName, Moment};

use super::queue::{Queued, party};

/// Refusals a minute that are passed on one by one.
pub const VERBATIM: u32 = 1_000;
/// Distinct aggregates a minute; refusals beyond are counted as lost.
pub const MAX_AGGREGATES: usize = 10_000;
const MINUTE: Duration = Duration::from_mins(1);

type Key = (
    CompactString,
    Option<DnsName>,
    Option<IpAddr>,
    u16,
    Option<Reason>,
);

/// The state of one minute.
#[derive(Default)]
pub struct Aggregator {
    begun: Moment,
    verbatim: u32,
    pending: HashMap<Key, Queued>,
    lost: u64,
}

impl Aggregator {
    /// Takes out of `events` what is not to be written now.
    pub fn sift(&mut self, events: &mut Vec<Queued>, now: Moment) {
        // Hardly ever is there anything to be moved.
        let held: Vec<Queued> = events.extract_if(.., |event| !self.passes(event, now)).collect();
        for event in held {
            self.gather(event);
        }
    }

    /// True when it is to be written now.
    fn passes(&mut self, event: &NetworkEvent, now: Moment) -> bool {
        if event.verdict == Verdict::Permit {
            return true;
        }
        if self.pending.is_empty() && now.since(self.begun) >= MINUTE {
            self.begun = now;
            self.verbatim = 0;
        }
        let passes = self.verbatim < VERBATIM;
        self.verbatim += u32::from(passes);
        passes
    }

    fn gather(&mut self, event: Queued) {
        let key = (
            party(&event),
            event.name.clone(),
            event.address,
            event.port,
            event.reason,
        );
        if let Some(known) = self.pending.get_mut(&key) {
            known.event.count += event.count;
            known.event.bytes_up += event.bytes_up;
        } else if self.pending.len() < MAX_AGGREGATES {
            self.pending.insert(key, event);
        } else {
            self.lost += event.count;
        }
    }

    /// The aggregates of a minute that has ended, or all of them when `force`d.
    pub fn flush(&mut self, now: Moment, force: bool) -> Vec<Queued> {
        if !force && now.since(self.begun) < MINUTE {
            return Vec::new();
        }
        if self.pending.is_empty() {
            return Vec::new();
        }
        self.begun = now;
        self.verbatim = 0;
        self.pending.drain().map(|(_, event)| event).collect()
    }

    /// How many refusals found no aggregate since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}
