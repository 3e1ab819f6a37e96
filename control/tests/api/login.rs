//! People who log in at an issuer: who they become, and every way of not getting in.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::config::LoginConfig;

use crate::bench::{Answer, Bench};
use crate::issuer::{Back, Issuer};

struct World {
    issuer: Issuer,
    bench: Bench,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut LoginConfig)) -> Self {
        let issuer = Issuer::new().await;
        let mut config = issuer.config();
        change(&mut config);
        let bench = Bench::with_login(config).await;
        Self { issuer, bench }
    }

    /// Begins: where the browser goes, and the attempt.
    async fn begin(&self) -> (String, String) {
        let begun = self
            .bench
            .post("/login-attempts")
            .anonymous()
            .expect(StatusCode::CREATED)
            .await
            .value();
        let text = |field: &str| begun[field].as_str().unwrap().to_owned();
        (text("url"), text("attempt"))
    }

    fn returned(&self, attempt: &str, back: &Back) -> crate::bench::Call<'_> {
        let body = json!({"attempt": attempt, "code": back.code, "state": back.state});
        let call = self.bench.post("/sessions").anonymous();
        call.header("tidegate-via", "ui").json(&body)
    }

    /// Somebody of these groups logs in; `change` bends the ID token.
    async fn log_in(&self, groups: &[&str], change: impl FnOnce(&mut Value)) -> Answer {
        let (url, attempt) = self.begin().await;
        let back = self.issuer.log_in(&url, groups, change);
        self.returned(&attempt, &back).send().await
    }

    /// The same, refused, with nothing stored.
    async fn refused(&self, status: u16, change: impl FnOnce(&mut Value)) -> String {
        let (url, attempt) = self.begin().await;
        let back = self.issuer.log_in(&url, &["security"], change);
        let code = if status == 403 {
            "forbidden"
        } else {
            "unauthorized"
        };
        self.returned(&attempt, &back)
            .refused(status, code)
            .await
            .detail()
    }
}

#[tokio::test]
async fn a_person_logs_in_with_the_role_of_the_groups() {
    let world = World::new().await;
    let methods = world.bench.get("/login-methods").anonymous().ok().await.value();
    assert_eq!(
        (&methods["token"], &methods["oidc"]["name"]),
        (&json!(true), &json!("127.0.0.1"))
    );
    let callback = "https://tidegate.example.test/ui/oidc/callback";
    assert_eq!(methods["oidc"]["callback"], callback);
    let made = world.log_in(&["beta-devs", "acme-devs", "bowling"], |_| {}).await;
    assert_eq!(made.status, 201, "{made:?}");
    let session = made.value();
    assert_eq!(
        (&session["name"], &session["role"]),
        (&json!("ada@acme.example"), &json!("editor"))
    );
    assert_eq!(session["owners"], json!(["acme", "beta"]));
    let secret = session["token"].as_str().unwrap();
    let who = world.bench.get("/session").by(secret).ok().await.value();
    let person = format!("{}|u-7", world.issuer.url);
    assert_eq!((&who["person"], &who["parent"]), (&json!(person), &json!(null)));
    world.bench.get("/orgs/acme/policies").by(secret).ok().await;
    world
        .bench
        .get("/orgs/other/policies")
        .by(secret)
        .refused(403, "forbidden")
        .await;
    let log = world.bench.get("/audit-log?limit=1").ok().await.value();
    let entry = &log["items"][0];
    assert_eq!(entry["action"], "session.created");
    assert_eq!(
        entry["actor"],
        json!({"subject": "ada@acme.example", "token_id": null, "via": "ui"})
    );
    assert_eq!(entry["detail"]["person"], person);
    world.bench.pass(Duration::from_hours(12));
    world
        .bench
        .get("/session")
        .by(secret)
        .refused(401, "unauthorized")
        .await;
}

