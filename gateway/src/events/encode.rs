//! Events as JSON: each written once, for the log and the spool alike.
//!
//! Owns the bytes of a batch, and the little that the spool has to know of each event; how an event is written is
//! [`writer`]'s. No I/O.

pub(super) mod json;
mod writer;

use compact_str::CompactString;
use jiff::Timestamp;
use tidegate_control_wire::batch::Lane;
use tidegate_policy::event::NetworkEvent;

use super::queue::{lane, party};
use writer::Writer;

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

/// Encodes batches into the same memory, one after the other.
#[derive(Debug)]
pub(crate) struct Encoder {
    writer: Writer,
    encoded: Encoded,
}

impl Encoder {
    /// An encoder of what this gateway tells.
    pub(crate) fn new(gateway: &str) -> Self {
        Self {
            writer: Writer::new(gateway),
            encoded: Encoded::default(),
        }
    }

    /// Writes every event once.
    pub(crate) fn encode<'a>(&mut self, events: impl IntoIterator<Item = &'a NetworkEvent>) -> &Encoded {
        let Encoded { text, items } = &mut self.encoded;
        text.clear();
        items.clear();
        for event in events {
            self.writer.write(text, event);
            text.push(b'\n');
            let lane = lane(event);
            items.push(Item {
                end: text.len(),
                lane,
                party: match lane {
                    Lane::Refusals => party(event),
                    Lane::Permits => CompactString::default(),
                },
                count: event.count,
                time: event.time,
            });
        }
        &self.encoded
    }
}

impl Encoded {
    /// These events of a gateway called `gw-1`, once.
    #[cfg(test)]
    pub(crate) fn of<'a>(events: impl IntoIterator<Item = &'a NetworkEvent>) -> Self {
        let mut encoder = Encoder::new("gw-1");
        encoder.encode(events);
        encoder.encoded
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

#[cfg(test)]
mod tests;
