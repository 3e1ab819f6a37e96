//! Policies as they are, one by one. Lists are [`super::policy_list`]'s; how policies come and change is
//! [`super::publish`]'s.

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tidegate_control_wire::id::is_id;

use super::read::{get, json};
use super::sql::Sql;
use super::{Micros, Store, StoreError, names};
use crate::model::{Policy, PolicyMode};

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
    /// The deleted ones instead of the living; of the others only `search` then says which.
    pub deleted: bool,
}

/// A living policy, as far as every operation on one needs it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) version: u32,
}

/// The living policy of a name.
pub(super) async fn find(
    connection: &mut AnyConnection,
    owner: &str,
    name: &str,
) -> Result<Found, StoreError> {
    let row =
        sqlx::query("SELECT id, version FROM policies WHERE owner = $1 AND name = $2 AND deleted_at IS NULL")
            .bind(owner)
            .bind(name)
            .fetch_optional(connection)
            .await?
            .ok_or_else(|| StoreError::not_found(title(owner, name)))?;
    Ok(Found {
        id: get(&row, "id")?,
        version: count(&row, "version")?,
    })
}

/// `policy acme/base`, as histories and errors call it.
pub(super) fn title(owner: &str, name: &str) -> String {
    format!("policy {owner}/{name}")
}

/// A column that counts something.
pub(super) fn count(row: &AnyRow, column: &'static str) -> Result<u32, StoreError> {
    let number: i64 = get(row, column)?;
    u32::try_from(number).map_err(|_| StoreError::Unreadable(format!("column {column}: {number}")))
}

/// The spelling of a mode in the store.
pub(super) fn mode_text(mode: PolicyMode) -> &'static str {
    match mode {
        PolicyMode::Block => "block",
        PolicyMode::Audit => "audit",
        PolicyMode::None => "",
    }
}

/// A mode from its spelling.
pub(super) fn mode(text: &str) -> Result<PolicyMode, StoreError> {
    match text {
        "block" => Ok(PolicyMode::Block),
        "audit" => Ok(PolicyMode::Audit),
        "" => Ok(PolicyMode::None),
        other => Err(StoreError::Unreadable(format!("mode {other:?}"))),
    }
}

/// Policies by their ids, whole; those that there are.
pub(super) async fn load(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<BTreeMap<String, Policy>, StoreError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut sql = Sql::new(
        "SELECT p.id, p.owner, p.name, p.version, p.mode, p.lockdown, p.endpoints, p.parsed, p.created_at, \
         p.updated_at, p.updated_by, p.deleted_at, v.yaml FROM policies p \
         JOIN policy_versions v ON v.policy_id = p.id AND v.version = p.version WHERE p.id IN ",
    );
    sql.texts(ids.iter().map(String::as_str));
    let mut policies = BTreeMap::new();
    for row in sql.fetch_all(&mut *connection).await? {
        let policy = policy(&row)?;
        policies.insert(policy.id.clone(), policy);
    }
    let mut sql = Sql::new("SELECT policy_id, scope FROM attachments WHERE policy_id IN ");
    sql.texts(ids.iter().map(String::as_str)).push(" ORDER BY scope");
    for row in sql.fetch_all(&mut *connection).await? {
        if let Some(policy) = policies.get_mut(get::<&str>(&row, "policy_id")?) {
            policy.attachments.push(get(&row, "scope")?);
        }
    }
    Ok(policies)
}

/// One policy by its id, whole.
pub(super) async fn load_one(connection: &mut AnyConnection, id: &str) -> Result<Policy, StoreError> {
    load(connection, &[id.to_owned()])
        .await?
        .remove(id)
        .ok_or_else(|| StoreError::not_found(format!("policy {id:?}")))
}

fn policy(row: &AnyRow) -> Result<Policy, StoreError> {
    let time = |column| get::<i64>(row, column).map(|at| Micros(at).timestamp());
    Ok(Policy {
        id: get(row, "id")?,
        name: get(row, "name")?,
        owner: get(row, "owner")?,
        version: count(row, "version")?,
        mode: mode(get(row, "mode")?)?,
        lockdown: get::<i64>(row, "lockdown")? != 0,
        yaml: get(row, "yaml")?,
        endpoints: count(row, "endpoints")?,
        parsed: json("a policy's parsed form", get(row, "parsed")?)?,
        attachments: Vec::new(),
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        updated_by: get(row, "updated_by")?,
        deleted_at: get::<Option<i64>>(row, "deleted_at")?.map(|at| Micros(at).timestamp()),
        diagnostics: Vec::new(),
    })
}

impl Store {
    /// A living policy.
    pub async fn policy(&self, owner: &str, name: &str) -> Result<Policy, StoreError> {
        let (owner, name) = (names::owner(owner)?, names::policy(name)?);
        let mut reading = self.reading().await?;
        let found = find(&mut reading, &owner, &name).await?;
        load_one(&mut reading, &found.id).await
    }

    /// A policy by its immutable id, deleted ones too.
    pub async fn policy_by_id(&self, id: &str) -> Result<Policy, StoreError> {
        if !is_id("pol", id) {
            return Err(StoreError::not_found(format!("policy {id:?}")));
        }
        load_one(&mut *self.reading().await?, id).await
    }
}
