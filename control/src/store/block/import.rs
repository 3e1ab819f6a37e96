//! Whole lists into the deployment's own entries: all of it in one transaction, or nothing.
//!
//! What is there already stays as it is, with its own reason and end. One entry in the audit log tells of the list, so
//! that ten thousand names are not ten thousand entries.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::record::BlockLayer;
use tidegate_policy::document::blocklist::parse_pattern;
use utoipa::ToSchema;

use super::{MAX_ENTRIES, checked_reason};
use crate::model::Actor;
use crate::store::read::{get, number};
use crate::store::{AuditDraft, ChangeKind, Micros, Store, StoreError, Tx};

/// Patterns that the audit log names of one list.
const NAMED: usize = 100;

/// What came of importing a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockImport {
    /// Entries that were added.
    pub added: u64,
    /// Patterns that were on the deployment's list already, or twice in this one.
    pub known: u64,
}

/// A list on its way.
struct Wanted {
    patterns: BTreeSet<String>,
    reason: String,
    expires: Option<Micros>,
    /// Patterns as they came, repetitions included.
    listed: usize,
}

impl Store {
    /// Adds a list to the deployment's entries, each with this reason. A pattern that is none, or more than
    /// [`MAX_ENTRIES`] in all, refuses the whole list.
    pub async fn import_block_entries(
        &self,
        patterns: Vec<String>,
        reason: &str,
        expires_at: Option<Timestamp>,
        actor: &Actor,
    ) -> Result<BlockImport, StoreError> {
        if patterns.len() as u64 > MAX_ENTRIES {
            return Err(too_many(patterns.len() as u64));
        }
        let read = |pattern: &String| match parse_pattern(pattern.trim()) {
            Ok(entry) => Ok(entry.to_string()),
            Err(error) => Err(StoreError::invalid("pattern", error.to_string())),
        };
        let wanted = Wanted {
            patterns: patterns.iter().map(read).collect::<Result<_, _>>()?,
            reason: checked_reason(reason)?,
            expires: expires_at.map(Micros::from),
            listed: patterns.len(),
        };
        let actor = actor.clone();
        self.db
            .write(move |tx| Box::pin(async move { tx.import_entries(wanted, &actor).await }))
            .await
    }
}

fn too_many(entries: u64) -> StoreError {
    let reason = format!(
        "{entries} entries are too many; the deployment's list has {MAX_ENTRIES} at most, a feed more"
    );
    StoreError::invalid("list", reason)
}

impl Tx<'_> {
    async fn import_entries(&mut self, mut wanted: Wanted, actor: &Actor) -> Result<BlockImport, StoreError> {
        let now = self.now();
        if wanted.expires.is_some_and(|at| at <= now) {
            return Err(StoreError::invalid("expires_at", "it lies in the past"));
        }
        let rows = sqlx::query(
            "SELECT pattern, expires_at FROM block_entries WHERE layer = 'deployment' AND removed = 0",
        )
        .fetch_all(&mut *self.connection())
        .await?;
        let mut standing = 0;
        for row in &rows {
            // One whose time is over is about to go: the new one takes its place.
            if get::<Option<i64>>(row, "expires_at")?.is_none_or(|at| at > now.0) {
                standing += 1;
                wanted.patterns.remove(get::<&str>(row, "pattern")?);
            }
        }
        let added = wanted.patterns.len() as u64;
        if standing + added > MAX_ENTRIES {
            return Err(too_many(standing + added));
        }
        if added > 0 {
            self.write_entries(&wanted, actor).await?;
        }
        Ok(BlockImport {
            added,
            known: (wanted.listed as u64).saturating_sub(added),
        })
    }

    async fn write_entries(&mut self, wanted: &Wanted, actor: &Actor) -> Result<(), StoreError> {
        let generation = self
            .change(ChangeKind::Block, BlockLayer::Deployment.as_str())
            .await?;
        let now = self.now();
        for pattern in &wanted.patterns {
            sqlx::query(
                "INSERT INTO block_entries (layer, pattern, id, reason, expires_at, created_at, created_by, changed, \
                 removed) VALUES ('deployment', $1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (layer, pattern) DO UPDATE \
                 SET id = $2, reason = $3, expires_at = $4, created_at = $5, created_by = $6, changed = $7, removed = 0",
            )
            .bind(pattern)
            .bind(new_id("blk"))
            .bind(&wanted.reason)
            .bind(wanted.expires.map(|at| at.0))
            .bind(now.0)
            .bind(&actor.subject)
            .bind(number(generation))
            .execute(&mut *self.connection())
            .await?;
        }
        self.note_own().await?;
        let named: Vec<&String> = wanted.patterns.iter().take(NAMED).collect();
        let detail = json!({
            "added": wanted.patterns.len(),
            "patterns": named,
            "reason": wanted.reason,
            "expires_at": wanted.expires.map(|at| at.timestamp().to_string()),
        });
        let draft = AuditDraft {
            action: "block.imported",
            owner: "",
            target: format!("block list {}", BlockLayer::Deployment.as_str()),
            policy_id: None,
            detail,
        };
        self.audit(draft, actor).await
    }
}
