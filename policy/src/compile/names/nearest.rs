//! The rule that a reader would call the nearest to a refused name.
//!
//! Asked once per refusal, for the explanation only, so it may cost more than a lookup, but its work is bounded:
//! at most [`CANDIDATES`] patterns are compared, over at most 64 octets each.

use smallvec::SmallVec;

use super::NameTrie;
use crate::compile::rules::RuleId;
use crate::compile::trie::{Element, NameView, NodeId, Place};
use crate::name::{DnsName, MAX_LABEL};

/// Patterns that are compared at most.
const CANDIDATES: usize = 64;
/// Children that are compared on each side of where a label would stand among labels of one length.
const BESIDE: NodeId = 6;
/// Octets of two texts that are compared at most: one machine word of the bit-parallel distance.
const COMPARED: usize = 64;
/// Edit distance up to which a name that shares fewer than two labels still counts as mistyped.
const MISTYPED: usize = 2;

/// A stretch of trie whose patterns share the same labels with the name.
#[derive(Clone, Copy)]
struct Region {
    /// Right-hand labels that everything here shares with the name.
    shared: usize,
    /// Labels of the name to the left of `node` (more than the unshared ones when the name got stuck inside of
    /// an edge).
    left: usize,
    node: NodeId,
}

impl NameTrie {
    /// The rule that shares the most right-hand labels with the name, then the one with the smallest edit
    /// distance to it, then the lowest id. `None` when nothing shares two labels or is within two edits.
    pub fn nearest(&self, name: &DnsName) -> Option<RuleId> {
        let view = NameView::new(name);
        let mut best: Option<Region> = None;
        self.trie.walk(
            &view,
            |_| (),
            |place| {
                let region = self.region(place, &view);
                if best.is_none_or(|best| best.shared < region.shared) {
                    best = Some(region);
                }
            },
        );
        let region = best?;
        let mut asked = Text::new();
        append(
            &mut asked,
            (0..region.left).rev().map(|at| Element::Literal(view.label(at))),
        );
        let mut search = Search {
            trie: self,
            distance: Distance::from(&asked),
            budget: CANDIDATES,
            best: None,
        };
        search.look_around(region, &view);
        let (distance, rule) = search.best?;
        (region.shared >= 2 || (distance <= MISTYPED && asked.len() <= COMPARED)).then_some(rule)
    }

    fn region(&self, place: Place, name: &NameView<'_>) -> Region {
        let reached = name.len() - place.left;
        match self.inside_edge(place, name) {
            Some((child, more)) => Region {
                shared: reached + more,
                left: place.left,
                node: child,
            },
            None => Region {
                shared: reached,
                left: place.left,
                node: place.node,
            },
        }
    }
}

/// One search: what is compared with what, and how much of it is still affordable.
struct Search<'a> {
    trie: &'a NameTrie,
    distance: Distance,
    budget: usize,
    best: Option<(usize, RuleId)>,
}

