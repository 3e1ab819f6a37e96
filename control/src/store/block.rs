//! The global block list: the deployment's own entries one by one, the program's list and the feed as whole layers.
//!
//! A removed entry stays as a tombstone until no gateway can have missed its removal ([`Store::prune`]). Whatever changes
//! one layer at once is one change of gateways: `changed` of an entry says with which.

mod import;
mod layer;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::record::BlockLayer;
use tidegate_policy::document::blocklist::parse_pattern;

use super::audit::cleaned;
use super::meta::MetaKey;
use super::read::{self, bad_cursor, get, most, number, page, word};
use super::sql::Sql;
use super::{AuditDraft, ChangeKind, Micros, Store, StoreError, Tx};
use crate::model::{Actor, BlockEntryView, Page, PageRequest};

pub use import::BlockImport;
pub use layer::{BlockUpdate, MAX_LAYER};

/// Entries of the deployment.
pub const MAX_ENTRIES: u64 = 10_000;
/// Longest reason, in characters.
const MAX_REASON: usize = 500;
/// Longest text that is searched for, in bytes: no name is longer.
const MAX_SEARCH: usize = 256;
/// Entries that one transaction expires at most.
const SWEEP: usize = 200;

/// Every column of [`read_entry`].
macro_rules! entries {
    ($rest:literal) => {
        concat!(
            "SELECT layer, pattern, id, reason, expires_at, created_at, created_by FROM block_entries ",
            $rest
        )
    };
}

impl Store {
    /// Entries by layer and pattern; with `search` those whose pattern has this text in it.
    pub async fn block_entries(
        &self,
        layer: Option<BlockLayer>,
        request: &PageRequest,
        search: Option<&str>,
    ) -> Result<Page<BlockEntryView>, StoreError> {
        let mut sql = Sql::new(entries!("WHERE removed = 0"));
        if let Some(layer) = layer {
            sql.push(" AND layer = ").text(layer.as_str());
        }
        if let Some(search) = search {
            sql.push(" AND pattern LIKE ")
                .text(&like(search)?)
                .push(" ESCAPE '!'");
        }
        if let Some(after) = &request.after {
            let (layer, pattern) = after.split_once(':').ok_or_else(bad_cursor)?;
            read::storable(after).ok_or_else(bad_cursor)?;
            sql.push(" AND (layer, pattern) > (")
                .text(layer)
                .push(", ")
                .text(pattern)
                .push(")");
        }
        sql.push(" ORDER BY layer, pattern LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.db.read()).await?;
        page(rows, request, read_entry, |entry| {
            format!("{}:{}", entry.layer.as_str(), entry.pattern)
        })
    }

    /// Adds an entry of the deployment: a name, `*.name`, address or range, spelled canonically. It may repeat what
    /// another layer has, which may go.
    pub async fn add_block_entry(
        &self,
        pattern: &str,
        reason: &str,
        expires_at: Option<Timestamp>,
        actor: &Actor,
    ) -> Result<BlockEntryView, StoreError> {
        let entry = parse_pattern(pattern.trim())
            .map_err(|error| StoreError::invalid("pattern", error.to_string()))?;
        let (pattern, reason) = (entry.to_string(), checked_reason(reason)?);
        let (expires, actor) = (expires_at.map(Micros::from), actor.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.add_entry(pattern, reason, expires, &actor).await }))
            .await
    }

    /// Removes an entry of the deployment.
    pub async fn remove_block_entry(&self, id: &str, actor: &Actor) -> Result<(), StoreError> {
        if let Some((layer, _)) = id.split_once(':')
            && let Ok(layer @ (BlockLayer::Builtin | BlockLayer::Feed)) = word("layer", layer)
        {
            let reason = format!(
                "{id} belongs to the {} list; only the deployment's own entries can be removed",
                layer.as_str()
            );
            return Err(StoreError::Conflict { reason });
        }
        read::storable(id).ok_or_else(|| missing(id))?;
        let (id, actor) = (id.to_owned(), actor.clone());
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let sql = entries!("WHERE layer = 'deployment' AND id = $1 AND removed = 0");
                    let row = sqlx::query(sql)
                        .bind(&id)
                        .fetch_optional(&mut *tx.connection())
                        .await?;
                    let entry = read_entry(&row.ok_or_else(|| missing(&id))?)?;
                    tx.bury("block.removed", &[entry], &actor).await
                })
            })
            .await
    }

    /// Removes the deployment's entries whose time is over by `now`; how many there were.
    pub async fn expire_block_entries(&self, now: Timestamp) -> Result<usize, StoreError> {
        let now = Micros::from(now).0;
        let mut all = 0;
        loop {
            let some = self
                .db
                .write(move |tx| Box::pin(async move { tx.expire_entries(now).await }))
                .await?;
            all += some;
            if some < SWEEP {
                return Ok(all);
            }
        }
    }

    /// How many entries each layer has, and when it last changed. Kept with every change: a million are not counted anew.
    pub async fn block_summary(&self) -> Result<BTreeMap<BlockLayer, LayerSummary>, StoreError> {
        let mut layers = BTreeMap::new();
        for layer in BlockLayer::ALL {
            let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
            let entries = number(self.meta(MetaKey::BlockCount(layer)).await?);
            let updated = number(self.meta(MetaKey::BlockUpdated(layer)).await?);
            let summary = LayerSummary {
                entries: entries.unwrap_or_default().unsigned_abs(),
                updated_at: updated.map(|at| Micros(at).timestamp()),
            };
            layers.insert(layer, summary);
        }
        Ok(layers)
    }

    /// How many entries each layer has.
    pub async fn block_count(&self) -> Result<BTreeMap<BlockLayer, u64>, StoreError> {
        let layers = self.block_summary().await?.into_iter();
        Ok(layers.map(|(layer, summary)| (layer, summary.entries)).collect())
    }

    /// How many entries a layer has, counted.
    async fn counted(&self, layer: BlockLayer) -> Result<u64, StoreError> {
        let row = sqlx::query(COUNT)
            .bind(layer.as_str())
            .fetch_one(self.db.read())
            .await?;
        Ok(get::<i64>(&row, "entries")?.unsigned_abs())
    }
}

