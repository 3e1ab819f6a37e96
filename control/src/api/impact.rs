//! Simulating a change of attachments: what jobs would meet where another policy is put, or none.
//!
//! Owns which policy is tried where; reading the record and judging it is [`super::simulate`]'s. A scope that nobody holds
//! any more falls back to a wider one's policy, else to that of its jobs' cluster, else to their network's default: that is
//! tried in its place.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use hashbrown::HashSet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::job::Scope;
use utoipa::ToSchema;

use super::attachments::scopes;
use super::auth::Caller;
use super::documents::check_size;
use super::errors;
use super::extract::LargeJson;
use super::fall_back::{Changed, Elsewhere, elsewhere};
use super::problem::Refused;
use super::propose::ProposedMode;
use super::simulate::{Span, Trial, aside, run};
use super::state::ApiState;
use crate::document::edit::{Edits, Kind, edit};
use crate::model::{FallBack, PolicyMode};
use crate::simulate::Simulation;

/// Policies that are tried in one request: one reading of the record serves them all.
const MAX_TRIED: usize = 100;
/// Scopes in one request at most.
const MAX_SCOPES: usize = 1_000;

/// Attachments as they would be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImpactRequest {
    /// Which scope would hold which policy.
    changes: Vec<ScopeChange>,
    /// From when on; seven days ago when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Until when; now when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// A scope and the policy that it would hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeChange {
    /// `org:acme`, `repo:acme/web`, `workflow:acme/web/ci.yml`, `cluster:prod`.
    #[schema(example = "repo:acme/web")]
    scope: String,
    /// The policy; null when nobody would hold the scope.
    policy: Option<OtherPolicy>,
}

/// A stored policy, or another text for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OtherPolicy {
    /// Organization.
    #[schema(example = "acme")]
    owner: String,
    /// Name.
    #[schema(example = "base")]
    name: String,
    /// The text that would be tried; the newest stored version when absent.
    #[serde(default)]
    yaml: Option<String>,
    /// The mode that the text would get.
    #[serde(default)]
    mode: Option<ProposedMode>,
}

/// What a change of attachments would do to what jobs reach.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Impact {
    /// A simulation of each policy that jobs would get, at the scopes where they would.
    simulations: Vec<Simulation>,
    /// Scopes some of whose jobs would get a network's default that can't be tried: no gateway says what it is, their networks
    /// differ, or it uses endpoint sets of the gateway's own.
    no_policy: Vec<String>,
    /// Scopes that neither a policy decides about nor a job was seen in: there is nothing to try.
    unseen: Vec<String>,
    /// Scopes of policies that were not tried: there are too many different ones, they are other people's, or their text can't
    /// get the mode without somebody editing it.
    left_out: Vec<String>,
}

/// Tries a change of attachments against what was recorded.
///
/// At most a hundred different policies are tried, those with the most scopes first. Where no policy would decide, the
/// cluster's or the network's default is tried, for the clusters that jobs of the scope were seen in.
#[utoipa::path(post, path = "/simulate", tag = "policies", request_body = ImpactRequest,
    responses((status = 200, body = Impact)))]
pub(super) async fn simulate_changes(
    State(state): State<ApiState>,
    caller: Caller,
    LargeJson(request): LargeJson<ImpactRequest>,
) -> Result<Response, Refused> {
    let span = Span::new(&state, request.since, request.until)?;
    let mut impact = Impact {
        simulations: Vec::new(),
        no_policy: Vec::new(),
        unseen: Vec::new(),
        left_out: Vec::new(),
    };
    let turn = state.simulations.take().await?;
    let trials = trials(&state, &caller, request.changes, &mut impact).await?;
    if trials.is_empty() {
        return Ok(axum::Json(impact).into_response());
    }
    impact.simulations = run(&state, trials, span).await?;
    drop(turn);
    Ok(axum::Json(impact).into_response())
}

/// Places of one policy: scopes, some for the jobs of one cluster alone.
type Places = Vec<(Scope, Option<CompactString>)>;

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tried {
    Policy(OtherPolicy),
    /// A network's default: how its gateway names it, and its text.
    Default(String, String),
}

