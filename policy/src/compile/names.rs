//! Names against a million patterns at once.
//!
//! Owns what a match of a name means: which rules cover it, and which of them is the most specific. It
//! stands on the label trie ([`super::trie`]) and adds ports, protocols and rule ids; [`nearest`] answers the
//! question that only an explanation asks. Built once per list, then read by every worker; it never decides.

mod nearest;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use foldhash::HashMap;

use crate::compile::Ends;
use crate::compile::rules::RuleId;
use crate::compile::trie::{Builder, Element, End, LabelTrie, NameView, NodeId, Place};
use crate::endpoint::{LabelPattern, NamePattern, Ports, Protocols, Transport};
use crate::name::DnsName;

/// Exact names that [`NameTrie::exact_names_on_port`] knows for each distinct pair of ports and protocols.
pub const LISTED_NAMES: usize = 64;

/// A rule's ports and protocols; few distinct ones exist, so rules carry their number.
type Grant = (Ports, Protocols);

/// Bit of a [`Endings::grant`] that says that `rule` and the rest are a range of `NameTrie::shared`.
const SHARED: u32 = 1 << 31;

/// The rules of a trie node: one rule itself, or a range of [`NameTrie::shared`].
#[derive(Clone, Copy, Default)]
struct Endings {
    /// The rule's id; or where the range starts.
    rule: u32,
    /// The number of its grant; or [`SHARED`] and the range's length.
    grant: u32,
}

/// One of several rules that end at one node.
#[derive(Clone, Copy, Debug)]
struct Shared {
    below: bool,
    rule: RuleId,
    grant: u32,
}

/// How specific a match is: exact before wildcards, then more labels in the pattern, then the lowest id.
/// The greatest is the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    exact: bool,
    labels: usize,
    rule: Reverse<RuleId>,
}

impl Rank {
    /// The rule that matched.
    pub(super) fn rule(self) -> RuleId {
        self.rule.0
    }
}

/// Immutable matcher of name patterns, each with ports, protocols and the rule it came from.
///
/// A node takes 32 bytes and seven of hash table; a list has one to one and a half nodes a rule.
#[derive(Debug)]
pub struct NameTrie {
    trie: LabelTrie<Endings, 20>,
    shared: Box<[Shared]>,
    grants: Box<[Grant]>,
    /// For each grant, the first exact names that have it.
    listed: Box<[Vec<(DnsName, RuleId)>]>,
}

impl Default for NameTrie {
    fn default() -> Self {
        Self::build([])
    }
}

impl NameTrie {
    /// Compiles the patterns. A pattern that can match no name (a label over 63 octets, say, which the grammar
    /// refuses) is left out.
    pub fn build(rules: impl IntoIterator<Item = (NamePattern, Ports, Protocols, RuleId)>) -> Self {
        let mut builder = Builder::new();
        let mut numbers: HashMap<Grant, u32> = HashMap::default();
        let mut listed: Vec<Vec<(DnsName, RuleId)>> = Vec::new();
        for (pattern, ports, protocols, rule) in rules {
            let grant = *numbers.entry((ports, protocols)).or_insert(listed.len() as u32);
            if grant as usize == listed.len() {
                listed.push(Vec::new());
            }
            let names = &mut listed[grant as usize];
            if names.len() < LISTED_NAMES
                && let Some(name) = pattern.as_exact()
            {
                names.push((name, rule));
            }
            let labels = pattern.labels.iter().rev().map(|label| match label {
                LabelPattern::Literal(label) => Element::Literal(label),
                LabelPattern::One => Element::One,
                LabelPattern::Glob(glob) => Element::Glob(glob),
            });
            builder.push(labels, pattern.below, (rule, grant));
        }
        let mut shared = Vec::new();
        let trie = builder.build(|endings| pack(endings, &mut shared));
        let mut grants: Vec<(Grant, u32)> = numbers.into_iter().collect();
        grants.sort_unstable_by_key(|(_, number)| *number);
        listed.iter_mut().for_each(Vec::shrink_to_fit);
        Self {
            trie,
            shared: shared.into(),
            grants: grants.into_iter().map(|(grant, _)| grant).collect(),
            listed: listed.into(),
        }
    }

