//! The audit log: what it shows, finds and exports.

use axum::http::Method;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, POLICY, of_owners, wanted};

#[tokio::test]
async fn entries_say_who_did_what_and_lead_there() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let body = json!({"pattern": "evil.test", "reason": NASTY});
    bench.api(Method::POST, "/global-block/entries", &body).await;
    let admin = bench.browser_of(&wanted(Role::Admin, NASTY)).await;
    let page = admin.open("/ui/audit-log").await;
    page.shows("href=\"/ui/orgs/acme/policies/base\"")
        .shows("policy.created");
    page.shows("href=\"/ui/global-block\"").shows("session.created");
    page.shows("&#60;script&#62;alert(1)").hides("<script>alert");
    admin
        .open("/ui/audit-log?action=policy.*")
        .await
        .shows("policy.created")
        .hides("block.added</code>");
    admin
        .open("/ui/audit-log?target=policy%20acme%2F*")
        .await
        .shows("policy acme/base")
        .hides("evil.test");
    admin
        .open("/ui/audit-log?actor=root")
        .await
        .shows("policy.created")
        .hides("session.created</code>");
    admin
        .open("/ui/audit-log?actor=nobody")
        .await
        .shows("Nothing is like that");
    admin
        .open("/ui/audit-log?since=2001-01-01&until=2001-01-02")
        .await
        .shows("Nothing is like that");
    admin
        .open("/ui/audit-log?since=2001-01-01&via=api")
        .await
        .shows("policy.created");
    let odd = admin.get("/ui/audit-log?since=soon").await;
    odd.is(400).shows("role=\"alert\"").shows("value=\"soon\"");
}

#[tokio::test]
async fn long_logs_come_in_pages_and_are_exported_whole() {
    let bench = Bench::new().await;
    for number in 0..60 {
        bench.policy("acme", &format!("p{number}"), POLICY).await;
    }
    let admin = bench.browser(Role::Admin).await;
    let page = admin.open("/ui/audit-log?action=policy.created").await;
    page.shows("policy acme/p59")
        .hides("policy acme/p3<")
        .shows("Next page");
    let older = page.text.split("rel=\"next\" href=\"").nth(1).unwrap();
    let older = older
        .split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&")
        .replace("&amp;", "&");
    admin
        .open(&older)
        .await
        .shows("policy acme/p3<")
        .hides("policy acme/p59")
        .shows("First page");
    let export = admin.open("/ui/audit-log/export?action=policy.created").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    assert!(export.header("content-disposition").contains(".ndjson"));
    let lines: Vec<Value> = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 60);
    assert!(
        lines
            .iter()
            .all(|line| line["hash"].as_str().unwrap().len() == 64)
    );
}

#[tokio::test]
async fn a_row_shows_the_beginning_of_a_long_change() {
    let bench = Bench::new().await;
    bench.policy("acme", "base", POLICY).await;
    let lines: Vec<String> = (0..100).map(|line| format!("# line {line}\n")).collect();
    let yaml = format!("{POLICY}{}", lines.concat());
    let admin = bench.browser(Role::Admin).await;
    let edit = [("do", "save"), ("etag", "\"1\""), ("yaml", yaml.as_str())];
    admin
        .post("/ui/orgs/acme/policies/base/edit", &edit)
        .await
        .is(303);
    let page = admin.open("/ui/audit-log?action=policy.updated").await;
    page.shows("# line 5<").hides("# line 60<").shows("more lines");
    admin
        .open("/ui/audit-log/export?action=policy.updated")
        .await
        .shows("# line 60");
}

#[tokio::test]
async fn a_limited_session_sees_its_own_organization() {
    let bench = Bench::new().await;
    bench.policy("acme", "ours", POLICY).await;
    bench.policy("other", "theirs", POLICY).await;
    let several = bench
        .browser_of(&of_owners(Role::Viewer, "Bo", &["acme", "umbrella"]))
        .await;
    several
        .open("/ui/audit-log")
        .await
        .shows("policy acme/ours")
        .hides("theirs")
        .shows("value=\"acme\"");
    several
        .get("/ui/audit-log?owner=other")
        .await
        .is(403)
        .hides("theirs");
    several.get("/ui/audit-log/export?owner=other").await.is(403);
    let stranger = bench.stranger();
    stranger.get("/ui/audit-log").await.wants_login();
    stranger.get("/ui/audit-log/export").await.wants_login();
}
