//! Forgetting: what nobody needs to hear of or look at any more.
//!
//! Some rows at a time, each lot a transaction of its own: registrations wait for the same line of writers.

use std::time::Duration;

use super::meta::MetaKey;
use super::read::{generation, get};
use super::{ChangeKind, Store, StoreError, Tx};

/// Rows that one transaction removes at most.
const LOT: i64 = 2_000;

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Changes: a gateway that was away for longer begins with a snapshot.
    pub changes: Duration,
    /// Jobs after their end, tokens after theirs, gateways that did not come again. Sessions after theirs, but those at
    /// most a day: each login makes one.
    pub jobs: Duration,
    /// Workflows after their last job: as long as sums by day.
    pub seen: Duration,
}

/// How long a session is kept after its end, at most.
const SESSIONS: Duration = Duration::from_hours(24);

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            changes: 7 * DAY,
            jobs: 90 * DAY,
            seen: 400 * DAY,
        }
    }
}

/// How long jobs are kept; everything else as ever.
impl From<Duration> for Retention {
    fn from(jobs: Duration) -> Self {
        Self {
            jobs,
            ..Self::default()
        }
    }
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Changes.
    pub changes: u64,
    /// Jobs.
    pub jobs: u64,
    /// Tokens.
    pub tokens: u64,
    /// Sessions.
    pub sessions: u64,
    /// Gateways.
    pub gateways: u64,
    /// Proofs that could not be used any more anyway.
    pub proofs: u64,
    /// Removed block entries.
    pub block_entries: u64,
    /// Workflows.
    pub seen: u64,
}

/// What a lot is of.
#[derive(Clone, Copy)]
enum Kind {
    Changes,
    Jobs,
    Tokens,
    Sessions,
    Gateways,
    Proofs,
    Tombstones,
    Seen,
}

impl Store {
    /// Forgets what is older than it has to be kept. The newest change always stays: it is where the numbers go on.
    pub async fn prune(&self, retention: impl Into<Retention>) -> Result<Pruned, StoreError> {
        let retention = retention.into();
        Ok(Pruned {
            changes: self.lots(Kind::Changes, retention.changes).await?,
            jobs: self.lots(Kind::Jobs, retention.jobs).await?,
            tokens: self.lots(Kind::Tokens, retention.jobs).await?,
            sessions: self.lots(Kind::Sessions, retention.jobs.min(SESSIONS)).await?,
            gateways: self.lots(Kind::Gateways, retention.jobs).await?,
            proofs: self.lots(Kind::Proofs, Duration::ZERO).await?,
            // After the changes: tombstones go with them.
            block_entries: self.lots(Kind::Tombstones, Duration::ZERO).await?,
            seen: self.lots(Kind::Seen, retention.seen).await?,
        })
    }

    async fn lots(&self, kind: Kind, kept: Duration) -> Result<u64, StoreError> {
        let kept = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
        let mut all = 0;
        loop {
            let some = self
                .db
                .write(move |tx| {
                    Box::pin(async move {
                        let before = tx.now().0.saturating_sub(kept);
                        match kind {
                            Kind::Changes => tx.prune_changes(before).await,
                            Kind::Jobs => tx.prune_jobs(before).await,
                            Kind::Tokens => tx.prune_tokens(before).await,
                            Kind::Sessions => tx.prune_sessions(before).await,
                            Kind::Gateways => tx.prune_gateways(before).await,
                            Kind::Proofs => tx.prune_proofs(before).await,
                            Kind::Tombstones => tx.prune_tombstones().await,
                            Kind::Seen => tx.prune_seen(before, LOT).await,
                        }
                    })
                })
                .await?;
            all += some;
            if some < LOT.unsigned_abs() {
                return Ok(all);
            }
        }
    }
}

