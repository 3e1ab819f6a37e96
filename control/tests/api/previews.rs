//! What attaching, detaching and deleting would do, and that what was shown is what is done.

use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, POLICY, of_owners};

const AUDIT: &str = "egress-policy: audit\n";
const LOCKDOWN: &str = "lockdown-mode: {enabled: true}\n";

async fn dry(bench: &Bench, name: &str, body: Value) -> Value {
    let before = bench.dump().await;
    let path = format!("/orgs/acme/policies/{name}/attachments?dry_run=true");
    let told = bench.post(&path).json(&body).ok().await.value();
    assert_eq!(bench.dump().await, before, "nothing is done");
    told
}

async fn attach(bench: &Bench, name: &str, scopes: &[&str]) {
    let path = format!("/orgs/acme/policies/{name}/attachments");
    bench.post(&path).json(&json!({"add": scopes})).ok().await;
}

#[tokio::test]
async fn a_preview_tells_who_loses_what_and_what_is_fallen_back_to() {
    let bench = Bench::new().await;
    for (name, yaml) in [("org", AUDIT), ("base", POLICY), ("strict", POLICY)] {
        bench.policy(name, yaml).await;
    }
    attach(&bench, "org", &["org:acme"]).await;
    attach(&bench, "base", &["repo:acme/web", "repo:acme/api"]).await;
    let told = dry(
        &bench,
        "strict",
        json!({"add": ["repo:acme/web", "repo:Acme/New"]}),
    )
    .await;
    assert_eq!(told["attach"], json!(["repo:acme/new", "repo:acme/web"]));
    assert_eq!(
        told["displaced"],
        json!([{"scope": "repo:acme/web", "policy": "base", "owner": "acme"}])
    );
    assert_eq!(told["falls_back"], json!([]));
    let told = dry(
        &bench,
        "base",
        json!({"remove": ["repo:acme/web"], "add": ["repo:acme/api"]}),
    )
    .await;
    assert_eq!(
        (&told["unchanged"], &told["detach"]),
        (&json!(["repo:acme/api"]), &json!(["repo:acme/web"]))
    );
    let to = json!({"scope": "org:acme", "owner": "acme", "policy": "org", "mode": "audit"});
    assert_eq!(told["falls_back"], json!([{"scope": "repo:acme/web", "to": to}]));
    let told = dry(&bench, "org", json!({"remove": ["org:acme"]})).await;
    assert_eq!(told["falls_back"], json!([{"scope": "org:acme", "to": null}]));
    let not_held = bench.post("/orgs/acme/policies/strict/attachments?dry_run=true");
    not_held
        .json(&json!({"remove": ["org:acme"]}))
        .refused(409, "conflict")
        .await;
}

#[tokio::test]
async fn a_preview_warns_as_the_change_itself_does() {
    let bench = Bench::new().await;
    for (name, yaml) in [("loose", AUDIT), ("strict", POLICY), ("lock", LOCKDOWN)] {
        bench.policy(name, yaml).await;
    }
    attach(&bench, "loose", &["repo:acme/web"]).await;
    let body = json!({"add": ["workflow:acme/web/ci.yml"]});
    let told = dry(&bench, "strict", body.clone()).await;
    let done = bench
        .post("/orgs/acme/policies/strict/attachments")
        .json(&body)
        .ok()
        .await
        .value();
    assert_eq!(told["warnings"], done["warnings"]);
    assert!(
        told["warnings"][0].as_str().unwrap().contains("stricter"),
        "{told}"
    );
    let told = dry(
        &bench,
        "lock",
        json!({"add": ["workflow:acme/web/ci.yml"], "replace": true}),
    )
    .await;
    assert!(
        told["warnings"][0]
            .as_str()
            .unwrap()
            .contains("decides only lockdown"),
        "{told}"
    );
    assert_eq!(told["falls_back"][0]["to"]["policy"], "loose", "{told}");
}

#[tokio::test]
async fn a_change_that_is_not_what_was_shown_is_refused() {
    let bench = Bench::new().await;
    for name in ["base", "strict", "third"] {
        bench.policy(name, POLICY).await;
    }
    attach(&bench, "base", &["repo:acme/web"]).await;
    let body = json!({"add": ["repo:acme/web"]});
    let shown = dry(&bench, "strict", body).await["shown"].clone();
    let confirm = json!({"add": ["repo:acme/web"], "replace": true, "shown": shown});
    // Somebody else takes the scope in between.
    let taken = json!({"add": ["repo:acme/web"], "replace": true});
    bench
        .post("/orgs/acme/policies/third/attachments")
        .json(&taken)
        .ok()
        .await;
    let path = "/orgs/acme/policies/strict/attachments";
    let told = bench.post(path).json(&confirm).refused(409, "conflict").await;
    assert!(told.detail().contains("not as it was shown"), "{told:?}");
    let shown = dry(&bench, "strict", json!({"add": ["repo:acme/web"]})).await["shown"].clone();
    let confirm = json!({"add": ["repo:acme/web"], "replace": true, "shown": shown});
    let done = bench.post(path).json(&confirm).ok().await.value();
    assert_eq!(done["displaced"][0]["policy"], "third");
}

#[tokio::test]
async fn a_detachment_is_refused_when_jobs_would_fall_back_to_something_else_than_was_shown() {
    let bench = Bench::new().await;
    for (name, yaml) in [("org", AUDIT), ("base", POLICY)] {
        bench.policy(name, yaml).await;
    }
    attach(&bench, "org", &["org:acme"]).await;
    attach(&bench, "base", &["repo:acme/web"]).await;
    let body = json!({"remove": ["repo:acme/web"]});
    let shown = dry(&bench, "base", body).await["shown"].clone();
    let leave = json!({"remove": ["org:acme"]});
    bench
        .post("/orgs/acme/policies/org/attachments")
        .json(&leave)
        .ok()
        .await;
    let confirm = json!({"remove": ["repo:acme/web"], "shown": shown});
    let path = "/orgs/acme/policies/base/attachments";
    let told = bench.post(path).json(&confirm).refused(409, "conflict").await;
    assert!(told.detail().contains("fall back to"), "{told:?}");
}

