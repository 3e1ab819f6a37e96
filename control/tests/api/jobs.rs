//! Jobs and leases by a provisioner's word.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::{NewToken, Role};

use crate::bench::{Bench, POLICY, of_owners, wanted};

async fn pools() -> (Bench, String) {
    let bench = Bench::new().await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    bench.gateway("gw-2", "builders", "10.78.0.0/16").await;
    bench.gateway("gw-3", "twins", "10.77.0.0/24").await;
    let limited = NewToken {
        networks: vec!["runners".into()],
        ..wanted(Role::Provisioner, "pool")
    };
    let token = bench.token(&limited).await;
    (bench, token)
}

fn start(sources: &[&str]) -> Value {
    json!({
        "owner": "Acme", "repo": "Acme/Web", "workflow": "ci.yml", "job": "build", "run_id": "77",
        "run_attempt": 1, "event": "push", "ref": "refs/heads/main", "actor": "ann", "sources": sources,
    })
}

#[tokio::test]
async fn a_provisioner_registers_sees_and_ends_what_lies_in_its_networks() {
    let (bench, pool) = pools().await;
    bench.policy("base", POLICY).await;
    let scope = json!({"add": ["repo:acme/web"]});
    bench
        .post("/orgs/acme/policies/base/attachments")
        .json(&scope)
        .ok()
        .await;
    let made = bench
        .post("/jobs")
        .by(&pool)
        .json(&start(&["10.77.1.2"]))
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!(made["sources"], json!(["10.77.1.2"]));
    assert_eq!(made["assurance"], "declared");
    assert_eq!(made["policy"]["name"], "base");
    assert!(made["expires_at"].is_string());
    let id = made["id"].as_str().unwrap();
    let job = bench.get(&format!("/jobs/{id}")).by(&pool).ok().await.value();
    assert_eq!(
        (job["identity"]["repo"].as_str(), job["network"].as_str()),
        (Some("acme/web"), Some("runners")),
        "{job}"
    );
    assert_eq!(job["identity"]["cluster"], "prod");
    let leases = bench.get("/leases?source=10.77.1.2").by(&pool).ok().await.value();
    assert_eq!(leases["items"][0]["job_id"], id);

    let elsewhere = bench.post("/jobs").by(&pool).json(&start(&["10.78.1.2"]));
    elsewhere.refused(422, "no-gateway").await;
    let foreign = bench
        .post("/jobs")
        .json(&start(&["10.78.1.2"]))
        .expect(StatusCode::CREATED)
        .await
        .value();
    let foreign = foreign["id"].as_str().unwrap();
    bench
        .get(&format!("/jobs/{foreign}"))
        .by(&pool)
        .refused(404, "not-found")
        .await;
    bench
        .post(&format!("/jobs/{foreign}/end"))
        .by(&pool)
        .refused(404, "not-found")
        .await;
    bench
        .delete("/leases?source=10.78.1.2")
        .by(&pool)
        .refused(404, "not-found")
        .await;
    let seen = bench.get("/jobs").by(&pool).ok().await.value();
    assert_eq!(
        seen["items"].as_array().unwrap().len(),
        1,
        "its own network's only"
    );
    assert_eq!(
        bench.get("/leases").by(&pool).ok().await.value()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        bench.get("/jobs?repo=acme/web&alive=true").ok().await.value()["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    let ended = bench
        .post(&format!("/jobs/{id}/end"))
        .by(&pool)
        .ok()
        .await
        .value();
    assert_eq!(ended, json!({"id": id, "ended": true}));
    let again = bench
        .post(&format!("/jobs/{id}/end"))
        .by(&pool)
        .ok()
        .await
        .value();
    assert_eq!(again["ended"], false);
    let job = bench.get(&format!("/jobs/{id}")).ok().await.value();
    assert_eq!(job["ended_by"], "provisioner");
}

#[tokio::test]
async fn a_source_is_cleared_by_address_and_an_ambiguous_one_asks_for_its_network() {
    let (bench, pool) = pools().await;
    let made = bench
        .post("/jobs")
        .by(&pool)
        .json(&start(&["10.77.1.2"]))
        .expect(StatusCode::CREATED)
        .await
        .value();
    let cleared = bench
        .delete("/leases?source=10.77.1.2")
        .by(&pool)
        .ok()
        .await
        .value();
    assert_eq!(cleared, json!({"id": made["id"], "ended": true}));
    bench
        .delete("/leases?source=10.77.1.2")
        .by(&pool)
        .refused(404, "not-found")
        .await;
    for network in ["runners", "twins"] {
        let token = NewToken {
            networks: vec![network.into()],
            ..wanted(Role::Provisioner, network)
        };
        let token = bench.token(&token).await;
        bench
            .post("/jobs")
            .by(&token)
            .json(&start(&["10.77.0.9"]))
            .expect(StatusCode::CREATED)
            .await;
    }
    let told = bench
        .delete("/leases?source=10.77.0.9")
        .refused(409, "conflict")
        .await;
    assert!(
        told.detail().contains("runners") && told.detail().contains("twins"),
        "{told:?}"
    );
    bench.delete("/leases?source=10.77.0.9&network=twins").ok().await;
    bench.delete("/leases?source=10.77.0.9").by(&pool).ok().await;
    let ambiguous = bench
        .post("/jobs")
        .json(&start(&["10.77.0.9"]))
        .refused(422, "no-gateway")
        .await;
    assert!(ambiguous.detail().contains("twins"), "{ambiguous:?}");
}

#[tokio::test]
async fn what_a_provisioner_says_has_to_make_sense() {
    let (bench, pool) = pools().await;
    let with = |field: &str, value: Value| {
        let mut start = start(&["10.77.1.2"]);
        start[field] = value;
        start
    };
    let long = "x".repeat(256);
    for (field, value) in [
        ("sources", json!([])),
        (
            "sources",
            json!((1..=17).map(|at| format!("10.77.1.{at}")).collect::<Vec<_>>()),
        ),
        ("sources", json!(["10.77.1"])),
        ("owner", json!("")),
        ("owner", json!("a/b")),
        ("repo", json!("beta/web")),
        ("repo", json!("acme/")),
        ("workflow", json!(long)),
        ("job", json!("a\nb")),
        ("run_id", json!("a\u{0}b")),
        ("run_attempt", json!(-1)),
        ("oidc_token", json!("ey.ey.x")),
    ] {
        let told = bench
            .post("/jobs")
            .by(&pool)
            .json(&with(field, value.clone()))
            .send()
            .await;
        assert_eq!(told.status, 422, "{field} {value}: {told:?}");
        let named = told.value()["field"].as_str().unwrap_or_default().to_owned();
        assert!(
            named.starts_with(field) || (field == "owner" && named == "repo"),
            "{field}: {told:?}"
        );
    }
    let cluster = bench
        .post("/jobs")
        .by(&pool)
        .json(&with("cluster", json!("staging")));
    cluster.refused(422, "invalid").await;
    let apart = bench.post("/jobs").json(&start(&["10.77.1.2", "10.78.1.2"]));
    apart.refused(422, "no-gateway").await;
}

#[tokio::test]
async fn a_provisioner_with_owners_registers_their_jobs_only() {
    let (bench, _) = pools().await;
    let token = bench
        .token(&of_owners(Role::Provisioner, "beta-pool", &["beta"]))
        .await;
    let told = bench
        .post("/jobs")
        .by(&token)
        .json(&start(&["10.78.1.2"]))
        .refused(403, "forbidden")
        .await;
    assert!(told.detail().contains("acme/web"), "{told:?}");
    let mut own = start(&["10.78.1.2"]);
    own["owner"] = json!("beta");
    own["repo"] = json!("web");
    bench
        .post("/jobs")
        .by(&token)
        .json(&own)
        .expect(StatusCode::CREATED)
        .await;
}

#[tokio::test]
async fn viewers_see_their_owners_jobs() {
    let (bench, pool) = pools().await;
    let made = bench
        .post("/jobs")
        .by(&pool)
        .json(&start(&["10.77.1.2"]))
        .expect(StatusCode::CREATED)
        .await
        .value();
    let path = format!("/jobs/{}", made["id"].as_str().unwrap());
    let own = bench.token(&of_owners(Role::Viewer, "own", &["ACME"])).await;
    let foreign = bench.token(&of_owners(Role::Viewer, "foreign", &["beta"])).await;
    bench.get(&path).by(&own).ok().await;
    bench.get(&path).by(&foreign).refused(404, "not-found").await;
    for (token, count) in [(&own, 1), (&foreign, 0)] {
        assert_eq!(
            bench.get("/jobs").by(token).ok().await.value()["items"]
                .as_array()
                .unwrap()
                .len(),
            count
        );
        assert_eq!(
            bench.get("/leases").by(token).ok().await.value()["items"]
                .as_array()
                .unwrap()
                .len(),
            count
        );
    }
    bench.get("/jobs/nothing").refused(404, "not-found").await;
    bench.get("/jobs?after=nothing").refused(400, "invalid").await;
    bench.get("/leases?source=nothing").refused(400, "invalid").await;
}