    /// The rule that covers this name on this port: an exact name before wildcards, a pattern with more labels
    /// before one with fewer, then the lowest id.
    pub fn find(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleId> {
        self.find_view(&NameView::new(name), port, transport)
    }

    /// [`Self::find`] for a name laid out already.
    pub(crate) fn find_view(&self, name: &NameView<'_>, port: u16, transport: Transport) -> Option<RuleId> {
        let mut best = None;
        self.for_each_ranked(name, |rank, ports, protocols| {
            if ports.contain(port) && protocols.cover(transport) {
                best = best.max(Some(rank));
            }
        });
        best.map(Rank::rule)
    }

    /// Calls `seen` for every rule whose pattern matches the name, in no particular order.
    pub fn for_each_match(&self, name: &DnsName, mut seen: impl FnMut(RuleId, Ports, Protocols)) {
        let view = NameView::new(name);
        self.for_each_ranked(&view, |rank, ports, protocols| {
            seen(rank.rule(), ports, protocols);
        });
    }

    /// Calls `seen` for every rule whose pattern matches the name, with how specific that is.
    pub(super) fn for_each_ranked(&self, name: &NameView<'_>, mut seen: impl FnMut(Rank, Ports, Protocols)) {
        if !self.is_empty() {
            self.trie
                .walk(name, |place| self.arrive(place, name, &mut seen), |_| ());
        }
    }

    /// [`Self::for_each_ranked`] and [`Self::has_descendant`] in one walk.
    pub(super) fn survey(&self, name: &NameView<'_>, mut seen: impl FnMut(Rank, Ports, Protocols)) -> bool {
        let mut above = false;
        if !self.is_empty() {
            self.trie.walk(
                name,
                |place| self.arrive(place, name, &mut seen),
                |end| above = above || self.lies_above(end, name),
            );
        }
        above
    }

    /// Shows the rules that match a name at a place that it reached.
    fn arrive(&self, place: Place, name: &NameView<'_>, seen: &mut impl FnMut(Rank, Ports, Protocols)) {
        let whole = place.left == 0;
        if !(whole && self.trie.is_exact(place.node) || !whole && self.trie.is_below(place.node)) {
            return;
        }
        self.for_each_rule(place.node, |below, rule, (ports, protocols)| {
            if below != whole {
                let rank = Rank {
                    exact: whole && place.plain,
                    labels: name.len() - place.left,
                    rule: Reverse(rule),
                };
                seen(rank, ports, protocols);
            }
        });
    }

    /// The rules that end at a node, exact ones first, then by id.
    fn for_each_rule(&self, node: NodeId, mut seen: impl FnMut(bool, RuleId, Grant)) {
        if !self.trie.is_exact(node) && !self.trie.is_below(node) {
            return;
        }
        let packed = self.trie.value(node);
        if packed.grant & SHARED == 0 {
            if let Some(grant) = self.grants.get(packed.grant as usize) {
                seen(self.trie.is_below(node), RuleId(packed.rule), *grant);
            }
            return;
        }
        let start = packed.rule as usize;
        for one in &self.shared[start..start + (packed.grant & !SHARED) as usize] {
            seen(one.below, one.rule, self.grants[one.grant as usize]);
        }
    }

    /// True when the name is a proper ancestor of a pattern: `*.example.com` has `example.com`, `com` and the
    /// root; `ec2.*.amazonaws.com` has any `x.amazonaws.com` too; `*` has the root only.
    pub fn has_descendant(&self, name: &DnsName) -> bool {
        self.survey(&NameView::new(name), |_, _, _| ())
    }

    /// True when patterns lie below the name by the path that ends here.
    fn lies_above(&self, end: End, name: &NameView<'_>) -> bool {
        let place = end.place;
        if place.left == 0 {
            let (first, end) = self.trie.children(place.node);
            return first < end || self.trie.is_below(place.node);
        }
        end.is_inside
            && self
                .inside_edge(place, name)
                .is_some_and(|(_, shared)| shared == place.left)
    }

    /// The child of a place where a name got stuck whose edge begins like the rest of the name, and how many
    /// labels they share (one at least; not all of the edge's, or the name would have passed).
    fn inside_edge(&self, place: Place, name: &NameView<'_>) -> Option<(NodeId, usize)> {
        let last = place.left.checked_sub(1)?;
        let child = self.trie.child_by_label(place.node, name.label(last))?;
        let asked = (0..place.left).rev().map(|at| Element::Literal(name.label(at)));
        let shared = self
            .trie
            .edge_labels(child)
            .into_iter()
            .zip(asked)
            .take_while(|(edge, asked)| edge == asked);
        Some((child, shared.count()))
    }

    /// Exact (not wildcard) names allowed on this port, at most [`LISTED_NAMES`] for each distinct pair of ports
    /// and protocols; the caller bounds how many it takes.
    pub fn exact_names_on_port(
        &self,
        port: u16,
        transport: Transport,
    ) -> impl Iterator<Item = (DnsName, RuleId)> {
        self.grants
            .iter()
            .zip(&self.listed)
            .filter(move |((ports, protocols), _)| ports.contain(port) && protocols.cover(transport))
            .flat_map(|(_, names)| names.iter().cloned())
    }

    /// True when no name is in it: most deny lists.
    pub fn is_empty(&self) -> bool {
        self.trie.is_empty()
    }

    /// False when no pattern matches a name whose last label is this one; true when one may.
    pub fn may_end_in(&self, label: &[u8]) -> bool {
        self.may_end_in_any(&Ends::of(std::iter::once(label)))
    }

    /// The same for some labels at once.
    pub(crate) fn may_end_in_any(&self, labels: &Ends) -> bool {
        self.trie.may_end_in(labels)
    }

    /// Number of trie nodes, the root included.
    pub fn nodes(&self) -> usize {
        self.trie.len()
    }

    /// Heap memory in bytes.
    pub fn heap_bytes(&self) -> usize {
        let listed = self
            .listed
            .iter()
            .flatten()
            .map(|(name, _)| name.as_wire().len() + 2 * size_of::<usize>());
        self.trie.heap_bytes()
            + size_of_val(&*self.shared)
            + size_of_val(&*self.grants)
            + size_of_val(&*self.listed)
            + self
                .listed
                .iter()
                .map(|names| names.capacity() * size_of::<(DnsName, RuleId)>())
                .sum::<usize>()
            + listed.sum::<usize>()
    }
}

/// Packs the rules that end at one node.
fn pack(endings: &mut dyn Iterator<Item = (bool, (RuleId, u32))>, shared: &mut Vec<Shared>) -> Endings {
    let Some((below, (rule, grant))) = endings.next() else {
        return Endings::default();
    };
    let start = shared.len();
    shared.push(Shared { below, rule, grant });
    shared.extend(endings.map(|(below, (rule, grant))| Shared { below, rule, grant }));
    if shared.len() == start + 1 {
        shared.truncate(start);
        return Endings { rule: rule.0, grant };
    }
    Endings {
        rule: start as u32,
        grant: SHARED | (shared.len() - start) as u32,
    }
}
