//! What this control plane was told by its configuration, and how what it follows is doing. Read-only: the file is where
//! it is changed. Secrets never.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_control_wire::secret::Role;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::auth::Caller;
use super::errors;
use super::problem::Refused;
use super::state::ApiState;
use crate::config::{ControlConfig, FeedConfig, LoginConfig, OidcConfig};
use crate::feed::FeedState;
use crate::oidc;

/// What is told of the running control plane.
#[derive(Clone)]
pub struct Deployment {
    /// Its configuration.
    pub config: ControlConfig,
    /// The keys of the issuers of jobs.
    pub issuers: oidc::Handle,
    /// The block list's feed, where one is configured.
    pub feed: Option<watch::Receiver<FeedState>>,
}

/// The settings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingsView {
    /// Version of the program.
    version: &'static str,
    /// Names the store: positions of another store mean nothing here.
    epoch: String,
    /// Where the store is, without a password.
    store: String,
    /// What the configuration says; absent where the API is served without one.
    configured: Option<Configured>,
}

/// What the configuration says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Configured {
    /// Where the API and the gateways' sync are served.
    listen: String,
    /// By HTTPS.
    tls: bool,
    /// Where browsers reach the web UI; absent where they come to where it listens.
    public_url: Option<String>,
    /// Policies with patterns that strangers can register names for are refused.
    strict: bool,
    /// How long things are kept.
    retention: RetentionView,
    /// Issuers of job identities.
    oidc: Vec<IssuerView>,
    /// Where people log in, besides showing a token.
    login: Option<LoginView>,
    /// The global block list's feed.
    feed: Option<FeedView>,
}

/// How long things are kept, in seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetentionView {
    /// Events, and ended jobs.
    events_seconds: u64,
    /// Sums by day, baselines, detections.
    rollups_seconds: u64,
}

/// An issuer of job identities.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IssuerView {
    /// Its URL.
    issuer: String,
    /// The audience that tokens must be for.
    audience: String,
    /// Owners whose jobs it may name; empty limits nothing.
    owners: Vec<String>,
    /// Keys that are in use.
    keys: usize,
    /// When they were last fetched by this process.
    #[schema(value_type = Option<String>, format = DateTime)]
    fetched_at: Option<Timestamp>,
    /// Why the last attempt failed.
    error: Option<String>,
}

/// Where people log in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginView {
    /// The issuer's URL.
    issuer: String,
    /// What this deployment is called there.
    client_id: String,
    /// It has a secret.
    secret: bool,
    /// What is asked for.
    scopes: Vec<String>,
    /// The claim that names people; absent for `email`, `preferred_username` or `sub`.
    name_claim: Option<String>,
    /// The claim that lists their groups.
    groups_claim: String,
    /// What each group gives.
    groups: Vec<GroupView>,
}

/// What a group gives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupView {
    /// Its name, as the issuer writes it.
    group: String,
    /// The role.
    #[schema(value_type = String)]
    role: Role,
    /// Owners that it is limited to; empty limits nothing.
    owners: Vec<String>,
}

/// The global block list's feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FeedView {
    /// Where it is fetched.
    url: String,
    /// Seconds between two looks.
    interval_seconds: u64,
    /// Serial of the list that is in force.
    serial: Option<u64>,
    /// Its date, as the feed says it.
    #[schema(value_type = Option<String>, format = DateTime)]
    date: Option<Timestamp>,
    /// When the feed last answered well.
    #[schema(value_type = Option<String>, format = DateTime)]
    checked_at: Option<Timestamp>,
    /// Why the last look failed.
    error: Option<String>,
}

/// What this control plane was told by its configuration, and how the issuers and the feed that it follows are doing.
///
/// Nothing is changed here: the file is, and the program started again.
#[utoipa::path(get, path = "/settings", tag = "system", responses((status = 200, body = SettingsView)))]
pub(super) async fn settings(State(state): State<ApiState>, caller: Caller) -> Result<Response, Refused> {
    caller.check_unlimited("the configuration")?;
    let shown = SettingsView {
        version: env!("CARGO_PKG_VERSION"),
        epoch: state.store.epoch().await.map_err(errors::of_query)?,
        store: state.store.db().place(),
        configured: state.deployment.as_deref().map(configured),
    };
    Ok(axum::Json(shown).into_response())
}

fn configured(deployment: &Deployment) -> Configured {
    let config = &deployment.config;
    let states = deployment.issuers.states();
    Configured {
        listen: config.listen.to_string(),
        tls: config.tls.is_some(),
        public_url: config.public_url.clone(),
        strict: config.strict,
        retention: RetentionView {
            events_seconds: seconds(config.keep_events.events),
            rollups_seconds: seconds(config.keep_events.rollups),
        },
        oidc: config.oidc.iter().map(|one| issuer(one, &states)).collect(),
        login: config.login.as_ref().map(login),
        feed: config
            .feed
            .as_ref()
            .map(|feed| feed_view(feed, deployment.feed.as_ref())),
    }
}

fn seconds(span: Duration) -> u64 {
    span.as_secs()
}

fn issuer(config: &OidcConfig, states: &[oidc::IssuerState]) -> IssuerView {
    let state = states.iter().find(|state| state.issuer == config.issuer);
    IssuerView {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        owners: config.owners.clone(),
        keys: state.map_or(0, |state| state.keys),
        fetched_at: state.and_then(|state| state.fetched),
        error: state.and_then(|state| state.error.clone()),
    }
}

fn login(config: &LoginConfig) -> LoginView {
    LoginView {
        issuer: config.issuer.clone(),
        client_id: config.client_id.clone(),
        secret: config.client_secret.is_some(),
        scopes: config.scopes.clone(),
        name_claim: config.name_claim.clone(),
        groups_claim: config.groups_claim.clone(),
        groups: config
            .groups
            .iter()
            .map(|group| GroupView {
                group: group.group.clone(),
                role: group.role,
                owners: group.owners.clone(),
            })
            .collect(),
    }
}

fn feed_view(config: &FeedConfig, state: Option<&watch::Receiver<FeedState>>) -> FeedView {
    let state = state.map(|state| state.borrow().clone());
    let known = state.as_ref().map(|state| &state.known);
    FeedView {
        url: config.url.clone(),
        interval_seconds: seconds(config.interval),
        serial: known.and_then(|known| known.serial),
        date: known.and_then(|known| known.date),
        checked_at: known.and_then(|known| known.checked),
        error: state.as_ref().and_then(|state| state.error.clone()),
    }
}
