//! The hash table behind literal edges, and the walk along them.
//!
//! Owns hashing, slots and the order in which memory is touched. At a million names nearly every slot and node
//! is a cache miss, so the walk first computes the hashes of several suffixes, reads their slots, then reads the
//! nodes that these name, and only then looks at any of them: misses overlap. A run of [`LANES`] slots is
//! examined without branches; a longer run or a doubled fingerprint, both rare, take [`LabelTrie::search`].

use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, RandomState};

use super::view::{NameView, WORD};
use super::{End, FLAG_BITS, LabelTrie, NodeId, OUT_OF_LINE, Place};

/// Slots that are examined together: half of a cache line.
const LANES: usize = 8;
/// Suffixes that are probed ahead; names with more labels take another round.
const AHEAD: usize = 4;

/// The seeded hash of suffixes.
#[derive(Clone, Copy)]
pub(super) struct Hashing {
    seed: u64,
    shared: &'static SharedSeed,
}

impl Hashing {
    pub(super) fn random() -> Self {
        // Building a hasher first initializes the shared seed.
        let seed = RandomState::default().build_hasher().finish();
        Self {
            seed,
            shared: SharedSeed::global_random(),
        }
    }

    /// Where the hash of literal labels starts that follow a node reached by a wildcard (or the root).
    pub(super) fn context(self, node: NodeId) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, self.shared);
        hasher.write_u128(u128::from(node));
        hasher.finish()
    }

    /// The hash of a suffix with one more label to its left: `first`, a word of the length octet and the label, and
    /// if they are longer, the words that `more` reads at an offset. Labels are hashed apart and summed up as a
    /// polynomial: hashing each with the last one's hash as its seed would make a chain of slow steps.
    #[inline]
    fn extend(self, suffix: u64, len: usize, first: u128, more: impl Fn(usize) -> u128) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, self.shared);
        hasher.write_u128(first);
        let mut at = WORD;
        while at < len {
            hasher.write_u128(more(at));
            at += WORD;
        }
        suffix
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(hasher.finish())
    }

    /// [`Self::extend`] for a label that stands alone.
    pub(super) fn extend_by(self, suffix: u64, label: &[u8]) -> u64 {
        let word = |at: usize| {
            let mut octets = [0; WORD];
            let part = &label[at..label.len().min(at + WORD)];
            octets[..part.len()].copy_from_slice(part);
            u128::from_le_bytes(octets)
        };
        self.extend(suffix, label.len(), word(0), word)
    }
}

/// The open-addressed table: 0 for empty, else a node's number and, in the bits above it, bits of its hash.
/// There is no wrapping around: the table runs on past the last home.
pub(super) struct Slots {
    table: Box<[u32]>,
    homes: usize,
    index_mask: u32,
}

impl Slots {
    /// A table of `nodes` (the number of all nodes, for their width) that holds the given ones with their hashes.
    /// Three fifths full: a miss reads three slots on average.
    pub(super) fn fill(nodes: usize, hashed: impl Iterator<Item = (NodeId, u64)>) -> Self {
        let homes = nodes + nodes / 3 * 2 + 1;
        let index_mask = (nodes as u32).next_power_of_two().max(2) - 1;
        let mut slots = vec![0; homes + LANES];
        for (node, hash) in hashed {
            let mut at = home(hash, homes);
            while slots[at] != 0 {
                at += 1;
                if at + LANES == slots.len() {
                    slots.push(0);
                }
            }
            slots[at] = node | (hash as u32 & !index_mask);
        }
        Self {
            table: slots.into(),
            homes,
            index_mask,
        }
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.table)
    }

    /// The node with the hash's fingerprint at the start of its run, 0 for none, and whether the run ended within
    /// what was examined. Should two have it, the number is neither's, and verification fails.
    pub(super) fn probe(&self, hash: u64) -> (NodeId, bool) {
        let run = &self.table[home(hash, self.homes)..];
        let lanes = run.first_chunk().expect("the table runs on past the last home");
        examine(lanes, hash as u32, self.index_mask)
    }
}

/// The numbers in all slots that have this fingerprint, combined by `|`, and whether one is empty. On its own, the
/// compiler makes 35 vector instructions of it; inlined, it makes a hundred scalar ones.
#[inline(never)]
fn examine(lanes: &[u32; LANES], fingerprint: u32, index_mask: u32) -> (NodeId, bool) {
    let (mut hits, mut empty) = ([0; LANES], [0; LANES]);
    for (lane, slot) in lanes.iter().enumerate() {
        let differs = (slot ^ fingerprint) & !index_mask != 0;
        hits[lane] = if differs { 0 } else { slot & index_mask };
        empty[lane] = u32::from(*slot == 0);
    }
    let combined = |lanes: [u32; LANES]| lanes.into_iter().fold(0, |all, lane| all | lane);
    (combined(hits), combined(empty) != 0)
}

