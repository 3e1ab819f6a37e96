//! The control plane is away: killed, replaced, or it wants nothing to do with this gateway any more.

use serde_json::{Value, json};
use tidegate_e2e::store::{Fleet, OWNER, start_of};
use tidegate_e2e::{PATIENCE, block, event};
use tidegate_lab::{ControlBuilder, Signal, wait_until};

use super::super::{download, problem};
use super::{API, DEFAULT, End, NAMES, NOTHING, WEB, as_they_were, fleet, lab, link, says};

#[tokio::test]
async fn a_gateway_restarted_with_control_down_enforces_the_policies_and_leases_it_had() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let jobs = [
        fleet.current(0).await["id"].clone(),
        fleet.current(1).await["id"].clone(),
    ];
    let known = link(fleet.gateway(), "connected").await;
    fleet.control.kill().await.unwrap();
    // The second and the third time there is nobody to ask what the state on disk was read from.
    for end in [End::Stop, End::Kill, End::Stop, End::Kill] {
        end.of(&mut fleet.gateways[0]).await;
        fleet.gateways[0].restart().await.unwrap();
        as_they_were(&fleet).await;
        for (runner, job) in jobs.iter().enumerate() {
            assert_eq!(&fleet.current(runner).await["id"], job, "{end:?}");
        }
        let now = link(fleet.gateway(), "away").await;
        for key in ["generation", "epoch"] {
            assert_eq!(now[key], known[key], "{end:?}: {key}");
        }
        assert!(
            now["error"].as_str().is_some_and(|text| text.contains("connect")),
            "{now}"
        );
    }
    fleet.control.restart().await.unwrap();
    says(
        fleet.gateway(),
        "the control plane is connected origin=\"https://control.test:8443\" reset=false",
    )
    .await;
    link(fleet.gateway(), "connected").await;
    fleet.edit("web", &block(&["cdn-b.test:443"])).await;
    fleet.reaches(0, "cdn-b.test").await;
    fleet.refused(0, "cdn-a.test").await;
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

/// Invariant 7, with a flow that is open all the while.
#[tokio::test]
async fn control_killed_and_back_closes_no_flow_and_is_gone_on_with_from_where_it_was() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let mut open = download(&lab, 0, "cdn-a.test").await;
    fleet.control.kill().await.unwrap();
    link(fleet.gateway(), "away").await;
    as_they_were(&fleet).await;
    fleet.control.restart().await.unwrap();
    link(fleet.gateway(), "connected").await;
    fleet.edit("api", &block(&["allowed.test:443"])).await;
    fleet.reaches(1, "allowed.test").await;
    lab.origins().release_downloads();
    let ended = open.wait(PATIENCE).await.expect("the download's end");
    assert!(ended.success(), "{}", open.stderr());
}

/// The state of one job at the control plane.
async fn job_of(fleet: &Fleet<'_>, id: &Value) -> Value {
    let id = id.as_str().expect("an id");
    fleet.api("GET", &format!("/jobs/{id}"), None).await.json()
}

#[tokio::test]
async fn with_control_away_jobs_begin_and_end_by_what_was_synced_and_control_hears_of_it_later() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let ended = fleet.current(1).await["id"].clone();
    fleet.control.kill().await.unwrap();
    link(fleet.gateway(), "away").await;
    fleet.end(1).await.expect(200);
    let begun = fleet.register(2, "acme/api", "nightly.yml").await["id"].clone();
    assert_eq!(fleet.reached(1, &NAMES).await, NOTHING, "it ended");
    assert_eq!(fleet.reached(2, &NAMES).await, API);
    // The state on disk still has the lease that ended, and not the one that began: neither is believed.
    for end in [End::Kill, End::Stop] {
        end.of(&mut fleet.gateways[0]).await;
        fleet.gateways[0].restart().await.unwrap();
        assert_eq!(fleet.reached(0, &NAMES).await, WEB, "{end:?}");
        assert_eq!(
            fleet.reached(1, &NAMES).await,
            NOTHING,
            "{end:?}: an ended lease stays ended"
        );
        assert_eq!(fleet.reached(2, &NAMES).await, API, "{end:?}: its job goes on");
        assert_eq!(fleet.current(2).await["id"], begun, "{end:?}");
        let again = fleet
            .try_register(1, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
            .await;
        assert_eq!(problem(&again), (409, "quarantined".to_owned()), "{end:?}");
    }
    let (_, status) = fleet.gateway().status().await.unwrap();
    assert_eq!(status["outbox"], 2, "{status}");
    fleet.control.restart().await.unwrap();
    let told = fleet
        .gateway()
        .wait_status("control to be told", |status| status["outbox"] == 0);
    told.await.unwrap();
    let late = job_of(&fleet, &begun).await;
    assert_eq!((&late["id"], &late["ended_at"]), (&begun, &Value::Null), "{late}");
    assert_eq!(late["identity"]["workflow"], "nightly.yml", "{late}");
    let over = job_of(&fleet, &ended).await;
    assert_eq!(over["ended_by"], "job", "{over}");
    // What control says now must not bring it back either.
    Box::pin(fleet.synced(fleet.policy("news", &block(&[])))).await;
    assert_eq!(fleet.reached(1, &NAMES).await, NOTHING);
    assert_eq!(fleet.current(1).await["code"], "no-job");
    assert_eq!(fleet.reached(2, &NAMES).await, API);
}

