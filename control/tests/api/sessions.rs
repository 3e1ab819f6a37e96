//! Sessions: made by showing a token, good like it, and gone with it.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control_wire::secret::Secret;

use crate::bench::{Bench, of_owners, wanted};

/// Logs in by a token's text.
async fn login(bench: &Bench, token: &str) -> Value {
    let made = bench
        .post("/sessions")
        .anonymous()
        .header("tidegate-via", "ui")
        .json(&json!({"token": token}))
        .expect(StatusCode::CREATED)
        .await;
    assert_eq!(made.headers["cache-control"], "no-store");
    made.value()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {value}"))
}

/// A token by the API, so that its id is known.
async fn made(bench: &Bench, wanted: &Value) -> (String, String) {
    let made = bench
        .post("/tokens")
        .json(wanted)
        .expect(StatusCode::CREATED)
        .await;
    let made = made.value();
    (text(&made, "id").to_owned(), text(&made, "token").to_owned())
}

#[tokio::test]
async fn a_session_is_its_token_with_an_end() {
    let bench = Bench::new().await;
    let (parent, token) = made(
        &bench,
        &json!({"role": "editor", "name": "ada", "owners": ["Acme"]}),
    )
    .await;
    let session = login(&bench, &token).await;
    let secret = text(&session, "token");
    assert!(secret.starts_with("tgs_") && secret.len() == 47, "{session}");
    assert_eq!(
        (&session["name"], &session["role"]),
        (&json!("ada"), &json!("editor"))
    );
    assert_eq!(session["owners"], json!(["acme"]));
    let who = bench.get("/session").by(secret).ok().await.value();
    assert_eq!(who["id"], session["id"]);
    assert_eq!(
        (&who["kind"], &who["parent"]),
        (&json!("session"), &json!(parent))
    );
    assert_eq!((&who["person"], &who["name"]), (&json!(null), &json!("ada")));
    assert_eq!(who["expires_at"], session["expires_at"]);
    bench
        .get("/orgs/other/policies")
        .by(secret)
        .refused(403, "forbidden")
        .await;
    bench.get("/tokens").by(secret).refused(403, "forbidden").await;
    let whole = bench.get("/session").by(&token).ok().await.value();
    assert_eq!((&whole["kind"], &whole["id"]), (&json!("token"), &json!(parent)));
    assert!(!bench.dump().await.contains(secret), "its text is stored nowhere");
    let policy = json!({"name": "base", "yaml": crate::bench::POLICY});
    bench
        .post("/orgs/acme/policies")
        .by(secret)
        .header("tidegate-via", "ui")
        .json(&policy)
        .expect(StatusCode::CREATED)
        .await;
    let log = bench.get("/audit-log?limit=2").ok().await.value();
    let (did, began) = (&log["items"][0], &log["items"][1]);
    assert_eq!(
        did["actor"],
        json!({"subject": "ada", "token_id": session["id"], "via": "ui"})
    );
    assert_eq!(began["action"], "session.created");
    assert_eq!(
        began["actor"],
        json!({"subject": "ada", "token_id": parent, "via": "ui"})
    );
    assert_eq!(began["target"], format!("session {}", text(&session, "id")));
    assert_eq!(began["detail"]["parent"], json!(parent));
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours_and_never_after_its_token() {
    let bench = Bench::new().await;
    let viewer = bench.token(&wanted(Role::Viewer, "v")).await;
    let session = login(&bench, &viewer).await;
    let secret = text(&session, "token");
    bench.pass(Duration::from_mins(12 * 60 - 1));
    bench.get("/session").by(secret).ok().await;
    bench.pass(Duration::from_mins(1));
    bench
        .get("/session")
        .by(secret)
        .refused(401, "unauthorized")
        .await;
    bench.get("/session").by(&viewer).ok().await;

    let bench = Bench::new().await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(30);
    let mut short = wanted(Role::Viewer, "short");
    short.expires_at = Some(soon);
    let token = bench.token(&short).await;
    let session = login(&bench, &token).await;
    let ends: jiff::Timestamp = text(&session, "expires_at").parse().unwrap();
    assert_eq!(
        ends.as_microsecond(),
        soon.as_microsecond(),
        "it ends with its token"
    );
}

#[tokio::test]
async fn taking_a_token_back_ends_its_sessions_at_once() {
    let bench = Bench::new().await;
    let (parent, token) = made(&bench, &json!({"role": "viewer", "name": "v"})).await;
    let (one, two) = (login(&bench, &token).await, login(&bench, &token).await);
    let other = bench.token(&wanted(Role::Viewer, "other")).await;
    let stays = login(&bench, &other).await;
    for session in [&one, &two, &stays] {
        bench.get("/session").by(text(session, "token")).ok().await;
    }
    bench.delete(&format!("/tokens/{parent}")).ok().await;
    for session in [&one, &two] {
        let secret = text(session, "token");
        bench
            .get("/session")
            .by(secret)
            .refused(401, "unauthorized")
            .await;
    }
    bench.get("/session").by(text(&stays, "token")).ok().await;
    let log = bench.get("/audit-log?limit=1").ok().await.value();
    assert_eq!(log["items"][0]["action"], "token.revoked");
    assert_eq!(log["items"][0]["detail"]["sessions"], 2);
    bench
        .post("/sessions")
        .anonymous()
        .json(&json!({"token": token}))
        .refused(401, "unauthorized")
        .await;
}

#[tokio::test]
async fn leaving_ends_the_own_session_only_and_a_token_does_not_leave() {
    let bench = Bench::new().await;
    let viewer = bench.token(&wanted(Role::Viewer, "v")).await;
    let (one, two) = (login(&bench, &viewer).await, login(&bench, &viewer).await);
    let gone = bench.delete("/sessions/current").by(text(&one, "token"));
    gone.expect(StatusCode::NO_CONTENT).await;
    let log = bench.get("/audit-log?limit=1").ok().await.value();
    let ended = &log["items"][0];
    assert_eq!(ended["action"], "session.ended");
    assert_eq!(ended["actor"]["token_id"], one["id"]);
    let secret = text(&one, "token");
    bench
        .get("/session")
        .by(secret)
        .refused(401, "unauthorized")
        .await;
    bench.get("/session").by(text(&two, "token")).ok().await;
    let told = bench
        .delete("/sessions/current")
        .by(&viewer)
        .refused(409, "conflict")
        .await;
    assert!(told.detail().contains("token revoke"), "{told:?}");
}

#[tokio::test]
async fn admins_see_sessions_and_end_them_apart_from_tokens() {
    let bench = Bench::new().await;
    let viewer = bench.token(&wanted(Role::Viewer, "vera")).await;
    let admin = bench.token(&wanted(Role::Admin, "ada")).await;
    let (hers, own) = (login(&bench, &viewer).await, login(&bench, &admin).await);
    let secret = text(&own, "token");
    let listed = bench.get("/sessions?living=true").by(secret).ok().await.value();
    let items = listed["items"].as_array().unwrap();
    let names: Vec<&str> = items.iter().map(|one| text(one, "name")).collect();
    assert_eq!(names, ["ada", "vera"], "the newest first: {listed}");
    let current: Vec<bool> = items.iter().map(|one| one["current"] == true).collect();
    assert_eq!(current, [true, false]);
    let tokens = bench.get("/tokens").by(secret).ok().await;
    assert!(!tokens.text.contains("ses_"), "{tokens:?}");
    let path = format!("/sessions/{}", text(&hers, "id"));
    let ended = bench.delete(&path).by(secret).ok().await.value();
    assert!(ended["ended_at"].is_string(), "{ended}");
    let hers_text = text(&hers, "token");
    bench
        .get("/session")
        .by(hers_text)
        .refused(401, "unauthorized")
        .await;
    bench.delete(&path).by(secret).ok().await;
    let page = bench.get("/sessions?living=false").ok().await.value();
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    let page = bench.get("/sessions?limit=1").ok().await.value();
    let next = text(&page, "next");
    let rest = bench
        .get(&format!("/sessions?limit=1&after={next}"))
        .ok()
        .await
        .value();
    assert_eq!(
        (&rest["items"][0]["name"], &rest["next"]),
        (&json!("vera"), &json!(null))
    );

    let root = bench.get("/tokens?search=ROOT").ok().await.value();
    let root = text(&root["items"][0], "id").to_owned();
    for path in [
        format!("/tokens/{}", text(&own, "id")),
        format!("/sessions/{root}"),
    ] {
        bench.delete(&path).refused(404, "not-found").await;
    }
    bench.delete("/sessions/ses_none").refused(404, "not-found").await;
}

#[tokio::test]
async fn a_limited_admin_sees_the_sessions_of_its_owners_only() {
    let bench = Bench::new().await;
    let admin = bench
        .token(&of_owners(Role::Admin, "acme-admin", &["acme"]))
        .await;
    let inside = bench.token(&of_owners(Role::Viewer, "inside", &["acme"])).await;
    let outside = bench.token(&of_owners(Role::Viewer, "outside", &["other"])).await;
    let everywhere = bench.token(&wanted(Role::Viewer, "everywhere")).await;
    let mut ids = Vec::new();
    for token in [&inside, &outside, &everywhere] {
        ids.push(text(&login(&bench, token).await, "id").to_owned());
    }
    let listed = bench.get("/sessions?limit=1").by(&admin).ok().await.value();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(
        items.len(),
        1,
        "a full page though others were left out: {listed}"
    );
    assert_eq!(
        (&items[0]["name"], &listed["next"]),
        (&json!("inside"), &json!(null))
    );
    for id in &ids[1..] {
        let path = format!("/sessions/{id}");
        bench.delete(&path).by(&admin).refused(404, "not-found").await;
    }
    bench
        .delete(&format!("/sessions/{}", ids[0]))
        .by(&admin)
        .ok()
        .await;
}

#[tokio::test]
async fn only_people_log_in_and_a_session_makes_neither_sessions_nor_admins() {
    let bench = Bench::new().await;
    let post = |token: &str| bench.post("/sessions").anonymous().json(&json!({"token": token}));
    for role in [Role::Runner, Role::Provisioner, Role::Gateway] {
        let token = bench.token(&wanted(role, "machine")).await;
        let told = post(&token).refused(403, "forbidden").await;
        assert!(told.detail().contains(role.as_str()), "{told:?}");
    }
    let admin = bench.token(&wanted(Role::Admin, "ada")).await;
    let session = login(&bench, &admin).await;
    let secret = text(&session, "token");
    let told = post(secret).refused(403, "forbidden").await;
    assert!(told.detail().contains("session"), "{told:?}");
    let told = bench
        .post("/tokens")
        .by(secret)
        .json(&json!({"role": "admin", "name": "for ever"}))
        .refused(403, "forbidden")
        .await;
    assert!(told.detail().contains("tidegate token create"), "{told:?}");
    let editor = bench
        .post("/tokens")
        .by(secret)
        .json(&json!({"role": "editor", "name": "bot"}))
        .expect(StatusCode::CREATED)
        .await;
    let log = bench.get("/audit-log?limit=1").ok().await.value();
    assert_eq!(log["items"][0]["actor"]["token_id"], session["id"], "{editor:?}");
}

#[tokio::test]
async fn wrong_tokens_are_counted_by_address_here_too() {
    let bench = Bench::new().await;
    let guess = || json!({"token": Secret::new(Role::Admin).expose()});
    for _ in 0..10 {
        let told = bench
            .post("/sessions")
            .anonymous()
            .from("198.51.100.7:1")
            .json(&guess());
        told.refused(401, "unauthorized").await;
    }
    let told = bench
        .post("/sessions")
        .anonymous()
        .from("198.51.100.7:2")
        .json(&guess());
    let told = told.refused(429, "rate-limited").await;
    assert_eq!(told.headers["retry-after"], "1");
    let spent = bench.get("/gateways").by("tga_wrong").from("198.51.100.7:3");
    spent.refused(429, "rate-limited").await;
    let viewer = bench.token(&wanted(Role::Viewer, "v")).await;
    login(&bench, &viewer).await;
}

#[tokio::test]
async fn a_login_that_makes_no_sense_is_refused() {
    let bench = Bench::new().await;
    for (body, status, code) in [
        (json!({}), 422, "invalid"),
        (json!({"token": 7}), 422, "invalid"),
        (json!({"token": ""}), 401, "unauthorized"),
        (json!({"token": "a\u{0}b"}), 422, "invalid"),
        (json!({"tokne": "x"}), 422, "unknown-field"),
        (json!({"token": "x".repeat(4 << 10)}), 413, "too-large"),
    ] {
        bench
            .post("/sessions")
            .anonymous()
            .json(&body)
            .refused(status, code)
            .await;
    }
    let largest = json!({"token": "x".repeat((4 << 10) - r#"{"token":""}"#.len())});
    bench
        .post("/sessions")
        .anonymous()
        .json(&largest)
        .refused(401, "unauthorized")
        .await;
    let form = bench.post("/sessions").anonymous();
    form.body("application/x-www-form-urlencoded", "token=x")
        .refused(415, "unsupported-media-type")
        .await;
}
