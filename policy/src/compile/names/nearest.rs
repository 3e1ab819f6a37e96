//! The rule that a reader would call the nearest to a refused name.
//!
//! Asked once per refusal, for the explanation only, and a refusal should cost no more than a permit: at most
//! [`CANDIDATES`] patterns are looked at, those first that sort beside the name, and [`OCTETS`] of them compared. A
//! pattern is left as soon as it can't be the nearest any more; without two labels in common only one within
//! [`MISTYPED`] edits counts, so most are left after a few octets.

use smallvec::SmallVec;

use super::NameTrie;
use crate::compile::rules::RuleId;
use crate::compile::trie::{Element, NameView, NodeId, Place};
use crate::name::{DnsName, MAX_LABEL};

/// Patterns that are looked at at most.
const CANDIDATES: usize = 64;
/// Octets of patterns that are compared at most; more than the longest pattern has.
const OCTETS: usize = 384;
/// Children that are looked at on each side of where a label would stand among labels of one length.
const BESIDE: NodeId = 5;
/// Wildcard children that are looked at, too: they sort last.
const WILD: NodeId = 4;
/// Octets of two texts that are compared at most: one machine word of the bit-parallel distance.
const COMPARED: usize = 64;
/// Octets that are compared between two looks at whether a pattern may still be the nearest.
const STEP: usize = 4;
/// Edit distance up to which a name that shares fewer than two labels still counts as mistyped.
const MISTYPED: usize = 2;

/// A stretch of trie whose patterns share the same labels with the name.
#[derive(Clone, Copy)]
struct Region {
    /// Right-hand labels that everything here shares with the name.
    shared: usize,
    /// Labels of the name to the left of `node`, or of its parent when the name got stuck inside of its edge.
    left: usize,
    node: NodeId,
    /// The name got stuck inside of the edge to `node`: the edge is part of what differs.
    inside: bool,
}

impl NameTrie {
    /// The rule that shares the most right-hand labels with the name, then the one with the smallest edit
    /// distance to it, then the lowest id. `None` when nothing shares two labels or is within two edits.
    pub fn nearest(&self, name: &DnsName) -> Option<RuleId> {
        if self.is_empty() {
            return None;
        }
        let view = NameView::new(name);
        let mut best: Option<Region> = None;
        self.trie.walk(
            &view,
            |_| (),
            |end| {
                let region = self.region(end.place, &view);
                if best.is_none_or(|best| best.shared < region.shared) {
                    best = Some(region);
                }
            },
        );
        let region = best?;
        let asked = Asked::new((0..region.left).rev().map(|at| view.label(at)));
        let mistyped = region.shared < 2;
        if mistyped && asked.beyond > 0 {
            return None;
        }
        let mut search = Search {
            trie: self,
            asked: &asked,
            candidates: CANDIDATES,
            octets: OCTETS,
            within: if mistyped { MISTYPED } else { usize::MAX },
            best: None,
        };
        search.look_around(region, &view);
        search.best
    }

    fn region(&self, place: Place, name: &NameView<'_>) -> Region {
        let shared = name.len() - place.left;
        let (shared, node, inside) = match self.inside_edge(place, name) {
            Some((child, more)) => (shared + more, child, true),
            None => (shared, place.node, false),
        };
        Region {
            shared,
            left: place.left,
            node,
            inside,
        }
    }
}

/// One search: what is compared with what, and how much of it is still affordable.
struct Search<'a> {
    trie: &'a NameTrie,
    asked: &'a Asked,
    /// Patterns that may still be looked at.
    candidates: usize,
    /// Octets that may still be compared.
    octets: usize,
    /// A greater distance is none: that of the nearest pattern so far.
    within: usize,
    best: Option<RuleId>,
}

