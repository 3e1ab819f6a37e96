//! `apply: next-job`: a running job keeps the version that it began with, the next one gets the new one, and a later
//! `now` moves everybody.

use tidegate_e2e::block;
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_lab::Lab;

use super::{NAMES, download};

/// Asks for a runner's governing version.
async fn version_of(fleet: &Fleet<'_>, runner: usize) -> u64 {
    let current = fleet.current(runner).await;
    current["policy"]["version"]
        .as_u64()
        .unwrap_or_else(|| panic!("{current}"))
}

#[tokio::test]
async fn next_job_leaves_running_jobs_and_now_moves_everybody() {
    let lab = Lab::builder().runners(4).control().build().unwrap();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    let process = download(&lab, 0, "cdn-a.test").await;
    let edited = fleet
        .synced(fleet.edit_for_next_job("web", &block(&["cdn-b.test:443"])))
        .await;
    assert_eq!(edited["version"], 2);
    let second = fleet.register(1, "acme/web", "ci.yml").await;
    assert_eq!(second["policy"]["version"], 2, "{second}");
    fleet
        .synced(fleet.edit_for_next_job("web", &block(&["allowed.test:443"])))
        .await;
    fleet.register(2, "acme/web", "ci.yml").await;
    // Three versions govern at the same time.
    for (runner, name, version) in [(0, "cdn-a.test", 1), (1, "cdn-b.test", 2), (2, "allowed.test", 3)] {
        assert_eq!(fleet.reached(runner, &NAMES).await, [name], "runner {runner}");
        assert_eq!(version_of(&fleet, runner).await, version);
    }
    assert!(
        process.pid().is_some(),
        "what a running job does goes on: {}",
        process.stderr()
    );
    fleet.edit("web", &block(&["evil.test:443"])).await;
    for runner in 0..3 {
        fleet.reaches(runner, "evil.test").await;
        assert_eq!(
            fleet.reached(runner, &NAMES).await,
            ["evil.test"],
            "runner {runner}"
        );
        assert_eq!(version_of(&fleet, runner).await, 4);
    }
    let fourth = fleet.register(3, "acme/web", "ci.yml").await;
    assert_eq!(fourth["policy"]["version"], 4, "{fourth}");
}

/// On a machine that runs one job after another, the next job's version is the new one, and so after a restart.
#[tokio::test]
async fn the_next_job_of_the_same_machine_gets_the_new_version_also_over_a_restart() {
    let lab = Lab::builder().control().build().unwrap();
    let mut fleet = Fleet::builder(&lab)
        .network("cluster: prod, runners: persistent")
        .start()
        .await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet
        .synced(fleet.edit_for_next_job("web", &block(&["cdn-b.test:443"])))
        .await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    fleet.gateways[0].kill().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    fleet.connected().await;
    assert_eq!(
        version_of(&fleet, 0).await,
        1,
        "the job is the one that began before"
    );
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    fleet.end(0).await.expect(200);
    fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(version_of(&fleet, 0).await, 2);
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"]);
}

/// A stronger credential for the same job is not another job: it must not be a way to the next version, nor back.
#[tokio::test]
async fn a_rollback_for_the_next_job_and_asking_twice_move_nobody() {
    let lab = Lab::builder().control().build().unwrap();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.synced(fleet.edit("web", &block(&["cdn-b.test:443"]))).await;
    let first = fleet.register(0, "acme/web", "ci.yml").await;
    let back = serde_json::json!({"to": 1, "apply": "next-job"});
    let path = "/api/v1/orgs/acme/policies/web/rollback";
    let request = fleet
        .control
        .request("POST", path)
        .token(&fleet.admin)
        .header("if-match", "*")
        .json(&back);
    fleet.synced(request.send()).await.unwrap().expect(200);
    // The hook of the same job again, as retries do: the same lease, the same version.
    let again = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
        .await
        .expect(200);
    assert_eq!(again.json()["id"], first["id"], "{again}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"]);
    fleet.register(1, "acme/web", "ci.yml").await;
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test"]);
}
