//! Whole layers of the block list: up to two million names, of which few change at a time.
//!
//! What differs is found outside of the line of writers, by merging the sorted lists, so that registrations do not wait
//! for it; the line writes the difference only. A layer has one writer, the task that fetches it; were there two, the
//! later would win entry by entry.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::json;
use tidegate_control_wire::record::BlockLayer;
use tidegate_policy::document::blocklist::parse_pattern;
use tidegate_policy::effective::Generation;

use super::MAX_REASON;
use crate::model::Actor;
use crate::store::meta::MetaKey;
use crate::store::read::{get, number};
use crate::store::sql::Sql;
use crate::store::{AuditDraft, ChangeKind, Store, StoreError, Tx};

/// Entries of one layer.
pub const MAX_LAYER: usize = 2_000_000;
/// Rows of one statement.
const CHUNK: usize = 1_000;
/// Rows that are read at a time.
const PAGE: i64 = 20_000;

/// What becomes of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockUpdate {
    /// `add` is the whole layer: what is not in it goes, and `remove` says nothing.
    pub full: bool,
    /// Patterns, each with its reason (which may be empty; a long one is cut).
    pub add: Vec<(String, String)>,
    /// Patterns. One that is in `add` too is added.
    pub remove: Vec<String>,
}

/// What has to be written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Diff {
    add: Vec<(String, String)>,
    remove: Vec<String>,
    /// Of what is added: how many replace the reason of one that is there.
    replaced: u64,
}

impl Store {
    /// Brings the program's layer or the feed's up to date, and sets `marks` in the same transaction. Gives back how many
    /// entries were added, changed or removed; gateways hear of it as one change.
    ///
    /// A pattern that is none is [`StoreError::Invalid`], and nothing is written: who read the list leaves such lines out.
    pub async fn apply_block_layer(
        &self,
        layer: BlockLayer,
        update: BlockUpdate,
        marks: &[(MetaKey, String)],
    ) -> Result<usize, StoreError> {
        if layer == BlockLayer::Deployment {
            return Err(StoreError::invalid(
                "layer",
                "the deployment's entries come one by one",
            ));
        }
        let full = update.full;
        bounded(update.add.len().max(update.remove.len()))?;
        let (add, remove) = canonical(update)?;
        let (diff, entries) = if full {
            let entries = add.len();
            bounded(entries)?;
            (self.diff_full(layer, add).await?, entries)
        } else {
            let diff = self.diff_delta(layer, add, remove).await?;
            let held = self.counted(layer).await?.saturating_sub(diff.replaced) as usize;
            let entries = (held + diff.add.len()).saturating_sub(diff.remove.len());
            bounded(entries)?;
            (diff, entries)
        };
        let changed = diff.add.len() + diff.remove.len();
        if changed == 0 && marks.is_empty() {
            return Ok(0);
        }
        let marks = marks.to_vec();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    for (key, value) in &marks {
                        tx.set_meta(*key, value).await?;
                    }
                    if changed > 0 {
                        tx.write_layer(layer, &diff).await?;
                        tx.note_layer(layer, entries as u64).await?;
                    }
                    Ok(changed)
                })
            })
            .await
    }

    /// The difference to everything that is stored, read piece by piece in the order of its patterns.
    async fn diff_full(&self, layer: BlockLayer, add: BTreeMap<String, String>) -> Result<Diff, StoreError> {
        let mut merge = Merge::new(add);
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT pattern, reason FROM block_entries WHERE layer = $1 AND removed = 0 AND pattern > $2 \
                 ORDER BY pattern LIMIT $3",
            )
            .bind(layer.as_str())
            .bind(&after)
            .bind(PAGE)
            .fetch_all(self.db.read())
            .await?;
            let Some(last) = rows.last() else { break };
            after = get(last, "pattern")?;
            for row in &rows {
                merge.stored(get(row, "pattern")?, get(row, "reason")?);
            }
        }
        Ok(merge.finish())
    }

    /// The difference to those entries that are named.
    async fn diff_delta(
        &self,
        layer: BlockLayer,
        mut add: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<Diff, StoreError> {
        let mut diff = Diff::default();
        let named: Vec<&str> = add.keys().chain(&remove).map(String::as_str).collect();
        let mut known = Vec::new();
        for some in named.chunks(CHUNK) {
            let mut sql =
                Sql::new("SELECT pattern, reason FROM block_entries WHERE removed = 0 AND layer = ").once();
            sql.text(layer.as_str())
                .push(" AND pattern IN ")
                .texts(some.iter().copied());
            for row in sql.fetch_all(self.db.read()).await? {
                known.push((get::<String>(&row, "pattern")?, get::<String>(&row, "reason")?));
            }
        }
        for (pattern, reason) in known {
            match add.get(&pattern) {
                Some(wanted) if *wanted == reason => drop(add.remove(&pattern)),
                Some(_) => diff.replaced += 1,
                None => diff.remove.push(pattern),
            }
        }
        diff.add.extend(add);
        Ok(diff)
    }
}

