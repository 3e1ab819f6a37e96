//! The hash table behind literal edges, and the walk along them.
//!
//! Owns hashing, slots and the order in which memory is touched. At a million names nearly every slot and node
//! is a cache miss, so the walk first computes the hashes of several suffixes, reads their slots, then reads the
//! nodes that these name, and only then looks at any of them: misses overlap. A run of [`LANES`] slots is
//! examined without branches; the rare longer run or doubled fingerprint takes [`LabelTrie::search`].

use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, RandomState};

use super::view::{NameView, WORD, word};
use super::{FLAG_BITS, LabelTrie, NodeId, OUT_OF_LINE, Place};

/// Slots that are examined together: half of a cache line.
const LANES: usize = 8;
/// Suffixes that are probed ahead; names with more labels take another round.
const AHEAD: usize = 6;

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

    /// The hash of a suffix with one more label to its left: the first `len` of `octets` (the length octet and
    /// the label), which are followed by at least a word of anything.
    fn extend(self, suffix: u64, octets: &[u8], len: usize) -> u64 {
        let mut hasher = FoldHasher::with_seed(suffix, self.shared);
        hasher.write_u128(word(octets, len));
        let mut at = WORD;
        while at < len {
            hasher.write_u128(word(&octets[at..], len - at));
            at += WORD;
        }
        hasher.finish()
    }

    /// [`Self::extend`] for a label that stands alone.
    pub(super) fn extend_by(self, suffix: u64, label: &[u8]) -> u64 {
        let mut octets = [0; 64 + WORD];
        octets[..label.len()].copy_from_slice(label);
        self.extend(suffix, &octets, label.len())
    }
}

/// The open-addressed table: 0 for empty, else a node's number and, in the bits above it, bits of its hash.
/// There is no wrapping around: the table runs on past the last home.
pub(super) struct Slots {
    slots: Box<[u32]>,
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
            slots: slots.into(),
            homes,
            index_mask,
        }
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    fn probe(&self, hash: u64) -> Probe {
        let fingerprint = hash as u32 & !self.index_mask;
        let (mut candidate, mut ended) = (0, false);
        let run = &self.slots[home(hash, self.homes)..];
        let lanes: &[u32; LANES] = run.first_chunk().expect("the table runs on past the last home");
        for slot in lanes.iter().rev() {
            candidate = if slot & !self.index_mask == fingerprint {
                slot & self.index_mask
            } else {
                candidate
            };
            ended |= *slot == 0;
        }
        Probe {
            hash,
            candidate,
            ended,
            head: 0,
            end: 0,
        }
    }
}

/// Home of a hash among `homes`: the high bits, by multiplication.
fn home(hash: u64, homes: usize) -> usize {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(mixed) * homes as u128) >> 64) as usize
}

/// What the table says of one suffix, not yet verified.
#[derive(Clone, Copy, Default)]
struct Probe {
    hash: u64,
    /// The first node with the suffix's fingerprint; 0 for none.
    candidate: NodeId,
    /// Whether the run of slots ended within what was examined.
    ended: bool,
    /// [`super::Node::head`] of the candidate and of the node after it.
    head: u32,
    end: u32,
}

impl<V: Copy, const N: usize> LabelTrie<V, N> {
    /// Follows a name along literal edges from `start` as far as they go; `arrive` sees each node reached, the
    /// last one is returned.
    pub(super) fn follow_literals(
        &self,
        start: Place,
        name: &NameView,
        mut arrive: impl FnMut(Place),
    ) -> Place {
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
                }
            }
        }
        at
    }

    /// Reads slots, then nodes, of the next suffixes.
    fn look_ahead(&self, probes: &mut [Probe], hash: &mut u64, name: &NameView, mut left: usize) {
        for probe in &mut *probes {
            left -= 1;
            let start = name.start(left);
            *hash = self
                .hashing
                .extend(*hash, name.from(start), name.start(left + 1) - start);
            *probe = self.slots.probe(*hash);
        }
        for probe in probes {
            let at = probe.candidate as usize;
            (probe.head, probe.end) = (self.nodes[at].head, self.nodes[at + 1].head);
        }
    }

    /// The child among `children` behind the labels `span` of the name, when there is one; makes it the probe's
    /// candidate.
    fn verify(
        &self,
        probe: &mut Probe,
        children: (NodeId, NodeId),
        name: &NameView,
        span: (usize, usize),
    ) -> Option<NodeId> {
        if probe.candidate == 0 && probe.ended {
            return None;
        }
        let is = |node: NodeId| (children.0..children.1).contains(&node) && self.edge_is(node, name, span);
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
        let run = self.slots.slots[home(hash, self.slots.homes)..]
            .iter()
            .take_while(|slot| **slot != 0);
        let hits = run.filter(|slot| *slot & !mask == hash as u32 & !mask);
        hits.map(|slot| slot & mask).find(|node| is(*node))
    }

    /// True when the edge to a node is the labels `span` of the name.
    fn edge_is(&self, node: NodeId, name: &NameView, span: (usize, usize)) -> bool {
        let edge = &self.nodes[node as usize].edge;
        let start = name.start(span.0);
        let len = name.start(span.1) - start;
        if len > N {
            return edge[0] == OUT_OF_LINE && self.edge(node) == name.slice(span.0, span.1);
        }
        let mut tail = [0; WORD];
        tail[..N - WORD].copy_from_slice(&edge[WORD..]);
        let octets = name.from(start);
        word(edge, WORD) == word(octets, len)
            && u128::from_le_bytes(tail) == word(&octets[WORD..], len.saturating_sub(WORD))
    }
}
