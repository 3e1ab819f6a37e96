//! Endpoint sets.

use axum::http::StatusCode;
use serde_json::json;

use crate::bench::{Bench, POLICY};

const PATH: &str = "/orgs/acme/endpoint-sets/corp";
const SET: &str = "# shared\n- git.example.test:443\n";

#[tokio::test]
async fn a_set_is_made_read_changed_and_deleted() {
    let bench = Bench::new().await;
    let made = bench.put(PATH).yaml(SET).expect(StatusCode::CREATED).await;
    assert_eq!(
        (
            made.value()["version"].as_u64(),
            made.value()["endpoints"].as_u64()
        ),
        (Some(1), Some(1))
    );
    let read = bench.get(PATH).ok().await;
    assert_eq!(read.value()["yaml"], SET);
    let yaml = bench.get(PATH).header("accept", "application/yaml").ok().await;
    assert_eq!(yaml.text, SET);
    bench
        .get(PATH)
        .header("if-none-match", &read.tag())
        .expect(StatusCode::NOT_MODIFIED)
        .await;
    let change = bench
        .put(PATH)
        .header("if-match", &read.tag())
        .json(&json!({"yaml": "[\"a.test:443\"]"}));
    let changed = change.ok().await;
    assert_eq!(changed.value()["version"], 2);
    let list = bench.get("/orgs/acme/endpoint-sets").ok().await.value();
    assert_eq!(list["items"][0]["name"], "corp");
    bench
        .delete(PATH)
        .header("if-match", &read.tag())
        .refused(412, "stale")
        .await;
    bench
        .delete(PATH)
        .header("if-match", &changed.tag())
        .expect(StatusCode::NO_CONTENT)
        .await;
    bench.get(PATH).refused(404, "not-found").await;
    bench.delete(PATH).refused(404, "not-found").await;
}

#[tokio::test]
async fn a_set_is_not_written_over_by_accident() {
    let bench = Bench::new().await;
    let old = bench.put(PATH).yaml(SET).expect(StatusCode::CREATED).await.tag();
    bench
        .put(PATH)
        .yaml("[]")
        .refused(428, "precondition-required")
        .await;
    bench
        .put(PATH)
        .header("if-none-match", "*")
        .yaml("[]")
        .refused(412, "stale")
        .await;
    bench
        .put("/orgs/acme/endpoint-sets/other")
        .header("if-match", "*")
        .yaml(SET)
        .refused(412, "stale")
        .await;
    let fresh = bench
        .put("/orgs/acme/endpoint-sets/other")
        .header("if-none-match", "*")
        .yaml(SET);
    fresh.expect(StatusCode::CREATED).await;
    bench.delete(PATH).expect(StatusCode::NO_CONTENT).await;
    bench.put(PATH).yaml(SET).expect(StatusCode::CREATED).await;
    bench
        .put(PATH)
        .header("if-match", &old)
        .yaml("[]")
        .refused(412, "stale")
        .await;
}

#[tokio::test]
async fn a_used_set_stays_and_names_who_uses_it() {
    let bench = Bench::new().await;
    bench.put(PATH).yaml(SET).expect(StatusCode::CREATED).await;
    let before = bench.get(PATH).ok().await;
    bench.policy("base", &format!("{POLICY}use: [corp]\n")).await;
    let after = bench.get(PATH).header("if-none-match", &before.tag()).ok().await;
    assert_eq!(after.value()["used_by"], json!(["base"]));
    let told = bench.delete(PATH).refused(409, "conflict").await;
    assert!(told.detail().contains("base"), "{told:?}");
}

#[tokio::test]
async fn a_document_with_errors_is_refused_with_their_places() {
    let bench = Bench::new().await;
    let told = bench
        .put(PATH)
        .yaml("- good.test:443\n- git hub.test:443x\n")
        .refused(422, "document")
        .await;
    assert_eq!(told.value()["diagnostics"][0]["line"], 2);
    bench
        .put("/orgs/acme/endpoint-sets/b%C3%BCro")
        .yaml(SET)
        .refused(400, "invalid")
        .await;
}
