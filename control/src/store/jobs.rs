//! Jobs and living leases as people and the API look at them.

mod search;

use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use tidegate_control_wire::record::LeaseRecord;
use tidegate_policy::job::Assurance;

use super::read::{self, bad_cursor, get, json, page, word};
use super::sql::Sql;
use super::{Micros, Store, StoreError};
use crate::model::{Job, LeaseView, Page, PageRequest};

/// Groups in which one address can have been left behind, that are looked at.
const MAX_LEFT: i64 = 100;

/// Which jobs are wanted; what is absent limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of one of these owners; empty limits nothing.
    pub owners: Vec<String>,
    /// In one of these networks; empty limits nothing.
    pub networks: Vec<String>,
    /// Of an owner.
    pub owner: Option<String>,
    /// Of a repository, `owner/name`.
    pub repo: Option<String>,
    /// Of a workflow file.
    pub workflow: Option<String>,
    /// Of a run.
    pub run_id: Option<String>,
    /// Those that run, or those that have ended.
    pub alive: Option<bool>,
    /// With this job id within the workflow.
    pub job: Option<String>,
    /// In a network.
    pub network: Option<String>,
    /// Known this well.
    pub assurance: Option<Assurance>,
    /// That hold, or held last, a source.
    pub source: Option<IpAddr>,
    /// That began at this time or later.
    pub since: Option<Timestamp>,
    /// That began before this time.
    pub until: Option<Timestamp>,
    /// With this text in their id, repository, workflow, job or run; case does not count.
    pub search: Option<String>,
}

/// Which leases are wanted; what is absent limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseFilter {
    /// Of jobs of one of these owners; empty limits nothing.
    pub owners: Vec<String>,
    /// In one of these networks; empty limits nothing.
    pub networks: Vec<String>,
    /// Of a group of gateways.
    pub group: Option<String>,
    /// Of a source.
    pub source: Option<IpAddr>,
    /// In a network.
    pub network: Option<String>,
}

