//! Tokens: made, shown once, taken back.

use axum::http::StatusCode;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn a_token_is_shown_once_and_its_text_is_nowhere_afterwards() {
    let bench = Bench::new().await;
    let wanted =
        json!({"role": "runner", "name": "web runners", "owners": ["Acme"], "networks": ["runners"]});
    let made = bench
        .post("/tokens")
        .json(&wanted)
        .expect(StatusCode::CREATED)
        .await;
    assert_eq!(made.headers["cache-control"], "no-store");
    let made = made.value();
    let (id, text) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(text.starts_with("tgr_"), "{made}");
    assert_eq!(made.as_object().unwrap().len(), 2, "nothing else");
    let all = bench.get("/tokens").ok().await;
    let token = all.value()["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == id)
        .unwrap()
        .clone();
    assert_eq!(
        (&token["owners"], &token["revoked_at"]),
        (&json!(["acme"]), &json!(null))
    );
    assert!(!all.text.contains(text) && !bench.dump().await.contains(text));
    let gone = bench.delete(&format!("/tokens/{id}")).ok().await.value();
    assert!(gone["revoked_at"].is_string(), "{gone}");
    bench.delete(&format!("/tokens/{id}")).ok().await;
    bench.delete("/tokens/tok_none").refused(404, "not-found").await;
    let page = bench.get("/tokens?limit=1").ok().await.value();
    assert!(page["next"].is_string(), "{page}");
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let bench = Bench::new().await;
    for (wanted, status, code) in [
        (json!({"role": "root", "name": "x"}), 422, "invalid"),
        (json!({"role": "viewer"}), 422, "invalid"),
        (json!({"role": "viewer", "name": ""}), 422, "invalid"),
        (json!({"role": "viewer", "name": "a\u{0}"}), 422, "invalid"),
        (json!({"role": "runner", "name": "x"}), 422, "invalid"),
        (
            json!({"role": "runner", "name": "x", "repos": ["web"]}),
            422,
            "invalid",
        ),
        (
            json!({"role": "viewer", "name": "x", "owners": ["a/b"]}),
            422,
            "invalid",
        ),
        (
            json!({"role": "viewer", "name": "x", "expires_at": "2001-01-01T00:00:00Z"}),
            422,
            "invalid",
        ),
        (
            json!({"role": "viewer", "name": "x", "expiers_at": "2099-01-01T00:00:00Z"}),
            422,
            "unknown-field",
        ),
        (json!([]), 422, "invalid"),
        (json!("admin"), 422, "invalid"),
    ] {
        bench.post("/tokens").json(&wanted).refused(status, code).await;
    }
}
