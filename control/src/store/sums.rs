//! Sums that pages are made of: verdicts by hour, by workflow and day, by job, by policy and day.
//!
//! Owns their counting. Events are grouped by their heads already ([`super::subjects`]), so that an event costs a few
//! additions here and a batch a row for each hour, workflow, job and policy in it. They are written in the transaction
//! that stores the events: they say what was ingested, no more and no less, whatever came twice.

use std::collections::BTreeMap;

use tidegate_control_wire::event::EventRecord;
use tidegate_policy::verdict::{Reason, Verdict};

use super::rollups::{count, day, times as as_stored};
use super::sql::{Sql, few_lots};
use super::subjects::Heads;
use super::{Micros, StoreError, Tx};

/// Microseconds of an hour.
pub(super) const HOUR: i64 = 3_600_000_000;

/// The hour of a time, in hours since 1970.
pub(super) const fn hour(at: Micros) -> i64 {
    at.0.div_euclid(HOUR)
}

/// `column = column + excluded.column`, cut as counts of verdicts are (`rollups::times`), or at what is said.
macro_rules! plus {
    ($table:literal, $column:literal) => {
        plus!($table, $column, "1099511627776")
    };
    ($table:literal, $column:literal, $most:literal) => {
        concat!(
            $column,
            " = CASE WHEN ",
            $table,
            ".",
            $column,
            " + excluded.",
            $column,
            " > ",
            $most,
            " THEN ",
            $most,
            " ELSE ",
            $table,
            ".",
            $column,
            " + excluded.",
            $column,
            " END"
        )
    };
}
/// `column = the later of both`.
macro_rules! later {
    ($table:literal, $column:literal) => {
        concat!(
            $column,
            " = CASE WHEN excluded.",
            $column,
            " > ",
            $table,
            ".",
            $column,
            " THEN excluded.",
            $column,
            " ELSE ",
            $table,
            ".",
            $column,
            " END"
        )
    };
}
pub(super) use {later, plus};

/// How often each verdict came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdicts([u64; 3]);

const VERDICTS: [Verdict; 3] = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];

impl Verdicts {
    fn add(&mut self, verdict: Verdict, times: u64) {
        let [permits, refusals, would_refuse] = &mut self.0;
        let sum = match verdict {
            Verdict::Permit => permits,
            Verdict::Refuse => refusals,
            Verdict::WouldRefuse => would_refuse,
        };
        *sum = sum.saturating_add(times);
    }

    fn merge(&mut self, other: &Self) {
        for (verdict, times) in VERDICTS.into_iter().zip(other.0) {
            self.add(verdict, times);
        }
    }
}

/// What was counted of something.
#[derive(Clone, Copy, Debug)]
struct Tally {
    verdicts: Verdicts,
    /// Those of the refusals that only a search suffix made.
    suffixes: u64,
    bytes_up: u64,
    bytes_down: u64,
    first: Micros,
    last: Micros,
}

impl Tally {
    const NONE: Self = Self {
        verdicts: Verdicts([0; 3]),
        suffixes: 0,
        bytes_up: 0,
        bytes_down: 0,
        first: Micros(i64::MAX),
        last: Micros(i64::MIN),
    };

