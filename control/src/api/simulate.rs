//! Simulating a policy: what it would have changed of what its scopes' jobs really reached.
//!
//! Owns what a request may ask and how much of the record is read for it: events from the newest back to [`MAX_EVENTS`],
//! what lies before them from sums by days. Judging is [`crate::simulate`]'s.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tidegate_policy::document::{EndpointSet, ParseOptions, PolicyDocument};
use tidegate_policy::job::Scope;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::attachments::scopes;
use super::auth::Caller;
use super::documents::check_size;
use super::errors;
use super::extract::{LargeJson, Names};
use super::policies::Named;
use super::problem::Refused;
use super::state::ApiState;
use super::turns::Bounds;
use crate::document::unknown_sets;
use crate::simulate::{Call, Candidate, MAX_CALLS, Read, SimulatedPolicy, Simulation, Tally};
use crate::store::{RecordOf, RecordedSum};

/// Rows of the record that one simulation looks at.
const MAX_EVENTS: usize = 200_000;
/// How long it reads events at most; sums stand for the rest.
const PATIENCE: Duration = Duration::from_secs(12);
/// What is looked at when nothing is said.
const SPAN: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far ahead of the clock an event may be filed.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);
/// A quarter of the connections that read events. The longest take half of what a request may: more that wait would be
/// sent away later.
pub(super) const SIMULATIONS: Bounds = Bounds {
    what: "simulations",
    at_once: 2,
    waiting: 4,
    again: 5,
};

/// A policy to be tried.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SimulateRequest {
    /// The document; the newest stored version when absent.
    #[serde(default)]
    #[schema(example = "egress-policy: block\nallowed-endpoints: >\n  github.com:443\n")]
    yaml: Option<String>,
    /// Where it would be attached; where the stored policy is when absent.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// From when on; seven days ago when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Until when; now when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// What is tried, where, over which time.
struct Trial {
    owner: String,
    name: String,
    version: Option<u32>,
    yaml: String,
    scopes: Vec<Scope>,
    since: Timestamp,
    until: Timestamp,
    /// Up to where the record is read: a little behind `until` when that is now.
    read_until: Timestamp,
}

/// Tries a policy against what was recorded: what it newly permits and refuses, for which jobs, and how complete the record
/// is.
///
/// The policy need not be stored, when `yaml` and `scopes` are given. Only jobs that it would govern count: a workflow with
/// a policy of its own is not touched by one of its repository. Two are made at once and four wait; who comes beyond them
/// is told to come again (503 with `Retry-After`).
#[utoipa::path(post, path = "/orgs/{owner}/policies/{name}/simulate", tag = "policies", params(Named),
    request_body = SimulateRequest, responses((status = 200, body = Simulation)))]
pub(super) async fn simulate_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<Named>,
    LargeJson(request): LargeJson<SimulateRequest>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let trial = trial(&state, named, request).await?;
    for scope in &trial.scopes {
        caller.check_scope(scope)?;
    }
    let turn = state.simulations.take().await?;
    let simulation = run(&state, trial).await?;
    drop(turn);
    Ok(axum::Json(simulation).into_response())
}

async fn trial(state: &ApiState, named: Named, request: SimulateRequest) -> Result<Trial, Refused> {
    let Named { owner, name } = named;
    let until = request.until.unwrap_or_else(|| state.now());
    let ahead = until.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    let read_until = request.until.unwrap_or(ahead);
    let since = match request.since {
        Some(since) => since,
        None => until.checked_sub(SPAN).unwrap_or(Timestamp::UNIX_EPOCH),
    };
    if since > until {
        return Err(Refused::invalid(
            "since",
            format!("{since} is after until, {until}"),
        ));
    }
    let asked = request
        .scopes
        .as_deref()
        .map(|texts| scopes("scopes", texts))
        .transpose()?;
    let (version, yaml, scopes) = match (request.yaml, asked) {
        (Some(yaml), Some(scopes)) => {
            check_size(&yaml)?;
            (None, yaml, scopes)
        }
        (yaml, scopes) => {
            let stored = state
                .store
                .policy(&owner, &name)
                .await
                .map_err(errors::of_query)?;
            let attached = || {
                stored
                    .attachments
                    .iter()
                    .filter_map(|scope| scope.parse().ok())
                    .collect()
            };
            let scopes = scopes.unwrap_or_else(attached);
            match yaml {
                Some(yaml) => (None, yaml, scopes),
                None => (Some(stored.version), stored.yaml, scopes),
            }
        }
    };
    check_size(&yaml)?;
    if scopes.is_empty() {
        let detail = "the policy is attached to nothing; say to which scopes it is to be attached";
        return Err(Refused::invalid("scopes", detail));
    }
    Ok(Trial {
        owner,
        name,
        version,
        yaml,
        scopes,
        since,
        until,
        read_until,
    })
}

