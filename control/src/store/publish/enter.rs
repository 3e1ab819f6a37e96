//! What publishing writes, inside of the transaction: the policy, its version, the sets it needs, its history.

use serde_json::{Value, json};
use tidegate_control_wire::id::new_id;

use super::{Before, Draft, Edition, Expected, Named};
use crate::document::{unknown_sets, views};
use crate::model::{Actor, Apply, Policy};
use crate::store::policies::{find, load_one, mode_text};
use crate::store::read::{get, number};
use crate::store::{AuditDraft, ChangeKind, StoreError, Tx, chain, preview};

/// A new policy; its name must be free.
pub(super) async fn create(
    tx: &mut Tx<'_>,
    named: &Named,
    draft: &Draft,
    actor: &Actor,
) -> Result<Policy, StoreError> {
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

/// A new version, of the one that it was compared with.
pub(super) async fn update(
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

/// The end of a policy, after it left its scopes.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    named: &Named,
    (expected, shown): (Option<Expected>, Option<&str>),
    actor: &Actor,
) -> Result<Vec<String>, StoreError> {
    let found = find(tx.connection(), &named.owner, &named.name).await?;
    if let Some(expected) = expected {
        expected.check(&named.title(), found.version)?;
    }
    if let Some(shown) = shown {
        preview::check_delete(tx.connection(), &found, shown).await?;
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
fn apply_text(apply: Apply) -> &'static str {
    match apply {
        Apply::Now => "now",
        Apply::NextJob => "next-job",
    }
}
