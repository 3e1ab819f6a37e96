//! Who may take a held source over, and what a network's rules add to that.

use serde_json::json;
use tidegate_e2e::dns::dig_at;
use tidegate_e2e::store::start_of;
use tidegate_e2e::{PATIENCE, event, run_on};
use tidegate_lab::wait_until;

use super::super::{NAMES, download, lab, problem};
use super::{DEFAULT, fleet, issuer, post_from, signed};

#[tokio::test]
async fn stronger_assurance_takes_over_and_weaker_never() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, "").await;
    let declared = fleet.register(0, "acme/lax", "ci.yml").await;
    assert_eq!(declared["assurance"], "declared");
    let mut open = download(&lab, 0, "evil.test").await;
    // Declared over declared is no takeover, whoever it says to be.
    let refused = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
        .await;
    assert_eq!(problem(&refused), (409, "held".to_owned()));
    assert!(
        !refused.text().contains("lax"),
        "it does not say whose the lease is: {refused}"
    );
    // What the forge signs is who it is.
    let taken = fleet
        .try_register(0, None, &signed(&issuer, "acme/web"))
        .await
        .expect(201)
        .json();
    assert_eq!(
        (&taken["assurance"], &taken["policy"]["name"]),
        (&"signed".into(), &"web".into()),
        "{taken}"
    );
    assert_ne!(taken["id"], declared["id"]);
    assert!(
        !open
            .wait(PATIENCE)
            .await
            .expect("what the new job may not is cut off")
            .success()
    );
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    // And no way back, by the token that every job on the machine can read.
    let back = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/lax", "ci.yml"))
        .await;
    assert_eq!(problem(&back), (409, "held".to_owned()));
    let end = fleet.end(0).await;
    assert_eq!(problem(&end), (403, "forbidden".to_owned()));
    let other = json!({"oidc_token": signed(&issuer, "acme/lax")["oidc_token"]});
    let end = fleet
        .ask(0, ("POST", "/v1/jobs/current/end"), None, Some(&other))
        .await;
    assert_eq!(problem(&end), (403, "forbidden".to_owned()));
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let old = declared["id"].as_str().unwrap();
    let job = fleet
        .api("GET", &format!("/jobs/{old}"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(job["ended_by"], "replaced", "{job}");
}

#[tokio::test]
async fn a_machines_second_family_is_the_job_that_the_first_registered() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, "").await;
    let job = fleet.register(0, "acme/web", "ci.yml").await;
    let id = job["id"].as_str().unwrap();
    let over = |family: &'static str| {
        let lab = &lab;
        async move {
            let line = ["curl", "-sS", family, "-m", "3", "https://cdn-a.test/"];
            run_on(lab, 0, &line).await
        }
    };
    over("-4").await.expect_success();
    let both = wait_until("IPv6 of the machine to be the job", PATIENCE, async || {
        let output = over("-6").await;
        if output.success() { Ok(()) } else { Err(output) }
    });
    both.await.unwrap();
    for source in ["10.77.1.2", "fd77:1::2"] {
        let fields = [("source", source), ("kind", "tls"), ("job.id", id)];
        event(&mut fleet.gateway().events(), &fields).await;
    }
    // It may not register as somebody else by its other family, and it ends by either.
    let refused = post_from(
        &lab,
        0,
        ("fd77:1::2", "fd77:1::1"),
        Some(&fleet.runner),
        start_of("acme/lax", "ci.yml"),
    );
    assert_eq!(refused.await.0, 409);
    let again = post_from(
        &lab,
        0,
        ("fd77:1::2", "fd77:1::1"),
        Some(&fleet.runner),
        start_of("acme/web", "ci.yml"),
    );
    let (status, body) = again.await;
    assert!(status == 200 && body.contains(id), "{status} {body}");
    fleet.end(0).await.expect(200);
    for server in ["@10.77.1.1", "@fd77:1::1"] {
        let refused = dig_at(lab.runner(0), &[server, "cdn-a.test"]).await;
        assert!(refused.data().is_empty(), "{refused}");
    }
}

#[tokio::test]
async fn on_a_persistent_machine_the_token_registers_the_next_job_of_who_it_names() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, ", runners: persistent").await;
    let narrow = json!({"role": "runner", "name": "narrow", "repos": ["acme/web"]});
    let narrow = fleet.synced(fleet.token(&narrow)).await;
    fleet
        .try_register(0, Some(&narrow), &start_of("acme/web", "ci.yml"))
        .await
        .expect(201);
    let held = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/lax", "ci.yml"))
        .await;
    assert_eq!(problem(&held), (409, "held".to_owned()), "not while the job runs");
    fleet.end(0).await.expect(200);
    let next = fleet
        .try_register(0, Some(&narrow), &start_of("acme/lax", "ci.yml"))
        .await;
    assert_eq!(
        problem(&next),
        (403, "forbidden".to_owned()),
        "the token does not name it"
    );
    assert_eq!(
        fleet.reached(0, &NAMES).await,
        ["allowed.test"],
        "between jobs, the network's default"
    );
    fleet
        .try_register(0, Some(&narrow), &start_of("acme/web", "next.yml"))
        .await
        .expect(201);
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
}

#[tokio::test]
async fn a_lease_below_the_networks_min_assurance_gets_its_default_policy() {
    let lab = lab();
    let issuer = issuer(&lab);
    let fleet = fleet(&lab, &issuer, ", min-assurance: signed").await;
    let declared = fleet.register(0, "acme/lax", "ci.yml").await;
    assert_eq!(declared["policy"]["name"], DEFAULT, "{declared}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["allowed.test"]);
    fleet
        .try_register(1, None, &signed(&issuer, "acme/web"))
        .await
        .expect(201);
    assert_eq!(fleet.reached(1, &NAMES).await, ["cdn-a.test"]);
    // The same job's own word lifts it above.
    fleet
        .try_register(0, None, &signed(&issuer, "acme/lax"))
        .await
        .expect(201);
    assert_eq!(fleet.reached(0, &NAMES).await, NAMES);
}
