//! A part of a baseline's endpoints, as a page of a table shows it, and which baselines there are.
//!
//! Reads no more rows than are shown: baselines hold up to 11 000 endpoints. What an import takes of all of them together
//! is [`Store::baseline`]'s.

use sqlx::any::AnyRow;
use tidegate_policy::job::Scope;

use super::daily::Days;
use super::read_seen;
use crate::baseline::import::{self, Wanted};
use crate::baseline::model::{Baseline, BaselineEndpoint, BaselineScope};
use crate::baseline::{Target, Transport};
use crate::model::{Page, PageRequest};
use crate::store::observe::{read_standing, stamp, target};
use crate::store::read::{self, bad_cursor, get, most, page};
use crate::store::sql::Sql;
use crate::store::{Micros, Store, StoreError, names};

/// Which endpoints of a baseline are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// With this text in them.
    pub search: Option<String>,
    /// Which part.
    pub page: PageRequest,
    /// Calls of each of so many days, today the last; 0 for none. See [`Store::baseline_page`].
    pub days: u32,
}

/// Which baselines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaselineFilter {
    /// Of this organization's own, its repositories' and its workflows'.
    pub owner: Option<String>,
    /// With this text in the scope.
    pub search: Option<String>,
}

impl Store {
    /// A part of a scope's baseline, in the order of endpoint, port and transport; what is left out is said by what was
    /// asked for. Calls by day are known for repositories and workflows.
    pub async fn baseline_page(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        shown: &Shown,
    ) -> Result<Baseline, StoreError> {
        self.settle_counts().await;
        let mut baseline = self.standing(scope).await?;
        let text = baseline.scope.clone();
        let rows = select(&text, shown)?.fetch_all(self.events.read()).await?;
        let found = page(rows, &shown.page, |row| read_endpoint(row, wanted), cursor)?;
        baseline.endpoints = found.items;
        baseline.next = found.next;
        if shown.days > 0
            && let Some(days) = Days::of(scope, shown.days)
        {
            self.add_days(&days, &mut baseline.endpoints).await?;
        }
        Ok(baseline)
    }

