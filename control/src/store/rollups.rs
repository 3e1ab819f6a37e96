//! Verdicts by day, kept long after their events.
//!
//! Owns the sums: grouped in memory first, so that a batch costs a row for each thing that was reached, not for each
//! time it was.

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_control_wire::event::EventRecord;

use super::sql::{Sql, large_lots};
use super::{Micros, StoreError, Tx};

/// Largest sum that is told apart: what JSON's readers hold exactly. A gateway that says more says nonsense, and must not
/// make a row overflow that others add to.
const MOST: u64 = 1 << 53;
/// The same of verdicts and losses, which pages add up over rows: eight million rows of nonsense fit into a number of the
/// database, where 1 024 of [`MOST`] would make an answer overflow.
const MOST_TIMES: u64 = 1 << 40;
/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;

/// The day of a time, UTC, in days since 1970.
pub(super) const fn day(at: Micros) -> i64 {
    at.0.div_euclid(DAY)
}

/// A count as it is stored.
pub(super) fn count(count: u64) -> i64 {
    count.min(MOST).cast_signed()
}

/// A count of verdicts or losses as it is stored.
pub(super) fn times(times: u64) -> i64 {
    times.min(MOST_TIMES).cast_signed()
}

/// What is summed, in the order of the primary key: rows that stand together are written together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<'e> {
    repo: &'e str,
    workflow: &'e str,
    day: i64,
    endpoint: CompactString,
    port: u16,
    kind: &'static str,
    verdict: &'static str,
    reason: &'e str,
    owner: &'e str,
    cluster: &'e str,
}

#[derive(Clone, Copy, Debug)]
struct Sums {
    verdicts: u64,
    bytes_up: u64,
    bytes_down: u64,
    first: Micros,
    last: Micros,
}

/// The sums of some events.
#[derive(Debug)]
pub(super) struct Rollups<'e>(Vec<(Key<'e>, Sums)>);

impl<'e> Rollups<'e> {
    /// Of events, each with the time that it is filed under.
    pub(super) fn of(events: impl Iterator<Item = (&'e EventRecord, Micros)>) -> Self {
        let mut groups: HashMap<Key<'e>, Sums> = HashMap::new();
        for (event, at) in events {
            let sums = groups.entry(Key::of(event, at)).or_insert(Sums {
                verdicts: 0,
                bytes_up: 0,
                bytes_down: 0,
                first: at,
                last: at,
            });
            sums.verdicts = sums.verdicts.saturating_add(event.count);
            sums.bytes_up = sums.bytes_up.saturating_add(event.bytes_up);
            sums.bytes_down = sums.bytes_down.saturating_add(event.bytes_down);
            sums.first = sums.first.min(at);
            sums.last = sums.last.max(at);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self(groups)
    }
}

impl<'e> Key<'e> {
    fn of(event: &'e EventRecord, at: Micros) -> Self {
        let job = event.job.as_ref();
        Self {
            repo: job.map_or("", |job| &job.repo),
            workflow: job.map_or("", |job| &job.workflow),
            day: day(at),
            endpoint: event.endpoint(),
            port: event.port,
            kind: event.kind.as_str(),
            verdict: event.verdict.as_str(),
            reason: event.reason.as_deref().unwrap_or_default(),
            owner: job.map_or("", |job| &job.owner),
            cluster: job.map_or("", |job| &job.cluster),
        }
    }
}

impl Tx<'_> {
    /// Adds sums to what is there.
    pub(super) async fn add_rollups(&mut self, rollups: &Rollups<'_>) -> Result<(), StoreError> {
        let mut rows = rollups.0.iter();
        for lot in large_lots(rollups.0.len()) {
            let mut sql = Sql::new(
                "INSERT INTO rollups (repo, workflow, day, endpoint, port, kind, verdict, reason, owner, cluster, \
                 verdicts, bytes_up, bytes_down, first_at, last_at) VALUES ",
            )
            .many(self.backend());
            for (place, (key, sums)) in rows.by_ref().take(lot).enumerate() {
                sql.push(if place == 0 { "(" } else { ", (" }).text(key.repo);
                sql.push(", ").text(key.workflow);
                sql.push(", ").number(key.day);
                sql.push(", ").text(&key.endpoint);
                sql.push(", ").number(i64::from(key.port));
                for text in [key.kind, key.verdict, key.reason, key.owner, key.cluster] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").number(times(sums.verdicts));
                for sum in [sums.bytes_up, sums.bytes_down] {
                    sql.push(", ").number(count(sum));
                }
                sql.push(", ").number(sums.first.0);
                sql.push(", ").number(sums.last.0).push(")");
            }
            // Both sides are at most MOST, or MOST_TIMES, so nothing overflows before it is cut.
            sql.push(
                " ON CONFLICT (repo, workflow, day, endpoint, port, kind, verdict, reason, owner, cluster) DO UPDATE SET \
                 verdicts = CASE WHEN rollups.verdicts + excluded.verdicts > 1099511627776 THEN 1099511627776 \
                 ELSE rollups.verdicts + excluded.verdicts END, \
                 bytes_up = CASE WHEN rollups.bytes_up + excluded.bytes_up > 9007199254740992 THEN 9007199254740992 \
                 ELSE rollups.bytes_up + excluded.bytes_up END, \
                 bytes_down = CASE WHEN rollups.bytes_down + excluded.bytes_down > 9007199254740992 \
                 THEN 9007199254740992 ELSE rollups.bytes_down + excluded.bytes_down END, \
                 first_at = CASE WHEN excluded.first_at < rollups.first_at THEN excluded.first_at \
                 ELSE rollups.first_at END, \
                 last_at = CASE WHEN excluded.last_at > rollups.last_at THEN excluded.last_at \
                 ELSE rollups.last_at END",
            );
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }
}
