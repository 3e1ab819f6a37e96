//! Baselines as people look at them, and forgetting what nobody reached for long. How they come about is
//! [`super::observe`]'s.

mod daily;
mod page;

use hashbrown::HashSet;
use sqlx::any::AnyRow;
use tidegate_policy::job::Scope;

use super::observe::{read_standing, stamp, target};
use super::read::{get, most};
use super::sql::Sql;
use super::{Micros, Store, StoreError, Tx, names};
use crate::baseline::import::{self, Seen, Wanted};
use crate::baseline::model::{Baseline, BaselineEndpoint, Observation};
use crate::baseline::{LeftOut, Status, Target};

pub use self::page::{BaselineFilter, Shown};

/// Endpoints that are read of one baseline: all that it can hold.
const MOST: i64 = super::observe::MOST_ROWS;
/// Observations that are read at once.
const MOST_OBSERVATIONS: usize = 1_000;
/// Rows that one transaction forgets at most.
const LOT: i64 = 4_000;

/// A baseline with what an import takes of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The baseline; what is left out is said by what was asked for.
    pub baseline: Baseline,
    /// What an import takes, as policies name it; sorted.
    pub endpoints: Vec<String>,
    /// What it leaves out, by reason.
    pub left_out: Vec<(LeftOut, usize)>,
}

impl Store {
    /// What a scope's jobs were seen to reach. Of a scope that nobody has seen: nothing, being created.
    pub async fn baseline(&self, scope: &Scope, wanted: &Wanted) -> Result<Candidate, StoreError> {
        self.settle_counts().await;
        let mut baseline = self.standing(scope).await?;
        let mut endpoints = Vec::new();
        for seen in self.seen(&baseline.scope).await? {
            let left_out = import::left_out(&seen, wanted);
            if left_out.is_empty() {
                endpoints.extend(import::rule(&seen.target));
            }
            baseline.endpoints.push(BaselineEndpoint::of(&seen, left_out));
        }
        endpoints.sort_unstable();
        let reasons = baseline.endpoints.iter().map(|one| one.left_out.as_slice());
        let left_out = import::counted(reasons);
        Ok(Candidate {
            baseline,
            endpoints,
            left_out,
        })
    }

    /// Where a scope's baseline stands, without its endpoints.
    async fn standing(&self, scope: &Scope) -> Result<Baseline, StoreError> {
        let text = names::scope("scope", scope)?;
        let row = sqlx::query("SELECT * FROM baselines WHERE scope = $1")
            .bind(&text)
            .fetch_optional(self.events.read())
            .await?;
        let (standing, dropped, endpoints) = match &row {
            Some(row) => (
                read_standing(row)?,
                get::<i64>(row, "dropped")?,
                get::<i64>(row, "endpoints")? + get::<i64>(row, "strangers")?,
            ),
            None => Default::default(),
        };
        Ok(Baseline {
            state: standing.state(Micros::now().timestamp()),
            runs: standing.runs,
            runs_since_change: standing.quiet,
            changed_at: standing.changed_at,
            stable_at: standing.stable_at,
            endpoints_dropped: dropped.unsigned_abs(),
            endpoints_total: endpoints.unsigned_abs(),
            endpoints: Vec::new(),
            next: None,
            scope: text,
        })
    }

    async fn seen(&self, scope: &str) -> Result<Vec<Seen>, StoreError> {
        let rows = sqlx::query("SELECT name FROM suffix_names WHERE scope = $1")
            .bind(scope)
            .fetch_all(self.events.read())
            .await?;
        let suffixes = rows.iter().map(|row| get::<String>(row, "name"));
        let suffixes = suffixes.collect::<Result<HashSet<_>, _>>()?;
        let rows = sqlx::query(
            "SELECT e.*, COALESCE(d.status, '') AS status FROM baseline_endpoints AS e \
             LEFT JOIN detections AS d ON d.id = e.detection WHERE e.scope = $1 \
             ORDER BY e.endpoint, e.port, e.transport LIMIT $2",
        )
        .bind(scope)
        .bind(MOST)
        .fetch_all(self.events.read())
        .await?;
        let read = |row: &AnyRow| {
            let Some(target) = target(row)? else {
                return Ok(None);
            };
            let suffix = suffixes.contains(target.endpoint.as_str());
            read_seen(row, target, suffix).map(Some)
        };
        rows.iter().filter_map(|row| read(row).transpose()).collect()
    }

