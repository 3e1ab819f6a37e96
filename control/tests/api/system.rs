//! The control plane itself.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_control::api::Deployment;
use tidegate_control::config::ControlConfig;
use tidegate_control::model::{AuditEntry, Role};
use tidegate_control::oidc::{Keeper, Pace, REFRESH};
use tidegate_control::store::chain;

use crate::bench::{Bench, POLICY, of_owners};
use crate::documented::document;

#[tokio::test]
async fn it_is_there_and_says_what_it_is() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/healthz").ok().await.value(), json!({"status": "ok"}));
    assert_eq!(bench.get("/readyz").ok().await.value(), json!({"status": "ok"}));
    let version = bench.get("/version").ok().await.value();
    assert_eq!(
        (version["api"].as_str(), version["protocol"].as_u64()),
        (Some("v1"), Some(1))
    );
    bench.call(Method::HEAD, "/healthz").expect(StatusCode::OK).await;
}

#[tokio::test]
async fn the_document_is_served_to_everybody() {
    let bench = Bench::new().await;
    let served = bench.get("/openapi.json").anonymous().ok().await;
    assert_eq!(served.value(), *document());
}

#[tokio::test]
async fn gateways_are_listed_with_whether_they_are_connected() {
    let bench = Bench::new().await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    let told = bench.get("/gateways").ok().await.value();
    assert_eq!(told["items"][0]["name"], "gw-1");
    assert_eq!(told["items"][0]["connected"], false);
    assert_eq!(told["next"], json!(null));
}

#[tokio::test]
async fn a_limited_token_is_not_told_what_gateways_do_for_others() {
    let bench = Bench::new().await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    crate::coverage::job(&bench, "beta/x", "ci.yml", "10.77.0.1", json!({})).await;
    bench.token(&of_owners(Role::Gateway, "gw-1", &[])).await;
    let codes = |gateway: &Value| {
        let all = gateway["degraded"].as_array().unwrap().iter();
        all.map(|one| one["code"].clone()).collect::<Vec<_>>()
    };
    let told = bench.get("/gateways").ok().await.value();
    let gateway = &told["items"][0];
    assert_eq!(told["limited"], false);
    assert_eq!(gateway["leases"], 1);
    assert!(gateway["token"].is_object(), "{gateway}");
    bench.gateway("gw-2", "pods", "10.78.0.0/16").await;
    let told = bench.get("/gateways?search=gw-2").ok().await.value();
    assert!(codes(&told["items"][0]).contains(&json!("token")), "{told}");

    let acme = bench.token(&of_owners(Role::Viewer, "acme", &["acme"])).await;
    let told = bench.get("/gateways").by(&acme).ok().await.value();
    assert_eq!(told["limited"], true);
    assert_eq!(told["counters"]["all"], 2);
    for gateway in told["items"].as_array().unwrap() {
        assert_eq!(gateway["leases"], 0, "{gateway}");
        assert!(gateway["token"].is_null(), "{gateway}");
        assert_eq!(gateway["drops"], json!({"today": 0, "week": 0}));
        assert_eq!(gateway["spool"], json!([]));
        assert!(!codes(gateway).contains(&json!("token")), "{gateway}");
    }
}

#[tokio::test]
async fn the_audit_log_comes_in_both_orders_and_its_chain_is_verified_from_outside() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.policy(name, POLICY).await;
    }
    let newest = bench.get("/audit-log").ok().await.value();
    assert_eq!(newest["items"][0]["target"], "policy acme/c");
    let mut entries: Vec<AuditEntry> = Vec::new();
    let mut path = "/audit-log?order=asc&limit=2".to_owned();
    loop {
        let page = bench.get(&path).ok().await.value();
        entries.extend(serde_json::from_value::<Vec<AuditEntry>>(page["items"].clone()).unwrap());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/audit-log?order=asc&limit=2&after={next}");
    }
    let head = chain::verify(&entries).unwrap();
    assert_eq!(head.seq, entries.len() as u64);
    entries[1].detail["mode"] = json!("audit");
    chain::verify(&entries).unwrap_err();
    bench.get("/audit-log?order=up").refused(400, "invalid").await;
    bench.get("/audit-log?after=x").refused(400, "invalid").await;
}

