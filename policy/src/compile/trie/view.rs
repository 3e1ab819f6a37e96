//! A name laid out for lookups: where its labels are, and its octets as machine words.
//!
//! The length of labels is the one thing that a branch predictor can't know, so labels are read as whole words
//! and masked, without copying and without a branch on their length. Made once per lookup, on the stack.

use crate::name::DnsName;

/// Octets that are read at once.
pub(super) const WORD: usize = 16;

/// A name cut into labels.
pub(crate) struct NameView<'a> {
    wire: &'a [u8],
    /// The wire form of a name shorter than a word, and zeros.
    short: [u8; WORD],
    /// Where each label's length octet stands, leftmost first, then the end.
    starts: [u8; 128],
    count: usize,
}

impl<'a> NameView<'a> {
    /// Cuts the name; it has at most 127 labels and 254 octets ([`DnsName`] holds that).
    pub(crate) fn new(name: &'a DnsName) -> Self {
        let wire = name.as_wire();
        let mut view = Self {
            wire,
            short: [0; WORD],
            starts: [0; 128],
            count: 0,
        };
        if wire.len() < WORD {
            view.short[..wire.len()].copy_from_slice(wire);
        }
        let (mut at, mut count) = (0, 0);
        while let Some(len) = wire.get(at) {
            view.starts[count] = at as u8;
            count += 1;
            at += 1 + usize::from(*len);
        }
        view.starts[count] = at as u8;
        view.count = count;
        view
    }

    /// Number of labels.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The label at `index`, counted from the left.
    pub(crate) fn label(&self, index: usize) -> &'a [u8] {
        self.octets(self.start(index) + 1, self.start(index + 1))
    }

    /// The octets `start` up to before `end` of the wire form.
    pub(super) fn octets(&self, start: usize, end: usize) -> &'a [u8] {
        &self.wire[start..end]
    }

    /// Where the label at `index` begins; the name's end for the index after the last.
    pub(super) fn start(&self, index: usize) -> usize {
        usize::from(self.starts[index])
    }

    /// The name's octets from `start` on as a number, the first one lowest: `count` of them, at most a word,
    /// zero beyond. They lie within the name, which isn't the root.
    pub(super) fn word(&self, start: usize, count: usize) -> u128 {
        let octets = if self.wire.len() < WORD {
            &self.short
        } else {
            self.wire
        };
        // Near the end of the name, the last whole word is read and shifted.
        let base = start.min(octets.len() - WORD);
        let whole = octets[base..].first_chunk().expect("a word ends within the name");
        (u128::from_le_bytes(*whole) >> (8 * (start - base))) & MASKS[count.min(WORD)]
    }
}

/// For each count of octets, a word with that many low ones set.
const MASKS: [u128; WORD + 1] = {
    let mut masks = [u128::MAX; WORD + 1];
    let mut count = 0;
    while count < WORD {
        masks[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    masks
};
