//! Runner tokens: good for their owners' jobs on the own machine, at the runner API, as long as they live.

use serde_json::json;
use tidegate_e2e::store::start_of;
use tidegate_e2e::{PATIENCE, run_on};
use tidegate_lab::wait_until;

use super::super::{NAMES, in_seconds, lab, problem};
use super::{builder, everything};

#[tokio::test]
async fn a_runner_token_reaches_no_other_owner_no_control_and_no_other_role() {
    let lab = lab();
    let fleet = builder(&lab, "").start().await;
    fleet.attached("lax", &everything(), "org:acme").await;
    let tokens = async {
        let other = fleet
            .token(&json!({"role": "runner", "name": "other", "owners": ["other"]}))
            .await;
        let narrow = json!({"role": "runner", "name": "narrow", "repos": ["acme/web"]});
        let elsewhere =
            json!({"role": "runner", "name": "elsewhere", "owners": ["acme"], "networks": ["net7"]});
        (other, fleet.token(&narrow).await, fleet.token(&elsewhere).await)
    };
    let (other, narrow, elsewhere) = fleet.synced(tokens).await;
    // Gateways have heard of the last of them.
    let known = wait_until("the last token to be known", PATIENCE, async || {
        let answer = fleet
            .try_register(1, Some(&elsewhere), &start_of("acme/web", "ci.yml"))
            .await;
        if answer.status == 401 { Err(answer) } else { Ok(()) }
    });
    known.await.unwrap();
    for (token, repo, status) in [
        (&other, "acme/web", 403),
        (&narrow, "acme/lax", 403),
        (&elsewhere, "acme/web", 403),
        (&fleet.provisioner, "acme/web", 401),
        (&fleet.admin, "acme/web", 401),
        (&"tgr_nobody".to_owned(), "acme/web", 401),
    ] {
        let refused = fleet
            .try_register(0, Some(token), &start_of(repo, "ci.yml"))
            .await;
        assert_eq!(problem(&refused).0, status, "{refused}");
        assert_eq!(fleet.reached(0, &NAMES).await, ["allowed.test"], "{repo}");
    }
    for (method, path, body) in [
        ("GET", "/orgs/acme/policies", None),
        ("GET", "/jobs", None),
        (
            "POST",
            "/jobs",
            Some(json!({"owner": "acme", "repo": "acme/web", "sources": ["10.77.1.2"]})),
        ),
        ("DELETE", "/leases?source=10.77.1.2", None),
        ("GET", "/effective?repo=acme/web", None),
        ("GET", "/tokens", None),
        ("GET", "/audit-log", None),
        (
            "POST",
            "/global-block/entries",
            Some(json!({"pattern": "a.test", "reason": "x"})),
        ),
    ] {
        let refused = fleet.api_as(&fleet.runner, method, path, body.as_ref()).await;
        assert_eq!(problem(&refused).0, 403, "{method} {path}: {refused}");
    }
    let path = "/sync/v1/leases/job_x/end";
    let sync = fleet
        .control
        .api("POST", path, Some(&fleet.runner), Some(&json!({})))
        .await
        .unwrap();
    assert!(matches!(sync.status, 401 | 403), "{sync}");
    // Nor is control there for a runner at all, by name or by address.
    for url in [
        "https://control.test:8443/healthz",
        "https://10.80.0.10:8443/healthz",
    ] {
        let line = ["curl", "-sS", "-k", "-m", "3", url];
        run_on(&lab, 0, &line).await.expect_failure();
    }
}

#[tokio::test]
async fn a_revoked_and_an_expired_token_register_nobody() {
    let lab = lab();
    let fleet = builder(&lab, "").start().await;
    fleet.attached("lax", &everything(), "org:acme").await;
    let soon = in_seconds(2);
    let new = json!({"role": "runner", "name": "short", "owners": ["acme"], "expires_at": soon});
    let short = fleet.synced(fleet.token(&new)).await;
    let tokens = fleet.api("GET", "/tokens", None).await.expect(200).json();
    let id = tokens["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "fleet")
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    fleet
        .synced(fleet.api("DELETE", &format!("/tokens/{id}"), None))
        .await
        .expect(200);
    let revoked = fleet
        .try_register(0, Some(&fleet.runner), &start_of("acme/web", "ci.yml"))
        .await;
    assert_eq!(problem(&revoked).0, 401, "{revoked}");
    let expired = wait_until("the token to be over", PATIENCE, async || {
        let why = fleet
            .ask(
                1,
                ("POST", "/v1/jobs"),
                Some(&short),
                Some(&json!({"owner": ".."})),
            )
            .await;
        // A body that is refused as such: the token still counts.
        if why.status == 401 { Ok(()) } else { Err(why) }
    });
    expired.await.unwrap();
    let refused = fleet
        .try_register(1, Some(&short), &start_of("acme/web", "ci.yml"))
        .await;
    assert!(
        problem(&refused).0 == 401 && refused.text().contains("expired"),
        "{refused}"
    );
    for runner in [0, 1] {
        assert_eq!(fleet.reached(runner, &NAMES).await, ["allowed.test"]);
    }
}