impl Store {
    /// A job by its id, be it over or not.
    pub async fn job(&self, id: &str) -> Result<Job, StoreError> {
        let missing = || StoreError::not_found(format!("job {id:?}"));
        read::storable(id).ok_or_else(missing)?;
        let row = sqlx::query("SELECT group_name, record, ended_at, ended_by FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_optional(self.db.read())
            .await?;
        read_job(&row.ok_or_else(missing)?)
    }

    /// Jobs, newest first. A page of a search may have fewer than it has room for, or none, and still a next one: it
    /// looks through the newest hundred thousand that the rest of the filter leaves, the next page goes on behind them.
    pub async fn jobs(&self, filter: &JobFilter, request: &PageRequest) -> Result<Page<Job>, StoreError> {
        if let Some(search) = &filter.search {
            return self.jobs_with(search, filter, request).await;
        }
        let mut sql = Sql::new("SELECT group_name, record, ended_at, ended_by FROM jobs WHERE 1 = 1");
        narrow_jobs(&mut sql, "jobs", filter)?;
        newest_first(&mut sql, request)?;
        let rows = sql.fetch_all(self.db.read()).await?;
        page(rows, request, read_job, cursor_of)
    }

    /// Living leases, one item a source, by group and source.
    pub async fn leases(
        &self,
        filter: &LeaseFilter,
        request: &PageRequest,
    ) -> Result<Page<LeaseView>, StoreError> {
        let mut sql = Sql::new(
            "SELECT held.group_name, held.source, jobs.record FROM lease_sources AS held \
             JOIN jobs ON jobs.id = held.job_id WHERE 1 = 1",
        );
        narrow(&mut sql, filter)?;
        if let Some(after) = &request.after {
            // A source has no slash, a group may.
            let (group, source) = after.rsplit_once('/').ok_or_else(bad_cursor)?;
            read::storable(after).ok_or_else(bad_cursor)?;
            sql.push(" AND (held.group_name, held.source) > (")
                .text(group)
                .push(", ")
                .text(source)
                .push(")");
        }
        sql.push(" ORDER BY held.group_name, held.source LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.db.read()).await?;
        page(rows, request, read_lease, |view| {
            format!("{}/{}", view.group, view.source)
        })
    }

    /// The jobs whose leases on a source ended last, one a group, where nobody has said since that their machine is gone:
    /// gateways may have the source in quarantine. A source that is held again is left out.
    pub async fn left_behind(&self, filter: &LeaseFilter) -> Result<Vec<Job>, StoreError> {
        let mut sql = Sql::new(
            "SELECT jobs.group_name, jobs.record, jobs.ended_at, jobs.ended_by FROM ended_sources AS held \
             JOIN jobs ON jobs.id = held.job_id WHERE NOT EXISTS (SELECT 1 FROM lease_sources AS living \
             WHERE living.group_name = held.group_name AND living.source = held.source)",
        );
        narrow(&mut sql, filter)?;
        sql.push(" ORDER BY held.group_name LIMIT ").number(MAX_LEFT);
        let rows = sql.fetch_all(self.db.read()).await?;
        rows.iter().map(read_job).collect()
    }

    /// The job whose lease holds a source: in one group, or in any, the newest first.
    pub async fn lease_at(&self, group: Option<&str>, source: IpAddr) -> Result<Option<Job>, StoreError> {
        let mut sql = Sql::new(
            "SELECT jobs.group_name, jobs.record, jobs.ended_at, jobs.ended_by FROM lease_sources AS held \
             JOIN jobs ON jobs.id = held.job_id WHERE held.source = ",
        );
        sql.text(&text(source));
        equals(&mut sql, " AND held.group_name = ", group)?;
        sql.push(" ORDER BY jobs.started_at DESC, jobs.id DESC LIMIT 1");
        let rows = sql.fetch_all(self.db.read()).await?;
        rows.first().map(read_job).transpose()
    }
}

/// The conditions of a filter, for jobs under a name of the statement.
pub(super) fn narrow_jobs(sql: &mut Sql, of: &'static str, filter: &JobFilter) -> Result<(), StoreError> {
    for (column, values) in [(".owner IN ", &filter.owners), (".network IN ", &filter.networks)] {
        if !values.is_empty() {
            sql.push(" AND ").push(of);
        }
        one_of(sql, column, values)?;
    }
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
    let repo = lower(&filter.repo);
    // A repository says whose it is, and the index of repositories begins with that.
    let of_repo = repo
        .as_deref()
        .and_then(|repo| repo.split_once('/'))
        .map(|(owner, _)| owner.to_owned());
    let owner = lower(&filter.owner);
    for (column, value) in [
        (".owner = ", owner.or(of_repo).as_deref()),
        (".repo = ", repo.as_deref()),
        (".workflow = ", filter.workflow.as_deref()),
        (".run_id = ", filter.run_id.as_deref()),
        (".job = ", filter.job.as_deref()),
        (".network = ", filter.network.as_deref()),
        (".assurance = ", filter.assurance.map(Assurance::as_str)),
    ] {
        if value.is_some() {
            sql.push(" AND ").push(of);
        }
        equals(sql, column, value)?;
    }
    if let Some(alive) = filter.alive {
        sql.push(" AND ").push(of);
        sql.push(if alive {
            ".ended_at IS NULL"
        } else {
            ".ended_at IS NOT NULL"
        });
    }
    if let Some(source) = filter.source.map(text) {
        sql.push(" AND ").push(of);
        sql.push(".id IN (SELECT job_id FROM lease_sources WHERE source = ")
            .text(&source)
            .push(" UNION SELECT job_id FROM ended_sources WHERE source = ")
            .text(&source)
            .push(")");
    }
    for (compared, time) in [
        (".started_at >= ", filter.since),
        (".started_at < ", filter.until),
    ] {
        if let Some(time) = time {
            sql.push(" AND ")
                .push(of)
                .push(compared)
                .number(Micros::from(time).0);
        }
    }
    if let Some(search) = &filter.search {
        read::storable(search).ok_or_else(|| StoreError::invalid("search", "no text has a NUL"))?;
        let wanted = containing(search);
        for (place, column) in SEARCHED.into_iter().enumerate() {
            sql.push(if place == 0 { " AND (LOWER(" } else { " OR LOWER(" });
            sql.push(of)
                .push(column)
                .push(") LIKE ")
                .text(&wanted)
                .push(" ESCAPE '!'");
        }
        sql.push(")");
    }
    Ok(())
}

/// For `LIKE … ESCAPE '!'`: nothing of the text is a wildcard.
fn containing(text: &str) -> String {
    // As `LOWER` folds it: other letters are found as they are spelled.
    let plain = text.to_ascii_lowercase();
    let plain = plain
        .chars()
        .flat_map(|c| matches!(c, '%' | '_' | '!').then_some('!').into_iter().chain([c]));
    format!("%{}%", plain.collect::<String>())
}

/// What a search looks through.
const SEARCHED: [&str; 5] = [".id", ".repo", ".workflow", ".job", ".run_id"];

/// The page of a list of jobs.
pub(super) fn newest_first(sql: &mut Sql, request: &PageRequest) -> Result<(), StoreError> {
    if let Some(after) = &request.after {
        let (started, id) = after.split_once('.').ok_or_else(bad_cursor)?;
        let started = started.parse().map_err(|_| bad_cursor())?;
        read::storable(id).ok_or_else(bad_cursor)?;
        sql.push(" AND (jobs.started_at, jobs.id) < (")
            .number(started)
            .push(", ")
            .text(id)
            .push(")");
    }
    sql.push(" ORDER BY jobs.started_at DESC, jobs.id DESC LIMIT ")
        .number(i64::from(request.size()) + 1);
    Ok(())
}

/// Where a page goes on behind a job.
pub(super) fn cursor_of(job: &Job) -> String {
    format!("{}.{}", Micros::from(job.lease.started_at).0, job.lease.id)
}

/// The conditions of a filter, for `held` sources of `jobs`.
fn narrow(sql: &mut Sql, filter: &LeaseFilter) -> Result<(), StoreError> {
    one_of(sql, " AND jobs.owner IN ", &filter.owners)?;
    one_of(sql, " AND jobs.network IN ", &filter.networks)?;
    equals(sql, " AND held.group_name = ", filter.group.as_deref())?;
    equals(sql, " AND held.source = ", filter.source.map(text).as_deref())?;
    equals(sql, " AND jobs.network = ", filter.network.as_deref())?;
    Ok(())
}

fn text(source: IpAddr) -> String {
    source.to_canonical().to_string()
}

/// A condition, when there is something to compare with.
fn equals(sql: &mut Sql, condition: &'static str, value: Option<&str>) -> Result<(), StoreError> {
    if let Some(value) = value {
        read::storable(value).ok_or_else(|| StoreError::invalid("filter", "no text has a NUL"))?;
        sql.push(condition).text(value);
    }
    Ok(())
}

/// A condition, when there is something to choose from.
fn one_of(sql: &mut Sql, condition: &'static str, values: &[String]) -> Result<(), StoreError> {
    if values.iter().any(|value| read::storable(value).is_none()) {
        return Err(StoreError::invalid("filter", "no text has a NUL"));
    }
    if !values.is_empty() {
        sql.push(condition).texts(values.iter().map(String::as_str));
    }
    Ok(())
}

pub(super) fn read_job(row: &AnyRow) -> Result<Job, StoreError> {
    let ended_by: Option<&str> = get(row, "ended_by")?;
    Ok(Job {
        lease: json("a lease", get(row, "record")?)?,
        group: get(row, "group_name")?,
        ended_at: get::<Option<i64>>(row, "ended_at")?.map(|at| Micros(at).timestamp()),
        ended_by: ended_by.map(|text| word("who ended a lease", text)).transpose()?,
        counts: None,
    })
}

fn read_lease(row: &AnyRow) -> Result<LeaseView, StoreError> {
    let lease: LeaseRecord = json("a lease", get(row, "record")?)?;
    let source: &str = get(row, "source")?;
    Ok(LeaseView {
        source: source
            .parse()
            .map_err(|_| StoreError::Unreadable(format!("the source {source:?}")))?,
        job_id: lease.id.into(),
        repo: lease.identity.repo.into(),
        network: lease.network.into(),
        group: get(row, "group_name")?,
        expires_at: lease.expires_at,
    })
}
