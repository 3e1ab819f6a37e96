//! The global block list, compiled: a million names and address ranges, refused for everyone.
//!
//! Owns the leanest form of the label trie: no ports, no rule numbers, the entry's text is made again from the
//! name that was asked. Built when the list changes, asked first of all, before any policy, in audit too. Lists
//! that change apart are layers ([`GlobalBlocks`]): one more entry of an operator rebuilds no feed of a million.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::compile::nets::Ranges;
use crate::compile::trie::{Builder, Element, LabelTrie, NameView, Place};
use crate::name::DnsName;

/// One line of a block list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BlockEntry {
    /// A name.
    Name {
        /// The name, or what follows `*.`.
        name: DnsName,
        /// `*.name`: every name below, at any depth, but not the name itself. Otherwise exactly the name.
        below: bool,
    },
    /// An address or a range; host bits are masked.
    Net(IpNet),
}

impl fmt::Display for BlockEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, below: true } => write!(out, "*.{name}"),
            Self::Name { name, below: false } => write!(out, "{name}"),
            Self::Net(net) => write!(out, "{}", net.trunc()),
        }
    }
}

/// The entry that covers a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHit {
    /// The entry in canonical spelling: `evil.example`, `*.blocked.example`, `203.0.113.0/24`.
    pub text: String,
}

/// Immutable matcher of the global block list. A node takes 20 bytes and seven of hash table.
#[derive(Debug)]
pub struct GlobalBlock {
    names: LabelTrie<(), 16>,
    nets: Ranges,
    /// The entries, when there are at most [`MAX_LISTED`]; none of a longer list.
    listed: Box<[BlockEntry]>,
}

/// Entries of a list that keeps them as they are, beside what they were compiled to: a short list may be shown to somebody,
/// a feed of a million is only asked.
pub const MAX_LISTED: usize = 5_000;

impl Default for GlobalBlock {
    fn default() -> Self {
        Self::build([])
    }
}

impl GlobalBlock {
    /// Compiles the entries; duplicates are harmless.
    pub fn build(entries: impl IntoIterator<Item = BlockEntry>) -> Self {
        let mut builder = Builder::new();
        let mut nets = Vec::new();
        let mut listed = Vec::new();
        for entry in entries {
            if listed.len() <= MAX_LISTED {
                listed.push(entry.clone());
            }
            match entry {
                BlockEntry::Name { name, below } => {
                    let labels = name.labels();
                    builder.push(
                        labels.iter().rev().map(|label| Element::Literal(label)),
                        below,
                        (),
                    );
                }
                BlockEntry::Net(net) => nets.push(net),
            }
        }
        Self {
            names: builder.build(|_| ()),
            nets: Ranges::build(nets.into_iter()),
            listed: if listed.len() <= MAX_LISTED {
                listed.into()
            } else {
                Box::default()
            },
        }
    }

    /// The entries as they were given, when there are at most [`MAX_LISTED`] of them; none of a longer list.
    pub fn listed(&self) -> &[BlockEntry] {
        &self.listed
    }

    /// True when it covers nothing: no more than the root of the trie, at which nothing ends.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.nets.is_empty()
    }

    /// The entry that covers this name: the exact one, else the deepest wildcard.
    pub fn find_name(&self, name: &DnsName) -> Option<BlockHit> {
        self.find_view(name, &NameView::new(name))
    }

    fn find_view(&self, name: &DnsName, view: &NameView<'_>) -> Option<BlockHit> {
        let mut found = None;
        let arrive = |place: Place| {
            if place.left == 0 && self.names.is_exact(place.node)
                || place.left > 0 && self.names.is_below(place.node)
            {
                found = Some(place.left);
            }
        };
        self.names.walk(view, arrive, |_| ());
        found.map(|left| BlockHit {
            text: entry_text(name, left),
        })
    }

    /// The narrowest range that covers this address. An address inside of another (v4-mapped, NAT64, 6to4) is
    /// unwrapped by the caller.
    pub fn find_address(&self, address: IpAddr) -> Option<BlockHit> {
        let number = self.nets.containing(address).next()?;
        Some(BlockHit {
            text: self.nets.net(number)?.to_string(),
        })
    }

    /// Heap memory in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.names.heap_bytes() + self.nets.heap_bytes() + size_of_val(&*self.listed)
    }
}

/// Layers that one gateway has at most; a lookup asks each of them.
pub const MAX_LAYERS: usize = 8;

/// The global block list of a gateway: a few lists that change apart. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct GlobalBlocks(Arc<[Arc<GlobalBlock>]>);

impl GlobalBlocks {
    /// The layers in the order in which they are asked; empty ones are left out. More than [`MAX_LAYERS`] do
    /// not compile.
    pub fn new<const N: usize>(layers: [Arc<GlobalBlock>; N]) -> Self {
        const { assert!(N <= MAX_LAYERS, "a lookup asks every layer") };
        Self(layers.into_iter().filter(|layer| !layer.is_empty()).collect())
    }

    /// The entry of the first layer that covers this name.
    pub fn find_name(&self, name: &DnsName) -> Option<BlockHit> {
        if self.0.is_empty() {
            return None;
        }
        self.find_view(name, &NameView::new(name))
    }

    /// [`Self::find_name`] for a name laid out already.
    pub(crate) fn find_view(&self, name: &DnsName, view: &NameView<'_>) -> Option<BlockHit> {
        self.0.iter().find_map(|layer| layer.find_view(name, view))
    }

    /// The entry of the first layer that covers this address, not unwrapped ([`GlobalBlock::find_address`]).
    pub fn find_address(&self, address: IpAddr) -> Option<BlockHit> {
        self.0.iter().find_map(|layer| layer.find_address(address))
    }

    /// The entries of every layer that is short enough to be listed ([`GlobalBlock::listed`]).
    pub fn listed(&self) -> impl Iterator<Item = &BlockEntry> {
        self.0.iter().flat_map(|layer| layer.listed())
    }

    /// True when both are the same compilations in the same order.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&*other.0)
                .all(|(one, two)| Arc::ptr_eq(one, two))
    }
}

/// The entry that covered `name` when `left` of its labels stand before it.
fn entry_text(name: &DnsName, left: usize) -> String {
    let mut text = name.text_from(left);
    if left == 0 {
        return text;
    }
    if text == "." {
        return "*".to_owned();
    }
    text.insert_str(0, "*.");
    text
}
