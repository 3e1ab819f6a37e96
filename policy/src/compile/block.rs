//! The global block list, compiled.

use std::net::IpAddr;

use ipnet::IpNet;

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
    /// An address or a range.
    Net(IpNet),
}

/// The entry that covers a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHit {
    /// The entry in canonical spelling: `evil.example`, `*.blocked.example`, `203.0.113.0/24`.
    pub text: String,
}

/// Immutable matcher of the global block list.
#[derive(Debug, Default)]
pub struct GlobalBlock {
    entries: Vec<BlockEntry>,
}

impl GlobalBlock {
    /// Compiles the entries; duplicates are harmless.
    pub fn build(entries: impl IntoIterator<Item = BlockEntry>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    /// The entry that covers this name: the exact one, else the deepest wildcard.
    pub fn find_name(&self, asked: &DnsName) -> Option<BlockHit> {
        self.entries
            .iter()
            .filter_map(|entry| match entry {
                BlockEntry::Name { name, below: false } if name == asked => Some((usize::MAX, name.to_string())),
                BlockEntry::Name { name, below: true } if asked.is_below(name) => {
                    Some((name.labels().len(), format!("*.{name}")))
                }
                BlockEntry::Name { .. } | BlockEntry::Net(_) => None,
            })
            .max()
            .map(|(_, text)| BlockHit { text })
    }

    /// The narrowest range that covers this address.
    pub fn find_address(&self, address: IpAddr) -> Option<BlockHit> {
        self.entries
            .iter()
            .filter_map(|entry| match entry {
                BlockEntry::Net(net) if net.contains(&address) => Some(net),
                BlockEntry::Net(_) | BlockEntry::Name { .. } => None,
            })
            .max_by_key(|net| net.prefix_len())
            .map(|net| BlockHit { text: net.to_string() })
    }
}
