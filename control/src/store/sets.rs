//! Endpoint sets: lists that an owner's policies share by `use:`.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tidegate_policy::document::ParseOptions;

use super::audit::cleaned;
use super::pages::Filler;
use super::policies::count;
use super::publish::beside;
use super::read::{bad_cursor, get};
use super::{AuditDraft, ChangeKind, Expected, Micros, Store, StoreError, Tx, chain, names};
use crate::diff::Diff;
use crate::document::{CheckedSet, views};
use crate::model::{Actor, Page, PageRequest, Set, SetSummary};

/// Sets that are read at once: each may be a megabyte.
const CHUNK: i64 = 8;
/// Policies that a refusal names.
const NAMED: usize = 5;
/// Users that a summary names.
const SHOWN: usize = 3;
/// Tries of a write that does not say which version it is of, while others write the same set.
const TRIES: u32 = 16;

/// Which set, of which owner, in canonical spelling; and what is written.
#[derive(Clone, Debug)]
struct Draft {
    owner: String,
    name: String,
    yaml: String,
    checked: CheckedSet,
}

/// The set that a draft was compared with; version 0 when there was none.
#[derive(Clone, Debug, Default)]
struct Before {
    version: u32,
    diff: Diff,
}

fn title(owner: &str, name: &str) -> String {
    format!("endpoint set {owner}/{name}")
}

async fn find(connection: &mut AnyConnection, owner: &str, name: &str) -> Result<Option<Set>, StoreError> {
    let row = sqlx::query("SELECT * FROM endpoint_sets WHERE owner = $1 AND name = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut set = set(&row)?;
    set.used_by = users(connection, owner, name).await?;
    Ok(Some(set))
}

fn set(row: &AnyRow) -> Result<Set, StoreError> {
    Ok(Set {
        owner: get(row, "owner")?,
        name: get(row, "name")?,
        version: count(row, "version")?,
        yaml: get(row, "yaml")?,
        endpoints: count(row, "endpoints")?,
        used_by: Vec::new(),
        updated_at: Micros(get(row, "updated_at")?).timestamp(),
        updated_by: get(row, "updated_by")?,
        diagnostics: Vec::new(),
    })
}

/// Whether a name has a text, which is in lower case, in it.
fn contains(name: &str, search: Option<&str>) -> bool {
    search.is_none_or(|search| name.to_lowercase().contains(search))
}

fn summary(row: &AnyRow) -> Result<SetSummary, StoreError> {
    Ok(SetSummary {
        owner: get(row, "owner")?,
        name: get(row, "name")?,
        version: count(row, "version")?,
        endpoints: count(row, "endpoints")?,
        used: 0,
        used_by: Vec::new(),
        updated_at: Micros(get(row, "updated_at")?).timestamp(),
        updated_by: get(row, "updated_by")?,
    })
}

/// Names of the policies that use a set, in a version that may still govern somebody.
async fn users(connection: &mut AnyConnection, owner: &str, name: &str) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.name FROM policy_sets s JOIN policies p ON p.id = s.policy_id \
         WHERE s.owner = $1 AND s.name = $2 ORDER BY p.name",
    )
    .bind(owner)
    .bind(name)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| get(row, "name")).collect()
}

impl Store {
    /// Writes a set, a new one too. With `expected`, only over one that is there (at that version), or only a new one.
    pub async fn put_set(
        &self,
        owner: &str,
        name: &str,
        expected: Option<Expected>,
        yaml: &str,
        actor: &Actor,
    ) -> Result<Set, StoreError> {
        let (owner, name, yaml) = (names::owner(owner)?, names::set(name)?, yaml.to_owned());
        let strict = self.strict;
        let read = move || {
            let checked = CheckedSet::check(&yaml, &ParseOptions { strict }).map_err(StoreError::Document)?;
            Ok::<_, StoreError>(Draft {
                owner,
                name,
                yaml,
                checked,
            })
        };
        let draft = beside(read).await??;
        let actor = cleaned(actor);
        for _ in 0..TRIES {
            let before = self.compare_set(&draft, expected).await?;
            let (draft, actor) = (draft.clone(), actor.clone());
            let done = self
                .db
                .write(move |tx| Box::pin(async move { put(tx, &draft, &before, &actor).await }))
                .await;
            match (done, expected) {
                // Somebody wrote in between; whatever it is now will do, too.
                (Err(StoreError::Stale { .. }), None | Some(Expected::Any)) => {}
                (done, _) => return done,
            }
        }
        Err(StoreError::Busy)
    }

