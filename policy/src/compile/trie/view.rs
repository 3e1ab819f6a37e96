//! A name laid out for lookups: its labels' places, and its octets with room behind them.
//!
//! The room lets every label be read as whole machine words and masked, whatever its length: the length of
//! labels is the one thing a branch predictor can't know. Made once per lookup, on the stack.

use crate::name::{DnsName, MAX_WIRE};

/// Octets that are read at once.
pub(super) const WORD: usize = 16;

/// A name cut into labels.
pub(in crate::compile) struct NameView {
    /// The wire form and zeros, enough for two words from any place of the name.
    octets: [u8; 2 * WORD + MAX_WIRE],
    /// Where each label's length octet stands, leftmost first, then the end.
    starts: [u8; 128],
    count: usize,
}

impl NameView {
    /// Cuts the name; it has at most 127 labels and 254 octets ([`DnsName`] holds that).
    pub(in crate::compile) fn new(name: &DnsName) -> Self {
        let wire = name.as_wire();
        let mut octets = [0; 2 * WORD + MAX_WIRE];
        octets[..wire.len()].copy_from_slice(wire);
        let (mut starts, mut count, mut at) = ([0; 128], 0, 0);
        while at < wire.len() {
            starts[count] = at as u8;
            count += 1;
            at += 1 + usize::from(octets[at]);
        }
        starts[count] = at as u8;
        Self {
            octets,
            starts,
            count,
        }
    }

    /// Number of labels.
    pub(in crate::compile) fn len(&self) -> usize {
        self.count
    }

    /// The label at `index`, counted from the left.
    pub(in crate::compile) fn label(&self, index: usize) -> &[u8] {
        &self.slice(index, index + 1)[1..]
    }

    /// The labels `first` up to before `end` in wire form.
    pub(super) fn slice(&self, first: usize, end: usize) -> &[u8] {
        &self.octets[self.start(first)..self.start(end)]
    }

    /// Where the label at `index` begins; the name's end for the index after the last.
    pub(super) fn start(&self, index: usize) -> usize {
        usize::from(self.starts[index])
    }

    /// The name's octets from `start` on, with at least two words of zeros behind the name.
    pub(super) fn from(&self, start: usize) -> &[u8] {
        &self.octets[start..]
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

/// The first `count` octets of `octets`, at most a word, as a number, zero beyond. `octets` has a whole word.
pub(super) fn word(octets: &[u8], count: usize) -> u128 {
    let whole = octets.first_chunk().expect("a whole word can be read");
    u128::from_le_bytes(*whole) & MASKS[count.min(WORD)]
}
