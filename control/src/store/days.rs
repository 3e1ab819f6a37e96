//! PostgreSQL's partitions of raw events, one a day (UTC): made before something is stored in them, dropped whole.
//!
//! SQLite has one table; there is nothing to do.

use sqlx::{AssertSqlSafe, Row};

use super::db::Backend;
use super::rollups::{DAY, day};
use super::sql::Sql;
use super::{Micros, Store, StoreError, Tx};

/// What partitions are called, before the number of the day.
const PREFIX: &str = "events_day_";

impl Store {
    /// Makes the partitions of today and tomorrow: making one waits for whoever reads events at that moment, which a
    /// batch should not have to.
    pub(super) async fn prepare_days(&self) -> Result<(), StoreError> {
        let work = self.events.write(|tx| {
            Box::pin(async move {
                let now = tx.now();
                tx.need_days([now, Micros(now.0.saturating_add(DAY))]).await
            })
        });
        work.await
    }
}

impl Tx<'_> {
    /// Makes the partitions that events of these times need, where they are missing.
    pub(super) async fn need_days(
        &mut self,
        times: impl IntoIterator<Item = Micros>,
    ) -> Result<(), StoreError> {
        if self.backend() == Backend::Sqlite {
            return Ok(());
        }
        let mut days: Vec<i64> = times.into_iter().map(day).collect();
        days.sort_unstable();
        days.dedup();
        if days.is_empty() {
            return Ok(());
        }
        let made = self.partitions().await?;
        for day in days.into_iter().filter(|day| !made.contains(day)) {
            let (from, to) = (
                day.saturating_mul(DAY),
                (day.saturating_add(1)).saturating_mul(DAY),
            );
            // Numbers only: no statement of this kind takes parameters.
            let sql =
                format!("CREATE TABLE {PREFIX}{day} PARTITION OF events FOR VALUES FROM ({from}) TO ({to})");
            sqlx::query(AssertSqlSafe(sql))
                .persistent(false)
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }

    /// Drops the partitions of whole days before a time; says how many.
    pub(super) async fn drop_days(&mut self, before: Micros) -> Result<u64, StoreError> {
        let mut dropped = 0;
        for day in self.partitions().await? {
            if day < super::rollups::day(before) {
                let sql = format!("DROP TABLE {PREFIX}{day}");
                sqlx::query(AssertSqlSafe(sql))
                    .persistent(false)
                    .execute(self.connection())
                    .await?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// The days that have a partition.
    async fn partitions(&mut self) -> Result<Vec<i64>, StoreError> {
        let sql = Sql::new(
            "SELECT CAST(child.relname AS TEXT) AS name FROM pg_inherits AS link \
             JOIN pg_class AS child ON child.oid = link.inhrelid \
             WHERE link.inhparent = CAST('events' AS regclass)",
        );
        let rows = sql.fetch_all(self.connection()).await?;
        let day = |row: &sqlx::any::AnyRow| {
            let name: &str = row.try_get("name").ok()?;
            name.strip_prefix(PREFIX)?.parse().ok()
        };
        Ok(rows.iter().filter_map(day).collect())
    }
}
