//! The gateway's own state is missing or damaged, and nobody is there to ask.

use serde_json::Value;
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_e2e::{block, event};
use tidegate_lab::Lab;

use super::super::problem;
use super::{NAMES, NOTHING, WEB, lab, link, says};

/// A fleet in which runner 0 is a job of `acme/web` by configuration, so that there is a job before anything was synced.
async fn fleet(lab: &Lab) -> Fleet<'_> {
    let held =
        "{sources: [10.77.1.2, \"fd77:1::2\"], owner: acme, repo: acme/web, workflow: ci.yml, job: build}";
    let fleet = Fleet::builder(lab)
        .network("cluster: prod, default-policy: default.yaml")
        .section(&format!("static-leases: [{held}]"))
        .file("default.yaml", &block(&["allowed.test:443"]))
        .start()
        .await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.reaches(0, "cdn-a.test").await;
    fleet
}

/// A job gets nothing for want of its policy, an unknown source its default, and nobody is taken for a job.
async fn knows_nothing(fleet: &Fleet<'_>) -> Value {
    assert_eq!(fleet.reached(0, &NAMES).await, NOTHING);
    assert_eq!(fleet.reached(1, &NAMES).await, NOTHING);
    let mut events = fleet.gateway().events();
    for kind in ["dns", "tls"] {
        let line = [
            "curl",
            "-sS",
            "-m",
            "5",
            "--resolve",
            "cdn-a.test:443:192.0.2.20",
            "https://cdn-a.test/",
        ];
        tidegate_e2e::run(fleet.lab, &line).await.expect_failure();
        let fields = [
            ("kind", kind),
            ("name", "cdn-a.test"),
            ("reason", "policy-unknown"),
            ("verdict", "refuse"),
        ];
        let refused = event(&mut events, &fields).await;
        assert_eq!(refused["job"]["repo"], "acme/web", "{refused}");
    }
    assert_eq!(fleet.current(0).await["refused"], "policy-unknown");
    let job = fleet
        .try_register(1, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
        .await;
    assert_eq!(problem(&job), (503, "unavailable".to_owned()));
    assert!(
        job.text().contains("has not heard from its control plane"),
        "{job}"
    );
    link(fleet.gateway(), "away").await
}

/// Control comes, and everything is as if it had been there all the time.
async fn hears_of_it(fleet: &mut Fleet<'_>) {
    fleet.control.restart().await.unwrap();
    fleet.reaches(0, "cdn-a.test").await;
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    fleet.register(1, "acme/web", "ci.yml").await;
    assert_eq!(fleet.reached(1, &NAMES).await, WEB);
}

#[tokio::test]
async fn a_gateway_that_never_heard_of_its_control_plane_refuses_jobs_everything_and_says_why() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    fleet.control.kill().await.unwrap();
    fleet.gateways[0].kill().await.unwrap();
    std::fs::remove_dir_all(fleet.gateway().path("state")).unwrap();
    fleet.gateways[0].restart().await.unwrap();
    let control = knows_nothing(&fleet).await;
    assert_eq!(
        (&control["generation"], &control["epoch"], &control["age_seconds"]),
        (&0.into(), &Value::Null, &Value::Null)
    );
    let error = control["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("can't connect to") && error.contains("refused"),
        "{control}"
    );
    hears_of_it(&mut fleet).await;
}

#[tokio::test]
async fn a_damaged_state_on_disk_is_said_and_refuses_jobs_everything_until_control_is_heard() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    // More than one batch, so that the damage is not what a crash leaves at the end.
    Box::pin(fleet.synced(fleet.policy("further", &block(&[])))).await;
    fleet.control.kill().await.unwrap();
    fleet.gateways[0].kill().await.unwrap();
    let file = fleet.gateway().path("state/sync.ndjson");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let at = whole.len() / 3;
    damaged[at..at + 4].copy_from_slice(b"\0\xff}{");
    std::fs::write(&file, damaged).unwrap();
    fleet.gateways[0].restart().await.unwrap();
    says(fleet.gateway(), "the synced state on disk is lost").await;
    knows_nothing(&fleet).await;
    hears_of_it(&mut fleet).await;
    // It was written anew, and is good for the next start.
    fleet.control.kill().await.unwrap();
    fleet.gateways[0].kill().await.unwrap();
    fleet.gateways[0].restart().await.unwrap();
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    assert_eq!(fleet.reached(1, &NAMES).await, WEB);
}

/// What a crash leaves: the end of the last batch is missing, and everything before it counts.
#[tokio::test]
async fn a_state_that_was_cut_off_in_a_batch_counts_up_to_it() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let before = link(fleet.gateway(), "connected").await["generation"].clone();
    Box::pin(fleet.synced(fleet.policy("further", &block(&[])))).await;
    fleet.control.kill().await.unwrap();
    fleet.gateways[0].kill().await.unwrap();
    let file = fleet.gateway().path("state/sync.ndjson");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    fleet.gateways[0].restart().await.unwrap();
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    assert_eq!(link(fleet.gateway(), "away").await["generation"], before);
    fleet.control.restart().await.unwrap();
    let caught_up = |status: &Value| status["control"]["generation"].as_u64() > before.as_u64();
    fleet.gateway().wait_status("the rest", caught_up).await.unwrap();
}