impl Search<'_> {
    /// Compares everything in the region if that is affordable, else the children that sort beside the label
    /// where the name left the trie, each with a share of what lies below.
    fn look_around(&mut self, region: Region, name: &NameView<'_>) {
        let row = Row::new(self.asked);
        if region.inside {
            self.compare_below(region.node, row, CANDIDATES);
            return;
        }
        self.compare(region.node, row);
        let trie = &self.trie.trie;
        let label = region
            .left
            .checked_sub(1)
            .map_or(&[][..], |last| name.label(last));
        if trie.size_below(region.node) <= CANDIDATES {
            let (first, end) = trie.children(region.node);
            for child in outwards(first, trie.children_before(region.node, label), end) {
                self.compare_below(child, row, CANDIDATES);
            }
            return;
        }
        let children = self.beside(region.node, label);
        let share = (CANDIDATES / children.len().max(1)).max(1);
        for child in children {
            self.compare_below(child, row, share);
        }
    }

    /// The children of a node that sort beside a label, among those of its length and of the lengths next to it,
    /// and the last wildcards; each once.
    fn beside(&self, node: NodeId, label: &[u8]) -> SmallVec<[NodeId; CANDIDATES]> {
        let trie = &self.trie.trie;
        let (first, end) = trie.children(node);
        let mut probe = [b'-'; MAX_LABEL];
        probe[..label.len()].copy_from_slice(label);
        let mut chosen: SmallVec<[NodeId; CANDIDATES]> = SmallVec::new();
        // Labels sort by length first, so what is beside one of another length overlaps at most at its ends.
        let mut seen = (first, first);
        let lengths = label.len().saturating_sub(1).max(1)..=(label.len() + 1).min(MAX_LABEL);
        let mut middle = first;
        for len in lengths {
            middle = trie.before((middle, end), &probe[..len]);
            let from = middle.saturating_sub(BESIDE).max(seen.1);
            let to = (middle + BESIDE).min(end);
            chosen.extend(from..to);
            seen = (from, to.max(from));
        }
        chosen.extend(end.saturating_sub(WILD).max(seen.1)..end);
        chosen
    }

    /// Compares up to `limit` patterns at a node and below; `row` stands where its parent's labels end. Returns how
    /// many were looked at.
    fn compare_below(&mut self, node: NodeId, mut row: Row, limit: usize) -> usize {
        let trie = &self.trie.trie;
        let (first, end) = trie.children(node);
        let edge = trie.edge(node);
        let before = row.fed;
        let near = if first == end && self.is_too_long_or_short(node, row, edge) {
            None
        } else if let Some(label) = Element::single(edge) {
            let unlike = row.fed == 0 && self.within <= MISTYPED && self.asked.begins_unlike(label);
            if unlike {
                None
            } else {
                row.label(self.asked, label, self.within)
            }
        } else {
            let mut labels = trie.edge_labels(node).into_iter();
            labels.try_for_each(|label| row.label(self.asked, label, self.within))
        };
        self.octets = self.octets.saturating_sub(row.fed - before);
        if near.is_none() {
            self.candidates = self.candidates.saturating_sub(1);
            return 1;
        }
        let mut compared = self.compare(node, row);
        for child in first..end {
            if compared >= limit || self.candidates == 0 || self.octets == 0 {
                break;
            }
            compared += self.compare_below(child, row, limit - compared);
        }
        compared
    }

    /// True when nothing that ends at a node without children can be near enough, by its length alone.
    fn is_too_long_or_short(&self, node: NodeId, row: Row, edge: &[u8]) -> bool {
        // Each literal label has one octet more than its text, and so have the dots before all labels but the first.
        let literal = edge.first().is_some_and(|kind| usize::from(*kind) <= MAX_LABEL);
        let octets = row.fed + edge.len() - usize::from(row.fed == 0);
        let asked = self.asked.len + self.asked.beyond;
        // `*.` before it.
        let slack = if self.trie.trie.is_below(node) { 2 } else { 0 };
        literal && octets.abs_diff(asked) > self.within.saturating_add(slack)
    }

    /// Compares the patterns that end at a node: 0 to 2 of them, the exact one and the one below it.
    fn compare(&mut self, node: NodeId, row: Row) -> usize {
        let (mut exact, mut below) = (None, None);
        self.trie.for_each_rule(node, |is_below, rule, _| {
            let first = if is_below { &mut below } else { &mut exact };
            *first = first.or(Some(rule));
        });
        if let Some(rule) = exact {
            self.found(row, rule);
        }
        if let Some(rule) = below {
            let mut row = row;
            if row.label(self.asked, Element::One, self.within).is_some() {
                self.found(row, rule);
            }
        }
        let compared = usize::from(exact.is_some()) + usize::from(below.is_some());
        self.candidates = self.candidates.saturating_sub(compared);
        compared
    }

    fn found(&mut self, row: Row, rule: RuleId) {
        let distance = row.distance(self.asked);
        let nearer =
            distance < self.within || (distance == self.within && self.best.is_none_or(|best| rule < best));
        if nearer {
            (self.within, self.best) = (distance, Some(rule));
        }
    }
}

