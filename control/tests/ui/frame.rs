//! What every page has: headers, looks, errors; and the files beside them.

use tidegate_control::model::Role;
use tidegate_control_ui::UiSettings;

use crate::bench::{Answer, Bench, NASTY, wanted};

#[tokio::test]
async fn assets_are_named_by_what_is_in_them_and_kept_for_ever() {
    let bench = Bench::new().await;
    let browser = bench.stranger();
    let page = browser.open("/ui/login").await;
    let assets: Vec<&str> = page
        .text
        .split('"')
        .filter(|part| part.starts_with("/ui/static/"))
        .collect();
    assert!(assets.len() >= 3, "{page:?}");
    for asset in &assets {
        let file = browser.open(asset).await;
        assert_eq!(
            file.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert!(!file.text.is_empty());
        assert!(
            !file.text.contains("http://") || asset.ends_with("icon.svg"),
            "{asset}"
        );
    }
    let (folder, name) = assets[0].rsplit_once('/').unwrap();
    let hash = folder.rsplit('/').next().unwrap();
    assert!(
        hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{hash}"
    );
    let other = browser.open(&format!("/ui/static/0000000000000000/{name}")).await;
    assert_eq!(other.header("cache-control"), "no-store", "another build's page");
    for script in ["time.js", "load.js"] {
        browser.open(&format!("{folder}/{script}")).await;
    }
    browser.get(&format!("{folder}/nothing.js")).await.is(404);
    browser.get(&format!("{folder}/..%2fapp.js")).await.is(404);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_the_way_back() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Viewer).await;
    browser
        .get("/ui/nothing/here")
        .await
        .is(404)
        .shows("there is no page at this address")
        .shows("aria-label=\"Pages\"");
    bench
        .stranger()
        .get("/ui/nothing")
        .await
        .is(404)
        .hides("aria-label=\"Pages\"");
    browser.get("/ui/logout").await.is(405).shows("does not take GET");
    let long = "x".repeat(300 << 10);
    browser.post("/ui/theme", &[("theme", &long)]).await.is(413);
}

#[tokio::test]
async fn light_and_dark_are_a_choice_that_is_kept() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Viewer).await;
    browser.open("/ui/").await.shows("data-theme=\"auto\"");
    let done = browser
        .post("/ui/theme", &[("theme", "dark"), ("next", "/ui/orgs")])
        .await;
    assert_eq!(done.location(), "/ui/orgs");
    browser.open("/ui/").await.shows("data-theme=\"dark\"");
    browser.post("/ui/theme", &[("theme", "auto")]).await;
    browser.open("/ui/").await.shows("data-theme=\"auto\"");
    browser.put("tidegate-theme", "\"><script>");
    browser.open("/ui/").await.shows("data-theme=\"auto\"");
}

#[tokio::test]
async fn the_answer_to_a_form_leads_nowhere_by_its_own_address() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Admin).await;
    browser
        .get("/ui/connect/none")
        .await
        .is(404)
        .shows("Try again")
        .shows("action=\"/ui/theme\"");
    browser
        .post("/ui/connect/none/token", &[("name", "x")])
        .await
        .is(404)
        .hides("Try again")
        .hides("action=\"/ui/theme\"");
    // What a form holds would be lost by going anywhere.
    let held = bench.stranger();
    let held = held.post("/ui/global-block", &[("pattern", "evil.test")]).await;
    held.is(403).shows("evil.test").hides("action=\"/ui/theme\"");
    let stranger = bench.stranger();
    let next = "/ui/login?next=%2Fui%2Forgs";
    stranger
        .open(next)
        .await
        .shows("name=\"next\" value=\"/ui/login?next=%2Fui%2Forgs\"");
    let dark = [("theme", "dark"), ("next", next)];
    assert_eq!(stranger.post("/ui/theme", &dark).await.location(), next);
    let odd = [("theme", "dark"), ("next", "/ui/login?\r\nx: y")];
    assert_eq!(stranger.post("/ui/theme", &odd).await.location(), "/ui/");
}

#[tokio::test]
async fn browsers_come_back_by_https_where_the_cookie_demands_it() {
    let secure = UiSettings {
        secure: true,
        ..UiSettings::default()
    };
    let told = |answer: &Answer| answer.headers.contains_key("strict-transport-security");
    let bench = Bench::reached(secure).await;
    assert!(told(&bench.stranger().open("/ui/login").await));
    let bench = Bench::new().await;
    assert!(!told(&bench.stranger().open("/ui/login").await), "plain loopback");
}

#[tokio::test]
async fn names_from_strangers_are_only_text() {
    let bench = Bench::new().await;
    let browser = bench
        .browser_of(&wanted(Role::Editor, &NASTY.replace('\u{202e}', "b")))
        .await;
    browser
        .open("/ui/")
        .await
        .hides("<script>alert")
        .hides("<img src=x")
        .shows("alert(1)");
    browser.put("tidegate-flash", "<b>you-won</b>");
    browser.put("tidegate-owner", "%3Cscript%3E");
    browser.open("/ui/").await.hides("you-won").hides("<script>%");
    let odd = browser
        .get("/ui/orgs?owner=%3Cscript%3Ealert(1)%3C%2Fscript%3E&to=x")
        .await;
    assert_eq!(
        odd.location(),
        "/ui/orgs/%3Cscript%3Ealert%281%29%3C%2Fscript%3E/policies"
    );
}

#[tokio::test]
async fn the_organization_that_was_looked_at_is_kept() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Viewer).await;
    browser.open("/ui/").await.shows("href=\"/ui/orgs?to=policies\"");
    browser.open("/ui/orgs/%61CME/endpoint-sets").await;
    assert_eq!(browser.cookie("tidegate-owner").as_deref(), Some("acme"));
    browser
        .open("/ui/")
        .await
        .shows("href=\"/ui/orgs/acme/policies\"");
}
