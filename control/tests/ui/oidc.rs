//! Signing in at an issuer: there and back, and every way of not getting in.

use tidegate_control::login::{Login, LoginKey};
use tidegate_control::model::Role;
use tidegate_control_ui::UiSettings;

use crate::bench::{Answer, Bench, Browser};
use crate::issuer::Issuer;

async fn world(issuer: &Issuer) -> Bench {
    let login = Login::new(issuer.config(), &LoginKey::random()).unwrap();
    let settings = UiSettings {
        secure: true,
        public_origin: Some("https://tidegate.example.test".into()),
    };
    Bench::made(settings, |state| state.with_login(login)).await
}

/// Goes to the issuer, signs in there with these groups, and comes back.
async fn there_and_back(browser: &Browser<'_>, issuer: &Issuer, groups: &[&str]) -> Answer {
    let there = browser
        .get("/ui/oidc/start?next=%2Fui%2Forgs%3Fto%3Dpolicies")
        .await;
    let back = issuer.log_in(there.location(), groups, |_| {});
    let path = format!("/ui/oidc/callback?code={}&state={}", back.code, back.state);
    // The issuer is another site.
    browser
        .send(
            axum::http::Method::GET,
            &path,
            &[("sec-fetch-site", "cross-site")],
            String::new(),
        )
        .await
}

#[tokio::test]
async fn a_person_signs_in_and_is_where_they_wanted_to_go() {
    let issuer = Issuer::new().await;
    let bench = world(&issuer).await;
    let browser = bench.stranger();
    let login = browser.open("/ui/login?next=%2Fui%2Forgs%3Fto%3Dpolicies").await;
    login.shows("Sign in with 127.0.0.1");
    login.shows("href=\"/ui/oidc/start?next=%2Fui%2Forgs%3Fto%3Dpolicies\"");
    let back = there_and_back(&browser, &issuer, &["acme-devs"]).await;
    assert_eq!(back.location(), "/ui/orgs?to=policies");
    assert!(
        browser
            .cookie("__Host-tidegate")
            .is_some_and(|text| text.starts_with("tgs_"))
    );
    assert_eq!(
        browser.cookie("__Host-tidegate-login"),
        None,
        "an attempt is for one way back"
    );
    browser
        .open("/ui/")
        .await
        .shows("ada@acme.example")
        .shows("editor");
}

#[tokio::test]
async fn the_attempt_is_tied_to_the_browser_that_began_it() {
    let issuer = Issuer::new().await;
    let bench = world(&issuer).await;
    let (mallory, ada) = (bench.stranger(), bench.stranger());
    let there = mallory.get("/ui/oidc/start").await;
    let back = issuer.log_in(there.location(), &["security"], |_| {});
    let path = format!("/ui/oidc/callback?code={}&state={}", back.code, back.state);
    let planted = ada.get(&path).await;
    planted.is(422).shows("not begun here");
    assert_eq!(ada.cookie("__Host-tidegate"), None);
    assert_eq!(issuer.exchanges(), 0);
    ada.get("/ui/oidc/start").await;
    ada.get(&path).await.is(422).shows("another login");
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why_on_the_login_page() {
    let issuer = Issuer::new().await;
    let bench = world(&issuer).await;
    let browser = bench.stranger();
    let told = there_and_back(&browser, &issuer, &["bowling"]).await;
    told.is(403)
        .shows("ask an admin")
        .shows("Sign in with")
        .shows("value=\"/ui/orgs?to=policies\"");
    assert_eq!(browser.cookie("__Host-tidegate"), None);
    let fresh = Issuer::new().await;
    fresh.set_down(true);
    let bench = world(&fresh).await;
    let told = bench.stranger().get("/ui/oidc/start").await;
    told.is(503).shows("be asked").shows("name=\"token\"");
    bench.browser(Role::Viewer).await.open("/ui/").await;
}

#[tokio::test]
async fn a_link_that_looks_like_an_answer_says_nothing_of_its_own_and_ends_no_login() {
    let issuer = Issuer::new().await;
    let bench = world(&issuer).await;
    let browser = bench.stranger();
    let nasty = "/ui/oidc/callback?error=access_denied&error_description=Call+the+helpdesk&state=x";
    for _ in 0..2 {
        let told = browser.get(nasty).await;
        told.is(403)
            .shows("no answer to a login that was begun in this browser")
            .hides("helpdesk")
            .hides("access_denied");
        let wrong = browser.get("/ui/oidc/callback?code=c&state=x").await;
        assert!(wrong.status == 422, "{wrong:?}");
        // Once without a login on its way, once with.
        browser.get("/ui/oidc/start?next=%2Fui%2Forgs").await;
    }
    let there = browser.get("/ui/oidc/start?next=%2Fui%2Forgs").await;
    browser.get(nasty).await.is(403);
    browser.get("/ui/oidc/callback?code=c&state=x").await.is(422);
    let back = issuer.log_in(there.location(), &["acme-devs"], |_| {});
    let path = format!("/ui/oidc/callback?code={}&state={}", back.code, back.state);
    assert_eq!(browser.get(&path).await.location(), "/ui/orgs", "it goes on");
}

#[tokio::test]
async fn what_the_issuer_declines_is_said_in_our_words() {
    let issuer = Issuer::new().await;
    let bench = world(&issuer).await;
    let browser = bench.stranger();
    for (error, said) in [
        ("access_denied", "declined (access_denied)"),
        ("Call%20the%20helpdesk", "for a reason of its own"),
    ] {
        let there = browser.get("/ui/oidc/start").await;
        let back = issuer.log_in(there.location(), &["acme-devs"], |_| {});
        let path = format!(
            "/ui/oidc/callback?error={error}&error_description=Call+the+helpdesk&state={}",
            back.state
        );
        browser.get(&path).await.is(403).shows(said).hides("helpdesk");
        assert_eq!(
            browser.cookie("__Host-tidegate-login"),
            None,
            "that login is over"
        );
    }
}

#[tokio::test]
async fn without_an_issuer_there_is_no_button() {
    let bench = Bench::new().await;
    let browser = bench.stranger();
    browser
        .open("/ui/login")
        .await
        .hides("Sign in with")
        .hides("/ui/oidc");
    browser.get("/ui/oidc/start").await.is(404).shows("control.login");
    browser.get("/ui/oidc/callback").await.is(404);
}
