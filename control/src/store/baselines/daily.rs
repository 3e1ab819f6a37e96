//! How often a scope's jobs called their endpoints, by day: what a small picture beside each is drawn from.
//!
//! Reads the sums of verdicts, which are kept by repository and workflow; for organizations and clusters there is no way to
//! them that does not read everybody's, so those have no pictures.

use hashbrown::HashMap;
use sqlx::any::AnyRow;
use tidegate_policy::job::Scope;

use super::page::key;
use crate::baseline::model::BaselineEndpoint;
use crate::baseline::{Target, Transport};
use crate::store::read::{get, most};
use crate::store::rollups::day;
use crate::store::{Micros, Store, StoreError};

/// Workflows of a repository that are summed up at most, in the order of their files.
const MOST_WORKFLOWS: usize = 32;
/// Sums of one workflow that are read at most. A page has 1 000 endpoints at most, 90 days and few kinds each.
const MOST_SUMS: usize = 100_000;

/// Whose calls, and of which days.
pub(super) struct Days {
    repo: String,
    /// One of the repository's; absent for all.
    workflow: Option<String>,
    first: i64,
    count: usize,
}

impl Days {
    /// The last `count` days of a scope's calls, today the last; `None` for a scope whose calls are not kept by itself.
    pub(super) fn of(scope: &Scope, count: u32) -> Option<Self> {
        let (repo, workflow) = match scope {
            Scope::Repository(repo) => (String::from(repo.to_lowercase()), None),
            Scope::Workflow(path) => {
                let (at, _) = path.match_indices('/').nth(1)?;
                let (repo, file) = path.split_at(at);
                (repo.to_lowercase(), Some(file.trim_start_matches('/').to_owned()))
            }
            Scope::Organization(_) | Scope::Cluster(_) | Scope::Network(_) | Scope::Lease(_) => return None,
        };
        Some(Self {
            repo,
            workflow,
            first: day(Micros::now()) + 1 - i64::from(count),
            count: count as usize,
        })
    }
}

impl Store {
    /// Adds to each endpoint its calls by day.
    pub(super) async fn add_days(
        &self,
        days: &Days,
        endpoints: &mut [BaselineEndpoint],
    ) -> Result<(), StoreError> {
        let places = endpoints.iter().enumerate().map(|(at, one)| (key(one), at));
        let places: HashMap<Target, usize> = places.collect();
        for one in endpoints.iter_mut() {
            one.daily = vec![0; days.count];
        }
        let workflows = match &days.workflow {
            Some(workflow) => vec![workflow.clone()],
            None => self.workflows_of(&days.repo).await?,
        };
        let Some((first, last)) = endpoints.first().zip(endpoints.last()) else {
            return Ok(());
        };
        let (first, last) = (first.endpoint.clone(), last.endpoint.clone());
        for workflow in workflows {
            for row in self.sums_of(days, &workflow, (&first, &last)).await? {
                let Some((target, on, calls)) = read_sum(&row)? else {
                    continue;
                };
                let Some(one) = places.get(&target).and_then(|at| endpoints.get_mut(*at)) else {
                    continue;
                };
                let at = usize::try_from(on - days.first).ok();
                if let Some(sum) = at.and_then(|at| one.daily.get_mut(at)) {
                    *sum = sum.saturating_add(calls);
                }
            }
        }
        Ok(())
    }

    /// The workflow files that sums of a repository name: a step of the key each, however many sums there are.
    async fn workflows_of(&self, repo: &str) -> Result<Vec<String>, StoreError> {
        // Jobs without a file come first.
        let mut found = vec![String::new()];
        while found.len() < MOST_WORKFLOWS {
            let last = found.last().cloned().unwrap_or_default();
            let row = sqlx::query(
                "SELECT workflow FROM rollups WHERE repo = $1 AND workflow > $2 ORDER BY workflow LIMIT 1",
            )
            .bind(repo)
            .bind(last)
            .fetch_optional(self.events.read())
            .await?;
            let Some(row) = row else { break };
            found.push(get(&row, "workflow")?);
        }
        Ok(found)
    }

    /// What a workflow's jobs reached between two names, by day. What was refused was not reached.
    async fn sums_of(
        &self,
        days: &Days,
        workflow: &str,
        (first, last): (&str, &str),
    ) -> Result<Vec<AnyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT day, endpoint, port, kind, CAST(SUM(verdicts) AS BIGINT) AS calls FROM rollups \
             WHERE repo = $1 AND workflow = $2 AND day >= $3 AND endpoint >= $4 AND endpoint <= $5 \
             AND verdict <> 'refuse' AND kind <> 'dns' GROUP BY day, endpoint, port, kind LIMIT $6",
        )
        .bind(&days.repo)
        .bind(workflow)
        .bind(days.first)
        .bind(first)
        .bind(last)
        .bind(most(MOST_SUMS))
        .fetch_all(self.events.read())
        .await?;
        Ok(rows)
    }
}

/// What a sum is of, its day, and its calls; `None` for what is no endpoint of a baseline.
fn read_sum(row: &AnyRow) -> Result<Option<(Target, i64, u64)>, StoreError> {
    let transport = match get::<&str>(row, "kind")? {
        "tls" | "http" | "quic" | "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return Ok(None),
    };
    let Ok(port) = u16::try_from(get::<i64>(row, "port")?) else {
        return Ok(None);
    };
    let target = Target {
        endpoint: get::<&str>(row, "endpoint")?.into(),
        port,
        transport,
    };
    let calls = get::<i64>(row, "calls")?.unsigned_abs();
    Ok(Some((target, get(row, "day")?, calls)))
}
