//! Lists of policies: searched, filtered, counted; whole, or only what a table shows.
//!
//! What a list skips is read from indexes alone. Names are compared here, for the two databases fold case differently; SQL
//! only leaves out what can't match.

use std::collections::{BTreeMap, HashSet};

use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::db::Backend;
use super::pages::Filler;
use super::policies::{PolicyFilter, count, load, mode, mode_text};
use super::read::{bad_cursor, get};
use super::sql::Sql;
use super::{Micros, Store, StoreError, names};
use crate::model::{Counters, Page, PageRequest, Policy, PolicyMode, PolicySummary};

/// Names that are looked through at once.
const CHUNK: u32 = 2_000;
/// Scopes that a summary names.
const SHOWN: i64 = 3;

/// A policy of a list before anything else of it is read.
struct Light {
    id: String,
    owner: String,
    name: String,
    /// When it was deleted, for the list of those.
    deleted: i64,
}

/// A filter in the forms that are looked at.
struct Looking<'a> {
    owner: Option<String>,
    search: Option<String>,
    ids: Option<HashSet<&'a str>>,
    filter: &'a PolicyFilter,
    backend: Backend,
}

/// Where a look goes on.
#[derive(Default)]
struct From {
    owner: String,
    name: String,
    /// Of a deleted one.
    deleted: Option<(i64, String)>,
}

impl<'a> Looking<'a> {
    fn new(owner: Option<&str>, filter: &'a PolicyFilter, backend: Backend) -> Result<Self, StoreError> {
        Ok(Self {
            backend,
            owner: owner.map(names::owner).transpose()?,
            search: filter.search.as_ref().map(|search| search.to_lowercase()),
            ids: filter
                .ids
                .as_ref()
                .map(|ids| ids.iter().map(String::as_str).collect()),
            filter,
        })
    }

    /// Everything that SQL does not ask: without it, a page needs no more rows than it has.
    fn sifts(&self) -> bool {
        self.search.is_some() || self.ids.is_some()
    }

    /// The next living policies by owner and name.
    fn living(&self, from: &From, most: u32) -> Sql {
        let mut sql =
            Sql::new("SELECT p.id, p.owner, p.name FROM policies p WHERE p.deleted_at IS NULL AND ");
        match &self.owner {
            Some(owner) => sql
                .push("p.owner = ")
                .text(owner)
                .push(" AND p.name > ")
                .text(&from.name),
            None => sql
                .push("(p.owner, p.name) > (")
                .text(&from.owner)
                .push(", ")
                .text(&from.name)
                .push(")"),
        };
        if let Some(mode) = self.filter.mode {
            sql.push(" AND p.mode = ").text(mode_text(mode));
        }
        self.sift(&mut sql);
        if let Some(attached) = self.filter.attached {
            sql.push(if attached { " AND " } else { " AND NOT " })
                .push("EXISTS (SELECT 1 FROM attachments a WHERE a.policy_id = p.id)");
        }
        sql.push(" ORDER BY p.owner, p.name LIMIT ").number(most.into());
        sql
    }

    /// The next deleted policies, the latest first.
    fn deleted(&self, from: &From, most: u32) -> Sql {
        let mut sql = Sql::new(
            "SELECT p.id, p.owner, p.name, p.deleted_at FROM policies p WHERE p.deleted_at IS NOT NULL",
        );
        if let Some(owner) = &self.owner {
            sql.push(" AND p.owner = ").text(owner);
        }
        self.sift(&mut sql);
        if let Some((at, id)) = &from.deleted {
            sql.push(" AND (p.deleted_at, p.id) < (")
                .number(*at)
                .push(", ")
                .text(id)
                .push(")");
        }
        sql.push(" ORDER BY p.deleted_at DESC, p.id DESC LIMIT ")
            .number(most.into());
        sql
    }

    /// Leaves out what can't match. ASCII is folded alike by both databases, in PostgreSQL's locale C; other names are all
    /// looked at.
    fn sift(&self, sql: &mut Sql) {
        let Some(search) = self.search.as_ref().filter(|search| search.is_ascii()) else {
            return;
        };
        let folded = match self.backend {
            Backend::Sqlite => "lower(p.name)",
            Backend::Postgres => "lower(p.name COLLATE \"C\")",
        };
        let pattern = search
            .replace('\\', "\\\\")
            .replace('%', "\\%")
            .replace('_', "\\_");
        sql.push(" AND (")
            .push(folded)
            .push(" LIKE ")
            .text(&format!("%{pattern}%"))
            .push(" ESCAPE '\\' OR OCTET_LENGTH(p.name) <> LENGTH(p.name))");
    }

