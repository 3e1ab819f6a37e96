//! Records of leases: those that live, and how the others ended.

use compact_str::CompactString;
use hashbrown::HashMap;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tidegate_control_wire::record::{Change, Ending, LeaseRecord};

use super::ROWS;
use crate::store::StoreError;
use crate::store::read::{get, json, word};
use crate::store::sql::Sql;

/// Leases that are asked for by name at a time.
const NAMED: usize = 500;

/// Leases as they are, or how they ended, by id. Those that are not there are left out.
pub(in crate::store) async fn leases(
    connection: &mut AnyConnection,
    ids: &[&str],
) -> Result<HashMap<CompactString, Change>, StoreError> {
    let mut leases = HashMap::with_capacity(ids.len());
    for some in ids.chunks(NAMED) {
        let mut sql = Sql::new("SELECT id, record, ending FROM jobs WHERE id IN ").once();
        sql.texts(some.iter().copied());
        for row in sql.fetch_all(&mut *connection).await? {
            let id = CompactString::from(get::<&str>(&row, "id")?);
            let change = match get::<Option<&str>>(&row, "ending")? {
                None => Change::Lease(json("a lease", get(&row, "record")?)?),
                Some(ending) => lease_ended(&row, id.clone(), word("a lease's ending", ending)?)?,
            };
            leases.insert(id, change);
        }
    }
    Ok(leases)
}

fn lease_ended(row: &AnyRow, id: CompactString, ending: Ending) -> Result<Change, StoreError> {
    let sources = match ending {
        Ending::Quarantine => Vec::new(),
        Ending::Release => json::<LeaseRecord>("a lease", get(row, "record")?)?.sources,
    };
    Ok(Change::LeaseGone { id, ending, sources })
}

/// A lease that ended so long ago that the store has forgotten how.
pub(in crate::store) fn lease_gone(id: CompactString) -> Change {
    Change::LeaseGone {
        id,
        ending: Ending::Quarantine,
        sources: Vec::new(),
    }
}

/// Some living leases of a group behind `after`, by id, and the id to go on from.
pub(in crate::store) async fn leases_after(
    connection: &mut AnyConnection,
    group: &str,
    after: &str,
) -> Result<(Vec<Change>, Option<String>), StoreError> {
    let rows = sqlx::query(
        "SELECT id, record FROM jobs WHERE ended_at IS NULL AND group_name = $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(group)
    .bind(after)
    .bind(ROWS)
    .fetch_all(connection)
    .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        changes.push(Change::Lease(json("a lease", get(row, "record")?)?));
    }
    let last = rows.last().map(|row| get(row, "id")).transpose()?;
    Ok((changes, last))
}
