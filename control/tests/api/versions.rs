//! A policy's past.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, POLICY, of_owners};

const PATH: &str = "/orgs/acme/policies/base";
const SECOND: &str = "# the base\negress-policy: block\nallowed-endpoints: >\n  registry.example.test:443\n  db.example.test:5432\n";

async fn two_versions(bench: &Bench) -> Value {
    let made = bench.policy("base", POLICY).await;
    let change = bench
        .put(PATH)
        .header("if-match", "\"1\"")
        .json(&json!({"yaml": SECOND}));
    change.ok().await;
    made.value()
}

fn actions(history: &Value) -> Vec<&str> {
    history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["action"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn every_version_is_there_as_it_was_written() {
    let bench = Bench::new().await;
    two_versions(&bench).await;
    let all = bench.get(&format!("{PATH}/versions")).ok().await.value();
    let numbers: Vec<u64> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["version"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 1]);
    let first = bench.get(&format!("{PATH}/versions/1")).ok().await;
    assert_eq!(first.value()["yaml"], POLICY);
    let yaml = bench
        .get(&format!("{PATH}/versions/1"))
        .header("accept", "text/yaml")
        .ok()
        .await;
    assert_eq!(yaml.text, POLICY);
    let same = bench
        .get(&format!("{PATH}/versions/1"))
        .header("if-none-match", &first.tag());
    same.expect(StatusCode::NOT_MODIFIED).await;
    bench
        .get(&format!("{PATH}/versions/3"))
        .refused(404, "not-found")
        .await;
    bench
        .get(&format!("{PATH}/versions/0"))
        .refused(404, "not-found")
        .await;
    bench
        .get(&format!("{PATH}/versions/x"))
        .refused(400, "invalid")
        .await;
    bench
        .get(&format!("{PATH}/versions/99999999999999999999"))
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn versions_are_compared_as_text_and_side_by_side() {
    let bench = Bench::new().await;
    two_versions(&bench).await;
    let told = bench.get(&format!("{PATH}/diff?from=1&to=2")).ok().await.value();
    let unified = told["unified"].as_str().unwrap();
    assert!(
        unified.starts_with("--- acme/base (version 1)\n+++ acme/base (version 2)\n@@ "),
        "{unified}"
    );
    assert!(unified.contains("\n+  db.example.test:5432\n"), "{unified}");
    assert_eq!(
        (told["added"].as_u64(), told["removed"].as_u64()),
        (Some(1), Some(0))
    );
    let added = told["side_by_side"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["kind"] == "added")
        .unwrap();
    assert_eq!(
        added["new"],
        json!({"number": 5, "text": "  db.example.test:5432"})
    );
    let newest = bench.get(&format!("{PATH}/diff")).ok().await.value();
    assert_eq!(newest, told, "the last change when nothing is said");
    let backwards = bench.get(&format!("{PATH}/diff?from=2&to=1")).ok().await.value();
    assert_eq!(backwards["removed"], 1);
    let whole = bench.get(&format!("{PATH}/diff?to=1")).ok().await.value();
    assert_eq!(
        (whole["from"].as_u64(), whole["added"].as_u64()),
        (Some(0), Some(4))
    );
    let nothing = bench.get(&format!("{PATH}/diff?from=1&to=1")).ok().await.value();
    assert_eq!(nothing["unified"], "");
    bench
        .get(&format!("{PATH}/diff?from=7"))
        .refused(404, "not-found")
        .await;
    bench
        .get(&format!("{PATH}/diff?from=0"))
        .refused(400, "invalid")
        .await;
    bench
        .get(&format!("{PATH}/diff?from=-1"))
        .refused(400, "invalid")
        .await;
}

#[tokio::test]
async fn going_back_makes_a_new_version() {
    let bench = Bench::new().await;
    two_versions(&bench).await;
    let back = bench
        .post(&format!("{PATH}/rollback"))
        .header("if-match", "\"2\"")
        .json(&json!({"to": 1, "apply": "now"}))
        .ok()
        .await
        .value();
    assert_eq!(
        (back["version"].as_u64(), back["yaml"].as_str()),
        (Some(3), Some(POLICY))
    );
    let stale = bench
        .post(&format!("{PATH}/rollback"))
        .header("if-match", "\"2\"")
        .json(&json!({"to": 1}));
    stale.refused(412, "stale").await;
    let unknown = bench
        .post(&format!("{PATH}/rollback"))
        .header("if-match", "*")
        .json(&json!({"to": 9}));
    unknown.refused(404, "not-found").await;
}

#[tokio::test]
async fn the_history_says_what_changed_and_outlives_the_policy() {
    let bench = Bench::new().await;
    let made = two_versions(&bench).await;
    let scope = json!({"add": ["org:acme"]});
    bench.post(&format!("{PATH}/attachments")).json(&scope).ok().await;
    let history = bench.get(&format!("{PATH}/history")).ok().await.value();
    assert_eq!(
        actions(&history),
        ["policy.attached", "policy.updated", "policy.created"]
    );
    let diff = &history["items"][1]["detail"]["diff"];
    assert!(
        diff["unified"]
            .as_str()
            .unwrap()
            .contains("+  db.example.test:5432"),
        "{history}"
    );
    let page = bench.get(&format!("{PATH}/history?limit=1")).ok().await.value();
    assert_eq!(actions(&page), ["policy.attached"]);
    let after = page["next"].as_str().unwrap();
    let next = bench
        .get(&format!("{PATH}/history?limit=1&after={after}"))
        .ok()
        .await
        .value();
    assert_eq!(actions(&next), ["policy.updated"]);

    bench.delete(PATH).ok().await;
    bench
        .get(&format!("{PATH}/history"))
        .refused(404, "not-found")
        .await;
    let by_id = format!("{PATH}/history?id={}", made["id"].as_str().unwrap());
    let all = bench.get(&by_id).ok().await.value();
    assert_eq!(actions(&all)[..2], ["policy.deleted", "policy.detached"]);
    bench.policy("base", POLICY).await;
    assert_eq!(
        actions(&bench.get(&format!("{PATH}/history")).ok().await.value()),
        ["policy.created"]
    );
    assert_eq!(
        actions(&bench.get(&by_id).ok().await.value()).len(),
        5,
        "of the one before"
    );
    bench
        .get(&format!("{PATH}/history?id=pol_x"))
        .refused(404, "not-found")
        .await;
    let foreign = format!(
        "/orgs/beta/policies/base/history?id={}",
        made["id"].as_str().unwrap()
    );
    bench.get(&foreign).refused(404, "not-found").await;
}

#[tokio::test]
async fn a_deleted_policy_is_read_by_its_id() {
    let bench = Bench::new().await;
    let made = two_versions(&bench).await;
    let id = made["id"].as_str().unwrap();
    bench.delete(PATH).ok().await;
    for path in ["", "/versions", "/versions/1", "/diff"] {
        bench
            .get(&format!("{PATH}{path}"))
            .refused(404, "not-found")
            .await;
    }
    let gone = bench.get(&format!("{PATH}?id={id}")).ok().await.value();
    assert_eq!(
        (gone["version"].as_u64(), &gone["yaml"]),
        (Some(2), &json!(SECOND))
    );
    assert!(gone["deleted_at"].is_string(), "{gone}");
    let all = bench
        .get(&format!("{PATH}/versions?id={id}&limit=1"))
        .ok()
        .await
        .value();
    assert_eq!(
        (&all["items"][0]["version"], &all["next"]),
        (&json!(2), &json!("2"))
    );
    let first = bench.get(&format!("{PATH}/versions/1?id={id}")).ok().await;
    assert_eq!(first.value()["yaml"], POLICY);
    bench
        .get(&format!("{PATH}/versions/3?id={id}"))
        .refused(404, "not-found")
        .await;
    let diff = bench.get(&format!("{PATH}/diff?id={id}")).ok().await.value();
    assert_eq!(
        (&diff["from"], &diff["to"], &diff["added"]),
        (&json!(1), &json!(2), &json!(1))
    );

    // Another of its name is another.
    bench.policy("base", POLICY).await;
    let living = bench.get(PATH).ok().await.value();
    assert_eq!(
        (&living["version"], &living["deleted_at"]),
        (&json!(1), &Value::Null)
    );
    let old = bench
        .get(&format!("{PATH}/versions/2?id={id}"))
        .ok()
        .await
        .value();
    assert_eq!(old["yaml"], SECOND);
    bench
        .get(&format!("{PATH}/versions/2"))
        .refused(404, "not-found")
        .await;
    let same = bench
        .get(&format!("{PATH}?id={}", living["id"].as_str().unwrap()))
        .ok()
        .await;
    assert_eq!(same.value()["version"], 1);
}

#[tokio::test]
async fn an_id_opens_only_what_its_owner_and_name_say() {
    let bench = Bench::new().await;
    let made = two_versions(&bench).await;
    let id = made["id"].as_str().unwrap();
    bench.delete(PATH).ok().await;
    let foreign = bench
        .token(&of_owners(Role::Viewer, "beta-viewer", &["beta"]))
        .await;
    for rest in ["", "/history", "/versions", "/versions/1", "/diff"] {
        for other in ["/orgs/beta/policies/base", "/orgs/acme/policies/other"] {
            bench
                .get(&format!("{other}{rest}?id={id}"))
                .refused(404, "not-found")
                .await;
        }
        bench
            .get(&format!("{PATH}{rest}?id={id}"))
            .by(&foreign)
            .refused(403, "forbidden")
            .await;
        bench
            .get(&format!("/orgs/beta/policies/base{rest}?id={id}"))
            .by(&foreign)
            .refused(404, "not-found")
            .await;
        bench
            .get(&format!("{PATH}{rest}?id=nothing"))
            .refused(404, "not-found")
            .await;
    }
}
