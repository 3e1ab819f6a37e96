//! The sources of one lease, by address.
//!
//! Owns their order. Nearly every lease has one or two, and a gateway a hundred thousand leases: a sorted list that holds one
//! in place, where a tree would take room for eleven. Bounded by what a registration names and what may join a machine.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::state::Source;

/// Sources of a lease.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(SmallVec<[(IpAddr, Source); 1]>);

impl Sources {
    fn place(&self, address: &IpAddr) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(address))
    }

    /// Adds a source, or puts another one in its place.
    pub(super) fn insert(&mut self, address: IpAddr, source: Source) {
        match self.place(&address) {
            Ok(at) => self.0[at].1 = source,
            Err(at) => self.0.insert(at, (address, source)),
        }
    }

    pub(super) fn remove(&mut self, address: &IpAddr) -> Option<Source> {
        let at = self.place(address).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn get(&self, address: &IpAddr) -> Option<&Source> {
        let at = self.place(address).ok()?;
        Some(&self.0[at].1)
    }

    pub(super) fn contains_key(&self, address: &IpAddr) -> bool {
        self.place(address).is_ok()
    }

    /// By address, ascending.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(address, source)| (address, source))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &IpAddr> + Clone {
        self.0.iter().map(|(address, _)| address)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().map(|(_, source)| source)
    }
}

/// Sources in order.
pub(super) type Iter<'a> =
    std::iter::Map<std::slice::Iter<'a, (IpAddr, Source)>, fn(&(IpAddr, Source)) -> (&IpAddr, &Source)>;

impl<'a> IntoIterator for &'a Sources {
    type Item = (&'a IpAddr, &'a Source);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Sources {
    type Item = (IpAddr, Source);
    type IntoIter = smallvec::IntoIter<[(IpAddr, Source); 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(IpAddr, Source)> for Sources {
    fn from_iter<I: IntoIterator<Item = (IpAddr, Source)>>(all: I) -> Self {
        let mut sources = Self::default();
        for (address, source) in all {
            sources.insert(address, source);
        }
        sources
    }
}
