//! One question about events as SQL: by which index, in which order, from where on.
//!
//! Owns that the database has no choice. What is not the index's is compared as `column || ''`, which no index serves,
//! where there is one for that column: else the database may walk all of a repository to find a job in it.

use super::filter::{Condition, EventFilter};
use super::{Micros, Place};
use tidegate_policy::effective::Generation;

use crate::store::StoreError;
use crate::store::read::number;
use crate::store::sql::Sql;

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By times, downwards.
    NewestFirst,
    /// By times, upwards.
    OldestFirst,
}

/// Which index finds the events.
#[derive(Debug)]
enum Index {
    Job(String),
    Repo(String),
    Time,
}

/// A question that is asked window by window.
#[derive(Debug)]
pub(super) struct Question<'f> {
    filter: &'f EventFilter,
    order: Order,
    index: Index,
    conditions: Vec<Condition>,
    from: Option<Place>,
}

impl<'f> Question<'f> {
    pub(super) fn new(filter: &'f EventFilter, order: Order) -> Result<Self, StoreError> {
        filter.check()?;
        let mut conditions = filter.conditions()?;
        let index = match filter.indexed() {
            (Some(job), repo) => {
                conditions.extend(repo.map(|repo| Condition::Equals("repo || ''", repo)));
                Index::Job(job)
            }
            (None, Some(repo)) => Index::Repo(repo),
            (None, None) => Index::Time,
        };
        Ok(Self {
            filter,
            order,
            index,
            conditions,
            from: None,
        })
    }

    /// Only what is behind this place.
    pub(super) fn behind(&mut self, from: Option<Place>) {
        self.from = from;
    }

    /// Asks for the last row of a window of so many; nothing when every row that the index finds is an answer.
    pub(super) fn edge(&self, window: i64) -> Option<Sql> {
        if self.conditions.is_empty() {
            return None;
        }
        let mut sql = Sql::new("SELECT at, seq FROM events WHERE ");
        self.range(&mut sql);
        self.ordered(&mut sql)
            .number(1)
            .push(" OFFSET ")
            .number(window - 1);
        Some(sql)
    }

    /// Asks for the answers up to an edge, one more than so many.
    pub(super) fn rows(&self, edge: Option<Place>, limit: u32) -> Sql {
        let mut sql = Sql::new("SELECT seq, at, body FROM events WHERE ");
        self.range(&mut sql);
        if let Some(edge) = edge {
            sql.push(match self.order {
                Order::NewestFirst => " AND (at, seq) >= (",
                Order::OldestFirst => " AND (at, seq) <= (",
            });
            place(&mut sql, edge);
        }
        for condition in &self.conditions {
            condition.push(&mut sql);
        }
        self.ordered(&mut sql).number(i64::from(limit) + 1);
        sql
    }

    /// What the index finds.
    fn range(&self, sql: &mut Sql) {
        match &self.index {
            Index::Job(job) => {
                sql.push("job_id = ").text(job).push(" AND ");
            }
            Index::Repo(repo) => {
                sql.push("repo = ").text(repo).push(" AND ");
            }
            Index::Time => {}
        }
        // Both ends are named each time: PostgreSQL leaves out the days that lie outside.
        let mut since = self.filter.since.map_or(i64::MIN, |time| Micros::from(time).0);
        let mut until = (self.filter.until).map_or(i64::MAX, |time| Micros::from(time).0.saturating_sub(1));
        match (self.order, self.from) {
            (Order::NewestFirst, Some(from)) => until = until.min(from.at),
            (Order::OldestFirst, Some(from)) => since = since.max(from.at),
            (Order::NewestFirst | Order::OldestFirst, None) => {}
        }
        sql.push("at >= ").number(since).push(" AND at <= ").number(until);
        if let Some(from) = self.from {
            sql.push(match self.order {
                Order::NewestFirst => " AND (at, seq) < (",
                Order::OldestFirst => " AND (at, seq) > (",
            });
            place(sql, from);
        }
        if let Some(upto) = self.filter.upto {
            // A sum has no index either.
            sql.push(" AND seq + 0 <= ").number(number(Generation(upto)));
        }
    }

    fn ordered<'s>(&self, sql: &'s mut Sql) -> &'s mut Sql {
        sql.push(match self.order {
            Order::NewestFirst => " ORDER BY at DESC, seq DESC LIMIT ",
            Order::OldestFirst => " ORDER BY at, seq LIMIT ",
        })
    }
}

/// Asks for events with numbers in a span, both ends included, in the order of their numbers; one more than so many. Times
/// are not looked at.
pub(super) fn between(
    filter: &EventFilter,
    (first, last): (i64, i64),
    limit: u32,
) -> Result<Sql, StoreError> {
    filter.check()?;
    let mut sql = Sql::new("SELECT seq, at, body FROM events WHERE seq >= ");
    sql.number(first).push(" AND seq <= ").number(last);
    let (job, repo) = filter.indexed();
    let mut conditions = filter.conditions()?;
    conditions.extend(job.map(|job| Condition::Equals("job_id || ''", job)));
    conditions.extend(repo.map(|repo| Condition::Equals("repo || ''", repo)));
    for condition in &conditions {
        condition.push(&mut sql);
    }
    sql.push(" ORDER BY seq LIMIT ").number(i64::from(limit) + 1);
    Ok(sql)
}

fn place(sql: &mut Sql, place: Place) {
    sql.number(place.at).push(", ").number(place.seq).push(")");
}
