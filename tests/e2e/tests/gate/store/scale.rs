//! A policy that governs ten thousand leases is changed: when it is seen on the wire, and what becomes of open flows.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_control_wire::claim::Claim;
use tidegate_e2e::store::{Fetched, fetch, start_of, within_a_second};
use tidegate_e2e::{PATIENCE, block, start, tidegate};
use tidegate_lab::{ControlSection, Gateway, GatewayBuilder, Lab, plan, wait_until};
use tokio::task::JoinSet;

use super::download;
use super::plain::Client;

/// Leases besides the one that is looked at.
const LEASES: u32 = 10_000;
/// Connections that register them.
const HANDS: u32 = 48;
/// Changes that are measured.
const CHANGES: usize = 6;

/// The address of a job.
fn source(number: u32) -> String {
    format!("fd77:1::1:{number:x}")
}

/// A job of `acme/web` at an address of its own, as a gateway claims it.
fn claim(number: u32) -> Value {
    let now = jiff::Timestamp::now();
    let lease = json!({
        "id": tidegate_control_wire::id::new_id("job"),
        "gateway": "lab-gw",
        "network": "net0",
        "sources": [source(number)],
        "identity": {"owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "cluster": "prod", "assurance": "declared"},
        "credential": "runner-token",
        "started_at": now,
        "expires_at": now + jiff::SignedDuration::from_hours(10),
    });
    json!(Claim {
        lease: serde_json::from_value(lease).unwrap(),
        replaces: Vec::new(),
        proof: None,
        granted: false,
    })
}

/// Claims them all, in the gateway's machine.
async fn register_all(lab: &Lab, token: String) {
    let work = move || async move {
        let mut hands = JoinSet::new();
        for hand in 0..HANDS {
            let mut client = Client::new(([127, 0, 0, 1], plan::CONTROL_PORT).into(), token.clone());
            hands.spawn(async move {
                for number in (hand..LEASES).step_by(HANDS as usize) {
                    let claimed = client.call("POST", "/sync/v1/leases", Some(&claim(number))).await;
                    claimed.unwrap().expect(200);
                }
            });
        }
        hands.join_all().await;
    };
    lab.gw().enter_async(work).await.unwrap();
}

async fn api(gateway: &Gateway<'_>, admin: &str, path: &str, body: &Value) -> Value {
    let path = format!("/api/v1{path}");
    let answer = gateway
        .control()
        .api("POST", &path, Some(admin), Some(body))
        .await
        .unwrap();
    assert!(matches!(answer.status, 200 | 201), "{answer}");
    answer.json()
}

async fn token(gateway: &Gateway<'_>, admin: &str, of: Value) -> String {
    let made = api(gateway, admin, "/tokens", &of).await;
    made["token"].as_str().unwrap().to_owned()
}

/// The policy's text that allows `cdn-a.test` or `cdn-b.test`, and `allowed.test` in either case.
fn edition(number: usize) -> (String, &'static str, &'static str) {
    let names = ["cdn-a.test", "cdn-b.test"];
    let (now, before) = (names[number % 2], names[(number + 1) % 2]);
    (block(&["allowed.test:443", &format!("{now}:443")]), now, before)
}

/// Waits until the gateway judges a lease by this version.
async fn judged_by(lab: &Lab, gateway: &Gateway<'_>, lease: u32, version: usize) {
    let (source, wanted) = (source(lease), format!("web version {version}, block"));
    let what = format!("{source} to be judged by {wanted}");
    let judged = wait_until(&what, PATIENCE, async || {
        let explain = lab.gw().command(tidegate()).args(["explain", "--config"]);
        let explain = explain
            .arg(gateway.path("tidegate.yaml"))
            .args(["--job", &source, "allowed.test"]);
        let explained = explain.run().await.unwrap();
        if explained.text().contains(&wanted) {
            Ok(())
        } else {
            Err(explained)
        }
    });
    judged.await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_change_of_a_policy_over_ten_thousand_leases_is_seen_on_the_wire_and_drops_no_flow() {
    let lab = Lab::builder().build().unwrap();
    let builder = GatewayBuilder::new(&lab, tidegate())
        .network("cluster: prod")
        .runner_api();
    let gateway = start(builder.up(ControlSection::default())).await;
    let admin = gateway.control().admin_token().await.unwrap();
    let (yaml, _, _) = edition(0);
    api(
        &gateway,
        &admin,
        "/orgs/acme/policies",
        &json!({"name": "web", "yaml": yaml}),
    )
    .await;
    api(
        &gateway,
        &admin,
        "/orgs/acme/policies/web/attachments",
        &json!({"add": ["repo:acme/web"]}),
    )
    .await;
    let runner = token(
        &gateway,
        &admin,
        json!({"role": "runner", "name": "r", "owners": ["acme"]}),
    )
    .await;
    let own = token(&gateway, &admin, json!({"role": "gateway", "name": "lab-gw"})).await;
    register_all(&lab, own).await;
    let door = lab
        .api(
            lab.runner(0),
            (plan::gateway_v4(0), 443).into(),
            "tidegate.internal",
        )
        .unwrap();
    let job = door
        .call(
            "POST",
            "/v1/jobs",
            Some(&runner),
            Some(&start_of("acme/web", "ci.yml")),
        )
        .await;
    job.unwrap().expect(201);
    all_in_force(&gateway).await;
    let mut open = download(&lab, 0, "allowed.test").await;
    let mut took = Vec::new();
    for number in 1..=CHANGES {
        let (yaml, now, before) = edition(number);
        let put = gateway
            .control()
            .request("PUT", "/api/v1/orgs/acme/policies/web")
            .token(&admin);
        put.header("if-match", &format!("\"{number}\""))
            .json(&json!({"yaml": yaml}))
            .send()
            .await
            .unwrap()
            .expect(200);
        let what = format!("change {number} over {LEASES} leases to be seen on the wire");
        let seen = within_a_second(&what, async || match fetch(&lab, 0, now).await {
            Fetched::Page => Ok(()),
            other @ (Fetched::Refused(_) | Fetched::Lost(_)) => Err(format!("{other:?}")),
        });
        took.push(seen.await);
        assert!(
            matches!(fetch(&lab, 0, before).await, Fetched::Refused(_)),
            "{before} was allowed before"
        );
        for lease in [0, LEASES / 2, LEASES - 1] {
            judged_by(&lab, &gateway, lease, number + 1).await;
        }
        assert!(
            open.pid().is_some(),
            "the open flow is allowed by all of them: {}",
            open.stderr()
        );
    }
    let slowest = took.iter().max().copied().unwrap_or(Duration::ZERO);
    println!(
        "a change over {LEASES} leases is seen after {took:?}, the slowest {} ms",
        slowest.as_millis()
    );
    println!("{}", swaps(&gateway).await);
    lab.origins().release_downloads();
    assert!(
        open.wait(PATIENCE).await.expect("its end").success(),
        "{}",
        open.stderr()
    );
}

/// Waits until the gateway holds every lease.
async fn all_in_force(gateway: &Gateway<'_>) {
    let whole = f64::from(LEASES + 1);
    let held = wait_until("every lease to be in place", PATIENCE, async || {
        let metrics = gateway.metrics().await.unwrap();
        let leases = metrics
            .lines()
            .filter(|line| line.starts_with("tidegate_leases{"));
        let held: f64 = leases
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        if held >= whole {
            Ok(())
        } else {
            Err(format!("{held} leases"))
        }
    });
    held.await.unwrap_or_else(|error| panic!("{error}"));
}

/// What the gateway itself measured: seconds in all, and how often.
async fn swaps(gateway: &Gateway<'_>) -> String {
    let metrics = gateway.metrics().await.unwrap();
    let of = |line: &&str| {
        ["_sum", "_count"]
            .iter()
            .any(|what| line.starts_with(&format!("tidegate_policy_swap_duration_seconds{what}")))
    };
    metrics.lines().filter(of).collect::<Vec<_>>().join(", ")
}
