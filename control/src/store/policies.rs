//! Policies: reading one, listing, counting, making, changing and deleting them.

use super::{Store, StoreError};
use crate::model::{Actor, Apply, Counters, Page, PageRequest, Policy, PolicyMode, PolicyVersion};

/// What `If-Match` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This version is to be the newest.
    Version(u32),
    /// Any, but the thing must be there.
    Any,
}

/// Which policies a list has; everything absent selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFilter {
    /// Part of the name, in any case.
    pub search: Option<String>,
    /// Of the newest version.
    pub mode: Option<PolicyMode>,
    /// Attached somewhere, or nowhere.
    pub attached: Option<bool>,
    /// One of these ids.
    pub ids: Option<Vec<String>>,
}

impl Store {
    /// Makes a policy. [`StoreError::Conflict`] when the name is taken, [`StoreError::Document`] when it has errors.
    pub async fn create_policy(
        &self,
        owner: &str,
        name: &str,
        yaml: &str,
        actor: &Actor,
    ) -> Result<Policy, StoreError> {
        todo!()
    }

    /// Writes a new version.
    pub async fn update_policy(
        &self,
        owner: &str,
        name: &str,
        expected: Expected,
        yaml: &str,
        apply: Apply,
        actor: &Actor,
    ) -> Result<Policy, StoreError> {
        todo!()
    }

    /// Writes a new version with the text of an old one.
    pub async fn rollback_policy(
        &self,
        owner: &str,
        name: &str,
        expected: Expected,
        to: u32,
        apply: Apply,
        actor: &Actor,
    ) -> Result<Policy, StoreError> {
        todo!()
    }

    /// Detaches a policy everywhere and deletes it; its history stays. Returns the scopes that it held.
    pub async fn delete_policy(
        &self,
        owner: &str,
        name: &str,
        expected: Option<Expected>,
        actor: &Actor,
    ) -> Result<Vec<String>, StoreError> {
        todo!()
    }

    /// A living policy.
    pub async fn policy(&self, owner: &str, name: &str) -> Result<Policy, StoreError> {
        todo!()
    }

    /// A policy by its immutable id, deleted ones too.
    pub async fn policy_by_id(&self, id: &str) -> Result<Policy, StoreError> {
        todo!()
    }

    /// Living policies by owner and name. A page ends early when its texts come to several megabytes.
    pub async fn policies(
        &self,
        owner: Option<&str>,
        filter: &PolicyFilter,
        page: &PageRequest,
    ) -> Result<Page<Policy>, StoreError> {
        todo!()
    }

    /// How many living policies there are.
    pub async fn counters(&self, owner: Option<&str>) -> Result<Counters, StoreError> {
        todo!()
    }

    /// The versions of a living policy, newest first.
    pub async fn versions(
        &self,
        owner: &str,
        name: &str,
        page: &PageRequest,
    ) -> Result<Page<PolicyVersion>, StoreError> {
        todo!()
    }

    /// One version of a living policy.
    pub async fn version(&self, owner: &str, name: &str, version: u32) -> Result<PolicyVersion, StoreError> {
        todo!()
    }
}