impl Search<'_> {
    /// Compares everything in the region if that is affordable, else the children that sort beside the label
    /// where the name left the trie, each with a share of what lies below.
    fn look_around(&mut self, region: Region, name: &NameView<'_>) {
        // Inside of an edge, the edge itself is part of what differs.
        let inside = region.shared + region.left > name.len();
        let mut text = Text::new();
        if inside {
            append(&mut text, self.trie.trie.edge_labels(region.node).into_iter());
        }
        if self.size_within(region.node, CANDIDATES) <= CANDIDATES {
            self.compare_below(region.node, &mut text, CANDIDATES);
            return;
        }
        self.compare(region.node, &text);
        let (first, end) = self.trie.trie.children(region.node);
        let label = match region.left.checked_sub(1) {
            Some(last) if !inside => name.label(last),
            Some(_) | None => &[],
        };
        // Wildcard edges stand last.
        let mut children: SmallVec<[NodeId; CANDIDATES]> = (end.saturating_sub(4).max(first)..end).collect();
        for len in label.len().saturating_sub(MISTYPED).max(1)..=(label.len() + MISTYPED).min(MAX_LABEL) {
            let mut probe: SmallVec<[u8; MAX_LABEL]> = SmallVec::from_slice(label);
            probe.resize(len, b'-');
            let middle = self.trie.trie.children_before(region.node, &probe);
            children.extend(middle.saturating_sub(BESIDE).max(first)..(middle + BESIDE).min(end));
        }
        children.sort_unstable();
        children.dedup();
        let share = (CANDIDATES / children.len().max(1)).max(1);
        for child in children {
            let length = text.len();
            append(&mut text, self.trie.trie.edge_labels(child).into_iter());
            self.compare_below(child, &mut text, share);
            text.truncate(length);
        }
    }

    /// Compares up to `limit` patterns at a node and below; `text` ends with the node's own labels. Returns how
    /// many were compared.
    fn compare_below(&mut self, node: NodeId, text: &mut Text, limit: usize) -> usize {
        let mut compared = self.compare(node, text);
        let (first, end) = self.trie.trie.children(node);
        for child in first..end {
            if compared >= limit || self.budget == 0 {
                break;
            }
            let length = text.len();
            append(text, self.trie.trie.edge_labels(child).into_iter());
            compared += self.compare_below(child, text, limit - compared);
            text.truncate(length);
        }
        compared
    }

    /// Compares the patterns that end at a node: 0 to 2 of them, the exact one and the one below it.
    fn compare(&mut self, node: NodeId, text: &Text) -> usize {
        let (mut exact, mut below) = (None, None);
        self.trie.for_each_rule(node, |is_below, rule, _| {
            let first = if is_below { &mut below } else { &mut exact };
            *first = first.or(Some(rule));
        });
        for (rule, is_below) in [(exact, false), (below, true)] {
            let Some(rule) = rule else { continue };
            let mut text = text.clone();
            if is_below {
                append(&mut text, std::iter::once(Element::One));
            }
            let found = (self.distance.to(&text), rule);
            self.best = Some(self.best.map_or(found, |best| best.min(found)));
            self.budget = self.budget.saturating_sub(1);
        }
        usize::from(exact.is_some()) + usize::from(below.is_some())
    }

    /// Number of nodes below and at `node`, counted up to a little over `limit`.
    fn size_within(&self, node: NodeId, limit: usize) -> usize {
        let (first, end) = self.trie.trie.children(node);
        let mut size = 1;
        for child in first..end {
            if size > limit {
                break;
            }
            size += self.size_within(child, limit - size);
        }
        size
    }
}

/// Labels as one text, read backwards, so that descending the trie appends.
type Text = SmallVec<[u8; COMPARED]>;

fn append<'a>(text: &mut Text, labels: impl Iterator<Item = Element<'a>>) {
    for label in labels {
        if !text.is_empty() {
            text.push(b'.');
        }
        match label {
            Element::Literal(bytes) | Element::Glob(bytes) => text.extend(bytes.iter().rev().copied()),
            Element::One => text.push(b'*'),
        }
    }
}

/// Edit distance from one text to many, by Myers' bit-parallel algorithm (J. ACM 46(3), 1999): one step a
/// character instead of a row of a matrix.
struct Distance {
    /// For each octet, where the text has it.
    places: Box<[u64; 256]>,
    len: usize,
    beyond: usize,
}

impl Distance {
    fn from(text: &Text) -> Self {
        let mut places = Box::new([0; 256]);
        let len = text.len().min(COMPARED);
        for (at, octet) in text.iter().take(len).enumerate() {
            places[usize::from(*octet)] |= 1 << at;
        }
        Self {
            places,
            len,
            beyond: text.len() - len,
        }
    }

    /// Edit distance of the first [`COMPARED`] octets, plus what the longer text has beyond them.
    fn to(&self, text: &Text) -> usize {
        let (mut plus, mut minus, mut score) = (u64::MAX, 0_u64, self.len);
        for octet in text.iter().take(COMPARED) {
            let equal = self.places[usize::from(*octet)];
            let vertical = equal | minus;
            let horizontal = ((equal & plus).wrapping_add(plus) ^ plus) | equal;
            let (up, down) = (minus | !(horizontal | plus), plus & horizontal);
            let last = self.len.checked_sub(1);
            let bit = |word: u64| last.is_some_and(|last| word >> last & 1 == 1);
            score = score + usize::from(bit(up)) - usize::from(bit(down));
            let (up, down) = (up << 1 | 1, down << 1);
            plus = down | !(vertical | up);
            minus = up & vertical;
        }
        let score = if self.len == 0 {
            text.len().min(COMPARED)
        } else {
            score
        };
        score + self.beyond.max(text.len().saturating_sub(COMPARED))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Distance, Text};

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
            let distance = Distance::from(&Text::from_slice(one.as_bytes()));
            prop_assert_eq!(distance.to(&Text::from_slice(other.as_bytes())), levenshtein(one.as_bytes(), other.as_bytes()));
        }
    }
}
