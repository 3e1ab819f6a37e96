//! Optimistic locking (RFC 9110 section 13, RFC 6585 section 3): no update is lost, none happens by accident.

use axum::http::StatusCode;
use serde_json::json;

use crate::bench::{Bench, POLICY};

const PATH: &str = "/orgs/acme/policies/base";

#[tokio::test]
async fn rfc_6585_section_3_a_change_without_if_match_is_428() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let body = json!({"yaml": POLICY});
    let told = bench
        .put(PATH)
        .json(&body)
        .refused(428, "precondition-required")
        .await;
    assert_eq!(told.value()["field"], "If-Match");
    let to = json!({"to": 1});
    bench
        .post(&format!("{PATH}/rollback"))
        .json(&to)
        .refused(428, "precondition-required")
        .await;
    bench
        .put("/orgs/acme/policies/none")
        .json(&body)
        .refused(428, "precondition-required")
        .await;
    let none = bench
        .put("/orgs/acme/policies/none")
        .header("if-match", "*")
        .json(&body);
    none.refused(404, "not-found").await;
}

#[tokio::test]
async fn rfc_9110_section_13_1_1_if_match_in_all_its_spellings() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let change = |value: &str| {
        bench
            .put(PATH)
            .header("if-match", value)
            .json(&json!({"yaml": POLICY}))
    };
    change("\"1\"").ok().await;
    let told = change("\"1\"").refused(412, "stale").await;
    assert_eq!(told.value()["current"], 2, "it says where it is");
    assert!(told.detail().contains("version 2"), "{told:?}");
    change("\"9\" , \"2\"").ok().await;
    change("*").ok().await;
    change("W/\"4\"").refused(412, "stale").await;
    change("\"04\"").refused(412, "stale").await;
    for garbage in ["4", "\"4", "", "*, \"4\"", "\"4\" \"5\""] {
        let told = change(garbage).refused(400, "invalid").await;
        assert_eq!(told.value()["field"], "if-match", "{garbage}");
    }
    let read = bench.get(PATH).ok().await;
    assert_eq!(read.value()["version"], 4);
    change(&read.tag()).ok().await;
}

#[tokio::test]
async fn a_tag_of_a_name_before_it_was_given_to_another_policy_is_stale() {
    let bench = Bench::new().await;
    let old = bench.policy("base", POLICY).await.tag();
    bench.delete(PATH).ok().await;
    bench.policy("base", POLICY).await;
    let change = bench
        .put(PATH)
        .header("if-match", &old)
        .json(&json!({"yaml": POLICY}));
    change.refused(412, "stale").await;
    bench
        .delete(PATH)
        .header("if-match", &old)
        .refused(412, "stale")
        .await;
    bench.delete(PATH).header("if-match", "\"1\"").ok().await;
}

#[tokio::test]
async fn rfc_9110_section_13_1_2_whoever_has_it_gets_304() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    let read = bench.get(PATH).ok().await;
    let same = bench.get(PATH).header("if-none-match", &read.tag());
    let same = same.expect(StatusCode::NOT_MODIFIED).await;
    assert_eq!((same.text.as_str(), same.tag()), ("", read.tag()));
    let weak = format!("\"x\", W/{}", read.tag());
    bench
        .get(PATH)
        .header("if-none-match", &weak)
        .expect(StatusCode::NOT_MODIFIED)
        .await;
    let yaml = bench
        .get(PATH)
        .header("accept", "application/yaml")
        .header("if-none-match", &read.tag());
    yaml.ok().await;
    let scope = json!({"add": ["org:acme"]});
    bench.post(&format!("{PATH}/attachments")).json(&scope).ok().await;
    let changed = bench.get(PATH).header("if-none-match", &read.tag()).ok().await;
    assert_eq!(
        changed.value()["attachments"],
        json!(["org:acme"]),
        "an attachment changes what is shown"
    );
    let put = bench
        .put(PATH)
        .header("if-match", &read.tag())
        .json(&json!({"yaml": POLICY}));
    put.ok().await;
    bench
        .get(PATH)
        .header("if-none-match", "garbage")
        .refused(400, "invalid")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_changes_of_one_version_one_is_made() {
    let bench = Bench::new().await;
    let tag = bench.policy("base", POLICY).await.tag();
    let change = async |number: u32| {
        let yaml = format!("{POLICY}# {number}\n");
        bench
            .put(PATH)
            .header("if-match", &tag)
            .json(&json!({"yaml": yaml}))
            .send()
            .await
            .status
    };
    let all = futures_util::future::join_all((0..20).map(change)).await;
    assert_eq!(all.iter().filter(|status| **status == 200).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|status| **status == 412).count(), 19, "{all:?}");
    assert_eq!(bench.get(PATH).ok().await.value()["version"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_makers_of_one_name_one_makes_it() {
    let bench = Bench::new().await;
    let set = async |number: u32| {
        let yaml = format!("[\"a{number}.test:443\"]");
        bench
            .put("/orgs/acme/endpoint-sets/corp")
            .yaml(&yaml)
            .send()
            .await
            .status
    };
    let all = futures_util::future::join_all((0..20).map(set)).await;
    assert_eq!(all.iter().filter(|status| **status == 201).count(), 1, "{all:?}");
    assert!(
        all.iter().all(|status| matches!(status, 201 | 412 | 428)),
        "{all:?}"
    );
    let policy = async |_: u32| {
        let new = json!({"name": "base", "yaml": POLICY});
        bench.post("/orgs/acme/policies").json(&new).send().await.status
    };
    let all = futures_util::future::join_all((0..20).map(policy)).await;
    assert_eq!(all.iter().filter(|status| **status == 201).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|status| **status == 409).count(), 19, "{all:?}");
}