    /// Who reached an owner's endpoints with this text in them, newest first; at most 1 000. For clients that want to
    /// see each run.
    pub async fn observations(
        &self,
        owner: &str,
        search: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Observation>, StoreError> {
        let mut sql = Sql::new("SELECT * FROM observations WHERE endpoint <> '' AND owner = ");
        sql.text(&names::owner(owner)?);
        if let Some(search) = search {
            sql.push(" AND endpoint LIKE ")
                .owned(page::containing(search)?)
                .push(" ESCAPE '!'");
        }
        sql.push(" ORDER BY at DESC LIMIT ")
            .number(most(limit.min(MOST_OBSERVATIONS)));
        let rows = sql.fetch_all(self.events.read()).await?;
        let read = |row: &AnyRow| read_observation(row).transpose();
        rows.iter().filter_map(read).collect()
    }

    /// Forgets who reached what before `observations_from`, and what nobody reached, and no detection told of, since
    /// `baselines_from`. Says how many rows went.
    pub(super) async fn forget_observed(
        &self,
        observations_from: Micros,
        baselines_from: Micros,
    ) -> Result<u64, StoreError> {
        self.settle_counts().await;
        let mut all = 0;
        for what in Old::ALL {
            let before = match what {
                Old::Observations => observations_from.0,
                Old::Endpoints | Old::Suffixes | Old::Detections | Old::Baselines => baselines_from.0,
            };
            loop {
                let some = self
                    .events
                    .write(move |tx| Box::pin(async move { tx.forget_old(what, before).await }))
                    .await?;
                all += some;
                if some < LOT.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(all)
    }
}

/// What grows old.
#[derive(Clone, Copy)]
enum Old {
    Observations,
    Endpoints,
    Suffixes,
    Detections,
    Baselines,
}

impl Old {
    /// A baseline goes after its endpoints, a detection after what it tells of.
    const ALL: [Self; 5] = [
        Self::Observations,
        Self::Endpoints,
        Self::Suffixes,
        Self::Detections,
        Self::Baselines,
    ];

    const fn sql(self) -> &'static str {
        match self {
            Self::Observations => {
                "DELETE FROM observations WHERE (repo, run, endpoint, port, transport, trust, workflow, cluster) IN \
                 (SELECT repo, run, endpoint, port, transport, trust, workflow, cluster FROM observations \
                 WHERE at < $1 ORDER BY at LIMIT $2)"
            }
            Self::Endpoints => {
                "DELETE FROM baseline_endpoints WHERE (scope, endpoint, port, transport) IN \
                 (SELECT scope, endpoint, port, transport FROM baseline_endpoints WHERE last_at < $1 \
                 ORDER BY last_at LIMIT $2)"
            }
            Self::Suffixes => {
                "DELETE FROM suffix_names WHERE (scope, name) IN \
                 (SELECT scope, name FROM suffix_names WHERE at < $1 ORDER BY at LIMIT $2)"
            }
            Self::Detections => {
                "DELETE FROM detections WHERE id IN \
                 (SELECT id FROM detections WHERE last_at < $1 ORDER BY last_at LIMIT $2)"
            }
            Self::Baselines => {
                "DELETE FROM baselines WHERE scope IN \
                 (SELECT scope FROM baselines WHERE last_at < $1 ORDER BY last_at LIMIT $2)"
            }
        }
    }
}

impl Tx<'_> {
    async fn forget_old(&mut self, what: Old, before: i64) -> Result<u64, StoreError> {
        if matches!(what, Old::Endpoints) {
            return self.forget_endpoints(before).await;
        }
        let removed = sqlx::query(what.sql())
            .bind(before)
            .bind(LOT)
            .execute(self.connection())
            .await?;
        Ok(removed.rows_affected())
    }

    /// Endpoints make room in their baselines when they go.
    async fn forget_endpoints(&mut self, before: i64) -> Result<u64, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("{} RETURNING scope, runs", Old::Endpoints.sql()));
        let rows = sqlx::query(sql)
            .bind(before)
            .bind(LOT)
            .fetch_all(self.connection())
            .await?;
        let mut gone: std::collections::BTreeMap<String, (i64, i64)> = std::collections::BTreeMap::new();
        for row in &rows {
            let (own, strangers) = gone.entry(get(row, "scope")?).or_default();
            *(if get::<i64>(row, "runs")? > 0 {
                own
            } else {
                strangers
            }) += 1;
        }
        for (scope, (own, strangers)) in gone {
            sqlx::query(
                "UPDATE baselines SET endpoints = CASE WHEN endpoints > $2 THEN endpoints - $2 ELSE 0 END, \
                 strangers = CASE WHEN strangers > $3 THEN strangers - $3 ELSE 0 END WHERE scope = $1",
            )
            .bind(scope)
            .bind(own)
            .bind(strangers)
            .execute(self.connection())
            .await?;
        }
        Ok(rows.len() as u64)
    }
}

fn read_seen(row: &AnyRow, target: Target, suffix: bool) -> Result<Seen, StoreError> {
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(Seen {
        target,
        first_at: Micros(get(row, "first_at")?).timestamp(),
        last_at: Micros(get(row, "last_at")?).timestamp(),
        calls: number("calls")?,
        runs: number("runs")?,
        fork_runs: number("fork_runs")?,
        claimed_runs: number("claimed_runs")?,
        late: number("late")? != 0,
        accepted: number("accepted")? != 0,
        suffix,
        detection: Status::parse(get(row, "status")?),
    })
}

fn read_observation(row: &AnyRow) -> Result<Option<Observation>, StoreError> {
    let Some(target) = target(row)? else {
        return Ok(None);
    };
    Ok(Some(Observation {
        endpoint: target.endpoint.into(),
        port: target.port,
        transport: target.transport,
        repo: get(row, "repo")?,
        workflow: get(row, "workflow")?,
        job: get(row, "job")?,
        run: get(row, "run")?,
        event: get(row, "event")?,
        git_ref: get(row, "ref")?,
        head_repo: get(row, "head_repo")?,
        assurance: get(row, "assurance")?,
        time: stamp(get(row, "at")?).unwrap_or_default(),
    }))
}
