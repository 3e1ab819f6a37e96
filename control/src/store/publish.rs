//! Publishing: policies are made, get new versions and are deleted, each with its entry in the history.
//!
//! Documents are read and compared outside of the line of writers, which must not wait for a megabyte of YAML; what
//! depends on the stored state (is the name free, is the version still the one, do the sets exist) is asked inside of
//! the transaction.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::AnyConnection;
use tidegate_control_wire::id::new_id;
use tidegate_policy::document::ParseOptions;

use super::audit::cleaned;
use super::policies::{find, load_one, mode_text, title};
use super::read::{get, number};
use super::{AuditDraft, ChangeKind, Store, StoreError, Tx, chain, names};
use crate::diff::Diff;
use crate::document::{CheckedPolicy, unknown_sets, views};
use crate::model::{Actor, Apply, Policy};

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
        let named = Named::new(owner, name)?;
        let actor = cleaned(actor);
        self.db
            .write(move |tx| Box::pin(async move { delete(tx, &named, expected, &actor).await }))
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

async fn create(tx: &mut Tx<'_>, named: &Named, draft: &Draft, actor: &Actor) -> Result<Policy, StoreError> {
    match find(tx.connection(), &named.owner, &named.name).await {
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error),
        Ok(_) => {
            return Err(StoreError::Conflict {
                reason: format!("there is a {} already", named.title()),
            });
        }
    }
    require_sets(tx, named, draft).await?;
    let id = new_id("pol");
    let (checked, now) = (&draft.checked, tx.now().0);
    sqlx::query(
        "INSERT INTO policies (id, owner, name, version, mode, lockdown, endpoints, parsed, created_at, created_by, \
         updated_at, updated_by, deleted_at) VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $8, $9, NULL)",
    )
    .bind(&id)
    .bind(&named.owner)
    .bind(&named.name)
    .bind(mode_text(checked.mode))
    .bind(i64::from(checked.lockdown))
    .bind(i64::from(checked.endpoints))
    .bind(checked.parsed.to_string())
    .bind(now)
    .bind(&actor.subject)
    .execute(tx.connection())
    .await?;
    let edition = (id.as_str(), 1, Apply::Now);
    enter(tx, edition, named, draft, actor).await?;
    let detail = summary(draft);
    record(tx, "policy.created", (&id, named), detail, actor).await?;
    written(tx, &id, draft).await
}

async fn update(
    tx: &mut Tx<'_>,
    edition: &Edition,
    before: &Before,
    actor: &Actor,
) -> Result<Policy, StoreError> {
    let (named, draft) = (&edition.named, &*edition.draft);
    let current = find(tx.connection(), &named.owner, &named.name).await?;
    if current.id != before.id || current.version != before.version {
        return Err(StoreError::Stale {
            what: named.title(),
            current: current.version,
        });
    }
    require_sets(tx, named, draft).await?;
    let version = current.version + 1;
    let (checked, now) = (&draft.checked, tx.now().0);
    sqlx::query(
        "UPDATE policies SET version = $1, mode = $2, lockdown = $3, endpoints = $4, parsed = $5, updated_at = $6, \
         updated_by = $7 WHERE id = $8",
    )
    .bind(i64::from(version))
    .bind(mode_text(checked.mode))
    .bind(i64::from(checked.lockdown))
    .bind(i64::from(checked.endpoints))
    .bind(checked.parsed.to_string())
    .bind(now)
    .bind(&actor.subject)
    .bind(&current.id)
    .execute(tx.connection())
    .await?;
    enter(tx, (&current.id, version, edition.apply), named, draft, actor).await?;
    let mut detail = summary(draft);
    detail["from"] = before.version.into();
    detail["to"] = version.into();
    detail["apply"] = apply_text(edition.apply).into();
    detail["diff"] = json!(before.diff);
    if let Some(to) = edition.rollback_to {
        detail["rollback_to"] = to.into();
    }
    record(tx, "policy.updated", (&current.id, named), detail, actor).await?;
    written(tx, &current.id, draft).await
}

