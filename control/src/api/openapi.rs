//! The OpenAPI document: made from the handlers, completed by the table of access.
//!
//! Owns what every operation has in common: who may use it, and the refusals that follow from its shape. A handler
//! names its own answers only; a status that can occur and is not named is a bug that the fuzzer finds.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self};
use utoipa::openapi::{
    Components, ContentBuilder, Header, Info, Object, OpenApi, Ref, RefOr, ResponseBuilder, Type,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{PREFIX, RULES, Rule, Who};
use super::problem::{PROBLEM_JSON, Problem};
use super::state::ApiState;
use super::{
    attachments, baselines, block, check, coverage, detections, draft, effective, events, gateways,
    harden_runner, impact, jobs, leases, login, policies, policy_list, propose, runs, scopes, sessions, sets,
    settings, simulate, stats, suppressions, system, tokens, unidentified, versions,
};

/// Name of the way to authenticate.
const BEARER: &str = "bearer";

/// The owner and the name of what was made, or asked for.
const NAMED: &[(&str, &str)] = &[
    ("owner", "$response.body#/owner"),
    ("name", "$response.body#/name"),
];
const ID: &[(&str, &str)] = &[("id", "$response.body#/id")];
const FIRST: &[(&str, &str)] = &[("id", "$response.body#/items/0/id")];

/// Where one goes from an answer: operation, status, what it gives, and the operations that take it. For people who
/// read the document, and for the fuzzer, which follows them.
const LINKS: &[(&str, &str, Gives, &[&str])] = &[
    (
        "create_policy",
        "201",
        NAMED,
        &[
            "get_policy",
            "update_policy",
            "delete_policy",
            "policy_history",
            "list_versions",
            "diff_versions",
        ],
    ),
    (
        "create_policy",
        "201",
        NAMED,
        &["rollback_policy", "change_attachments"],
    ),
    (
        "update_policy",
        "200",
        NAMED,
        &["get_policy", "update_policy", "rollback_policy", "diff_versions"],
    ),
    ("put_set", "201", NAMED, &["get_set", "put_set", "delete_set"]),
    ("start_job", "201", ID, &["get_job", "end_job"]),
    ("list_jobs", "200", FIRST, &["get_job", "end_job"]),
    ("add_entries", "201", ID, &["remove_entry"]),
    ("create_token", "201", ID, &["revoke_token"]),
    (
        "list_detections",
        "200",
        FIRST,
        &["get_detection", "change_detection"],
    ),
    ("add_suppression", "201", ID, &["remove_suppression"]),
];

/// Parameters with the expressions that give them (OpenAPI, "runtime expressions").
type Gives = &'static [(&'static str, &'static str)];

/// Every documented route, below [`PREFIX`].
pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::version))
        .routes(routes!(openapi_document))
        .routes(routes!(policy_list::list_policies, policies::create_policy))
        .routes(routes!(
            policies::get_policy,
            policies::update_policy,
            policies::delete_policy
        ))
        .routes(routes!(attachments::change_attachments))
        .routes(routes!(simulate::simulate_policy))
        .routes(routes!(impact::simulate_changes))
        .routes(routes!(propose::propose_policy))
        .routes(routes!(propose::propose_set))
        .routes(routes!(versions::policy_history))
        .routes(routes!(versions::list_versions))
        .routes(routes!(versions::get_version))
        .routes(routes!(versions::diff_versions))
        .routes(routes!(versions::rollback_policy))
        .routes(routes!(sets::list_sets))
        .routes(routes!(sets::get_set, sets::put_set, sets::delete_set))
        .routes(routes!(check::check_document))
        .routes(routes!(effective::effective))
        .routes(routes!(jobs::list_jobs, jobs::start_job))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::end_job))
        .routes(routes!(events::job_events))
        .routes(routes!(events::job_summary))
        .routes(routes!(events::job_summary_json))
        .routes(routes!(jobs::job_effective))
        .routes(routes!(jobs::job_endpoints))
        .routes(routes!(runs::list_runs))
        .routes(routes!(runs::get_run))
        .routes(routes!(scopes::list_orgs))
        .routes(routes!(scopes::list_scopes))
        .routes(routes!(coverage::list_coverage))
        .routes(routes!(events::list_events))
        .routes(routes!(events::stream_events))
        .routes(routes!(leases::list_leases, leases::clear_source))
        .routes(routes!(block::list_entries, block::add_entries))
        .routes(routes!(block::remove_entry))
        .routes(routes!(baselines::get_baseline))
        .routes(routes!(draft::draft_policy))
        .routes(routes!(baselines::list_baselines))
        .routes(routes!(
            detections::list_detections,
            detections::change_detections
        ))
        .routes(routes!(detections::get_detection, detections::change_detection))
        .routes(routes!(
            suppressions::list_suppressions,
            suppressions::add_suppression
        ))
        .routes(routes!(suppressions::remove_suppression))
        .routes(routes!(gateways::list_gateways))
        .routes(routes!(unidentified::list_unidentified))
        .routes(routes!(stats::verdict_stats))
        .routes(routes!(stats::refused_stats))
        .routes(routes!(stats::first_seen_stats))
        .routes(routes!(stats::policy_stats))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(login::login_methods))
        .routes(routes!(login::begin_login))
        .routes(routes!(sessions::create_session, sessions::list_sessions))
        .routes(routes!(sessions::end_own_session))
        .routes(routes!(sessions::end_session))
        .routes(routes!(sessions::who_am_i))
        .routes(routes!(settings::settings))
        .routes(routes!(system::audit_log))
}

