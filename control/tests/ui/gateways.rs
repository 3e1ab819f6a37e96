//! The fleet: what is degraded stands first and says why.

use std::time::Duration;

use serde_json::json;
use tidegate_control::model::Role;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;

use crate::bench::{Bench, NASTY, POLICY, of_owners, wanted};

async fn seen(bench: &Bench, name: &str, group: Option<&str>, version: &str) {
    let hello = Hello {
        protocol: PROTOCOL,
        gateway: name.into(),
        group: None,
        version: version.into(),
        networks: vec![ServedNetwork {
            name: "runners".into(),
            cluster: "prod".into(),
            ranges: vec!["10.77.0.0/16".parse().unwrap()],
            ..ServedNetwork::default()
        }],
        resume: None,
    };
    let group = group.map_or_else(|| format!("gateway:{name}"), |group| format!("group:{group}"));
    bench
        .store
        .gateway_seen(&hello, &group, Generation(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_degraded_stands_first_and_says_why() {
    let bench = Bench::new().await;
    for name in ["gw-1", "gw-2"] {
        seen(&bench, name, Some("east"), env!("CARGO_PKG_VERSION")).await;
        bench.token(&wanted(Role::Gateway, name)).await;
    }
    seen(&bench, "gw-3", None, "0.0.1").await;
    let viewer = bench.browser(Role::Viewer).await;
    let page = viewer.open("/ui/gateways").await;
    page.shows("No good token has its name")
        .shows("It runs version 0.0.1")
        .shows("group east")
        .shows("runners");
    assert!(
        page.text.find("gw-3").unwrap() < page.text.find("gw-1").unwrap(),
        "degraded first"
    );
    viewer
        .open("/ui/gateways?state=degraded")
        .await
        .shows("gw-3")
        .hides("gw-1");
    viewer
        .open("/ui/gateways?search=east")
        .await
        .shows("gw-1")
        .hides("gw-3");
    bench.policy("acme", "base", POLICY).await;
    bench
        .api(
            axum::http::Method::POST,
            "/orgs/acme/policies/base/attachments",
            &json!({"add": ["org:acme"]}),
        )
        .await;
    viewer.open("/ui/gateways").await.shows("behind since");
    bench.pass(Duration::from_mins(1));
    viewer
        .open("/ui/gateways?state=away")
        .await
        .shows("Not connected: it goes on")
        .shows("gw-1");
    viewer
        .open("/ui/gateways?state=drops")
        .await
        .shows("No gateway is in this state");
    viewer.get("/ui/gateways?state=odd").await.is(400);
    bench.stranger().get("/ui/gateways").await.wants_login();
}

#[tokio::test]
async fn who_is_limited_to_owners_sees_what_is_in_force_and_no_tokens() {
    let bench = Bench::new().await;
    seen(&bench, "gw-1", None, "0.0.1").await;
    let acme = bench
        .browser_of(&of_owners(Role::Viewer, "of acme", &["acme"]))
        .await;
    acme.open("/ui/gateways")
        .await
        .shows("It runs version 0.0.1")
        .hides("No good token")
        .hides("Dropped")
        .hides("Leases");
}

#[tokio::test]
async fn a_fleet_without_gateways_says_what_to_do_and_a_strange_one_does_nothing() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/gateways")
        .await
        .shows("No gateway was seen yet")
        .shows("/ui/connect");
    seen(&bench, NASTY, Some(NASTY), NASTY).await;
    viewer
        .open("/ui/gateways")
        .await
        .hides("<script>alert")
        .hides("\u{202e}");
}

#[tokio::test]
async fn a_large_fleet_is_shown_in_pages() {
    let bench = Bench::new().await;
    for at in 0..60 {
        seen(&bench, &format!("gw-{at:02}"), None, env!("CARGO_PKG_VERSION")).await;
    }
    let viewer = bench.browser(Role::Viewer).await;
    let first = viewer.open("/ui/gateways").await;
    first.shows("gw-00").hides("gw-59");
    let at = first.text.find("rel=\"next\" href=\"").expect("a next page") + 17;
    let next = first.text[at..].split('"').next().unwrap().replace("&#38;", "&");
    viewer.open(&next).await.shows("gw-59").hides("gw-00");
}