/// Every set that a document names must be there.
async fn require_sets(tx: &mut Tx<'_>, named: &Named, draft: &Draft) -> Result<(), StoreError> {
    let used = &draft.checked.sets;
    if used.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query("SELECT name FROM endpoint_sets WHERE owner = $1")
        .bind(&named.owner)
        .fetch_all(tx.connection())
        .await?;
    let known = rows.iter().map(|row| get(row, "name"));
    let known: Vec<String> = known.collect::<Result<_, _>>()?;
    let mut diagnostics = unknown_sets(&draft.yaml, used, &known, &named.owner);
    if diagnostics.is_empty() {
        return Ok(());
    }
    diagnostics.extend_from_slice(&draft.checked.diagnostics);
    diagnostics.sort_by_key(|one| (one.line, one.column));
    Err(StoreError::Document(diagnostics))
}

/// Enters a version where gateways hear of it: `since` is the number of this very change.
async fn enter(
    tx: &mut Tx<'_>,
    (id, version, apply): (&str, u32, Apply),
    named: &Named,
    draft: &Draft,
    actor: &Actor,
) -> Result<(), StoreError> {
    let since = tx.change(ChangeKind::Policy, id).await?;
    sqlx::query(
        "INSERT INTO policy_versions (policy_id, version, yaml, apply, since, created_at, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(i64::from(version))
    .bind(&draft.yaml)
    .bind(apply_text(apply))
    .bind(number(since))
    .bind(tx.now().0)
    .bind(&actor.subject)
    .execute(tx.connection())
    .await?;
    if apply == Apply::Now {
        // No older version governs anybody any more.
        sqlx::query("DELETE FROM policy_sets WHERE policy_id = $1")
            .bind(id)
            .execute(tx.connection())
            .await?;
    }
    for (set, _) in &draft.checked.sets {
        sqlx::query(
            "INSERT INTO policy_sets (policy_id, owner, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(&named.owner)
        .bind(set)
        .execute(tx.connection())
        .await?;
    }
    Ok(())
}

async fn delete(
    tx: &mut Tx<'_>,
    named: &Named,
    expected: Option<Expected>,
    actor: &Actor,
) -> Result<Vec<String>, StoreError> {
    let found = find(tx.connection(), &named.owner, &named.name).await?;
    if let Some(expected) = expected {
        expected.check(&named.title(), found.version)?;
    }
    let policy = (found.id.as_str(), named);
    let rows = sqlx::query("DELETE FROM attachments WHERE policy_id = $1 RETURNING scope")
        .bind(&found.id)
        .fetch_all(tx.connection())
        .await?;
    let scopes = rows.iter().map(|row| get(row, "scope"));
    let mut scopes: Vec<String> = scopes.collect::<Result<_, _>>()?;
    scopes.sort_unstable();
    for scope in &scopes {
        tx.change(ChangeKind::Attachment, scope).await?;
        let detail = json!({ "scope": scope, "to": null });
        record(tx, "policy.detached", policy, detail, actor).await?;
    }
    sqlx::query("DELETE FROM policy_sets WHERE policy_id = $1")
        .bind(&found.id)
        .execute(tx.connection())
        .await?;
    sqlx::query("UPDATE policies SET deleted_at = $1 WHERE id = $2")
        .bind(tx.now().0)
        .bind(&found.id)
        .execute(tx.connection())
        .await?;
    tx.change(ChangeKind::Policy, &found.id).await?;
    let detail = json!({ "version": found.version, "detached": scopes.len() });
    record(tx, "policy.deleted", policy, detail, actor).await?;
    Ok(scopes)
}

/// An entry in the history of a policy.
async fn record(
    tx: &mut Tx<'_>,
    action: &'static str,
    (id, named): (&str, &Named),
    detail: Value,
    actor: &Actor,
) -> Result<(), StoreError> {
    let draft = AuditDraft {
        action,
        owner: &named.owner,
        target: named.title(),
        policy_id: Some(id),
        detail,
    };
    tx.audit(draft, actor).await
}

/// What every entry about a text says of it. Its hash puts the text itself into the chain.
fn summary(draft: &Draft) -> Value {
    json!({
        "mode": draft.checked.mode,
        "lockdown": draft.checked.lockdown,
        "endpoints": draft.checked.endpoints,
        "sha256": chain::sha256(&draft.yaml),
    })
}

/// The policy as it is now, with what its reader said.
async fn written(tx: &mut Tx<'_>, id: &str, draft: &Draft) -> Result<Policy, StoreError> {
    let mut policy = load_one(tx.connection(), id).await?;
    policy.diagnostics = views(&draft.checked.diagnostics);
    Ok(policy)
}

/// The spelling of an apply in the store.
pub(super) fn apply_text(apply: Apply) -> &'static str {
    match apply {
        Apply::Now => "now",
        Apply::NextJob => "next-job",
    }
}