    fn matches(&self, light: &Light) -> bool {
        let found = |search: &String| light.name.to_lowercase().contains(search);
        self.search.as_ref().is_none_or(found)
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| ids.contains(light.id.as_str()))
    }

    fn cursor(&self, light: &Light) -> String {
        if self.filter.deleted {
            format!("{}/{}", light.deleted, light.id)
        } else {
            format!("{}/{}", light.owner, light.name)
        }
    }

    fn from(&self, page: &PageRequest) -> Result<From, StoreError> {
        let Some(after) = page.after.as_deref() else {
            return Ok(From::default());
        };
        let (left, right) = after.split_once('/').ok_or_else(bad_cursor)?;
        let wrong = |_| bad_cursor();
        if self.filter.deleted {
            let at = left.parse().map_err(|_| bad_cursor())?;
            let id = super::read::storable(right).ok_or_else(bad_cursor)?;
            return Ok(From {
                deleted: Some((at, id.to_owned())),
                ..From::default()
            });
        }
        Ok(From {
            owner: names::owner(left).map_err(wrong)?,
            name: names::policy(right).map_err(wrong)?,
            deleted: None,
        })
    }
}

/// The policies of a page, and one more when there is one.
async fn look(
    connection: &mut AnyConnection,
    looking: &Looking<'_>,
    page: &PageRequest,
) -> Result<Vec<Light>, StoreError> {
    let wanted = page.size() as usize + 1;
    let most = if looking.sifts() { CHUNK } else { page.size() + 1 };
    let mut from = looking.from(page)?;
    let mut lights = Vec::new();
    loop {
        let sql = if looking.filter.deleted {
            looking.deleted(&from, most)
        } else {
            looking.living(&from, most)
        };
        let rows = sql.fetch_all(&mut *connection).await?;
        for row in &rows {
            let light = Light {
                id: get(row, "id")?,
                owner: get(row, "owner")?,
                name: get(row, "name")?,
                deleted: if looking.filter.deleted {
                    get(row, "deleted_at")?
                } else {
                    0
                },
            };
            from = From {
                owner: light.owner.clone(),
                name: light.name.clone(),
                deleted: looking.filter.deleted.then(|| (light.deleted, light.id.clone())),
            };
            if looking.matches(&light) {
                lights.push(light);
                if lights.len() == wanted {
                    return Ok(lights);
                }
            }
        }
        if rows.len() < most as usize {
            return Ok(lights);
        }
    }
}

/// How long the texts of policies are, by id.
async fn sizes(
    connection: &mut AnyConnection,
    lights: &[Light],
) -> Result<BTreeMap<String, usize>, StoreError> {
    if lights.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut sql = Sql::new(
        "SELECT p.id, OCTET_LENGTH(v.yaml) + OCTET_LENGTH(p.parsed) AS bytes FROM policies p \
         JOIN policy_versions v ON v.policy_id = p.id AND v.version = p.version WHERE p.id IN ",
    );
    sql.texts(lights.iter().map(|light| light.id.as_str()));
    let rows = sql.fetch_all(connection).await?;
    let size = |row: &AnyRow| Ok((get(row, "id")?, get::<i64>(row, "bytes")?.unsigned_abs() as usize));
    rows.iter().map(size).collect()
}

