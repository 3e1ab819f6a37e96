//! How long what jobs reached is kept, and forgetting it: raw events and reports first, sums by day long after.
//!
//! PostgreSQL drops whole days, SQLite deletes in lots, each lot a transaction of its own: batches wait in the same line.

use std::time::Duration;

use super::db::Backend;
use super::rollups::day;
use super::subjects::remembered_from;
use super::{Micros, Store, StoreError, Tx};

/// Rows that one transaction removes at most.
const LOT: i64 = 4_000;

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRetention {
    /// Raw events, and what agents reported of processes.
    pub events: Duration,
    /// Sums by day, losses, and up to where silent spools are stored: what is older counts nowhere any more, so it may
    /// come again.
    pub rollups: Duration,
}

impl Default for EventRetention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            events: 30 * DAY,
            rollups: 400 * DAY,
        }
    }
}

impl EventRetention {
    /// Older events are not kept as they are.
    pub(super) fn events_from(self, now: Micros) -> Micros {
        before(now, self.events)
    }

    /// Older events don't count any more. A day is kept whole.
    pub(super) fn rollups_from(self, now: Micros) -> Micros {
        let day = day(before(now, self.rollups));
        Micros(day.saturating_mul(super::rollups::DAY))
    }
}

fn before(now: Micros, kept: Duration) -> Micros {
    let kept = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    Micros(now.0.saturating_sub(kept))
}

/// What was forgotten: rows, on PostgreSQL partitions for events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Raw events; days of them on PostgreSQL.
    pub events: u64,
    /// Reports of processes.
    pub reports: u64,
    /// Sums by day.
    pub rollups: u64,
    /// Days of losses.
    pub losses: u64,
    /// Lanes of spools that were silent for long.
    pub sources: u64,
    /// Who reached what, as long as raw events; baselines' endpoints and detections, as long as sums.
    pub observed: u64,
    /// Rows of the sums that pages are made of: by job and by source as long as raw events, the others as sums by day.
    pub sums: u64,
}

/// What a lot is of.
#[derive(Clone, Copy)]
enum Kind {
    Events,
    Subjects,
    Reports,
    Rollups,
    Losses,
    Sources,
    Hours,
    Workflows,
    Jobs,
    Policies,
    Strangers,
}

impl Kind {
    /// By time, by day or by hour, and how many at most.
    fn sql(self) -> &'static str {
        match self {
            Self::Events => {
                "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at < $1 ORDER BY at LIMIT $2)"
            }
            // Those that some event may name stay. So does the last: numbers are counted on from it.
            Self::Subjects => {
                "DELETE FROM event_subjects WHERE number IN (SELECT number FROM event_subjects WHERE day < $1 AND \
                 day < (SELECT COALESCE(MIN(at), 9223372036854775807) / 86400000000 FROM events) AND \
                 number < (SELECT MAX(number) FROM event_subjects) ORDER BY day LIMIT $2)"
            }
            Self::Reports => {
                "DELETE FROM process_reports WHERE (job_id, name, address, port, process, sha256) IN \
                 (SELECT job_id, name, address, port, process, sha256 FROM process_reports WHERE at < $1 \
                 ORDER BY at LIMIT $2)"
            }
            Self::Rollups => {
                "DELETE FROM rollups WHERE (repo, workflow, day, endpoint, port, kind, verdict, reason, owner, cluster) \
                 IN (SELECT repo, workflow, day, endpoint, port, kind, verdict, reason, owner, cluster FROM rollups \
                 WHERE day < $1 ORDER BY day LIMIT $2)"
            }
            Self::Losses => {
                "DELETE FROM event_losses WHERE (day, gateway, lane) IN \
                 (SELECT day, gateway, lane FROM event_losses WHERE day < $1 LIMIT $2)"
            }
            Self::Sources => {
                "DELETE FROM event_sources WHERE (gateway, spool, lane) IN \
                 (SELECT gateway, spool, lane FROM event_sources WHERE last_at < $1 LIMIT $2)"
            }
            Self::Hours => {
                "DELETE FROM verdict_hours WHERE (owner, hour, verdict) IN \
                 (SELECT owner, hour, verdict FROM verdict_hours WHERE hour < $1 ORDER BY hour LIMIT $2)"
            }
            Self::Workflows => {
                "DELETE FROM workflow_days WHERE (repo, workflow, day, owner, cluster) IN \
                 (SELECT repo, workflow, day, owner, cluster FROM workflow_days WHERE day < $1 ORDER BY day LIMIT $2)"
            }
            // One that goes on for longer than events are kept stays until it has ended.
            Self::Jobs => {
                "DELETE FROM job_sums WHERE job_id IN (SELECT job_id FROM job_sums WHERE day < $1 AND \
                 last_at < $1 * 86400000000 ORDER BY day LIMIT $2)"
            }
            Self::Policies => {
                "DELETE FROM policy_days WHERE (policy, scope, version, day) IN \
                 (SELECT policy, scope, version, day FROM policy_days WHERE day < $1 ORDER BY day LIMIT $2)"
            }
            Self::Strangers => {
                "DELETE FROM stranger_days WHERE (day, gateway, network, source, endpoint, port, kind, verdict, reason) \
                 IN (SELECT day, gateway, network, source, endpoint, port, kind, verdict, reason FROM stranger_days \
                 WHERE day < $1 ORDER BY day LIMIT $2)"
            }
        }
    }
}

