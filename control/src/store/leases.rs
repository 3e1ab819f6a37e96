//! Leases as gateways claim them: recorded once, held by nobody else in the group, replayed by nobody.
//!
//! A gateway has judged the registration by its lease table; here is added what only the store can know. Writers are
//! one line, so that what is looked at stays so until the commit. Each claim is one transaction with a handful of
//! statements: a fleet starts a thousand jobs a second.

mod claim;
mod standing;

use jiff::Timestamp;
use sqlx::Row;
use tidegate_control_wire::claim::{Claim, End, EndedBy, Refusal};
use tidegate_control_wire::record::{Ending, LeaseRecord};
use tidegate_policy::effective::Generation;

use super::read::{generation, get, most, word};
use super::sql::Sql;
use super::{ChangeKind, Micros, Store, StoreError, Tx};
use claim::Prepared;

/// Leases that one transaction expires at most.
const SWEEP: usize = 500;

/// A lease as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The lease, `began` filled in and its sources canonical.
    pub record: LeaseRecord,
    /// Position of this lease in the store's changes: who has it in force knows the lease.
    pub generation: Generation,
    /// The claim was recorded before; this is the same answer.
    pub repeated: bool,
    /// It holds its sources. False for one that was granted while control was away when somebody newer holds a source or
    /// its time is over, and for a repeated one that has ended: it is recorded as ended, and gateways are told so.
    pub stands: bool,
    /// Ids of the leases that ended for it.
    pub ended: Vec<String>,
}

/// Why a lease was not recorded. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It may not be.
    #[error("{detail}")]
    Refused {
        /// Which rule.
        code: Refusal,
        /// One sentence.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See [`ClaimError::Refused`].
type Refused = (Refusal, String);

impl Store {
    /// Records a lease of the gateways of `group`. `gateway` is who granted it; empty when a provisioner registered it
    /// here.
    ///
    /// Asked again with the same lease id, it answers the same. It is refused when its proof was used for another job,
    /// when its token is not good any more, and when a source is held by a lease that it does not replace. Leases that
    /// it replaces end. What was granted while control was away is recorded in any case: the newer of two leases on a
    /// source stands.
    pub async fn claim(&self, claim: &Claim, group: &str, gateway: &str) -> Result<Claimed, ClaimError> {
        let prepared = Prepared::new(claim, group, gateway).map_err(|detail| ClaimError::Refused {
            code: Refusal::Invalid,
            detail,
        })?;
        let outcome = self
            .db
            .write(move |tx| Box::pin(async move { prepared.record(tx).await }))
            .await?;
        outcome.map_err(|(code, detail)| ClaimError::Refused { code, detail })
    }

    /// Ends a lease, by its job's id. With a group, only a lease of that group. False when it had ended: then only
    /// the word that its machine is gone ([`Ending::Release`]) is still told on.
    pub async fn end_job(&self, id: &str, group: Option<&str>, end: &End) -> Result<bool, StoreError> {
        let (id, group, end) = (id.to_owned(), group.map(str::to_owned), end.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.end(&id, group.as_deref(), &end).await }))
            .await
    }

    /// Ends the leases whose time is over by `now`. Gateways do so by themselves; this writes it down. Gives back whose.
    pub async fn expire_jobs(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let now = Micros::from(now);
        let mut all = Vec::new();
        loop {
            // Some at a time: registrations wait for the writer, too.
            let some = self
                .db
                .write(move |tx| Box::pin(async move { tx.expire_some(now).await }))
                .await?;
            let last = some.len() < SWEEP;
            all.extend(some);
            if last {
                return Ok(all);
            }
        }
    }
}

/// Remembers whose the sources of leases were that end into quarantine; of two on a source, the one that ends last.
const LEFT_BEHIND: [&str; 2] = [
    "INSERT INTO ended_sources (group_name, source, job_id) \
     SELECT group_name, source, job_id FROM lease_sources WHERE job_id IN ",
    " ON CONFLICT (group_name, source) DO UPDATE SET job_id = excluded.job_id",
];

/// How a lease ends.
#[derive(Clone, Copy, Debug)]
struct Fate {
    at: Micros,
    by: EndedBy,
    ending: Ending,
}

/// The spelling in the store.
const fn ending_text(ending: Ending) -> &'static str {
    match ending {
        Ending::Quarantine => "quarantine",
        Ending::Release => "release",
    }
}