/// What tables show of policies, by id. `changed` is the newest entry of the policy's history.
async fn summaries(
    connection: &mut AnyConnection,
    lights: &[Light],
) -> Result<BTreeMap<String, PolicySummary>, StoreError> {
    if lights.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = || lights.iter().map(|light| light.id.as_str());
    let mut sql = Sql::new(
        "SELECT p.id, p.owner, p.name, p.version, p.mode, p.lockdown, p.endpoints, p.created_at, p.updated_at, \
         p.updated_by, p.deleted_at, l.at, l.subject FROM policies p LEFT JOIN audit_log l ON l.seq = \
         (SELECT MAX(newest.seq) FROM audit_log newest WHERE newest.policy_id = p.id) WHERE p.id IN ",
    );
    sql.texts(ids());
    let mut all = BTreeMap::new();
    for row in sql.fetch_all(&mut *connection).await? {
        let summary = summary(&row)?;
        all.insert(summary.id.clone(), summary);
    }
    let mut sql = Sql::new(
        "SELECT policy_id, scope, place, scopes FROM (SELECT policy_id, scope, ROW_NUMBER() OVER \
         (PARTITION BY policy_id ORDER BY scope) AS place, COUNT(*) OVER (PARTITION BY policy_id) AS scopes \
         FROM attachments WHERE policy_id IN ",
    );
    sql.texts(ids()).push(") AS held WHERE place <= ").number(SHOWN);
    sql.push(" ORDER BY policy_id, place");
    for row in sql.fetch_all(connection).await? {
        if let Some(summary) = all.get_mut(get::<&str>(&row, "policy_id")?) {
            summary.attached = count(&row, "scopes")?;
            summary.attachments.push(get(&row, "scope")?);
        }
    }
    Ok(all)
}

fn summary(row: &AnyRow) -> Result<PolicySummary, StoreError> {
    let time = |column| get::<i64>(row, column).map(|at| Micros(at).timestamp());
    let (updated_at, updated_by): (_, String) = (time("updated_at")?, get(row, "updated_by")?);
    Ok(PolicySummary {
        id: get(row, "id")?,
        name: get(row, "name")?,
        owner: get(row, "owner")?,
        version: count(row, "version")?,
        mode: mode(get(row, "mode")?)?,
        lockdown: get::<i64>(row, "lockdown")? != 0,
        endpoints: count(row, "endpoints")?,
        attached: 0,
        attachments: Vec::new(),
        created_at: time("created_at")?,
        changed_at: get::<Option<i64>>(row, "at")?.map_or(updated_at, |at| Micros(at).timestamp()),
        changed_by: get::<Option<String>>(row, "subject")?.unwrap_or_else(|| updated_by.clone()),
        updated_at,
        updated_by,
        deleted_at: get::<Option<i64>>(row, "deleted_at")?.map(|at| Micros(at).timestamp()),
    })
}

impl Store {
    /// Policies: the living ones by owner and name, or the deleted ones, the latest first. A page ends early when its
    /// texts come to several megabytes.
    pub async fn policies(
        &self,
        owner: Option<&str>,
        filter: &PolicyFilter,
        page: &PageRequest,
    ) -> Result<Page<Policy>, StoreError> {
        let looking = Looking::new(owner, filter, self.db.backend())?;
        let mut reading = self.reading().await?;
        let lights = look(&mut reading, &looking, page).await?;
        let sizes = sizes(&mut reading, &lights).await?;
        let mut filler = Filler::new(page);
        for light in lights {
            let bytes = sizes.get(&light.id).copied().unwrap_or_default();
            if !filler.offer(light, bytes) {
                break;
            }
        }
        let lights = filler.page(|light| looking.cursor(light));
        let ids: Vec<String> = lights.items.into_iter().map(|light| light.id).collect();
        let mut policies = load(&mut reading, &ids).await?;
        Ok(Page {
            items: ids.iter().filter_map(|id| policies.remove(id)).collect(),
            next: lights.next,
        })
    }

    /// The same list, with what a table shows.
    pub async fn policy_summaries(
        &self,
        owner: Option<&str>,
        filter: &PolicyFilter,
        page: &PageRequest,
    ) -> Result<Page<PolicySummary>, StoreError> {
        let looking = Looking::new(owner, filter, self.db.backend())?;
        let mut reading = self.reading().await?;
        let mut lights = look(&mut reading, &looking, page).await?;
        let more = lights.len() > page.size() as usize;
        lights.truncate(page.size() as usize);
        let next = lights.last().filter(|_| more).map(|last| looking.cursor(last));
        let mut found = summaries(&mut reading, &lights).await?;
        Ok(Page {
            items: lights
                .iter()
                .filter_map(|light| found.remove(&light.id))
                .collect(),
            next,
        })
    }

    /// How many living policies there are.
    pub async fn counters(&self, owner: Option<&str>) -> Result<Counters, StoreError> {
        let mut sql = Sql::new(
            "SELECT p.mode, COUNT(*) AS policies, SUM(CASE WHEN EXISTS (SELECT 1 FROM attachments a \
             WHERE a.policy_id = p.id) THEN 0 ELSE 1 END) AS unattached FROM policies p \
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
