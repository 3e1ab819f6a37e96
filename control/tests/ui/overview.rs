//! The overview: numbers that lead to what they count, a chart with its table, parts that load by themselves.

use serde_json::json;
use tidegate_control::model::Role;

use crate::bench::{Bench, NASTY, POLICY, of_owners};
use crate::coverage::{attach, event, gateway, job, tell};

async fn filled() -> Bench {
    let bench = Bench::new().await;
    gateway(&bench).await;
    bench.policy("acme", "loose", POLICY).await;
    bench.policy("acme", "base", POLICY).await;
    attach(&bench, "base", "repo:acme/web").await;
    job(&bench, "acme/web", "10.77.0.1", &json!({})).await;
    let refused = json!({"verdict": "refuse", "reason": "not-allowed", "name": "evil.test", "count": 7});
    let would = json!({"verdict": "would-refuse", "reason": "denied", "name": "beta-only.test", "count": 2});
    let events = [
        event(
            "aaaaaaaa",
            Some(("job_a", "acme/web")),
            &json!({"name": "good.test"}),
        ),
        event("bbbbbbbb", Some(("job_a", "acme/web")), &refused),
        event("cccccccc", Some(("job_b", "beta/api")), &would),
    ];
    tell(&bench.store, "s1", &events).await;
    bench
}

#[tokio::test]
async fn numbers_lead_to_what_they_count() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/").await;
    page.shows("<strong>7</strong>refused in 24 hours")
        .shows("<strong>2</strong>would be refused")
        .shows("<strong>1</strong>job runs now")
        .shows("<title id=\"narrow-title\">")
        .shows("gateway connected")
        .shows("<title id=\"wide-title\">")
        .shows("class=\"bar-refuse\"")
        .shows("7 refused, 2 would be refused")
        .shows("data-load=\"/ui/overview/refused\"");
    for (span, words) in [
        ("7d", "refused in 7 days"),
        ("30d", "refused in 30 days"),
        ("odd", "refused in 24 hours"),
    ] {
        let page = viewer.open(&format!("/ui/?span={span}")).await;
        page.shows(words);
        // The count's events are those of the chart, from its first bar on.
        let (_, rest) = page
            .text
            .split_once("?verdict=refuse%2Cwould-refuse&#38;since=")
            .unwrap();
        let first = rest.split("&#38;").next().unwrap();
        page.shows(&format!("href=\"/ui/events?verdict=refuse&#38;since={first}\""));
    }
    viewer
        .open("/ui/?owner=beta")
        .await
        .shows("<strong>0</strong>refused")
        .shows("<strong>2</strong>would");
    bench.stranger().get("/ui/").await.wants_login();
    bench.stranger().get("/ui/overview/refused").await.wants_login();
}

#[tokio::test]
async fn parts_load_alone_and_are_pages_without_scripts() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    let refused = viewer.part("/ui/overview/refused").await;
    refused
        .is(200)
        .shows("evil.test")
        .shows("title=\"not-allowed: No allowed endpoint of the policy covers it.\">not allowed</span>")
        .hides("<html");
    viewer
        .open("/ui/overview/refused")
        .await
        .shows("<html")
        .shows("evil.test");
    viewer
        .part("/ui/overview/first-seen")
        .await
        .shows("good.test")
        .shows("new anywhere");
    viewer
        .part("/ui/overview/policies")
        .await
        .shows("acme/loose")
        .shows("Attached nowhere (1)");
    viewer.part("/ui/overview/odd").await.is(404);
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "of acme", &["acme"]))
        .await;
    acme.part("/ui/overview/refused")
        .await
        .shows("evil.test")
        .hides("beta-only.test");
    acme.part("/ui/overview/first-seen")
        .await
        .shows("good.test")
        .hides("new anywhere")
        .hides("elsewhere before");
    acme.open("/ui/")
        .await
        .shows("<strong>0</strong>would be refused");
    acme.part("/ui/overview/refused?owner=beta").await.is(403);
}

#[tokio::test]
async fn a_new_deployment_says_what_to_do_and_strange_names_do_nothing() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/")
        .await
        .shows("Nothing is connected yet")
        .shows("/ui/connect");
    viewer
        .part("/ui/overview/refused")
        .await
        .shows("Nothing was refused");
    let nasty = json!({"verdict": "refuse", "reason": NASTY, "name": NASTY});
    tell(
        &bench.store,
        "s1",
        &[event("eeeeeeee", Some(("job_a", "acme/web")), &nasty)],
    )
    .await;
    viewer
        .part("/ui/overview/refused")
        .await
        .hides("<script>alert")
        .hides("\u{202e}")
        .shows("alert(1)");
}

#[tokio::test]
async fn the_organization_in_the_bar_is_the_one_that_is_looked_at() {
    let bench = filled().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer.open("/ui/orgs/acme/policies").await;
    viewer
        .open("/ui/")
        .await
        .shows("<option value=\"acme\" selected>")
        .shows("<strong>0</strong>would be refused")
        .shows("href=\"/ui/runs?owner=acme&#38;alive=true\"");
    viewer
        .open("/ui/?owner=*")
        .await
        .shows("<strong>2</strong>would be refused")
        .shows("href=\"/ui/runs?owner=%2A&#38;alive=true\"")
        .shows("data-load=\"/ui/overview/refused?owner=%2A\"");
    viewer
        .part("/ui/overview/refused?owner=%2A")
        .await
        .shows("beta-only.test");
}
