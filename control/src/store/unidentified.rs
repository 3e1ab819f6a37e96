//! Sources that held no lease, as people look at them: who asked, for what, and which job may have been it.
//!
//! Owns the joining of both halves of the store: what was tried stands beside events, leases stand beside jobs.

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use sqlx::any::AnyRow;
use tidegate_policy::verdict::Verdict;

use super::read::{bad_cursor, get, storable};
use super::rollups::day;
use super::sql::Sql;
use super::stats::meaning;
use super::{Micros, Store, StoreError};
use crate::model::{EndedLease, Page, PageRequest, ReasonCount, Tried, UnidentifiedSource};

/// Endpoints of one source that are shown.
const MOST_TRIED: usize = 10;
/// Days that are looked at, at most.
const MAX_DAYS: i64 = 31;

/// Which sources are wanted; what is absent limits nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnidentifiedFilter {
    /// In a network.
    pub network: Option<String>,
    /// Seen by a gateway.
    pub gateway: Option<String>,
    /// Of this address.
    pub source: Option<String>,
    /// On the day (UTC) of this time, or later.
    pub since: Timestamp,
}

/// Who a row is of: gateway, network, source.
type Of = (String, String, String);

impl Store {
    /// Sources that asked without a lease, who asked last first; and what those asked that found no room.
    pub async fn unidentified_sources(
        &self,
        filter: &UnidentifiedFilter,
        now: Timestamp,
        request: &PageRequest,
    ) -> Result<(Page<UnidentifiedSource>, u64), StoreError> {
        let today = day(now.into());
        // Events of clocks that are ahead may be tomorrow's.
        let days: Vec<i64> = (day(filter.since.into()).max(today - MAX_DAYS)..=today + 1).collect();
        let mut sql = Sql::new(
            "SELECT gateway, network, source, MIN(first_at) AS first_at, MAX(last_at) AS last_at FROM stranger_days \
             WHERE source <> ''",
        );
        narrow(&mut sql, filter, &days)?;
        sql.push(" GROUP BY gateway, network, source");
        if let Some(after) = &request.after {
            let (at, (gateway, network, source)) = parse(after)?;
            sql.push(" HAVING (MAX(last_at), gateway, network, source) < (")
                .number(at);
            for text in [&gateway, &network, &source] {
                sql.push(", ").text(text);
            }
            sql.push(")");
        }
        sql.push(" ORDER BY MAX(last_at) DESC, gateway DESC, network DESC, source DESC LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.events.read()).await?;
        let more = rows.len() > request.size() as usize;
        let kept = rows.iter().take(request.size() as usize);
        let mut items = kept.map(read_source).collect::<Result<Vec<_>, _>>()?;
        self.tell_tried(&mut items, &days).await?;
        self.tell_leases(&mut items).await?;
        let next = items.last().filter(|_| more).map(cursor);
        let beyond = self.beyond(filter, &days).await?;
        Ok((Page { items, next }, beyond))
    }

    /// What those asked whose sources found no room.
    async fn beyond(&self, filter: &UnidentifiedFilter, days: &[i64]) -> Result<u64, StoreError> {
        let mut sql = Sql::new(
            "SELECT CAST(COALESCE(SUM(verdicts), 0) AS BIGINT) AS verdicts FROM stranger_days WHERE source = ''",
        );
        let filter = UnidentifiedFilter {
            network: None,
            source: None,
            ..filter.clone()
        };
        narrow(&mut sql, &filter, days)?;
        let rows = sql.fetch_all(self.events.read()).await?;
        let verdicts = rows.first().map_or(Ok(0), |row| get::<i64>(row, "verdicts"))?;
        Ok(verdicts.unsigned_abs())
    }

    /// Fills in what sources tried.
    async fn tell_tried(&self, items: &mut [UnidentifiedSource], days: &[i64]) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let part = |of: fn(&UnidentifiedSource) -> &str| items.iter().map(of).collect::<HashSet<&str>>();
        let mut sql = Sql::new(
            "SELECT gateway, network, source, endpoint, port, verdict, reason, verdicts FROM stranger_days WHERE 1 = 1",
        )
        .once();
        on_days(&mut sql, days);
        for (column, values) in [
            (" AND gateway IN ", part(|one| &one.gateway)),
            (" AND network IN ", part(|one| &one.network)),
            (" AND source IN ", part(|one| &one.source)),
        ] {
            sql.push(column).texts(values);
        }
        let rows = sql.fetch_all(self.events.read()).await?;
        let mut of: HashMap<Of, Tally> = HashMap::new();
        for row in &rows {
            let key = (get(row, "gateway")?, get(row, "network")?, get(row, "source")?);
            of.entry(key).or_default().add(row)?;
        }
        for item in items {
            let key = (item.gateway.clone(), item.network.clone(), item.source.clone());
            if let Some(tally) = of.remove(&key) {
                tally.tell(item);
            }
        }
        Ok(())
    }

