//! Wildcard edges of one node, indexed so that thousands of globs beside each other stay cheap.
//!
//! A glob is found by the literal text before its first star or after its last one, whichever is longer:
//! the globs are sorted by that text, and a label narrows the sorted list octet by octet, as in a radix
//! trie. Only what survives is compared as a glob. Driven by [`super::LabelTrie::walk`].

use super::{Element, LabelTrie, NodeId};
use crate::endpoint::glob_matches;

/// The wildcard children of one node.
#[derive(Debug, Default)]
pub(super) struct WildEdges {
    /// The child behind `*`.
    one: Option<NodeId>,
    /// Globs sorted by their literal start.
    heads: Box<[NodeId]>,
    /// Globs sorted by their literal end, read backwards.
    tails: Box<[NodeId]>,
}

impl WildEdges {
    /// Indexes `children`, which stand in `trie`.
    pub(super) fn index<V: Copy, const N: usize>(
        trie: &LabelTrie<V, N>,
        children: impl Iterator<Item = NodeId>,
    ) -> Self {
        let (mut one, mut heads, mut tails) = (None, Vec::new(), Vec::new());
        for child in children {
            match glob_of(trie, child) {
                None => one = Some(child),
                Some(glob) if head(glob).len() >= tail(glob).len() => heads.push(child),
                Some(_) => tails.push(child),
            }
        }
        heads.sort_by_key(|child| glob_of(trie, *child).map(head));
        tails.sort_by_key(|child| {
            glob_of(trie, *child).map(|glob| tail(glob).iter().rev().collect::<Vec<_>>())
        });
        Self {
            one,
            heads: heads.into(),
            tails: tails.into(),
        }
    }

    /// Calls `found` for every child whose edge matches the label.
    pub(super) fn for_each_match<V: Copy, const N: usize>(
        &self,
        trie: &LabelTrie<V, N>,
        label: &[u8],
        mut found: impl FnMut(NodeId),
    ) {
        self.one.into_iter().for_each(&mut found);
        let mut candidate = |child: NodeId| {
            if glob_of(trie, child).is_some_and(|glob| glob_matches(glob, label)) {
                found(child);
            }
        };
        let heads =
            |child: NodeId, at: usize| glob_of(trie, child).and_then(|glob| head(glob).get(at)).copied();
        narrow(&self.heads, heads, label.iter().copied(), &mut candidate);
        let tails = |child: NodeId, at: usize| {
            glob_of(trie, child)
                .and_then(|glob| tail(glob).iter().nth_back(at))
                .copied()
        };
        narrow(&self.tails, tails, label.iter().rev().copied(), &mut candidate);
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.heads) + size_of_val(&*self.tails)
    }
}

/// Calls `found` for every entry whose text (`octet(entry, at)`, `None` past its end) is a prefix of `label`.
/// `sorted` is ordered by that text, so entries that end sooner stand first.
fn narrow(
    mut sorted: &[NodeId],
    octet: impl Fn(NodeId, usize) -> Option<u8>,
    mut label: impl Iterator<Item = u8>,
    mut found: impl FnMut(NodeId),
) {
    for at in 0.. {
        let ended = sorted.partition_point(|entry| octet(*entry, at).is_none());
        let (whole, longer) = sorted.split_at(ended);
        for entry in whole {
            found(*entry);
        }
        let Some(wanted) = label.next() else { return };
        let from = longer.partition_point(|entry| octet(*entry, at) < Some(wanted));
        let to = longer.partition_point(|entry| octet(*entry, at) <= Some(wanted));
        sorted = &longer[from..to];
        if sorted.is_empty() {
            return;
        }
    }
}

/// The glob behind an edge; `None` for the edge that takes any label.
fn glob_of<V: Copy, const N: usize>(trie: &LabelTrie<V, N>, child: NodeId) -> Option<&[u8]> {
    match Element::read(trie.edge(child)) {
        Element::Glob(glob) => Some(glob),
        Element::One | Element::Literal(_) => None,
    }
}

/// What stands before the first star.
fn head(glob: &[u8]) -> &[u8] {
    glob.split(|octet| *octet == b'*').next().unwrap_or_default()
}

/// What stands after the last star.
fn tail(glob: &[u8]) -> &[u8] {
    glob.rsplit(|octet| *octet == b'*').next().unwrap_or_default()
}
