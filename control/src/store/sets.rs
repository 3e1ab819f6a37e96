//! Endpoint sets: lists that an owner's policies share by `use:`.

use super::{Expected, Store, StoreError};
use crate::model::{Actor, Page, PageRequest, Set};

impl Store {
    /// Writes a set, a new one too. With `expected`, only over one that is there (at that version).
    pub async fn put_set(
        &self,
        owner: &str,
        name: &str,
        expected: Option<Expected>,
        yaml: &str,
        actor: &Actor,
    ) -> Result<Set, StoreError> {
        todo!()
    }

    /// One set.
    pub async fn set(&self, owner: &str, name: &str) -> Result<Set, StoreError> {
        todo!()
    }

    /// The sets of an owner, by name.
    pub async fn sets(&self, owner: &str, page: &PageRequest) -> Result<Page<Set>, StoreError> {
        todo!()
    }

    /// Deletes a set that no policy uses; [`StoreError::Conflict`] names those that do.
    pub async fn delete_set(
        &self,
        owner: &str,
        name: &str,
        expected: Option<Expected>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        todo!()
    }
}
