//! Sources that asked without a lease: which machines nobody vouches for.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::Params;
use super::lists::{Paging, page_request};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::UnidentifiedSource;
use crate::store::{UnidentifiedFilter, days_ago};

/// Which sources are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichSources {
    /// In a network.
    #[serde(default)]
    network: Option<String>,
    /// Seen by a gateway.
    #[serde(default)]
    gateway: Option<String>,
    /// Of this address.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    source: Option<IpAddr>,
    /// On the day (UTC) of this time or later; yesterday when nothing is said, 31 days ago at most.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Sources without a lease.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SourceList {
    /// Who asked last first.
    items: Vec<UnidentifiedSource>,
    /// Where the next page begins; null on the last.
    next: Option<String>,
    /// Verdicts of further sources, which a gateway saw so many of that they were not told apart.
    beyond: u64,
}

/// Sources that asked without a lease.
///
/// They are no owner's, so a token without limits asks.
#[utoipa::path(get, path = "/unidentified-sources", tag = "events", params(WhichSources),
    responses((status = 200, body = SourceList)))]
pub(super) async fn list_unidentified(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichSources>,
) -> Result<Response, Refused> {
    caller.check_unlimited("a source without a lease")?;
    let filter = UnidentifiedFilter {
        network: which.network,
        gateway: which.gateway,
        source: which.source.map(|source| source.to_canonical().to_string()),
        since: which.since.unwrap_or_else(|| days_ago(state.now(), 1)),
    };
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let found = state
        .store
        .unidentified_sources(&filter, state.now(), &page)
        .await;
    let (page, beyond) = found.map_err(errors::of_query)?;
    Ok(axum::Json(SourceList {
        items: page.items,
        next: page.next,
        beyond,
    })
    .into_response())
}
