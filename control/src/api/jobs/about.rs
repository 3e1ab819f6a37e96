//! What holds for a job, and what it reached, for people who look at it.
//!
//! Owns the sentences about why a policy holds. Which one does is the policy crate's; what a gateway knows beside scopes
//! (its network's demand and default) is what it said of itself.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use compact_str::CompactString;
use hashbrown::HashSet;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_control_wire::summary::Destination;
use tidegate_control_wire::summary::advice::allow_line;
use tidegate_policy::event::Kind;
use tidegate_policy::job::Assurance;
use tidegate_policy::verdict::{Reason, Verdict};
use utoipa::ToSchema;

use super::{ById, find};
use crate::api::auth::Caller;
use crate::api::effective::{self, EffectiveAnswer};
use crate::api::errors;
use crate::api::events::summarized;
use crate::api::extract::Names;
use crate::api::problem::Refused;
use crate::api::seen::networks;
use crate::api::state::ApiState;
use crate::coverage::{DecidedBy, NetworkRules};
use crate::model::{GatewayView, Job};

/// The effective policy of a job, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct JobEffective {
    /// What precedence picks by scope, in the versions that hold for this job.
    #[serde(flatten)]
    effective: EffectiveAnswer,
    /// What decides egress.
    decided_by: DecidedBy,
    /// How well the job is known.
    #[schema(value_type = String)]
    assurance: Assurance,
    /// What its network demands, as its gateways say; null for nothing.
    #[schema(value_type = Option<String>)]
    min_assurance: Option<Assurance>,
    /// Its network's default policy, as its gateways say: `NAME (audit)`, `deny-all`; null when none says.
    default_policy: Option<String>,
    /// Position in the store's changes when it began: which versions hold for it.
    generation: u64,
    /// The gateways that share its lease, and how far they are.
    in_force: Vec<InForce>,
    /// All this in sentences.
    why: Vec<String>,
}

/// A gateway that shares a job's lease.
#[derive(Debug, Serialize, ToSchema)]
struct InForce {
    /// Its name.
    gateway: String,
    /// What it has put in force.
    generation: u64,
    /// The job's lease is among that.
    lease: bool,
    /// It is connected to this control plane.
    connected: bool,
}

/// What a job reached, or tried to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct JobEndpoints {
    /// One destination with one verdict, port and kind each; lookups that flows tell of as well are left out.
    items: Vec<JobEndpoint>,
    /// Verdicts about further destinations, that found no room.
    unlisted: u64,
    /// When not everything since the job's start is counted: since when it is.
    #[schema(value_type = Option<String>, format = DateTime)]
    complete_since: Option<Timestamp>,
}

/// A destination of a job.
#[derive(Debug, Serialize, ToSchema)]
struct JobEndpoint {
    /// The name, else the address.
    endpoint: String,
    /// The port; 0 for what has none.
    port: u16,
    /// `tcp` (with QUIC), `udp`, `icmp` or `ip`; `dns` for a name that was only looked up.
    transport: &'static str,
    /// The verdict.
    #[schema(value_type = String)]
    verdict: Verdict,
    /// Why not.
    reason: Option<String>,
    /// The deciding rule, as written.
    rule: Option<String>,
    /// As `allowed-endpoints` names it; null where no line would allow it.
    line: Option<String>,
    /// How often.
    count: u64,
    /// The first time.
    #[schema(value_type = String, format = DateTime)]
    first_seen: Timestamp,
    /// The last time.
    #[schema(value_type = String, format = DateTime)]
    last_seen: Timestamp,
}

/// The policy that holds for a job, and why that one.
///
/// In the versions that hold for it: one that was written for the next job is not its. Of a job that ended long ago the
/// versions may be forgotten; then it is the oldest that is known.
#[utoipa::path(get, path = "/jobs/{id}/effective", tag = "jobs", params(ById),
    responses((status = 200, body = JobEffective)))]
pub(in crate::api) async fn job_effective(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let job = find(&state, &caller, &id).await?;
    let mut gateways = state.store.gateways().await.map_err(errors::of_query)?;
    state.hub.mark(&mut gateways);
    gateways.retain(|gateway| gateway.group == job.group);
    let (network, cluster) = (&job.lease.network, &job.lease.identity.cluster);
    let rules = networks(&gateways)
        .remove(&(network.to_string(), cluster.to_string()))
        .unwrap_or_default();
    state.view.current().await;
    let effective = effective::answer(&state, &job.lease.identity, job.lease.began);
    let assurance = job.lease.identity.assurance;
    let is_heard = is_heard(assurance, &rules);
    let decided_by = if is_heard && effective.egress.policy.is_some() {
        DecidedBy::Policy
    } else {
        DecidedBy::NetworkDefault
    };
    let answer = JobEffective {
        why: why(&job, &effective, &rules),
        decided_by,
        assurance,
        min_assurance: rules.min_assurance,
        default_policy: rules.default_policy,
        generation: job.lease.began.0,
        in_force: gateways
            .into_iter()
            .map(|gateway| in_force(gateway, &job))
            .collect(),
        effective,
    };
    Ok(axum::Json(answer).into_response())
}

