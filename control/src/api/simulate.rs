//! Simulating a policy: what it would have changed of what its scopes' jobs really reached.
//!
//! Owns what a request may ask and how much of the record is read for it: events from the newest back to [`MAX_EVENTS`],
//! what lies before them from sums by days. Judging is [`crate::simulate`]'s.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tidegate_policy::document::{EndpointSet, ParseOptions, PolicyDocument};
use tidegate_policy::job::Scope;
use tidegate_policy::verdict::Mode;
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
use crate::simulate::{Call, Candidate, MAX_CALLS, Read, SimulatedPolicy, Simulation, Stand, Trials, Tried};
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

/// What is tried, and where.
pub(super) struct Trial {
    /// Whose endpoint sets it may use; nobody's for a network's default.
    pub(super) owner: Option<String>,
    pub(super) name: String,
    pub(super) version: Option<u32>,
    pub(super) yaml: String,
    /// At least one; some hold in one cluster alone.
    pub(super) places: Vec<(Scope, Option<CompactString>)>,
}

/// Over which time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    since: Timestamp,
    until: Timestamp,
    /// Up to where the record is read: a little behind `until` when that is now.
    read_until: Timestamp,
}

impl Span {
    pub(super) fn new(
        state: &ApiState,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Self, Refused> {
        let end = until.unwrap_or_else(|| state.now());
        let ahead = end.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        let since = match since {
            Some(since) => since,
            None => end.checked_sub(SPAN).unwrap_or(Timestamp::UNIX_EPOCH),
        };
        if since > end {
            return Err(Refused::invalid(
                "since",
                format!("{since} is after until, {end}"),
            ));
        }
        Ok(Self {
            since,
            until: end,
            read_until: until.unwrap_or(ahead),
        })
    }
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
    let span = Span::new(&state, request.since, request.until)?;
    let trial = trial(&state, named, request).await?;
    for (scope, _) in &trial.places {
        caller.check_scope(scope)?;
    }
    let turn = state.simulations.take().await?;
    let simulation = run(&state, vec![trial], span).await?.pop();
    drop(turn);
    let simulation = simulation.ok_or_else(|| errors::internal("the simulation has no answer"))?;
    Ok(axum::Json(simulation).into_response())
}

async fn trial(state: &ApiState, named: Named, request: SimulateRequest) -> Result<Trial, Refused> {
    let Named { owner, name } = named;
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
        owner: Some(owner),
        name,
        version,
        yaml,
        places: scopes.into_iter().map(|scope| (scope, None)).collect(),
    })
}

/// Reads the record once and judges it anew by each of the policies: one answer each, in their order.
pub(super) async fn run(
    state: &ApiState,
    trials: Vec<Trial>,
    span: Span,
) -> Result<Vec<Simulation>, Refused> {
    let Span {
        since,
        until,
        read_until,
    } = span;
    let (mut candidates, mut stands, mut tried) = (Vec::new(), Vec::new(), Vec::new());
    for (at, trial) in trials.iter().enumerate() {
        let candidate = candidate(state, trial).await?;
        tried.push(told(trial, candidate.mode()));
        candidates.push(candidate);
        stands.extend(trial.places.iter().map(|(scope, cluster)| Stand {
            scope: scope.clone(),
            cluster: cluster.clone(),
            candidate: at,
        }));
    }
    let scopes: Vec<Scope> = stands.iter().map(|stand| stand.scope.clone()).collect();
    let wanted = RecordOf::new(&scopes, since, read_until);
    let end = Instant::now() + PATIENCE;
    let view = state.view.clone();
    let trials = aside(move || Trials::new(candidates, stands, &view.policies().attached)).await?;
    let (trials, events_since) = events(state, &wanted, (since, until, end), trials).await?;
    let (sums, more_sums) = if events_since > since {
        // Of days after the span there are sums, too.
        let before = events_since.min(day_after(until));
        let read = state.store.recorded_sums(&wanted, before, MAX_CALLS).await;
        read.map_err(errors::of_query)?
    } else {
        (Vec::new(), false)
    };
    let dropped = state.store.recorded_losses(since, until).await;
    let read = Read {
        since,
        until,
        events_since,
        more_sums,
        dropped: dropped.map_err(errors::of_query)?,
    };
    aside(move || {
        let mut trials = trials;
        for sum in &sums {
            if let Some(call) = call(sum) {
                trials.sum(call, sum.verdicts, sum.last);
            }
        }
        trials.report(tried, read)
    })
    .await
}