/// Counts the entries of a layer.
const COUNT: &str = "SELECT COUNT(*) AS entries FROM block_entries WHERE layer = $1 AND removed = 0";

/// A layer as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSummary {
    /// Its entries.
    pub entries: u64,
    /// When any of them last changed; `None` before the first.
    pub updated_at: Option<Timestamp>,
}

impl Tx<'_> {
    /// Notes how many entries a layer has now, and that it changed.
    async fn note_layer(&mut self, layer: BlockLayer, entries: u64) -> Result<(), StoreError> {
        let now = self.now().0.to_string();
        self.set_meta(MetaKey::BlockCount(layer), &entries.to_string())
            .await?;
        self.set_meta(MetaKey::BlockUpdated(layer), &now).await
    }

    /// The same of the deployment's entries, which are few enough to be counted.
    async fn note_own(&mut self) -> Result<(), StoreError> {
        let row = sqlx::query(COUNT)
            .bind(BlockLayer::Deployment.as_str())
            .fetch_one(&mut *self.connection())
            .await?;
        let entries = get::<i64>(&row, "entries")?.unsigned_abs();
        self.note_layer(BlockLayer::Deployment, entries).await
    }

    async fn add_entry(
        &mut self,
        pattern: String,
        reason: String,
        expires: Option<Micros>,
        actor: &Actor,
    ) -> Result<BlockEntryView, StoreError> {
        let now = self.now();
        if expires.is_some_and(|at| at <= now) {
            return Err(StoreError::invalid("expires_at", "it lies in the past"));
        }
        let row = sqlx::query(
            "SELECT COUNT(*) AS entries, COALESCE(SUM(CASE WHEN pattern = $1 AND (expires_at IS NULL OR \
             expires_at > $2) THEN 1 ELSE 0 END), 0) AS same FROM block_entries \
             WHERE layer = 'deployment' AND removed = 0",
        )
        .bind(&pattern)
        .bind(now.0)
        .fetch_one(&mut *self.connection())
        .await?;
        if get::<i64>(&row, "same")? > 0 {
            let reason = format!("{pattern} is on the deployment's list already");
            return Err(StoreError::Conflict { reason });
        }
        if get::<i64>(&row, "entries")?.unsigned_abs() >= MAX_ENTRIES {
            let reason =
                format!("the deployment's list has {MAX_ENTRIES} entries, which is the most; use a feed");
            return Err(StoreError::Conflict { reason });
        }
        let generation = self
            .change(ChangeKind::Block, BlockLayer::Deployment.as_str())
            .await?;
        let entry = BlockEntryView {
            id: new_id("blk"),
            pattern,
            reason,
            layer: BlockLayer::Deployment,
            expires_at: expires.map(Micros::timestamp),
            created_at: now.timestamp(),
            created_by: cleaned(actor).subject,
        };
        sqlx::query(
            "INSERT INTO block_entries (layer, pattern, id, reason, expires_at, created_at, created_by, changed, \
             removed) VALUES ('deployment', $1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (layer, pattern) DO UPDATE \
             SET id = $2, reason = $3, expires_at = $4, created_at = $5, created_by = $6, changed = $7, removed = 0",
        )
        .bind(&entry.pattern)
        .bind(&entry.id)
        .bind(&entry.reason)
        .bind(expires.map(|at| at.0))
        .bind(now.0)
        .bind(&entry.created_by)
        .bind(number(generation))
        .execute(&mut *self.connection())
        .await?;
        self.note_own().await?;
        self.audit_entry("block.added", &entry, actor).await?;
        Ok(entry)
    }

    async fn expire_entries(&mut self, now: i64) -> Result<usize, StoreError> {
        let sql = entries!(
            "WHERE layer = 'deployment' AND removed = 0 AND expires_at IS NOT NULL AND expires_at <= $1 \
             ORDER BY expires_at, pattern LIMIT $2"
        );
        let rows = sqlx::query(sql)
            .bind(now)
            .bind(most(SWEEP))
            .fetch_all(&mut *self.connection())
            .await?;
        let entries: Vec<BlockEntryView> = rows.iter().map(read_entry).collect::<Result<_, _>>()?;
        self.bury("block.expired", &entries, &Actor::system()).await?;
        Ok(entries.len())
    }

    /// Makes tombstones of entries of the deployment, as one change.
    async fn bury(
        &mut self,
        action: &'static str,
        entries: &[BlockEntryView],
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let generation = self
            .change(ChangeKind::Block, BlockLayer::Deployment.as_str())
            .await?;
        for entry in entries {
            sqlx::query(
                "UPDATE block_entries SET removed = 1, changed = $1 WHERE layer = 'deployment' AND pattern = $2",
            )
            .bind(number(generation))
            .bind(&entry.pattern)
            .execute(&mut *self.connection())
            .await?;
            self.audit_entry(action, entry, actor).await?;
        }
        self.note_own().await
    }

    async fn audit_entry(
        &mut self,
        action: &'static str,
        entry: &BlockEntryView,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let detail = json!({
            "pattern": entry.pattern,
            "reason": entry.reason,
            "expires_at": entry.expires_at.map(|at| at.to_string()),
        });
        let draft = AuditDraft {
            action,
            owner: "",
            target: format!("block entry {}", entry.id),
            policy_id: None,
            detail,
        };
        self.audit(draft, actor).await
    }
}

