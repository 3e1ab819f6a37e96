//! Sums for an overview: verdicts by hour, what was refused most, what was reached first, policies that say nothing.
//!
//! Owns how much of the sums one question reads. It writes nothing.

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use sqlx::any::AnyRow;
use tidegate_policy::verdict::{Reason, Verdict};

use super::read::get;
use super::rollups::{DAY, day};
use super::sql::Sql;
use super::sums::{HOUR, hour};
use super::{Micros, Store, StoreError, read};
use crate::model::{FirstSeen, IdlePolicy, RefusedName, VerdictCounts, VerdictHour};

/// Rows of sums by day that one question about refusals reads: a job may invent names.
const MAX_REFUSED_ROWS: i64 = 50_000;
/// Organizations that are compared for what was reached first anywhere; among more nobody says.
const MAX_OWNERS: i64 = 200;
/// Policies at scopes that are known to have been hit; with more, nothing is said of the others.
const MAX_HIT: usize = 50_000;
/// Attachments that are looked through for policies that were not; with more, nothing is said.
const MAX_ATTACHED: usize = 50_000;

/// What was refused most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedNames {
    /// The most frequent first.
    pub items: Vec<RefusedName>,
    /// There were too many names for all of them to be counted.
    pub truncated: bool,
}

/// What an organization's jobs had not reached before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstSeenQuestion {
    /// Organizations, lower case; empty for all.
    pub owners: Vec<String>,
    /// Say whether another organization reached it before.
    pub compared: bool,
    /// First reached at this time or later.
    pub since: Timestamp,
    /// So many at most.
    pub limit: u32,
}

/// Policies that say nothing to anybody, each list bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdlePolicies {
    /// Attached nowhere, the newest first.
    pub unattached: Vec<IdlePolicy>,
    /// How many those are in all.
    pub unattached_count: u64,
    /// Attached, but no verdict was theirs, the oldest first.
    pub never_hit: Vec<IdlePolicy>,
    /// How many those are in all.
    pub never_hit_count: u64,
    /// There were too many attachments or verdicts to tell which were never hit: none is said to be.
    pub truncated: bool,
}

impl Store {
    /// Since when sums are complete; nothing when they always were. An older program stored events without them.
    pub async fn sums_since(&self) -> Result<Option<Timestamp>, StoreError> {
        let since = self.event_mark("sums-since").await?;
        Ok((since > 0).then(|| Micros(since).timestamp()))
    }

    /// Verdicts of each of so many hours, the last of them that of `now`. No owners: of everybody, and of nobody's events.
    pub async fn verdict_hours(
        &self,
        owners: &[String],
        now: Timestamp,
        hours: u32,
    ) -> Result<Vec<VerdictHour>, StoreError> {
        let last = hour(now.into());
        let first = last - i64::from(hours.max(1)) + 1;
        let mut sql = Sql::new(
            "SELECT hour, verdict, CAST(SUM(verdicts) AS BIGINT) AS verdicts FROM verdict_hours WHERE hour >= ",
        );
        sql.number(first).push(" AND hour <= ").number(last);
        of_owners(&mut sql, owners)?;
        sql.push(" GROUP BY hour, verdict");
        let rows = sql.fetch_all(self.events.read()).await?;
        let mut found: HashMap<i64, VerdictCounts> = HashMap::new();
        for row in &rows {
            let counts = found.entry(get(row, "hour")?).or_default();
            let times = get::<i64>(row, "verdicts")?.unsigned_abs();
            match get::<&str>(row, "verdict")? {
                text if text == Verdict::Permit.as_str() => counts.permit = times,
                text if text == Verdict::Refuse.as_str() => counts.refuse = times,
                _ => counts.would_refuse = times,
            }
        }
        let of_hour = |hour: i64| VerdictHour {
            hour: Micros(hour.saturating_mul(HOUR)).timestamp(),
            verdicts: found.get(&hour).copied().unwrap_or_default(),
        };
        Ok((first..=last).map(of_hour).collect())
    }

