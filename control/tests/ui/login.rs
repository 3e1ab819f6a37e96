//! Signing in and out, and what nobody reaches without.

use std::time::Duration;

use axum::http::Method;
use serde_json::Value;
use tidegate_control::model::Role;
use tidegate_control_ui::UiSettings;

use crate::bench::{Bench, of_owners, wanted};

#[tokio::test]
async fn nobody_sees_a_page_without_a_session() {
    let bench = Bench::new().await;
    let browser = bench.stranger();
    browser.get("/").await.is(303);
    for path in ["/ui/", "/ui/orgs", "/ui/global-block", "/ui/connect"] {
        browser.get(path).await.wants_login();
        browser.part(path).await.is(401);
    }
    let asked = browser.get("/ui/orgs?to=policies").await;
    assert_eq!(
        asked.location(),
        "/ui/login?next=%2Fui%2Forgs%3Fto%3Dpolicies",
        "it leads back"
    );
    browser
        .post("/ui/global-block", &[("pattern", "evil.test")])
        .await
        .is(403)
        .shows("/ui/login");
}

#[tokio::test]
async fn a_token_opens_a_session_which_is_not_that_token_and_ends_by_leaving() {
    let bench = Bench::new().await;
    let text = bench.token(&wanted(Role::Viewer, "Ada")).await;
    let browser = bench.stranger();
    let login = browser.open("/ui/login?next=/ui/orgs").await;
    login.shows("value=\"/ui/orgs\"");
    let done = browser
        .post(
            "/ui/login",
            &[("token", &format!(" {text}\n")), ("next", "/ui/orgs")],
        )
        .await;
    assert_eq!(done.location(), "/ui/orgs");
    let set = done.header("set-cookie");
    assert!(
        set.starts_with("tidegate=") && set.contains("; HttpOnly"),
        "{set}"
    );
    assert!(
        set.contains("; SameSite=Lax") && !set.contains("Secure"),
        "plain loopback: {set}"
    );
    let session = browser.cookie("tidegate").unwrap();
    assert_ne!(session, text, "what the browser keeps ends by itself");
    browser
        .open("/ui/")
        .await
        .shows("Ada")
        .shows("viewer")
        .hides(&session)
        .hides(&text);

    let left = browser.post("/ui/logout", &[]).await;
    assert_eq!(left.location(), "/ui/login");
    assert_eq!(browser.cookie("tidegate"), None);
    browser.follow(&left).await.shows("You are signed out.");
    browser.open("/ui/login").await.hides("You are signed out.");
    browser.put("tidegate", &session);
    browser.get("/ui/").await.wants_login();
    assert_eq!(browser.cookie("tidegate"), None, "a dead session is forgotten");
}

#[tokio::test]
async fn leaving_takes_the_cookie_even_where_the_session_can_not_be_ended() {
    let bench = Bench::new().await;
    let browser = bench.stranger();
    // Somebody put a token there, which no page ends.
    browser.put("tidegate", &bench.token(&wanted(Role::Viewer, "v")).await);
    browser.open("/ui/").await;
    let left = browser.post("/ui/logout", &[]).await;
    assert_eq!(left.location(), "/ui/login");
    assert_eq!(browser.cookie("tidegate"), None);
    browser.follow(&left).await.shows("ends by itself");
}

#[tokio::test]
async fn over_https_the_cookie_is_bound_to_its_host() {
    let bench = Bench::reached(UiSettings {
        secure: true,
        ..UiSettings::default()
    })
    .await;
    let browser = bench.browser(Role::Viewer).await;
    assert!(browser.cookie("__Host-tidegate").is_some());
    browser.open("/ui/").await;
    let text = browser.cookie("__Host-tidegate").unwrap();
    let other = bench.stranger();
    other.put("tidegate", &text);
    other.get("/ui/").await.wants_login();
}

#[tokio::test]
async fn wrong_tokens_are_refused_in_words_and_counted_by_address() {
    let bench = Bench::new().await;
    let (attacker, person) = (bench.stranger(), bench.stranger().from("192.0.2.2:1"));
    attacker
        .post("/ui/login", &[("token", "tga_wrong")])
        .await
        .is(422)
        .shows("role=\"alert\"")
        .hides("tga_wrong");
    let runner = bench.token(&wanted(Role::Runner, "r")).await;
    attacker
        .post("/ui/login", &[("token", &runner)])
        .await
        .is(403)
        .shows("people log in with a token of role");
    let mut last = 0;
    for _ in 0..20 {
        last = attacker.post("/ui/login", &[("token", "tga_wrong")]).await.status;
    }
    assert_eq!(last, 429);
    let good = bench.token(&wanted(Role::Viewer, "v")).await;
    person.post("/ui/login", &[("token", &good)]).await.is(303);
    let other = bench.token(&wanted(Role::Viewer, "w")).await;
    let neighbour = bench.stranger();
    neighbour.post("/ui/login", &[("token", &other)]).await.is(303);
}

#[tokio::test]
async fn a_session_ends_with_its_time_and_with_its_token() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Viewer).await;
    browser.open("/ui/").await;
    bench.pass(Duration::from_hours(13));
    browser.get("/ui/").await.wants_login();

    let browser = bench.browser_of(&wanted(Role::Editor, "gone soon")).await;
    browser.open("/ui/").await;
    let tokens = bench
        .api(Method::GET, "/tokens?search=gone%20soon", &Value::Null)
        .await;
    let id = tokens["items"][0]["id"].as_str().unwrap();
    bench
        .api(Method::DELETE, &format!("/tokens/{id}"), &Value::Null)
        .await;
    browser.get("/ui/").await.wants_login();
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Admin).await;
    let text = bench.token(&wanted(Role::Viewer, "v")).await;
    let cross: &[&[(&'static str, &str)]] = &[
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.test")],
        &[("origin", "null")],
    ];
    for headers in cross {
        for (path, fields) in [
            ("/ui/logout", vec![]),
            ("/ui/login", vec![("token", text.as_str())]),
            ("/ui/theme", vec![("theme", "dark")]),
            (
                "/ui/global-block",
                vec![("pattern", "evil.test"), ("reason", "x")],
            ),
        ] {
            let answer = browser.post_with(path, &fields, headers).await;
            answer.is(403).shows("not sent from a page of Tidegate");
        }
    }
    browser.open("/ui/").await.shows("the admin");
    let own = [("origin", "http://tidegate.test")];
    browser
        .post_with("/ui/theme", &[("theme", "dark")], &own)
        .await
        .is(303);
}

#[tokio::test]
async fn next_leads_to_no_other_site() {
    let bench = Bench::new().await;
    let text = bench.token(&wanted(Role::Viewer, "v")).await;
    for next in [
        "//evil.test",
        "https://evil.test/ui/",
        "/ui/\\evil",
        "javascript:x",
    ] {
        let done = bench
            .stranger()
            .post("/ui/login", &[("token", &text), ("next", next)])
            .await;
        assert_eq!(done.location(), "/ui/", "{next}");
    }
}

#[tokio::test]
async fn a_limited_session_begins_with_its_own_organization() {
    let bench = Bench::new().await;
    let browser = bench
        .browser_of(&of_owners(Role::Editor, "Bo", &["acme", "umbrella"]))
        .await;
    let page = browser.open("/ui/").await;
    page.shows("href=\"/ui/orgs/acme/policies\"")
        .shows("href=\"/ui/orgs/umbrella\"");
}
