//! SQL whose shape depends on what is asked: filters, lists of values, many rows.
//!
//! Owns nothing but the joining. Text comes from the program only (`&'static str`), values only as parameters, so no
//! input ever is part of a statement.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, Arguments, AssertSqlSafe, Executor};

use super::StoreError;
use super::db::Backend;

/// How many rows each statement has that inserts some of `rows`: few shapes, so that each stays prepared.
pub(super) fn lots(rows: usize) -> impl Iterator<Item = usize> {
    parted(rows, &[64, 8, 1])
}

/// The same where rows come by the thousand: each statement of many rows keeps the pages that it changes as they were,
/// so few large ones are cheaper. For [`Sql::many`] only.
pub(super) fn large_lots(rows: usize) -> impl Iterator<Item = usize> {
    parted(rows, &[512, 64, 8, 1])
}

/// The same where rows are few and each statement is worth saving, as for sums.
pub(super) fn few_lots(rows: usize) -> impl Iterator<Item = usize> {
    parted(rows, &[64, 16, 4, 2, 1])
}

fn parted(mut rows: usize, sizes: &'static [usize]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lot = sizes.iter().copied().find(|lot| *lot <= rows)?;
        rows -= lot;
        Some(lot)
    })
}

/// A statement and its parameters. Both databases call the first `$1`.
#[derive(Default)]
pub(super) struct Sql {
    text: String,
    values: AnyArguments,
    count: usize,
    /// Its shape comes again: worth to be kept prepared.
    keep: bool,
    /// Parameters have no names.
    nameless: bool,
}

impl Sql {
    /// Begins a statement.
    pub(super) fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            keep: true,
            ..Self::default()
        }
    }

    /// It is of a shape that hardly comes again.
    pub(super) fn once(mut self) -> Self {
        self.keep = false;
        self
    }

    /// It has parameters by the hundred, and is for this database: SQLite looks each named one up among all of them,
    /// which costs more than storing it, so there they have no names (PostgreSQL has no parameters without).
    pub(super) fn many(mut self, backend: Backend) -> Self {
        self.nameless = backend == Backend::Sqlite;
        self
    }

    /// Goes on with more text.
    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// A text as a parameter, here.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.value(value.to_owned())
    }

    /// The same of a text that nobody else needs.
    pub(super) fn owned(&mut self, value: String) -> &mut Self {
        self.value(value)
    }

    /// A number as a parameter, here.
    pub(super) fn number(&mut self, value: i64) -> &mut Self {
        self.value(value)
    }

    /// `($1, $2, …)`. An empty list is no SQL: the caller leaves the condition out.
    pub(super) fn texts<'t>(&mut self, values: impl IntoIterator<Item = &'t str>) -> &mut Self {
        self.push("(");
        for (at, value) in values.into_iter().enumerate() {
            self.push(if at == 0 { "" } else { ", " }).text(value);
        }
        self.push(")")
    }

    fn value<T>(&mut self, value: T) -> &mut Self
    where
        T: for<'t> sqlx::Encode<'t, Any> + sqlx::Type<Any>,
    {
        // Texts and numbers always encode.
        if self.values.add(value).is_ok() {
            self.count += 1;
        }
        if self.nameless {
            self.text.push('?');
        } else {
            self.text.push('$');
            self.text.push_str(&self.count.to_string());
        }
        self
    }

    /// Its text, for a test that asks the database how it would answer.
    #[cfg(test)]
    pub(super) fn shown(&self) -> &str {
        &self.text
    }

    /// Every row.
    pub(super) async fn fetch_all<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(self.keep);
        Ok(query.fetch_all(executor).await?)
    }

    /// How many rows it changed.
    pub(super) async fn execute<'e>(
        self,
        executor: impl Executor<'e, Database = Any>,
    ) -> Result<u64, StoreError> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(self.keep);
        Ok(query.execute(executor).await?.rows_affected())
    }
}
