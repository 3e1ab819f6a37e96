//! Policies as they are: one, a list, how many. How they come and change is [`super::publish`]'s.

use std::collections::{BTreeMap, HashSet};

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tidegate_control_wire::id::is_id;

use super::pages::Filler;
use super::read::{bad_cursor, get, json};
use super::sql::Sql;
use super::{Micros, Store, StoreError, names};
use crate::model::{Counters, Page, PageRequest, Policy, PolicyMode};

/// Policies that are looked through at once.
const CHUNK: u32 = 500;

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

/// A policy of a list before its texts are read.
struct Light {
    id: String,
    owner: String,
    name: String,
    bytes: usize,
}

/// A filter in the forms that are looked at.
struct Looking<'a> {
    owner: Option<String>,
    search: Option<String>,
    ids: Option<HashSet<&'a str>>,
    filter: &'a PolicyFilter,
}

impl Looking<'_> {
    /// The next policies by owner and name. What a name contains is not asked in SQL: the two databases fold case
    /// differently.
    fn after(&self, owner: &str, name: &str) -> Sql {
        let mut sql = Sql::new(
            "SELECT p.id, p.owner, p.name, OCTET_LENGTH(v.yaml) + OCTET_LENGTH(p.parsed) AS bytes FROM policies p \
             JOIN policy_versions v ON v.policy_id = p.id AND v.version = p.version \
             WHERE p.deleted_at IS NULL AND (p.owner, p.name) > (",
        );
        sql.text(owner).push(", ").text(name).push(")");
        if let Some(owner) = &self.owner {
            sql.push(" AND p.owner = ").text(owner);
        }
        if let Some(mode) = self.filter.mode {
            sql.push(" AND p.mode = ").text(mode_text(mode));
        }
        if let Some(attached) = self.filter.attached {
            sql.push(if attached { " AND " } else { " AND NOT " })
                .push("EXISTS (SELECT 1 FROM attachments a WHERE a.policy_id = p.id)");
        }
        sql.push(" ORDER BY p.owner, p.name LIMIT ").number(CHUNK.into());
        sql
    }

    fn matches(&self, light: &Light) -> bool {
        let found = |search: &String| light.name.to_lowercase().contains(search);
        self.search.as_ref().is_none_or(found)
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| ids.contains(light.id.as_str()))
    }
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

    /// Living policies by owner and name. A page ends early when its texts come to several megabytes.
    pub async fn policies(
        &self,
        owner: Option<&str>,
        filter: &PolicyFilter,
        page: &PageRequest,
    ) -> Result<Page<Policy>, StoreError> {
        let looking = Looking {
            owner: owner.map(names::owner).transpose()?,
            search: filter.search.as_ref().map(|search| search.to_lowercase()),
            ids: filter
                .ids
                .as_ref()
                .map(|ids| ids.iter().map(String::as_str).collect()),
            filter,
        };
        let mut reading = self.reading().await?;
        let lights = look(&mut reading, &looking, page).await?;
        let ids: Vec<String> = lights.items.iter().map(|light| light.id.clone()).collect();
        let mut policies = load(&mut reading, &ids).await?;
        Ok(Page {
            items: ids.iter().filter_map(|id| policies.remove(id)).collect(),
            next: lights.next,
        })
    }

    /// How many living policies there are.
    pub async fn counters(&self, owner: Option<&str>) -> Result<Counters, StoreError> {
        let mut sql = Sql::new(
            "SELECT p.mode, COUNT(*) AS policies, COUNT(*) - COUNT(a.policy_id) AS unattached FROM policies p \
             LEFT JOIN (SELECT DISTINCT policy_id FROM attachments) a ON a.policy_id = p.id \
             WHERE p.deleted_at IS NULL",
        );
        if let Some(owner) = owner {
            sql.push(" AND p.owner = ").text(&names::owner(owner)?);
        }
        sql.push(" GROUP BY p.mode");
        let mut counters = Counters::default();
        for row in sql.fetch_all(self.db.read()).await? {
            let policies = get::<i64>(&row, "policies")?.unsigned_abs();
            counters.total += policies;
            counters.unattached += get::<i64>(&row, "unattached")?.unsigned_abs();
            match mode(get(&row, "mode")?)? {
                PolicyMode::Block => counters.block = policies,
                PolicyMode::Audit => counters.audit = policies,
                PolicyMode::None => {}
            }
        }
        Ok(counters)
    }
}

async fn look(
    connection: &mut AnyConnection,
    looking: &Looking<'_>,
    page: &PageRequest,
) -> Result<Page<Light>, StoreError> {
    let (mut owner, mut name) = match page.after.as_deref() {
        None => (String::new(), String::new()),
        Some(after) => {
            let (owner, name) = after.split_once('/').ok_or_else(bad_cursor)?;
            let valid = |_| bad_cursor();
            (
                names::owner(owner).map_err(valid)?,
                names::policy(name).map_err(valid)?,
            )
        }
    };
    let cursor = |light: &Light| format!("{}/{}", light.owner, light.name);
    let mut filler = Filler::new(page);
    loop {
        let rows = looking.after(&owner, &name).fetch_all(&mut *connection).await?;
        for row in &rows {
            let light = Light {
                id: get(row, "id")?,
                owner: get(row, "owner")?,
                name: get(row, "name")?,
                bytes: get::<i64>(row, "bytes")?.unsigned_abs() as usize,
            };
            (owner, name) = (light.owner.clone(), light.name.clone());
            let bytes = light.bytes;
            if looking.matches(&light) && !filler.offer(light, bytes) {
                return Ok(filler.page(cursor));
            }
        }
        if rows.len() < CHUNK as usize {
            return Ok(filler.page(cursor));
        }
    }
}
