//! The label trie: names from the right-hand label to the left, immutable, packed into two arrays.
//!
//! Owns the shape that [`super::names`] and [`super::block`] share; [`build`] makes it, [`wild`] indexes
//! its wildcard edges. It knows positions and edges, never ports or rules.
//!
//! Nodes stand in breadth-first order, so the children of a node are neighbours, sorted, and a node needs
//! one number to name them all. An edge is one wildcard label or a run of literal labels (a chain without
//! branches or rules is one edge), kept in wire form inside of the node when it is short. Literal edges are
//! found through one open-addressed table, keyed by a seeded hash of the whole suffix: the hashes of a name's
//! suffixes depend on the name alone, so the probes of one lookup wait for memory together ([`probe`]) and not
//! one after the other. A slot is a node's number plus a few bits of its hash; what it names is always compared byte by
//! byte, so a hash collision costs time and never a wrong match. The seed is random per process and per
//! trie: who writes a policy can't choose names that collide.

mod build;
mod inner;
mod probe;
#[cfg(test)]
mod tests;
mod view;
mod wild;

pub(super) use build::{Builder, Element};
pub(crate) use view::NameView;

use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use inner::Inner;
use probe::{Hashing, Slots};
use wild::WildEdges;

/// Node has wildcard children.
const WILD: u32 = 1;
/// Some pattern ends here and matches exactly this.
const EXACT: u32 = 2;
/// Some pattern `*.here` matches everything below.
const BELOW: u32 = 4;
/// Bits of [`Node::head`] that hold flags; the rest is a node's number, up to 2^29.
const FLAG_BITS: u32 = 3;

/// First octet of a glob edge: this bit, plus the length of the glob (1 to 63).
const GLOB: u8 = 0x40;
/// The only octet of an edge that takes any one label.
const ONE: u8 = 0x80;
/// First octet of an edge too long for its node: total length in the second,
/// first octet of its rightmost label in the third, offset in 4 to 7.
const OUT_OF_LINE: u8 = 0xc0;

/// Number of a node; 0 is the root.
pub(super) type NodeId = u32;

/// A node: its edge from its parent, its value, and where its children begin.
#[derive(Clone, Copy)]
struct Node<V, const N: usize> {
    /// First child's number and the flags. The children end where those of the next node begin.
    head: u32,
    value: V,
    /// The edge's labels as on the wire, leftmost first, zero-padded; or [`OUT_OF_LINE`].
    edge: [u8; N],
}

/// Immutable trie with a value of type `V` at each node; edges up to `N` octets (16 to 24) stay in the node.
pub(super) struct LabelTrie<V, const N: usize> {
    /// All nodes and one sentinel, whose children begin at the end.
    nodes: Box<[Node<V, N>]>,
    /// Where literal edges lead.
    slots: Slots,
    long_edges: Box<[u8]>,
    wild: HashMap<NodeId, WildEdges, RandomState>,
    hashing: Hashing,
    /// Suffixes that end inside of edges.
    inner: Inner,
    /// Bits of the labels in which its patterns end; all of them when some end in a wildcard.
    tops: Ends,
}

/// A node that a name reaches, and how much of the name is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The node.
    pub(super) node: NodeId,
    /// Labels of the name that stand to the left of it.
    pub(super) left: usize,
    /// Only literal edges lead here.
    pub(super) plain: bool,
}

/// Where a literal path of a name ends: nothing leads on.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// The last node reached.
    pub(super) place: Place,
    /// All of the name that is left may lie inside of an edge from there.
    pub(super) is_inside: bool,
}

impl<V: Copy, const N: usize> LabelTrie<V, N> {
    /// Follows a name through every path that matches it. `arrive` sees each node reached, ancestors before
    /// what lies below them; `stuck` sees where each literal path ends.
    pub(super) fn walk(
        &self,
        name: &NameView<'_>,
        mut arrive: impl FnMut(Place),
        mut stuck: impl FnMut(End),
    ) {
        let mut pending: SmallVec<[Place; 4]> = SmallVec::new();
        let mut next = Some(Place {
            node: 0,
            left: name.len(),
            plain: true,
        });
        while let Some(start) = next {
            arrive(start);
            self.enter_wild(start, name, &mut pending);
            let end = self.follow_literals(start, name, |place| {
                arrive(place);
                self.enter_wild(place, name, &mut pending);
            });
            stuck(end);
            next = pending.pop();
        }
    }

    #[inline]
    fn enter_wild(&self, at: Place, name: &NameView<'_>, pending: &mut SmallVec<[Place; 4]>) {
        if self.nodes[at.node as usize].head & WILD != 0 && at.left > 0 {
            self.enter_wild_edges(at, name, pending);
        }
    }

    #[inline(never)]
    fn enter_wild_edges(&self, at: Place, name: &NameView<'_>, pending: &mut SmallVec<[Place; 4]>) {
        if let Some(edges) = self.wild.get(&at.node) {
            let left = at.left - 1;
            let enter = |node| Place {
                node,
                left,
                plain: false,
            };
            edges.for_each_match(self, name.label(left), |node| pending.push(enter(node)));
        }
    }

    /// Numbers of a node's children: first, and one after the last; literal edges before wild ones, each
    /// kind sorted by the octets of its rightmost label, length octet first.
    pub(super) fn children(&self, node: NodeId) -> (NodeId, NodeId) {
        let at = node as usize;
        (
            self.nodes[at].head >> FLAG_BITS,
            self.nodes[at + 1].head >> FLAG_BITS,
        )
    }

