//! Which workflows were ever seen: what coverage, pickers and overviews are made of.
//!
//! Owns `workflows_seen`: a row a workflow and cluster, written with each registration, in its transaction, and kept long
//! after the job. Static leases are a gateway's own and never come here as jobs; their workflows are known by the sums of
//! their events, and are [noted](Store::note_seen) from these now and then. Who asks for everything that was seen
//! ([`Store::workflows_seen`], [`Store::workflow_sums`]) has both.

use hashbrown::HashMap;
use sqlx::any::AnyRow;
use tidegate_control_wire::record::LeaseRecord;
use tidegate_policy::job::Assurance;

use super::read::{get, most, word};
use super::rollups::{DAY, day};
use super::sql::{Sql, lots};
use super::{Micros, Store, StoreError, Tx};

/// Longest text of an identity that is noted, in bytes: where texts of events are cut.
const MAX_TEXT: usize = 255;
/// Workflows that are read at most; the ones that were silent for longest are left out.
pub const MAX_SEEN: usize = 100_000;
/// Days of events that are looked through for workflows that no job registered for.
const RECENT: i64 = 1;

/// A workflow that was seen in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenWorkflow {
    /// Organization or user.
    pub owner: String,
    /// `owner/name`; empty when its jobs named none.
    pub repo: String,
    /// Its file; empty when it has none.
    pub workflow: String,
    /// Cluster of its network; empty for none.
    pub cluster: String,
    /// When a job of it began first.
    pub first_at: Micros,
    /// When one began last, or was last heard of by its events.
    pub last_at: Micros,
    /// How many registered.
    pub jobs: u64,
    /// The one that began last; absent when only events tell of it.
    pub last: Option<LastJob>,
}

/// The job of a workflow that began last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastJob {
    /// Its id.
    pub id: String,
    /// How well it was known.
    pub assurance: Assurance,
    /// Its network.
    pub network: String,
}

/// What a workflow's jobs were told in some days, by the sums of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowSums {
    /// Organization or user.
    pub owner: String,
    /// `owner/name`.
    pub repo: String,
    /// Its file.
    pub workflow: String,
    /// Cluster of its network.
    pub cluster: String,
    /// Verdicts.
    pub permits: u64,
    /// Refusals, search suffixes among them.
    pub refusals: u64,
    /// What audit mode let through, search suffixes among them.
    pub would_refuse: u64,
    /// Those of both that only a resolver's search suffix made.
    pub suffixes: u64,
    /// What it is judged by, of a span of its own.
    pub judged: JudgedSums,
    /// The first day, at its beginning.
    pub first_at: Micros,
    /// The last event.
    pub last_at: Micros,
}

/// What says whether block mode would change something, whatever days are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JudgedSums {
    /// Refusals, search suffixes among them.
    pub refusals: u64,
    /// What audit mode let through, search suffixes among them.
    pub would_refuse: u64,
    /// Those of both that only a resolver's search suffix made.
    pub suffixes: u64,
}

impl SeenWorkflow {
    fn key(&self) -> [&str; 4] {
        [&self.owner, &self.repo, &self.workflow, &self.cluster]
    }
}

impl WorkflowSums {
    fn key(&self) -> [&str; 4] {
        [&self.owner, &self.repo, &self.workflow, &self.cluster]
    }
}

impl Store {
    /// Workflows by what registered, the ones seen last first; [`MAX_SEEN`] at most.
    pub async fn workflows_seen(&self) -> Result<Vec<SeenWorkflow>, StoreError> {
        let rows = sqlx::query(
            "SELECT owner, repo, workflow, cluster, first_at, last_at, jobs, last_job, assurance, network \
             FROM workflows_seen ORDER BY last_at DESC LIMIT $1",
        )
        .bind(most(MAX_SEEN))
        .fetch_all(self.db.read())
        .await?;
        rows.iter().map(read_seen).collect()
    }