/// Documented routes that foreign clients ask for by whole paths, beside [`PREFIX`].
pub(super) fn foreign_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(
            harden_runner::wire_put_policy,
            harden_runner::wire_get_policy,
            harden_runner::wire_delete_policy
        ))
        .routes(routes!(
            harden_runner::wire_attach_policy,
            harden_runner::wire_detach_policy
        ))
}

/// The document as it is served, made once.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let all = OpenApiRouter::new()
            .nest(PREFIX, routes())
            .merge(foreign_routes());
        let (_, document) = all.split_for_parts();
        // Plain data with text keys always serializes.
        let mut text = serde_json::to_string_pretty(&complete(document)).unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "system", responses((status = 200, body = Object)))]
async fn openapi_document() -> Response {
    ([(CONTENT_TYPE, "application/json")], text()).into_response()
}

/// The document, completed.
fn complete(mut api: OpenApi) -> OpenApi {
    let mut info = Info::new("Tidegate control plane", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Policies, attachments, history, jobs and the global block list. Refusals are problem documents (RFC 9457)."
            .into(),
    );
    api.info = info;
    let components = api.components.get_or_insert_with(Components::new);
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for rule in RULES {
        if let Some(operation) = operation(&mut api, rule) {
            finish(operation, rule);
            link(operation);
        }
    }
    api
}

fn link(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for (_, status, gives, targets) in LINKS.iter().filter(|(from, ..)| *from == id) {
        let Some(RefOr::T(response)) = operation.responses.responses.get_mut(*status) else {
            continue;
        };
        for target in *targets {
            let link = LinkBuilder::new().operation_id(*target);
            let link = gives
                .iter()
                .fold(link, |link, (name, value)| link.parameter(*name, *value));
            response
                .links
                .insert((*target).to_owned(), RefOr::T(link.build()));
        }
    }
}

/// The operation that a rule is about.
fn operation<'a>(api: &'a mut OpenApi, rule: &Rule) -> Option<&'a mut Operation> {
    let item = api.paths.paths.get_mut(&rule.whole_path())?;
    match http_method(&rule.method) {
        HttpMethod::Get => item.get.as_mut(),
        HttpMethod::Put => item.put.as_mut(),
        HttpMethod::Post => item.post.as_mut(),
        HttpMethod::Delete => item.delete.as_mut(),
        HttpMethod::Patch => item.patch.as_mut(),
        HttpMethod::Head | HttpMethod::Options | HttpMethod::Trace => None,
    }
}

fn http_method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "PUT" => HttpMethod::Put,
        "POST" => HttpMethod::Post,
        "DELETE" => HttpMethod::Delete,
        "PATCH" => HttpMethod::Patch,
        _ => HttpMethod::Get,
    }
}

fn finish(operation: &mut Operation, rule: &Rule) {
    let mut refusals: Vec<u16> = rule.also.to_vec();
    if let Who::Roles(roles) = rule.who {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
        refusals.extend([401, 403, 429]);
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let said = format!("Roles: {}.", names.join(", "));
        operation.description = Some(match operation.description.take() {
            Some(text) if !text.is_empty() => format!("{text}\n\n{said}"),
            _ => said,
        });
    } else {
        operation.security = Some(Vec::new());
    }
    if operation.parameters.is_some() || operation.request_body.is_some() {
        refusals.push(400);
    }
    if operation.request_body.is_some() {
        refusals.extend([413, 415, 422]);
    }
    refusals.push(503);
    for status in refusals {
        let answers = &mut operation.responses.responses;
        answers
            .entry(status.to_string())
            .or_insert_with(|| RefOr::T(refusal(status)));
    }
}

fn refusal(status: u16) -> openapi::Response {
    let title = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Problem");
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description(title)
        .content(PROBLEM_JSON, content);
    let text = || Header::new(Object::with_type(Type::String));
    match status {
        401 => response.header("WWW-Authenticate", text()).build(),
        429 | 503 => response.header("Retry-After", text()).build(),
        _ => response.build(),
    }
}
