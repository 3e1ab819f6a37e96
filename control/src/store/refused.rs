//! Refusals found at once: their ids in a column of their own, which permits leave empty and its indexes leave out.
//!
//! Owns the filling in for events that were stored before there was that column: in lots, beside everything else, from
//! the newest backwards. Until it is done ([`Store::refusals_are_indexed`]) those events are looked for window by window,
//! as permits are. What an older control plane stores beside this one while it is being replaced is filled in with each
//! sweep, and no sums are of it: they are complete since then.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::db::Backend;
use super::read::get;
use super::{Store, StoreError, Tx};

/// Rows that one transaction fills in at most.
const LOT: i64 = 2_000;
/// Between two lots: batches wait in the same line.
const PAUSE: Duration = Duration::from_millis(20);
/// The mark that says how far it is: the last event that may lack its id.
const UNFILLED: &str = "refused-unfilled";

impl Store {
    /// Whether every refusal stands in the indexes of refusals.
    pub(super) async fn refusals_are_indexed(&self) -> Result<bool, StoreError> {
        if self.indexed.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let indexed = self.event_mark(UNFILLED).await? == 0;
        // It never becomes untrue.
        self.indexed.store(indexed, Ordering::Relaxed);
        Ok(indexed)
    }

    /// Fills in what was stored before.
    pub(super) async fn index_refusals(&self) -> Result<(), StoreError> {
        while !self.refusals_are_indexed().await? {
            self.events
                .write_rows(LOT.unsigned_abs() as usize, |tx| {
                    Box::pin(async move { tx.index_lot().await })
                })
                .await?;
            tokio::time::sleep(PAUSE).await;
        }
        while self.lacks_ids().await? {
            self.events
                .write_rows(LOT.unsigned_abs() as usize, |tx| {
                    Box::pin(async move { tx.index_strays().await })
                })
                .await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Whether another program stored events without ids since there are any. An SQLite file is of one process.
    async fn lacks_ids(&self) -> Result<bool, StoreError> {
        if self.events.backend() == Backend::Sqlite {
            return Ok(false);
        }
        let stray = sqlx::query("SELECT 1 FROM events WHERE refused_id IS NULL LIMIT 1")
            .fetch_optional(self.events.read())
            .await?;
        Ok(stray.is_some())
    }

    /// A single number of this half; 0 when nobody set it.
    pub(super) async fn event_mark(&self, name: &'static str) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT value FROM event_marks WHERE name = $1")
            .bind(name)
            .fetch_optional(self.events.read())
            .await?;
        row.map_or(Ok(0), |row| get(&row, "value"))
    }
}

impl Tx<'_> {
    /// Fills a lot in, and goes on with the mark. Each event has one verdict and one id, which no text of it can feign:
    /// quotes in texts are escaped.
    async fn index_lot(&mut self) -> Result<(), StoreError> {
        let row = sqlx::query(
            "SELECT COALESCE(MIN(seq), 0) AS first, COALESCE(MAX(seq), 0) AS last FROM \
             (SELECT seq FROM events WHERE seq <= (SELECT value FROM event_marks WHERE name = $1) \
             ORDER BY seq DESC LIMIT $2) AS lot",
        )
        .bind(UNFILLED)
        .bind(LOT)
        .fetch_one(self.connection())
        .await?;
        let (first, last): (i64, i64) = (get(&row, "first")?, get(&row, "last")?);
        let sql = match self.backend() {
            Backend::Sqlite => {
                "UPDATE events SET refused_id = json_extract(body, '$.id') WHERE seq >= $1 AND seq <= $2 AND \
                 refused_id = '' AND replace(body, '\"verdict\":\"permit\"', '') = body"
            }
            Backend::Postgres => {
                "UPDATE events SET refused_id = CAST(body AS json) ->> 'id' WHERE seq >= $1 AND seq <= $2 AND \
                 refused_id = '' AND replace(body, '\"verdict\":\"permit\"', '') = body"
            }
        };
        sqlx::query(sql)
            .bind(first)
            .bind(last)
            .execute(self.connection())
            .await?;
        sqlx::query("UPDATE event_marks SET value = $1 WHERE name = $2")
            .bind((first - 1).max(0))
            .bind(UNFILLED)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Fills in a lot of what another program stored: PostgreSQL only.
    async fn index_strays(&mut self) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE events SET refused_id = CASE WHEN replace(body, '\"verdict\":\"permit\"', '') = body \
             THEN COALESCE(CAST(body AS json) ->> 'id', '') ELSE '' END \
             WHERE seq IN (SELECT seq FROM events WHERE refused_id IS NULL ORDER BY seq LIMIT $1)",
        )
        .bind(LOT)
        .execute(self.connection())
        .await?;
        let now = self.now().0;
        sqlx::query("UPDATE event_marks SET value = $1 WHERE name = 'sums-since' AND value < $1")
            .bind(now)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