/// Canonical patterns, each once; a reason that is too long is cut.
fn canonical(update: BlockUpdate) -> Result<(BTreeMap<String, String>, Vec<String>), StoreError> {
    let read = |pattern: &str| match parse_pattern(pattern.trim()) {
        Ok(entry) => Ok(entry.to_string()),
        Err(error) => Err(StoreError::invalid("pattern", error.to_string())),
    };
    let mut add = BTreeMap::new();
    for (pattern, reason) in update.add {
        let printable = reason.trim().chars().filter(|c| !c.is_control());
        add.insert(read(&pattern)?, printable.take(MAX_REASON).collect());
    }
    let mut remove: Vec<String> = update
        .remove
        .iter()
        .map(|one| read(one))
        .collect::<Result<_, _>>()?;
    remove.retain(|pattern| !add.contains_key(pattern));
    remove.sort_unstable();
    remove.dedup();
    Ok((add, remove))
}

fn bounded(entries: usize) -> Result<(), StoreError> {
    if entries > MAX_LAYER {
        let reason = format!("{entries} entries are too many; a list has {MAX_LAYER} at most");
        return Err(StoreError::invalid("entries", reason));
    }
    Ok(())
}

/// Compares a sorted list with what is stored, given in the same order (by bytes).
struct Merge {
    wanted: Peekable<IntoIter<(String, String)>>,
    diff: Diff,
}

impl Merge {
    fn new(wanted: BTreeMap<String, String>) -> Self {
        let wanted: Vec<_> = wanted.into_iter().collect();
        Self {
            wanted: wanted.into_iter().peekable(),
            diff: Diff::default(),
        }
    }

    fn stored(&mut self, pattern: &str, reason: &str) {
        while let Some(fresh) = self.wanted.next_if(|(wanted, _)| wanted.as_str() < pattern) {
            self.diff.add.push(fresh);
        }
        let order = self.wanted.peek().map(|(wanted, _)| wanted.as_str().cmp(pattern));
        if order == Some(Ordering::Equal) {
            self.diff
                .add
                .extend(self.wanted.next().filter(|(_, wanted)| wanted != reason));
        } else {
            self.diff.remove.push(pattern.to_owned());
        }
    }

    fn finish(mut self) -> Diff {
        self.diff.add.extend(self.wanted);
        self.diff
    }
}

impl Tx<'_> {
    async fn write_layer(&mut self, layer: BlockLayer, diff: &Diff) -> Result<(), StoreError> {
        let generation = self.change(ChangeKind::Block, layer.as_str()).await?;
        for some in diff.add.chunks(CHUNK) {
            self.add_patterns(layer, some, generation).await?;
        }
        for some in diff.remove.chunks(CHUNK) {
            let mut sql = kept(some, "UPDATE block_entries SET removed = 1, changed = ");
            sql.number(number(generation))
                .push(" WHERE layer = ")
                .text(layer.as_str());
            sql.push(" AND pattern IN ")
                .texts(some.iter().map(String::as_str));
            sql.execute(self.connection()).await?;
        }
        let draft = AuditDraft {
            action: "block.updated",
            owner: "",
            target: format!("block list {}", layer.as_str()),
            policy_id: None,
            detail: json!({"written": diff.add.len(), "removed": diff.remove.len()}),
        };
        self.audit(draft, &Actor::system()).await
    }

    async fn add_patterns(
        &mut self,
        layer: BlockLayer,
        some: &[(String, String)],
        generation: Generation,
    ) -> Result<(), StoreError> {
        let now = self.now().0;
        let mut sql = kept(
            some,
            "INSERT INTO block_entries (layer, pattern, reason, id, created_by, created_at, changed, removed) SELECT ",
        );
        // Both databases call the columns of a list of values so.
        sql.text(layer.as_str())
            .push(", column1, column2, '', '', ")
            .number(now);
        sql.push(", ")
            .number(number(generation))
            .push(", 0 FROM (VALUES ");
        for (at, (pattern, reason)) in some.iter().enumerate() {
            sql.push(if at == 0 { "(" } else { ", (" })
                .text(pattern)
                .push(", ")
                .text(reason)
                .push(")");
        }
        sql.push(
            ") AS listed WHERE true ON CONFLICT (layer, pattern) DO UPDATE SET reason = excluded.reason, \
             created_at = excluded.created_at, changed = excluded.changed, removed = 0",
        );
        sql.execute(self.connection()).await?;
        Ok(())
    }
}

/// A statement over a chunk; that over a whole one is worth to be kept prepared.
fn kept<T>(some: &[T], text: &'static str) -> Sql {
    let sql = Sql::new(text);
    if some.len() == CHUNK { sql } else { sql.once() }
}