fn in_force(gateway: GatewayView, job: &Job) -> InForce {
    InForce {
        lease: job.ended_at.is_none() && gateway.generation >= job.lease.began.0,
        gateway: gateway.name,
        generation: gateway.generation,
        connected: gateway.connected,
    }
}

/// Whether a job of a network is known well enough for its own scopes to count.
fn is_heard(assurance: Assurance, rules: &NetworkRules) -> bool {
    assurance > Assurance::Claimed && rules.min_assurance.is_none_or(|least| assurance >= least)
}

/// Why this policy holds, most decisive first.
fn why(job: &Job, effective: &EffectiveAnswer, rules: &NetworkRules) -> Vec<String> {
    let assurance = job.lease.identity.assurance;
    let network = &job.lease.network;
    let default = match &rules.default_policy {
        Some(default) => format!("the default policy of network {network} decides: {default}"),
        None => format!("the default policy of network {network} decides"),
    };
    let mut why = Vec::new();
    if assurance == Assurance::Claimed {
        why.push(format!(
            "The job only claims who it is, without a credential, so its scopes do not count and {default}."
        ));
    } else if let Some(least) = rules.min_assurance.filter(|least| assurance < *least) {
        why.push(format!(
            "The job's identity is {}, and network {network} demands {} at least, so its scopes do not count and {default}.",
            assurance.as_str(),
            least.as_str()
        ));
    } else if effective.egress.policy.is_none() {
        why.push(format!(
            "No policy is attached to any of its scopes, so {default}."
        ));
    }
    let heard = is_heard(assurance, rules);
    let mut decided = false;
    for considered in &effective.considered {
        let scope = &considered.scope;
        let decides = effective.egress.scope.as_ref() == Some(scope);
        why.push(match &considered.policy {
            None => format!("{scope}: nothing is attached."),
            Some(policy) if policy_is_unusable(effective, decides) => format!(
                "{scope}: policy {} (version {}) is attached and can't be put in force, so everything is refused.",
                policy.name, policy.version
            ),
            Some(policy) if decides && heard => format!(
                "{scope}: policy {} (version {}) is attached; it is the most specific one and decides egress.",
                policy.name, policy.version
            ),
            Some(policy) if decides => format!(
                "{scope}: policy {} (version {}) is attached and would decide egress if the job were known well enough.",
                policy.name, policy.version
            ),
            Some(policy) if decided => format!(
                "{scope}: policy {} (version {}) is attached; a more specific one decides.",
                policy.name, policy.version
            ),
            Some(policy) => format!(
                "{scope}: policy {} (version {}) is attached and leaves egress to the next scope.",
                policy.name, policy.version
            ),
        });
        decided |= decides;
    }
    why
}

fn policy_is_unusable(effective: &EffectiveAnswer, decides: bool) -> bool {
    decides
        && effective
            .egress
            .policy
            .as_ref()
            .is_some_and(|policy| policy.unusable)
}

/// What a job reached, or tried to: made of its summary.
///
/// Two are made at once and 32 wait, summaries included; who comes beyond them is told to come again (503 with
/// `Retry-After`).
#[utoipa::path(get, path = "/jobs/{id}/endpoints", tag = "jobs", params(ById),
    responses((status = 200, body = JobEndpoints)))]
pub(in crate::api) async fn job_endpoints(
    State(state): State<ApiState>,
    caller: Caller,
    Names(ById { id }): Names<ById>,
) -> Result<Response, Refused> {
    let summary = summarized(&state, &caller, &id).await?;
    let unlisted = summary.unlisted;
    let all = [summary.refused, summary.would_refuse, summary.permitted];
    let flows: HashSet<CompactString> = all
        .iter()
        .flatten()
        .filter(|one| one.kind != Kind::Dns)
        .map(|one| one.endpoint.clone())
        .collect();
    let items = all
        .into_iter()
        .flatten()
        .filter(|one| !one.endpoint.is_empty() && (one.kind != Kind::Dns || !flows.contains(&one.endpoint)))
        .map(endpoint)
        .collect();
    let answer = JobEndpoints {
        items,
        unlisted: unlisted
            .refused
            .saturating_add(unlisted.would_refuse)
            .saturating_add(unlisted.permitted),
        complete_since: summary.since,
    };
    Ok(axum::Json(answer).into_response())
}

fn endpoint(one: Destination) -> JobEndpoint {
    let line = match one.verdict {
        Verdict::Permit => allow_line(Reason::NotAllowed, &one.endpoint, one.port, one.kind),
        Verdict::Refuse | Verdict::WouldRefuse => one.allow,
    };
    JobEndpoint {
        line: line.map(String::from),
        endpoint: one.endpoint.into(),
        port: one.port,
        transport: match one.kind {
            Kind::Dns => "dns",
            Kind::Udp => "udp",
            Kind::Icmp => "icmp",
            Kind::Ip => "ip",
            // Whoever allows the name and port allows QUIC with it.
            Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp => "tcp",
        },
        verdict: one.verdict,
        reason: one.reason.map(String::from),
        rule: one.rule.map(String::from),
        count: one.count,
        first_seen: one.first,
        last_seen: one.last,
    }
}
