//! The audit log's chain of hashes: pure, for the store that writes it and whoever verifies it.

use crate::model::AuditEntry;

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Number of the last entry; 0 of an empty chain.
    pub seq: u64,
    /// Its hash; [`START`] of an empty chain.
    pub hash: String,
}

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {}

/// The hash of an entry, from everything in it but `hash` itself.
pub fn entry_hash(entry: &AuditEntry) -> String {
    todo!()
}

/// Verifies a whole chain from its first entry.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a AuditEntry>) -> Result<Head, Broken> {
    todo!()
}
