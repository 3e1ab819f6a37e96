//! Which process on the runner an event comes from, as far as an agent there reported it.
//!
//! Owns the join: reports of the event's job about its name, else about its address and port. Reports come apart from
//! events, before or after them, so they are joined when events are read and never stored with them.

use hashbrown::HashMap;
use sqlx::any::AnyRow;
use tidegate_control_wire::event::{EventRecord, Process};
use tidegate_policy::event::Kind;

use super::StoredEvent;
use crate::store::read::get;
use crate::store::sql::Sql;
use crate::store::{Store, StoreError};

/// Events whose reports are asked for together: each adds three values to the statement.
const TOGETHER: usize = 500;
/// Reports that are read for them at most.
const MAX_REPORTS: i64 = 10_000;

/// What an agent reported of a process.
#[derive(Debug)]
struct Report {
    name: String,
    address: String,
    port: u16,
    at: i64,
    process: Process,
}

impl Store {
    /// Fills in the processes of events that tell of none.
    pub(super) async fn join_processes(&self, events: &mut [StoredEvent]) -> Result<(), StoreError> {
        for events in events.chunks_mut(TOGETHER) {
            let mut lonely = events
                .iter_mut()
                .map(|stored| &mut stored.event)
                .filter(|event| event.process.is_none() && event.job.is_some())
                .collect::<Vec<_>>();
            if lonely.is_empty() {
                continue;
            }
            let reports = self.reports(&lonely).await?;
            for event in &mut lonely {
                join(event, &reports);
            }
        }
        Ok(())
    }

    /// Reports that may concern some events, by job.
    async fn reports(&self, events: &[&mut EventRecord]) -> Result<HashMap<String, Vec<Report>>, StoreError> {
        let distinct = |texts: Vec<String>| {
            let mut texts = texts;
            texts.sort_unstable();
            texts.dedup();
            texts
        };
        let jobs = events
            .iter()
            .filter_map(|event| Some(event.job.as_ref()?.id.to_string()));
        let jobs = distinct(jobs.collect());
        let names = events
            .iter()
            .filter_map(|event| Some(event.name.as_ref()?.to_string()));
        let names = distinct(names.collect());
        let addresses = distinct(events.iter().filter_map(|event| reached(event)).collect());
        let mut sql = Sql::new(
            "SELECT job_id, name, address, port, process, sha256, parent, at FROM process_reports WHERE job_id IN ",
        )
        .once();
        sql.texts(jobs.iter().map(String::as_str)).push(" AND (1 = 0");
        if !names.is_empty() {
            sql.push(" OR name IN ").texts(names.iter().map(String::as_str));
        }
        if !addresses.is_empty() {
            sql.push(" OR address IN ")
                .texts(addresses.iter().map(String::as_str));
        }
        sql.push(") LIMIT ").number(MAX_REPORTS);
        let mut reports: HashMap<String, Vec<Report>> = HashMap::new();
        for row in sql.fetch_all(self.events.read()).await? {
            reports
                .entry(get(&row, "job_id")?)
                .or_default()
                .push(read_report(&row)?);
        }
        Ok(reports)
    }
}

/// The address that the process knows: the gateway may have dialled another.
fn reached(event: &EventRecord) -> Option<String> {
    let address = event.original_address.or(event.address)?;
    Some(address.to_canonical().to_string())
}

/// Several processes may have reached for the same: the newest is named, and the note says that there are others.
fn join(event: &mut EventRecord, reports: &HashMap<String, Vec<Report>>) {
    let Some(reports) = event.job.as_ref().and_then(|job| reports.get(job.id.as_str())) else {
        return;
    };
    let mut fit: Vec<&Report> = match &event.name {
        Some(name) => reports
            .iter()
            .filter(|report| report.names(name, event))
            .collect(),
        None => Vec::new(),
    };
    if fit.is_empty()
        && let Some(address) = reached(event)
    {
        let at = |report: &&Report| report.address == address && report.port == event.port;
        fit = reports.iter().filter(at).collect();
    }
    let Some(newest) = fit.iter().max_by_key(|report| (report.at, &report.process.name)) else {
        return;
    };
    let others = fit.iter().filter(|report| report.process != newest.process);
    let mut others: Vec<&Process> = others.map(|report| &report.process).collect();
    others.sort_unstable_by_key(|process| (&process.name, &process.sha256, &process.parent));
    others.dedup();
    if !others.is_empty() {
        let said = format!("one of {} processes that reached for it", others.len() + 1);
        event.note = Some(match &event.note {
            Some(note) => format!("{note}; {said}").into(),
            None => said.into(),
        });
    }
    event.process = Some(newest.process.clone());
}

impl Report {
    /// The same name and, where both are of a connection, the same port.
    fn names(&self, name: &str, event: &EventRecord) -> bool {
        let port_fits = event.kind == Kind::Dns || self.port == 0 || self.port == event.port;
        self.name == name && port_fits
    }
}

fn read_report(row: &AnyRow) -> Result<Report, StoreError> {
    Ok(Report {
        name: get(row, "name")?,
        address: get(row, "address")?,
        port: u16::try_from(get::<i64>(row, "port")?).unwrap_or_default(),
        at: get(row, "at")?,
        process: Process {
            name: get::<&str>(row, "process")?.into(),
            sha256: get::<&str>(row, "sha256")?.into(),
            parent: get::<&str>(row, "parent")?.into(),
        },
    })
}

#[cfg(test)]
mod tests;