    /// What was refused most, or would have been, since the beginning of a day (UTC). What search suffixes make is left
    /// out.
    pub async fn most_refused(
        &self,
        owners: &[String],
        since: Timestamp,
        limit: u32,
    ) -> Result<RefusedNames, StoreError> {
        let mut sql = Sql::new(
            "SELECT endpoint, CAST(SUM(refused) AS BIGINT) AS refused, CAST(SUM(would) AS BIGINT) AS would, \
             COUNT(DISTINCT place) AS places, MIN(reason) AS reason, MAX(reason) AS other, MAX(last_at) AS last_at, \
             CAST((SUM(COUNT(*)) OVER ()) AS BIGINT) AS looked FROM (SELECT endpoint, \
             CASE WHEN verdict = 'refuse' THEN verdicts ELSE 0 END AS refused, \
             CASE WHEN verdict = 'refuse' THEN 0 ELSE verdicts END AS would, \
             CASE WHEN repo = '' THEN NULL ELSE repo || '/' || workflow END AS place, reason, last_at \
             FROM rollups WHERE verdict <> 'permit' AND endpoint <> '' AND reason <> ",
        );
        sql.text(Reason::SearchSuffix.as_str())
            .push(" AND day >= ")
            .number(day(since.into()));
        of_owners(&mut sql, owners)?;
        sql.push(" ORDER BY day DESC LIMIT ")
            .number(MAX_REFUSED_ROWS)
            .push(") AS refusals GROUP BY endpoint ORDER BY SUM(refused) + SUM(would) DESC, endpoint LIMIT ")
            .number(i64::from(limit));
        let rows = sql.fetch_all(self.events.read()).await?;
        let looked = rows.first().map_or(Ok(0), |row| get::<i64>(row, "looked"))?;
        Ok(RefusedNames {
            items: rows.iter().map(read_refused).collect::<Result<_, _>>()?,
            truncated: looked >= MAX_REFUSED_ROWS,
        })
    }

    /// What organizations' jobs had not reached before, the newest first.
    pub async fn first_seen(&self, question: &FirstSeenQuestion) -> Result<Vec<FirstSeen>, StoreError> {
        let owners = self.baselined_owners().await?;
        let comparable =
            question.compared && i64::try_from(owners.len()).is_ok_and(|count| count <= MAX_OWNERS);
        let mut sql = Sql::new(
            "SELECT scope, endpoint, port, transport, first_at, last_at, calls, runs, \
             CASE WHEN EXISTS (SELECT 1 FROM baseline_endpoints AS other WHERE other.endpoint = own.endpoint AND \
             other.port = own.port AND other.transport = own.transport AND (other.first_at < own.first_at OR \
             (other.first_at = own.first_at AND other.scope < own.scope)) AND other.scope IN ",
        )
        .once();
        let none = [String::new()];
        let compared = if comparable && !owners.is_empty() {
            owners.as_slice()
        } else {
            &none
        };
        sql.texts(compared.iter().map(String::as_str));
        sql.push(
            ") THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END AS anywhere FROM baseline_endpoints AS own \
             WHERE substr(own.scope, 1, 4) = 'org:' AND own.first_at >= ",
        )
        .number(Micros::from(question.since).0);
        if !question.owners.is_empty() {
            let scopes: Vec<String> = question
                .owners
                .iter()
                .map(|owner| format!("org:{owner}"))
                .collect();
            check(&scopes)?;
            sql.push(" AND own.scope || '' IN ")
                .texts(scopes.iter().map(String::as_str));
        }
        sql.push(" ORDER BY own.first_at DESC, own.scope DESC LIMIT ")
            .number(i64::from(question.limit));
        let rows = sql.fetch_all(self.events.read()).await?;
        rows.iter().map(|row| read_first(row, comparable)).collect()
    }

    /// Scopes of the organizations that have a baseline; one more than are compared.
    async fn baselined_owners(&self) -> Result<Vec<String>, StoreError> {
        let sql =
            "SELECT scope FROM baselines WHERE scope >= 'org:' AND scope < 'org;' ORDER BY scope LIMIT $1";
        let rows = sqlx::query(sql)
            .bind(MAX_OWNERS + 1)
            .fetch_all(self.events.read())
            .await?;
        rows.iter().map(|row| get(row, "scope")).collect()
    }