    /// Workflows by their events of this day (days since 1970) and later, and judged by those of another and later; the
    /// ones heard of last first, [`MAX_SEEN`] at most. Events without a job are no workflow's.
    pub async fn workflow_sums(&self, from: i64, judged: i64) -> Result<Vec<WorkflowSums>, StoreError> {
        let mut sql =
            Sql::new("SELECT owner, repo, workflow, cluster, MIN(day) AS first_day, MAX(last_at) AS last_at");
        for (column, name, since) in [
            ("permits", "permits", from),
            ("refusals", "refusals", from),
            ("would_refuse", "would_refuse", from),
            ("suffixes", "suffixes", from),
            ("refusals", "judged_refusals", judged),
            ("would_refuse", "judged_would_refuse", judged),
            ("suffixes", "judged_suffixes", judged),
        ] {
            sql.push(", CAST(SUM(CASE WHEN day >= ").number(since);
            sql.push(" THEN ").push(column);
            sql.push(" ELSE 0 END) AS BIGINT) AS ").push(name);
        }
        sql.push(" FROM workflow_days WHERE day >= ")
            .number(from.min(judged));
        sql.push(
            " AND owner <> '' GROUP BY owner, repo, workflow, cluster ORDER BY MAX(last_at) DESC LIMIT ",
        )
        .number(most(MAX_SEEN));
        let rows = sql.fetch_all(self.events.read()).await?;
        rows.iter().map(read_sums).collect()
    }

    /// Notes the workflows of the last days' events that no job registered for, so that they stay known when they fall
    /// silent. Says how many rows were written.
    pub async fn note_seen(&self) -> Result<u64, StoreError> {
        let from = day(Micros::now()) - RECENT;
        let told = self.workflow_sums(from, from).await?;
        let mut written = 0;
        // Most are known, by their jobs or by an earlier look: those ask nothing of the writer that registrations wait for.
        let known = self.workflows_seen().await?;
        let known: HashMap<[&str; 4], i64> = known.iter().map(|one| (one.key(), one.last_at.0)).collect();
        let told: Vec<WorkflowSums> = told
            .into_iter()
            .filter(|one| {
                let known = known.get(&one.key());
                known.is_none_or(|last| one.last_at.0 > last.saturating_add(DAY))
            })
            .collect();
        // Some at a time.
        for some in told.chunks(64) {
            let some = some.to_vec();
            written += self
                .db
                .write(move |tx| Box::pin(async move { tx.note_told(&some).await }))
                .await?;
        }
        Ok(written)
    }
}

