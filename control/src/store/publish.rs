//! Publishing: policies are made, get new versions and are deleted, each with its entry in the history.
//!
//! Documents are read and compared outside of the line of writers, which must not wait for a megabyte of YAML; what
//! depends on the stored state (is the name free, is the version still the one, do the sets exist) is asked inside of
//! the transaction, by [`enter`].

mod enter;
mod put;

use std::sync::Arc;

use sqlx::AnyConnection;
use tidegate_policy::document::ParseOptions;

use self::enter::{create, delete, update};
use super::audit::cleaned;
use super::policies::{find, title};
use super::read::get;
use super::{Store, StoreError, names};
use crate::diff::Diff;
use crate::document::CheckedPolicy;
use crate::model::{Actor, Apply, Policy};

pub use self::put::{Attaching, Put};

/// Tries of an update that does not say which version it is of, while others write the same policy.
const TRIES: u32 = 16;

/// What `If-Match` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This version is to be the newest.
    Version(u32),
    /// Any, but the thing must be there.
    Any,
    /// There is to be none.
    Absent,
}

impl Expected {
    /// Compares with what there is.
    pub(super) fn check(self, what: &str, current: u32) -> Result<(), StoreError> {
        match self {
            Self::Version(version) if version == current => Ok(()),
            Self::Any => Ok(()),
            Self::Version(_) | Self::Absent => Err(StoreError::Stale {
                what: what.to_owned(),
                current,
            }),
        }
    }
}

/// Which policy, of which owner, in canonical spelling.
#[derive(Clone, Debug)]
struct Named {
    owner: String,
    name: String,
}

impl Named {
    fn new(owner: &str, name: &str) -> Result<Self, StoreError> {
        Ok(Self {
            owner: names::owner(owner)?,
            name: names::policy(name)?,
        })
    }

    fn title(&self) -> String {
        title(&self.owner, &self.name)
    }
}

/// A document that was read without errors, with its text.
#[derive(Debug)]
struct Draft {
    yaml: String,
    checked: CheckedPolicy,
}

impl Draft {
    /// Reads it, beside the runtime.
    async fn read(yaml: &str, strict: bool) -> Result<Arc<Self>, StoreError> {
        let yaml = yaml.to_owned();
        let read = move || {
            let checked =
                CheckedPolicy::check(&yaml, &ParseOptions { strict }).map_err(StoreError::Document)?;
            Ok(Arc::new(Self { yaml, checked }))
        };
        beside(read).await?
    }
}

/// Work that takes long, on a thread of its own.
pub(super) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StoreError::Closed)
}

/// A new version of a policy.
#[derive(Clone, Debug)]
struct Edition {
    named: Named,
    draft: Arc<Draft>,
    apply: Apply,
    /// The version whose text it has again.
    rollback_to: Option<u32>,
}

/// The version that an edition was compared with.
#[derive(Clone, Debug)]
struct Before {
    id: String,
    version: u32,
    diff: Diff,
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
        let named = Named::new(owner, name)?;
        let draft = Draft::read(yaml, self.strict).await?;
        let actor = cleaned(actor);
        self.db
            .write(move |tx| Box::pin(async move { create(tx, &named, &draft, &actor).await }))
            .await
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
        let edition = Edition {
            named: Named::new(owner, name)?,
            draft: Draft::read(yaml, self.strict).await?,
            apply,
            rollback_to: None,
        };
        self.publish(edition, expected, actor).await
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
        let old = self.version(owner, name, to).await?;
        let edition = Edition {
            named: Named::new(owner, name)?,
            draft: Draft::read(&old.yaml, self.strict).await?,
            apply,
            rollback_to: Some(to),
        };
        self.publish(edition, expected, actor).await
    }

    /// Detaches a policy everywhere and deletes it; its history stays. Returns the scopes that it held.
    pub async fn delete_policy(
        &self,
        owner: &str,
        name: &str,
        expected: Option<Expected>,
        actor: &Actor,
    ) -> Result<Vec<String>, StoreError> {
        self.delete_policy_as_shown(owner, name, (expected, None), actor)
            .await
    }

    /// The same, when what a preview has shown is still so; else [`StoreError::Conflict`].
    pub async fn delete_policy_as_shown(
        &self,
        owner: &str,
        name: &str,
        (expected, shown): (Option<Expected>, Option<&str>),
        actor: &Actor,
    ) -> Result<Vec<String>, StoreError> {
        let named = Named::new(owner, name)?;
        let (actor, shown) = (cleaned(actor), shown.map(str::to_owned));
        self.db
            .write(move |tx| {
                Box::pin(async move { delete(tx, &named, (expected, shown.as_deref()), &actor).await })
            })
            .await
    }

    async fn publish(
        &self,
        edition: Edition,
        expected: Expected,
        actor: &Actor,
    ) -> Result<Policy, StoreError> {
        let actor = cleaned(actor);
        for _ in 0..TRIES {
            let before = self.compare(&edition, expected).await?;
            let (edition, actor) = (edition.clone(), actor.clone());
            let done = self
                .db
                .write(move |tx| Box::pin(async move { update(tx, &edition, &before, &actor).await }))
                .await;
            match (done, expected) {
                // Somebody wrote in between; whatever it is now will do, too.
                (Err(StoreError::Stale { .. }), Expected::Any) => {}
                (done, _) => return done,
            }
        }
        Err(StoreError::Busy)
    }

    /// What an edition changes.
    async fn compare(&self, edition: &Edition, expected: Expected) -> Result<Before, StoreError> {
        let Named { owner, name } = &edition.named;
        let mut reading = self.reading().await?;
        let found = find(&mut reading, owner, name).await?;
        expected.check(&edition.named.title(), found.version)?;
        let old = text_of(&mut reading, &found.id, found.version).await?;
        drop(reading);
        let draft = Arc::clone(&edition.draft);
        Ok(Before {
            id: found.id,
            version: found.version,
            diff: beside(move || Diff::of(&old, &draft.yaml)).await?,
        })
    }
}

async fn text_of(connection: &mut AnyConnection, id: &str, version: u32) -> Result<String, StoreError> {
    let row = sqlx::query("SELECT yaml FROM policy_versions WHERE policy_id = $1 AND version = $2")
        .bind(id)
        .bind(i64::from(version))
        .fetch_one(connection)
        .await?;
    get(&row, "yaml")
}
