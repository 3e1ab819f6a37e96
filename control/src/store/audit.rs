//! The audit log: every change by anybody, in one chain of hashes; a policy's history are its rows.

use serde_json::Value;

use super::{Store, StoreError, Tx};
use crate::model::{Actor, AuditEntry, Page, PageRequest};

/// An entry as the operation knows it; its number, time and hashes come from the transaction.
#[derive(Clone, Debug)]
pub struct AuditDraft<'a> {
    /// `policy.created` … (see [`AuditEntry::action`]).
    pub action: &'static str,
    /// Organization concerned; empty when none is.
    pub owner: &'a str,
    /// What: `policy acme/base`.
    pub target: String,
    /// The policy, by its id.
    pub policy_id: Option<&'a str>,
    /// What changed, an object without fractions. Secrets never.
    pub detail: Value,
}

impl Tx<'_> {
    /// Enters an operation in the audit log.
    pub async fn audit(&mut self, draft: AuditDraft<'_>, actor: &Actor) -> Result<(), StoreError> {
        todo!()
    }
}

impl Store {
    /// What happened to a policy, newest first; of deleted ones too.
    pub async fn history(&self, policy_id: &str, page: &PageRequest) -> Result<Page<AuditEntry>, StoreError> {
        todo!()
    }

    /// What happened, to everybody or to one owner. `page.after` is the number of the entry before.
    pub async fn audit_log(
        &self,
        owner: Option<&str>,
        page: &PageRequest,
        newest_first: bool,
    ) -> Result<Page<AuditEntry>, StoreError> {
        todo!()
    }
}
