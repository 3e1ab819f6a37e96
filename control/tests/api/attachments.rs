//! Attaching and detaching.

use serde_json::{Value, json};

use crate::bench::{Bench, POLICY};

async fn attach(bench: &Bench, name: &str, change: Value) -> Value {
    let path = format!("/orgs/acme/policies/{name}/attachments");
    bench.post(&path).json(&change).ok().await.value()
}

#[tokio::test]
async fn a_scope_that_is_held_is_a_conflict_that_names_the_holder_and_replace_takes_it() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    bench.policy("strict", POLICY).await;
    let told = attach(&bench, "base", json!({"add": ["repo:Acme/Web", "org:acme"]})).await;
    assert_eq!(
        told["policy"]["attachments"],
        json!(["org:acme", "repo:acme/web"])
    );
    let again = attach(&bench, "base", json!({"add": ["org:acme"]})).await;
    assert_eq!(again["displaced"], json!([]), "what it holds already is no error");
    let path = "/orgs/acme/policies/strict/attachments";
    let told = bench
        .post(path)
        .json(&json!({"add": ["org:acme", "org:beta"]}))
        .refused(409, "conflict")
        .await;
    assert!(
        told.detail().contains("base") && told.detail().contains("org:acme"),
        "{told:?}"
    );
    let taken = attach(&bench, "strict", json!({"add": ["org:acme"], "replace": true})).await;
    assert_eq!(
        taken["displaced"],
        json!([{"scope": "org:acme", "policy": "base", "owner": "acme"}])
    );
    let left = attach(&bench, "strict", json!({"remove": ["org:acme"]})).await;
    assert_eq!(left["policy"]["attachments"], json!([]));
}

#[tokio::test]
async fn a_workflow_that_is_stricter_than_its_repository_is_warned_of() {
    let bench = Bench::new().await;
    bench.policy("loose", "egress-policy: audit\n").await;
    bench.policy("strict", POLICY).await;
    attach(&bench, "loose", json!({"add": ["repo:acme/web"]})).await;
    let told = attach(&bench, "strict", json!({"add": ["workflow:acme/web/ci.yml"]})).await;
    let warning = told["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("workflow:acme/web/ci.yml") && warning.contains("repo:acme/web"),
        "{warning}"
    );
}

#[tokio::test]
async fn what_is_no_scope_and_what_is_not_held_is_refused_whole() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let path = "/orgs/acme/policies/base/attachments";
    for wrong in [
        "team:x",
        "repo:acme",
        "org:",
        "workflow:acme/web",
        "acme",
        "network:runners",
        "org:a'b",
        "org:..",
        "",
    ] {
        let change = json!({"add": ["org:acme", wrong]});
        let told = bench.post(path).json(&change).refused(422, "invalid").await;
        assert_eq!(told.value()["field"], "add", "{wrong}");
        let change = json!({"remove": [wrong]});
        let told = bench.post(path).json(&change).refused(422, "invalid").await;
        assert_eq!(told.value()["field"], "remove", "{wrong}");
    }
    let told = bench
        .post(path)
        .json(&json!({"remove": ["org:acme"]}))
        .send()
        .await;
    assert!(matches!(told.status, 404 | 409 | 422), "{told:?}");
    let many: Vec<String> = (0..1_001).map(|number| format!("repo:acme/r{number}")).collect();
    bench
        .post(path)
        .json(&json!({"add": many}))
        .refused(422, "invalid")
        .await;
    let none = bench
        .post("/orgs/acme/policies/none/attachments")
        .json(&json!({"add": ["org:acme"]}));
    none.refused(404, "not-found").await;
}
