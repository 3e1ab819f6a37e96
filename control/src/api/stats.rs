//! Sums for an overview, each a small answer of its own, so that a page shows what is there and waits for nothing.
//!
//! Owns what may be asked. A limited token asks within its owners; what is nobody's (events without a job) is told to
//! unlimited ones only.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::Params;
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{FirstSeen, IdlePolicy, RefusedName, VerdictCounts, VerdictHour};
use crate::store::{FirstSeenQuestion, days_ago};

/// Hours at most: a month.
const MOST_HOURS: u32 = 744;
/// Items of a list, when nothing is said and at most.
const USUAL: u32 = 10;
const MOST: u32 = 100;

/// Whose verdicts, and of which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichHours {
    /// Of an owner's jobs.
    #[serde(default)]
    owner: Option<String>,
    /// The last so many hours; 24 when nothing is said.
    #[serde(default)]
    #[param(minimum = 1, maximum = 744)]
    hours: Option<u32>,
}

/// Whose sums, of how many days, and how many items.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichDays {
    /// Of an owner.
    #[serde(default)]
    owner: Option<String>,
    /// So many days (UTC) back; today counts, too.
    #[serde(default)]
    #[param(minimum = 1, maximum = 90)]
    days: Option<u32>,
    /// Items at most; 10 when nothing is said.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Verdicts over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictStats {
    /// Every hour of the span, the oldest first; the last is the one that goes on.
    items: Vec<VerdictHour>,
    /// All together.
    total: VerdictCounts,
    /// Where the span begins earlier than sums are kept: since when they are complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    complete_since: Option<Timestamp>,
}

/// What was refused most.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusedStats {
    /// Since when: the beginning of a day (UTC).
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// The most frequent first. What search suffixes make is left out.
    items: Vec<RefusedName>,
    /// There were so many names that not all of them were counted.
    truncated: bool,
}

/// What was reached for the first time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FirstSeenStats {
    /// Since when: the beginning of a day (UTC).
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// The newest first.
    items: Vec<FirstSeen>,
}

/// Policies that say nothing to anybody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyStats {
    /// Since when verdicts were looked for: the beginning of a day (UTC), or since they are counted.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Attached nowhere, the newest first.
    unattached: Vec<IdlePolicy>,
    /// How many those are in all.
    unattached_count: u64,
    /// Attached before that time, but no verdict was theirs since; the oldest first.
    never_hit: Vec<IdlePolicy>,
    /// How many those are in all.
    never_hit_count: u64,
    /// There were too many attachments or verdicts to tell which were never hit: none is said to be.
    truncated: bool,
}

impl WhichDays {
    fn days(&self, usual: u32) -> Result<u32, Refused> {
        within("days", self.days.unwrap_or(usual), 90)
    }

    fn limit(&self) -> Result<u32, Refused> {
        within("limit", self.limit.unwrap_or(USUAL), MOST)
    }
}

/// Verdicts by hour.
#[utoipa::path(get, path = "/stats/verdicts", tag = "stats", params(WhichHours),
    responses((status = 200, body = VerdictStats)))]
pub(super) async fn verdict_stats(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichHours>,
) -> Result<Response, Refused> {
    let owners = owners(&caller, which.owner.as_deref())?;
    let hours = within("hours", which.hours.unwrap_or(24), MOST_HOURS)?;
    let found = state.store.verdict_hours(&owners, state.now(), hours).await;
    let items = found.map_err(errors::of_query)?;
    let mut total = VerdictCounts::default();
    for VerdictHour { verdicts, .. } in &items {
        total.permit = total.permit.saturating_add(verdicts.permit);
        total.refuse = total.refuse.saturating_add(verdicts.refuse);
        total.would_refuse = total.would_refuse.saturating_add(verdicts.would_refuse);
    }
    let since = state.store.sums_since().await.map_err(errors::of_query)?;
    let first = items.first().map(|first| first.hour);
    Ok(axum::Json(VerdictStats {
        items,
        total,
        complete_since: since.filter(|since| first.is_some_and(|first| first < *since)),
    })
    .into_response())
}

/// What was refused most, or would have been.
///
/// `days=1`, when nothing is said: today and yesterday (UTC).
#[utoipa::path(get, path = "/stats/refused", tag = "stats", params(WhichDays),
    responses((status = 200, body = RefusedStats)))]
pub(super) async fn refused_stats(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichDays>,
) -> Result<Response, Refused> {
    let owners = owners(&caller, which.owner.as_deref())?;
    let (since, limit) = (days_ago(state.now(), which.days(1)?), which.limit()?);
    let found = state.store.most_refused(&owners, since, limit).await;
    let found = found.map_err(errors::of_query)?;
    Ok(axum::Json(RefusedStats {
        since,
        items: found.items,
        truncated: found.truncated,
    })
    .into_response())
}

/// What an organization's jobs reached that they had not reached before.
///
/// `days=7` when nothing is said.
#[utoipa::path(get, path = "/stats/first-seen", tag = "stats", params(WhichDays),
    responses((status = 200, body = FirstSeenStats)))]
pub(super) async fn first_seen_stats(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichDays>,
) -> Result<Response, Refused> {
    let question = FirstSeenQuestion {
        owners: owners(&caller, which.owner.as_deref())?,
        // Who sees its own organizations only is not told what others reach.
        compared: !caller.is_limited(),
        since: days_ago(state.now(), which.days(7)?),
        limit: which.limit()?,
    };
    let items = state.store.first_seen(&question).await;
    Ok(axum::Json(FirstSeenStats {
        since: question.since,
        items: items.map_err(errors::of_query)?,
    })
    .into_response())
}

/// Policies that are attached nowhere, and those that are but had nothing to say.
///
/// `days=7` when nothing is said. Whether a policy decides lockdown only is not looked at: it has no verdicts either.
#[utoipa::path(get, path = "/stats/policies", tag = "stats", params(WhichDays),
    responses((status = 200, body = PolicyStats)))]
pub(super) async fn policy_stats(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichDays>,
) -> Result<Response, Refused> {
    let owners = owners(&caller, which.owner.as_deref())?;
    let (days, limit) = (which.days(7)?, which.limit()?);
    let counted = state.store.sums_since().await.map_err(errors::of_query)?;
    let asked = days_ago(state.now(), days);
    let since = counted.map_or(asked, |counted| counted.max(asked));
    let found = state.store.idle_policies(&owners, since, limit).await;
    let found = found.map_err(errors::of_query)?;
    Ok(axum::Json(PolicyStats {
        since,
        unattached: found.unattached,
        unattached_count: found.unattached_count,
        never_hit: found.never_hit,
        never_hit_count: found.never_hit_count,
        truncated: found.truncated,
    })
    .into_response())
}

/// The owners that an answer is cut down to, lower case; empty for all of them.
fn owners(caller: &Caller, asked: Option<&str>) -> Result<Vec<String>, Refused> {
    let Some(owner) = asked else {
        let owners = caller.owners();
        return Ok(owners.iter().map(|owner| owner.to_lowercase()).collect());
    };
    caller.check_owner(owner)?;
    Ok(vec![owner.to_lowercase()])
}

/// A number within 1 and a bound. One that is not is refused, not bent.
fn within(field: &'static str, number: u32, most: u32) -> Result<u32, Refused> {
    if (1..=most).contains(&number) {
        return Ok(number);
    }
    Err(Refused::bad(field, format!("{field}: 1 to {most}, not {number}")))
}
