//! What is asked of the audit log, and the rows that answer it.
//!
//! Owns the SQL of its filters. Rows come by their number, from either end; a span of time is turned into numbers first,
//! so that a week long ago is not looked for from the end.

use jiff::Timestamp;
use sqlx::Row;
use tidegate_control_wire::id::is_id;

use crate::store::read::storable;
use crate::store::sql::Sql;
use crate::store::{Micros, Store, StoreError};

/// Rows that are read at once.
const CHUNK: i64 = 100;
/// Numbers and times grow together, but for the clocks of several control planes: so far apart at most, in microseconds.
const SKEW: i64 = 60_000_000;
/// What a text that is the beginning of others ends with.
const MORE: char = '*';

/// Which entries are asked for; what is `None` asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// What concerns an organization.
    pub owner: Option<String>,
    /// What happened to the policy of this id.
    pub policy_id: Option<String>,
    /// By whom: a name, or the id of a token or session.
    pub actor: Option<String>,
    /// By which way.
    pub via: Option<String>,
    /// What was done: `policy.updated`, or with a `*` at its end the beginning of several.
    pub action: Option<String>,
    /// To what: `policy acme/base`, or with a `*` at its end the beginning of several.
    pub target: Option<String>,
    /// Then and later.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Numbers that a span of time has at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    from: Option<i64>,
    to: Option<i64>,
}

/// Which entries, and in which order.
pub(super) struct Selection<'a> {
    pub(super) filter: &'a AuditFilter,
    pub(super) span: Span,
    pub(super) newest_first: bool,
}

impl Selection<'_> {
    /// The next rows after this number.
    pub(super) fn after(&self, seq: i64) -> Sql {
        let filter = self.filter;
        let mut sql = Sql::new("SELECT * FROM audit_log WHERE seq ");
        sql.push(if self.newest_first { "< " } else { "> " }).number(seq);
        if let Some(id) = &filter.policy_id {
            sql.push(" AND policy_id = ").text(id);
        }
        if let Some(owner) = &filter.owner {
            sql.push(" AND owner = ").text(owner);
        }
        match &filter.actor {
            Some(id) if is_id("tok", id) || is_id("ses", id) => {
                sql.push(" AND token_id = ").text(id);
            }
            Some(name) => {
                sql.push(" AND subject = ").text(name);
            }
            None => {}
        }
        if let Some(via) = &filter.via {
            sql.push(" AND via = ").text(via);
        }
        begins(&mut sql, " AND action ", filter.action.as_deref());
        begins(&mut sql, " AND target ", filter.target.as_deref());
        if let Some(since) = filter.since {
            sql.push(" AND at >= ").number(Micros::from(since).0);
        }
        if let Some(until) = filter.until {
            sql.push(" AND at < ").number(Micros::from(until).0);
        }
        if let Some(from) = self.span.from {
            sql.push(" AND seq >= ").number(from);
        }
        if let Some(to) = self.span.to {
            sql.push(" AND seq <= ").number(to);
        }
        sql.push(" ORDER BY seq ")
            .push(if self.newest_first { "DESC" } else { "ASC" })
            .push(" LIMIT ")
            .number(CHUNK);
        sql
    }
}

/// A column that is a text, or begins with it. Both databases compare these columns by their bytes.
fn begins(sql: &mut Sql, column: &'static str, text: Option<&str>) {
    let Some(text) = text else { return };
    match text.strip_suffix(MORE) {
        None => sql.push(column).push("= ").text(text),
        Some(start) => {
            sql.push(column).push(">= ").text(start);
            sql.push(column).push("< ").text(&format!("{start}{}", char::MAX))
        }
    };
}

impl Store {
    /// The numbers of a span of time, read from the index by time.
    pub(super) async fn span(&self, filter: &AuditFilter) -> Result<Span, StoreError> {
        filter.check()?;
        let mut span = Span::default();
        if let Some(since) = filter.since {
            let sql = "SELECT seq FROM audit_log WHERE at >= $1 ORDER BY at, seq LIMIT 1";
            let at = Micros::from(since).0.saturating_sub(SKEW);
            // Nothing is as new: no number is.
            span.from = Some(self.seq(sql, at).await?.unwrap_or(i64::MAX));
        }
        if let Some(until) = filter.until {
            let sql = "SELECT seq FROM audit_log WHERE at < $1 ORDER BY at DESC, seq DESC LIMIT 1";
            let at = Micros::from(until).0.saturating_add(SKEW);
            span.to = Some(self.seq(sql, at).await?.unwrap_or(0));
        }
        Ok(span)
    }

    async fn seq(&self, sql: &'static str, at: i64) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query(sql).bind(at).fetch_optional(self.db.read()).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

impl AuditFilter {
    /// PostgreSQL has no NUL in texts: nothing was ever called so.
    fn check(&self) -> Result<(), StoreError> {
        let texts = [
            ("owner", &self.owner),
            ("policy_id", &self.policy_id),
            ("actor", &self.actor),
            ("via", &self.via),
            ("action", &self.action),
            ("target", &self.target),
        ];
        for (field, text) in texts {
            if text.as_deref().is_some_and(|text| storable(text).is_none()) {
                return Err(StoreError::invalid(field, "it has the control character U+0000"));
            }
        }
        Ok(())
    }
}
