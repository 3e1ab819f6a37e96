//! Runs of the forge: jobs by their run, and what verdicts about jobs add up to.
//!
//! Owns what a run is: the jobs of a repository with one run number, attempts and legs of a matrix included; a job that
//! named no run is one by itself. A run stands in lists where its newest job does.

use hashbrown::HashMap;
use sqlx::any::AnyRow;

use super::jobs::{JobFilter, cursor_of, narrow_jobs, newest_first, read_job};
use super::read::{self, get, page};
use super::sql::Sql;
use super::{Micros, Store, StoreError};
use crate::model::{Job, JobCounts, Page, PageRequest};

/// Jobs of one run that are read.
pub const MAX_RUN: usize = 2_000;
/// Jobs of a page of runs whose ids are told, so that what they were told can be added up.
pub const MAX_LEGS: u64 = 20_000;
/// Jobs whose sums one statement looks up.
const LOT: usize = 500;

/// A run, as its newest job tells of it, and its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// The job that began last (of those that were asked for).
    pub newest: Job,
    /// All of its jobs.
    pub legs: Legs,
    /// Their ids, the newest first; absent where the page's runs together have more than [`MAX_LEGS`].
    pub ids: Option<Vec<String>>,
}

/// The jobs of a run, of all attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legs {
    /// How many.
    pub jobs: u64,
    /// Those that run.
    pub alive: u64,
    /// When the first began.
    pub started_at: Micros,
    /// When the last that has ended did.
    pub ended_at: Option<Micros>,
}

impl Legs {
    /// Of a job that is a run by itself.
    fn lone(job: &Job) -> Self {
        Self {
            jobs: 1,
            alive: u64::from(job.ended_at.is_none()),
            started_at: job.lease.started_at.into(),
            ended_at: job.ended_at.map(Micros::from),
        }
    }
}

impl Store {
    /// Runs by what is asked of their jobs, the one whose newest such job began last first.
    pub async fn runs(&self, filter: &JobFilter, request: &PageRequest) -> Result<Page<RunView>, StoreError> {
        let mut sql = Sql::new("SELECT group_name, record, ended_at, ended_by FROM jobs WHERE 1 = 1");
        narrow_jobs(&mut sql, "jobs", filter)?;
        // The newest of those that were asked for stands for its run. By its id, which PostgreSQL looks up in the index of
        // runs; of `NOT EXISTS` a newer one it makes a join that is quadratic in the jobs of a run.
        sql.push(
            " AND (jobs.run_id = '' OR jobs.id = (SELECT other.id FROM jobs AS other WHERE other.repo = jobs.repo \
             AND other.run_id = jobs.run_id AND other.owner || '' = jobs.owner",
        );
        // Whose it is and which run is said already: more of it would only lead away from that index.
        let among = JobFilter {
            owners: Vec::new(),
            owner: None,
            repo: None,
            run_id: None,
            ..filter.clone()
        };
        narrow_jobs(&mut sql, "other", &among)?;
        sql.push(" ORDER BY other.started_at DESC, other.id DESC LIMIT 1))");
        newest_first(&mut sql, request)?;
        let rows = sql.fetch_all(self.db.read()).await?;
        let found = page(rows, request, read_job, cursor_of)?;
        let legs = self.legs(&found.items).await?;
        let of = |job: &Job| legs.get(&key(job)).copied().unwrap_or_else(|| Legs::lone(job));
        let mut room = MAX_LEGS;
        let told = found.items.iter().filter(|newest| {
            let left = room.checked_sub(of(newest).jobs);
            room = left.unwrap_or(room);
            left.is_some()
        });
        let mut ids = self.leg_ids(told).await?;
        let view = |newest: Job| RunView {
            legs: of(&newest),
            ids: ids.remove(&key(&newest)),
            newest,
        };
        Ok(Page {
            items: found.items.into_iter().map(view).collect(),
            next: found.next,
        })
    }

    /// The jobs of a run, the newest first, [`MAX_RUN`] at most, and whether there are more. None for a run that nobody
    /// knows.
    pub async fn run_jobs(&self, repo: &str, run_id: &str) -> Result<(Vec<Job>, bool), StoreError> {
        if run_id.is_empty() || [repo, run_id].iter().any(|text| read::storable(text).is_none()) {
            return Ok((Vec::new(), false));
        }
        let rows = sqlx::query(
            "SELECT group_name, record, ended_at, ended_by FROM jobs WHERE repo = $1 AND run_id = $2 \
             ORDER BY started_at DESC, id DESC LIMIT $3",
        )
        .bind(repo.to_lowercase())
        .bind(run_id)
        .bind(read::most(MAX_RUN + 1))
        .fetch_all(self.db.read())
        .await?;
        let jobs = rows.iter().take(MAX_RUN).map(read_job);
        Ok((jobs.collect::<Result<_, _>>()?, rows.len() > MAX_RUN))
    }

