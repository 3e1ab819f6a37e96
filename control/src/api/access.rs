//! Which role may use which route: one table, asked before every handler, shown in the OpenAPI document, and walked by
//! the test that tries every operation with every role.
//!
//! Owns roles by route only. What a token may touch by owner or network is asked by handlers ([`super::auth::Caller`]),
//! which know what they touch.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::errors;
use super::problem::{Code, Refused};
use super::state::ApiState;
use crate::model::Role;

/// Below which everything of the API lies, but for what foreign clients ask for by paths of their own.
pub(super) const PREFIX: &str = "/api/v1";

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Whoever asks, without a token.
    Anyone,
    /// Tokens of these roles.
    Roles(&'static [Role]),
}

/// One line of the table: a method, a path (below [`PREFIX`], unless it begins with [`WHOLE`]), who may, and the refusals
/// that the route knows besides those that follow from its shape (see [`super::openapi`]).
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) who: Who,
    pub(super) also: &'static [u16],
}

const OPEN: Who = Who::Anyone;
const ADMINS: Who = Who::Roles(&[Role::Admin]);
const WRITERS: Who = Who::Roles(&[Role::Admin, Role::Editor]);
const READERS: Who = Who::Roles(&[Role::Admin, Role::Editor, Role::Viewer]);
const KEEPERS: Who = Who::Roles(&[Role::Admin, Role::Provisioner]);
const WATCHERS: Who = Who::Roles(&[Role::Admin, Role::Editor, Role::Viewer, Role::Provisioner]);

const fn get(path: &'static str, who: Who, also: &'static [u16]) -> Rule {
    rule(Method::GET, path, who, also)
}

const fn post(path: &'static str, who: Who, also: &'static [u16]) -> Rule {
    rule(Method::POST, path, who, also)
}

const fn put(path: &'static str, who: Who, also: &'static [u16]) -> Rule {
    rule(Method::PUT, path, who, also)
}

const fn patch(path: &'static str, who: Who, also: &'static [u16]) -> Rule {
    rule(Method::PATCH, path, who, also)
}

const fn delete(path: &'static str, who: Who, also: &'static [u16]) -> Rule {
    rule(Method::DELETE, path, who, also)
}

const fn rule(method: Method, path: &'static str, who: Who, also: &'static [u16]) -> Rule {
    Rule {
        method,
        path,
        who,
        also,
    }
}

/// The table.
pub(super) const RULES: &[Rule] = &[
    get("/healthz", OPEN, &[]),
    get("/readyz", OPEN, &[]),
    get("/version", OPEN, &[]),
    get("/openapi.json", OPEN, &[]),
    get("/orgs/{owner}/policies", READERS, &[]),
    post("/orgs/{owner}/policies", WRITERS, &[409]),
    get("/orgs/{owner}/policies/{name}", READERS, &[404, 406]),
    put("/orgs/{owner}/policies/{name}", WRITERS, &[404, 409, 412, 428]),
    delete("/orgs/{owner}/policies/{name}", WRITERS, &[404, 409, 412]),
    get("/orgs/{owner}/policies/{name}/history", READERS, &[404]),
    get("/orgs/{owner}/policies/{name}/versions", READERS, &[404]),
    get(
        "/orgs/{owner}/policies/{name}/versions/{version}",
        READERS,
        &[404, 406],
    ),
    get("/orgs/{owner}/policies/{name}/diff", READERS, &[404]),
    post(
        "/orgs/{owner}/policies/{name}/rollback",
        WRITERS,
        &[404, 409, 412, 428],
    ),
    post("/orgs/{owner}/policies/{name}/attachments", WRITERS, &[404, 409]),
    post("/orgs/{owner}/policies/{name}/simulate", READERS, &[404]),
    post("/orgs/{owner}/policies/{name}/propose", READERS, &[404]),
    get("/orgs/{owner}/endpoint-sets", READERS, &[]),
    get("/orgs/{owner}/endpoint-sets/{name}", READERS, &[404, 406]),
    put("/orgs/{owner}/endpoint-sets/{name}", WRITERS, &[412, 428]),
    delete("/orgs/{owner}/endpoint-sets/{name}", WRITERS, &[404, 409, 412]),
    post("/orgs/{owner}/endpoint-sets/{name}/propose", READERS, &[404]),
    post("/check", READERS, &[]),
    post("/simulate", READERS, &[404]),
    get("/effective", READERS, &[]),
    get("/jobs", WATCHERS, &[]),
    post("/jobs", KEEPERS, &[409]),
    get("/jobs/{id}", WATCHERS, &[404]),
    get("/jobs/{id}/events", READERS, &[]),
    get("/jobs/{id}/summary.md", READERS, &[404]),
    get("/jobs/{id}/summary", READERS, &[404]),
    get("/jobs/{id}/effective", READERS, &[404]),
    get("/jobs/{id}/endpoints", READERS, &[404]),
    get("/runs", READERS, &[]),
    get("/runs/{owner}/{repo}/{run_id}", READERS, &[404]),
    get("/orgs", READERS, &[]),
    get("/scopes", READERS, &[]),
    get("/coverage", READERS, &[]),
    post("/jobs/{id}/end", KEEPERS, &[404]),
    get("/leases", WATCHERS, &[]),
    delete("/leases", KEEPERS, &[404, 409]),
    get("/global-block/entries", READERS, &[]),
    post("/global-block/entries", ADMINS, &[409]),
    delete("/global-block/entries/{id}", ADMINS, &[404, 409]),
    get("/events", READERS, &[]),
    get("/events/stream", READERS, &[]),
    get("/baselines", READERS, &[]),
    post("/baselines/draft", READERS, &[]),
    get("/baseline-scopes", READERS, &[]),
    get("/detections", READERS, &[]),
    get("/detections/{id}", READERS, &[404]),
    patch("/detections", WRITERS, &[404]),
    patch("/detections/{id}", WRITERS, &[404]),
    get("/detection-suppressions", READERS, &[]),
    post("/detection-suppressions", WRITERS, &[409]),
    delete("/detection-suppressions/{id}", WRITERS, &[404]),
    get("/gateways", READERS, &[]),
    get("/unidentified-sources", READERS, &[]),
    get("/stats/verdicts", READERS, &[]),
    get("/stats/refused", READERS, &[]),
    get("/stats/first-seen", READERS, &[]),
    get("/stats/policies", READERS, &[]),
    get("/tokens", ADMINS, &[]),
    post("/tokens", ADMINS, &[]),
    delete("/tokens/{id}", ADMINS, &[404]),
    get("/login-methods", OPEN, &[]),
    post("/login-attempts", OPEN, &[404]),
    post("/sessions", OPEN, &[401, 403, 404, 429]),
    get("/sessions", ADMINS, &[]),
    delete("/sessions/{id}", ADMINS, &[404]),
    get("/session", READERS, &[]),
    delete("/sessions/current", READERS, &[409]),
    get("/settings", ADMINS, &[]),
    get("/audit-log", READERS, &[]),
    get(WIRE_POLICY, READERS, &[404]),
    post(WIRE_POLICY, WRITERS, &[409]),
    delete(WIRE_POLICY, WRITERS, &[404]),
    post(WIRE_ATTACH, WRITERS, &[404, 409]),
    delete(WIRE_ATTACH, WRITERS, &[404]),
];

