//! Owners, by what the store has of each, and where baselines stand: what overviews over everything are made of.
//!
//! Reads only, each of its questions one walk over an index.

use hashbrown::HashMap;
use sqlx::any::AnyRow;

use super::observe::read_standing;
use super::read::{get, most};
use super::{Micros, Store, StoreError};
use crate::baseline::State;

/// Baselines that are read at most.
const MAX_BASELINES: usize = 400_000;
/// Owners that are read at most.
const MAX_OWNERS: usize = 100_000;

/// What the store has of an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerCounts {
    /// Living policies.
    pub policies: u64,
    /// Those that are attached nowhere.
    pub unattached: u64,
    /// Jobs that run.
    pub jobs_alive: u64,
}

/// Where a scope's baseline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Its state now.
    pub state: State,
    /// Trusted runs that were seen.
    pub runs: u64,
}

impl Store {
    /// Every owner that has a policy or a job that runs.
    pub async fn owners(&self) -> Result<HashMap<String, OwnerCounts>, StoreError> {
        let mut owners: HashMap<String, OwnerCounts> = HashMap::new();
        let policies = sqlx::query(
            "SELECT owner, COUNT(*) AS policies, CAST(SUM(CASE WHEN EXISTS (SELECT 1 FROM attachments \
             WHERE attachments.policy_id = policies.id) THEN 0 ELSE 1 END) AS BIGINT) AS unattached \
             FROM policies WHERE deleted_at IS NULL GROUP BY owner LIMIT $1",
        )
        .bind(most(MAX_OWNERS))
        .fetch_all(self.db.read())
        .await?;
        for row in &policies {
            let of = owners.entry(get(row, "owner")?).or_default();
            of.policies = get::<i64>(row, "policies")?.unsigned_abs();
            of.unattached = get::<i64>(row, "unattached")?.unsigned_abs();
        }
        let jobs = sqlx::query(
            "SELECT owner, COUNT(*) AS jobs FROM jobs WHERE ended_at IS NULL GROUP BY owner LIMIT $1",
        )
        .bind(most(MAX_OWNERS))
        .fetch_all(self.db.read())
        .await?;
        for row in &jobs {
            let of = owners.entry(get(row, "owner")?).or_default();
            of.jobs_alive = get::<i64>(row, "jobs")?.unsigned_abs();
        }
        Ok(owners)
    }

    /// Where every scope's baseline stands, by scope.
    pub async fn baseline_states(&self) -> Result<HashMap<String, Stands>, StoreError> {
        let now = Micros::now().timestamp();
        let read = |row: &AnyRow| -> Result<(String, Stands), StoreError> {
            let standing = read_standing(row)?;
            let stands = Stands {
                state: standing.state(now),
                runs: standing.runs,
            };
            Ok((get(row, "scope")?, stands))
        };
        let rows = sqlx::query(
            "SELECT scope, runs, quiet, changed_at, stable_at, unsettled, endpoints FROM baselines LIMIT $1",
        )
        .bind(most(MAX_BASELINES))
        .fetch_all(self.events.read())
        .await?;
        rows.iter().map(read).collect()
    }
}
