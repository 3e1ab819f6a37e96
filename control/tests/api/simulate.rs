//! Simulating a policy over the API: whose record, by which precedence, and what a request may say.

use std::time::Duration;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Answer, Bench, of_owners};
use crate::events::{event, store};

const CANDIDATE: &str = "egress-policy: block\nplatform: none\nallowed-endpoints:\n  - forge.test:443\n";

/// Three calls of acme/web: one that the candidate permits, one that it refuses, one that was refused.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    let refused = json!({"name": "new.test", "verdict": "refuse", "reason": "not-allowed"});
    let audited =
        json!({"name": "evil.test", "verdict": "would-refuse", "reason": "not-allowed", "mode": "audit"});
    store(
        &bench.store,
        vec![
            event(
                "p1",
                Some("acme-1"),
                &json!({"address": "192.0.2.7", "name_source": "sni"}),
            ),
            event("w1", Some("acme-1"), &audited),
            event("r1", Some("acme-2"), &refused),
            event("x1", Some("beta-1"), &audited),
        ],
    )
    .await;
    bench
}

async fn simulate(bench: &Bench, body: &Value) -> Answer {
    bench
        .post("/orgs/acme/policies/web/simulate")
        .json(body)
        .send()
        .await
}

/// Endpoints of a list.
fn endpoints<'a>(simulation: &'a Value, list: &str) -> Vec<&'a str> {
    let lines = simulation[list].as_array().unwrap().iter();
    lines.map(|line| line["endpoint"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_document_is_tried_before_it_is_stored_and_then_as_it_is_stored() {
    let bench = filled().await;
    let asked = json!({"yaml": CANDIDATE, "scopes": ["repo:acme/web"]});
    let answer = simulate(&bench, &asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let simulation = answer.value();
    assert_eq!(simulation["policy"], json!({"name": "web", "mode": "block"}));
    assert_eq!(
        (simulation["jobs"].as_u64(), simulation["runs"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(endpoints(&simulation, "newly_refused"), ["evil.test"]);
    let line = &simulation["newly_refused"][0];
    assert_eq!(line["before"], "would-refuse");
    assert_eq!(line["after"], "refuse");
    assert_eq!(
        line["jobs"][0],
        json!({"repo": "acme/web", "workflow": "ci.yml", "job": "build", "run_id": "7", "job_id": "acme-1"})
    );
    assert_eq!(simulation["unchanged"]["permitted"]["verdicts"], 1);
    assert_eq!(simulation["unchanged"]["refused"]["verdicts"], 1);
    assert_eq!(simulation["completeness"]["refused_then"], 1);
    // Stored and attached, nothing needs to be said.
    bench.policy("web", &CANDIDATE.replace("forge", "new")).await;
    let attach = json!({"add": ["org:acme"]});
    bench
        .post("/orgs/acme/policies/web/attachments")
        .json(&attach)
        .ok()
        .await;
    let simulation = simulate(&bench, &json!({})).await.value();
    assert_eq!(
        simulation["policy"],
        json!({"name": "web", "version": 1, "mode": "block"})
    );
    assert_eq!(simulation["scopes"], json!(["org:acme"]));
    assert_eq!(endpoints(&simulation, "newly_permitted"), ["new.test"]);
    let mut refused = endpoints(&simulation, "newly_refused");
    refused.sort_unstable();
    assert_eq!(refused, ["evil.test", "forge.test"]);
    assert_eq!(
        bench.get("/orgs/acme/policies/web").ok().await.value()["version"],
        1,
        "nothing is stored"
    );
}

#[tokio::test]
async fn a_workflow_with_a_policy_of_its_own_is_not_touched() {
    let bench = filled().await;
    bench.policy("own", "egress-policy: audit\n").await;
    let attach = json!({"add": ["workflow:acme/web/ci.yml"]});
    bench
        .post("/orgs/acme/policies/own/attachments")
        .json(&attach)
        .ok()
        .await;
    let asked = json!({"yaml": CANDIDATE, "scopes": ["repo:acme/web"]});
    let simulation = simulate(&bench, &asked).await.value();
    assert_eq!(simulation["jobs"], 0);
    let said = simulation["completeness"]["sentences"][0].as_str().unwrap();
    assert!(said.starts_with("Nothing is recorded"), "{said}");
    let asked = json!({"yaml": CANDIDATE, "scopes": ["workflow:acme/web/ci.yml"]});
    assert_eq!(
        simulate(&bench, &asked).await.value()["jobs"],
        2,
        "in its place it is the candidate that counts"
    );
}

#[tokio::test]
async fn the_owners_sets_and_the_global_block_list_count() {
    let bench = filled().await;
    bench
        .call(axum::http::Method::PUT, "/orgs/acme/endpoint-sets/base")
        .header("if-none-match", "*")
        .json(&json!({"yaml": "[evil.test, new.test]"}))
        .expect(StatusCode::CREATED)
        .await;
    let block = json!({"pattern": "new.test", "reason": "no"});
    bench
        .post("/global-block/entries")
        .json(&block)
        .expect(StatusCode::CREATED)
        .await;
    let asked = json!({"yaml": "egress-policy: block\nuse: [base]\n", "scopes": ["org:acme"]});
    let simulation = simulate(&bench, &asked).await.value();
    assert_eq!(endpoints(&simulation, "newly_refused"), ["forge.test"]);
    assert_eq!(simulation["newly_permitted"], json!([]), "refused to everybody");
    let asked = json!({"yaml": "egress-policy: block\nuse: [nowhere]\n", "scopes": ["org:acme"]});
    let refused = simulate(&bench, &asked).await.refused_as(422);
    assert!(refused.contains("no endpoint set `nowhere`"), "{refused}");
}

#[tokio::test]
async fn only_the_span_that_is_asked_for_counts_and_sums_stand_for_what_is_forgotten() {
    let bench = filled().await;
    let hour = Timestamp::now() - SignedDuration::from_hours(1);
    let asked = json!({"yaml": CANDIDATE, "scopes": ["org:acme"], "until": hour.to_string()});
    assert_eq!(simulate(&bench, &asked).await.value()["jobs"], 0);
    // By then raw events are forgotten, and their days' sums are not.
    bench.pass(Duration::from_hours(24 * 40));
    let since = Timestamp::now() - SignedDuration::from_hours(48);
    let asked = json!({"yaml": CANDIDATE, "scopes": ["org:acme"], "since": since.to_string()});
    let simulation = simulate(&bench, &asked).await.value();
    assert_eq!(endpoints(&simulation, "newly_refused"), ["evil.test"]);
    assert_eq!(
        simulation["newly_refused"][0]["jobs"],
        json!([{"repo": "acme/web", "workflow": "ci.yml"}])
    );
    assert_eq!(simulation["completeness"]["events"], 0);
    assert_eq!(simulation["completeness"]["sums"], 3);
    // Of days behind a span that ends before them nothing counts, though there are sums.
    let before = json!({"yaml": CANDIDATE, "scopes": ["org:acme"], "until": since.to_string()});
    let simulation = simulate(&bench, &before).await.value();
    assert_eq!(simulation["completeness"]["sums"], 0);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_others_records_are_not_shown() {
    let bench = filled().await;
    for (body, status, says) in [
        (json!({}), 404, "web"),
        (json!({"yaml": CANDIDATE}), 404, "web"),
        (
            json!({"yaml": CANDIDATE, "scopes": []}),
            422,
            "attached to nothing",
        ),
        (
            json!({"yaml": CANDIDATE, "scopes": ["team:x"]}),
            422,
            "is not a scope",
        ),
        (
            json!({"yaml": "egress-policy: maybe\n", "scopes": ["org:acme"]}),
            422,
            "found `maybe`",
        ),
        (
            json!({"yaml": "lockdown-mode: {enabled: true}\n", "scopes": ["org:acme"]}),
            422,
            "can't decide about egress",
        ),
        (
            json!({"yaml": CANDIDATE, "scopes": ["org:acme"], "since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
            422,
            "is after until",
        ),
        (
            json!({"yaml": CANDIDATE, "scopes": ["org:acme"], "sinse": "x"}),
            422,
            "sinse",
        ),
    ] {
        let said = simulate(&bench, &body).await.refused_as(status);
        assert!(said.contains(says), "{body}: {said}");
    }
    let viewer = bench.token(&of_owners(Role::Viewer, "acme", &["acme"])).await;
    for (path, scope, status) in [
        ("/orgs/acme/policies/web/simulate", "repo:acme/web", 200),
        ("/orgs/acme/policies/web/simulate", "repo:beta/web", 403),
        ("/orgs/acme/policies/web/simulate", "cluster:prod", 403),
        ("/orgs/beta/policies/web/simulate", "repo:acme/web", 403),
    ] {
        let body = json!({"yaml": CANDIDATE, "scopes": [scope]});
        let answer = bench.post(path).by(&viewer).json(&body).send().await;
        assert_eq!(answer.status, status, "{path} {scope}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_cluster_is_found_by_the_events_themselves() {
    let bench = Bench::new().await;
    let of = |id: &str, cluster: &str| {
        let mut made = event(id, Some("acme-1"), &json!({"name": format!("{cluster}.test")}));
        made.job.as_mut().unwrap().cluster = cluster.into();
        made
    };
    store(&bench.store, vec![of("c1", "prod"), of("c2", "lab")]).await;
    let asked = json!({"yaml": CANDIDATE, "scopes": ["cluster:prod"]});
    let simulation = simulate(&bench, &asked).await.value();
    assert_eq!(endpoints(&simulation, "newly_refused"), ["prod.test"]);
}

impl Answer {
    /// What a refusal of this status says.
    fn refused_as(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        self.text
    }
}
