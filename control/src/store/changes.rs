//! What changed for gateways since a position: the log says what to look at again, the tables say what it became.
//!
//! Owns the reading of `changes`. A key is a policy's or token's or lease's id, a set's `owner/name`, a scope, an issuer's
//! URL, a layer of the block list. Several changes of one thing are one, its state now; so a look is complete only when
//! it has no further page, and only then is it to be put in force. Every page sees one state of the store.

use compact_str::CompactString;
use hashbrown::HashMap;
use sqlx::AnyConnection;
use tidegate_control_wire::record::Change;
use tidegate_policy::effective::Generation;

use super::read::{generation, get, most, number};
use super::records;
use super::{ChangeKind, Store, StoreError};

/// Rows of the log in one page at most.
pub const MAX_PAGE: u32 = 5_000;
/// Documents in one page, in bytes; the one that passes the bound is still in it.
const MAX_TEXT: usize = 8 << 20;
/// Entries of the block list that are told as a difference. Beyond it (a feed was loaded) a snapshot is the better
/// way, because it is read piece by piece.
pub const MAX_BLOCK_DELTA: usize = 100_000;

/// What happened since a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// Changes, perhaps none.
    Page(ChangesPage),
    /// The position is too old or unknown, or too much changed: a snapshot tells it all.
    TooOld,
}

/// Some of what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesPage {
    /// What became what, in the order in which it last changed.
    pub changes: Vec<Change>,
    /// Position after them.
    pub upto: Generation,
    /// There are more pages. What was read so far may be of different moments; with the last page it is of one.
    pub more: bool,
}

/// A row of the log.
struct Entry {
    generation: Generation,
    kind: ChangeKind,
    key: String,
}

impl Store {
    /// What changed after `held` for gateways of `group`, at most `limit` changes (and [`MAX_PAGE`]).
    pub async fn changes_since(
        &self,
        held: Generation,
        group: &str,
        limit: u32,
    ) -> Result<Since, StoreError> {
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let mut tx = self.reading().await?;
        let Some(newest) = newest_after(&mut tx, held).await? else {
            return Ok(Since::TooOld);
        };
        let mut log = Log::read(&mut tx, held, group, limit).await?;
        let states = log.states(&mut tx).await?;
        let (upto, more) = (log.cut.unwrap_or(newest), log.cut.is_some());
        let changes = log.changes(&mut tx, (held, upto), states).await?;
        tx.commit().await?;
        Ok(Since::Page(ChangesPage { changes, upto, more }))
    }
}

impl Store {
    /// Whom what changed after `held` concerns, and which is the newest change of each: the empty group is everybody.
    pub(crate) async fn changed_groups(
        &self,
        held: Generation,
    ) -> Result<Vec<(CompactString, Generation)>, StoreError> {
        // By the log's own order, a page at a time: grouped by the database, the whole log would be read.
        let sql =
            "SELECT generation, group_name FROM changes WHERE generation > $1 ORDER BY generation LIMIT $2";
        let (mut held, mut newest) = (held, HashMap::new());
        loop {
            let page = sqlx::query(sql).bind(number(held)).bind(i64::from(MAX_PAGE));
            let rows = page.fetch_all(self.db.read()).await?;
            for row in &rows {
                held = generation(get(row, "generation")?);
                newest.insert(CompactString::from(get::<&str>(row, "group_name")?), held);
            }
            if rows.len() < MAX_PAGE as usize {
                return Ok(newest.into_iter().collect());
            }
        }
    }

    /// The newest change that only the gateways of this group know.
    pub(crate) async fn newest_of(&self, group: &str) -> Result<Generation, StoreError> {
        let sql = "SELECT COALESCE(MAX(generation), 0) AS newest FROM changes WHERE group_name = $1";
        let row = sqlx::query(sql).bind(group).fetch_one(self.db.read()).await?;
        Ok(generation(get(&row, "newest")?))
    }
}

/// The states that were looked up one by one.
type States = HashMap<(ChangeKind, String), Change>;

/// The newest generation; `None` when what happened after `held` is not known, or too much.
async fn newest_after(
    connection: &mut AnyConnection,
    held: Generation,
) -> Result<Option<Generation>, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COALESCE(MAX(generation), 0) FROM changes) AS newest, \
         (SELECT value FROM meta WHERE key = 'pruned') AS pruned, \
         (SELECT COUNT(*) FROM (SELECT 1 AS one FROM block_entries WHERE changed > $1 ORDER BY changed LIMIT $2) \
         AS listed) AS listed",
    )
    .bind(number(held))
    .bind(most(MAX_BLOCK_DELTA + 1))
    .fetch_one(connection)
    .await?;
    let newest = generation(get(&row, "newest")?);
    let pruned: u64 = match get::<Option<String>>(&row, "pruned")? {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| StoreError::Unreadable(format!("pruned is {text:?}")))?,
    };
    let known = held.0 >= pruned && held <= newest && get::<i64>(&row, "listed")? <= most(MAX_BLOCK_DELTA);
    Ok(known.then_some(newest))
}

