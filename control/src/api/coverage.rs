//! Coverage: every workflow that was seen, and what holds for it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::Params;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::seen::{self, owners_of};
use super::state::ApiState;
use crate::coverage::ask::{BadCursor, CoverageCounters, Filter, Sort, Which};
use crate::coverage::{CoverageRow, Table};

/// Which workflows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichCoverage {
    /// Of an owner.
    #[serde(default)]
    owner: Option<String>,
    /// Of a repository, `owner/name`.
    #[serde(default)]
    repo: Option<String>,
    /// In a cluster.
    #[serde(default)]
    cluster: Option<String>,
    /// With this text in owner, repository or workflow; case does not count.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// Of one kind only; the counters are of all.
    #[serde(default)]
    #[param(inline)]
    filter: Option<Filter>,
    /// In which order.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// Days that verdicts are counted of, today included: 1, 7 (when nothing is said), 14 or 30.
    #[serde(default)]
    #[param(minimum = 1, maximum = 30)]
    days: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of workflows with what holds for them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CoverageList {
    /// At most as many as were asked for.
    #[schema(value_type = Vec<CoverageRow>)]
    items: Vec<Arc<CoverageRow>>,
    /// Where the next page begins; null on the last.
    next: Option<String>,
    /// How many there are of each kind, of all that the other parameters leave.
    counters: CoverageCounters,
}

/// Every workflow that was seen, what decides about its jobs, and what they were told.
///
/// What a job that began now would get, by scope; what the last one's assurance and its network make of that is said
/// beside it. The answer may be some seconds old (thirty at most, where thousands of workflows are known), and is anew as
/// soon as a policy or an attachment is written. Workflows of static leases are known by their events alone: they have no
/// assurance and no last job.
#[utoipa::path(get, path = "/coverage", tag = "jobs", params(WhichCoverage),
    responses((status = 200, body = CoverageList)))]
pub(super) async fn list_coverage(
    State(state): State<ApiState>,
    caller: Caller,
    Params(asked): Params<WhichCoverage>,
) -> Result<Response, Refused> {
    let lower = |text: Option<String>| text.map(|text| text.to_lowercase());
    let which = Which {
        owners: owners_of(&caller, asked.owner.as_deref())?,
        owner: lower(asked.owner),
        repo: lower(asked.repo),
        cluster: asked.cluster,
        search: lower(searched(asked.search)?),
        filter: asked.filter,
        sort: asked.sort,
    };
    let page = page_request(Paging {
        after: asked.after,
        limit: asked.limit,
    })?;
    let table = seen::table(&state, asked.days).await?;
    let question = move |table: &Table| table.ask(&which, page.after.as_deref(), page.size() as usize);
    let found = seen::ask(table, question)
        .await?
        .map_err(|BadCursor| Refused::bad("after", "this is no `next` of a page of this list"))?;
    let list = CoverageList {
        items: found.items,
        next: found.next,
        counters: found.counters,
    };
    Ok(axum::Json(list).into_response())
}