/// A token without its text, by its name.
async fn token(fleet: &Fleet<'_>, name: &str) -> Value {
    let tokens = fleet.api("GET", "/tokens", None).await.expect(200).json();
    let tokens = tokens["items"].as_array().unwrap();
    let token = tokens.iter().find(|token| token["name"] == name);
    token.expect("the token").clone()
}

#[tokio::test]
async fn a_gateway_whose_token_is_revoked_hears_nothing_more_says_so_and_goes_on() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    let mut open = download(&lab, 0, "cdn-a.test").await;
    for name in ["gw-1", "fleet"] {
        let shown = token(&fleet, name).await;
        assert!(
            shown["last_used_at"].is_string(),
            "shown to a gateway, or by one: {shown}"
        );
    }
    let id = token(&fleet, "gw-1").await["id"].clone();
    let id = id.as_str().unwrap();
    fleet
        .api("DELETE", &format!("/tokens/{id}"), None)
        .await
        .expect(200);
    let refused = link(fleet.gateway(), "refused").await;
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|text| text.contains("revoked")),
        "{refused}"
    );
    let (code, status) = fleet.gateway().status().await.unwrap();
    assert_eq!(code, Some(1), "{status}");
    assert!(
        status["degraded"]
            .to_string()
            .contains("gives this gateway nothing"),
        "{status}"
    );
    fleet.edit("web", &block(&["allowed.test:443"])).await;
    as_they_were(&fleet).await;
    fleet.register(2, "acme/api", "ci.yml").await;
    assert_eq!(fleet.reached(2, &NAMES).await, API, "jobs begin all the same");
    // A new token is taken up without a restart, and everything that was missed.
    let token = fleet.token(&json!({"role": "gateway", "name": "gw-1"})).await;
    fleet.gateway().write("token", &token).unwrap();
    link(fleet.gateway(), "connected").await;
    fleet.reaches(0, "allowed.test").await;
    fleet.refused(0, "cdn-a.test").await;
    assert!(
        !open
            .wait(PATIENCE)
            .await
            .expect("the new policy closes it")
            .success()
    );
    let told = fleet
        .gateway()
        .wait_status("control to be told", |status| status["outbox"] == 0);
    told.await.unwrap();
}

/// Another store, with policies of its own: what the old one said is nobody's word any more.
#[tokio::test]
async fn another_control_plane_replaces_all_that_the_old_one_said() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let old = (link(fleet.gateway(), "connected").await, fleet.runner.clone());
    fleet.control.kill().await.unwrap();
    let other = ControlBuilder::named(&lab, "other", tidegate_e2e::tidegate())
        .start()
        .await;
    fleet.control = other.unwrap_or_else(|error| panic!("{error}"));
    fleet.admin = fleet.control.admin_token().await.unwrap();
    link(fleet.gateway(), "refused").await;
    as_they_were(&fleet).await;
    fleet.runner = fleet
        .token(&json!({"role": "runner", "name": "fleet", "owners": [OWNER]}))
        .await;
    fleet
        .attached("web", &block(&["allowed.test:443"]), "repo:acme/web")
        .await;
    let token = fleet.token(&json!({"role": "gateway", "name": "gw-1"})).await;
    fleet.gateway().write("token", &token).unwrap();
    let new = link(fleet.gateway(), "connected").await;
    says(fleet.gateway(), "reset=true").await;
    let gone = fleet.gateway().wait_status("the new epoch", |status| {
        status["control"]["epoch"] != old.0["epoch"]
    });
    gone.await.unwrap_or_else(|error| panic!("{error}; {new}"));
    // Jobs that this store does not know have ended for it, and nobody says that their machines are gone.
    for runner in [0, 1] {
        assert_eq!(fleet.reached(runner, &NAMES).await, NOTHING);
        let again = fleet
            .try_register(runner, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
            .await;
        assert_eq!(problem(&again), (409, "quarantined".to_owned()));
    }
    assert_eq!(fleet.reached(2, &NAMES).await, DEFAULT);
    let by_the_old = fleet
        .try_register(2, Some(&old.1), &start_of("acme/web", "ci.yml"))
        .await;
    assert_eq!(problem(&by_the_old), (401, "unauthorized".to_owned()));
    fleet.register(2, "acme/web", "ci.yml").await;
    assert_eq!(
        fleet.reached(2, &NAMES).await,
        ["allowed.test"],
        "the new store's policy of that name"
    );
    event(
        &mut fleet.gateway().events(),
        &[("source", "10.77.1.2"), ("reason", "quarantined")],
    )
    .await;
}

