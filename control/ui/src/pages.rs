//! The pages, one module an area. Each has `routes()` with whole paths and is merged here.

mod audit;
mod baselines;
mod block;
mod connect;
mod coverage;
mod detections;
mod events;
mod gateways;
mod jobs;
mod login;
mod look;
mod oidc;
mod overview;
mod policies;
mod runs;
mod sets;
mod settings;
mod unidentified;

use axum::Router;
use axum::routing::{any, get};

use crate::{Ui, assets, guard};

/// Every page.
pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/", get(guard::front))
        .route("/ui", get(guard::front))
        .route("/ui/{*rest}", any(guard::no_page))
        .merge(assets::routes())
        .merge(audit::routes())
        .merge(baselines::routes())
        .merge(block::routes())
        .merge(connect::routes())
        .merge(login::routes())
        .merge(oidc::routes())
        .merge(settings::routes())
        .merge(look::routes())
        .merge(overview::routes())
        .merge(policies::routes())
        .merge(sets::routes())
        .merge(coverage::routes())
        .merge(detections::routes())
        .merge(events::routes())
        .merge(gateways::routes())
        .merge(jobs::routes())
        .merge(runs::routes())
        .merge(unidentified::routes())
}