    /// Policies that say nothing to anybody: attached nowhere, or without a verdict since a day.
    pub async fn idle_policies(
        &self,
        owners: &[String],
        since: Timestamp,
        limit: u32,
    ) -> Result<IdlePolicies, StoreError> {
        let (unattached, unattached_count) = self.unattached(owners, limit).await?;
        let attached = self.attached(owners).await?;
        let hit = self.hit_policies(since).await?;
        let mut idle = IdlePolicies {
            unattached,
            unattached_count,
            ..IdlePolicies::default()
        };
        if let (Some(attached), Some(hit)) = (attached, hit) {
            let since = Micros::from(since).0;
            // What was attached since had no time to.
            let spoke = |name: &str, (scope, at): &(String, i64)| {
                *at >= since || hit.contains(&(name.to_owned(), scope.clone()))
            };
            let silent = attached
                .into_iter()
                .filter(|(policy, scopes)| !scopes.iter().any(|scope| spoke(&policy.name, scope)));
            let mut silent: Vec<IdlePolicy> = silent
                .map(|(policy, scopes)| IdlePolicy {
                    attachments: scopes.into_iter().map(|(scope, _)| scope).collect(),
                    ..policy
                })
                .collect();
            silent.sort_by_key(|one| one.updated_at);
            idle.never_hit_count = silent.len() as u64;
            silent.truncate(limit as usize);
            idle.never_hit = silent;
        } else {
            idle.truncated = true;
        }
        Ok(idle)
    }

    /// Policies that are attached nowhere, the newest first, and how many those are in all.
    async fn unattached(&self, owners: &[String], limit: u32) -> Result<(Vec<IdlePolicy>, u64), StoreError> {
        const OF: &str = " FROM policies WHERE deleted_at IS NULL AND NOT EXISTS \
                          (SELECT 1 FROM attachments WHERE attachments.policy_id = policies.id)";
        let mut sql = Sql::new("SELECT COUNT(*) AS policies");
        sql.push(OF);
        of_owners(&mut sql, owners)?;
        let counted = sql.fetch_all(self.db.read()).await?;
        let count = counted.first().map_or(Ok(0), |row| get::<i64>(row, "policies"))?;
        let mut sql = Sql::new("SELECT owner, name, updated_at");
        sql.push(OF);
        of_owners(&mut sql, owners)?;
        sql.push(" ORDER BY updated_at DESC, owner, name LIMIT ")
            .number(i64::from(limit));
        let rows = sql.fetch_all(self.db.read()).await?;
        let policies = rows.iter().map(read_idle).collect::<Result<_, _>>()?;
        Ok((policies, count.unsigned_abs()))
    }

    /// Policies that are attached, and to what since when; nothing when those are too many.
    async fn attached(&self, owners: &[String]) -> Result<Option<Vec<Attached>>, StoreError> {
        let mut sql = Sql::new(
            "SELECT owner, name, updated_at, scope, attached_at FROM attachments \
             JOIN policies ON policies.id = attachments.policy_id WHERE deleted_at IS NULL",
        );
        of_owners(&mut sql, owners)?;
        sql.push(" ORDER BY owner, name, scope LIMIT ")
            .number(read::most(MAX_ATTACHED + 1));
        let rows = sql.fetch_all(self.db.read()).await?;
        let mut policies: Vec<Attached> = Vec::new();
        for row in &rows {
            let (owner, name): (&str, &str) = (get(row, "owner")?, get(row, "name")?);
            let known = policies
                .last()
                .is_some_and(|(one, _)| one.owner == owner && one.name == name);
            if !known {
                policies.push((read_idle(row)?, Vec::new()));
            }
            if let Some((_, scopes)) = policies.last_mut() {
                scopes.push((get(row, "scope")?, get(row, "attached_at")?));
            }
        }
        Ok((rows.len() <= MAX_ATTACHED).then_some(policies))
    }

