//! Repeats counted together: one event with an exact count.
//!
//! The first query of its kind in a job goes the slow way, with an event of its own at once. What the fast path repeats
//! is counted here; the event's id is minted when the window opens, because a refusal names it. People look refusals up at
//! once, so their windows are short; a permit's event tells little that the first one did not. Whoever needs an exact count
//! earlier has windows closed ([`super::seat`]).

use std::time::Duration;

use tidegate_policy::Moment;
use tidegate_policy::event::{EventId, EventSink, Kind, NameSource};
use tidegate_policy::verdict::Verdict;

use super::pair::Pair;
use super::wheel::Wheel;
use crate::front::ask::mnemonic;
use crate::wire::Rcode;

/// How long repeats of a refusal are counted together.
pub(super) const SHORT: Duration = Duration::from_secs(1);
/// The same of what is answered: at most.
pub(super) const LONG: Duration = Duration::from_secs(10);

/// Repeats that no event was made of yet; how many they are stands with what is hot.
#[derive(Debug)]
pub(super) struct Window {
    id: EventId,
    pub(super) ends: Moment,
    /// The port of the first.
    port: u16,
}

/// When a window ends that opens now. Those of answers end at a phase of their own within ten seconds: what a fleet begins to
/// ask at once is not told at once.
fn end(verdict: Verdict, hash: u64, now: Moment) -> Moment {
    match verdict {
        Verdict::Refuse => now.plus(SHORT),
        Verdict::Permit | Verdict::WouldRefuse => {
            let long = LONG.as_millis() as u64;
            let left = (hash % long + long - now.as_millis() % long) % long;
            now.plus(Duration::from_millis(if left == 0 { long } else { left }))
        }
    }
}

/// Opens a pair's window, for an event of this id whose first query came from this port; gives back when it ends.
pub(super) fn open(
    pair: &mut Pair<'_>,
    (wheel, at): (&mut Wheel, u32),
    (id, port): (EventId, u16),
    now: Moment,
) -> Moment {
    let ends = end(pair.hot.lesson.said.verdict, pair.cold.hash, now);
    pair.hot.text = id.text();
    pair.cold.window = Some(Window { id, ends, port });
    wheel.put(at, ends);
    ends
}

/// Closes a pair's window before it has ended, if one is open: its event goes out.
pub(super) fn close(pair: &mut Pair<'_>, (wheel, at): (&mut Wheel, u32), sink: &dyn EventSink) {
    if let Some(window) = &pair.cold.window {
        wheel.take(at, window.ends);
        tell(pair, sink);
    }
}

/// The event of a pair's window, which the wheel has let go; none, if nothing was counted in it.
pub(super) fn tell(pair: &mut Pair<'_>, sink: &dyn EventSink) {
    let count = std::mem::take(&mut pair.hot.count);
    // The next repeat opens another one.
    pair.hot.until = Moment::default();
    let Some(window) = pair.cold.window.take().filter(|_| count > 0) else {
        return;
    };
    let (lesson, source) = (&pair.hot.lesson, pair.cold.source);
    let mut event = pair
        .cold
        .subject
        .event_under(&lesson.book, window.id, Kind::Dns, source);
    event.source_port = window.port;
    event.name = Some(lesson.name.clone());
    event.name_source = NameSource::Query;
    event.qtype = Some(mnemonic(lesson.said.qtype));
    event.rcode = Some(Rcode::mnemonic(lesson.rcode));
    event.answers.clone_from(&lesson.listed);
    event.address = Some(lesson.said.asked.ip());
    event.port = lesson.said.asked.port();
    event.note.clone_from(&lesson.note);
    event.judged(&lesson.judgement);
    event.count = count;
    sink.emit(event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_answers_end_apart_and_within_ten_seconds() {
        let now = Moment::from_millis(123_456);
        let mut ends: Vec<u64> = (0..10_000_u64)
            .map(|hash| end(Verdict::Permit, hash.wrapping_mul(0x9e37_79b9), now).as_millis())
            .collect();
        assert!(ends.iter().all(|end| (123_457..=133_456).contains(end)));
        ends.sort_unstable();
        ends.dedup();
        assert!(ends.len() > 5_000, "{} moments", ends.len());
        let first = end(Verdict::WouldRefuse, 5, now);
        assert_eq!(end(Verdict::Permit, 5, first), first.plus(LONG));
        assert_eq!(end(Verdict::Refuse, 5, now), now.plus(SHORT));
    }
}