/// What is tried where.
#[derive(Default)]
struct Plan {
    places: BTreeMap<Tried, Places>,
    /// Scopes whose egress is a wider one's from then on.
    bare: Vec<String>,
    /// Who would hold the clusters' scopes.
    changed: Changed,
}

/// The policies to be tried, those with the most scopes first.
async fn trials(
    state: &ApiState,
    caller: &Caller,
    changes: Vec<ScopeChange>,
    impact: &mut Impact,
) -> Result<Vec<Trial>, Refused> {
    let mut plan = plan(state, caller, changes).await?;
    fall_back(state, caller, &mut plan, impact).await?;
    let mut places: Vec<(Tried, Places)> = plan.places.into_iter().collect();
    places.sort_by_key(|(_, places)| Reverse(places.len()));
    let beyond = places.split_off(places.len().min(MAX_TRIED));
    let beyond = beyond.iter().flat_map(|(_, places)| places);
    impact.left_out.extend(beyond.map(|(scope, _)| scope.to_string()));
    let mut trials = Vec::new();
    for (tried, places) in places {
        let scopes: Vec<String> = places.iter().map(|(scope, _)| scope.to_string()).collect();
        match trial(state, tried, places).await? {
            Some(trial) => trials.push(trial),
            None => impact.left_out.extend(scopes),
        }
    }
    for left in [&mut impact.left_out, &mut impact.no_policy] {
        left.sort_unstable();
        left.dedup();
    }
    Ok(trials)
}

/// One trial; nothing when the text can't get the mode by itself.
async fn trial(state: &ApiState, tried: Tried, places: Places) -> Result<Option<Trial>, Refused> {
    let policy = match tried {
        Tried::Default(name, yaml) => {
            return Ok(Some(Trial {
                owner: None,
                name,
                version: None,
                yaml,
                places,
            }));
        }
        Tried::Policy(policy) => policy,
    };
    let (mut version, mut yaml) = if let Some(yaml) = policy.yaml {
        (None, yaml)
    } else {
        let stored = state.store.policy(&policy.owner, &policy.name).await;
        let stored = stored.map_err(errors::of_query)?;
        (Some(stored.version), stored.yaml)
    };
    if let Some(mode) = policy.mode {
        let edits = Edits {
            mode: Some(mode.into()),
            ..Edits::default()
        };
        let Ok(edited) = aside(move || edit(&yaml, Kind::Policy, &edits)).await? else {
            return Ok(None);
        };
        (version, yaml) = (None, edited.yaml);
    }
    Ok(Some(Trial {
        owner: Some(policy.owner),
        name: policy.name,
        version,
        yaml,
        places,
    }))
}

/// The changes, by the policies that would decide.
async fn plan(state: &ApiState, caller: &Caller, changes: Vec<ScopeChange>) -> Result<Plan, Refused> {
    if changes.is_empty() || changes.len() > MAX_SCOPES {
        return Err(Refused::invalid("changes", format!("1 to {MAX_SCOPES} changes")));
    }
    let texts: Vec<String> = changes.iter().map(|change| change.scope.clone()).collect();
    let read = scopes("changes", &texts)?;
    let mut sorted: Vec<&Scope> = read.iter().collect();
    sorted.sort_unstable();
    if let Some([twice, _]) = sorted.array_windows().find(|[one, other]| one == other) {
        return Err(Refused::invalid("changes", format!("{twice} stands there twice")));
    }
    let mut plan = Plan::default();
    for (scope, change) in read.into_iter().zip(changes) {
        caller.check_scope(&scope)?;
        match change.policy {
            Some(policy) => {
                caller.check_owner(&policy.owner)?;
                check_size(policy.yaml.as_deref().unwrap_or_default())?;
                let places = plan.places.entry(Tried::Policy(policy)).or_default();
                places.push((scope, None));
            }
            None => plan.bare.push(scope.to_string()),
        }
    }
    // A policy that decides lockdown alone leaves egress to whoever is wider.
    for (tried, places) in std::mem::take(&mut plan.places) {
        let mode = match &tried {
            Tried::Policy(OtherPolicy {
                owner,
                name,
                yaml: None,
                mode: None,
            }) => {
                let stored = state.store.policy(owner, name).await;
                stored.map_err(errors::of_query)?.mode
            }
            Tried::Policy(_) | Tried::Default(..) => PolicyMode::Block,
        };
        if mode == PolicyMode::None {
            plan.bare
                .extend(places.iter().map(|(scope, _)| scope.to_string()));
            continue;
        }
        for (scope, _) in &places {
            plan.take(scope, &tried, mode);
        }
        plan.places.insert(tried, places);
    }
    plan.bare.sort_unstable();
    plan.bare.dedup();
    let left = plan.bare.iter().map(|scope| (scope.clone(), None));
    plan.changed.extend(left);
    Ok(plan)
}

