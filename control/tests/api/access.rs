//! Who may do what: every operation with every role, and tokens that are limited to owners.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use serde_json::json;
use tidegate_control::model::{NewToken, Role};

use crate::bench::{Bench, POLICY, of_owners, wanted};
use crate::documented::operations;

/// Roles by operation, by their first letters; `*` needs no token. Written down once more, apart from the code's own
/// table, as interface.md and the brief of roles have it.
const MATRIX: &[(&str, &str)] = &[
    ("GET /healthz", "*"),
    ("GET /readyz", "*"),
    ("GET /version", "*"),
    ("GET /openapi.json", "*"),
    ("GET /orgs/{owner}/policies", "aev"),
    ("POST /orgs/{owner}/policies", "ae"),
    ("GET /orgs/{owner}/policies/{name}", "aev"),
    ("PUT /orgs/{owner}/policies/{name}", "ae"),
    ("DELETE /orgs/{owner}/policies/{name}", "ae"),
    ("GET /orgs/{owner}/policies/{name}/history", "aev"),
    ("GET /orgs/{owner}/policies/{name}/versions", "aev"),
    ("GET /orgs/{owner}/policies/{name}/versions/{version}", "aev"),
    ("GET /orgs/{owner}/policies/{name}/diff", "aev"),
    ("POST /orgs/{owner}/policies/{name}/rollback", "ae"),
    ("POST /orgs/{owner}/policies/{name}/attachments", "ae"),
    ("POST /orgs/{owner}/policies/{name}/simulate", "aev"),
    ("POST /orgs/{owner}/policies/{name}/propose", "aev"),
    ("GET /orgs/{owner}/endpoint-sets", "aev"),
    ("GET /orgs/{owner}/endpoint-sets/{name}", "aev"),
    ("PUT /orgs/{owner}/endpoint-sets/{name}", "ae"),
    ("DELETE /orgs/{owner}/endpoint-sets/{name}", "ae"),
    ("POST /orgs/{owner}/endpoint-sets/{name}/propose", "aev"),
    ("POST /check", "aev"),
    ("POST /simulate", "aev"),
    ("GET /effective", "aev"),
    ("GET /jobs", "aevp"),
    ("POST /jobs", "ap"),
    ("GET /jobs/{id}", "aevp"),
    ("POST /jobs/{id}/end", "ap"),
    ("GET /jobs/{id}/events", "aev"),
    ("GET /jobs/{id}/summary.md", "aev"),
    ("GET /jobs/{id}/summary", "aev"),
    ("GET /jobs/{id}/effective", "aev"),
    ("GET /jobs/{id}/endpoints", "aev"),
    ("GET /runs", "aev"),
    ("GET /runs/{owner}/{repo}/{run_id}", "aev"),
    ("GET /orgs", "aev"),
    ("GET /scopes", "aev"),
    ("GET /coverage", "aev"),
    ("GET /events", "aev"),
    ("GET /events/stream", "aev"),
    ("GET /leases", "aevp"),
    ("DELETE /leases", "ap"),
    ("GET /global-block/entries", "aev"),
    ("POST /global-block/entries", "a"),
    ("DELETE /global-block/entries/{id}", "a"),
    ("GET /baselines", "aev"),
    ("POST /baselines/draft", "aev"),
    ("GET /baseline-scopes", "aev"),
    ("GET /detections", "aev"),
    ("GET /detections/{id}", "aev"),
    ("PATCH /detections", "ae"),
    ("PATCH /detections/{id}", "ae"),
    ("GET /detection-suppressions", "aev"),
    ("POST /detection-suppressions", "ae"),
    ("DELETE /detection-suppressions/{id}", "ae"),
    ("GET /gateways", "aev"),
    ("GET /unidentified-sources", "aev"),
    ("GET /stats/verdicts", "aev"),
    ("GET /stats/refused", "aev"),
    ("GET /stats/first-seen", "aev"),
    ("GET /stats/policies", "aev"),
    ("GET /tokens", "a"),
    ("POST /tokens", "a"),
    ("DELETE /tokens/{id}", "a"),
    ("GET /settings", "a"),
    ("GET /login-methods", "*"),
    ("POST /login-attempts", "*"),
    ("POST /sessions", "*"),
    ("GET /sessions", "a"),
    ("DELETE /sessions/{id}", "a"),
    ("GET /session", "aev"),
    ("DELETE /sessions/current", "aev"),
    ("GET /audit-log", "aev"),
    ("GET /v1/github/{owner}/actions/policies/{policyName}", "aev"),
    ("POST /v1/github/{owner}/actions/policies/{policyName}", "ae"),
    ("DELETE /v1/github/{owner}/actions/policies/{policyName}", "ae"),
    (
        "POST /v1/github/{owner}/actions/policies/{policyName}/attach",
        "ae",
    ),
    (
        "DELETE /v1/github/{owner}/actions/policies/{policyName}/attach",
        "ae",
    ),
];