impl Tx<'_> {
    /// Notes the workflow of a job that is registered.
    pub(super) async fn see(&mut self, lease: &LeaseRecord) -> Result<(), StoreError> {
        let identity = &lease.identity;
        let texts = [
            &identity.owner,
            &identity.repo,
            &identity.workflow,
            &identity.cluster,
        ];
        if texts.iter().any(|text| text.len() > MAX_TEXT) {
            return Ok(());
        }
        let at = Micros::from(lease.started_at).0;
        sqlx::query(
            "INSERT INTO workflows_seen (owner, repo, workflow, cluster, first_at, last_at, jobs, last_job, assurance, \
             network) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9) \
             ON CONFLICT (owner, repo, workflow, cluster) DO UPDATE SET jobs = workflows_seen.jobs + 1, \
             first_at = CASE WHEN excluded.first_at < workflows_seen.first_at THEN excluded.first_at \
             ELSE workflows_seen.first_at END, \
             last_job = CASE WHEN excluded.last_at >= workflows_seen.last_at OR workflows_seen.last_job = '' \
             THEN excluded.last_job ELSE workflows_seen.last_job END, \
             assurance = CASE WHEN excluded.last_at >= workflows_seen.last_at OR workflows_seen.last_job = '' \
             THEN excluded.assurance ELSE workflows_seen.assurance END, \
             network = CASE WHEN excluded.last_at >= workflows_seen.last_at OR workflows_seen.last_job = '' \
             THEN excluded.network ELSE workflows_seen.network END, \
             last_at = CASE WHEN excluded.last_at > workflows_seen.last_at THEN excluded.last_at \
             ELSE workflows_seen.last_at END",
        )
        .bind(identity.owner.as_str())
        .bind(identity.repo.as_str())
        .bind(identity.workflow.as_str())
        .bind(identity.cluster.as_str())
        .bind(at)
        .bind(at)
        .bind(lease.id.as_str())
        .bind(identity.assurance.as_str())
        .bind(lease.network.as_str())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes workflows as their events tell of them. What is known keeps its last job; a row is written again at most
    /// once a day.
    async fn note_told(&mut self, told: &[WorkflowSums]) -> Result<u64, StoreError> {
        let mut rows = told.iter();
        let mut written = 0;
        for lot in lots(told.len()) {
            let mut sql = Sql::new(
                "INSERT INTO workflows_seen (owner, repo, workflow, cluster, first_at, last_at, jobs, last_job, \
                 assurance, network) VALUES ",
            );
            for (place, one) in rows.by_ref().take(lot).enumerate() {
                sql.push(if place == 0 { "(" } else { ", (" }).text(&one.owner);
                for text in [&one.repo, &one.workflow, &one.cluster] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").number(one.first_at.0);
                sql.push(", ").number(one.last_at.0).push(", 0, '', '', '')");
            }
            sql.push(
                " ON CONFLICT (owner, repo, workflow, cluster) DO UPDATE SET last_at = excluded.last_at \
                 WHERE excluded.last_at > workflows_seen.last_at + 86400000000",
            );
            written += sql.execute(self.connection()).await?;
        }
        Ok(written)
    }

    /// Forgets a lot of workflows that nobody has seen since.
    pub(super) async fn prune_seen(&mut self, before: i64, lot: i64) -> Result<u64, StoreError> {
        let removed = sqlx::query(
            "DELETE FROM workflows_seen WHERE (owner, repo, workflow, cluster) IN \
             (SELECT owner, repo, workflow, cluster FROM workflows_seen WHERE last_at < $1 ORDER BY last_at LIMIT $2)",
        )
        .bind(before)
        .bind(lot)
        .execute(self.connection())
        .await?;
        Ok(removed.rows_affected())
    }
}

fn read_seen(row: &AnyRow) -> Result<SeenWorkflow, StoreError> {
    let id: String = get(row, "last_job")?;
    let last = if id.is_empty() {
        None
    } else {
        Some(LastJob {
            id,
            assurance: word("an assurance", get(row, "assurance")?)?,
            network: get(row, "network")?,
        })
    };
    Ok(SeenWorkflow {
        owner: get(row, "owner")?,
        repo: get(row, "repo")?,
        workflow: get(row, "workflow")?,
        cluster: get(row, "cluster")?,
        first_at: Micros(get(row, "first_at")?),
        last_at: Micros(get(row, "last_at")?),
        jobs: get::<i64>(row, "jobs")?.unsigned_abs(),
        last,
    })
}

fn read_sums(row: &AnyRow) -> Result<WorkflowSums, StoreError> {
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(WorkflowSums {
        owner: get(row, "owner")?,
        repo: get(row, "repo")?,
        workflow: get(row, "workflow")?,
        cluster: get(row, "cluster")?,
        permits: number("permits")?,
        refusals: number("refusals")?,
        would_refuse: number("would_refuse")?,
        suffixes: number("suffixes")?,
        judged: JudgedSums {
            refusals: number("judged_refusals")?,
            would_refuse: number("judged_would_refuse")?,
            suffixes: number("judged_suffixes")?,
        },
        first_at: Micros(get::<i64>(row, "first_day")?.saturating_mul(DAY)),
        last_at: Micros(get(row, "last_at")?),
    })
}