impl Store {
    /// Keeps events for so long: [`Self::ingest`] only counts what is older.
    #[must_use]
    pub fn keeping(mut self, kept: EventRetention) -> Self {
        self.kept = kept;
        self
    }

    /// Forgets what is older than it is kept, and has room ready for what comes today and tomorrow. What is kept of an
    /// older program is brought up to date.
    pub async fn forget_events(&self) -> Result<Forgotten, StoreError> {
        self.prepare_days().await?;
        let now = Micros::now();
        let (raw, counted) = (self.kept.events_from(now), self.kept.rollups_from(now));
        let events = match self.events.backend() {
            Backend::Sqlite => self.forget(Kind::Events, raw.0).await?,
            Backend::Postgres => {
                self.events
                    .write(move |tx| Box::pin(async move { tx.drop_days(raw).await }))
                    .await?
            }
        };
        let subjects = day(raw).min(remembered_from(day(now)));
        self.forget(Kind::Subjects, subjects).await?;
        let forgotten = Forgotten {
            events,
            reports: self.forget(Kind::Reports, raw.0).await?,
            rollups: self.forget(Kind::Rollups, day(counted)).await?,
            losses: self.forget(Kind::Losses, day(counted)).await?,
            sources: self.forget(Kind::Sources, counted.0).await?,
            observed: self.forget_observed(raw, counted).await?,
            sums: self.forget_sums(raw, counted).await?,
        };
        // Last, and whatever becomes of it: what can't be read must not keep everything else for ever.
        if let Err(error) = self.index_refusals().await {
            tracing::error!(
                error = error.chain(),
                "old refusals could not be brought into their indexes"
            );
        }
        Ok(forgotten)
    }

    async fn forget_sums(&self, raw: Micros, counted: Micros) -> Result<u64, StoreError> {
        let kinds = [
            (Kind::Hours, super::sums::hour(counted)),
            (Kind::Workflows, day(counted)),
            (Kind::Policies, day(counted)),
            (Kind::Jobs, day(raw)),
            (Kind::Strangers, day(raw)),
        ];
        let mut all = 0;
        for (kind, before) in kinds {
            all += self.forget(kind, before).await?;
        }
        Ok(all)
    }

    async fn forget(&self, kind: Kind, before: i64) -> Result<u64, StoreError> {
        let mut all = 0;
        loop {
            let some = self
                .events
                .write(move |tx| Box::pin(async move { tx.forget(kind, before).await }))
                .await?;
            all += some;
            if some < LOT.unsigned_abs() {
                return Ok(all);
            }
        }
    }
}

impl Tx<'_> {
    async fn forget(&mut self, kind: Kind, before: i64) -> Result<u64, StoreError> {
        let removed = sqlx::query(kind.sql())
            .bind(before)
            .bind(LOT)
            .execute(self.connection())
            .await?;
        Ok(removed.rows_affected())
    }
}
