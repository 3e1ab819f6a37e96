//! What stands in the way of a claim, seen with one statement.

use compact_str::CompactString;
use sqlx::any::AnyRow;
use tidegate_control_wire::record::LeaseRecord;
use tidegate_policy::job::Assurance;

use super::claim::Prepared;
use crate::store::read::{get, json, word};
use crate::store::sql::Sql;
use crate::store::{Micros, StoreError, Tx};

/// The lease with the id that is claimed.
pub(super) struct Known {
    pub(super) group: String,
    pub(super) record: LeaseRecord,
    pub(super) alive: bool,
}

/// A living lease on one of the sources.
pub(super) struct Holder {
    pub(super) id: CompactString,
    pub(super) source: String,
    pub(super) owner: String,
    pub(super) repo: String,
    pub(super) assurance: Assurance,
    pub(super) started: Micros,
    pub(super) expires: Micros,
}

/// Everything that a claim is judged by.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) known: Option<Known>,
    pub(super) holders: Vec<Holder>,
    /// When the token that was shown was used before, long ago for never; `None` when it is not known, or not good.
    pub(super) token_used: Option<Micros>,
    /// The job that the proof was used for.
    pub(super) spent_for: Option<String>,
}

/// What a row of the statement is about.
const KNOWN: i64 = 1;
const HOLDER: i64 = 2;
const TOKEN: i64 = 3;

impl Standing {
    /// One statement for four questions: on a database across the network each would be a way there and back.
    pub(super) async fn load(tx: &mut Tx<'_>, claim: &Prepared) -> Result<Self, StoreError> {
        let now = tx.now().0;
        let mut sql = Sql::new(
            "SELECT 1 AS what, id, group_name AS text, '' AS owner, '' AS repo, record, started_at, expires_at, \
             COALESCE(ended_at, 0) AS ended_at FROM jobs WHERE id = ",
        );
        sql.text(&claim.record.id);
        // One source at a time, by the whole key: PostgreSQL plans a list of sources while the table is small, and then
        // goes on to read the whole group.
        for source in &claim.sources {
            sql.push(
                " UNION ALL SELECT 2, jobs.id, held.source, jobs.owner, jobs.repo, jobs.assurance, jobs.started_at, \
                 jobs.expires_at, 0 FROM lease_sources AS held JOIN jobs ON jobs.id = held.job_id \
                 WHERE held.group_name = ",
            );
            sql.text(&claim.group).push(" AND held.source = ").text(source);
        }
        if let Some(token) = &claim.record.token_id {
            sql.push(" UNION ALL SELECT 3, id, '', '', '', '', COALESCE(last_used_at, 0), 0, 0 FROM tokens WHERE id = ");
            sql.text(token)
                .push(" AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ");
            sql.number(now).push(")");
        }
        if let Some(proof) = &claim.proof {
            sql.push(" UNION ALL SELECT 4, job_id, '', '', '', '', 0, 0, 0 FROM proofs WHERE issuer = ");
            sql.text(&proof.issuer).push(" AND key = ").text(&proof.key);
        }
        let mut standing = Self::default();
        for row in sql.fetch_all(tx.connection()).await? {
            standing.take(&row)?;
        }
        Ok(standing)
    }

    fn take(&mut self, row: &AnyRow) -> Result<(), StoreError> {
        match get::<i64>(row, "what")? {
            KNOWN => {
                self.known = Some(Known {
                    group: get(row, "text")?,
                    record: json("a lease", get::<&str>(row, "record")?)?,
                    alive: get::<i64>(row, "ended_at")? == 0,
                });
            }
            HOLDER => self.holders.push(Holder {
                id: get::<&str>(row, "id")?.into(),
                source: get(row, "text")?,
                owner: get(row, "owner")?,
                repo: get(row, "repo")?,
                // It stands where the record does for others.
                assurance: word("a lease's assurance", get(row, "record")?)?,
                started: Micros(get(row, "started_at")?),
                expires: Micros(get(row, "expires_at")?),
            }),
            TOKEN => self.token_used = Some(Micros(get(row, "started_at")?)),
            _ => self.spent_for = Some(get(row, "id")?),
        }
        Ok(())
    }
}
