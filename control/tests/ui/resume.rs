//! Sessions that end while somebody works: back to where they were, with what they typed.

use std::time::Duration;

use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY};

#[tokio::test]
async fn a_page_leads_back_to_itself_and_says_that_the_session_ended() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Editor).await;
    bench.pass(Duration::from_hours(12));
    let asked = browser.get("/ui/orgs?to=policies").await;
    assert_eq!(
        asked.location(),
        "/ui/login?next=%2Fui%2Forgs%3Fto%3Dpolicies&ended=yes"
    );
    browser
        .follow(&asked)
        .await
        .shows("Your session ended")
        .shows("value=\"/ui/orgs?to=policies\"");
    bench
        .stranger()
        .open("/ui/login")
        .await
        .hides("Your session ended");
}

#[tokio::test]
async fn a_form_is_held_until_its_person_is_back() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Admin).await;
    bench.pass(Duration::from_hours(12));
    let before = bench.store.has_admin().await.unwrap();
    let yaml = format!("# mine\r\negress-policy: audit\r\n# {NASTY}\r\n");
    let held = browser
        .post(
            "/ui/global-block?x=1",
            &[("pattern", "evil.test"), ("reason", NASTY), ("yaml", &yaml)],
        )
        .await;
    held.is(403)
        .shows("nothing that you typed is lost")
        .shows("action=\"/ui/global-block?x=1\"")
        .shows("name=\"pattern\" value=\"evil.test\"")
        .shows("egress-policy: audit")
        .hides("<script>alert(1)");
    assert!(before);
    let entries = bench.api(
        axum::http::Method::GET,
        "/global-block/entries?search=evil.test",
        &serde_json::Value::Null,
    );
    assert_eq!(entries.await["items"], serde_json::json!([]));
    let again = bench.token(&crate::bench::wanted(Role::Admin, "back")).await;
    browser.post("/ui/login", &[("token", &again)]).await.is(303);
    browser
        .post("/ui/global-block", &[("pattern", "evil.test"), ("reason", "x")])
        .await
        .is(303);
}

#[tokio::test]
async fn other_sites_get_nothing_held() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Admin).await;
    bench.pass(Duration::from_hours(12));
    let cross = [("sec-fetch-site", "cross-site")];
    let told = browser
        .post_with("/ui/global-block", &[("pattern", "evil.test")], &cross)
        .await;
    told.is(403).hides("evil.test");
    let bare = bench.stranger();
    bare.post_with("/ui/global-block", &[("pattern", "evil.test")], &cross)
        .await
        .is(403)
        .hides("evil.test");
    browser.post("/ui/logout", &[]).await.is(303);
}

#[tokio::test]
async fn the_largest_document_is_held_too() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Admin).await;
    bench.pass(Duration::from_hours(12));
    let text = "\u{e9}".repeat(512 << 10);
    let held = browser.post("/ui/orgs/acme/policies", &[("yaml", &text)]).await;
    assert_eq!(held.status, 403);
    assert!(held.text.contains(&text));
}

/// A check while somebody types is refused first; the form that comes after it is held all the same.
#[tokio::test]
async fn a_part_that_is_refused_does_not_forget_who_was_there() {
    let bench = Bench::new().await;
    let browser = bench.browser(Role::Editor).await;
    bench.pass(Duration::from_hours(12));
    browser.part("/ui/overview/refused").await.is(401);
    browser
        .post(
            "/ui/orgs/acme/new-policy",
            &[("name", "typed"), ("yaml", "# long\n")],
        )
        .await
        .is(403)
        .shows("nothing that you typed is lost");
}

/// The cookie is one for all tabs. Whatever another tab did to it, each tab's text is held in its own page.
#[tokio::test]
async fn what_another_tab_does_loses_no_text() {
    let bench = Bench::new().await;
    let new = "/ui/orgs/acme/new-policy";
    let typed = |name: &'static str| {
        [
            ("do", "check"),
            ("name", name),
            ("yaml", "egress-policy: audit\r\n"),
        ]
    };
    // One tab is sent to the login page, which takes the cookie back; two others had texts.
    let browser = bench.browser(Role::Editor).await;
    bench.pass(Duration::from_hours(12));
    browser.get("/ui/").await.wants_login();
    assert_eq!(browser.cookie("tidegate"), None);
    for name in ["first", "second"] {
        let held = browser.post(new, &typed(name)).await;
        held.is(403)
            .shows("nothing that you typed is lost")
            .shows(&format!("name=\"name\" value=\"{name}\""))
            .shows("egress-policy: audit");
    }
    // Signed in again in any of them, all of them go on.
    let again = bench.token(&crate::bench::wanted(Role::Editor, "back")).await;
    browser.post("/ui/login", &[("token", &again)]).await.is(303);
    for name in ["first", "second"] {
        let page = browser.post(new, &typed(name)).await;
        page.is(200).shows(&format!("value=\"{name}\""));
    }
    // Another tab signed out.
    browser.post("/ui/logout", &[]).await.is(303);
    browser
        .post(new, &typed("third"))
        .await
        .is(403)
        .shows("value=\"third\"");
}

/// Nobody is signed in where forms are held: what one costs is bounded.
#[tokio::test]
async fn what_is_held_is_bounded() {
    let bench = Bench::new().await;
    let stranger = bench.stranger();
    let many: Vec<(&str, &str)> = vec![("a", "b"); 8_193];
    let path = "/ui/orgs/acme/new-policy";
    stranger.post(path, &many).await.is(403).hides("name=\"a\"");
    let fits = "# x\n".repeat(200_000);
    let held = stranger.post(path, &[("yaml", &fits)]).await;
    held.is(403).shows("name=\"yaml\"");
    let long = "x".repeat((2 << 20) + 1);
    stranger
        .post(path, &[("yaml", &long)])
        .await
        .is(403)
        .hides("name=\"yaml\"");

    let editor = bench.browser(Role::Editor).await;
    editor
        .post(path, &many)
        .await
        .is(413)
        .shows("at most 8192 fields");
}
