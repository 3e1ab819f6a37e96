//! Precedence, and checking without storing.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, POLICY, of_owners};
use crate::coverage::{attach, job, strict_gateway};

async fn attached(bench: &Bench, name: &str, yaml: &str, scope: &str) {
    bench.policy(name, yaml).await;
    let path = format!("/orgs/acme/policies/{name}/attachments");
    bench.post(&path).json(&json!({"add": [scope]})).ok().await;
}

#[tokio::test]
async fn the_narrowest_scope_decides_each_facet_and_all_are_told() {
    let bench = Bench::new().await;
    attached(&bench, "org", POLICY, "org:acme").await;
    attached(
        &bench,
        "lock",
        "lockdown-mode: {enabled: true}\n",
        "repo:acme/web",
    )
    .await;
    attached(&bench, "fleet", "egress-policy: audit\n", "cluster:prod").await;
    let told = bench
        .get("/effective?repo=Acme/Web&workflow=ci.yml&cluster=prod")
        .ok()
        .await
        .value();
    assert_eq!(told["egress"]["scope"], "org:acme");
    assert_eq!(told["egress"]["policy"]["name"], "org");
    assert_eq!(told["egress"]["policy"]["mode"], "block");
    assert_eq!(told["egress"]["policy"]["version"], 1);
    assert_eq!(
        (&told["lockdown"]["scope"], &told["lockdown"]["policy"]["name"]),
        (&json!("repo:acme/web"), &json!("lock"))
    );
    let considered: Vec<(&str, Option<&str>)> = told["considered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["scope"].as_str().unwrap(), one["policy"]["name"].as_str()))
        .collect();
    assert_eq!(
        considered,
        [
            ("workflow:acme/web/ci.yml", None),
            ("repo:acme/web", Some("lock")),
            ("org:acme", Some("org")),
            ("cluster:prod", Some("fleet")),
        ]
    );
    let other = bench.get("/effective?owner=beta&cluster=prod").ok().await.value();
    assert_eq!(other["egress"]["scope"], "cluster:prod");
    let nobody = bench.get("/effective?owner=beta").ok().await.value();
    assert_eq!(nobody["egress"], json!({"policy": null, "scope": null}));
}

#[tokio::test]
async fn a_limited_token_is_told_of_clusters_that_its_jobs_were_in() {
    let bench = Bench::new().await;
    strict_gateway(&bench, "gw-1", "strict", "10.78.0.0/16").await;
    job(&bench, "beta/x", "", "10.78.0.1", json!({})).await;
    let beta = bench.token(&of_owners(Role::Viewer, "beta", &["beta"])).await;
    bench.policy("fleet", POLICY).await;
    attach(&bench, "fleet", "cluster:prod").await;
    attach(&bench, "fleet", "cluster:other").await;
    let asked = |cluster: &str| bench.get(&format!("/effective?repo=beta/x&cluster={cluster}"));
    let told = asked("prod").by(&beta).ok().await.value();
    assert_eq!(told["egress"]["scope"], "cluster:prod");
    let told = asked("other").by(&beta).refused(403, "forbidden").await;
    assert!(!told.detail().contains("fleet"), "{told:?}");
    assert_eq!(
        asked("other").ok().await.value()["egress"]["policy"]["name"],
        "fleet"
    );
    bench.get("/effective?repo=beta/x").by(&beta).ok().await;
}

#[tokio::test]
async fn what_was_just_written_is_what_is_effective() {
    let bench = Bench::new().await;
    attached(&bench, "base", POLICY, "repo:acme/web").await;
    let now = async || bench.get("/effective?repo=acme/web").ok().await.value()["egress"]["policy"].clone();
    for version in 2..30 {
        let change = bench
            .put("/orgs/acme/policies/base")
            .header("if-match", "*")
            .json(&json!({"yaml": POLICY}));
        change.ok().await;
        assert_eq!(now().await["version"], version);
    }
    let detach = json!({"remove": ["repo:acme/web"]});
    bench
        .post("/orgs/acme/policies/base/attachments")
        .json(&detach)
        .ok()
        .await;
    assert_eq!(now().await, Value::Null);
}

#[tokio::test]
async fn whose_policy_has_to_be_said_in_a_way_that_makes_sense() {
    let bench = Bench::new().await;
    for (query, field) in [
        ("", "owner"),
        ("?repo=web", "repo"),
        ("?owner=acme&repo=beta/web", "repo"),
        ("?repo=acme/", "repo"),
        ("?repo=acme/web/x", "repo"),
        ("?owner=acme/web", "owner"),
        ("?owner=acme&workflow=ci.yml", "workflow"),
        ("?repo=acme/web&workflow=.github/workflows/ci.yml", "workflow"),
    ] {
        let told = bench
            .get(&format!("/effective{query}"))
            .refused(400, "invalid")
            .await;
        assert_eq!(told.value()["field"], field, "{query}: {told:?}");
    }
    let told = bench
        .get("/effective?onwer=acme")
        .refused(400, "unknown-field")
        .await;
    assert!(told.detail().contains("did you mean `owner`?"), "{told:?}");
}

#[tokio::test]
async fn a_check_says_what_tidegate_check_says_and_stores_nothing() {
    let bench = Bench::new().await;
    bench
        .put("/orgs/acme/endpoint-sets/corp")
        .yaml("[a.test]")
        .expect(StatusCode::CREATED)
        .await;
    let before = bench.dump().await;
    let check = async |yaml: &str| {
        bench
            .post("/check")
            .json(&json!({"owner": "acme", "yaml": yaml}))
            .ok()
            .await
            .value()
    };
    let told = check(&format!("{POLICY}use: [corp]\n")).await;
    assert_eq!(
        (&told["ok"], &told["diagnostics"], &told["rendered"]),
        (&json!(true), &json!([]), &json!(""))
    );
    assert_eq!(
        (&told["parsed"]["egress-policy"], &told["parsed"]["use"]),
        (&json!("block"), &json!(["corp"]))
    );
    let told = check("egress-policy: blok\nuse: [crop]\n").await;
    assert_eq!(told["ok"], false);
    let told = check("egress-policy: block\nuse: [crop]\n").await;
    assert_eq!(
        (
            told["diagnostics"][0]["line"].as_u64(),
            told["diagnostics"][0]["column"].as_u64()
        ),
        (Some(2), Some(7))
    );
    let rendered = told["rendered"].as_str().unwrap();
    assert!(
        rendered.contains("--> document:2:7") && rendered.contains("^^^^"),
        "{rendered}"
    );
    assert_eq!(told["diagnostics"][0]["hint"], "did you mean `corp`?");
    let set = json!({"owner": "acme", "yaml": "[a.test, \"b.test:x\"]", "kind": "endpoint-set"});
    assert_eq!(bench.post("/check").json(&set).ok().await.value()["ok"], false);
    assert_eq!(bench.dump().await, before);
}
