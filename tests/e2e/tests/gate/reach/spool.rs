//! Events on their way to the store: once each over kills of either side, and what a full spool keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tidegate_e2e::store::Fleet;
use tidegate_e2e::{PATIENCE, block, has, run_on, start, tidegate};
use tidegate_lab::{ControlSection, GatewayBuilder, Lab, wait_until};

/// Names below this one are allowed; those below [`REFUSED`] are not.
const ALLOWED: &str = "allowed.test";
const REFUSED: &str = "evil.test";

fn lab() -> Lab {
    Lab::builder().control().build().unwrap()
}

/// A fleet with a job of acme/web on runner 0, and one of acme/api on runner 1; and the first job's id.
async fn fleet(lab: &Lab) -> (Fleet<'_>, String) {
    let fleet = Box::pin(Fleet::start(lab)).await;
    fleet
        .attached(
            "web",
            &block(&["allowed.test:443", "*.allowed.test:443"]),
            "org:acme",
        )
        .await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    fleet.register(1, "acme/api", "ci.yml").await;
    fleet.reaches(0, ALLOWED).await;
    (fleet, job["id"].as_str().expect("the job's id").to_owned())
}

/// A runner asks for `many` names, each of its own, below `parent`.
async fn ask(lab: &Lab, runner: usize, what: &str, (many, parent): (usize, &str)) {
    let names: Vec<String> = (0..many).map(|n| format!("{what}-{n}.{parent}")).collect();
    let mut line = vec!["dig", "+tries=1", "+timeout=2", "+noall"];
    line.extend(names.iter().map(String::as_str));
    run_on(lab, runner, &line).await.expect_success();
}

/// Events that answer a question, all of them.
async fn found(fleet: &Fleet<'_>, query: &str) -> Vec<Value> {
    let list = fleet
        .api("GET", &format!("/events?limit=1000&{query}"), None)
        .await;
    let list = list.expect(200).json();
    assert_eq!(list["next"], Value::Null, "{list}");
    list["items"].as_array().expect("items").clone()
}

fn ids(events: &[Value]) -> BTreeSet<String> {
    let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
    events.iter().map(id).collect()
}

fn verdicts(events: &[Value]) -> u64 {
    events
        .iter()
        .map(|event| event["count"].as_u64().expect("a count"))
        .sum()
}

/// Waits until nothing waits for the store any more; gives back what `status` says of the spool.
async fn drained(fleet: &Fleet<'_>) -> Value {
    let status = fleet
        .gateway()
        .wait_status("the spool to be empty", |status| status["spool"]["entries"] == 0)
        .await;
    status.unwrap_or_else(|error| panic!("{error}"))["spool"].clone()
}

#[tokio::test]
async fn a_jobs_events_are_stored_once_each_over_kills_of_gateway_and_control() {
    let lab = lab();
    let (mut fleet, job) = fleet(&lab).await;
    // No step waits for the one before to be stored.
    ask(&lab, 0, "together", (30, REFUSED)).await;
    fleet.control.kill().await.unwrap();
    ask(&lab, 0, "control-away", (30, REFUSED)).await;
    fleet.gateways[0].kill().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    ask(&lab, 0, "still-away", (30, ALLOWED)).await;
    fleet.control.restart().await.unwrap();
    ask(&lab, 0, "back", (30, ALLOWED)).await;
    fleet.gateways[0].kill().await.unwrap();
    fleet.control.kill().await.unwrap();
    fleet.control.restart().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    ask(&lab, 0, "both-back", (30, REFUSED)).await;
    // In order: what waits goes within the second that it has, or after the restart.
    let patience = Duration::from_secs(20);
    fleet.gateways[0].stop(patience).await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    ask(&lab, 0, "last", (1, REFUSED)).await;

    let mut log = fleet.gateway().events();
    let last = format!("last-0.{REFUSED}");
    tidegate_e2e::event(&mut log, &[("name", &last)]).await;
    let logged = log.matching(|event| has(event, &[("job.id", &job)]));
    let stored = wait_until("every event of the log to be stored", PATIENCE, async || {
        let stored = found(&fleet, &format!("job={job}")).await;
        let missing: Vec<String> = ids(&logged).difference(&ids(&stored)).cloned().collect();
        if missing.is_empty() {
            Ok(stored)
        } else {
            Err(format!("{missing:?}"))
        }
    });
    let stored = stored.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&stored).len(), stored.len(), "each once");
    let spool = drained(&fleet).await;
    assert_eq!(spool["dropped"], serde_json::json!({"refusals": 0, "permits": 0}));
    // Those before a kill may have been a moment too late to be written.
    for what in ["together", "both-back"] {
        let of = stored.iter().filter(|event| {
            let name = event["name"].as_str().unwrap_or_default();
            name.starts_with(what) && event["verdict"] == "refuse"
        });
        assert_eq!(of.count(), 30, "{what}");
    }
}

