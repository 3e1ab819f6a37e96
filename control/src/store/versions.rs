//! The versions of policies, as they were written.

use sqlx::any::AnyRow;

use super::pages::Filler;
use super::policies::{count, find, title};
use super::read::{bad_cursor, get, word};
use super::{Micros, Store, StoreError, names};
use crate::model::{Page, PageRequest, PolicyVersion};

/// Versions that are read at once: each may be a megabyte.
const CHUNK: i64 = 8;

fn version(row: &AnyRow) -> Result<PolicyVersion, StoreError> {
    Ok(PolicyVersion {
        version: count(row, "version")?,
        yaml: get(row, "yaml")?,
        apply: word("when a version applies", get(row, "apply")?)?,
        created_at: Micros(get(row, "created_at")?).timestamp(),
        created_by: get(row, "created_by")?,
    })
}

impl Store {
    /// The versions of a living policy, newest first. A page ends early when its texts come to several megabytes.
    pub async fn versions(
        &self,
        owner: &str,
        name: &str,
        page: &PageRequest,
    ) -> Result<Page<PolicyVersion>, StoreError> {
        let (owner, name) = (names::owner(owner)?, names::policy(name)?);
        let found = find(&mut *self.reading().await?, &owner, &name).await?;
        self.versions_of(&found.id, page).await
    }

    /// The same by the policy's id; of a deleted one, too. There are none of an id that is nobody's.
    pub async fn versions_of(
        &self,
        policy_id: &str,
        page: &PageRequest,
    ) -> Result<Page<PolicyVersion>, StoreError> {
        let mut before = match page.after.as_deref() {
            None => i64::MAX,
            Some(after) => after.parse::<u32>().map_err(|_| bad_cursor())?.into(),
        };
        let mut reading = self.reading().await?;
        let mut filler = Filler::new(page);
        loop {
            let rows = sqlx::query(
                "SELECT * FROM policy_versions WHERE policy_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
            )
            .bind(policy_id)
            .bind(before)
            .bind(CHUNK)
            .fetch_all(&mut *reading)
            .await?;
            for row in &rows {
                let version = version(row)?;
                before = version.version.into();
                let bytes = version.yaml.len();
                if !filler.offer(version, bytes) {
                    return Ok(filler.page(|version| version.version.to_string()));
                }
            }
            if rows.is_empty() {
                return Ok(filler.page(|version| version.version.to_string()));
            }
        }
    }

    /// One version of a living policy.
    pub async fn version(&self, owner: &str, name: &str, number: u32) -> Result<PolicyVersion, StoreError> {
        let (owner, name) = (names::owner(owner)?, names::policy(name)?);
        let found = find(&mut *self.reading().await?, &owner, &name).await?;
        self.version_of(&found.id, number)
            .await?
            .ok_or_else(|| StoreError::not_found(format!("version {number} of {}", title(&owner, &name))))
    }

    /// The same by the policy's id; of a deleted one, too.
    pub async fn version_of(
        &self,
        policy_id: &str,
        number: u32,
    ) -> Result<Option<PolicyVersion>, StoreError> {
        let row = sqlx::query("SELECT * FROM policy_versions WHERE policy_id = $1 AND version = $2")
            .bind(policy_id)
            .bind(i64::from(number))
            .fetch_optional(self.db.read())
            .await?;
        row.as_ref().map(version).transpose()
    }
}