#[tokio::test]
async fn the_secret_goes_where_the_issuer_takes_it() {
    let world = World::new().await;
    world.issuer.want_secret_in_form();
    let made = world.log_in(&["security"], |_| {}).await;
    assert_eq!(
        (made.status, &made.value()["role"]),
        (201, &json!("admin")),
        "{made:?}"
    );
    let wrong = World::with(|config| config.client_secret = Some("other".into())).await;
    let told = wrong.log_in(&["security"], |_| {}).await;
    assert_eq!(told.status, 503, "{told:?}");
    assert!(told.detail().contains("client-secret-file"), "{told:?}");
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_login_opens_nothing() {
    let world = World::new().await;
    let told = world
        .refused(401, |claims| claims["nonce"] = json!("another"))
        .await;
    assert!(told.contains("nonce"), "{told}");
    let told = world
        .refused(401, |claims| claims["aud"] = json!("another"))
        .await;
    assert!(told.contains("\"another\""), "{told}");
    let told = world
        .refused(401, |claims| {
            claims["aud"] = json!([crate::issuer::CLIENT, "another"]);
        })
        .await;
    assert!(told.contains("azp"), "{told}");
    let told = world
        .refused(401, |claims| claims["iss"] = json!("https://evil.example"))
        .await;
    assert!(told.contains("evil.example"), "{told}");
    let told = world
        .refused(401, |claims| claims["exp"] = json!(1_700_000_000))
        .await;
    assert!(told.contains("expired"), "{told}");
    let told = world.refused(401, |claims| claims["sub"] = json!(null)).await;
    assert!(told.contains("`sub`"), "{told}");
}

#[tokio::test]
async fn the_way_back_belongs_to_one_way_there() {
    let world = World::new().await;
    let ((one_url, one), (two_url, two)) = (world.begin().await, world.begin().await);
    let first = world.issuer.log_in(&one_url, &["security"], |_| {});
    let second = world.issuer.log_in(&two_url, &["security"], |_| {});
    let told = world.returned(&one, &second).refused(401, "unauthorized").await;
    assert!(told.detail().contains("state"), "{told:?}");
    assert_eq!(world.issuer.exchanges(), 0, "the code is not even shown");
    for odd in ["", "x", &one[1..], &format!("{one}A")] {
        let told = world.returned(odd, &first).refused(401, "unauthorized").await;
        assert!(told.detail().contains("begin it again"), "{told:?}");
    }
    let stolen = Back {
        code: second.code.clone(),
        state: first.state.clone(),
    };
    let told = world.returned(&one, &stolen).refused(401, "unauthorized").await;
    assert!(told.detail().contains("invalid_grant"), "PKCE: {told:?}");
    world.returned(&one, &first).expect(StatusCode::CREATED).await;
    let told = world.returned(&one, &first).refused(401, "unauthorized").await;
    assert!(
        told.detail().contains("invalid_grant"),
        "a code is good once: {told:?}"
    );
    world.bench.pass(Duration::from_secs(601));
    let (_, late) = (two_url, two);
    let told = world.returned(&late, &second).refused(401, "unauthorized").await;
    assert!(told.detail().contains("10 minutes"), "{told:?}");
}

#[tokio::test]
async fn who_is_in_no_group_with_a_role_is_told_so_and_nothing_is_made() {
    let world = World::new().await;
    for groups in [json!(["bowling"]), json!([]), json!(null), json!("Security")] {
        let told = world.refused(403, |claims| claims["groups"] = groups).await;
        assert!(
            told.contains("ada@acme.example") && told.contains("ask an admin"),
            "{told}"
        );
    }
    let sessions = world.bench.get("/sessions").ok().await.value();
    assert_eq!(sessions["items"], json!([]));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_said_and_tokens_go_on() {
    let world = World::new().await;
    world.issuer.set_down(true);
    let told = world.bench.post("/login-attempts").anonymous();
    let told = told.refused(503, "unavailable").await;
    assert!(
        told.detail().contains("can't be asked") && told.detail().contains("503"),
        "{told:?}"
    );
    world.bench.get("/login-methods").anonymous().ok().await;
    world.bench.get("/session").ok().await;

    let world = World::new().await;
    let (url, attempt) = world.begin().await;
    let back = world.issuer.log_in(&url, &["security"], |_| {});
    world.issuer.set_down(true);
    world.returned(&attempt, &back).refused(503, "unavailable").await;
    world.begin().await;
    world.issuer.set_down(false);
    world.returned(&attempt, &back).expect(StatusCode::CREATED).await;
}

#[tokio::test]
async fn a_new_key_is_looked_for_once() {
    let world = World::new().await;
    assert_eq!(world.log_in(&["security"], |_| {}).await.status, 201);
    world.issuer.rotate();
    assert_eq!(world.log_in(&["security"], |_| {}).await.status, 201);
    let before = world.issuer.lab.jwks_requests();
    let (url, attempt) = world.begin().await;
    let back = world.issuer.log_in(&url, &["security"], |_| {});
    world.issuer.rotate();
    world.issuer.lab.withdraw("key-3");
    let told = world.returned(&attempt, &back).refused(401, "unauthorized").await;
    assert!(told.detail().contains("key-3"), "{told:?}");
    assert_eq!(world.issuer.lab.jwks_requests(), before + 1);
}

#[tokio::test]
async fn the_keys_of_people_never_become_the_keys_of_jobs() {
    let world = World::new().await;
    let newest = *world.bench.store.db().newest().borrow();
    assert_eq!(world.log_in(&["security"], |_| {}).await.status, 201);
    assert_eq!(world.bench.store.issuers().await.unwrap(), []);
    assert_eq!(
        *world.bench.store.db().newest().borrow(),
        newest,
        "gateways hear nothing"
    );
    let stored = world.bench.dump().await;
    assert!(!stored.contains("key-1"), "no key is stored at all");
}

#[tokio::test]
async fn wrong_ways_back_are_counted_like_wrong_tokens() {
    let world = World::new().await;
    let (url, attempt) = world.begin().await;
    let back = world.issuer.log_in(&url, &["security"], |_| {});
    let guess = |number: u32| Back {
        code: format!("guess-{number}"),
        state: back.state.clone(),
    };
    for number in 0..10 {
        let told = world.returned(&attempt, &guess(number));
        told.from("198.51.100.7:1").refused(401, "unauthorized").await;
    }
    let told = world.returned(&attempt, &guess(10)).from("198.51.100.7:2");
    told.refused(429, "rate-limited").await;
    // Who has signed in at the issuer comes in beside whoever else sits behind the address.
    let beside = world.returned(&attempt, &back).from("198.51.100.7:3");
    beside.expect(StatusCode::CREATED).await;
}

#[tokio::test]
async fn half_a_way_back_and_a_login_where_there_is_no_issuer_are_refused() {
    let world = World::new().await;
    for body in [
        json!({"code": "x", "state": "y"}),
        json!({"attempt": "x", "code": "y"}),
        json!({"token": "x", "attempt": "x", "code": "y", "state": "z"}),
        json!({}),
    ] {
        let call = world.bench.post("/sessions").anonymous().json(&body);
        call.refused(422, "invalid").await;
    }
    let bench = Bench::new().await;
    let methods = bench.get("/login-methods").anonymous().ok().await.value();
    assert_eq!(methods, json!({"token": true, "oidc": null}));
    let told = bench
        .post("/login-attempts")
        .anonymous()
        .refused(404, "not-found")
        .await;
    assert!(told.detail().contains("control.login"), "{told:?}");
    let body = json!({"attempt": "x", "code": "y", "state": "z"});
    bench
        .post("/sessions")
        .anonymous()
        .json(&body)
        .refused(404, "not-found")
        .await;
}
