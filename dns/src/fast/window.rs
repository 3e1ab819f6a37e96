//! Repeats within a second: one event with an exact count.
//!
//! The first query of its kind in a job goes the slow way, with an event of its own at once. What the fast path repeats
//! is counted here, a second at a time; the event's id is minted when the second begins, because a refusal names it.

use std::io::Write as _;
use std::time::Duration;

use tidegate_policy::Moment;
use tidegate_policy::event::{EventId, EventSink, Kind, NameSource};

use super::lesson::ID;
use super::memo::Pair;
use crate::front::ask::mnemonic;
use crate::wire::Rcode;

/// How long repeats are counted together.
pub(super) const SPAN: Duration = Duration::from_secs(1);

/// Repeats that no event was made of yet.
pub(super) struct Window {
    id: EventId,
    /// The id as refusals write it.
    pub(super) text: [u8; ID],
    pub(super) opened: Moment,
    pub(super) count: u64,
    /// The port of the first.
    port: u16,
}

impl Window {
    /// A window in which nothing is counted yet.
    pub(super) fn open(id: EventId, port: u16, now: Moment) -> Self {
        let mut text = [b'0'; ID];
        // An id has eight characters: they fit.
        let _written = write!(&mut text[..], "{id}");
        Self {
            id,
            text,
            opened: now,
            count: 0,
            port,
        }
    }

    /// True when its second is over.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        now.since(self.opened) >= SPAN
    }
}

/// Ends a pair's window, if one is open: its event goes out.
pub(super) fn close(pair: &mut Pair, sink: &dyn EventSink) {
    let Some(window) = pair.window.take().filter(|window| window.count > 0) else {
        return;
    };
    let lesson = &pair.lesson;
    let mut event = pair
        .subject
        .event_under(&lesson.book, window.id, Kind::Dns, pair.source);
    event.source_port = window.port;
    event.name = Some(lesson.name.clone());
    event.name_source = NameSource::Query;
    event.qtype = Some(mnemonic(lesson.qtype));
    event.rcode = Some(Rcode::mnemonic(lesson.rcode));
    event.answers.clone_from(&lesson.listed);
    event.address = Some(pair.asked.ip());
    event.port = pair.asked.port();
    event.note.clone_from(&lesson.note);
    event.judged(&lesson.judgement);
    event.count = window.count;
    sink.emit(event);
}