impl Tx<'_> {
    async fn prune_changes(&mut self, before: i64) -> Result<u64, StoreError> {
        // Numbers and times grow together, so what goes is a beginning of the log.
        let row = sqlx::query(
            "SELECT MAX(generation) AS upto FROM (SELECT generation FROM changes WHERE at < $1 AND generation < \
             (SELECT MAX(generation) FROM changes) ORDER BY generation LIMIT $2) AS old",
        )
        .bind(before)
        .bind(LOT)
        .fetch_one(&mut *self.connection())
        .await?;
        let Some(upto) = get::<Option<i64>>(&row, "upto")? else {
            return Ok(0);
        };
        self.set_meta(MetaKey::Pruned, &generation(upto).to_string())
            .await?;
        self.remove("DELETE FROM changes WHERE generation <= $1", upto)
            .await
    }

    async fn prune_jobs(&mut self, before: i64) -> Result<u64, StoreError> {
        self.remove_lot(
            "DELETE FROM jobs WHERE id IN \
             (SELECT id FROM jobs WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT $2)",
            before,
        )
        .await
    }

    /// Gateways still hold those that have expired, if only to know when they did.
    async fn prune_tokens(&mut self, before: i64) -> Result<u64, StoreError> {
        let rows = sqlx::query(
            "SELECT id, revoked_at FROM tokens WHERE kind = 'token' AND (revoked_at < $1 OR expires_at < $1) LIMIT $2",
        )
        .bind(before)
        .bind(LOT)
        .fetch_all(&mut *self.connection())
        .await?;
        for row in &rows {
            let id: &str = get(row, "id")?;
            let sql = "DELETE FROM tokens WHERE id = $1";
            sqlx::query(sql).bind(id).execute(&mut *self.connection()).await?;
            if get::<Option<i64>>(row, "revoked_at")?.is_none() {
                self.change(ChangeKind::Token, id).await?;
            }
        }
        Ok(rows.len() as u64)
    }

    /// No gateway ever heard of them.
    async fn prune_sessions(&mut self, before: i64) -> Result<u64, StoreError> {
        self.remove_lot(
            "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE kind = 'session' AND \
             (revoked_at < $1 OR expires_at < $1) LIMIT $2)",
            before,
        )
        .await
    }

    async fn prune_gateways(&mut self, before: i64) -> Result<u64, StoreError> {
        self.remove_lot(
            "DELETE FROM gateways WHERE name IN (SELECT name FROM gateways WHERE last_seen_at < $1 LIMIT $2)",
            before,
        )
        .await
    }

    async fn prune_proofs(&mut self, before: i64) -> Result<u64, StoreError> {
        self.remove_lot(
            "DELETE FROM proofs WHERE (issuer, key) IN \
             (SELECT issuer, key FROM proofs WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)",
            before,
        )
        .await
    }

    async fn prune_tombstones(&mut self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT value FROM meta WHERE key = 'pruned'")
            .fetch_optional(&mut *self.connection())
            .await?;
        let Some(row) = row else { return Ok(0) };
        let text: &str = get(&row, "value")?;
        let upto = text
            .parse()
            .map_err(|_| StoreError::Unreadable(format!("pruned is {text:?}")))?;
        self.remove_lot(
            "DELETE FROM block_entries WHERE (layer, pattern) IN \
             (SELECT layer, pattern FROM block_entries WHERE removed = 1 AND changed <= $1 LIMIT $2)",
            upto,
        )
        .await
    }

    async fn remove(&mut self, sql: &'static str, bound: i64) -> Result<u64, StoreError> {
        let removed = sqlx::query(sql).bind(bound).execute(self.connection()).await?;
        Ok(removed.rows_affected())
    }

    async fn remove_lot(&mut self, sql: &'static str, bound: i64) -> Result<u64, StoreError> {
        let removed = sqlx::query(sql)
            .bind(bound)
            .bind(LOT)
            .execute(self.connection())
            .await?;
        Ok(removed.rows_affected())
    }
}