/// A store that was put back to a copy has forgotten changes that gateways have in force.
#[tokio::test]
async fn a_control_plane_put_back_to_a_copy_is_followed_from_the_beginning() {
    let lab = lab();
    let mut fleet = fleet(&lab).await;
    let copy = fleet.control.path("copy.db");
    let config = fleet.control.path("tidegate.yaml");
    let command = lab
        .ctl()
        .command(tidegate_e2e::tidegate())
        .args(["control", "backup", "--config"]);
    let copied = command.arg(&config).arg(&copy).run().await.unwrap();
    copied.expect_success();
    fleet.edit("web", &block(&["allowed.test:443"])).await;
    fleet.reaches(0, "allowed.test").await;
    fleet.control.kill().await.unwrap();
    for name in ["control.db-wal", "control.db-shm"] {
        std::fs::remove_file(fleet.control.path(name)).unwrap();
    }
    std::fs::rename(copy, fleet.control.path("control.db")).unwrap();
    fleet.control.restart().await.unwrap();
    fleet.reaches(0, "cdn-a.test").await;
    fleet.refused(0, "allowed.test").await;
    let policy = fleet
        .api("GET", &format!("/orgs/{OWNER}/policies/web"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(policy["version"], 1, "{policy}");
    let same = wait_until("both jobs to be in place", PATIENCE, async || {
        let reached = (fleet.reached(0, &NAMES).await, fleet.reached(1, &NAMES).await);
        if reached == (WEB.to_vec(), API.to_vec()) {
            Ok(())
        } else {
            Err(format!("{reached:?}"))
        }
    });
    same.await.unwrap_or_else(|error| panic!("{error}"));
}

/// It takes connections and says nothing: worse than one that is gone, and no reason to keep a job waiting.
#[tokio::test]
async fn a_control_plane_that_hangs_holds_no_job_up_and_takes_note_when_it_goes_on() {
    let lab = lab();
    let fleet = fleet(&lab).await;
    fleet.control.process().signal(Signal::SIGSTOP).unwrap();
    let job = fleet.register(2, "acme/api", "ci.yml").await;
    assert_eq!(fleet.reached(2, &NAMES).await, API);
    fleet.end(1).await.expect(200);
    assert_eq!(fleet.reached(1, &NAMES).await, NOTHING);
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    fleet.control.process().signal(Signal::SIGCONT).unwrap();
    let told = fleet
        .gateway()
        .wait_status("control to be told", |status| status["outbox"] == 0);
    told.await.unwrap();
    let listed = fleet
        .api("GET", "/jobs?alive=true", None)
        .await
        .expect(200)
        .json();
    let sources: Vec<&Value> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["sources"])
        .collect();
    assert_eq!(
        sources.len(),
        2,
        "each job once, and not the one that ended: {listed}"
    );
    assert_eq!(job_of(&fleet, &job["id"]).await["ended_at"], Value::Null);
    link(fleet.gateway(), "connected").await;
    as_changed(&fleet).await;
}

/// What control knows by now changes nothing of that.
async fn as_changed(fleet: &Fleet<'_>) {
    Box::pin(fleet.synced(fleet.policy("news", &block(&[])))).await;
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    assert_eq!(fleet.reached(1, &NAMES).await, NOTHING);
    assert_eq!(fleet.reached(2, &NAMES).await, API);
}
