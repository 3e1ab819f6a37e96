//! The table of everything that was seen ([`crate::coverage`]), kept for some seconds.
//!
//! Owns when it is made anew, and that nobody waits for it longer than need be: what was read is judged again as soon as
//! the attached policies become others, and read again when it is old; a large table is read while people are still shown
//! the one before. It is made off the runtime's threads. What of it a caller may see is asked of the table
//! ([`owners_of`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use tidegate_policy::effective::PolicySet;
use tokio::sync::Mutex;

use super::auth::Caller;
use super::errors;
use super::problem::Refused;
use super::state::ApiState;
use crate::coverage::{Inputs, Networks, Table};
use crate::model::GatewayView;
use crate::store::{Store, StoreError};

/// Spans of days that verdicts are added up for.
const SPANS: [u32; 4] = [1, 7, 14, 30];
/// Days when nothing is said.
const DAYS: u32 = 7;
/// Days before today that a workflow is judged by, whatever days are shown: a whole week, however young the day is.
const JUDGED: i64 = 7;
/// How old a large table may be; one with few rows is made anew more often, for it costs little.
const OLDEST: SignedDuration = SignedDuration::from_secs(10);
/// How old one may be that is shown while the next is made.
const STALE: SignedDuration = SignedDuration::from_secs(30);
/// How many rows a second of age is worth. A table of more is large.
const ROWS_A_SECOND: usize = 1_000;

/// The tables that are kept, one a span.
#[derive(Debug, Default)]
pub(super) struct SeenTables {
    spans: [Kept; SPANS.len()],
}

/// One table.
#[derive(Debug, Default)]
struct Kept {
    last: Mutex<Option<Made>>,
    /// Somebody reads for the next.
    reading: AtomicBool,
}

/// A table as it was made.
#[derive(Clone, Debug)]
struct Made {
    /// What was read for it.
    read: Arc<Inputs>,
    at: Timestamp,
    /// What was attached: the same pointer as long as nothing changed.
    policies: Arc<PolicySet>,
    table: Arc<Table>,
}

impl Made {
    fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        Some(now.duration_since(self.at)).filter(|age| !age.is_negative())
    }

    fn is_large(&self) -> bool {
        self.table.rows.len() > ROWS_A_SECOND
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        let worth = i64::try_from(1 + self.table.rows.len() / ROWS_A_SECOND).unwrap_or(i64::MAX);
        let oldest = SignedDuration::from_secs(worth).min(OLDEST);
        self.age(now).is_some_and(|age| age < oldest)
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        self.is_large() && self.age(now).is_some_and(|age| age < STALE)
    }
}

/// The table with the verdicts of so many days; 400 for a span that is not known.
pub(super) async fn table(state: &ApiState, days: Option<u32>) -> Result<Arc<Table>, Refused> {
    let days = days.unwrap_or(DAYS);
    let Some(place) = SPANS.iter().position(|span| *span == days) else {
        let detail = format!("days: one of 1, 7, 14 and 30, not {days}");
        return Err(Refused::bad("days", detail));
    };
    state.view.current().await;
    let policies = state.view.policies();
    let now = state.now();
    let mut last = state.seen.spans[place].last.lock().await;
    let read = match last.as_ref() {
        Some(made) if made.is_fresh(now) || made.is_usable(now) => {
            if !made.is_fresh(now) {
                read_beside(state, place);
            }
            if Arc::ptr_eq(&made.policies, &policies) {
                return Ok(Arc::clone(&made.table));
            }
            Some((Arc::clone(&made.read), made.at))
        }
        Some(_) | None => None,
    };
    let (read, at) = match read {
        Some(read) => read,
        None => (
            Arc::new(
                read_all(&state.store, now, days)
                    .await
                    .map_err(errors::of_query)?,
            ),
            now,
        ),
    };
    let made = judge(state, read, at, policies).await?;
    let table = Arc::clone(&made.table);
    *last = Some(made);
    Ok(table)
}

/// What a question to the table finds. Off the threads that others wait for: a table may have a hundred thousand rows.
pub(super) async fn ask<T: Send + 'static>(
    table: Arc<Table>,
    question: impl FnOnce(&Table) -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(move || question(&table))
        .await
        .map_err(|_| errors::internal("the table of what was seen could not be looked through"))
}

/// Makes the next table while the last is shown; nothing when somebody does already.
fn read_beside(state: &ApiState, place: usize) {
    if state.seen.spans[place].reading.swap(true, Ordering::SeqCst) {
        return;
    }
    let state = state.clone();
    tokio::spawn(async move {
        let now = state.now();
        let policies = state.view.policies();
        match read_all(&state.store, now, SPANS[place]).await {
            Ok(read) => {
                if let Ok(made) = judge(&state, Arc::new(read), now, policies).await {
                    *state.seen.spans[place].last.lock().await = Some(made);
                }
            }
            Err(error) => tracing::warn!(error = error.chain(), "what was seen could not be read anew"),
        }
        state.seen.spans[place].reading.store(false, Ordering::SeqCst);
    });
}

/// What was read, under what is attached now.
async fn judge(
    state: &ApiState,
    read: Arc<Inputs>,
    at: Timestamp,
    policies: Arc<PolicySet>,
) -> Result<Made, Refused> {
    let mut inputs = Inputs::clone(&read);
    // Few rows, and people look at them right after they made a policy.
    inputs.owners = state.store.owners().await.map_err(errors::of_query)?;
    inputs.policies = Arc::clone(&policies);
    inputs.holders = state.view.with(|mirror| {
        let all = mirror.policies();
        all.map(|(record, _)| (record.id.clone(), record.owner.clone()))
            .collect()
    });
    let table = tokio::task::spawn_blocking(move || Arc::new(Table::new(inputs)))
        .await
        .map_err(|_| errors::internal("the table of what was seen could not be made"))?;
    Ok(Made {
        read,
        at,
        policies,
        table,
    })
}

async fn read_all(store: &Store, now: Timestamp, days: u32) -> Result<Inputs, StoreError> {
    let today = now.as_second().div_euclid(24 * 60 * 60);
    let from = today - i64::from(days) + 1;
    let (seen, sums, baselines, gateways) = tokio::try_join!(
        store.workflows_seen(),
        store.workflow_sums(from, today - JUDGED),
        store.baseline_states(),
        store.gateways(),
    )?;
    Ok(Inputs {
        seen,
        sums,
        baselines,
        networks: networks(&gateways),
        ..Inputs::default()
    })
}

/// What gateways say of their networks, by name and cluster; of several that serve one, the strictest demand counts.
pub(super) fn networks(gateways: &[GatewayView]) -> Networks {
    let mut all = Networks::new();
    for network in gateways.iter().flat_map(|gateway| &gateway.networks) {
        let rules = all
            .entry((network.name.to_string(), network.cluster.to_string()))
            .or_default();
        rules.min_assurance = rules.min_assurance.max(network.min_assurance);
        rules.default_policy = rules
            .default_policy
            .take()
            .or_else(|| network.default_policy.clone());
    }
    all
}

/// The owners that a caller's answers are cut down to, in lower case; empty for all. 403 when it asks for another's.
pub(super) fn owners_of(caller: &Caller, asked: Option<&str>) -> Result<Vec<String>, Refused> {
    if let Some(owner) = asked {
        caller.check_owner(owner)?;
    }
    Ok(caller.owners().iter().map(|owner| owner.to_lowercase()).collect())
}