/// The numbers from `first` up to before `end`, those next to `middle` first.
fn outwards(first: NodeId, middle: NodeId, end: NodeId) -> impl Iterator<Item = NodeId> {
    let (mut low, mut high) = (middle, middle);
    std::iter::from_fn(move || {
        if high < end && (low == first || high - middle <= middle - low) {
            high += 1;
            return Some(high - 1);
        }
        (low > first).then(|| {
            low -= 1;
            low
        })
    })
}

/// What is compared with many patterns: the name's labels that the region doesn't share, as one text that is read
/// backwards, so that descending the trie appends to what it is compared with.
struct Asked {
    /// For each octet, where the text has it.
    places: [u64; 256],
    /// The last place; 0 for an empty text.
    last: u64,
    /// Octets that are compared.
    len: usize,
    /// Octets beyond [`COMPARED`].
    beyond: usize,
}

impl Asked {
    /// From labels, rightmost first.
    fn new<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut places, mut len) = ([0; 256], 0);
        let mut push = |octet: u8| {
            if len < COMPARED {
                places[usize::from(octet)] |= 1 << len;
            }
            len += 1;
        };
        for (at, label) in labels.enumerate() {
            if at > 0 {
                push(b'.');
            }
            label.iter().rev().copied().for_each(&mut push);
        }
        let compared = len.min(COMPARED);
        Self {
            places,
            last: compared.checked_sub(1).map_or(0, |last| 1 << last),
            len: compared,
            beyond: len - compared,
        }
    }

    /// True when no text that begins with this label, read backwards, is within [`MISTYPED`] edits: of one more octets than
    /// that, one is left as it is, and stands no further from where it stood.
    fn begins_unlike(&self, label: Element<'_>) -> bool {
        const NEAR: u64 = (1 << (2 * MISTYPED + 1)) - 1;
        let Element::Literal(octets) = label else {
            return false;
        };
        let first = octets.len().checked_sub(MISTYPED + 1);
        first.is_some_and(|first| {
            octets[first..]
                .iter()
                .all(|octet| self.places[usize::from(*octet)] & NEAR == 0)
        })
    }
}

/// The state of Myers' bit-parallel edit distance (J. ACM 46(3), 1999) after some octets of a pattern: one step an octet
/// instead of a column of a matrix, and patterns that begin alike share their first steps.
#[derive(Clone, Copy)]
struct Row {
    plus: u64,
    minus: u64,
    /// Distance of the whole asked text and the octets so far.
    score: usize,
    /// Octets so far, those beyond [`COMPARED`] too.
    fed: usize,
}

impl Row {
    fn new(asked: &Asked) -> Self {
        Self {
            plus: u64::MAX,
            minus: 0,
            score: asked.len,
            fed: 0,
        }
    }

