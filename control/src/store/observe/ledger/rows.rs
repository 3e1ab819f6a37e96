//! Baselines as rows: read before a batch advances them, written back whole after. Both in one transaction of the one line
//! of writers, so nothing changes between the two.

use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::super::batch::Group;
use super::super::prior::target;
use super::{Deed, Ledger, Ledgers, MAX_ENDPOINTS, Row, Step};
use crate::baseline::{Standing, Status, Target};
use crate::store::read::get;
use crate::store::rollups::count;
use crate::store::sql::{Sql, lots};
use crate::store::{Micros, StoreError, Tx};

/// Rows that are read at once.
const LOT: usize = 64;

impl Tx<'_> {
    /// Reads the baselines, and the endpoints of them that groups reached.
    pub(in crate::store::observe) async fn load_ledgers(
        &mut self,
        ledgers: &mut Ledgers,
        groups: &[(&Group<'_>, Target)],
    ) -> Result<(), StoreError> {
        let scopes: Vec<String> = ledgers.0.keys().cloned().collect();
        for lot in scopes.chunks(LOT) {
            let mut sql = Sql::new("SELECT * FROM baselines WHERE scope IN ").once();
            sql.texts(lot.iter().map(String::as_str));
            for row in sql.fetch_all(self.connection()).await? {
                if let Some((_, ledger)) = ledgers.0.get_mut(get::<&str>(&row, "scope")?) {
                    ledger.read(&row)?;
                }
            }
        }
        let reached = ledgers.0.iter().flat_map(|(scope, (_, ledger))| {
            let numbers = ledger.steps.iter().filter(|(_, _, deed, _)| *deed != Deed::Run);
            let target = |(_, _, _, number): &Step| groups.get(*number).map(|(_, target)| target);
            numbers
                .filter_map(target)
                .map(move |target| (scope.clone(), target.endpoint.clone()))
        });
        let mut wanted: Vec<_> = reached.collect();
        wanted.sort_unstable();
        wanted.dedup();
        for lot in wanted.chunks(LOT) {
            let mut sql = Sql::new("SELECT e.*, COALESCE(d.status, '') AS status FROM (VALUES ").once();
            for (at, (scope, endpoint)) in lot.iter().enumerate() {
                sql.push(if at == 0 { "(" } else { ", (" }).text(scope);
                sql.push(", ").text(endpoint).push(")");
            }
            // In this order: see `prior`.
            sql.push(
                ") AS w CROSS JOIN baseline_endpoints AS e LEFT JOIN detections AS d ON d.id = e.detection \
                 WHERE e.scope = w.column1 AND e.endpoint = w.column2",
            );
            for row in sql.fetch_all(self.connection()).await? {
                if let (Some((_, ledger)), Some(target)) =
                    (ledgers.0.get_mut(get::<&str>(&row, "scope")?), target(&row)?)
                {
                    ledger.rows.insert(target, read_row(&row)?);
                }
            }
        }
        Ok(())
    }

    /// Writes baselines back.
    pub(in crate::store::observe) async fn write_ledgers(
        &mut self,
        ledgers: &Ledgers,
    ) -> Result<(), StoreError> {
        let mut all = ledgers.0.iter();
        for lot in lots(all.len()) {
            let mut sql = Sql::new(
                "INSERT INTO baselines (scope, runs, quiet, changed_at, stable_at, unsettled, endpoints, strangers, \
                 dropped, last_at) VALUES ",
            );
            for (at, (scope, (_, ledger))) in all.by_ref().take(lot).enumerate() {
                let standing = &ledger.standing;
                sql.push(if at == 0 { "(" } else { ", (" }).text(scope);
                for number in [
                    count(standing.runs),
                    count(standing.quiet),
                    time(standing.changed_at),
                    time(standing.stable_at),
                    i64::from(standing.unsettled),
                    ledger.endpoints,
                    ledger.strangers,
                    count(ledger.dropped),
                    time(ledger.last),
                ] {
                    sql.push(", ").number(number);
                }
                sql.push(")");
            }
            sql.push(
                " ON CONFLICT (scope) DO UPDATE SET runs = excluded.runs, quiet = excluded.quiet, \
                 changed_at = excluded.changed_at, stable_at = excluded.stable_at, unsettled = excluded.unsettled, \
                 endpoints = excluded.endpoints, strangers = excluded.strangers, dropped = excluded.dropped, \
                 last_at = excluded.last_at",
            );
            sql.execute(self.connection()).await?;
        }
        self.write_rows(ledgers).await
    }

    async fn write_rows(&mut self, ledgers: &Ledgers) -> Result<(), StoreError> {
        let mut rows: Vec<(&str, &Target, &Row)> = ledgers
            .0
            .iter()
            .flat_map(|(scope, (_, ledger))| {
                let changed = ledger.rows.iter().filter(|(_, row)| row.changed);
                changed.map(move |(target, row)| (scope.as_str(), target, row))
            })
            .collect();
        rows.sort_unstable_by_key(|(scope, target, _)| (*scope, *target));
        let mut rows = rows.into_iter();
        for lot in lots(rows.len()) {
            let mut sql = Sql::new(
                "INSERT INTO baseline_endpoints (scope, endpoint, port, transport, detection, first_at, last_at, \
                 calls, runs, fork_runs, claimed_runs, late, accepted) VALUES ",
            );
            for (at, (scope, target, row)) in rows.by_ref().take(lot).enumerate() {
                sql.push(if at == 0 { "(" } else { ", (" }).text(scope);
                sql.push(", ").text(&target.endpoint);
                sql.push(", ").number(i64::from(target.port));
                sql.push(", ").text(target.transport.as_str());
                sql.push(", ").text(&row.detection);
                for number in [
                    Micros::from(row.first).0,
                    Micros::from(row.last).0,
                    count(row.calls),
                    count(row.runs),
                    count(row.fork_runs),
                    count(row.claimed_runs),
                    i64::from(row.late),
                    i64::from(row.accepted),
                ] {
                    sql.push(", ").number(number);
                }
                sql.push(")");
            }
            sql.push(
                " ON CONFLICT (scope, endpoint, port, transport) DO UPDATE SET detection = excluded.detection, \
                 first_at = excluded.first_at, last_at = excluded.last_at, calls = excluded.calls, \
                 runs = excluded.runs, fork_runs = excluded.fork_runs, claimed_runs = excluded.claimed_runs, \
                 late = excluded.late, accepted = excluded.accepted",
            );
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }
}

impl Ledger {
    fn read(&mut self, row: &AnyRow) -> Result<(), StoreError> {
        self.standing = read_standing(row)?;
        self.endpoints = get(row, "endpoints")?;
        self.strangers = get(row, "strangers")?;
        let before: i64 = get(row, "dropped")?;
        self.dropped = self.dropped.saturating_add(before.unsigned_abs());
        self.last = self.last.max(stamp(get(row, "last_at")?));
        Ok(())
    }
}

/// Where a stored baseline stands.
pub(in crate::store) fn read_standing(row: &AnyRow) -> Result<Standing, StoreError> {
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(Standing {
        runs: number("runs")?,
        quiet: number("quiet")?,
        changed_at: stamp(get(row, "changed_at")?),
        stable_at: stamp(get(row, "stable_at")?),
        unsettled: number("unsettled")? != 0,
        full: get::<i64>(row, "endpoints")? >= MAX_ENDPOINTS,
    })
}

fn read_row(row: &AnyRow) -> Result<Row, StoreError> {
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    Ok(Row {
        first: Micros(get(row, "first_at")?).timestamp(),
        last: Micros(get(row, "last_at")?).timestamp(),
        calls: number("calls")?,
        runs: number("runs")?,
        fork_runs: number("fork_runs")?,
        claimed_runs: number("claimed_runs")?,
        late: number("late")? != 0,
        accepted: number("accepted")? != 0,
        detection: get(row, "detection")?,
        status: Status::parse(get(row, "status")?),
        changed: false,
    })
}

/// A time that may be absent.
pub(in crate::store) fn stamp(micros: i64) -> Option<Timestamp> {
    (micros != 0).then(|| Micros(micros).timestamp())
}

fn time(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| Micros::from(at).0)
}