    /// How many jobs these jobs' runs have, and since and until when; nothing of those without a run.
    async fn legs(&self, newest: &[Job]) -> Result<HashMap<Key, Legs>, StoreError> {
        let mut sql = Sql::new(
            "SELECT owner, repo, run_id, COUNT(*) AS jobs, \
             CAST(SUM(CASE WHEN ended_at IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS alive, \
             MIN(started_at) AS started_at, MAX(ended_at) AS ended_at FROM jobs WHERE (repo, run_id) IN (VALUES ",
        )
        .once();
        if !push_runs(&mut sql, newest.iter()) {
            return Ok(HashMap::new());
        }
        sql.push(") GROUP BY owner, repo, run_id");
        let rows = sql.fetch_all(self.db.read()).await?;
        let number = |row: &AnyRow, column| get::<i64>(row, column).map(i64::unsigned_abs);
        let read = |row: &AnyRow| {
            let legs = Legs {
                jobs: number(row, "jobs")?,
                alive: number(row, "alive")?,
                started_at: Micros(get(row, "started_at")?),
                ended_at: get::<Option<i64>>(row, "ended_at")?.map(Micros),
            };
            Ok((read_key(row)?, legs))
        };
        rows.iter().map(read).collect()
    }

    /// The ids of the jobs of these jobs' runs, the newest first.
    async fn leg_ids<'j>(
        &self,
        newest: impl Iterator<Item = &'j Job>,
    ) -> Result<HashMap<Key, Vec<String>>, StoreError> {
        let (of_runs, lone): (Vec<&Job>, Vec<&Job>) =
            newest.partition(|job| !job.lease.identity.run_id.is_empty());
        let mut ids: HashMap<Key, Vec<String>> = lone
            .into_iter()
            .map(|job| (key(job), vec![job.lease.id.to_string()]))
            .collect();
        let mut sql =
            Sql::new("SELECT id, owner, repo, run_id FROM jobs WHERE (repo, run_id) IN (VALUES ").once();
        if push_runs(&mut sql, of_runs.into_iter()) {
            sql.push(") ORDER BY started_at DESC, id DESC LIMIT ")
                .number(MAX_LEGS.cast_signed());
            for row in sql.fetch_all(self.db.read()).await? {
                ids.entry(read_key(&row)?).or_default().push(get(&row, "id")?);
            }
        }
        Ok(ids)
    }

    /// What the verdicts about these jobs add up to, for those that have any.
    pub async fn job_counts(&self, ids: &[&str]) -> Result<HashMap<String, JobCounts>, StoreError> {
        let mut counts = HashMap::with_capacity(ids.len());
        let ids: Vec<&str> = ids
            .iter()
            .copied()
            .filter(|id| read::storable(id).is_some())
            .collect();
        for lot in ids.chunks(LOT) {
            let mut sql = Sql::new(
                "SELECT job_id, permits, refusals, would_refuse, bytes_up, bytes_down, last_at FROM job_sums \
                 WHERE job_id IN ",
            )
            .once();
            sql.texts(lot.iter().copied());
            for row in sql.fetch_all(self.events.read()).await? {
                counts.insert(get(&row, "job_id")?, read_counts(&row)?);
            }
        }
        Ok(counts)
    }
}

/// Whose run it is, and its number; a job without one by its own id.
type Key = (String, String, String);

fn key(job: &Job) -> Key {
    let identity = &job.lease.identity;
    let run = if identity.run_id.is_empty() {
        // No run is called so: ids of jobs are made by us and begin with `job_`; a space keeps the two apart anyhow.
        format!(" {}", job.lease.id)
    } else {
        identity.run_id.to_string()
    };
    (identity.owner.to_string(), identity.repo.to_string(), run)
}

/// `(repository, run), …` of jobs that have one; whether any has.
fn push_runs<'j>(sql: &mut Sql, jobs: impl Iterator<Item = &'j Job>) -> bool {
    let mut any = false;
    for job in jobs {
        let identity = &job.lease.identity;
        if !identity.run_id.is_empty() {
            sql.push(if any { ", (" } else { "(" }).text(&identity.repo);
            sql.push(", ").text(&identity.run_id).push(")");
            any = true;
        }
    }
    any
}

fn read_key(row: &AnyRow) -> Result<Key, StoreError> {
    Ok((get(row, "owner")?, get(row, "repo")?, get(row, "run_id")?))
}

fn read_counts(row: &AnyRow) -> Result<JobCounts, StoreError> {
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(JobCounts {
        permit: number("permits")?,
        refuse: number("refusals")?,
        would_refuse: number("would_refuse")?,
        bytes_up: number("bytes_up")?,
        bytes_down: number("bytes_down")?,
        last_at: Micros(get(row, "last_at")?).timestamp(),
    })
}