fn letter(role: Role) -> char {
    role.as_str().chars().next().unwrap()
}

#[tokio::test]
async fn every_operation_is_for_the_roles_that_the_matrix_names_and_no_others() {
    let bench = Bench::new().await;
    let matrix: BTreeMap<&str, &str> = MATRIX.iter().copied().collect();
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((role, bench.token(&wanted(role, role.as_str())).await));
    }
    let documented: Vec<(Method, String)> = operations()
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    assert_eq!(
        documented.len(),
        MATRIX.len(),
        "every documented operation is in the matrix"
    );
    for (method, path) in documented {
        // What foreign clients ask for stands beside.
        let path = path.strip_prefix("/api/v1").unwrap_or(&path).to_owned();
        let who = matrix
            .get(format!("{method} {path}").as_str())
            .unwrap_or_else(|| panic!("{method} {path} is not in the matrix"));
        let concrete = path
            .replace("{owner}", "acme")
            .replace("{name}", "nothing")
            .replace("{policyName}", "nothing")
            .replace("{version}", "1")
            .replace("{repo}", "web")
            .replace("{run_id}", "1")
            .replace("{id}", "nothing");
        let stranger = bench.call(method.clone(), &concrete).anonymous().send().await;
        assert_eq!(
            stranger.status == 401,
            *who != "*",
            "{method} {path} without a token: {stranger:?}"
        );
        for (role, token) in &tokens {
            let answer = bench.call(method.clone(), &concrete).by(token).send().await;
            let may = *who == "*" || who.contains(letter(*role));
            let what = format!("{method} {path} by {}: {answer:?}", role.as_str());
            if may {
                assert!(!matches!(answer.status, 401 | 403 | 500..), "{what}");
            } else {
                assert_eq!(answer.status, 403, "{what}");
                assert_eq!(answer.value()["code"], "forbidden", "{what}");
                assert!(answer.detail().contains(role.as_str()), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_runner_is_told_where_to_go() {
    let bench = Bench::new().await;
    let runner = bench.token(&wanted(Role::Runner, "runner")).await;
    let told = bench.post("/jobs").by(&runner).refused(403, "forbidden").await;
    assert!(told.detail().contains("runner API"), "{told:?}");
}

#[tokio::test]
async fn a_limited_editor_writes_for_its_owners_only() {
    let bench = Bench::new().await;
    let editor = bench
        .token(&of_owners(Role::Editor, "acme-editor", &["acme"]))
        .await;
    let new = json!({"name": "base", "yaml": POLICY});
    bench
        .post("/orgs/Acme/policies")
        .by(&editor)
        .json(&new)
        .expect(StatusCode::CREATED)
        .await;
    let told = bench
        .post("/orgs/other/policies")
        .by(&editor)
        .json(&new)
        .refused(403, "forbidden")
        .await;
    assert!(
        told.detail().contains("\"other\"") && told.detail().contains("acme-editor"),
        "{told:?}"
    );
    for path in [
        "/orgs/other/policies",
        "/orgs/other/policies/base",
        "/orgs/other/endpoint-sets",
    ] {
        bench.get(path).by(&editor).refused(403, "forbidden").await;
    }
    bench
        .put("/orgs/other/endpoint-sets/corp")
        .by(&editor)
        .yaml("[a.test]")
        .refused(403, "forbidden")
        .await;
    bench
        .get("/effective?owner=other")
        .by(&editor)
        .refused(403, "forbidden")
        .await;
    bench
        .get("/effective?cluster=prod")
        .by(&editor)
        .refused(403, "forbidden")
        .await;
    let check = json!({"owner": "other", "yaml": POLICY});
    bench
        .post("/check")
        .by(&editor)
        .json(&check)
        .refused(403, "forbidden")
        .await;
}

#[tokio::test]
async fn a_limited_editor_attaches_to_its_owners_scopes_only() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let editor = bench
        .token(&of_owners(Role::Editor, "acme-editor", &["acme"]))
        .await;
    let attach = |change: serde_json::Value| {
        bench
            .post("/orgs/acme/policies/base/attachments")
            .by(&editor)
            .json(&change)
    };
    attach(json!({"add": ["repo:Acme/Web", "org:acme"]})).ok().await;
    for foreign in [
        "org:other",
        "repo:other/web",
        "workflow:other/web/ci.yml",
        "cluster:prod",
    ] {
        let told = attach(json!({"add": [foreign]})).refused(403, "forbidden").await;
        let name = foreign.split([':', '/']).nth(1).unwrap();
        assert!(told.detail().contains(name), "{told:?}");
        attach(json!({"remove": [foreign]}))
            .refused(403, "forbidden")
            .await;
    }
    let on_cluster = json!({"add": ["cluster:prod"]});
    bench
        .post("/orgs/acme/policies/base/attachments")
        .json(&on_cluster)
        .ok()
        .await;
    let told = bench
        .delete("/orgs/acme/policies/base")
        .by(&editor)
        .refused(403, "forbidden")
        .await;
    assert!(told.detail().contains("cluster:prod"), "{told:?}");
}

#[tokio::test]
async fn a_limited_viewer_reads_its_owners_and_says_which_when_it_has_several() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let one = bench.token(&of_owners(Role::Viewer, "one", &["acme"])).await;
    let two = bench
        .token(&of_owners(Role::Viewer, "two", &["acme", "beta"]))
        .await;
    let log = bench.get("/audit-log").by(&one).ok().await.value();
    let owners: Vec<&str> = log["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["owner"].as_str().unwrap())
        .collect();
    assert!(
        !owners.is_empty() && owners.iter().all(|owner| *owner == "acme"),
        "{owners:?}"
    );
    let told = bench.get("/audit-log").by(&two).refused(403, "forbidden").await;
    assert!(told.detail().contains("acme, beta"), "{told:?}");
    bench.get("/audit-log?owner=Acme").by(&two).ok().await;
    bench
        .get("/audit-log?owner=other")
        .by(&two)
        .refused(403, "forbidden")
        .await;
    bench
        .get("/jobs?owner=other")
        .by(&two)
        .refused(403, "forbidden")
        .await;
    bench.get("/jobs").by(&two).ok().await;
}

#[tokio::test]
async fn a_limited_admin_can_not_make_itself_more() {
    let bench = Bench::new().await;
    let admin = bench
        .token(&of_owners(Role::Admin, "acme-admin", &["acme"]))
        .await;
    let make = |token: NewToken| {
        bench
            .post("/tokens")
            .by(&admin)
            .json(&serde_json::to_value(token).unwrap())
    };
    make(wanted(Role::Admin, "more")).refused(403, "forbidden").await;
    make(of_owners(Role::Editor, "more", &["acme", "other"]))
        .refused(403, "forbidden")
        .await;
    make(of_owners(Role::Gateway, "gw-1", &["acme"]))
        .refused(403, "forbidden")
        .await;
    make(of_owners(Role::Provisioner, "pool", &["acme"]))
        .refused(403, "forbidden")
        .await;
    let runner = NewToken {
        owners: Vec::new(),
        repos: vec!["other/web".into()],
        ..wanted(Role::Runner, "more")
    };
    make(runner).refused(403, "forbidden").await;
    make(of_owners(Role::Editor, "fine", &["Acme"]))
        .expect(StatusCode::CREATED)
        .await;
    let entry = json!({"pattern": "evil.test", "reason": "x"});
    bench
        .post("/global-block/entries")
        .by(&admin)
        .json(&entry)
        .refused(403, "forbidden")
        .await;
    bench
        .delete("/global-block/entries/x")
        .by(&admin)
        .refused(403, "forbidden")
        .await;
    let seen = bench.get("/tokens").by(&admin).ok().await.value();
    let names: Vec<&str> = seen["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["acme-admin", "fine"], "not those of others");
    let all = bench.get("/tokens").ok().await.value();
    let root = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "root")
        .unwrap();
    let path = format!("/tokens/{}", root["id"].as_str().unwrap());
    bench.delete(&path).by(&admin).refused(404, "not-found").await;
}

#[tokio::test]
async fn a_request_that_came_through_another_router_is_refused_whatever_it_shows() {
    let bench = Bench::new().await;
    let api = bench.router();
    // Its matched path is put before ours: no rule is found, and nothing may be answered without one.
    let careless = axum::Router::new().route(
        "/outer/{*rest}",
        axum::routing::any(async move |mut request: axum::extract::Request| {
            *request.uri_mut() = "/api/v1/gateways".parse().unwrap();
            tower::ServiceExt::oneshot(api, request).await
        }),
    );
    for path in ["/outer/x", "/outer/x?y"] {
        let request = axum::http::Request::get(path)
            .body(axum::body::Body::empty())
            .unwrap();
        let answer = tower::ServiceExt::oneshot(careless.clone(), request)
            .await
            .unwrap();
        assert!(!answer.status().is_success(), "{path}: {answer:?}");
    }
}
