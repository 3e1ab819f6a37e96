//! What a client says of itself without a credential (`monitor` of the Harden-Runner wire): it enriches a lease, and
//! never decides.

use serde_json::{Value, json};
use tidegate_e2e::block;
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_lab::Answer;

use super::{NAMES, lab, problem};

/// What the Harden-Runner action sends when a job begins.
async fn monitor(fleet: &Fleet<'_>, runner: usize, repo: &str, body: &Value) -> Answer {
    let path = format!("/v1/github/{repo}/actions/runs/1001/monitor");
    fleet.ask(runner, ("POST", &path), None, Some(body)).await
}

#[tokio::test]
async fn a_claim_decides_nothing() {
    let lab = lab();
    let fleet = Fleet::builder(&lab)
        .network("cluster: prod, default-policy: default.yaml")
        .file("default.yaml", &block(&["allowed.test:443"]))
        .start()
        .await;
    fleet
        .attached(
            "lax",
            &block(
                &NAMES
                    .map(|name| format!("{name}:443"))
                    .each_ref()
                    .map(String::as_str),
            ),
            "repo:acme/lax",
        )
        .await;
    fleet
        .attached("org", &block(&["evil.test:443"]), "org:acme")
        .await;
    fleet
        .synced(fleet.attached("prod", &block(&["evil.test:443"]), "cluster:prod"))
        .await;
    let claim = json!({"correlation_id": "c-1", "job": "build"});
    let answer = monitor(&fleet, 0, "acme/lax", &claim).await.expect(200).json();
    assert_eq!(answer["runner_ip_address"], "10.77.1.2", "{answer}");
    assert_eq!(answer["monitoring_started"], true, "{answer}");
    assert!(
        answer["one_time_key"].as_str().is_some_and(|key| key.len() >= 32),
        "{answer}"
    );
    let current = fleet.current(0).await;
    assert_eq!(
        (&current["assurance"], &current["repo"]),
        (&"claimed".into(), &"acme/lax".into()),
        "{current}"
    );
    assert_eq!(
        fleet.reached(0, &NAMES).await,
        ["allowed.test"],
        "the network's default policy"
    );
    // A token is worth more: it takes over, whoever the claim said to be.
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(job["policy"]["name"], "org", "{job}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["evil.test"]);
}

#[tokio::test]
async fn a_claim_fills_in_what_a_lease_leaves_open_and_changes_nothing_else() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .synced(fleet.attached("lax", &block(&["evil.test:443"]), "repo:acme/lax"))
        .await;
    let mut bare = start_of("acme/web", "ci.yml");
    bare.as_object_mut().unwrap().remove("job");
    let job = fleet
        .try_register(0, Some(&fleet.runner), &bare)
        .await
        .expect(201)
        .json();
    assert_eq!(fleet.current(0).await["job"], "");
    // Another repository's claim is nothing to this lease.
    let other = monitor(&fleet, 0, "acme/lax", &json!({"job": "evil"})).await;
    let current = fleet.current(0).await;
    assert_eq!(
        (&current["repo"], &current["id"]),
        (&"acme/web".into(), &job["id"]),
        "{other} {current}"
    );
    assert_ne!(current["job"], "evil", "{other}");
    monitor(&fleet, 0, "acme/web", &json!({"job": "build"}))
        .await
        .expect(200);
    let current = fleet.current(0).await;
    assert_eq!(
        (&current["job"], &current["id"]),
        (&"build".into(), &job["id"]),
        "{current}"
    );
    assert_eq!(
        (&current["assurance"], &current["workflow"]),
        (&"declared".into(), &"ci.yml".into()),
        "{current}"
    );
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    // What is known is not claimed away.
    monitor(&fleet, 0, "acme/web", &json!({"job": "other"})).await;
    assert_eq!(fleet.current(0).await["job"], "build");
}

#[tokio::test]
async fn a_claim_lifts_no_quarantine_and_odd_ones_are_refused() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .synced(fleet.attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web"))
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.end(0).await.expect(200);
    let refused = monitor(&fleet, 0, "acme/web", &json!({"job": "build"})).await;
    assert_eq!(problem(&refused).0, 409, "{refused}");
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    for (repo, body) in [
        ("acme/..", json!({})),
        ("acme/web%2f..", json!({})),
        ("acme/'; DROP TABLE jobs; --", json!({})),
        ("acme/web", json!({"job": "a\u{0}b"})),
        ("acme/web", json!({"job": "x".repeat(5_000)})),
        ("acme/web", json!([1, 2])),
    ] {
        let path = format!(
            "/v1/github/{}/actions/runs/1001/monitor",
            repo.replace(' ', "%20")
        );
        let refused = fleet.ask(1, ("POST", &path), None, Some(&body)).await;
        assert!(matches!(problem(&refused).0, 400 | 404), "{refused}");
    }
    assert_eq!(fleet.current(1).await["code"], "no-job");
}
