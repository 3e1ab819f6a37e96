//! Making a label trie: collect keys, sort them, lay the nodes out breadth first, fill the hash table.
//!
//! A key is a pattern's labels, rightmost first, each with its length octet; sorted by octets, the keys
//! below one node are one range, so the layout is a queue of ranges and needs no pointer chasing.
//! Runs off the data path, when a policy or a block list is compiled.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::inner::Inner;
use super::probe::{Hashing, Slots};
use super::wild::WildEdges;
use super::{
    BELOW, EXACT, Ends, FLAG_BITS, GLOB, LabelTrie, Node, NodeId, ONE, OUT_OF_LINE, WILD, element_len,
};
use crate::name::{MAX_LABEL, MAX_WIRE};

/// Nodes that a trie can number beside its flags.
const MAX_NODES: usize = 1 << (32 - FLAG_BITS);

/// One label of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compile) enum Element<'a> {
    /// This label.
    Literal(&'a [u8]),
    /// Any label.
    One,
    /// A label that fits the glob.
    Glob(&'a [u8]),
}

impl<'a> Element<'a> {
    /// Reads an element as edges hold it: kind and length in the first octet.
    pub(super) fn read(element: &'a [u8]) -> Self {
        match element.split_first() {
            Some((kind, bytes)) if kind & !0x3f == 0 => Self::Literal(bytes),
            Some((kind, bytes)) if kind & !0x3f == GLOB => Self::Glob(bytes),
            Some(_) | None => Self::One,
        }
    }

    /// The label of an edge that has but one.
    pub(in crate::compile) fn single(edge: &'a [u8]) -> Option<Self> {
        let kind = edge.first()?;
        (element_len(*kind) == edge.len()).then(|| Self::read(edge))
    }

    /// Appends the element to a key; false when no label can match it or it doesn't fit.
    fn write(self, key: &mut Vec<u8>) -> bool {
        match self {
            Self::Literal(label) => {
                key.push(label.len() as u8);
                key.extend_from_slice(label);
                (1..=MAX_LABEL).contains(&label.len())
            }
            Self::One => {
                key.push(ONE);
                true
            }
            Self::Glob(glob) => {
                key.push(GLOB | glob.len() as u8);
                key.extend_from_slice(glob);
                (1..=MAX_LABEL).contains(&glob.len())
            }
        }
    }
}

/// One pattern, by its key.
struct Item<P> {
    /// The first 16 octets of the key, zero-padded: most comparisons end here.
    prefix: u128,
    start: u32,
    len: u16,
    below: bool,
    payload: P,
}

/// Collects patterns, each with a payload.
pub(in crate::compile) struct Builder<P> {
    keys: Vec<u8>,
    items: Vec<Item<P>>,
}

/// What the patterns that end at one node say: whether it is a `*.` pattern, and their payload; exact ones
/// first, then by payload.
pub(in crate::compile) type Ending<P> = (bool, P);

impl<P: Copy + Ord> Builder<P> {
    /// An empty builder.
    pub(in crate::compile) fn new() -> Self {
        Self {
            keys: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Adds a pattern, its labels given rightmost first. A pattern that can match no name (a label that is
    /// empty or over 63 octets, a name over 254; the grammar refuses them) is left out.
    pub(in crate::compile) fn push<'a>(
        &mut self,
        labels: impl Iterator<Item = Element<'a>>,
        below: bool,
        payload: P,
    ) {
        let start = self.keys.len();
        let mut fits = true;
        for label in labels {
            fits &= label.write(&mut self.keys);
        }
        let len = self.keys.len() - start;
        if !fits || len > MAX_WIRE {
            self.keys.truncate(start);
            return;
        }
        let mut prefix = [0; 16];
        let key = &self.keys[start..];
        let short = len.min(16);
        prefix[..short].copy_from_slice(&key[..short]);
        let start = u32::try_from(start).expect("the keys of one list stay below 4 GiB");
        self.items.push(Item {
            prefix: u128::from_be_bytes(prefix),
            start,
            len: len as u16,
            below,
            payload,
        });
    }

    /// Lays out the trie. `value` makes the value of a node where patterns end from what they say.
    pub(in crate::compile) fn build<V: Copy + Default, const N: usize>(
        mut self,
        mut value: impl FnMut(&mut dyn Iterator<Item = Ending<P>>) -> V,
    ) -> LabelTrie<V, N> {
        self.sort();
        let mut layout = Layout::<V, N>::new(self.items.len());
        let mut at = 0;
        while let Some(span) = layout.spans.get(at).copied() {
            let mut low = span.low;
            while low < span.high && self.key(low).len() == span.depth {
                low += 1;
            }
            if low > span.low {
                let endings = &self.items[span.low..low];
                let node = &mut layout.nodes[at];
                node.value = value(&mut endings.iter().map(|item| (item.below, item.payload)));
                let flags = endings.iter().map(|item| if item.below { BELOW } else { EXACT });
                node.head |= flags.fold(0, |all, flag| all | flag);
            }
            layout.begin_children(at);
            while low < span.high {
                let end = self.group_end(low, span.high, span.depth);
                let depth = self.edge_end(low, end - 1, span.depth);
                layout.add_child(
                    at,
                    &self.key(low)[span.depth..depth],
                    Span {
                        low,
                        high: end,
                        depth,
                        hash: span.hash,
                    },
                );
                low = end;
            }
            at += 1;
        }
        drop(self);
        layout.finish()
    }

    /// Sorts the items by key, exact before below, then by payload, and the keys in the same order.
    fn sort(&mut self) {
        let keys = &self.keys;
        let rest = |item: &Item<P>| {
            let start = item.start as usize;
            &keys[start + usize::from(item.len).min(16)..start + usize::from(item.len)]
        };
        self.items.sort_unstable_by(|one, other| {
            let by_key = one
                .prefix
                .cmp(&other.prefix)
                .then_with(|| rest(one).cmp(rest(other)));
            by_key.then_with(|| (one.below, one.payload).cmp(&(other.below, other.payload)))
        });
        let mut sorted = Vec::with_capacity(keys.len());
        for item in &mut self.items {
            let start = item.start as usize;
            item.start = sorted.len() as u32;
            sorted.extend_from_slice(&keys[start..start + usize::from(item.len)]);
        }
        self.keys = sorted;
    }

    fn key(&self, item: usize) -> &[u8] {
        let item = &self.items[item];
        &self.keys[item.start as usize..item.start as usize + usize::from(item.len)]
    }

    /// End of the items from `low` on that share the element at `depth`: doubling steps, then bisection.
    fn group_end(&self, low: usize, high: usize, depth: usize) -> usize {
        let key = self.key(low);
        let element = &key[depth..depth + element_len(key[depth])];
        let same = |item: usize| self.key(item)[depth..].starts_with(element);
        let mut step = 1;
        while low + step < high && same(low + step) {
            step *= 2;
        }
        let (mut from, mut to) = (low + step / 2 + 1, high.min(low + step));
        while from < to {
            let middle = from.midpoint(to);
            if same(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// How far one edge reaches from `depth` for the sorted items `first` to `last`: a wildcard alone, or all
    /// the literal labels that they share.
    fn edge_end(&self, first: usize, last: usize, depth: usize) -> usize {
        let (first, last) = (self.key(first), self.key(last));
        let mut end = depth;
        while let Some(kind) = first.get(end) {
            let next = end + element_len(*kind);
            if kind & !0x3f != 0 {
                return if end == depth { next } else { end };
            }
            if last.get(end..next) != first.get(end..next) {
                break;
            }
            end = next;
        }
        end
    }
}

/// The items below a node, the octets of their keys that lead to it, and the hash of its suffix.
#[derive(Clone, Copy)]
struct Span {
    low: usize,
    high: usize,
    depth: usize,
    hash: u64,
}

/// A trie under construction: `spans` runs beside `nodes`.
struct Layout<V, const N: usize> {
    nodes: Vec<Node<V, N>>,
    spans: Vec<Span>,
    long_edges: Vec<u8>,
    /// Nodes with wildcard children, and the first of them.
    wild: Vec<(NodeId, NodeId)>,
    hashing: Hashing,
    /// Hashes of the suffixes that end inside of edges.
    inner: Vec<u64>,
}

impl<V: Copy + Default, const N: usize> Layout<V, N> {
    fn new(items: usize) -> Self {
        let hashing = Hashing::random();
        let root = Span {
            low: 0,
            high: items,
            depth: 0,
            hash: hashing.context(0),
        };
        let node = Node {
            head: 0,
            value: V::default(),
            edge: [0; N],
        };
        Self {
            nodes: vec![node],
            spans: vec![root],
            long_edges: Vec::new(),
            wild: Vec::new(),
            hashing,
            inner: Vec::new(),
        }
    }

    fn begin_children(&mut self, node: usize) {
        assert!(self.nodes.len() < MAX_NODES, "fewer than 2^29 nodes");
        self.nodes[node].head |= (self.nodes.len() as u32) << FLAG_BITS;
    }

    /// Adds a child of `parent` behind `key`, the edge's labels rightmost first; `span.hash` is the parent's.
    fn add_child(&mut self, parent: usize, key: &[u8], mut span: Span) {
        let child = self.nodes.len() as NodeId;
        if key[0] & !0x3f == 0 {
            let mut rest = key;
            while let Some(kind) = rest.first() {
                let (label, tail) = rest.split_at(element_len(*kind));
                span.hash = self.hashing.extend_by(span.hash, label);
                rest = tail;
                if !rest.is_empty() {
                    self.inner.push(span.hash);
                }
            }
        } else {
            span.hash = self.hashing.context(child);
            if self.nodes[parent].head & WILD == 0 {
                self.nodes[parent].head |= WILD;
                self.wild.push((parent as NodeId, child));
            }
        }
        let edge = self.edge(key);
        self.nodes.push(Node {
            head: 0,
            value: V::default(),
            edge,
        });
        self.spans.push(span);
    }

    /// Turns the key's labels to wire order and stores them in the node or beside it.
    fn edge(&mut self, key: &[u8]) -> [u8; N] {
        let mut edge = [0; N];
        let target = if key.len() <= N {
            &mut edge[..key.len()]
        } else {
            let offset = self.long_edges.len();
            self.long_edges.resize(offset + key.len(), 0);
            edge[0] = OUT_OF_LINE;
            edge[1] = key.len() as u8;
            edge[2] = key[0];
            let stored = u32::try_from(offset).expect("the keys of one list stay below 4 GiB");
            edge[4..8].copy_from_slice(&stored.to_le_bytes());
            &mut self.long_edges[offset..]
        };
        let (mut rest, mut end) = (key, key.len());
        while let Some(kind) = rest.first() {
            let (element, tail) = rest.split_at(element_len(*kind));
            target[end - element.len()..end].copy_from_slice(element);
            end -= element.len();
            rest = tail;
        }
        edge
    }

    fn finish(mut self) -> LabelTrie<V, N> {
        let count = self.nodes.len();
        let sentinel = Node {
            head: (count as u32) << FLAG_BITS,
            value: V::default(),
            edge: [0; N],
        };
        self.nodes.push(sentinel);
        let literal = self.nodes[..count]
            .iter()
            .zip(&self.spans)
            .zip(0..)
            .skip(1)
            .filter_map(|((node, span), number)| {
                let kind = if node.edge[0] == OUT_OF_LINE {
                    node.edge[2]
                } else {
                    node.edge[0]
                };
                (kind & !0x3f == 0).then_some((number, span.hash))
            });
        let mut trie = LabelTrie {
            slots: Slots::fill(count, literal),
            nodes: self.nodes.into(),
            long_edges: self.long_edges.into(),
            wild: HashMap::with_hasher(RandomState::default()),
            hashing: self.hashing,
            inner: Inner::of(&self.inner),
            tops: Ends::default(),
        };
        trie.tops = trie.tops();
        trie.wild.reserve(self.wild.len());
        for (node, first) in self.wild {
            let edges = WildEdges::index(&trie, first..trie.children(node).1);
            trie.wild.insert(node, edges);
        }
        trie
    }
}
