//! Reading rows: a transaction that sees one state, pages with cursors, words and JSON in text columns.

use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row, Transaction, Type};
use tidegate_policy::effective::Generation;

use super::db::Backend;
use super::{Store, StoreError};
use crate::model::{Page, PageRequest};

impl Store {
    /// A transaction in which every query sees the same state.
    pub(super) async fn reading(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.db.backend() {
            // The first query fixes what is seen (write-ahead log).
            Backend::Sqlite => "BEGIN",
            Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(self.db.read().begin_with(begin).await?)
    }
}

/// A column's value.
pub(super) fn get<'r, T>(row: &'r AnyRow, column: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Any> + Type<Any>,
{
    row.try_get(column)
        .map_err(|error| StoreError::Unreadable(format!("column {column}: {error}")))
}

/// JSON in a text column, or one of our enums' words.
pub(super) fn json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable(format!("{what}: {error}")))
}

/// One of our enums, by its spelling.
pub(super) fn word<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| StoreError::Unreadable(format!("{what}: {error}")))
}

/// Plain data as JSON.
pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unreadable(error.to_string()))
}

/// A generation as it is stored.
pub(super) fn number(generation: Generation) -> i64 {
    i64::try_from(generation.0).unwrap_or(i64::MAX)
}

/// A stored generation.
pub(super) fn generation(number: i64) -> Generation {
    Generation(number.unsigned_abs())
}

/// Puts a page together from one row more than was asked for.
pub(super) fn page<T>(
    rows: Vec<AnyRow>,
    request: &PageRequest,
    read: impl Fn(&AnyRow) -> Result<T, StoreError>,
    cursor: impl Fn(&T) -> String,
) -> Result<Page<T>, StoreError> {
    let size = request.size() as usize;
    let more = rows.len() > size;
    let items: Vec<T> = rows.iter().take(size).map(read).collect::<Result<_, _>>()?;
    let next = items.last().filter(|_| more).map(cursor);
    Ok(Page { items, next })
}

/// A cursor that nobody was given.
pub(super) fn bad_cursor() -> StoreError {
    StoreError::Invalid {
        field: "after",
        reason: "this is no `next` of a page of this list".into(),
    }
}

/// `None` for a text that neither is nor can be stored: PostgreSQL has no NUL in texts, so nothing is called so.
pub(super) fn storable(text: &str) -> Option<&str> {
    (!text.contains('\0')).then_some(text)
}

/// The cursor of a list that is ordered by one text; empty at its beginning.
pub(super) fn cursor(request: &PageRequest) -> Result<&str, StoreError> {
    storable(request.after.as_deref().unwrap_or_default()).ok_or_else(bad_cursor)
}

/// A bound, for `LIMIT`.
pub(super) fn most(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
