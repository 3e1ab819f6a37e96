//! Records as gateways get them, made from the tables: one by its key, or many in the order of their keys.

mod leases;

use compact_str::CompactString;
use hashbrown::HashMap;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tidegate_control_wire::frame::MAX_LINE;
use tidegate_control_wire::oidc::Issuer;
use tidegate_control_wire::record::{
    BlockChange, BlockLayer, Change, MAX_BLOCK_CHANGE, MAX_VERSIONS, PolicyRecord, SetRecord, TokenRecord,
    VersionRecord,
};
use tidegate_policy::job::Scope;

use super::StoreError;
use super::read::{generation, get, json, most, word};

pub(super) use self::leases::{lease_gone, leases, leases_after};

/// Documents in one policy's record, in bytes: with every byte escaped the record stays below [`MAX_LINE`]. Always more
/// than one document.
const MAX_DOCUMENTS: usize = MAX_LINE / 8;
/// Policies that are read at a time.
const POLICIES: i64 = 64;
/// Other records that are read at a time.
const ROWS: i64 = 1_000;

/// Versions that still govern somebody: from the newest one on that was put in force for every job.
macro_rules! governing {
    ($which:literal) => {
        concat!(
            "SELECT policies.id, policies.owner, policies.name, shown.version, shown.since, shown.yaml \
             FROM policies JOIN policy_versions AS shown ON shown.policy_id = policies.id \
             WHERE policies.deleted_at IS NULL AND ",
            $which,
            " AND shown.version >= (SELECT COALESCE(MAX(known.version), 1) FROM policy_versions AS known \
             WHERE known.policy_id = policies.id AND known.version > policies.version - 16 AND known.apply = 'now') \
             AND shown.version > policies.version - 16 \
             ORDER BY policies.id, shown.version"
        )
    };
}
const _: () = assert!(MAX_VERSIONS == 16, "the statement above says so, too");

/// A policy, or that it is gone.
pub(super) async fn policy(connection: &mut AnyConnection, id: &str) -> Result<Change, StoreError> {
    let rows = sqlx::query(governing!("policies.id = $1"))
        .bind(id)
        .fetch_all(connection)
        .await?;
    let gone = || Change::PolicyGone { id: id.into() };
    Ok(policies(&rows)?.pop().map_or_else(gone, Change::Policy))
}

/// Some policies behind `after`, by id.
pub(super) async fn policies_after(
    connection: &mut AnyConnection,
    after: &str,
) -> Result<Vec<PolicyRecord>, StoreError> {
    let rows = sqlx::query(governing!(
        "policies.id IN (SELECT id FROM policies WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2)"
    ))
    .bind(after)
    .bind(POLICIES)
    .fetch_all(connection)
    .await?;
    policies(&rows)
}

/// Rows of [`governing`] as records.
fn policies(rows: &[AnyRow]) -> Result<Vec<PolicyRecord>, StoreError> {
    let mut records: Vec<PolicyRecord> = Vec::new();
    for row in rows {
        let id: &str = get(row, "id")?;
        if records.last().is_none_or(|last| last.id != id) {
            records.push(PolicyRecord {
                id: id.into(),
                owner: get::<&str>(row, "owner")?.into(),
                name: get::<&str>(row, "name")?.into(),
                versions: Vec::new(),
            });
        }
        let version = VersionRecord {
            version: get::<i64>(row, "version")?.unsigned_abs() as u32,
            since: generation(get(row, "since")?),
            yaml: get(row, "yaml")?,
        };
        if let Some(record) = records.last_mut() {
            record.versions.push(version);
        }
    }
    records.iter_mut().for_each(bound);
    Ok(records)
}

/// Leaves the oldest versions out until the record fits into a line: the oldest jobs move to the next version.
fn bound(record: &mut PolicyRecord) {
    let mut bytes = 0;
    let newest_first = record.versions.iter().rev();
    let fit = newest_first
        .take_while(|version| {
            bytes += version.yaml.len();
            bytes <= MAX_DOCUMENTS
        })
        .count();
    let spare = record.versions.len().saturating_sub(fit.max(1));
    record.versions.drain(..spare);
}