/// What an answer says of the policy.
fn told(trial: &Trial, mode: Mode) -> Tried {
    let mut scopes: Vec<String> = trial.places.iter().map(|(scope, _)| scope.to_string()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let clusters: BTreeSet<&CompactString> = trial
        .places
        .iter()
        .filter_map(|(_, cluster)| cluster.as_ref())
        .collect();
    Tried {
        policy: SimulatedPolicy {
            name: trial.name.clone(),
            version: trial.version,
            mode,
            network_default: trial.owner.is_none(),
        },
        scopes,
        clusters: clusters.into_iter().map(CompactString::to_string).collect(),
    }
}

/// The candidate, compiled with the owner's endpoint sets, in its place.
async fn candidate(state: &ApiState, trial: &Trial) -> Result<Candidate, Refused> {
    // A network's default was read by its gateway, which asks for no more than that it is a policy.
    let strict = trial.owner.is_some() && state.store.is_strict();
    let yaml = trial.yaml.clone();
    let parsed = aside(move || PolicyDocument::parse(&yaml, &ParseOptions { strict })).await?;
    let Some(document) = parsed.document else {
        return Err(Refused::document(&parsed.diagnostics, &trial.yaml, &trial.name));
    };
    let sets = match &trial.owner {
        Some(owner) => sets(state, owner, (trial, &document)).await?,
        None => HashMap::new(),
    };
    state.view.current().await;
    let Some((scope, _)) = trial.places.first().cloned() else {
        return Err(errors::internal("a policy is tried nowhere"));
    };
    let view = state.view.clone();
    let made = aside(move || Candidate::new(&document, &sets, &scope, view.block_list()));
    made.await?
        .map_err(|error| Refused::invalid("yaml", error.to_string()))
}

/// The endpoint sets that a policy uses.
async fn sets(
    state: &ApiState,
    owner: &str,
    (trial, document): (&Trial, &PolicyDocument),
) -> Result<HashMap<String, EndpointSet>, Refused> {
    let names = state.store.set_names(owner).await.map_err(errors::of_query)?;
    let used = document.use_sets.iter();
    let used: Vec<(String, u32)> = used
        .map(|name| (name.clone(), document.line_of_set(name).unwrap_or(1)))
        .collect();
    let unknown = unknown_sets(&trial.yaml, &used, &names, owner);
    if !unknown.is_empty() {
        return Err(Refused::document(&unknown, &trial.yaml, &trial.name));
    }
    let mut sets = HashMap::new();
    for (name, _) in used {
        let set = state.store.set(owner, &name).await.map_err(errors::of_query)?;
        let parsed = aside(move || EndpointSet::parse(&set.yaml, &ParseOptions::default())).await?;
        if let Some(document) = parsed.document {
            sets.insert(name, document);
        }
    }
    Ok(sets)
}

/// Reads events from the newest back, and says from when on they are all that there is: from `since`, or from the beginning
/// of a day, where the rest is forgotten or too much. Sums by days stand for what is before.
async fn events(
    state: &ApiState,
    wanted: &RecordOf,
    (since, until, end): (Timestamp, Timestamp, Instant),
    mut trials: Trials,
) -> Result<(Trials, Timestamp), Refused> {
    let kept = state.store.events_kept_since(state.now());
    let from = if kept > since { next_day(kept) } else { since };
    let (mut looked, mut next) = (0, None);
    loop {
        let piece = state
            .store
            .recorded_events(wanted, next)
            .await
            .map_err(errors::of_query)?;
        looked += piece.looked;
        let events = piece.events;
        trials = aside(move || {
            trials.events(&events, from);
            trials
        })
        .await?;
        let Some(further) = piece.next else {
            trials.close();
            return Ok((trials, from));
        };
        if looked >= MAX_EVENTS || Instant::now() >= end {
            let cut = from.max(next_day(piece.back_to.unwrap_or(until)));
            trials.end_at(cut);
            return Ok((trials, cut));
        }
        next = Some(further);
    }
}

/// Where the day of a time ends, UTC; a day that only begins then is not looked at.
fn day_after(time: Timestamp) -> Timestamp {
    let before = time.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(time);
    next_day(before)
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
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| errors::internal("the simulation came to no end"))
}