/// Why an entry is there, for people.
fn checked_reason(reason: &str) -> Result<String, StoreError> {
    let reason = reason.trim().to_owned();
    let length = reason.chars().count();
    if length == 0 || length > MAX_REASON || reason.chars().any(char::is_control) {
        let why = format!("say why, in {MAX_REASON} characters at most and without control characters");
        return Err(StoreError::invalid("reason", why));
    }
    Ok(reason)
}

fn missing(id: &str) -> StoreError {
    StoreError::not_found(format!("block entry {id:?}"))
}

/// For `LIKE … ESCAPE '!'`: patterns are stored in lower case, and nothing of the text is a wildcard.
fn like(search: &str) -> Result<String, StoreError> {
    let search = search.trim();
    if search.len() > MAX_SEARCH || read::storable(search).is_none() {
        let reason = format!("a text of {MAX_SEARCH} bytes at most");
        return Err(StoreError::invalid("search", reason));
    }
    let mut like = String::with_capacity(search.len() + 2);
    like.push('%');
    for c in search.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            like.push('!');
        }
        like.push(c);
    }
    like.push('%');
    Ok(like)
}

fn read_entry(row: &AnyRow) -> Result<BlockEntryView, StoreError> {
    let layer: BlockLayer = word("a layer", get(row, "layer")?)?;
    let pattern: String = get(row, "pattern")?;
    let id: String = get(row, "id")?;
    Ok(BlockEntryView {
        // A million entries of a feed need no ids of their own.
        id: if id.is_empty() {
            format!("{}:{pattern}", layer.as_str())
        } else {
            id
        },
        pattern,
        reason: get(row, "reason")?,
        layer,
        expires_at: get::<Option<i64>>(row, "expires_at")?.map(|at| Micros(at).timestamp()),
        created_at: Micros(get(row, "created_at")?).timestamp(),
        created_by: get(row, "created_by")?,
    })
}
