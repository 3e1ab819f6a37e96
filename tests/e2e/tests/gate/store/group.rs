//! Two gateways of one group: what one is told, both enforce, and either may die.

use serde_json::{Value, json};
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_e2e::{PATIENCE, block};
use tidegate_lab::{Lab, Signal, wait_until};

use super::problem;

/// What the default policy of unknown sources and `acme/web`'s policy allow, and what nobody does.
const NAMES: [&str; 3] = ["allowed.test", "cdn-a.test", "cdn-b.test"];
const DEFAULT: [&str; 1] = ["allowed.test"];
const WEB: [&str; 1] = ["cdn-a.test"];
const NOTHING: [&str; 0] = [];

fn lab() -> Lab {
    Lab::builder().control().second_gateway().build().unwrap()
}

/// Both gateways with `acme/web`'s policy in force.
async fn fleet(lab: &Lab) -> Fleet<'_> {
    let builder = Fleet::builder(lab).network("cluster: prod, default-policy: default.yaml");
    let builder = builder.file("default.yaml", &block(&["allowed.test:443"]));
    let fleet = builder.second_gateway().start().await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    level(&fleet).await;
    fleet
}

/// Waits until both gateways have everything in force.
async fn level(fleet: &Fleet<'_>) {
    let newest = fleet.api("GET", "/gateways", None).await.expect(200).json();
    let level = wait_until(
        "both gateways to be at the same generation",
        PATIENCE,
        async || {
            let generations = fleet.generations().await;
            if generations.iter().all(|one| *one > 0 && *one == generations[0]) {
                Ok(())
            } else {
                Err(format!("{generations:?}; {newest}"))
            }
        },
    );
    level.await.unwrap_or_else(|error| panic!("{error}"));
}

/// Registers a job of `acme/web` through one of the gateways.
async fn register(fleet: &Fleet<'_>, runner: usize, gateway: usize) -> Value {
    let start = start_of("acme/web", "ci.yml");
    let answer = fleet
        .door_of(runner, gateway)
        .call("POST", "/v1/jobs", Some(&fleet.runner), Some(&start))
        .await;
    answer.unwrap().expect(201).json()
}

/// Ends a runner's job through one of the gateways.
async fn end(fleet: &Fleet<'_>, runner: usize, gateway: usize) {
    let path = "/v1/jobs/current/end";
    let answer = fleet
        .door_of(runner, gateway)
        .call("POST", path, Some(&fleet.runner), None)
        .await;
    answer.unwrap().expect(200);
}

/// The ids of a gateway's leases.
async fn leases(fleet: &Fleet<'_>, gateway: usize) -> Vec<Value> {
    let (_, status) = fleet.gateways[gateway - 1].status().await.unwrap();
    let leases = status["leases"].as_array().unwrap();
    leases.iter().map(|lease| lease["id"].clone()).collect()
}

/// Waits until a runner can reach these names and no others, behind whichever gateway it is.
async fn comes_to_reach(fleet: &Fleet<'_>, runner: usize, names: &[&str]) {
    let what = format!("runner {runner} to reach {names:?}");
    let reached = wait_until(&what, PATIENCE, async || {
        let reached = fleet.reached(runner, &NAMES).await;
        if reached == names {
            Ok(())
        } else {
            Err(format!("{reached:?}"))
        }
    });
    reached.await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn a_job_is_its_groups_when_the_hook_returns_and_outlives_the_gateway_that_it_came_by() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let job = register(&fleet, 0, 1).await;
    // Nothing is waited for: this is what the hook's return means.
    assert_eq!(leases(&fleet, 2).await, [job["id"].clone()]);
    assert_eq!(
        job["members"],
        json!([{"gateway": "gw-2", "has_it": true}]),
        "{job}"
    );
    lab.runner(0).use_gateway(2).unwrap();
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    fleet.gateways[0].kill().await.unwrap();
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    lab.runner(1).use_gateway(2).unwrap();
    assert_eq!(
        fleet.reached(1, &NAMES).await,
        DEFAULT,
        "the neighbour is nobody there"
    );
    // The dead one is waited for by nobody.
    let second = register(&fleet, 1, 2).await;
    assert_eq!(second["members"], json!([]), "{second}");
    assert_eq!(fleet.reached(1, &NAMES).await, WEB);
    end(&fleet, 0, 2).await;
    assert_eq!(fleet.reached(0, &NAMES).await, NOTHING);
    fleet.gateways[0].restart().await.unwrap();
    fleet.connected().await;
    level(&fleet).await;
    assert_eq!(leases(&fleet, 1).await, [second["id"].clone()]);
    for runner in [0, 1] {
        lab.runner(runner).use_gateway(1).unwrap();
    }
    comes_to_reach(&fleet, 1, &WEB).await;
    assert_eq!(
        fleet.reached(0, &NAMES).await,
        NOTHING,
        "it ended while gw-1 was dead"
    );
    let again = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
        .await;
    assert_eq!(problem(&again), (409, "quarantined".to_owned()));
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn a_change_of_a_policy_reaches_every_gateway_of_the_group() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    register(&fleet, 0, 1).await;
    lab.runner(1).use_gateway(2).unwrap();
    register(&fleet, 1, 2).await;
    for runner in [0, 1] {
        assert_eq!(fleet.reached(runner, &NAMES).await, WEB);
    }
    fleet.edit("web", &block(&["cdn-b.test:443"])).await;
    for runner in [0, 1] {
        fleet.reaches(runner, "cdn-b.test").await;
        fleet.refused(runner, "cdn-a.test").await;
    }
    fleet.detach("web", "repo:acme/web").await;
    for runner in [0, 1] {
        fleet.reaches(runner, "allowed.test").await;
    }
}

