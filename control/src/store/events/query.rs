//! One question about events as SQL: by which index, in which order, from where on.
//!
//! Owns that the database has no choice: what is not the index's is compared in a way that no index serves, else the
//! database may walk all of a repository to find a job in it.

use super::filter::{Condition, EventFilter};
use super::{Micros, Place};
use tidegate_policy::effective::Generation;

use crate::store::StoreError;
use crate::store::read::number;
use crate::store::sql::Sql;
use crate::store::subjects::key;

/// What is read of a row. Which rows follows.
const ROWS: &str = "SELECT seq, at, (SELECT head FROM event_subjects AS s WHERE s.number = subject) AS head, body \
     FROM events WHERE ";

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
    /// Of refusals only.
    Refused,
    RefusedOf(String),
    /// A refusal by its id.
    RefusedId(String),
}

/// What the indexes of refusals leave out, said as they say it.
const REFUSED: &str = "refused_id <> '' AND ";

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
    /// `indexed`: every refusal stands in the indexes of refusals.
    pub(super) fn new(filter: &'f EventFilter, order: Order, indexed: bool) -> Result<Self, StoreError> {
        filter.check()?;
        let mut conditions = filter.conditions();
        let refused = indexed && filter.is_of_refusals();
        let index = match filter.indexed() {
            (Some(job), repo) => {
                conditions.extend(repo.map(|repo| Condition::Of("repo", vec![repo])));
                Index::Job(job)
            }
            (None, Some(repo)) if refused => Index::RefusedOf(repo),
            (None, Some(repo)) => Index::Repo(repo),
            (None, None) if refused => Index::Refused,
            (None, None) => Index::Time,
        };
        let told = matches!(index, Index::Refused | Index::RefusedOf(_)) && filter.is_of_all_refusals();
        conditions.extend(filter.verdict().filter(|_| !told));
        Ok(Self {
            filter,
            order,
            index,
            conditions,
            from: None,
        })
    }

    /// For a refusal with this id, where all of them are indexed.
    pub(super) fn of_refusal(filter: &'f EventFilter, id: &str, order: Order) -> Result<Self, StoreError> {
        let mut question = Self::new(filter, order, true)?;
        let (job, repo) = filter.indexed();
        let of = |column, value: Option<String>| value.map(|value| Condition::Of(column, vec![value]));
        question.conditions = filter.conditions();
        question.conditions.extend(of("job_id", job));
        question.conditions.extend(of("repo", repo));
        question.conditions.extend(filter.verdict());
        question.index = Index::RefusedId(id.to_lowercase());
        Ok(question)
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
        self.range(&mut sql, None);
        self.ordered(&mut sql)
            .number(1)
            .push(" OFFSET ")
            .number(window - 1);
        Some(sql)
    }

    /// Asks for the answers up to an edge, one more than so many.
    pub(super) fn rows(&self, edge: Option<Place>, limit: u32) -> Sql {
        let mut sql = Sql::new(ROWS);
        self.range(&mut sql, edge);
        for condition in &self.conditions {
            condition.push(&mut sql);
        }
        self.ordered(&mut sql).number(i64::from(limit) + 1);
        sql
    }

    /// What the index finds, up to an edge.
    fn range(&self, sql: &mut Sql, edge: Option<Place>) {
        match &self.index {
            Index::Job(job) => {
                sql.push("job = ").number(key(job)).push(" AND ");
            }
            Index::Repo(repo) => {
                sql.push("repo = ").number(key(repo)).push(" AND ");
            }
            Index::Time => {}
            Index::Refused => {
                sql.push(REFUSED);
            }
            Index::RefusedOf(repo) => {
                sql.push(REFUSED).push("repo = ").number(key(repo)).push(" AND ");
            }
            Index::RefusedId(id) => {
                sql.push(REFUSED).push("refused_id = ").text(id).push(" AND ");
            }
        }
        let (first, last) = self.times(edge);
        sql.push("at >= ").number(first).push(" AND at <= ").number(last);
        // Events of one moment are told apart by their numbers.
        let (behind, upto) = match self.order {
            Order::NewestFirst => (" AND (at, seq) < (", " AND (at, seq) >= ("),
            Order::OldestFirst => (" AND (at, seq) > (", " AND (at, seq) <= ("),
        };
        if let Some(from) = self.from {
            place(sql.push(behind), from);
        }
        if let Some(edge) = edge {
            place(sql.push(upto), edge);
        }
        if let Some(upto) = self.filter.upto {
            // A sum has no index either.
            sql.push(" AND seq + 0 <= ").number(number(Generation(upto)));
        }
    }

    /// The first and the last time that are looked at. A database takes one bound of each kind to walk along its index, so
    /// there is one of each, the narrowest; PostgreSQL leaves out the days that lie outside.
    pub(super) fn times(&self, edge: Option<Place>) -> (i64, i64) {
        let since = self.filter.since.map_or(i64::MIN, |time| Micros::from(time).0);
        let until = self
            .filter
            .until
            .map_or(i64::MAX, |time| Micros::from(time).0.saturating_sub(1));
        let (low, high) = match self.order {
            Order::NewestFirst => (edge, self.from),
            Order::OldestFirst => (self.from, edge),
        };
        (
            low.map_or(since, |low| since.max(low.at)),
            high.map_or(until, |high| until.min(high.at)),
        )
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
    let mut sql = Sql::new(ROWS);
    sql.push("seq >= ")
        .number(first)
        .push(" AND seq <= ")
        .number(last);
    let (job, repo) = filter.indexed();
    let mut conditions = filter.conditions();
    conditions.extend(filter.verdict());
    conditions.extend(job.map(|job| Condition::Of("job_id", vec![job])));
    conditions.extend(repo.map(|repo| Condition::Of("repo", vec![repo])));
    for condition in &conditions {
        condition.push(&mut sql);
    }
    sql.push(" ORDER BY seq LIMIT ").number(i64::from(limit) + 1);
    Ok(sql)
}

fn place(sql: &mut Sql, place: Place) {
    sql.number(place.at).push(", ").number(place.seq).push(")");
}
