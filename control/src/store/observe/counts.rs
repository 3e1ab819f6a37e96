//! Counts of what is known already: added every few seconds, and before somebody reads them.

use std::collections::BTreeMap;

use super::observer::{Count, Counts};
use super::upkeep::Observing;
use crate::baseline::Target;
use crate::baseline::sighting::scopes_of;
use crate::store::rollups::count;
use crate::store::sql::{Sql, lots};
use crate::store::{Micros, StoreError, Tx};

impl Observing {
    /// Adds the counts that wait in this process.
    pub(in crate::store) async fn flush(&self) -> Result<(), StoreError> {
        let Some(counts) = self.observer.take() else {
            return Ok(());
        };
        let kept = counts.clone();
        let written = self
            .events
            .write(move |tx| Box::pin(async move { tx.add_counts(&counts).await }))
            .await;
        if written.is_err() {
            self.observer.put_back(kept);
        }
        written
    }
}

impl Tx<'_> {
    /// Both sides of each sum are at most 2^53 (see [`count`]): none overflows before it is cut. One that did would keep every
    /// other count from being added, too.
    pub(super) async fn add_counts(&mut self, counts: &Counts) -> Result<(), StoreError> {
        self.add_calls(counts).await?;
        self.add_hits(counts).await?;
        for (job, times) in &counts.further {
            sqlx::query(
                "UPDATE detections SET further = CASE WHEN further + $2 > 9007199254740992 THEN 9007199254740992 \
                 ELSE further + $2 END WHERE id = \
                 (SELECT MAX(id) FROM detections WHERE job_id = $1)",
            )
            .bind(job.as_str())
            .bind(count(*times))
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }

    /// Calls, in each scope of their jobs. Rows that are not there found no room, or were forgotten.
    async fn add_calls(&mut self, counts: &Counts) -> Result<(), StoreError> {
        let mut sums: BTreeMap<(String, &Target), Count> = BTreeMap::new();
        for (call, count) in &counts.calls {
            for scope in scopes_of(&call.owner, &call.repo, &call.workflow, &call.cluster) {
                let none = Count { times: 0, ..*count };
                let sum = sums.entry((scope.to_string(), &call.target)).or_insert(none);
                sum.times = sum.times.saturating_add(count.times);
                sum.last = sum.last.max(count.last);
            }
        }
        let mut rows = sums.iter();
        for lot in lots(rows.len()) {
            let mut sql = Sql::new(
                "UPDATE baseline_endpoints SET calls = CASE WHEN calls + added.column5 > 9007199254740992 \
                 THEN 9007199254740992 ELSE calls + added.column5 END, \
                 last_at = CASE WHEN last_at < added.column6 THEN added.column6 ELSE last_at END FROM (VALUES ",
            )
            .many(self.backend());
            for (at, ((scope, target), sum)) in rows.by_ref().take(lot).enumerate() {
                sql.push(if at == 0 { "(" } else { ", (" }).text(scope);
                sql.push(", ").text(&target.endpoint);
                sql.push(", ").number(i64::from(target.port));
                sql.push(", ").text(target.transport.as_str());
                sql.push(", ").number(count(sum.times));
                sql.push(", ").number(Micros::from(sum.last).0).push(")");
            }
            sql.push(
                ") AS added WHERE scope = added.column1 AND endpoint = added.column2 AND port = added.column3 \
                 AND transport = added.column4",
            );
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn add_hits(&mut self, counts: &Counts) -> Result<(), StoreError> {
        for ((job, kind, target), sum) in &counts.hits {
            sqlx::query(
                "UPDATE detections SET count = CASE WHEN count + $6 > 9007199254740992 THEN 9007199254740992 \
                 ELSE count + $6 END, \
                 last_at = CASE WHEN last_at < $7 THEN $7 ELSE last_at END \
                 WHERE job_id = $1 AND type = $2 AND endpoint = $3 AND port = $4 AND transport = $5",
            )
            .bind(job.as_str())
            .bind(kind.as_str())
            .bind(target.endpoint.as_str())
            .bind(i64::from(target.port))
            .bind(target.transport.as_str())
            .bind(count(sum.times))
            .bind(Micros::from(sum.last).0)
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}
