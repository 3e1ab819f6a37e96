//! Jobs and living leases as people and the API look at them.

use std::net::IpAddr;

use sqlx::any::AnyRow;
use tidegate_control_wire::record::LeaseRecord;

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

    /// Jobs, newest first.
    pub async fn jobs(&self, filter: &JobFilter, request: &PageRequest) -> Result<Page<Job>, StoreError> {
        let mut sql = Sql::new("SELECT group_name, record, ended_at, ended_by FROM jobs WHERE 1 = 1");
        one_of(&mut sql, " AND owner IN ", &filter.owners)?;
        one_of(&mut sql, " AND network IN ", &filter.networks)?;
        let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        equals(&mut sql, " AND owner = ", lower(&filter.owner).as_deref())?;
        equals(&mut sql, " AND repo = ", lower(&filter.repo).as_deref())?;
        equals(&mut sql, " AND workflow = ", filter.workflow.as_deref())?;
        equals(&mut sql, " AND run_id = ", filter.run_id.as_deref())?;
        match filter.alive {
            Some(true) => sql.push(" AND ended_at IS NULL"),
            Some(false) => sql.push(" AND ended_at IS NOT NULL"),
            None => &mut sql,
        };
        if let Some(after) = &request.after {
            let (started, id) = after.split_once('.').ok_or_else(bad_cursor)?;
            let started = started.parse().map_err(|_| bad_cursor())?;
            read::storable(id).ok_or_else(bad_cursor)?;
            sql.push(" AND (started_at, id) < (")
                .number(started)
                .push(", ")
                .text(id)
                .push(")");
        }
        sql.push(" ORDER BY started_at DESC, id DESC LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.db.read()).await?;
        let cursor = |job: &Job| format!("{}.{}", Micros::from(job.lease.started_at).0, job.lease.id);
        page(rows, request, read_job, cursor)
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

fn read_job(row: &AnyRow) -> Result<Job, StoreError> {
    let ended_by: Option<&str> = get(row, "ended_by")?;
    Ok(Job {
        lease: json("a lease", get(row, "record")?)?,
        group: get(row, "group_name")?,
        ended_at: get::<Option<i64>>(row, "ended_at")?.map(|at| Micros(at).timestamp()),
        ended_by: ended_by.map(|text| word("who ended a lease", text)).transpose()?,
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