    /// One set.
    pub async fn set(&self, owner: &str, name: &str) -> Result<Set, StoreError> {
        let (owner, name) = (names::owner(owner)?, names::set(name)?);
        let found = find(&mut *self.reading().await?, &owner, &name).await?;
        found.ok_or_else(|| StoreError::not_found(title(&owner, &name)))
    }

    /// The names of an owner's sets, sorted.
    pub async fn set_names(&self, owner: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT name FROM endpoint_sets WHERE owner = $1 ORDER BY name")
            .bind(names::owner(owner)?)
            .fetch_all(self.db.read())
            .await?;
        rows.iter().map(|row| get(row, "name")).collect()
    }

    /// The sets of an owner, by name; with `search` those whose name has this text in it, in any case. A page ends early
    /// when its texts come to several megabytes.
    pub async fn sets(
        &self,
        owner: &str,
        search: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Set>, StoreError> {
        let owner = names::owner(owner)?;
        let search = search.map(str::to_lowercase);
        let after = page.after.as_deref().map(names::set).transpose();
        let mut after = after.map_err(|_| bad_cursor())?.unwrap_or_default();
        let mut reading = self.reading().await?;
        let mut used_by = all_users(&mut reading, &owner).await?;
        let mut filler = Filler::new(page);
        loop {
            let rows = sqlx::query(
                "SELECT * FROM endpoint_sets WHERE owner = $1 AND name > $2 ORDER BY name LIMIT $3",
            )
            .bind(&owner)
            .bind(&after)
            .bind(CHUNK)
            .fetch_all(&mut *reading)
            .await?;
            for row in &rows {
                let mut set = set(row)?;
                set.used_by = used_by.remove(&set.name).unwrap_or_default();
                after.clone_from(&set.name);
                let bytes = set.yaml.len();
                if contains(&set.name, search.as_deref()) && !filler.offer(set, bytes) {
                    return Ok(filler.page(|set| set.name.clone()));
                }
            }
            if rows.is_empty() {
                return Ok(filler.page(|set| set.name.clone()));
            }
        }
    }

    /// The same list, with what a table shows.
    pub async fn set_summaries(
        &self,
        owner: &str,
        search: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<SetSummary>, StoreError> {
        let owner = names::owner(owner)?;
        let search = search.map(str::to_lowercase);
        let after = page.after.as_deref().map(names::set).transpose();
        let after = after.map_err(|_| bad_cursor())?.unwrap_or_default();
        let mut reading = self.reading().await?;
        let mut used_by = all_users(&mut reading, &owner).await?;
        // What is searched for is compared here: the two databases fold case differently.
        let most = match search {
            None => i64::from(page.size()) + 1,
            Some(_) => i64::MAX,
        };
        let rows = sqlx::query(
            "SELECT owner, name, version, endpoints, updated_at, updated_by FROM endpoint_sets \
             WHERE owner = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(&owner)
        .bind(&after)
        .bind(most)
        .fetch_all(&mut *reading)
        .await?;
        let mut filler = Filler::new(page);
        for row in &rows {
            let mut summary = summary(row)?;
            if !contains(&summary.name, search.as_deref()) {
                continue;
            }
            let mut users = used_by.remove(&summary.name).unwrap_or_default();
            summary.used = u32::try_from(users.len()).unwrap_or(u32::MAX);
            users.truncate(SHOWN);
            summary.used_by = users;
            if !filler.offer(summary, 0) {
                break;
            }
        }
        Ok(filler.page(|set| set.name.clone()))
    }

    /// Deletes a set that no policy uses; [`StoreError::Conflict`] names those that do.
    pub async fn delete_set(
        &self,
        owner: &str,
        name: &str,
        expected: Option<Expected>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let (owner, name) = (names::owner(owner)?, names::set(name)?);
        let actor = cleaned(actor);
        self.db
            .write(move |tx| Box::pin(async move { delete(tx, &owner, &name, expected, &actor).await }))
            .await
    }

    /// What a draft changes.
    async fn compare_set(&self, draft: &Draft, expected: Option<Expected>) -> Result<Before, StoreError> {
        let what = title(&draft.owner, &draft.name);
        let found = find(&mut *self.reading().await?, &draft.owner, &draft.name).await?;
        let Some(found) = found else {
            return match expected {
                None | Some(Expected::Absent) => Ok(Before::default()),
                Some(Expected::Version(_) | Expected::Any) => Err(StoreError::not_found(what)),
            };
        };
        if let Some(expected) = expected {
            expected.check(&what, found.version)?;
        }
        let new = draft.yaml.clone();
        Ok(Before {
            version: found.version,
            diff: beside(move || Diff::of(&found.yaml, &new)).await?,
        })
    }
}

/// Names of policies by the set that they use.
async fn all_users(
    connection: &mut AnyConnection,
    owner: &str,
) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.name AS used, p.name FROM policy_sets s JOIN policies p ON p.id = s.policy_id \
         WHERE s.owner = $1 ORDER BY p.name",
    )
    .bind(owner)
    .fetch_all(connection)
    .await?;
    let mut used_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        used_by
            .entry(get(row, "used")?)
            .or_default()
            .push(get(row, "name")?);
    }
    Ok(used_by)
}

