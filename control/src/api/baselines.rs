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
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use crate::baseline::import::{Draft, MIN_RUNS, Wanted, told};
use crate::baseline::model::{Baseline, BaselineScope};
use crate::baseline::sighting::owner_of;
use crate::model::Page;
use crate::store::{BaselineFilter, Shown};

/// Most runs that an import may ask for.
const MOST_RUNS: u32 = 1_000_000;
/// Most days whose calls are counted.
const MOST_DAYS: u32 = 90;

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
    /// Endpoints with this text in them only. JSON.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// `next` of the page before. JSON.
    #[serde(default)]
    after: Option<String>,
    /// Endpoints at most; every one when nothing is said. JSON.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// With each endpoint's calls of so many days, for repositories and workflows. JSON, with a `limit`.
    #[serde(default)]
    #[param(minimum = 1, maximum = 90)]
    days: Option<u32>,
}

/// Which baselines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichBaselines {
    /// Of this organization, its repositories and their workflows.
    #[serde(default)]
    #[param(max_length = 100)]
    owner: Option<String>,
    /// Scopes with this text in them only.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
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
    if let Some(shown) = shown(&which)? {
        let part = state.store.baseline_page(&scope, &wanted, &shown).await;
        return Ok(axum::Json(part.map_err(errors::of_query)?).into_response());
    }
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

/// Which part of the endpoints is asked for; nothing when it is all of them.
fn shown(which: &WhichBaseline) -> Result<Option<Shown>, Refused> {
    let search = searched(which.search.clone())?;
    let of_a_part = [
        ("search", search.is_some()),
        ("after", which.after.is_some()),
        ("limit", which.limit.is_some()),
        ("days", which.days.is_some()),
    ];
    let Some((field, _)) = of_a_part.into_iter().find(|(_, is_said)| *is_said) else {
        return Ok(None);
    };
    if which.format == Some(Format::Txt) {
        let detail = format!("{field}: an import takes all of a baseline; leave it out, or ask for json");
        return Err(Refused::bad(field, detail));
    }
    let days = which.days.unwrap_or_default();
    if which.days == Some(0) || days > MOST_DAYS {
        return Err(Refused::bad(
            "days",
            format!("days: 1 to {MOST_DAYS}, not {days}"),
        ));
    }
    let page = page_request(Paging {
        after: which.after.clone(),
        limit: which.limit,
    })?;
    Ok(Some(Shown { search, page, days }))
}

/// The baselines that there are, by scope: clusters', organizations', repositories', workflows'.
///
/// A token for some owners has to name one of them where it is for several, and sees no cluster's.
#[utoipa::path(get, path = "/baseline-scopes", tag = "baselines", params(WhichBaselines),
    responses((status = 200, body = Page<BaselineScope>)))]
pub(super) async fn list_baselines(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichBaselines>,
) -> Result<axum::Json<Page<BaselineScope>>, Refused> {
    let filter = BaselineFilter {
        owner: caller.owner_filter(which.owner.as_deref())?,
        search: searched(which.search)?,
    };
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let found = state.store.baselines(&filter, &page).await;
    Ok(axum::Json(found.map_err(errors::of_query)?))
}

pub(super) fn min_runs(asked: Option<u32>) -> Result<u64, String> {
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
