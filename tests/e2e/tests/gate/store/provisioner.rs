//! Provisioners: what starts and ends machines says whose they are, and the next machine at an address inherits nothing.

use serde_json::{Value, json};
use tidegate_e2e::dns::dig_on;
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_e2e::{PATIENCE, block, event, run_on};
use tidegate_lab::Lab;

use super::{NAMES, download, lab, problem};

/// A job at some sources, as autoscalers register it.
fn job(repo: &str, sources: &[&str]) -> Value {
    json!({"owner": "acme", "repo": repo, "workflow": "ci.yml", "run_id": "7", "sources": sources})
}

/// Repositories `acme/web` and `acme/api` with a name each.
async fn policies(fleet: &Fleet<'_>) {
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .synced(fleet.attached("api", &block(&["cdn-b.test:443"]), "repo:acme/api"))
        .await;
}

#[tokio::test]
async fn a_provisioner_registers_and_ends_any_source_of_its_networks() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    policies(&fleet).await;
    let provisioner = async |method, path: &str, body: Option<Value>| {
        fleet
            .api_as(&fleet.provisioner, method, path, body.as_ref())
            .await
    };
    let both = job("acme/web", &["10.77.1.2", "fd77:1::2"]);
    let started = provisioner("POST", "/jobs", Some(both)).await.expect(201).json();
    assert_eq!(started["policy"]["name"], "web", "{started}");
    // Answered when the gateways have it.
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    run_on(&lab, 0, &["curl", "-sS", "-6", "-m", "5", "https://cdn-a.test/"])
        .await
        .expect_success();
    assert_eq!(fleet.current(0).await["id"], started["id"]);
    // The job on the machine can't make itself another by the token that it can read.
    let refused = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/api", "ci.yml"))
        .await;
    assert_eq!(problem(&refused), (409, "held".to_owned()));
    // A provisioner's further word replaces its earlier one.
    provisioner("POST", "/jobs", Some(job("acme/api", &["10.77.1.2"])))
        .await
        .expect(201);
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"]);
    let id = fleet.current(0).await["id"].as_str().unwrap().to_owned();
    let ended = provisioner("POST", &format!("/jobs/{id}/end"), None)
        .await
        .expect(200);
    assert_eq!(ended.json()["ended"], true);
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    for (sources, status) in [
        (json!(["192.0.2.10"]), 422),
        (json!([]), 422),
        (json!(["10.77.1.2", "192.0.2.10"]), 422),
        (json!(["10.77.1.2/24"]), 422),
    ] {
        let mut body = job("acme/web", &[]);
        body["sources"] = sources;
        let refused = provisioner("POST", "/jobs", Some(body)).await;
        assert_eq!(problem(&refused).0, status, "{refused}");
    }
}

#[tokio::test]
async fn a_provisioner_is_limited_to_its_networks_and_owners() {
    let lab = Lab::builder().runners(1).network(1).control().build().unwrap();
    let fleet = Fleet::builder(&lab)
        .network("cluster: prod")
        .network("cluster: other")
        .start()
        .await;
    fleet
        .attached("all", &block(&["cdn-a.test:443"]), "org:acme")
        .await;
    let limited = json!({"role": "provisioner", "name": "one", "networks": ["net1"], "owners": ["acme"]});
    let limited = fleet.token(&limited).await;
    fleet.register(0, "acme/web", "ci.yml").await;
    for (method, path, body, status) in [
        ("POST", "/jobs", Some(job("acme/web", &["10.77.1.2"])), 422),
        (
            "POST",
            "/jobs",
            Some(job("acme/web", &["10.77.1.2", "10.77.2.2"])),
            422,
        ),
        ("DELETE", "/leases?source=10.77.1.2", None, 404),
    ] {
        let refused = fleet.api_as(&limited, method, path, body.as_ref()).await;
        assert_eq!(problem(&refused).0, status, "{refused}");
    }
    let mut other = job("acme/web", &["10.77.2.2"]);
    other["owner"] = "other".into();
    other["repo"] = "other/web".into();
    let refused = fleet.api_as(&limited, "POST", "/jobs", Some(&other)).await;
    assert_eq!(problem(&refused).0, 403, "{refused}");
    let listed = fleet
        .api_as(&limited, "GET", "/leases", None)
        .await
        .expect(200)
        .json();
    assert_eq!(listed["items"], json!([]), "{listed}");
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
    let mine = job("acme/web", &["10.77.2.2"]);
    fleet
        .api_as(&limited, "POST", "/jobs", Some(&mine))
        .await
        .expect(201);
    let far = lab
        .runner_on(1, 0)
        .command("curl")
        .args(["-sS", "-m", "5", "https://cdn-a.test/"]);
    far.run().await.unwrap().expect_success();
}