async fn run(state: &ApiState, trial: Trial) -> Result<Simulation, Refused> {
    let candidate = candidate(state, &trial).await?;
    let policy = SimulatedPolicy {
        name: trial.name.clone(),
        version: trial.version,
        mode: candidate.mode(),
    };
    let wanted = RecordOf::new(&trial.scopes, trial.since, trial.read_until);
    let (tally, events_since) =
        events(state, &wanted, (trial.since, trial.until), Tally::new(candidate)).await?;
    let (sums, more_sums) = if events_since > trial.since {
        let read = state.store.recorded_sums(&wanted, events_since, MAX_CALLS).await;
        read.map_err(errors::of_query)?
    } else {
        (Vec::new(), false)
    };
    let dropped = state.store.recorded_losses(trial.since, trial.until).await;
    let read = Read {
        since: trial.since,
        until: trial.until,
        events_since,
        more_sums,
        dropped: dropped.map_err(errors::of_query)?,
    };
    let scopes = trial.scopes.iter().map(ToString::to_string).collect();
    aside(move || {
        let mut tally = tally;
        for sum in &sums {
            if let Some(call) = call(sum) {
                tally.sum(call, sum.verdicts, sum.last);
            }
        }
        tally.report(policy, scopes, read)
    })
    .await
}

/// The candidate, compiled with the owner's endpoint sets, in its place.
async fn candidate(state: &ApiState, trial: &Trial) -> Result<Candidate, Refused> {
    let strict = state.store.is_strict();
    let names = state
        .store
        .set_names(&trial.owner)
        .await
        .map_err(errors::of_query)?;
    let parsed = PolicyDocument::parse(&trial.yaml, &ParseOptions { strict });
    let Some(document) = parsed.document else {
        return Err(Refused::document(&parsed.diagnostics, &trial.yaml, &trial.name));
    };
    let used = document.use_sets.iter();
    let used: Vec<(String, u32)> = used
        .map(|name| (name.clone(), document.line_of_set(name).unwrap_or(1)))
        .collect();
    let unknown = unknown_sets(&trial.yaml, &used, &names, &trial.owner);
    if !unknown.is_empty() {
        return Err(Refused::document(&unknown, &trial.yaml, &trial.name));
    }
    let mut sets = HashMap::new();
    for (name, _) in used {
        let set = state
            .store
            .set(&trial.owner, &name)
            .await
            .map_err(errors::of_query)?;
        if let Some(parsed) = EndpointSet::parse(&set.yaml, &ParseOptions::default()).document {
            sets.insert(name, parsed);
        }
    }
    state.view.current().await;
    let (view, scopes) = (state.view.clone(), trial.scopes.clone());
    let made = aside(move || {
        let global = view.block_list();
        Candidate::new(&document, &sets, &scopes, &view.policies().attached, global)
    });
    made.await?
        .map_err(|error| Refused::invalid("yaml", error.to_string()))
}

/// Reads events from the newest back, and says from when on they are all that there is: from `since`, or from the beginning
/// of a day, where the rest is forgotten or too much. Sums by days stand for what is before.
async fn events(
    state: &ApiState,
    wanted: &RecordOf,
    (since, until): (Timestamp, Timestamp),
    mut tally: Tally,
) -> Result<(Tally, Timestamp), Refused> {
    let kept = state.store.events_kept_since(state.now());
    let from = if kept > since { next_day(kept) } else { since };
    let (mut looked, mut next) = (0, None);
    let end = Instant::now() + PATIENCE;
    loop {
        let piece = state
            .store
            .recorded_events(wanted, next)
            .await
            .map_err(errors::of_query)?;
        looked += piece.looked;
        let events = piece.events;
        tally = aside(move || {
            tally.events(&events, from);
            tally
        })
        .await?;
        let Some(further) = piece.next else {
            tally.close();
            return Ok((tally, from));
        };
        if looked >= MAX_EVENTS || Instant::now() >= end {
            tally.drop_open_day();
            return Ok((tally, from.max(next_day(piece.back_to.unwrap_or(until)))));
        }
        next = Some(further);
    }
}

/// The beginning of the next day, UTC.
fn next_day(time: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400;
    let next = (time.as_second().div_euclid(DAY) + 1) * DAY;
    Timestamp::from_second(next).unwrap_or(Timestamp::MAX)
}

/// A sum as a call; none of a kind or verdict that this program does not know.
fn call(sum: &RecordedSum) -> Option<Call> {
    Call::of_sum(
        [&sum.owner, &sum.repo, &sum.workflow, &sum.cluster],
        (&sum.endpoint, sum.port),
        [&sum.kind, &sum.verdict, &sum.reason],
    )
}

/// Work that takes a while: not on a thread that others wait for.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| errors::internal("the simulation came to no end"))
}