/// An endpoint set by its `owner/name`, or that it is gone.
pub(super) async fn set(connection: &mut AnyConnection, key: &str) -> Result<Change, StoreError> {
    let (owner, name) = key
        .split_once('/')
        .ok_or_else(|| StoreError::Unreadable(format!("a set's key is {key:?}")))?;
    let row =
        sqlx::query("SELECT owner, name, version, yaml FROM endpoint_sets WHERE owner = $1 AND name = $2")
            .bind(owner)
            .bind(name)
            .fetch_optional(connection)
            .await?;
    match row {
        Some(row) => Ok(Change::Set(set_record(&row)?)),
        None => Ok(Change::SetGone {
            owner: owner.into(),
            name: name.into(),
        }),
    }
}

/// Some sets behind a set, by owner and name.
pub(super) async fn sets_after(
    connection: &mut AnyConnection,
    (owner, name): (&str, &str),
) -> Result<Vec<SetRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT owner, name, version, yaml FROM endpoint_sets WHERE (owner, name) > ($1, $2) \
         ORDER BY owner, name LIMIT $3",
    )
    .bind(owner)
    .bind(name)
    .bind(POLICIES)
    .fetch_all(connection)
    .await?;
    rows.iter().map(set_record).collect()
}

fn set_record(row: &AnyRow) -> Result<SetRecord, StoreError> {
    Ok(SetRecord {
        owner: get::<&str>(row, "owner")?.into(),
        name: get::<&str>(row, "name")?.into(),
        version: get::<i64>(row, "version")?.unsigned_abs() as u32,
        yaml: get(row, "yaml")?,
    })
}

/// What is attached to a scope.
pub(super) async fn attachment(connection: &mut AnyConnection, scope: &str) -> Result<Change, StoreError> {
    let row = sqlx::query("SELECT policy_id FROM attachments WHERE scope = $1")
        .bind(scope)
        .fetch_optional(connection)
        .await?;
    Ok(Change::Attachment {
        scope: read_scope(scope)?,
        policy: row
            .map(|row| get::<&str>(&row, "policy_id").map(CompactString::from))
            .transpose()?,
    })
}

/// Some attachments behind `after`, by scope, and the scope to go on from.
pub(super) async fn attachments_after(
    connection: &mut AnyConnection,
    after: &str,
) -> Result<(Vec<Change>, Option<String>), StoreError> {
    let rows =
        sqlx::query("SELECT scope, policy_id FROM attachments WHERE scope > $1 ORDER BY scope LIMIT $2")
            .bind(after)
            .bind(ROWS)
            .fetch_all(connection)
            .await?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        changes.push(Change::Attachment {
            scope: read_scope(get(row, "scope")?)?,
            policy: Some(get::<&str>(row, "policy_id")?.into()),
        });
    }
    let last = rows.last().map(|row| get(row, "scope")).transpose()?;
    Ok((changes, last))
}

fn read_scope(text: &str) -> Result<Scope, StoreError> {
    text.parse()
        .map_err(|error| StoreError::Unreadable(format!("{error}")))
}

/// Columns of [`token_record`].
macro_rules! token_columns {
    () => {
        "SELECT id, digest, role, owners, repos, networks, cluster, expires_at FROM tokens \
         WHERE revoked_at IS NULL AND role IN ('runner', 'provisioner') AND "
    };
}

/// A runner's or provisioner's token, or that it is good no more.
pub(super) async fn token(connection: &mut AnyConnection, id: &str) -> Result<Change, StoreError> {
    let row = sqlx::query(concat!(token_columns!(), "id = $1"))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    match row {
        Some(row) => Ok(Change::Token(token_record(&row)?)),
        None => Ok(Change::TokenGone { id: id.into() }),
    }
}

/// Some tokens behind `after`, by id.
pub(super) async fn tokens_after(
    connection: &mut AnyConnection,
    after: &str,
) -> Result<Vec<TokenRecord>, StoreError> {
    let rows = sqlx::query(concat!(token_columns!(), "id > $1 ORDER BY id LIMIT $2"))
        .bind(after)
        .bind(ROWS)
        .fetch_all(connection)
        .await?;
    rows.iter().map(token_record).collect()
}