/// Home of a hash among `homes`: the high bits, by multiplication.
fn home(hash: u64, homes: usize) -> usize {
    ((u128::from(hash) * homes as u128) >> 64) as usize
}

/// What the table says of one suffix, not yet verified.
#[derive(Clone, Copy, Default)]
struct Probe {
    hash: u64,
    /// The suffix's leftmost label, as [`NameView::word`] reads it.
    word: u128,
    /// The node with the suffix's fingerprint; 0 for none.
    candidate: NodeId,
    /// Whether the run of slots ended within what was examined.
    ended: bool,
    /// [`super::Node::head`] of the candidate and of the node after it.
    head: u32,
    end: u32,
}

impl<V: Copy, const N: usize> LabelTrie<V, N> {
    /// Follows a name along literal edges from `start` as far as they go; `arrive` sees each node reached.
    pub(super) fn follow_literals(
        &self,
        start: Place,
        name: &NameView<'_>,
        mut arrive: impl FnMut(Place),
    ) -> End {
        let (mut at, mut left) = (start, start.left);
        let mut hash = self.hashing.context(start.node);
        let mut children = self.children(start.node);
        while left > 0 && children.0 < children.1 {
            let mut probes = [Probe::default(); AHEAD];
            let probes = &mut probes[..left.min(AHEAD)];
            self.look_ahead(probes, &mut hash, name, left);
            for probe in probes {
                left -= 1;
                if let Some(node) = self.verify(probe, children, name, (left, at.left)) {
                    at = Place {
                        node,
                        left,
                        plain: start.plain,
                    };
                    arrive(at);
                    children = (probe.head >> FLAG_BITS, probe.end >> FLAG_BITS);
                } else if !self.inner.may_hold(probe.hash) {
                    // Neither a node nor inside of an edge: no pattern goes on like this, however long the name is.
                    return End {
                        place: at,
                        is_inside: false,
                    };
                }
            }
        }
        End {
            place: at,
            is_inside: left == 0,
        }
    }

    /// Reads slots, then nodes, of the next suffixes.
    fn look_ahead(&self, probes: &mut [Probe], hash: &mut u64, name: &NameView<'_>, mut left: usize) {
        for probe in &mut *probes {
            left -= 1;
            let start = name.start(left);
            let len = name.start(left + 1) - start;
            probe.word = name.word(start, len);
            let more = |at| name.word(start + at, len - at);
            *hash = self.hashing.extend(*hash, len, probe.word, more);
            probe.hash = *hash;
            (probe.candidate, probe.ended) = self.slots.probe(*hash);
        }
        for probe in probes {
            let at = (probe.candidate as usize).min(self.len() - 1);
            (probe.head, probe.end) = (self.nodes[at].head, self.nodes[at + 1].head);
        }
    }

    /// The child among `children` behind the labels `span` of the name, when there is one; makes it the probe's
    /// candidate.
    fn verify(
        &self,
        probe: &mut Probe,
        children: (NodeId, NodeId),
        name: &NameView<'_>,
        span: (usize, usize),
    ) -> Option<NodeId> {
        if probe.candidate == 0 && probe.ended {
            return None;
        }
        let (start, end) = (name.start(span.0), name.start(span.1));
        let word = if span.0 + 1 == span.1 {
            probe.word
        } else {
            name.word(start, end - start)
        };
        let is = |node: NodeId| {
            (children.0..children.1).contains(&node) && self.edge_is(node, name, (start, end), word)
        };
        if !is(probe.candidate) {
            let node = self.search(probe.hash, is)?;
            *probe = Probe {
                candidate: node,
                ..*probe
            };
            (probe.head, probe.end) = (self.nodes[node as usize].head, self.nodes[node as usize + 1].head);
        }
        Some(probe.candidate)
    }

    /// The slow path: slot by slot to the end of the run.
    #[cold]
    fn search(&self, hash: u64, is: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let mask = self.slots.index_mask;
        let run = self.slots.table[home(hash, self.slots.homes)..]
            .iter()
            .take_while(|slot| **slot != 0);
        let hits = run.filter(|slot| *slot & !mask == hash as u32 & !mask);
        hits.map(|slot| slot & mask).find(|node| is(*node))
    }

    /// True when the edge to a node is the octets `span` of the name, which begin with `word`.
    fn edge_is(&self, node: NodeId, name: &NameView<'_>, span: (usize, usize), word: u128) -> bool {
        let edge = &self.nodes[node as usize].edge;
        let len = span.1 - span.0;
        if len > N {
            return edge[0] == OUT_OF_LINE && self.edge(node) == name.octets(span.0, span.1);
        }
        let head = edge.first_chunk().expect("a node has room for a word");
        let tail = edge[WORD..]
            .iter()
            .rev()
            .fold(0_u64, |tail, octet| tail << 8 | u64::from(*octet));
        let more = if len > WORD {
            name.word(span.0 + WORD, len - WORD)
        } else {
            0
        };
        u128::from_le_bytes(*head) == word && u128::from(tail) == more
    }
}
