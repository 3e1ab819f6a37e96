//! Attachments: which policy a scope holds.

use tidegate_policy::job::Scope;

use super::{Store, StoreError};
use crate::model::{Actor, Attachment, Policy};

/// What is to be attached and detached, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// Scopes to take. One that the policy holds already is no error.
    pub add: Vec<Scope>,
    /// Scopes to leave; the policy must hold them.
    pub remove: Vec<Scope>,
    /// Take scopes from the policies that hold them.
    pub replace: bool,
}

impl Store {
    /// Attaches and detaches a policy.
    pub async fn attach(
        &self,
        owner: &str,
        name: &str,
        request: &AttachRequest,
        actor: &Actor,
    ) -> Result<Attachment, StoreError> {
        todo!()
    }

    /// The policy that a scope holds.
    pub async fn held(&self, scope: &Scope) -> Result<Option<Policy>, StoreError> {
        todo!()
    }
}
