//! A policy that is written whole, as the clients of the Harden-Runner wire do it: its document and where it is attached,
//! in one transaction.

use std::sync::Arc;

use tidegate_policy::job::Scope;

use super::enter::{create, update};
use super::{Before, Draft, Edition, Expected, Named};
use crate::model::{Actor, Apply, Policy};
use crate::store::audit::cleaned;
use crate::store::policies::find;
use crate::store::read::get;
use crate::store::{Store, StoreError, Tx, attachments};

/// Where a policy is to be attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attaching {
    /// Where it is.
    #[default]
    AsItIs,
    /// Here, too.
    Also(Vec<Scope>),
    /// Here, and nowhere else.
    Only(Vec<Scope>),
}

/// A policy as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// What it has to be before: [`Expected::Absent`] makes it. [`StoreError::Stale`] when it is not so.
    pub expected: Expected,
    /// Its document; `None` leaves it as it is.
    pub yaml: Option<String>,
    /// Its attachments.
    pub attaching: Attaching,
    /// How the attachments were written, for [`Store::written_attachments`]; `None` where they stay as they are.
    pub written: Option<String>,
}

/// What is to be written of the document.
enum Writing {
    Nothing,
    First(Arc<Draft>),
    Next(Edition, Before),
}

impl Store {
    /// Writes a policy, all of it or nothing. A scope that another policy holds is [`StoreError::Conflict`].
    pub async fn put_policy(
        &self,
        owner: &str,
        name: &str,
        put: Put,
        actor: &Actor,
    ) -> Result<Policy, StoreError> {
        let named = Named::new(owner, name)?;
        let writing = self.writing(&named, &put).await?;
        let actor = cleaned(actor);
        self.db
            .write(move |tx| Box::pin(async move { write(tx, &named, &writing, &put, &actor).await }))
            .await
    }

    async fn writing(&self, named: &Named, put: &Put) -> Result<Writing, StoreError> {
        let Some(yaml) = &put.yaml else {
            return Ok(Writing::Nothing);
        };
        let draft = Draft::read(yaml, self.strict).await?;
        if put.expected == Expected::Absent {
            return Ok(Writing::First(draft));
        }
        let edition = Edition {
            named: named.clone(),
            draft,
            apply: Apply::Now,
            rollback_to: None,
        };
        let before = self.compare(&edition, put.expected).await?;
        Ok(Writing::Next(edition, before))
    }

    /// How a policy's attachments were written last by a client that compares spelling and order.
    pub async fn written_attachments(&self, policy: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT written FROM written_attachments WHERE policy_id = $1")
            .bind(policy)
            .fetch_optional(self.db.read())
            .await?;
        row.map(|row| get(&row, "written")).transpose()
    }
}

async fn write(
    tx: &mut Tx<'_>,
    named: &Named,
    writing: &Writing,
    put: &Put,
    actor: &Actor,
) -> Result<Policy, StoreError> {
    let found = match find(tx.connection(), &named.owner, &named.name).await {
        Ok(found) => Some(found),
        Err(StoreError::NotFound { .. }) if put.expected == Expected::Absent => None,
        Err(error) => return Err(error),
    };
    if let Some(found) = found {
        put.expected.check(&named.title(), found.version)?;
    }
    match writing {
        Writing::Nothing => {}
        Writing::First(draft) => drop(create(tx, named, draft, actor).await?),
        Writing::Next(edition, before) => drop(update(tx, edition, before, actor).await?),
    }
    let (scopes, all) = match &put.attaching {
        Attaching::AsItIs => (&[][..], false),
        Attaching::Also(scopes) => (&scopes[..], false),
        Attaching::Only(scopes) => (&scopes[..], true),
    };
    let policy = attachments::bring(tx, (&named.owner, &named.name), (scopes, all), actor).await?;
    if let Some(written) = &put.written {
        sqlx::query(
            "INSERT INTO written_attachments (policy_id, written) VALUES ($1, $2) \
             ON CONFLICT (policy_id) DO UPDATE SET written = EXCLUDED.written",
        )
        .bind(&policy.id)
        .bind(written)
        .execute(tx.connection())
        .await?;
    }
    Ok(policy)
}
