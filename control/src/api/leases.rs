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
use crate::model::{Job, LeaseView, Page, PageRequest, Role};
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
///
/// Where the job has ended by itself, it frees the source all the same; `ended` is false then.
#[utoipa::path(delete, path = "/leases", tag = "jobs", params(WhichSource), responses((status = 200, body = Ended)))]
pub(super) async fn clear_source(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichSource>,
) -> Result<Response, Refused> {
    let job = job_at(&state, &caller, which).await?;
    let by = match caller.role() {
        Role::Provisioner => EndedBy::Provisioner,
        Role::Admin | Role::Editor | Role::Viewer | Role::Gateway | Role::Runner => EndedBy::Operator,
    };
    let ended = state
        .hub
        .end(&job, by, Ending::Release)
        .await
        .map_err(errors::of_query)?;
    let id = job.lease.id.to_string();
    Ok(axum::Json(Ended { id, ended }).into_response())
}

/// The job whose lease holds a source, else the one that left it behind.
async fn job_at(state: &ApiState, caller: &Caller, which: WhichSource) -> Result<Job, Refused> {
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
    let mut jobs = Vec::with_capacity(held.len());
    for lease in &held {
        jobs.push(state.store.job(&lease.job_id).await.map_err(errors::of_query)?);
    }
    if jobs.is_empty() {
        jobs = state.store.left_behind(&filter).await.map_err(errors::of_query)?;
    }
    if jobs.len() > 1 {
        let networks: Vec<String> = jobs
            .iter()
            .map(|job| format!("{} of {}", job.lease.network, job.group))
            .collect();
        let detail = format!(
            "{} is held in several networks ({}); say which with ?network=",
            which.source,
            networks.join(", ")
        );
        return Err(Refused::new(StatusCode::CONFLICT, Code::Conflict, detail).field("network"));
    }
    jobs.pop().ok_or_else(|| {
        let detail = format!("no lease that this token reaches holds {}", which.source);
        Refused::not_found(detail).field("source")
    })
}
