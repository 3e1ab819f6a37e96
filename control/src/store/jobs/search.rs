//! Jobs by a text: looked through some at a time, the newest first.
//!
//! Owns how much of the kept jobs one question reads. Texts are compared here, for databases fold the case of ASCII only.

use sqlx::any::AnyRow;

use super::{JobFilter, narrow_jobs, newest_first, read_job};
use crate::model::{Job, Page, PageRequest};
use crate::store::read::{get, storable};
use crate::store::sql::Sql;
use crate::store::{Store, StoreError};

/// Jobs that one question looks through; behind them its page ends.
const MAX_LOOKED: usize = 100_000;
/// Jobs that one statement reads.
const WINDOW: u32 = PageRequest::MOST;
/// What a search looks through.
const SEARCHED: [&str; 5] = ["id", "repo", "workflow", "job", "run_id"];

impl Store {
    /// Jobs with a text in them. A page may have fewer than it has room for, or none, and still a next one.
    pub(super) async fn jobs_with(
        &self,
        search: &str,
        filter: &JobFilter,
        request: &PageRequest,
    ) -> Result<Page<Job>, StoreError> {
        storable(search).ok_or_else(|| StoreError::invalid("search", "no text has a NUL"))?;
        let search = search.to_lowercase();
        let rest = JobFilter {
            search: None,
            ..filter.clone()
        };
        let mut window = PageRequest {
            after: request.after.clone(),
            // The row behind a page is looked at, too.
            limit: WINDOW - 1,
        };
        let (mut ids, mut last) = (Vec::new(), None);
        let mut looked = 0;
        loop {
            let mut sql =
                Sql::new("SELECT id, repo, workflow, job, run_id, started_at FROM jobs WHERE 1 = 1");
            narrow_jobs(&mut sql, "jobs", &rest)?;
            newest_first(&mut sql, &window)?;
            let rows = sql.fetch_all(self.db.read()).await?;
            for row in &rows {
                let id: &str = get(row, "id")?;
                let here = format!("{}.{id}", get::<i64>(row, "started_at")?);
                if has(row, &search)? {
                    if ids.len() == request.size() as usize {
                        return self.those(ids, last).await;
                    }
                    ids.push(id.to_owned());
                    last = Some(here.clone());
                }
                window.after = Some(here);
            }
            looked += rows.len();
            if rows.len() < WINDOW as usize {
                return self.those(ids, None).await;
            }
            if looked >= MAX_LOOKED {
                return self.those(ids, window.after).await;
            }
        }
    }

    /// Jobs by their ids, newest first.
    async fn those(&self, ids: Vec<String>, next: Option<String>) -> Result<Page<Job>, StoreError> {
        let mut items = Vec::new();
        if !ids.is_empty() {
            let mut sql = Sql::new("SELECT group_name, record, ended_at, ended_by FROM jobs WHERE id IN ");
            sql.texts(ids.iter().map(String::as_str));
            sql.push(" ORDER BY started_at DESC, id DESC");
            let rows = sql.fetch_all(self.db.read()).await?;
            items = rows.iter().map(read_job).collect::<Result<_, _>>()?;
        }
        Ok(Page { items, next })
    }
}

fn has(row: &AnyRow, search: &str) -> Result<bool, StoreError> {
    for column in SEARCHED {
        if get::<&str>(row, column)?.to_lowercase().contains(search) {
            return Ok(true);
        }
    }
    Ok(false)
}