    fn add(&mut self, event: &EventRecord, at: Micros) {
        self.verdicts.add(event.verdict, event.count);
        if event.reason.as_deref() == Some(Reason::SearchSuffix.as_str()) {
            self.suffixes = self.suffixes.saturating_add(event.count);
        }
        self.bytes_up = self.bytes_up.saturating_add(event.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(event.bytes_down);
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }

    fn merge(&mut self, other: &Self) {
        self.verdicts.merge(&other.verdicts);
        self.suffixes = self.suffixes.saturating_add(other.suffixes);
        self.bytes_up = self.bytes_up.saturating_add(other.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(other.bytes_down);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    fn push_verdicts(&self, sql: &mut Sql) {
        for times in self.verdicts.0 {
            sql.push(", ").number(as_stored(times));
        }
    }
}

/// What was counted of one head: all together, and by hour. Its events are of one day.
#[derive(Debug)]
struct OfHead {
    all: Tally,
    hours: Vec<(i64, Verdicts)>,
}

impl OfHead {
    fn add(&mut self, event: &EventRecord, at: Micros) {
        self.all.add(event, at);
        let hour = hour(at);
        // Nearly always the hour of the event before.
        let known = self.hours.iter_mut().rev().find(|(one, _)| *one == hour);
        if let Some((_, verdicts)) = known {
            verdicts.add(event.verdict, event.count);
        } else {
            let mut verdicts = Verdicts::default();
            verdicts.add(event.verdict, event.count);
            self.hours.push((hour, verdicts));
        }
    }
}

/// The sums of some events, each kind in the order of its primary key: rows that stand together are written together.
#[derive(Debug, Default)]
pub(super) struct Sums<'e> {
    hours: BTreeMap<(&'e str, i64), Verdicts>,
    /// Repository, workflow, day, owner, cluster.
    workflows: BTreeMap<(&'e str, &'e str, i64, &'e str, &'e str), Tally>,
    jobs: BTreeMap<&'e str, Tally>,
    /// Name, scope, version, day.
    policies: BTreeMap<(&'e str, &'e str, i64, i64), Tally>,
}

impl<'e> Sums<'e> {
    /// Adds events, each with the time that it is filed under, and their heads.
    pub(super) fn add(&mut self, events: &[(Micros, Box<EventRecord>)], heads: &Heads<'e>) {
        let none = || OfHead {
            all: Tally::NONE,
            hours: Vec::new(),
        };
        let mut of: Vec<OfHead> = heads.heads.iter().map(|_| none()).collect();
        for ((at, event), place) in events.iter().zip(&heads.of) {
            if let Some(sums) = of.get_mut(*place) {
                sums.add(event, *at);
            }
        }
        for ((day, head), sums) in heads.heads.iter().zip(of) {
            let owner = head.job.map_or("", |job| &job.owner);
            for (hour, verdicts) in sums.hours {
                self.hours.entry((owner, hour)).or_default().merge(&verdicts);
            }
            if let Some(job) = head.job {
                let workflow = (&*job.repo, &*job.workflow, *day, owner, &*job.cluster);
                merge(&mut self.workflows, workflow, &sums.all);
                merge(&mut self.jobs, &*job.id, &sums.all);
            }
            if let Some(policy) = head.policy {
                let version = head.policy_version.map_or(0, i64::from);
                let scope = head.scope.unwrap_or_default();
                merge(&mut self.policies, (policy, scope, version, *day), &sums.all);
            }
        }
    }
}

fn merge<K: Ord>(sums: &mut BTreeMap<K, Tally>, key: K, more: &Tally) {
    sums.entry(key).or_insert(Tally::NONE).merge(more);
}

impl Tx<'_> {
    /// Adds sums to what is there.
    pub(super) async fn add_sums(&mut self, sums: &Sums<'_>) -> Result<(), StoreError> {
        self.add_hours(sums).await?;
        self.add_workflows(sums).await?;
        self.add_jobs(sums).await?;
        self.add_policies(sums).await
    }

    async fn add_hours(&mut self, sums: &Sums<'_>) -> Result<(), StoreError> {
        let rows: Vec<(&str, i64, Verdict, u64)> = sums
            .hours
            .iter()
            .flat_map(|((owner, hour), verdicts)| {
                let each = VERDICTS.into_iter().zip(verdicts.0);
                each.map(move |(verdict, times)| (*owner, *hour, verdict, times))
            })
            .filter(|(.., times)| *times > 0)
            .collect();
        let mut rows = rows.into_iter();
        for lot in few_lots(rows.len()) {
            let mut sql = Sql::new("INSERT INTO verdict_hours (owner, hour, verdict, verdicts) VALUES ")
                .many(self.backend());
            for (place, (owner, hour, verdict, times)) in rows.by_ref().take(lot).enumerate() {
                sql.push(open(place)).text(owner);
                sql.push(", ").number(hour);
                sql.push(", ").text(verdict.as_str());
                sql.push(", ").number(as_stored(times)).push(")");
            }
            sql.push(concat!(
                " ON CONFLICT (owner, hour, verdict) DO UPDATE SET ",
                plus!("verdict_hours", "verdicts")
            ));
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn add_workflows(&mut self, sums: &Sums<'_>) -> Result<(), StoreError> {
        let mut rows = sums.workflows.iter();
        for lot in few_lots(rows.len()) {
            let mut sql = Sql::new(
                "INSERT INTO workflow_days (repo, workflow, day, owner, cluster, permits, refusals, would_refuse, \
                 suffixes, last_at) VALUES ",
            )
            .many(self.backend());
            for (place, ((repo, workflow, day, owner, cluster), sum)) in rows.by_ref().take(lot).enumerate() {
                sql.push(open(place)).text(repo);
                sql.push(", ").text(workflow);
                sql.push(", ").number(*day);
                sql.push(", ").text(owner);
                sql.push(", ").text(cluster);
                sum.push_verdicts(&mut sql);
                sql.push(", ").number(as_stored(sum.suffixes));
                sql.push(", ").number(sum.last.0).push(")");
            }
            sql.push(concat!(
                " ON CONFLICT (repo, workflow, day, owner, cluster) DO UPDATE SET ",
                plus!("workflow_days", "permits"),
                ", ",
                plus!("workflow_days", "refusals"),
                ", ",
                plus!("workflow_days", "would_refuse"),
                ", ",
                plus!("workflow_days", "suffixes"),
                ", ",
                later!("workflow_days", "last_at")
            ));
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn add_jobs(&mut self, sums: &Sums<'_>) -> Result<(), StoreError> {
        let mut rows = sums.jobs.iter();
        for lot in few_lots(rows.len()) {
            let mut sql = Sql::new(
                "INSERT INTO job_sums (job_id, day, permits, refusals, would_refuse, bytes_up, bytes_down, last_at) \
                 VALUES ",
            )
            .many(self.backend());
            for (place, (job, sum)) in rows.by_ref().take(lot).enumerate() {
                sql.push(open(place)).text(job);
                sql.push(", ").number(day(sum.first));
                sum.push_verdicts(&mut sql);
                sql.push(", ").number(count(sum.bytes_up));
                sql.push(", ").number(count(sum.bytes_down));
                sql.push(", ").number(sum.last.0).push(")");
            }
            sql.push(concat!(
                " ON CONFLICT (job_id) DO UPDATE SET ",
                plus!("job_sums", "permits"),
                ", ",
                plus!("job_sums", "refusals"),
                ", ",
                plus!("job_sums", "would_refuse"),
                ", ",
                plus!("job_sums", "bytes_up", "9007199254740992"),
                ", ",
                plus!("job_sums", "bytes_down", "9007199254740992"),
                ", ",
                later!("job_sums", "last_at")
            ));
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn add_policies(&mut self, sums: &Sums<'_>) -> Result<(), StoreError> {
        let mut rows = sums.policies.iter();
        for lot in few_lots(rows.len()) {
            let mut sql = Sql::new(
                "INSERT INTO policy_days (policy, scope, version, day, permits, refusals, would_refuse, last_at) VALUES ",
            )
            .many(self.backend());
            for (place, ((policy, scope, version, day), sum)) in rows.by_ref().take(lot).enumerate() {
                sql.push(open(place)).text(policy);
                sql.push(", ").text(scope);
                sql.push(", ").number(*version);
                sql.push(", ").number(*day);
                sum.push_verdicts(&mut sql);
                sql.push(", ").number(sum.last.0).push(")");
            }
            sql.push(concat!(
                " ON CONFLICT (policy, scope, version, day) DO UPDATE SET ",
                plus!("policy_days", "permits"),
                ", ",
                plus!("policy_days", "refusals"),
                ", ",
                plus!("policy_days", "would_refuse"),
                ", ",
                later!("policy_days", "last_at")
            ));
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }
}

/// How a row of several begins.
pub(super) const fn open(place: usize) -> &'static str {
    if place == 0 { "(" } else { ", (" }
}