    /// Baselines by scope: clusters, organizations, repositories, workflows.
    pub async fn baselines(
        &self,
        filter: &BaselineFilter,
        request: &PageRequest,
    ) -> Result<Page<BaselineScope>, StoreError> {
        let mut sql = Sql::new("SELECT * FROM baselines WHERE scope > ").once();
        let after = request.after.as_deref().unwrap_or_default();
        sql.text(read::storable(after).ok_or_else(bad_cursor)?);
        if let Some(owner) = &filter.owner {
            of_owner(&mut sql, &names::owner(owner)?);
        }
        if let Some(search) = &filter.search {
            sql.push(" AND LOWER(scope) LIKE ").owned(containing(search)?);
            sql.push(" ESCAPE '!'");
        }
        sql.push(" ORDER BY scope LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.events.read()).await?;
        page(rows, request, read_scope, |one| one.scope.clone())
    }
}

/// The rows of a page, and one more.
fn select(scope: &str, shown: &Shown) -> Result<Sql, StoreError> {
    let mut sql = Sql::new(
        "SELECT e.*, COALESCE(d.status, '') AS status, \
         CASE WHEN s.name IS NULL THEN 0 ELSE 1 END AS suffix FROM baseline_endpoints AS e \
         LEFT JOIN detections AS d ON d.id = e.detection \
         LEFT JOIN suffix_names AS s ON s.scope = e.scope AND s.name = e.endpoint WHERE e.scope = ",
    )
    .once();
    sql.text(scope);
    if let Some(search) = &shown.search {
        sql.push(" AND e.endpoint LIKE ").owned(containing(search)?);
        sql.push(" ESCAPE '!'");
    }
    if let Some(after) = &shown.page.after {
        let (port, transport, endpoint) = after_of(after).ok_or_else(bad_cursor)?;
        sql.push(" AND (e.endpoint, e.port, e.transport) > (")
            .text(endpoint);
        sql.push(", ").number(port.into());
        sql.push(", ").text(transport.as_str()).push(")");
    }
    sql.push(" ORDER BY e.endpoint, e.port, e.transport LIMIT ")
        .number(most(shown.page.size() as usize + 1));
    Ok(sql)
}

fn read_endpoint(row: &AnyRow, wanted: &Wanted) -> Result<BaselineEndpoint, StoreError> {
    let unreadable = || StoreError::Unreadable("an endpoint of a baseline without a name".to_owned());
    let target = target(row)?.ok_or_else(unreadable)?;
    let suffix = get::<i64>(row, "suffix")? != 0;
    let seen = read_seen(row, target, suffix)?;
    Ok(BaselineEndpoint::of(&seen, import::left_out(&seen, wanted)))
}

/// `443/tcp/example.test`: an endpoint may be any text, so it comes last.
fn cursor(one: &BaselineEndpoint) -> String {
    format!("{}/{}/{}", one.port, one.transport.as_str(), one.endpoint)
}

fn after_of(cursor: &str) -> Option<(u16, Transport, &str)> {
    let (port, rest) = cursor.split_once('/')?;
    let (transport, endpoint) = rest.split_once('/')?;
    Some((
        port.parse().ok()?,
        Transport::parse(transport)?,
        read::storable(endpoint)?,
    ))
}

/// What `LIKE … ESCAPE '!'` finds a text by, anywhere in another. Endpoints are lower case.
pub(super) fn containing(search: &str) -> Result<String, StoreError> {
    read::storable(search).ok_or_else(|| StoreError::invalid("search", "no text has a NUL"))?;
    let plain: String = search
        .to_lowercase()
        .chars()
        .flat_map(|c| matches!(c, '%' | '_' | '!').then_some('!').into_iter().chain([c]))
        .collect();
    Ok(format!("%{plain}%"))
}

/// Scopes of an owner: the key's order makes each kind one range (`0` follows `/`).
fn of_owner(sql: &mut Sql, owner: &str) {
    sql.push(" AND (scope = ").owned(format!("org:{owner}"));
    for kind in ["repo", "workflow"] {
        sql.push(" OR (scope > ").owned(format!("{kind}:{owner}/"));
        sql.push(" AND scope < ")
            .owned(format!("{kind}:{owner}0"))
            .push(")");
    }
    sql.push(")");
}

fn read_scope(row: &AnyRow) -> Result<BaselineScope, StoreError> {
    let standing = read_standing(row)?;
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(BaselineScope {
        scope: get(row, "scope")?,
        state: standing.state(Micros::now().timestamp()),
        runs: standing.runs,
        runs_since_change: standing.quiet,
        changed_at: standing.changed_at,
        stable_at: standing.stable_at,
        endpoints: number("endpoints")? + number("strangers")?,
        endpoints_dropped: number("dropped")?,
        last_seen: stamp(get(row, "last_at")?),
    })
}

/// A target's place among others, for looking it up.
pub(super) fn key(one: &BaselineEndpoint) -> Target {
    Target {
        endpoint: one.endpoint.as_str().into(),
        port: one.port,
        transport: one.transport,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_cursor_reads_back_whatever_an_endpoint_is_called() {
        for name in ["a.test", "2001:db8::1", "x/443/tcp/y", ""] {
            let text = format!("8080/udp/{name}");
            assert_eq!(after_of(&text), Some((8080, Transport::Udp, name)));
        }
        for wrong in [
            "",
            "a.test",
            "443",
            "443/tcp",
            "70000/tcp/a",
            "443/sctp/a",
            "443/tcp/\0",
        ] {
            assert_eq!(after_of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_searched_for_is_no_pattern() {
        assert_eq!(containing("A_b%!").unwrap(), "%a!_b!%!!%");
        assert!(containing("\0").is_err());
    }
}