/// Where the Harden-Runner clients' Terraform provider has its policies.
const WIRE_POLICY: &str = "/v1/github/{owner}/actions/policies/{policyName}";
const WIRE_ATTACH: &str = "/v1/github/{owner}/actions/policies/{policyName}/attach";
/// How whole paths begin.
const WHOLE: &str = "/v1/";

impl Rule {
    /// Its path as it is served.
    pub(super) fn whole_path(&self) -> String {
        let before = if self.path.starts_with(WHOLE) { "" } else { PREFIX };
        format!("{before}{}", self.path)
    }
}

/// The rule of a route. `HEAD` is a `GET` whose body is left out.
pub(super) fn rule_of(method: &Method, path: &str) -> Option<&'static Rule> {
    let asked = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let path = path.strip_prefix(PREFIX).unwrap_or(path);
    RULES
        .iter()
        .find(|rule| rule.method == *asked && rule.path == path)
}

/// Stands before every route: asks who is calling, and lets only those pass who may.
pub(super) async fn guard(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // No route: the fallback says so.
        return next.run(request).await;
    };
    let Some(rule) = rule_of(request.method(), path.as_str()) else {
        return without_rule(request.method(), path.as_str());
    };
    let Who::Roles(roles) = rule.who else {
        return next.run(request).await;
    };
    let caller = match state
        .authenticator
        .authenticate(request.headers(), request.extensions())
        .await
    {
        Ok(caller) => caller,
        Err(refused) => return refused.into_response(),
    };
    if !roles.contains(&caller.role()) {
        return wrong_role(caller.role(), roles).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// What is not in the table is not asked: neither a method that a route does not know, nor a route that somebody forgot to
/// enter, nor one that was reached through another router, which puts its own path before ours.
fn without_rule(method: &Method, path: &str) -> Response {
    let inner = path.strip_prefix(PREFIX).unwrap_or(path);
    let known: Vec<&str> = RULES
        .iter()
        .filter(|rule| rule.path == inner)
        .map(|rule| match &rule.method {
            get if *get == Method::GET => "GET,HEAD",
            other => other.as_str(),
        })
        .collect();
    if known.is_empty() {
        tracing::error!(path, "a route without a rule was asked for, and refused");
        return errors::internal("nobody may use this route: it has no rule").into_response();
    }
    let detail = format!("{method} is not known at {path}; see {PREFIX}/openapi.json");
    let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, detail);
    ([(ALLOW, known.join(","))], refused).into_response()
}

fn wrong_role(role: Role, roles: &[Role]) -> Refused {
    let needed: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let elsewhere = match role {
        Role::Runner => "; a job registers, asks and ends at its gateway's runner API",
        Role::Gateway => "; a gateway has its own endpoints below /sync/v1",
        Role::Admin | Role::Editor | Role::Viewer | Role::Provisioner => "",
    };
    let detail = format!(
        "this is a token of role {}, and this needs {}{elsewhere}",
        role.as_str(),
        needed.join(" or ")
    );
    Refused::forbidden(detail)
}