/// IP reuse: what a job was given does not outlive its machine: no policy, no ticket, no open flow.
#[tokio::test]
async fn the_next_machine_at_an_address_inherits_nothing() {
    let lab = lab();
    let fleet = Fleet::builder(&lab)
        .network("cluster: prod")
        .section("proxy: {destination: ticket-only}")
        .start()
        .await;
    fleet
        .attached(
            "web",
            &block(&["cdn-a.test:443", "allowed.test:443"]),
            "repo:acme/web",
        )
        .await;
    fleet
        .synced(fleet.attached(
            "api",
            &block(&["cdn-a.test:443", "allowed.test:443"]),
            "repo:acme/api",
        ))
        .await;
    let first = fleet.register(0, "acme/web", "ci.yml").await;
    assert!(!dig_on(&lab, 0, &["cdn-a.test"]).await.data().is_empty());
    let by_ticket = [
        "curl",
        "-sS",
        "-m",
        "5",
        "--resolve",
        "cdn-a.test:443:192.0.2.20",
        "https://cdn-a.test/",
    ];
    run_on(&lab, 0, &by_ticket).await.expect_success();
    let mut open = download(&lab, 0, "allowed.test").await;
    let gone = fleet
        .api_as(&fleet.provisioner, "DELETE", "/leases?source=10.77.1.2", None)
        .await
        .expect(200);
    assert_eq!(gone.json(), json!({"id": first["id"], "ended": true}));
    assert!(
        !open
            .wait(PATIENCE)
            .await
            .expect("the old job's flow is cut off")
            .success()
    );
    assert_eq!(fleet.reached(0, &NAMES).await, <[&str; 0]>::default());
    // The address is free at once: its machine is another one.
    let second = fleet.register(0, "acme/api", "ci.yml").await;
    assert_ne!(second["id"], first["id"]);
    assert_eq!(second["policy"]["name"], "api", "{second}");
    run_on(&lab, 0, &by_ticket).await.expect_failure();
    let fields = [
        ("reason", "unticketed"),
        ("job.id", second["id"].as_str().unwrap()),
    ];
    event(&mut fleet.gateway().events(), &fields).await;
    dig_on(&lab, 0, &["cdn-a.test"]).await;
    run_on(&lab, 0, &by_ticket).await.expect_success();
}

/// A job ends its lease by itself; then its machine goes, and the address is another machine's.
#[tokio::test]
async fn a_provisioner_frees_an_address_whose_job_has_ended() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    policies(&fleet).await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.end(0).await.expect(200);
    let refused = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/api", "ci.yml"))
        .await;
    assert_eq!(problem(&refused), (409, "quarantined".to_owned()));
    fleet
        .api_as(&fleet.provisioner, "DELETE", "/leases?source=10.77.1.2", None)
        .await
        .expect(200);
    fleet.register(0, "acme/api", "ci.yml").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-b.test"]);
    // Or it says at once whose the machine is now.
    fleet.end(0).await.expect(200);
    let next = job("acme/web", &["10.77.1.2"]);
    fleet
        .api_as(&fleet.provisioner, "POST", "/jobs", Some(&next))
        .await
        .expect(201);
    assert_eq!(fleet.reached(0, &NAMES).await, ["cdn-a.test"]);
}

/// An operator's end is an end like any other: the machine stays, so its address is quarantined.
#[tokio::test]
async fn an_admins_end_quarantines_and_a_provisioners_frees() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    policies(&fleet).await;
    for (runner, token, freed) in [(0, &fleet.admin, false), (1, &fleet.provisioner, true)] {
        let id = fleet.register(runner, "acme/web", "ci.yml").await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let end = fleet
            .api_as(token, "POST", &format!("/jobs/{id}/end"), None)
            .await;
        assert_eq!(end.expect(200).json()["ended"], true);
        assert_eq!(fleet.reached(runner, &NAMES).await, <[&str; 0]>::default());
        let next = fleet
            .try_register(runner, Some(&fleet.runner), &start_of("acme/api", "ci.yml"))
            .await;
        assert_eq!(next.status, if freed { 201 } else { 409 }, "{next}");
    }
}
