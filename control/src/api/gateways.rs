//! The fleet of gateways: who is there, how far each is, and what is wrong with it.
//!
//! Owns what "degraded" means. What a gateway does not report (its listeners, its upstream resolvers) is not told here;
//! `tidegate status` on the gateway does.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::errors;
use super::extract::Params;
use super::lists::{Paging, page_request, searched};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::{Degraded, DegradedCode, Drops, GatewayView, PageRequest};

/// What was not heard of for so long is away: three pings.
const AWAY: Duration = Duration::from_secs(15);
/// A change that is not in force for so long is late.
const LATE: Duration = Duration::from_secs(15);
/// A token that ends so soon is to be replaced.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Which gateways are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichGateways {
    /// A part of the name, of its group or of a network, in any case.
    #[serde(default)]
    search: Option<String>,
    /// How they are.
    #[serde(default)]
    #[param(inline)]
    state: Option<GatewayState>,
    /// `name`, or `degraded`: those with something wrong first.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Gateways at most; all of them when nothing is said.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// How a gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum GatewayState {
    /// Nothing is wrong.
    Ok,
    /// Something is.
    Degraded,
    /// Nothing was heard of it for a while.
    Away,
    /// A change is not in force.
    Behind,
    /// It dropped verdicts today.
    Drops,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sort {
    /// By name.
    #[default]
    Name,
    /// What is degraded first, then by name.
    Degraded,
}

/// Gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GatewayList {
    /// In the order that was asked for.
    items: Vec<GatewayView>,
    /// Where the next page begins; null on the last.
    next: Option<String>,
    /// Of all gateways, whatever was asked for.
    counters: GatewayCounters,
    /// The token is limited to owners: gateways' tokens, leases, dropped verdicts and lanes, which are every owner's, are
    /// left out (null, 0, empty), and so is what is wrong with them.
    limited: bool,
}

/// How many gateways there are.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct GatewayCounters {
    /// In all.
    all: u64,
    /// Connected to this control plane.
    connected: u64,
    /// With something wrong.
    degraded: u64,
    /// Of which nothing was heard for a while.
    away: u64,
    /// With a change that is not in force.
    behind: u64,
    /// That dropped verdicts today.
    drops: u64,
}

/// Every gateway that was ever seen.
///
/// A token that is limited to owners is told of versions, networks and what is in force, not of gateways' tokens, leases
/// and dropped verdicts.
#[utoipa::path(get, path = "/gateways", tag = "system", params(WhichGateways),
    responses((status = 200, body = GatewayList)))]
pub(super) async fn list_gateways(
    State(state): State<ApiState>,
    caller: Caller,
    Params(which): Params<WhichGateways>,
) -> Result<Response, Refused> {
    let request = which.limit.map(|limit| Paging {
        after: which.after.clone(),
        limit: Some(limit),
    });
    let request = request.map(page_request).transpose()?;
    let search = searched(which.search)?.map(|text| text.to_lowercase());
    let now = state.now();
    let mut all = state.store.gateways().await.map_err(errors::of_query)?;
    state.hub.mark(&mut all);
    let told = state.store.tell_of_gateways(&mut all, now).await;
    told.map_err(errors::of_query)?;
    for gateway in &mut all {
        gateway.degraded = degraded(gateway, now);
        if caller.is_limited() {
            gateway.degraded.retain(|one| concerns_all(one.code));
        }
    }
    let counters = GatewayCounters::of(&all);
    all.retain(|one| {
        which.state.is_none_or(|state| state.is_of(one))
            && search.as_ref().is_none_or(|text| is_named(one, text))
    });
    if which.sort == Sort::Degraded {
        // Within each part they stay by name.
        all.sort_by_key(|one| one.degraded.is_empty());
    }
    let (mut items, next) = cut(all, which.sort, which.after.as_deref(), request.as_ref())?;
    let more = state.store.tell_more_of_gateways(&mut items).await;
    more.map_err(errors::of_query)?;
    if caller.is_limited() {
        items.iter_mut().for_each(blank);
    }
    Ok(axum::Json(GatewayList {
        items,
        next,
        counters,
        limited: caller.is_limited(),
    })
    .into_response())
}

/// Whether a limited token is told of it: nothing of it counts what others' jobs did, or tells of tokens.
const fn concerns_all(code: DegradedCode) -> bool {
    match code {
        DegradedCode::Away | DegradedCode::Behind | DegradedCode::Version => true,
        DegradedCode::Drops | DegradedCode::RefusedLeases | DegradedCode::Token => false,
    }
}

/// Leaves out what is every owner's.
fn blank(gateway: &mut GatewayView) {
    gateway.leases = 0;
    gateway.refused_leases = 0;
    gateway.drops = Drops::default();
    gateway.spool = Vec::new();
    gateway.token = None;
}