#[tokio::test]
async fn quarantine_is_the_groups() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    register(&fleet, 0, 1).await;
    end(&fleet, 0, 1).await;
    assert_eq!(fleet.reached(0, &NAMES).await, NOTHING);
    lab.runner(0).use_gateway(2).unwrap();
    comes_to_reach(&fleet, 0, &NOTHING).await;
    let start = start_of("acme/web", "ci.yml");
    let again = fleet
        .door_of(0, 2)
        .call("POST", "/v1/jobs", Some(&fleet.runner), Some(&start))
        .await;
    assert_eq!(problem(&again.unwrap()), (409, "quarantined".to_owned()));
    // Its provisioner's word ends it everywhere.
    let body = json!({"repo": "acme/web", "owner": "acme", "workflow": "ci.yml", "sources": ["10.77.1.2", "fd77:1::2"]});
    fleet
        .api_as(&fleet.provisioner, "POST", "/jobs", Some(&body))
        .await
        .expect(201);
    for gateway in [2, 1] {
        lab.runner(0).use_gateway(gateway).unwrap();
        comes_to_reach(&fleet, 0, &WEB).await;
    }
}

/// A registration waits for the others of the group, and not for ever.
#[tokio::test]
async fn a_gateway_that_hangs_is_named_by_the_hook_and_has_the_job_when_it_goes_on() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let hung = fleet.gateways[1].process();
    hung.signal(Signal::SIGSTOP).unwrap();
    let job = register(&fleet, 0, 1).await;
    let members = job["members"].to_string();
    assert!(!members.contains("true"), "nobody says that gw-2 has it: {job}");
    assert_eq!(fleet.reached(0, &NAMES).await, WEB, "the job begins all the same");
    hung.signal(Signal::SIGCONT).unwrap();
    lab.runner(0).use_gateway(2).unwrap();
    comes_to_reach(&fleet, 0, &WEB).await;
    assert_eq!(leases(&fleet, 2).await, [job["id"].clone()]);
}

/// Without control the gateways of a group can't tell each other: each knows what it was told itself, until control is
/// back. Of two jobs of one source the newer one stands.
#[tokio::test]
async fn what_a_group_was_told_with_control_away_is_the_groups_when_it_is_back() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    fleet
        .attached("api", &block(&["cdn-b.test:443"]), "repo:acme/api")
        .await;
    level(&fleet).await;
    fleet.control.kill().await.unwrap();
    for gateway in &fleet.gateways {
        let away = gateway.wait_status("control to be away", |status| {
            status["control"]["state"] == "away"
        });
        away.await.unwrap();
    }
    let old = register(&fleet, 0, 1).await;
    lab.runner(0).use_gateway(2).unwrap();
    comes_to_reach(&fleet, 0, &DEFAULT).await;
    let start = start_of("acme/api", "ci.yml");
    let new = fleet
        .door_of(0, 2)
        .call("POST", "/v1/jobs", Some(&fleet.runner), Some(&start))
        .await;
    let new = new.unwrap().expect(201).json();
    register(&fleet, 1, 1).await;
    fleet.control.restart().await.unwrap();
    for gateway in &fleet.gateways {
        let told = gateway.wait_status("control to be told", |status| status["outbox"] == 0);
        told.await.unwrap();
    }
    for gateway in [1, 2] {
        for runner in [0, 1] {
            lab.runner(runner).use_gateway(gateway).unwrap();
        }
        comes_to_reach(&fleet, 0, &["cdn-b.test"]).await;
        comes_to_reach(&fleet, 1, &WEB).await;
    }
    let old = fleet
        .api("GET", &format!("/jobs/{}", old["id"].as_str().unwrap()), None)
        .await
        .expect(200)
        .json();
    assert_eq!(old["ended_by"], "replaced", "{old}");
    let new = fleet
        .api("GET", &format!("/jobs/{}", new["id"].as_str().unwrap()), None)
        .await
        .expect(200)
        .json();
    assert_eq!(new["ended_at"], Value::Null, "{new}");
}
