//! The global block list's page.

use axum::http::Method;
use serde_json::json;
use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, of_owners};

const LIST: &str = "/ui/global-block";

async fn entry(bench: &Bench, pattern: &str, reason: &str) -> String {
    let body = json!({"pattern": pattern, "reason": reason});
    let made = bench.api(Method::POST, "/global-block/entries", &body).await;
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn everybody_reads_it_by_layer_and_by_search() {
    let bench = Bench::new().await;
    entry(&bench, "exfil.example", NASTY).await;
    entry(&bench, "other.example", "ticket 7").await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open(LIST)
        .await
        .shows("exfil.example")
        .shows("<strong>2</strong>All")
        .shows("<strong>2</strong>Deployment")
        .shows("<strong>0</strong>Feed")
        .shows("\\u{202e}")
        .hides("<script>alert")
        .hides("<img src=x")
        .hides("Remove")
        .hides("method=\"post\" action=\"/ui/global-block\"");
    viewer
        .open("/ui/global-block?layer=deployment&search=OTHER")
        .await
        .shows("ticket 7")
        .hides("exfil.example");
    viewer
        .open("/ui/global-block?search=nothing")
        .await
        .shows("Nothing matches");
    viewer.get("/ui/global-block?layer=odd").await.is(400);
}

#[tokio::test]
async fn an_empty_list_says_what_to_do() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer.open(LIST).await.shows("The list is empty");
}

#[tokio::test]
async fn an_admin_adds_an_entry_and_sees_it() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    let fields = [
        ("pattern", " *.Evil.example "),
        ("reason", "incident"),
        ("until", "2099-01-31"),
    ];
    let done = admin.post(LIST, &fields).await;
    admin
        .follow(&done)
        .await
        .shows("The entry is on the global block list")
        .shows("*.evil.example")
        .shows("datetime=\"2099-01-31T23:59:59Z\"")
        .shows("by the admin");
}

#[tokio::test]
async fn what_is_wrong_is_said_beside_what_was_typed() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    let fields = [("pattern", "not a name"), ("reason", "my long reason")];
    admin
        .post(LIST, &fields)
        .await
        .is(422)
        .shows("role=\"alert\"")
        .shows("value=\"not a name\"")
        .shows("value=\"my long reason\"");
    entry(&bench, "evil.example", "x").await;
    let fields = [("pattern", "evil.example"), ("reason", "again")];
    admin.post(LIST, &fields).await.is(409).shows("role=\"alert\"");
    let fields = [("pattern", "b.example"), ("reason", "x"), ("until", "soon")];
    admin.post(LIST, &fields).await.is(422).shows("value=\"soon\"");
}

#[tokio::test]
async fn a_list_is_pasted_whole_or_not_at_all() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    let page = "/ui/global-block/import";
    admin.open(page).await.shows("Block all of it");
    let wrong = [("list", "a.example\r\nnot a name\r\n"), ("reason", "feed")];
    admin
        .post(page, &wrong)
        .await
        .is(422)
        .shows("Line 2")
        .shows("a.example\nnot a name");
    let good = [
        ("list", "a.example\r\n*.b.example\r\n"),
        ("reason", "a feed of ours"),
    ];
    let done = admin.post(page, &good).await;
    admin
        .follow(&done)
        .await
        .shows("a.example")
        .shows("*.b.example")
        .shows("a feed of ours");
    let large = "x.example\r\n".repeat(100_000);
    admin.post(page, &[("list", &large), ("reason", "x")]).await;
    let larger = "x".repeat(7 << 20);
    admin
        .post(page, &[("list", &larger), ("reason", "x")])
        .await
        .is(413);
}

#[tokio::test]
async fn removing_shows_what_it_means_first() {
    let bench = Bench::new().await;
    let id = entry(&bench, "*.evil.example", "ticket 7").await;
    let admin = bench.browser(Role::Admin).await;
    let ask = format!("/ui/global-block/entries/{id}/remove?pattern=%2A.evil.example");
    admin
        .open(LIST)
        .await
        .shows(&format!("href=\"{}\"", ask.replace('&', "&#38;")));
    admin.open(&ask).await.shows("reach it again").shows("ticket 7");
    admin.open(LIST).await.shows("*.evil.example");
    let done = admin.post(&ask, &[]).await;
    admin
        .follow(&done)
        .await
        .shows("was removed")
        .hides("*.evil.example</th>");
    admin.get(&ask).await.is(404);
    admin.post(&ask, &[]).await.is(404);
}

#[tokio::test]
async fn only_admins_of_everything_change_it() {
    let bench = Bench::new().await;
    let id = entry(&bench, "evil.example", "x").await;
    let limited = of_owners(Role::Admin, "limited", &["acme"]);
    for browser in [
        bench.browser(Role::Viewer).await,
        bench.browser(Role::Editor).await,
        bench.browser_of(&limited).await,
    ] {
        browser.open(LIST).await.hides("Remove").hides("Import a list");
        let fields = [("pattern", "b.example"), ("reason", "x"), ("list", "b.example")];
        browser.post(LIST, &fields).await.is(403);
        browser.post("/ui/global-block/import", &fields).await.is(403);
        let remove = format!("/ui/global-block/entries/{id}/remove");
        browser.post(&remove, &[]).await.is(403);
        browser.open(LIST).await.shows("evil.example").hides("b.example");
    }
}

#[tokio::test]
async fn long_lists_are_paged_and_stay_small() {
    let bench = Bench::new().await;
    let admin = bench.browser(Role::Admin).await;
    let list: Vec<_> = (0..250).map(|n| format!("host-{n:04}.evil.example")).collect();
    let list = list.join("\n");
    let fields = [("list", list.as_str()), ("reason", "many")];
    admin.post("/ui/global-block/import", &fields).await.is(303);
    let first = admin.open(LIST).await;
    first.shows("host-0000").shows("host-0049").hides("host-0050");
    let (_, next) = first.text.split_once("rel=\"next\" href=\"").unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    admin
        .open(&next)
        .await
        .shows("host-0050")
        .shows("host-0099")
        .shows("First page");
}
