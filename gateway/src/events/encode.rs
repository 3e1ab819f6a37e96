//! Events as JSON: each written once, for the log and the spool alike.
//!
//! Owns the bytes of what the writer took at once, and the little that the spool has to know of each event. No I/O.

use compact_str::CompactString;
use jiff::Timestamp;
use tidegate_control_wire::batch::Lane;
use tidegate_policy::event::NetworkEvent;

use super::queue::{lane, party};

/// Bytes of a usual event, for the first allocation.
const USUAL: usize = 640;

/// Events, a line each.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    text: Vec<u8>,
    items: Vec<Item>,
}

/// What is known of one event beside its JSON.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The end of its line in the text, behind the line's end.
    end: usize,
    /// Where it is kept.
    pub(crate) lane: Lane,
    /// Whose refusal it is; empty for permits, which nobody counts by job.
    pub(crate) party: CompactString,
    /// How many verdicts it stands for.
    pub(crate) count: u64,
    /// When.
    pub(crate) time: Timestamp,
}

impl Encoded {
    /// Writes every event once.
    pub(crate) fn of(events: &[NetworkEvent]) -> Self {
        let mut encoded = Self {
            text: Vec::with_capacity(events.len() * USUAL),
            items: Vec::with_capacity(events.len()),
        };
        for event in events {
            let begun = encoded.text.len();
            if let Err(error) = serde_json::to_writer(&mut encoded.text, event) {
                // Plain data with text keys: this does not come about. Were it to, one event must not cost the others.
                tracing::error!(%error, "an event can't be written as JSON");
                encoded.text.truncate(begun);
                continue;
            }
            encoded.text.push(b'\n');
            let lane = lane(event);
            encoded.items.push(Item {
                end: encoded.text.len(),
                lane,
                party: match lane {
                    Lane::Refusals => party(event),
                    Lane::Permits => CompactString::default(),
                },
                count: event.count,
                time: event.time,
            });
        }
        encoded
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Each with its JSON, without the line's end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Item, &[u8])> {
        let mut begun = 0;
        self.items.iter().map(move |item| {
            let line = &self.text[begun..item.end - 1];
            begun = item.end;
            (item, line)
        })
    }

    /// The lines in pieces of at most `most` events, with the number of them.
    pub(crate) fn chunks(&self, most: usize) -> impl Iterator<Item = (usize, &[u8])> {
        let mut begun = 0;
        self.items.chunks(most).map(move |items| {
            let end = items.last().map_or(begun, |item| item.end);
            let chunk = &self.text[begun..end];
            begun = end;
            (items.len(), chunk)
        })
    }
}