fn token_record(row: &AnyRow) -> Result<TokenRecord, StoreError> {
    let digest: &str = get(row, "digest")?;
    Ok(TokenRecord {
        id: get::<&str>(row, "id")?.into(),
        digest: digest
            .parse()
            .map_err(|error| StoreError::Unreadable(format!("a token's digest: {error}")))?,
        role: word("a token's role", get(row, "role")?)?,
        owners: json("a token's owners", get(row, "owners")?)?,
        repos: json("a token's repositories", get(row, "repos")?)?,
        networks: json("a token's networks", get(row, "networks")?)?,
        cluster: get::<Option<&str>>(row, "cluster")?.map(CompactString::from),
        expires_at: get::<Option<i64>>(row, "expires_at")?.map(|at| super::Micros(at).timestamp()),
    })
}

/// An issuer by its URL, or that it is trusted no more.
pub(super) async fn issuer(connection: &mut AnyConnection, url: &str) -> Result<Change, StoreError> {
    let row = sqlx::query("SELECT record FROM issuers WHERE issuer = $1")
        .bind(url)
        .fetch_optional(connection)
        .await?;
    match row {
        Some(row) => Ok(Change::Issuer(json("an issuer", get(&row, "record")?)?)),
        None => Ok(Change::IssuerGone {
            issuer: url.to_owned(),
        }),
    }
}

/// Entries of the block list that changed in `span` (first not included), by layer.
pub(super) async fn blocks_between(
    connection: &mut AnyConnection,
    span: (i64, i64),
) -> Result<HashMap<String, Vec<Change>>, StoreError> {
    let rows = sqlx::query(
        "SELECT layer, pattern, removed FROM block_entries WHERE changed > $1 AND changed <= $2 ORDER BY changed",
    )
    .bind(span.0)
    .bind(span.1)
    .fetch_all(connection)
    .await?;
    let mut changes = HashMap::new();
    for layer in BlockLayer::ALL {
        let mut listed = Vec::new();
        for row in &rows {
            if get::<&str>(row, "layer")? == layer.as_str() {
                listed.push((get::<String>(row, "pattern")?, get::<i64>(row, "removed")? != 0));
            }
        }
        listed.sort_unstable();
        changes.insert(layer.as_str().to_owned(), block_changes(layer, listed));
    }
    Ok(changes)
}

/// Patterns, each with whether it was removed, as changes of bounded size.
fn block_changes(layer: BlockLayer, listed: Vec<(String, bool)>) -> Vec<Change> {
    let mut changes = Vec::with_capacity(listed.len().div_ceil(MAX_BLOCK_CHANGE));
    for some in listed.chunks(MAX_BLOCK_CHANGE) {
        let (remove, add): (Vec<_>, Vec<_>) = some.iter().cloned().partition(|(_, removed)| *removed);
        let patterns = |list: Vec<(String, bool)>| list.into_iter().map(|(pattern, _)| pattern).collect();
        changes.push(Change::Block(BlockChange {
            layer,
            add: patterns(add),
            remove: patterns(remove),
        }));
    }
    changes
}

/// Some entries of a layer behind `after`, by pattern.
pub(super) async fn patterns_after(
    connection: &mut AnyConnection,
    layer: BlockLayer,
    after: &str,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT pattern FROM block_entries WHERE layer = $1 AND removed = 0 AND pattern > $2 ORDER BY pattern LIMIT $3",
    )
    .bind(layer.as_str())
    .bind(after)
    .bind(most(MAX_BLOCK_CHANGE))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| get(row, "pattern")).collect()
}

/// About how many bytes of text a change has.
pub(super) fn text_bytes(change: &Change) -> usize {
    match change {
        Change::Policy(record) => record.versions.iter().map(|version| version.yaml.len()).sum(),
        Change::Set(record) => record.yaml.len(),
        Change::Issuer(_) => 4_096,
        Change::PolicyGone { .. }
        | Change::SetGone { .. }
        | Change::Attachment { .. }
        | Change::Token(_)
        | Change::TokenGone { .. }
        | Change::IssuerGone { .. }
        | Change::Block(_)
        | Change::Lease(_)
        | Change::LeaseGone { .. } => 256,
    }
}

/// Every trusted issuer: a handful, from the configuration.
pub(super) async fn issuers(connection: &mut AnyConnection) -> Result<Vec<Issuer>, StoreError> {
    let rows = sqlx::query("SELECT record FROM issuers ORDER BY issuer")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| json("an issuer", get(row, "record")?))
        .collect()
}