    /// Fills in who holds a lease on these addresses by now, and who held one last.
    async fn tell_leases(&self, items: &mut [UnidentifiedSource]) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let sources: HashSet<String> = items.iter().map(|one| one.source.clone()).collect();
        let mut sql = Sql::new(
            "SELECT held.source, jobs.id, jobs.network FROM lease_sources AS held \
             JOIN jobs ON jobs.id = held.job_id WHERE held.source IN ",
        )
        .once();
        sql.texts(sources.iter().map(String::as_str));
        let now = sql.fetch_all(self.db.read()).await?;
        let mut sql = Sql::new(
            "SELECT ended.source, jobs.id, jobs.network, COALESCE(jobs.ended_at, 0) AS ended_at \
             FROM ended_sources AS ended JOIN jobs ON jobs.id = ended.job_id WHERE ended.source IN ",
        )
        .once();
        sql.texts(sources.iter().map(String::as_str));
        let ended = sql.fetch_all(self.db.read()).await?;
        for item in items.iter_mut() {
            for row in &now {
                if is_of(row, item)? {
                    item.lease_now = Some(get(row, "id")?);
                }
            }
            for row in &ended {
                if is_of(row, item)? {
                    item.near = Some(EndedLease {
                        job_id: get(row, "id")?,
                        ended_at: Micros(get(row, "ended_at")?).timestamp(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn is_of(row: &AnyRow, item: &UnidentifiedSource) -> Result<bool, StoreError> {
    Ok(get::<&str>(row, "source")? == item.source && get::<&str>(row, "network")? == item.network)
}

/// What rows of one source say.
#[derive(Default)]
struct Tally {
    verdicts: [u64; 3],
    reasons: HashMap<String, u64>,
    tried: HashMap<(String, u16, String), u64>,
}

impl Tally {
    fn add(&mut self, row: &AnyRow) -> Result<(), StoreError> {
        let times = get::<i64>(row, "verdicts")?.unsigned_abs();
        let verdict: &str = get(row, "verdict")?;
        let known = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];
        if let Some(at) = known.iter().position(|one| one.as_str() == verdict) {
            self.verdicts[at] = self.verdicts[at].saturating_add(times);
        }
        let reason: String = get(row, "reason")?;
        if !reason.is_empty() {
            let sum = self.reasons.entry(reason).or_default();
            *sum = sum.saturating_add(times);
        }
        let endpoint: String = get(row, "endpoint")?;
        if !endpoint.is_empty() {
            let port = u16::try_from(get::<i64>(row, "port")?).unwrap_or_default();
            let sum = self
                .tried
                .entry((endpoint, port, verdict.to_owned()))
                .or_default();
            *sum = sum.saturating_add(times);
        }
        Ok(())
    }

    fn tell(self, item: &mut UnidentifiedSource) {
        [item.permits, item.refusals, item.would_refuse] = self.verdicts;
        let reasons = self.reasons.into_iter().map(|(reason, count)| ReasonCount {
            meaning: meaning(&reason).unwrap_or_default().to_owned(),
            reason,
            count,
        });
        item.reasons = reasons.collect();
        item.reasons.sort_by(|one, other| {
            other
                .count
                .cmp(&one.count)
                .then_with(|| one.reason.cmp(&other.reason))
        });
        let tried = self
            .tried
            .into_iter()
            .map(|((endpoint, port, verdict), count)| Tried {
                endpoint,
                port,
                verdict,
                count,
            });
        item.tried = tried.collect();
        item.tried.sort_by(|one, other| {
            let (of_one, of_other) = ((&one.endpoint, one.port), (&other.endpoint, other.port));
            other.count.cmp(&one.count).then_with(|| of_one.cmp(&of_other))
        });
        item.further = item.tried.len().saturating_sub(MOST_TRIED) as u64;
        item.tried.truncate(MOST_TRIED);
    }
}

fn narrow(sql: &mut Sql, filter: &UnidentifiedFilter, days: &[i64]) -> Result<(), StoreError> {
    on_days(sql, days);
    for (field, column, value) in [
        ("network", " AND network = ", &filter.network),
        ("gateway", " AND gateway = ", &filter.gateway),
        ("source", " AND source = ", &filter.source),
    ] {
        if let Some(value) = value {
            storable(value).ok_or_else(|| StoreError::invalid(field, "no text has a NUL"))?;
            sql.push(column).text(value);
        }
    }
    Ok(())
}

/// Day by day, so that each is a beginning of the primary key.
fn on_days(sql: &mut Sql, days: &[i64]) {
    sql.push(" AND day IN (");
    for (place, day) in days.iter().enumerate() {
        sql.push(if place == 0 { "" } else { ", " }).number(*day);
    }
    // A span that lies in the future has no days.
    sql.push(if days.is_empty() { "-1)" } else { ")" });
}

fn read_source(row: &AnyRow) -> Result<UnidentifiedSource, StoreError> {
    Ok(UnidentifiedSource {
        source: get(row, "source")?,
        network: get(row, "network")?,
        gateway: get(row, "gateway")?,
        first_at: Micros(get(row, "first_at")?).timestamp(),
        last_at: Micros(get(row, "last_at")?).timestamp(),
        permits: 0,
        refusals: 0,
        would_refuse: 0,
        reasons: Vec::new(),
        tried: Vec::new(),
        further: 0,
        lease_now: None,
        near: None,
    })
}

/// Where the next page begins.
fn cursor(item: &UnidentifiedSource) -> String {
    let at = Micros::from(item.last_at).0;
    serde_json::json!([at, item.gateway, item.network, item.source]).to_string()
}

fn parse(text: &str) -> Result<(i64, Of), StoreError> {
    let (at, gateway, network, source): (i64, String, String, String) =
        serde_json::from_str(text).map_err(|_| bad_cursor())?;
    for part in [&gateway, &network, &source] {
        storable(part).ok_or_else(bad_cursor)?;
    }
    Ok((at, (gateway, network, source)))
}
