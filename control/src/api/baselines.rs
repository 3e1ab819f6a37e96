//! Baselines: shown, exported, and made into policies.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tidegate_policy::job::Scope;
use tidegate_policy::verdict::Mode;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::Params;
use super::problem::Refused;
use super::state::ApiState;
use crate::baseline::import::{Draft, MIN_RUNS, Wanted, told};
use crate::baseline::model::Baseline;
use crate::baseline::sighting::owner_of;

/// Most runs that an import may ask for.
const MOST_RUNS: u32 = 1_000_000;

/// Which baseline, and in which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichBaseline {
    /// Whose jobs: `org:OWNER`, `repo:OWNER/REPO`, `workflow:OWNER/REPO/FILE` or `cluster:NAME`.
    #[param(max_length = 700, example = "repo:acme/web")]
    scope: String,
    /// `json`, or `txt`: what an import takes, an allowed endpoint a line.
    #[serde(default)]
    #[param(inline)]
    format: Option<Format>,
    /// An import leaves out what was not reached since.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// An import leaves out what was reached in fewer runs; 2 when nothing is said.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1_000_000)]
    min_runs: Option<u32>,
}

/// In which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// Everything.
    #[default]
    Json,
    /// What an import takes.
    Txt,
}

/// A baseline to make a policy from.
///
/// Left out is what only forks' pull requests or claimed identities reached, what too few runs did, what a search suffix
/// made, and what is new since the baseline was stable unless somebody said that it is expected.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FromBaseline {
    /// Whose jobs; of the policy's owner.
    #[schema(example = "repo:acme/web")]
    scope: String,
    /// Reached since.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Reached in at least so many runs; 2 when nothing is said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    min_runs: Option<u32>,
    /// Mode of the policy. `audit` when nothing is said: it records what it would refuse, so that a list that was seen for
    /// too short a time breaks no job.
    #[serde(default)]
    #[schema(inline)]
    mode: Option<ImportMode>,
}

/// The mode of a policy that is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ImportMode {
    /// Record only.
    #[default]
    Audit,
    /// Enforce at once.
    Block,
}

/// What a scope's jobs were seen to reach, and whether what is new means something.
///
/// A cluster's baseline concerns every owner, so it needs a token without limits.
#[utoipa::path(get, path = "/baselines", tag = "baselines", params(WhichBaseline),
    responses((status = 200, content((Baseline = "application/json"), (String = "text/plain; charset=utf-8")))))]
pub(super) async fn get_baseline(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichBaseline>,
) -> Result<Response, Refused> {
    let scope: Scope = which
        .scope
        .parse()
        .map_err(|error| Refused::bad("scope", format!("{error}")))?;
    caller.check_scope(&scope)?;
    let min_runs = min_runs(which.min_runs).map_err(|detail| Refused::bad("min_runs", detail))?;
    let wanted = Wanted {
        since: which.since,
        min_runs,
    };
    let found = state
        .store
        .baseline(&scope, &wanted)
        .await
        .map_err(errors::of_query)?;
    match which.format.unwrap_or_default() {
        Format::Json => Ok(axum::Json(found.baseline).into_response()),
        Format::Txt => {
            let mut text = found.endpoints.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
        }
    }
}

fn min_runs(asked: Option<u32>) -> Result<u64, String> {
    match asked {
        None => Ok(MIN_RUNS),
        Some(runs) if (1..=MOST_RUNS).contains(&runs) => Ok(runs.into()),
        Some(runs) => Err(format!("min_runs: 1 to {MOST_RUNS}, not {runs}")),
    }
}

/// The document that an import makes of an owner's baseline. 422 when nothing is left, saying what was left out and why.
pub(super) async fn document(
    state: &ApiState,
    caller: &Caller,
    owner: &str,
    from: FromBaseline,
) -> Result<String, Refused> {
    let field = |name: &str| format!("from_baseline.{name}");
    let scope: Scope = from
        .scope
        .parse()
        .map_err(|error| Refused::invalid(&field("scope"), format!("{error}")))?;
    // A cluster's would tell an owner what others reach.
    if owner_of(&scope).is_none_or(|of| of != owner.to_lowercase()) {
        let detail = format!("{scope} is not a scope of {owner}: name its org, a repo or a workflow");
        return Err(Refused::invalid(&field("scope"), detail));
    }
    caller.check_scope(&scope)?;
    let min_runs = min_runs(from.min_runs).map_err(|detail| Refused::invalid(&field("min_runs"), detail))?;
    let wanted = Wanted {
        since: from.since,
        min_runs,
    };
    let found = state.store.baseline(&scope, &wanted).await?;
    let baseline = &found.baseline;
    if found.endpoints.is_empty() {
        let said = match told(&found.left_out) {
            nothing if nothing.is_empty() => "no job of it was seen to reach anything".to_owned(),
            said => format!("left out: {said}"),
        };
        let detail = format!(
            "there is nothing to import from {scope} ({} after {} runs); {said}",
            baseline.state.as_str(),
            baseline.runs
        );
        return Err(Refused::invalid("from_baseline", detail));
    }
    let draft = Draft {
        scope: &baseline.scope,
        now: state.now(),
        state: baseline.state,
        runs: baseline.runs,
        wanted,
        mode: match from.mode.unwrap_or_default() {
            ImportMode::Audit => Mode::Audit,
            ImportMode::Block => Mode::Block,
        },
        left_out: &found.left_out,
    };
    Ok(draft.document(found.endpoints))
}