/// What is wrong with a gateway.
fn degraded(gateway: &GatewayView, now: Timestamp) -> Vec<Degraded> {
    let mut all = Vec::new();
    let mut say = |code, text: String| all.push(Degraded { code, text });
    let older = |at: Timestamp, span: Duration| now.duration_since(at).unsigned_abs() > span && at < now;
    let away = !gateway.connected && older(gateway.last_seen_at, AWAY);
    if away {
        let text = "Not connected: it goes on with what it knew last, and its events wait on its disk.";
        say(DegradedCode::Away, text.into());
    }
    // Who is away is behind for that reason.
    if !away && gateway.behind_since.is_some_and(|since| older(since, LATE)) {
        let text = "Connected, but newer policies or leases are not in force there yet.";
        say(DegradedCode::Behind, text.into());
    }
    if gateway.drops.today > 0 {
        let text = format!(
            "It dropped {} verdicts today: the record lacks them.",
            gateway.drops.today
        );
        say(DegradedCode::Drops, text);
    }
    if gateway.refused_leases > 0 {
        let text = format!(
            "It could not put {} leases in place since it is connected.",
            gateway.refused_leases
        );
        say(DegradedCode::RefusedLeases, text);
    }
    match &gateway.token {
        // The gateway of `tidegate up` is in this process and needs none; any other's stream ends with its token.
        None if gateway.connected => {}
        None => {
            let text = "No good token has its name: it can't connect again.";
            say(DegradedCode::Token, text.into());
        }
        Some(token) if token.expires_at.is_some_and(|at| at.duration_since(now) < SOON) => {
            say(DegradedCode::Token, "Its token ends within a week.".into());
        }
        Some(_) => {}
    }
    if gateway.version != env!("CARGO_PKG_VERSION") {
        let text = format!(
            "It runs version {}, the control plane {}.",
            tidegate_control_wire::text::printable(&gateway.version),
            env!("CARGO_PKG_VERSION")
        );
        say(DegradedCode::Version, text);
    }
    all
}

fn says(gateway: &GatewayView, code: DegradedCode) -> bool {
    gateway.degraded.iter().any(|one| one.code == code)
}

/// Part of a name in lower case.
fn is_named(gateway: &GatewayView, text: &str) -> bool {
    let networks = gateway.networks.iter().map(|network| network.name.as_str());
    let mut names = networks.chain([gateway.name.as_str(), gateway.group.as_str()]);
    names.any(|name| name.to_lowercase().contains(text))
}

/// One page of them, and the cursor of the next: what its last one is called, and whether that is degraded.
fn cut(
    all: Vec<GatewayView>,
    sort: Sort,
    after: Option<&str>,
    request: Option<&PageRequest>,
) -> Result<(Vec<GatewayView>, Option<String>), Refused> {
    let place = |one: &GatewayView| {
        (
            sort == Sort::Degraded && one.degraded.is_empty(),
            one.name.clone(),
        )
    };
    let behind = match after {
        Some(text) => {
            let (well, name) = text.split_at_checked(1).ok_or_else(wrong)?;
            Some((well == "1", name.to_owned()))
        }
        None => None,
    };
    let mut items: Vec<GatewayView> = all
        .into_iter()
        .filter(|one| behind.as_ref().is_none_or(|behind| place(one) > *behind))
        .collect();
    let size = request.map_or(usize::MAX, |request| request.size() as usize);
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|last| {
        let (well, name) = place(last);
        format!("{}{name}", u8::from(well))
    });
    Ok((items, next))
}

fn wrong() -> Refused {
    Refused::bad("after", "this is no `next` of a page of this list")
}

impl GatewayState {
    fn is_of(self, gateway: &GatewayView) -> bool {
        match self {
            Self::Ok => gateway.degraded.is_empty(),
            Self::Degraded => !gateway.degraded.is_empty(),
            Self::Away => says(gateway, DegradedCode::Away),
            Self::Behind => says(gateway, DegradedCode::Behind),
            Self::Drops => says(gateway, DegradedCode::Drops),
        }
    }
}

impl GatewayCounters {
    fn of(all: &[GatewayView]) -> Self {
        let count = |is: &dyn Fn(&GatewayView) -> bool| all.iter().filter(|one| is(one)).count() as u64;
        Self {
            all: all.len() as u64,
            connected: count(&|one| one.connected),
            degraded: count(&|one| GatewayState::Degraded.is_of(one)),
            away: count(&|one| GatewayState::Away.is_of(one)),
            behind: count(&|one| GatewayState::Behind.is_of(one)),
            drops: count(&|one| GatewayState::Drops.is_of(one)),
        }
    }
}