#[tokio::test]
async fn a_deletion_is_shown_and_refuses_what_was_attached_since() {
    let bench = Bench::new().await;
    bench.policy("org", AUDIT).await;
    bench.policy("base", POLICY).await;
    attach(&bench, "org", &["org:acme"]).await;
    attach(&bench, "base", &["repo:acme/web"]).await;
    let path = "/orgs/acme/policies/base";
    let before = bench.dump().await;
    let told = bench.delete(&format!("{path}?dry_run=true")).ok().await.value();
    assert_eq!(bench.dump().await, before);
    assert_eq!(told["detached"], json!(["repo:acme/web"]));
    assert_eq!(told["falls_back"][0]["to"]["policy"], "org");
    let shown = told["shown"].as_str().unwrap().to_owned();
    attach(&bench, "base", &["repo:acme/late"]).await;
    bench
        .delete(&format!("{path}?shown={shown}"))
        .refused(409, "conflict")
        .await;
    let told = bench.delete(&format!("{path}?dry_run=true")).ok().await.value();
    let shown = told["shown"].as_str().unwrap();
    let done = bench.delete(&format!("{path}?shown={shown}")).ok().await.value();
    assert_eq!(done["detached"], json!(["repo:acme/late", "repo:acme/web"]));
}

#[tokio::test]
async fn a_thousand_long_scopes_fit_and_one_more_does_not() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let scopes: Vec<String> = (0..1_001)
        .map(|at| format!("workflow:acme/{:0>90}/{at}.yml", "r"))
        .collect();
    let told = dry(&bench, "base", json!({"add": scopes[..1_000]})).await;
    assert_eq!(told["attach"].as_array().unwrap().len(), 1_000);
    let path = "/orgs/acme/policies/base/attachments?dry_run=true";
    bench
        .post(path)
        .json(&json!({"add": scopes}))
        .refused(422, "invalid")
        .await;
}

#[tokio::test]
async fn an_impact_is_told_for_each_policy_that_jobs_would_get() {
    let bench = Bench::new().await;
    for (name, yaml) in [("org", AUDIT), ("base", POLICY), ("lock", LOCKDOWN)] {
        bench.policy(name, yaml).await;
    }
    attach(&bench, "org", &["org:acme"]).await;
    let base = json!({"owner": "acme", "name": "base"});
    let changes = json!({"changes": [
        {"scope": "repo:acme/web", "policy": base},
        {"scope": "repo:acme/api", "policy": base},
        {"scope": "repo:acme/old", "policy": null},
        {"scope": "repo:acme/lock", "policy": {"owner": "acme", "name": "lock"}},
        {"scope": "repo:other/x", "policy": null},
    ]});
    let told = bench.post("/simulate").json(&changes).ok().await.value();
    let tried: Vec<_> = told["simulations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["policy"]["name"].as_str().unwrap(), one["scopes"].clone()))
        .collect();
    assert_eq!(
        tried,
        [
            ("base", json!(["repo:acme/api", "repo:acme/web"])),
            ("org", json!(["repo:acme/lock", "repo:acme/old"])),
        ]
    );
    assert_eq!(
        (&told["no_policy"], &told["unseen"]),
        (&json!([]), &json!(["repo:other/x"]))
    );
    let text = json!({"changes": [{"scope": "repo:acme/web", "policy": {"owner": "acme", "name": "base", "yaml": AUDIT}}]});
    let told = bench.post("/simulate").json(&text).ok().await.value();
    assert_eq!(told["simulations"][0]["policy"]["mode"], "audit");
    let switched = json!({"changes": [{"scope": "repo:acme/web", "policy": {"owner": "acme", "name": "base", "mode": "audit"}}]});
    let told = bench.post("/simulate").json(&switched).ok().await.value();
    assert_eq!(
        told["simulations"][0]["policy"],
        json!({"name": "base", "mode": "audit"})
    );
    bench
        .post("/simulate")
        .json(&json!({"changes": []}))
        .refused(422, "invalid")
        .await;
    let unknown = json!({"changes": [{"scope": "org:acme", "policy": {"owner": "acme", "name": "none"}}]});
    bench
        .post("/simulate")
        .json(&unknown)
        .refused(404, "not-found")
        .await;
    let limited = bench.token(&of_owners(Role::Viewer, "beta", &["beta"])).await;
    bench
        .post("/simulate")
        .by(&limited)
        .json(&changes)
        .refused(403, "forbidden")
        .await;
}

#[tokio::test]
async fn more_policies_than_are_tried_are_named() {
    let bench = Bench::new().await;
    let mut changes = Vec::new();
    bench.policy("base", POLICY).await;
    for at in 0..102 {
        let yaml = format!("{POLICY}# {at}\n");
        let policy = json!({"owner": "acme", "name": "base", "yaml": yaml});
        changes.push(json!({"scope": format!("repo:acme/r{at}"), "policy": policy}));
    }
    let told = bench
        .post("/simulate")
        .json(&json!({"changes": changes}))
        .ok()
        .await
        .value();
    assert_eq!(told["simulations"].as_array().unwrap().len(), 100);
    assert_eq!(told["left_out"].as_array().unwrap().len(), 2);
}