/// Rows of the log that concern every gateway, or one group.
struct Log {
    entries: Vec<Entry>,
    /// Where it was cut off; absent when there is nothing behind.
    cut: Option<Generation>,
}

impl Log {
    async fn read(
        connection: &mut AnyConnection,
        held: Generation,
        group: &str,
        limit: usize,
    ) -> Result<Self, StoreError> {
        // Two ranges of one index, merged: other groups' leases are never read.
        let sql = "SELECT generation, kind, key FROM changes WHERE group_name = $1 AND generation > $2 \
                   ORDER BY generation LIMIT $3";
        let mut rows = Vec::new();
        let groups = if group.is_empty() {
            &[""][..]
        } else {
            &["", group][..]
        };
        for group in groups {
            let query = sqlx::query(sql)
                .bind(*group)
                .bind(number(held))
                .bind(most(limit + 1));
            for row in query.fetch_all(&mut *connection).await? {
                rows.push((generation(get(&row, "generation")?), row));
            }
        }
        rows.sort_unstable_by_key(|(generation, _)| *generation);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let cut = rows.last().filter(|_| more).map(|(generation, _)| *generation);
        let mut entries = Vec::with_capacity(rows.len());
        for (generation, row) in rows {
            // A newer program's kinds concern newer gateways; they get them from its control plane.
            if let Some(kind) = ChangeKind::parse(get(&row, "kind")?) {
                let key = get(&row, "key")?;
                entries.push(Entry {
                    generation,
                    kind,
                    key,
                });
            }
        }
        Ok(Self { entries, cut })
    }

    /// What the things of the log are now, but for leases and block entries, which are read together. Cuts the log off
    /// where their texts become too many.
    async fn states(&mut self, connection: &mut AnyConnection) -> Result<States, StoreError> {
        let mut states = States::new();
        let mut bytes = 0;
        for at in 0..self.entries.len() {
            if bytes > MAX_TEXT {
                self.entries.truncate(at);
                self.cut = self.entries.last().map(|last| last.generation);
                break;
            }
            let Entry { kind, key, .. } = &self.entries[at];
            let name = (*kind, key.clone());
            if states.contains_key(&name) {
                continue;
            }
            if let Some(change) = state(connection, *kind, key).await? {
                bytes += records::text_bytes(&change);
                states.insert(name, change);
            }
        }
        Ok(states)
    }

    /// Each thing once, where it last changed between `held` and `upto`.
    async fn changes(
        self,
        connection: &mut AnyConnection,
        (held, upto): (Generation, Generation),
        mut states: States,
    ) -> Result<Vec<Change>, StoreError> {
        let span = (number(held), number(upto));
        let entries = last_of_each(self.entries);
        let ids = entries.iter().filter(|one| one.kind == ChangeKind::Lease);
        let ids: Vec<&str> = ids.map(|one| one.key.as_str()).collect();
        let mut leases = records::leases(connection, &ids).await?;
        let mut blocks = if entries.iter().any(|one| one.kind == ChangeKind::Block) {
            records::blocks_between(connection, span).await?
        } else {
            HashMap::new()
        };
        let mut changes = Vec::new();
        for entry in entries {
            match entry.kind {
                ChangeKind::Block => {
                    changes.extend(blocks.remove(&entry.key).unwrap_or_default());
                }
                ChangeKind::Lease => {
                    let gone = || records::lease_gone(CompactString::from(&entry.key));
                    changes.push(leases.remove(entry.key.as_str()).unwrap_or_else(gone));
                }
                ChangeKind::Policy
                | ChangeKind::Set
                | ChangeKind::Attachment
                | ChangeKind::Token
                | ChangeKind::Issuer => changes.extend(states.remove(&(entry.kind, entry.key))),
            }
        }
        Ok(changes)
    }
}

fn last_of_each(entries: Vec<Entry>) -> Vec<Entry> {
    let last: HashMap<(ChangeKind, String), Generation> = entries
        .iter()
        .map(|one| ((one.kind, one.key.clone()), one.generation))
        .collect();
    let mut entries = entries;
    entries.retain(|one| last.get(&(one.kind, one.key.clone())) == Some(&one.generation));
    entries
}

async fn state(
    connection: &mut AnyConnection,
    kind: ChangeKind,
    key: &str,
) -> Result<Option<Change>, StoreError> {
    let change = match kind {
        ChangeKind::Policy => records::policy(connection, key).await?,
        ChangeKind::Set => records::set(connection, key).await?,
        ChangeKind::Attachment => records::attachment(connection, key).await?,
        ChangeKind::Token => records::token(connection, key).await?,
        ChangeKind::Issuer => records::issuer(connection, key).await?,
        ChangeKind::Block | ChangeKind::Lease => return Ok(None),
    };
    Ok(Some(change))
}