#[tokio::test]
async fn a_week_without_control_costs_permits_and_a_noisy_jobs_refusals_and_says_how_many() {
    let lab = lab();
    let (mut fleet, _) = fleet(&lab).await;
    drained(&fleet).await;
    fleet.gateways[0].kill().await.unwrap();
    let config = std::fs::read_to_string(fleet.gateway().path("tidegate.yaml")).unwrap();
    let small = config.replace("file: events.ndjson", "file: events.ndjson, spool-bytes: 65536");
    assert_ne!(small, config);
    fleet.gateways[0].write("tidegate.yaml", &small).unwrap();
    fleet.control.kill().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    // Each event has some 600 bytes: this is the spool several times over.
    ask(&lab, 1, "quiet", (10, REFUSED)).await;
    ask(&lab, 0, "permit", (200, ALLOWED)).await;
    ask(&lab, 0, "noisy", (300, REFUSED)).await;
    ask(&lab, 1, "late", (10, REFUSED)).await;
    let mut log = fleet.gateway().events();
    for last in ["late-9.evil.test", "noisy-299.evil.test"] {
        tidegate_e2e::event(&mut log, &[("name", last)]).await;
    }
    let full = fleet.gateway().wait_status("the spool to be full", |status| {
        let spool = &status["spool"];
        spool["dropped"]["permits"].as_u64() >= Some(200) && spool["bytes"].as_u64() <= Some(65_536)
    });
    let full = full.await.unwrap_or_else(|error| panic!("{error}"))["spool"].clone();
    assert!(
        full["oldest_seconds"].is_u64() && full["error"].is_null(),
        "{full}"
    );
    let page = fleet.gateway().metrics().await.unwrap();
    for name in ["tidegate_events_dropped_total ", "tidegate_events_spooled_bytes "] {
        let value = page.lines().find_map(|line| line.strip_prefix(name));
        assert!(value.is_some_and(|value| value != "0"), "{name}: {page}");
    }
    fleet.control.restart().await.unwrap();
    let dropped = drained(&fleet).await["dropped"].clone();
    let stored = found(&fleet, &format!("name=*.{REFUSED}&verdict=refuse")).await;
    let of = |what: &str| -> Vec<Value> {
        let of = |event: &&Value| event["name"].as_str().is_some_and(|name| name.starts_with(what));
        stored.iter().filter(of).cloned().collect()
    };
    assert_eq!(
        (of("quiet").len(), of("late").len()),
        (10, 10),
        "a quiet job keeps all"
    );
    let noisy = verdicts(&of("noisy"));
    assert!((1..300).contains(&noisy), "{noisy}");
    assert_eq!(dropped["refusals"], 300 - noisy);
}

/// In `tidegate up` events take the same way, over memory.
#[tokio::test]
async fn with_both_in_one_process_events_are_stored_once_over_kills_and_orderly_ends() {
    let lab = Lab::builder().build().unwrap();
    let both = GatewayBuilder::new(&lab, tidegate()).network("cluster: prod");
    let mut gateway = start(both.up(ControlSection::default())).await;
    let admin = gateway.control().admin_token().await.unwrap();
    ask(&lab, 0, "first", (20, REFUSED)).await;
    gateway.kill().await.unwrap();
    gateway.restart().await.unwrap();
    ask(&lab, 0, "second", (20, REFUSED)).await;
    gateway.stop(PATIENCE).await.unwrap();
    let logged: Vec<Value> = gateway.events().events().to_vec();
    let of_second = |event: &&Value| {
        event["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("second"))
    };
    assert_eq!(
        logged.iter().filter(of_second).count(),
        20,
        "an orderly end writes all"
    );
    gateway.restart().await.unwrap();
    let stored = wait_until("every event of the log to be stored", PATIENCE, async || {
        let asked = ("GET", "/api/v1/events?limit=1000");
        let answer = gateway.control().api(asked.0, asked.1, Some(&admin), None).await;
        let list = answer.map_err(|error| error.to_string())?.expect(200).json();
        let stored = list["items"].as_array().expect("items").clone();
        let missing: Vec<String> = ids(&logged).difference(&ids(&stored)).cloned().collect();
        if missing.is_empty() {
            Ok(stored)
        } else {
            Err(format!("{missing:?}"))
        }
    });
    let stored = stored.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&stored).len(), stored.len(), "each once");
}
