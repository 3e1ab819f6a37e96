//! The global block list, compiled: a million names and address ranges, refused for everyone.
//!
//! Owns the leanest form of the label trie: no ports, no rule numbers, the entry's text is made again from the
//! name that was asked. Built when the list changes, asked first of all, before any policy, in audit too.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

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
}

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
        for entry in entries {
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
        }
    }

    /// The entry that covers this name: the exact one, else the deepest wildcard.
    pub fn find_name(&self, name: &DnsName) -> Option<BlockHit> {
        let view = NameView::new(name);
        let mut found = None;
        let arrive = |place: Place| {
            if place.left == 0 && self.names.is_exact(place.node)
                || place.left > 0 && self.names.is_below(place.node)
            {
                found = Some(place.left);
            }
        };
        self.names.walk(&view, arrive, |_| ());
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
        self.names.heap_bytes() + self.nets.heap_bytes()
    }
}

/// The entry that covered `name` when `left` of its labels stand before it.
fn entry_text(name: &DnsName, left: usize) -> String {
    if left == 0 {
        return name.to_string();
    }
    let labels = name.labels();
    match DnsName::from_labels(labels.into_iter().skip(left)) {
        Ok(base) if !base.is_root() => format!("*.{base}"),
        Ok(_) | Err(_) => "*".to_owned(),
    }
}