impl Plan {
    fn take(&mut self, scope: &Scope, tried: &Tried, mode: PolicyMode) {
        if let Tried::Policy(policy) = tried {
            let holder = FallBack {
                scope: scope.to_string(),
                owner: policy.owner.clone(),
                policy: policy.name.clone(),
                mode,
            };
            self.changed.insert(scope.to_string(), Some(holder));
        }
    }

    fn add(&mut self, tried: Tried, scope: &str, cluster: Option<CompactString>) {
        if let Ok(scope) = scope.parse() {
            self.places.entry(tried).or_default().push((scope, cluster));
        }
    }

    /// Jobs at a scope would get that policy; it is not tried for who may not read it.
    fn fall(
        &mut self,
        caller: &Caller,
        (scope, cluster): (&str, Option<CompactString>),
        to: FallBack,
        impact: &mut Impact,
    ) {
        if caller.check_owner(&to.owner).is_err() {
            impact.left_out.push(scope.to_owned());
            return;
        }
        // One that takes the wider scope in the same change may be tried with another text.
        let wider: Option<Scope> = to.scope.parse().ok();
        let taken = self.places.iter().find_map(|(tried, places)| {
            let is_it = |(place, cluster): &(Scope, Option<CompactString>)| {
                cluster.is_none() && Some(place) == wider.as_ref()
            };
            places.iter().any(is_it).then(|| tried.clone())
        });
        let stored = || {
            Tried::Policy(OtherPolicy {
                owner: to.owner.clone(),
                name: to.policy.clone(),
                yaml: None,
                mode: None,
            })
        };
        self.add(taken.unwrap_or_else(stored), scope, cluster);
    }
}

/// Finds what decides at scopes that nobody holds any more.
async fn fall_back(
    state: &ApiState,
    caller: &Caller,
    plan: &mut Plan,
    impact: &mut Impact,
) -> Result<(), Refused> {
    let mut bare = HashSet::new();
    let wider = state.store.fall_backs(&plan.bare, &plan.changed).await;
    for back in wider.map_err(errors::of_query)? {
        match back.to {
            Some(to) => plan.fall(caller, (&back.scope, None), to, impact),
            None => {
                bare.insert(back.scope);
            }
        }
    }
    let found = elsewhere(state, &bare, &plan.changed).await?;
    let unseen = bare.into_iter().filter(|scope| !found.contains_key(scope));
    impact.unseen = unseen.collect();
    impact.unseen.sort_unstable();
    for (scope, found) in found {
        for Elsewhere {
            cluster,
            to,
            defaults,
            yaml,
        } in found
        {
            match (to, yaml) {
                (Some(to), _) => plan.fall(caller, (&scope, Some(cluster)), to, impact),
                (None, Some(yaml)) => {
                    let name = defaults.into_iter().collect::<Vec<_>>().join(", ");
                    plan.add(Tried::Default(name, yaml), &scope, Some(cluster));
                }
                (None, None) => impact.no_policy.push(scope.clone()),
            }
        }
    }
    Ok(())
}
