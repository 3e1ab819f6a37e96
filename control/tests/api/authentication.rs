//! Tokens in requests: good ones, wrong ones, and too many wrong ones.

use std::time::Duration;

use serde_json::json;
use tidegate_control::model::{NewToken, Role};
use tidegate_control_wire::secret::Secret;

use crate::bench::{Bench, eventually, wanted};

fn guess() -> String {
    Secret::new(Role::Admin).expose().to_owned()
}

#[tokio::test]
async fn without_a_good_token_the_answer_is_401_with_a_challenge() {
    let bench = Bench::new().await;
    let challenge =
        |answer: &crate::bench::Answer| answer.headers["www-authenticate"].to_str().unwrap().to_owned();
    let none = bench
        .get("/gateways")
        .anonymous()
        .refused(401, "unauthorized")
        .await;
    assert_eq!(
        challenge(&none),
        "Bearer realm=\"tidegate\"",
        "RFC 6750 section 3.1: no error without a token"
    );
    let wrong = bench
        .get("/gateways")
        .by(&guess())
        .refused(401, "unauthorized")
        .await;
    assert!(challenge(&wrong).contains("error=\"invalid_token\""));
    for value in ["Basic eDp5", "Bearer", "Bearer ", "token"] {
        let odd = bench
            .get("/gateways")
            .anonymous()
            .header("authorization", value)
            .refused(401, "unauthorized")
            .await;
        assert!(challenge(&odd).contains("error=\"invalid_request\""), "{value}");
    }
    let twice = bench.get("/gateways").header("authorization", "Bearer x");
    twice.refused(401, "unauthorized").await;
}

#[tokio::test]
async fn the_scheme_is_compared_without_case() {
    let bench = Bench::new().await;
    let token = bench.token(&wanted(Role::Viewer, "v")).await;
    let shown = format!("bEARER  {token} ");
    bench
        .get("/gateways")
        .anonymous()
        .header("authorization", &shown)
        .ok()
        .await;
}

#[tokio::test]
async fn open_routes_need_none() {
    let bench = Bench::new().await;
    for path in ["/healthz", "/readyz", "/version"] {
        bench.get(path).anonymous().ok().await;
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_though_it_was_just_good() {
    let bench = Bench::new().await;
    let made = bench
        .post("/tokens")
        .json(&json!({"role": "viewer", "name": "v"}))
        .send()
        .await
        .value();
    let token = made["token"].as_str().unwrap();
    bench.get("/gateways").by(token).ok().await;
    bench
        .delete(&format!("/tokens/{}", made["id"].as_str().unwrap()))
        .ok()
        .await;
    bench
        .get("/gateways")
        .by(token)
        .refused(401, "unauthorized")
        .await;
}

#[tokio::test]
async fn what_another_control_plane_revoked_is_refused_within_five_seconds() {
    let bench = Bench::new().await;
    let made = bench
        .post("/tokens")
        .json(&json!({"role": "viewer", "name": "v"}))
        .send()
        .await
        .value();
    let token = made["token"].as_str().unwrap();
    bench.get("/gateways").by(token).ok().await;
    let actor = tidegate_control::model::Actor {
        subject: "elsewhere".into(),
        token_id: None,
        via: "api".into(),
    };
    bench
        .store
        .revoke_token(made["id"].as_str().unwrap(), &actor)
        .await
        .unwrap();
    bench.pass(Duration::from_secs(5));
    bench
        .get("/gateways")
        .by(token)
        .refused(401, "unauthorized")
        .await;
}

#[tokio::test]
async fn a_token_whose_time_is_over_is_refused_though_it_is_remembered() {
    let bench = Bench::new().await;
    let token = NewToken {
        expires_at: Some(jiff::Timestamp::now() + Duration::from_secs(3)),
        ..wanted(Role::Viewer, "short")
    };
    let token = bench.token(&token).await;
    bench.get("/gateways").by(&token).ok().await;
    bench.pass(Duration::from_secs(4));
    bench
        .get("/gateways")
        .by(&token)
        .refused(401, "unauthorized")
        .await;
}

#[tokio::test]
async fn ten_wrong_tokens_then_one_a_second_by_address() {
    let bench = Bench::new().await;
    let good = bench.token(&wanted(Role::Viewer, "v")).await;
    let guessed = |peer: &'static str| bench.get("/gateways").by(&guess()).from(peer);
    for _ in 0..10 {
        guessed("198.51.100.7:1").refused(401, "unauthorized").await;
    }
    let told = guessed("198.51.100.7:2").refused(429, "rate-limited").await;
    assert_eq!(told.headers["retry-after"], "1");
    guessed("198.51.100.8:1").refused(401, "unauthorized").await;
    bench.pass(Duration::from_secs(1));
    guessed("198.51.100.7:3").refused(401, "unauthorized").await;
    guessed("198.51.100.7:4").refused(429, "rate-limited").await;
    // Good tokens cost nothing, and one that is remembered gets through beside a noisy neighbour.
    for _ in 0..30 {
        bench.get("/gateways").by(&good).from("198.51.100.9:1").ok().await;
    }
    let beside = async || bench.get("/gateways").by(&good).from("198.51.100.7:5").ok().await;
    beside().await;
    bench.pass(Duration::from_secs(6));
    while guessed("198.51.100.7:6").send().await.status == 401 {}
    beside().await;
    // So does one that nobody showed before: a crowd may stand behind one address.
    let other = bench.token(&wanted(Role::Viewer, "w")).await;
    guessed("198.51.100.7:7").refused(429, "rate-limited").await;
    bench
        .get("/gateways")
        .by(&other)
        .from("198.51.100.7:8")
        .ok()
        .await;
}

#[tokio::test]
async fn the_last_use_is_kept_to_the_minute() {
    let bench = Bench::new().await;
    let token = bench.token(&wanted(Role::Viewer, "v")).await;
    bench.get("/gateways").by(&token).ok().await;
    eventually("the token's last use is kept", async || {
        let all = bench.get("/tokens").ok().await.value();
        let of = all["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "v")
            .unwrap()
            .clone();
        if of["last_used_at"].is_string() {
            Ok(())
        } else {
            Err(of)
        }
    })
    .await;
}

#[tokio::test]
async fn histories_say_who_and_by_which_way() {
    let bench = Bench::new().await;
    for (name, via, said) in [
        ("a", "cli", "cli"),
        ("b", "ui", "ui"),
        ("c", "sync", "api"),
        ("d", "", "api"),
    ] {
        bench
            .post("/orgs/acme/policies")
            .header("tidegate-via", via)
            .json(&json!({"name": name, "yaml": crate::bench::POLICY}))
            .expect(axum::http::StatusCode::CREATED)
            .await;
        let told = bench
            .get(&format!("/orgs/acme/policies/{name}/history"))
            .ok()
            .await
            .value();
        let actor = &told["items"][0]["actor"];
        assert_eq!(
            (actor["subject"].as_str(), actor["via"].as_str()),
            (Some("root"), Some(said)),
            "{actor}"
        );
        assert!(actor["token_id"].as_str().unwrap().starts_with("tok_"), "{actor}");
    }
}
