//! The control plane itself.

use axum::http::{Method, StatusCode};
use serde_json::json;
use tidegate_control::model::AuditEntry;
use tidegate_control::store::chain;

use crate::bench::{Bench, POLICY};
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