impl Tx<'_> {
    async fn end(&mut self, id: &str, group: Option<&str>, end: &End) -> Result<bool, StoreError> {
        let missing = || StoreError::NotFound {
            what: format!("job {id:?}"),
        };
        if id.contains('\0') {
            return Err(missing());
        }
        let row = sqlx::query("SELECT group_name, started_at, ended_at, ending FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *self.connection())
            .await?
            .ok_or_else(missing)?;
        let held_by: String = get(&row, "group_name")?;
        if group.is_some_and(|group| group != held_by) {
            return Err(missing());
        }
        if get::<Option<i64>>(&row, "ended_at")?.is_some() {
            let known: Option<String> = get(&row, "ending")?;
            let known: Ending = word("ending", known.as_deref().unwrap_or("quarantine"))?;
            if known == Ending::Quarantine && end.ending == Ending::Release && self.is_last(id).await? {
                sqlx::query("UPDATE jobs SET ending = $1 WHERE id = $2")
                    .bind(ending_text(Ending::Release))
                    .bind(id)
                    .execute(&mut *self.connection())
                    .await?;
                sqlx::query("DELETE FROM ended_sources WHERE job_id = $1")
                    .bind(id)
                    .execute(&mut *self.connection())
                    .await?;
                self.change_in(ChangeKind::Lease, id, &held_by).await?;
            }
            return Ok(false);
        }
        let began = Micros(get(&row, "started_at")?);
        let fate = Fate {
            // A gateway's clock may be off; a job neither ends before it began nor in the future.
            at: Micros::from(end.at).min(self.now()).max(began),
            by: end.by,
            ending: end.ending,
        };
        self.end_lease(id, &held_by, fate).await
    }

    /// True when nobody has had the sources of this lease since it ended: its machine may still sit at them.
    async fn is_last(&mut self, id: &str) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS still FROM ended_sources AS held WHERE held.job_id = $1 AND NOT EXISTS \
             (SELECT 1 FROM lease_sources AS living \
             WHERE living.group_name = held.group_name AND living.source = held.source)",
        )
        .bind(id)
        .fetch_one(&mut *self.connection())
        .await?;
        Ok(get::<i64>(&row, "still")? > 0)
    }

    /// Ends a living lease of a group; false when there is none.
    async fn end_lease(&mut self, id: &str, group: &str, fate: Fate) -> Result<bool, StoreError> {
        let ended = sqlx::query(
            "UPDATE jobs SET ended_at = $1, ended_by = $2, ending = $3 \
             WHERE id = $4 AND group_name = $5 AND ended_at IS NULL",
        )
        .bind(fate.at.0)
        .bind(fate.by.as_str())
        .bind(ending_text(fate.ending))
        .bind(id)
        .bind(group)
        .execute(&mut *self.connection())
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        self.note_left(&[id], fate.ending).await?;
        sqlx::query("DELETE FROM lease_sources WHERE job_id = $1")
            .bind(id)
            .execute(&mut *self.connection())
            .await?;
        self.change_in(ChangeKind::Lease, id, group).await?;
        Ok(true)
    }

    /// Notes what becomes of the sources of leases that end, while they still hold them.
    async fn note_left(&mut self, ids: &[&str], ending: Ending) -> Result<(), StoreError> {
        let sql = match ending {
            Ending::Quarantine => Sql::new(LEFT_BEHIND[0]),
            Ending::Release => Sql::new(
                "DELETE FROM ended_sources WHERE (group_name, source) IN \
                 (SELECT group_name, source FROM lease_sources WHERE job_id IN ",
            ),
        };
        // A sweep's list has another length every time; the end of one job is always the same statement.
        let mut sql = if ids.len() == 1 { sql } else { sql.once() };
        sql.texts(ids.iter().copied()).push(match ending {
            Ending::Quarantine => LEFT_BEHIND[1],
            Ending::Release => ")",
        });
        sql.execute(self.connection()).await?;
        Ok(())
    }

    /// Ends up to [`SWEEP`] leases, the longest overdue first.
    async fn expire_some(&mut self, now: Micros) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM jobs WHERE ended_at IS NULL AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2",
        )
        .bind(now.0)
        .bind(most(SWEEP))
        .fetch_all(&mut *self.connection())
        .await?;
        let ids: Vec<String> = rows.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(ids);
        }
        let listed = || ids.iter().map(String::as_str);
        let at = self.now().0;
        let mut ended = Sql::new("UPDATE jobs SET ended_at = expires_at, ended_by = ").once();
        ended.text(EndedBy::Expiry.as_str()).push(", ending = ");
        ended
            .text(ending_text(Ending::Quarantine))
            .push(" WHERE id IN ")
            .texts(listed());
        ended.execute(self.connection()).await?;
        self.note_left(&listed().collect::<Vec<_>>(), Ending::Quarantine)
            .await?;
        let mut freed = Sql::new("DELETE FROM lease_sources WHERE job_id IN ").once();
        freed.texts(listed());
        freed.execute(self.connection()).await?;
        let mut told = Sql::new("INSERT INTO changes (kind, key, group_name, at) SELECT ").once();
        told.text(ChangeKind::Lease.as_str())
            .push(", id, group_name, ")
            .number(at);
        told.push(" FROM jobs WHERE id IN ").texts(listed());
        told.push(" ORDER BY id RETURNING generation");
        for row in told.fetch_all(self.connection()).await? {
            self.entered(generation(row.try_get(0)?));
        }
        Ok(ids)
    }
}
