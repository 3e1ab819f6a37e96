//! Lists of tokens and of sessions: what is asked of each, in pages.

use super::read_token;
use crate::model::{Page, PageRequest, Token, TokenFilter};
use crate::store::pages::Filler;
use crate::store::read::{cursor, get};
use crate::store::sql::Sql;
use crate::store::{Micros, Store, StoreError};

/// Rows that are read at once.
const CHUNK: i64 = 200;

impl Store {
    /// Tokens, or sessions, by when they were made; those that were taken back or have expired too, unless the filter
    /// says otherwise. What is not `visible` to who asks is left out, and pages are full nevertheless.
    pub async fn tokens(
        &self,
        filter: &TokenFilter,
        request: &PageRequest,
        visible: impl Fn(&Token) -> bool + Send,
    ) -> Result<Page<Token>, StoreError> {
        let mut after = cursor(request)?.to_owned();
        let searched = filter.search.as_deref().map(str::to_lowercase);
        let wanted = |token: &Token| {
            searched
                .as_ref()
                .is_none_or(|part| token.name.to_lowercase().contains(part) || token.id == *part)
                && visible(token)
        };
        let now = Micros::now();
        let mut filler = Filler::new(request);
        loop {
            let rows = selection(filter, &after, now).fetch_all(self.db.read()).await?;
            for row in &rows {
                let token = read_token(row)?;
                get::<&str>(row, "id")?.clone_into(&mut after);
                if wanted(&token) && !filler.offer(token, 0) {
                    return Ok(filler.page(|token| token.id.clone()));
                }
            }
            if rows.len() < CHUNK.unsigned_abs() as usize {
                return Ok(filler.page(|token| token.id.clone()));
            }
        }
    }
}

/// The next rows after this id.
fn selection(filter: &TokenFilter, after: &str, now: Micros) -> Sql {
    let mut sql = Sql::new(tokens!("WHERE kind = "));
    sql.text(filter.kind.as_str());
    if !after.is_empty() {
        sql.push(if filter.newest_first {
            " AND id < "
        } else {
            " AND id > "
        })
        .text(after);
    }
    if let Some(role) = filter.role {
        sql.push(" AND role = ").text(role.as_str());
    }
    match filter.living {
        Some(true) => {
            sql.push(" AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ")
                .number(now.0)
                .push(")");
        }
        Some(false) => {
            sql.push(" AND (revoked_at IS NOT NULL OR expires_at <= ")
                .number(now.0)
                .push(")");
        }
        None => {}
    }
    sql.push(" ORDER BY id ")
        .push(if filter.newest_first { "DESC" } else { "ASC" })
        .push(" LIMIT ")
        .number(CHUNK);
    sql
}
