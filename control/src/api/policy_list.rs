//! Lists of policies: searched, filtered, counted.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_policy::explain::Target;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::{Names, Params};
use super::lists::{Fields, Paging, page_request, searched};
use super::policies::Owner;
use super::problem::Refused;
use super::state::ApiState;
use super::who_allows;
use crate::model::{Counters, Page, PageRequest, Policy, PolicyMode, PolicySummary};
use crate::store::PolicyFilter;

/// Which policies are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Part of the name, in any case.
    #[serde(default)]
    #[param(max_length = 255)]
    search: Option<String>,
    /// Mode of the newest version.
    #[serde(default)]
    #[param(inline)]
    mode: Option<PolicyMode>,
    /// Attached somewhere, or nowhere.
    #[serde(default)]
    attached: Option<bool>,
    /// Policies that permit this: `NAME[:PORT][/PROTO]`. The global block list is not looked at.
    #[serde(default)]
    #[param(example = "packages.example:443")]
    endpoint: Option<String>,
    /// The deleted ones instead, the latest first; goes with `search` alone.
    #[serde(default)]
    deleted: Option<bool>,
    /// `all`, or `summary`: what a table shows, without the documents.
    #[serde(default)]
    #[param(inline)]
    fields: Option<Fields>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Policies, and how many there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolicyList {
    /// At most as many as were asked for.
    items: Vec<Listed>,
    /// Where the next page begins.
    next: Option<String>,
    /// Of all the owner's policies, whatever the filter.
    counters: Counters,
}

/// A policy of a list, as `fields` asked for it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Listed {
    /// Everything.
    Whole(Box<Policy>),
    /// What a table shows.
    Summary(Box<PolicySummary>),
}

/// Policies of an owner, by name.
#[utoipa::path(get, path = "/orgs/{owner}/policies", tag = "policies", params(Owner, Filter),
    responses((status = 200, body = PolicyList)))]
pub(super) async fn list_policies(
    State(state): State<ApiState>,
    caller: Caller,
    Names(Owner { owner }): Names<Owner>,
    Params(filter): Params<Filter>,
) -> Result<Response, Refused> {
    caller.check_owner(&owner)?;
    let page = page_request(Paging {
        after: filter.after,
        limit: filter.limit,
    })?;
    let ids = match filter.endpoint {
        None => None,
        Some(text) => {
            let target = Target::parse(&text).map_err(|error| Refused::bad("endpoint", error.to_string()))?;
            Some(who_allows::ids(&state, &owner, target).await?)
        }
    };
    let deleted = filter.deleted.unwrap_or(false);
    if deleted && (filter.mode.is_some() || filter.attached.is_some() || ids.is_some()) {
        let detail = "a deleted policy decides nothing: ask with `search` alone";
        return Err(Refused::bad("deleted", detail));
    }
    let fields = filter.fields.unwrap_or_default();
    let filter = PolicyFilter {
        search: searched(filter.search)?,
        mode: filter.mode,
        attached: filter.attached,
        ids,
        deleted,
    };
    let found = listed(&state, &owner, &filter, (&page, fields)).await?;
    let counters = state
        .store
        .counters(Some(&owner))
        .await
        .map_err(errors::of_query)?;
    let list = PolicyList {
        items: found.items,
        next: found.next,
        counters,
    };
    Ok(axum::Json(list).into_response())
}

async fn listed(
    state: &ApiState,
    owner: &str,
    filter: &PolicyFilter,
    (page, fields): (&PageRequest, Fields),
) -> Result<Page<Listed>, Refused> {
    match fields {
        Fields::All => {
            let found = state.store.policies(Some(owner), filter, page).await;
            let Page { items, next } = found.map_err(errors::of_query)?;
            let whole = |policy| Listed::Whole(Box::new(policy));
            Ok(Page {
                items: items.into_iter().map(whole).collect(),
                next,
            })
        }
        Fields::Summary => {
            let found = state.store.policy_summaries(Some(owner), filter, page).await;
            let Page { items, next } = found.map_err(errors::of_query)?;
            Ok(Page {
                items: items
                    .into_iter()
                    .map(|summary| Listed::Summary(Box::new(summary)))
                    .collect(),
                next,
            })
        }
    }
}
