//! Connecting runners.

use tidegate_control::model::Role;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;

use crate::bench::Bench;

async fn gateway(bench: &Bench, name: &str, network: &str, range: &str) {
    let hello = Hello {
        protocol: PROTOCOL,
        gateway: name.into(),
        group: None,
        version: "0.1.0".into(),
        networks: vec![ServedNetwork {
            name: network.into(),
            cluster: "prod".into(),
            ranges: vec![range.parse().unwrap()],
            ..ServedNetwork::default()
        }],
        resume: None,
    };
    let group = format!("gateway:{name}");
    bench
        .store
        .gateway_seen(&hello, &group, Generation(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn each_network_has_its_snippets() {
    let bench = Bench::new().await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/connect")
        .await
        .shows("No gateway has connected yet");
    gateway(&bench, "gw-1", "runners", "10.77.0.0/24").await;
    gateway(&bench, "gw-2", "runners", "10.77.0.0/24").await;
    gateway(&bench, "gw-3", "arm pool", "fd77::/64").await;
    viewer
        .open("/ui/connect")
        .await
        .shows("href=\"/ui/connect/runners\"")
        .shows("href=\"/ui/connect/arm%20pool\"")
        .shows("gw-2, away");
    viewer
        .open("/ui/connect/runners")
        .await
        .shows("ip route replace default via GATEWAY_IPV4")
        .shows("tidegate hook install")
        .hides("Make a runner token");
    viewer
        .open("/ui/connect/arm%20pool?via=fd77%3A%3A1&runner=%2Fsrv%2Frunner")
        .await
        .shows("ip -6 route replace default via fd77::1")
        .shows("nameserver fd77::1")
        .shows("--runner-dir /srv/runner");
    viewer.get("/ui/connect/none").await.is(404);
}

#[tokio::test]
async fn networks_of_many_gateways_are_all_there() {
    let bench = Bench::new().await;
    for number in 0..101 {
        gateway(
            &bench,
            &format!("gw-{number:03}"),
            &format!("net-{number:03}"),
            "10.77.0.0/24",
        )
        .await;
    }
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/connect")
        .await
        .shows("href=\"/ui/connect/net-000\"")
        .shows("href=\"/ui/connect/net-100\"");
    viewer.open("/ui/connect/net-100").await;
    viewer.open("/ui/connect/net-000").await;
}

#[tokio::test]
async fn what_was_typed_becomes_no_command() {
    let bench = Bench::new().await;
    gateway(&bench, "gw-1", "runners", "10.77.0.0/24").await;
    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .open("/ui/connect/runners?via=10.0.0.1%3B%3Cscript%3Ereboot%3C%2Fscript%3E")
        .await
        .shows("is no address")
        .hides("<script>reboot")
        .hides("ip route replace");
}

#[tokio::test]
async fn an_admin_makes_a_runner_token_that_is_shown_once() {
    let bench = Bench::new().await;
    gateway(&bench, "gw-1", "runners", "10.77.0.0/24").await;
    let admin = bench.browser(Role::Admin).await;
    admin
        .open("/ui/connect/runners")
        .await
        .shows("Make a runner token for this network");
    let path = "/ui/connect/runners/token";
    let refused = admin.post(path, &[("name", "pool"), ("owners", "")]).await;
    assert!(refused.status == 422 || refused.status == 400, "{refused:?}");
    refused.shows("role=\"alert\"").shows("value=\"pool\"");
    let made = admin
        .post(
            path,
            &[
                ("name", "pool"),
                ("owners", "acme, umbrella"),
                ("until", "2099-01-31"),
            ],
        )
        .await;
    made.is(200).shows("shown this once");
    let (_, rest) = made.text.split_once("id=\"token-text\"").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    let token = rest.split('<').next().unwrap();
    assert!(token.starts_with("tgr_"), "{token}");
    admin.open("/ui/connect/runners").await.hides(token);
    let tokens = bench
        .api(
            axum::http::Method::GET,
            "/tokens?search=pool",
            &serde_json::Value::Null,
        )
        .await;
    let one = &tokens["items"][0];
    assert_eq!(one["networks"], serde_json::json!(["runners"]));
    assert_eq!(one["owners"], serde_json::json!(["acme", "umbrella"]));

    let viewer = bench.browser(Role::Viewer).await;
    viewer
        .post(path, &[("name", "x"), ("owners", "acme")])
        .await
        .is(403);
}