#[tokio::test]
async fn the_audit_log_is_asked_by_who_what_and_when() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let viewer = bench.token(&of_owners(Role::Viewer, "v", &["acme"])).await;
    let found = async |query: &str, token: Option<&str>| {
        let mut call = bench.get(&format!("/audit-log?{query}"));
        if let Some(token) = token {
            call = call.by(token);
        }
        let page = call.ok().await.value();
        let items = page["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|one| one["action"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("action=policy.*", None).await, ["policy.created"]);
    assert_eq!(
        found("actor=root&target=policy%20acme/base", None).await,
        ["policy.created"]
    );
    assert_eq!(found("actor=root&via=cli", None).await, [""; 0]);
    assert_eq!(
        found("actor=test&order=asc&limit=1", None).await,
        ["token.created"]
    );
    assert_eq!(
        found("actor=&action=&target=policy*", None).await,
        ["policy.created"],
        "what is empty asks nothing"
    );
    assert_eq!(found("until=2001-01-01T00:00:00Z", None).await, [""; 0]);
    assert_eq!(
        found("action=*", Some(&viewer)).await,
        ["policy.created"],
        "its own owner only"
    );
    bench.get("/audit-log?since=soon").refused(400, "invalid").await;
    bench
        .get("/audit-log?actr=root")
        .refused(400, "unknown-field")
        .await;
    bench.get("/audit-log?target=a%00b").refused(400, "invalid").await;
}

#[tokio::test]
async fn settings_are_for_admins_of_everybody() {
    let bench = Bench::new().await;
    let told = bench.get("/settings").ok().await.value();
    assert_eq!(
        told["configured"],
        json!(null),
        "this API was started without a file"
    );
    assert!(told["store"].as_str().unwrap().starts_with("sqlite://"), "{told}");
    assert!(told["epoch"].as_str().unwrap().len() > 20, "{told}");
    let limited = bench
        .token(&of_owners(Role::Admin, "acme-admin", &["acme"]))
        .await;
    bench
        .get("/settings")
        .by(&limited)
        .refused(403, "forbidden")
        .await;
}

#[tokio::test]
async fn settings_say_what_is_configured_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hush-hush\n").unwrap();
    let text = "version: 1\ncontrol:\n  store: postgres://user:pass@db.example.test/tg\n  strict: true\n  public-url: https://t.example.test\n  oidc:\n    \
                - {issuer: \"https://forge.example.test\", audience: tidegate, owners: [acme]}\n  login:\n    \
                issuer: https://id.example.test\n    client-id: t\n    client-secret-file: secret\n    \
                groups: [{group: sec, role: admin}]\n";
    let config = ControlConfig::parse(text, &folder.path().join("tidegate.yaml"), None).unwrap();
    let (publish, _taken) = tokio::sync::mpsc::channel(1);
    let keeper = Keeper::new(config.oidc.clone(), Vec::new(), Pace::every(REFRESH), publish).unwrap();
    let deployment = Deployment {
        config,
        issuers: keeper.handle(),
        feed: None,
    };
    let bench = Bench::made(|state| state.with_deployment(deployment)).await;
    let answer = bench.get("/settings").ok().await;
    let told = &answer.value()["configured"];
    assert_eq!((&told["strict"], &told["tls"]), (&json!(true), &json!(false)));
    assert_eq!(told["public_url"], "https://t.example.test");
    assert_eq!(told["retention"]["events_seconds"], 30 * 86_400);
    assert_eq!(told["oidc"][0]["issuer"], "https://forge.example.test");
    assert_eq!(
        (&told["oidc"][0]["keys"], &told["oidc"][0]["fetched_at"]),
        (&json!(0), &json!(null))
    );
    assert_eq!(
        (&told["login"]["secret"], &told["login"]["groups"][0]["role"]),
        (&json!(true), &json!("admin"))
    );
    for secret in ["hush-hush", "pass@"] {
        assert!(!answer.text.contains(secret), "{answer:?}");
    }
}
