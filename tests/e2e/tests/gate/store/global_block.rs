//! The deployment's own entries of the global block list: refused for everyone, in audit too, until they end.

use tidegate_e2e::store::Fleet;
use tidegate_e2e::{PATIENCE, audit, block, event};
use tidegate_lab::wait_until;

use super::{NAMES, download, in_seconds, lab, problem};

#[tokio::test]
async fn an_entry_is_refused_in_block_and_audit_until_it_is_removed() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .attached(
            "web",
            &block(&["cdn-a.test:443", "evil.test:443", "allowed.test:443"]),
            "repo:acme/web",
        )
        .await;
    fleet.attached("api", &audit(&[]), "repo:acme/api").await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.register(1, "acme/api", "ci.yml").await;
    fleet.reaches(0, "evil.test").await;
    fleet.reaches(1, "evil.test").await;
    let mut open = download(&lab, 1, "evil.test").await;
    let steady = download(&lab, 0, "cdn-a.test").await;
    let name = fleet.block("evil.test", None).await;
    for runner in [0, 1] {
        fleet.refused(runner, "evil.test").await;
    }
    assert!(
        !open
            .wait(PATIENCE)
            .await
            .expect("an open flow to it is closed")
            .success()
    );
    let mut events = fleet.gateway().events();
    for repo in ["acme/web", "acme/api"] {
        let fields = [
            ("name", "evil.test"),
            ("verdict", "refuse"),
            ("reason", "global-block"),
            ("job.repo", repo),
        ];
        let record = event(&mut events, &fields).await;
        assert_eq!(record["rule_source"], "global", "{record}");
    }
    assert!(
        steady.pid().is_some(),
        "what it does not name goes on: {}",
        steady.stderr()
    );
    // An address, too, whatever name leads to it.
    let address = fleet.block("192.0.2.10", None).await;
    for runner in [0, 1] {
        let six = async || {
            let line = [
                "curl",
                "-sS",
                "-4",
                "-m",
                "5",
                "-o",
                "/dev/null",
                "https://allowed.test/",
            ];
            let output = tidegate_e2e::run_on(&lab, runner, &line).await;
            if output.success() || output.code() == Some(28) {
                Err(output)
            } else {
                Ok(())
            }
        };
        wait_until("the address to be refused", PATIENCE, six)
            .await
            .unwrap();
    }
    for id in [&name, &address] {
        let removed = fleet
            .api("DELETE", &format!("/global-block/entries/{id}"), None)
            .await;
        assert!(matches!(removed.status, 200 | 204), "{removed}");
    }
    for runner in [0, 1] {
        fleet.reaches(runner, "evil.test").await;
        fleet.reaches(runner, "allowed.test").await;
    }
}

#[tokio::test]
async fn an_entry_ends_by_itself_when_its_time_is_over() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet
        .synced(fleet.attached("web", &block(&["evil.test:443"]), "repo:acme/web"))
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    assert_eq!(fleet.reached(0, &NAMES).await, ["evil.test"]);
    fleet.block("*.test", Some(&in_seconds(3))).await;
    fleet.refused(0, "evil.test").await;
    fleet.reaches(0, "evil.test").await;
    let past =
        serde_json::json!({"pattern": "evil.test", "reason": "x", "expires_at": "2001-01-01T00:00:00Z"});
    let refused = fleet.api("POST", "/global-block/entries", Some(&past)).await;
    assert!(matches!(problem(&refused).0, 400 | 422), "{refused}");
}

#[tokio::test]
async fn the_built_in_list_is_enforced_and_nobody_removes_from_it() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    fleet.attached("web", &audit(&[]), "repo:acme/web").await;
    fleet.register(0, "acme/web", "ci.yml").await;
    let listed = fleet
        .api("GET", "/global-block/entries?layer=builtin", None)
        .await
        .expect(200)
        .json();
    let entries = listed["items"].as_array().unwrap();
    let named = |one: &&serde_json::Value| {
        let pattern = one["pattern"].as_str().unwrap();
        pattern.chars().any(char::is_alphabetic) && !pattern.contains(['*', ':'])
    };
    let entry = entries.iter().find(named).expect("a name in the built-in list");
    let (id, name) = (entry["id"].as_str().unwrap(), entry["pattern"].as_str().unwrap());
    for token in [&fleet.admin, &fleet.provisioner, &fleet.runner] {
        let refused = fleet
            .api_as(token, "DELETE", &format!("/global-block/entries/{id}"), None)
            .await;
        assert!(matches!(problem(&refused).0, 403 | 409), "{refused}");
    }
    fleet.refused(0, name).await;
    let fields = [("name", name), ("verdict", "refuse"), ("reason", "global-block")];
    event(&mut fleet.gateway().events(), &fields).await;
    assert!(lab.dns().asked(name).is_empty());
    let missing = fleet
        .api("DELETE", "/global-block/entries/blk_nobody", None)
        .await;
    assert_eq!(problem(&missing).0, 404);
}

#[tokio::test]
async fn patterns_that_make_no_sense_are_refused_and_nothing_is_stored() {
    let lab = lab();
    let fleet = Fleet::start(&lab).await;
    for pattern in [
        "",
        "*",
        "**.test",
        "a..b",
        "https://evil.test/x",
        "evil.test:443",
        "10.0.0.0/33",
        "a b",
        "'; DROP TABLE x; --",
    ] {
        let entry = serde_json::json!({"pattern": pattern, "reason": "x"});
        let refused = fleet.api("POST", "/global-block/entries", Some(&entry)).await;
        assert!(matches!(problem(&refused).0, 400 | 422), "{pattern}: {refused}");
    }
    let listed = fleet
        .api("GET", "/global-block/entries?layer=deployment", None)
        .await
        .expect(200)
        .json();
    assert_eq!(listed["items"], serde_json::json!([]), "{listed}");
}