async fn put(tx: &mut Tx<'_>, draft: &Draft, before: &Before, actor: &Actor) -> Result<Set, StoreError> {
    let Draft { owner, name, .. } = draft;
    let current = find(tx.connection(), owner, name)
        .await?
        .map_or(0, |set| set.version);
    if current != before.version {
        return Err(StoreError::Stale {
            what: title(owner, name),
            current,
        });
    }
    sqlx::query(
        "INSERT INTO endpoint_sets (owner, name, version, yaml, endpoints, created_at, updated_at, updated_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT (owner, name) DO UPDATE SET \
         version = EXCLUDED.version, yaml = EXCLUDED.yaml, endpoints = EXCLUDED.endpoints, \
         updated_at = EXCLUDED.updated_at, updated_by = EXCLUDED.updated_by",
    )
    .bind(owner)
    .bind(name)
    .bind(i64::from(current + 1))
    .bind(&draft.yaml)
    .bind(i64::from(draft.checked.endpoints))
    .bind(tx.now().0)
    .bind(&actor.subject)
    .execute(tx.connection())
    .await?;
    tx.change(ChangeKind::Set, &format!("{owner}/{name}")).await?;
    let mut detail = json!({
        "to": current + 1,
        "endpoints": draft.checked.endpoints,
        "sha256": chain::sha256(&draft.yaml),
    });
    if current > 0 {
        detail["from"] = current.into();
        detail["diff"] = json!(before.diff);
    }
    record(tx, "set.written", (owner, name), detail, actor).await?;
    let written = find(tx.connection(), owner, name).await?;
    let mut set = written.ok_or_else(|| StoreError::not_found(title(owner, name)))?;
    set.diagnostics = views(&draft.checked.diagnostics);
    Ok(set)
}

async fn delete(
    tx: &mut Tx<'_>,
    owner: &str,
    name: &str,
    expected: Option<Expected>,
    actor: &Actor,
) -> Result<(), StoreError> {
    let what = title(owner, name);
    let found = find(tx.connection(), owner, name).await?;
    let found = found.ok_or_else(|| StoreError::not_found(what.clone()))?;
    if let Some(expected) = expected {
        expected.check(&what, found.version)?;
    }
    if !found.used_by.is_empty() {
        let shown = found.used_by.iter().take(NAMED).map(String::as_str);
        let mut shown = shown.collect::<Vec<_>>().join(", ");
        if found.used_by.len() > NAMED {
            shown = format!("{shown} and {} more", found.used_by.len() - NAMED);
        }
        return Err(StoreError::Conflict {
            reason: format!("{what} is used by {shown} (a version that jobs may still run under counts)"),
        });
    }
    sqlx::query("DELETE FROM endpoint_sets WHERE owner = $1 AND name = $2")
        .bind(owner)
        .bind(name)
        .execute(tx.connection())
        .await?;
    tx.change(ChangeKind::Set, &format!("{owner}/{name}")).await?;
    let detail = json!({ "version": found.version });
    record(tx, "set.deleted", (owner, name), detail, actor).await
}

async fn record(
    tx: &mut Tx<'_>,
    action: &'static str,
    (owner, name): (&str, &str),
    detail: serde_json::Value,
    actor: &Actor,
) -> Result<(), StoreError> {
    let draft = AuditDraft {
        action,
        owner,
        target: title(owner, name),
        policy_id: None,
        detail,
    };
    tx.audit(draft, actor).await
}