    /// One more label to the left; `None`, and not all of it, when nothing that begins like this is within a distance.
    fn label(&mut self, asked: &Asked, label: Element<'_>, within: usize) -> Option<()> {
        if self.fed > 0 {
            self.octet(asked, b'.');
        }
        let octets = match label {
            Element::Literal(octets) | Element::Glob(octets) => octets,
            Element::One => b"*",
        };
        for part in octets.rchunks(STEP) {
            part.iter().rev().for_each(|octet| self.octet(asked, *octet));
            if self.least(asked) > within {
                return None;
            }
        }
        Some(())
    }

    #[inline]
    fn octet(&mut self, asked: &Asked, octet: u8) {
        self.fed += 1;
        if self.fed > COMPARED {
            return;
        }
        let Self { plus, minus, .. } = *self;
        let equal = asked.places[usize::from(octet)];
        let vertical = equal | minus;
        let horizontal = ((equal & plus).wrapping_add(plus) ^ plus) | equal;
        let (up, down) = (minus | !(horizontal | plus), plus & horizontal);
        self.score = self.score + usize::from(up & asked.last != 0) - usize::from(down & asked.last != 0);
        let (up, down) = (up << 1 | 1, down << 1);
        self.plus = down | !(vertical | up);
        self.minus = up & vertical;
    }

    /// Edit distance of the first [`COMPARED`] octets, plus what the longer text has beyond them.
    fn distance(&self, asked: &Asked) -> usize {
        let score = if asked.len == 0 {
            self.fed.min(COMPARED)
        } else {
            self.score
        };
        score + asked.beyond.max(self.fed.saturating_sub(COMPARED))
    }

    /// What the distance can't fall below, whatever follows. With `octets` so far, the column of the matrix holds their
    /// distances to every beginning of the asked text: neighbours differ by one at most, and no cell is less than the
    /// difference of the lengths, so the cell at equal lengths bounds all.
    fn least(&self, asked: &Asked) -> usize {
        let octets = self.fed.min(COMPARED);
        let at = octets.min(asked.len);
        let upto = 1_u64.checked_shl(at as u32).map_or(u64::MAX, |bit| bit - 1);
        let cell =
            octets + (self.plus & upto).count_ones() as usize - (self.minus & upto).count_ones() as usize;
        (cell + octets - at).div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Asked, Element, MISTYPED, Row};

    /// The textbook matrix.
    fn levenshtein(one: &[u8], other: &[u8]) -> usize {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (at, octet) in one.iter().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], at + 1);
            for (column, against) in other.iter().enumerate() {
                let replaced = diagonal + usize::from(octet != against);
                diagonal = row[column + 1];
                row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
            }
        }
        row[other.len()]
    }

    proptest! {
        #[test]
        fn bit_parallel_distance_is_the_textbooks(one in "[a-c.]{0,64}", other in "[a-c.]{0,64}") {
            let asked = Asked::new(std::iter::once(one.as_bytes()));
            let mut row = Row::new(&asked);
            prop_assert!(row.label(&asked, Element::Literal(other.as_bytes()), usize::MAX).is_some());
            prop_assert_eq!(row.distance(&asked), levenshtein(one.as_bytes(), other.as_bytes()));
        }

        #[test]
        fn what_begins_unlike_is_too_far(one in "[a-f]{0,8}", left in "([a-f]{1,4}\\.)?", other in "[a-f]{0,8}") {
            let asked = Asked::new(std::iter::once(one.as_bytes()));
            if asked.begins_unlike(Element::Literal(other.as_bytes())) {
                let text = left + &other;
                prop_assert!(levenshtein(one.as_bytes(), text.as_bytes()) > MISTYPED);
            }
        }

        #[test]
        fn what_is_left_early_is_too_far(one in "[a-c]{0,70}", other in "[a-c]{0,70}", within in 0_usize..40) {
            let asked = Asked::new(std::iter::once(one.as_bytes()));
            let mut row = Row::new(&asked);
            row.label(&asked, Element::Literal(other.as_bytes()), usize::MAX);
            let mut early = Row::new(&asked);
            if early.label(&asked, Element::Literal(other.as_bytes()), within).is_none() {
                prop_assert!(row.distance(&asked) > within);
            }
        }
    }
}