    /// Number of nodes at and below a node. They stand level by level, each level of a subtree in one piece.
    pub(super) fn size_below(&self, node: NodeId) -> usize {
        let (mut first, mut end) = (node, node + 1);
        let mut size = 0;
        while first < end {
            size += (end - first) as usize;
            (first, end) = (self.children(first).0, self.children(end - 1).1);
        }
        size
    }

    /// False when no pattern matches a name with one of these labels rightmost; true when one may.
    pub(super) fn may_end_in(&self, labels: &Ends) -> bool {
        let mut words = self.tops.0.iter().zip(&labels.0);
        words.any(|(ours, theirs)| ours & theirs != 0)
    }

    /// The bits of all rightmost labels.
    fn tops(&self) -> Ends {
        if self.is_below(0) || self.nodes[0].head & WILD != 0 {
            return Ends([u64::MAX; 4]);
        }
        let (first, end) = self.children(0);
        Ends::of((first..end).map(|child| self.rightmost(child).1))
    }

    /// True when no pattern is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.len() <= 1 && !self.is_exact(0) && !self.is_below(0)
    }

    /// True when an exact pattern ends at the node.
    pub(super) fn is_exact(&self, node: NodeId) -> bool {
        self.nodes[node as usize].head & EXACT != 0
    }

    /// True when a pattern `*.` and this node exists.
    pub(super) fn is_below(&self, node: NodeId) -> bool {
        self.nodes[node as usize].head & BELOW != 0
    }

    /// The value at a node.
    pub(super) fn value(&self, node: NodeId) -> V {
        self.nodes[node as usize].value
    }

    /// The edge to a node in wire form, leftmost label first; wildcard edges have their own first octet.
    pub(super) fn edge(&self, node: NodeId) -> &[u8] {
        let edge = &self.nodes[node as usize].edge;
        if edge[0] == OUT_OF_LINE {
            let offset = u32::from_le_bytes([edge[4], edge[5], edge[6], edge[7]]) as usize;
            return &self.long_edges[offset..offset + usize::from(edge[1])];
        }
        let mut end = 0;
        while end < N && edge[end] != 0 {
            end += element_len(edge[end]);
        }
        &edge[..end]
    }

    /// The labels of the edge to a node, rightmost first.
    pub(super) fn edge_labels(&self, node: NodeId) -> SmallVec<[Element<'_>; 4]> {
        let mut labels = SmallVec::new();
        let mut rest = self.edge(node);
        while let Some(kind) = rest.first() {
            let (element, tail) = rest.split_at(element_len(*kind));
            labels.push(Element::read(element));
            rest = tail;
        }
        labels.reverse();
        labels
    }

    /// The child whose edge has this literal label rightmost.
    pub(super) fn child_by_label(&self, node: NodeId, label: &[u8]) -> Option<NodeId> {
        let at = self.children_before(node, label);
        let (_, end) = self.children(node);
        (at < end && self.rightmost(at) == (label.len() as u8, label)).then_some(at)
    }

    /// The first child whose rightmost label is not before `label`; labels sort by length, then octets.
    pub(super) fn children_before(&self, node: NodeId, label: &[u8]) -> NodeId {
        self.before(self.children(node), label)
    }

    /// The first of some neighbouring children whose rightmost label is not before `label`.
    pub(super) fn before(&self, (mut low, mut high): (NodeId, NodeId), label: &[u8]) -> NodeId {
        while low < high {
            let middle = low.midpoint(high);
            if self.rightmost(middle) < (label.len() as u8, label) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// First octet and bytes of the rightmost label of an edge: what its siblings are sorted by.
    fn rightmost(&self, node: NodeId) -> (u8, &[u8]) {
        let mut rest = self.edge(node);
        loop {
            let kind = rest.first().copied().unwrap_or_default();
            let (element, tail) = rest.split_at(element_len(kind).min(rest.len()));
            if tail.is_empty() {
                return (kind, element.get(1..).unwrap_or_default());
            }
            rest = tail;
        }
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.nodes)
            + self.slots.heap_bytes()
            + self.long_edges.len()
            + self.inner.heap_bytes()
            + self.wild.allocation_size()
            + self.wild.values().map(WildEdges::heap_bytes).sum::<usize>()
    }
}

impl<V, const N: usize> fmt::Debug for LabelTrie<V, N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "LabelTrie({} nodes)", self.nodes.len() - 1)
    }
}

/// A set of labels in which names end, a bit each: another label may have the same.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ends([u64; 4]);

impl Ends {
    /// The set of some labels.
    pub(crate) fn of<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        labels.fold(Self::default(), |mut all, label| {
            let (word, bit) = top(label);
            all.0[word] |= bit;
            all
        })
    }
}

/// Word and bit of a rightmost label.
fn top(label: &[u8]) -> (usize, u64) {
    let octet = |at: Option<&u8>| at.copied().unwrap_or_default();
    let mixed = octet(label.first())
        .wrapping_mul(31)
        .wrapping_add(octet(label.last()).wrapping_mul(7))
        .wrapping_add(label.len() as u8);
    (usize::from(mixed >> 6), 1 << (mixed & 63))
}

/// Octets of an edge's element that begins with this octet.
fn element_len(kind: u8) -> usize {
    match kind {
        ONE => 1,
        literal_or_glob => 1 + usize::from(literal_or_glob & 0x3f),
    }
}
