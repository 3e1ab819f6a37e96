//! One subject's question: what every repeat reads, in one line of the processor's cache, and the rest.
//!
//! Owns no table and decides nothing: [`super::memo`] keeps pairs, [`super::ground`] says whether one still holds.

use std::net::IpAddr;
use std::sync::Arc;

use tidegate_policy::Moment;
use tidegate_policy::lease::Changes;
use tidegate_policy::subject::Subject;
use tidegate_policy::ticket::TicketTable;

use super::lesson::{Epochs, ID, Lesson};
use super::memo::Key;
use super::window::Window;
use crate::front::handler::DnsHandler;

/// What every repeat reads.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Hot {
    /// The source's number.
    pub(super) source: u128,
    pub(super) lesson: Arc<Lesson>,
    /// Up to here nothing changes by time alone, the end of the window included.
    pub(super) until: Moment,
    /// The sum of all counters that tell of other changes, from before they were looked into. They only ever grow, so the sum
    /// stays only if each of them does.
    pub(super) stamp: u64,
    /// Repeats that no event was made of yet.
    pub(super) count: u64,
    /// The id of the window's event as refusals write it.
    pub(super) text: [u8; ID],
    /// The source's stripe of [`Changes`].
    sources: u16,
    /// The stripe of the subject's tickets.
    tickets: u16,
    /// Asked for since the hand passed.
    pub(super) used: bool,
}

/// What is read when something changes, and for events.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) hash: u64,
    pub(super) subject: Arc<Subject>,
    pub(super) source: IpAddr,
    /// Until when the tickets are known to live, given the epoch of their table; `None`: it was not asked yet.
    pub(super) tickets: Option<(u64, Moment)>,
    /// Another name has tickets at these addresses too: which was given last counts.
    pub(super) shared: bool,
    /// When it was last noted that these tickets were given.
    pub(super) touched: Moment,
    pub(super) epochs: Epochs,
    /// Up to here nothing on which the answer depends changes by time alone.
    pub(super) sound: Moment,
    pub(super) window: Option<Window>,
    /// The pairs of the same source.
    pub(super) next: Option<u32>,
    pub(super) previous: Option<u32>,
}

/// A pair in its place.
pub(super) struct Pair<'a> {
    pub(super) hot: &'a mut Hot,
    pub(super) cold: &'a mut Cold,
}

/// A pair that has none, or none any more.
pub(super) struct Gone {
    pub(super) hot: Hot,
    pub(super) cold: Cold,
}

impl Gone {
    /// A pair of which nothing is known to hold yet.
    pub(super) fn new(
        key: &Key<'_>,
        (subject, lesson): (Arc<Subject>, Arc<Lesson>),
        epochs: Epochs,
        changes: Option<&Changes>,
    ) -> Self {
        let source = key.client.source.ip();
        Self {
            hot: Hot {
                source: key.source,
                lesson,
                until: Moment::default(),
                stamp: 0,
                count: 0,
                text: [b'0'; ID],
                sources: changes.map_or(0, |changes| changes.stripe(source)),
                tickets: subject.tickets().stripe(),
                used: false,
            },
            cold: Cold {
                hash: 0,
                subject,
                source,
                tickets: None,
                shared: false,
                touched: Moment::default(),
                epochs,
                sound: Moment::default(),
                window: None,
                next: None,
                previous: None,
            },
        }
    }

    pub(super) fn pair(&mut self) -> Pair<'_> {
        Pair {
            hot: &mut self.hot,
            cold: &mut self.cold,
        }
    }
}

impl Hot {
    /// The sum of the counters as it is now.
    pub(super) fn stamp_now(&self, handler: &DnsHandler, changes: Option<&Changes>) -> u64 {
        [
            changes.map_or(0, |changes| changes.of(self.sources)),
            TicketTable::epoch_of(self.tickets),
            Subject::swaps(),
            handler.budgets.epoch(),
            self.lesson.said.ech.epoch(),
        ]
        .into_iter()
        .fold(0, u64::wrapping_add)
    }

    pub(super) fn is(&self, key: &Key<'_>) -> bool {
        self.source == key.source && self.lesson.said.is(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_repeat_reads_of_a_pair_is_one_line_of_the_cache() {
        assert_eq!((size_of::<Option<Hot>>(), align_of::<Hot>()), (64, 64));
    }
}
