//! Leases: which source is whose, and the word that a machine is gone.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidegate_control_wire::claim::EndedBy;
use tidegate_control_wire::record::Ending;
use utoipa::IntoParams;

use super::auth::Caller;
use super::errors;
use super::extract::Params;
use super::jobs::Ended;
use super::lists::{Paging, page_request};
use super::problem::{Code, Refused};
use super::state::ApiState;
use crate::model::{LeaseView, Page, PageRequest, Role};
use crate::store::LeaseFilter;

/// Which leases are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichLeases {
    /// Of a source.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    source: Option<IpAddr>,
    /// In a network.
    #[serde(default)]
    network: Option<String>,
    /// Of a group of gateways.
    #[serde(default)]
    group: Option<String>,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items at most.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Which source is to be cleared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichSource {
    /// The source.
    #[param(value_type = String)]
    source: IpAddr,
    /// Its network, where several have such an address.
    #[serde(default)]
    network: Option<String>,
}

/// Living leases, one item a source.
#[utoipa::path(get, path = "/leases", tag = "jobs", params(WhichLeases),
    responses((status = 200, body = Page<LeaseView>)))]
pub(super) async fn list_leases(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichLeases>,
) -> Result<Response, Refused> {
    let filter = LeaseFilter {
        owners: caller.owners(),
        networks: caller.networks(),
        group: which.group,
        source: which.source,
        network: which.network,
    };
    let page = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let found = state
        .store
        .leases(&filter, &page)
        .await
        .map_err(errors::of_query)?;
    Ok(axum::Json(found).into_response())
}

/// Ends whatever lease holds a source, and frees the source: its machine is gone.
#[utoipa::path(delete, path = "/leases", tag = "jobs", params(WhichSource), responses((status = 200, body = Ended)))]
pub(super) async fn clear_source(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichSource>,
) -> Result<Response, Refused> {
    let filter = LeaseFilter {
        owners: caller.owners(),
        networks: caller.networks(),
        source: Some(which.source),
        network: which.network,
        group: None,
    };
    let page = PageRequest::default();
    let held = state
        .store
        .leases(&filter, &page)
        .await
        .map_err(errors::of_query)?
        .items;
    let lease = match held.as_slice() {
        [] => {
            let detail = format!("no lease that this token reaches holds {}", which.source);
            return Err(Refused::not_found(detail).field("source"));
        }
        [lease] => lease,
        several => {
            let networks: Vec<String> = several
                .iter()
                .map(|one| format!("{} of {}", one.network, one.group))
                .collect();
            let detail = format!(
                "{} is held in several networks ({}); say which with ?network=",
                which.source,
                networks.join(", ")
            );
            return Err(Refused::new(StatusCode::CONFLICT, Code::Conflict, detail).field("network"));
        }
    };
    let job = state.store.job(&lease.job_id).await.map_err(errors::of_query)?;
    let by = match caller.role() {
        Role::Provisioner => EndedBy::Provisioner,
        Role::Admin | Role::Editor | Role::Viewer | Role::Gateway | Role::Runner => EndedBy::Operator,
    };
    let ended = state
        .hub
        .end(&job, by, Ending::Release)
        .await
        .map_err(errors::of_query)?;
    let id = lease.job_id.clone();
    Ok(axum::Json(Ended { id, ended }).into_response())
}