    /// Names and scopes of policies that a verdict was of; nothing when those are too many.
    async fn hit_policies(&self, since: Timestamp) -> Result<Option<HashSet<(String, String)>>, StoreError> {
        // Not in the order of the primary key, else the database walks all of it.
        let sql = "SELECT DISTINCT policy || '' AS policy, scope || '' AS scope FROM policy_days WHERE day >= $1 LIMIT $2";
        let rows = sqlx::query(sql)
            .bind(day(since.into()))
            .bind(read::most(MAX_HIT + 1))
            .fetch_all(self.events.read())
            .await?;
        let hit = rows
            .iter()
            .map(|row| Ok((get(row, "policy")?, get(row, "scope")?)));
        let hit = hit.collect::<Result<_, StoreError>>()?;
        Ok((rows.len() <= MAX_HIT).then_some(hit))
    }
}

/// A policy, and what it is attached to since when.
type Attached = (IdlePolicy, Vec<(String, i64)>);

fn read_idle(row: &AnyRow) -> Result<IdlePolicy, StoreError> {
    Ok(IdlePolicy {
        owner: get(row, "owner")?,
        name: get(row, "name")?,
        attachments: Vec::new(),
        updated_at: Micros(get(row, "updated_at")?).timestamp(),
    })
}

/// The first moment of the day (UTC) that lies so many days before that of `now`.
pub fn days_ago(now: Timestamp, days: u32) -> Timestamp {
    let first = day(now.into()).saturating_sub(i64::from(days));
    Micros(first.saturating_mul(DAY)).timestamp()
}

/// ` AND owner IN (…)`, where some are asked for.
fn of_owners(sql: &mut Sql, owners: &[String]) -> Result<(), StoreError> {
    check(owners)?;
    if !owners.is_empty() {
        sql.push(" AND owner IN ")
            .texts(owners.iter().map(String::as_str));
    }
    Ok(())
}

fn check(texts: &[String]) -> Result<(), StoreError> {
    let wrong = texts.iter().any(|text| read::storable(text).is_none());
    if wrong {
        return Err(StoreError::invalid("owner", "no text has a NUL"));
    }
    Ok(())
}

fn read_refused(row: &AnyRow) -> Result<RefusedName, StoreError> {
    let (reason, other): (&str, &str) = (get(row, "reason")?, get(row, "other")?);
    let only = (reason == other && !reason.is_empty()).then_some(reason);
    Ok(RefusedName {
        endpoint: get(row, "endpoint")?,
        refuse: get::<i64>(row, "refused")?.unsigned_abs(),
        would_refuse: get::<i64>(row, "would")?.unsigned_abs(),
        workflows: get::<i64>(row, "places")?.unsigned_abs(),
        reason: only.map(str::to_owned),
        meaning: only.and_then(meaning).map(str::to_owned),
        last_at: Micros(get(row, "last_at")?).timestamp(),
    })
}

fn read_first(row: &AnyRow, compared: bool) -> Result<FirstSeen, StoreError> {
    let scope: &str = get(row, "scope")?;
    Ok(FirstSeen {
        owner: scope.strip_prefix("org:").unwrap_or(scope).to_owned(),
        endpoint: get(row, "endpoint")?,
        port: u16::try_from(get::<i64>(row, "port")?).unwrap_or_default(),
        transport: get(row, "transport")?,
        first_seen: Micros(get(row, "first_at")?).timestamp(),
        last_seen: Micros(get(row, "last_at")?).timestamp(),
        calls: get::<i64>(row, "calls")?.unsigned_abs(),
        runs: get::<i64>(row, "runs")?.unsigned_abs(),
        anywhere: compared
            .then(|| get::<i64>(row, "anywhere"))
            .transpose()?
            .map(|new| new != 0),
    })
}

/// What a reason means, in a sentence.
pub(super) fn meaning(reason: &str) -> Option<&'static str> {
    let known = Reason::ALL.iter().find(|known| known.as_str() == reason);
    known.map(|reason| reason.meaning().trim())
}
