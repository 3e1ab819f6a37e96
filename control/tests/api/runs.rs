//! Runs, and what holds for a job and what it reached.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::{NewToken, Role};

use crate::bench::{Bench, POLICY, of_owners, wanted};
use crate::coverage::{attach, job, strict_gateway};
use crate::events::{event, store};

/// A run of two attempts, the second with a matrix of two legs; another run; a job without one.
async fn filled() -> (Bench, Vec<String>) {
    let bench = Bench::new().await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    bench.policy("base", POLICY).await;
    attach(&bench, "base", "repo:acme/web").await;
    let mut ids = Vec::new();
    for (at, (attempt, name, run)) in [
        (1, "build", "77"),
        (2, "test", "77"),
        (2, "test", "77"),
        (2, "build", "77"),
        (1, "build", "78"),
        (1, "lone", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let more = json!({"run_attempt": attempt, "job": name, "run_id": run});
        ids.push(job(&bench, "acme/web", "ci.yml", &format!("10.77.1.{at}"), more).await);
    }
    (bench, ids)
}

/// What a job of `acme/web` was told.
async fn told(bench: &Bench, id: &str, events: &[Value]) {
    let of = json!({"id": id, "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "job": "build",
        "run_id": "77", "assurance": "declared"});
    let events = events.iter().enumerate().map(|(at, more)| {
        let mut more = more.clone();
        more["job"] = of.clone();
        event(&format!("{id}{at}"), None, &more)
    });
    store(&bench.store, events.collect()).await;
}

#[tokio::test]
async fn runs_are_listed_with_their_jobs_added_up() {
    let (bench, ids) = filled().await;
    let refused = json!({"verdict": "refuse", "reason": "not-allowed", "bytes_up": 5});
    told(&bench, &ids[0], std::slice::from_ref(&refused)).await;
    told(&bench, &ids[2], &[refused.clone(), json!({"bytes_down": 7})]).await;
    let list = bench.get("/runs").ok().await.value();
    let items = list["items"].as_array().unwrap();
    let runs: Vec<(&Value, &Value)> = items.iter().map(|run| (&run["run_id"], &run["jobs"])).collect();
    assert_eq!(
        runs,
        [
            (&Value::Null, &json!(1)),
            (&json!("78"), &json!(1)),
            (&json!("77"), &json!(4))
        ]
    );
    let run = &items[2];
    assert_eq!(
        (&run["attempt"], &run["alive"], &run["ended_at"]),
        (&json!(2), &json!(4), &Value::Null)
    );
    assert_eq!(
        (&run["counts"]["refuse"], &run["counts"]["permit"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (&run["counts"]["bytes_up"], &run["counts"]["bytes_down"]),
        (&json!(10), &json!(7))
    );
    assert_eq!(run["policy"]["name"], "base");
    assert_eq!(items[1]["counts"], Value::Null);
    let found = bench.get("/runs?search=LONE&limit=5").ok().await.value();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(run["more"], false);
    let older = bench.get("/runs?search=test").ok().await.value();
    assert_eq!(
        (&older["items"][0]["run_id"], &older["items"][0]["job_id"]),
        (&json!("77"), &json!(ids[2])),
        "by a job that is not its newest"
    );
    bench.get("/runs?limit=100").ok().await;
    bench.get("/runs?limit=101").refused(400, "invalid").await;
    for query in [
        "repo=acme/none",
        "owner=beta",
        "alive=false",
        "until=2000-01-01T00:00:00Z",
    ] {
        let none = bench.get(&format!("/runs?{query}")).ok().await.value();
        assert_eq!(none, json!({"items": [], "next": null}), "{query}");
    }
    let first = bench.get("/runs?limit=2").ok().await.value();
    let next = first["next"].as_str().unwrap();
    let rest = bench
        .get(&format!("/runs?limit=2&after={next}"))
        .ok()
        .await
        .value();
    assert_eq!(
        (&rest["items"][0]["run_id"], &rest["next"]),
        (&json!("77"), &Value::Null)
    );
    for id in &ids[..4] {
        bench.post(&format!("/jobs/{id}/end")).ok().await;
    }
    let over = bench.get("/runs?alive=false").ok().await.value();
    assert!(over["items"][0]["ended_at"].is_string(), "{over}");
}

#[tokio::test]
async fn a_run_has_attempts_and_legs_of_a_matrix_stand_together() {
    let (bench, ids) = filled().await;
    told(
        &bench,
        &ids[1],
        &[json!({"verdict": "would-refuse", "mode": "audit", "reason": "not-allowed"})],
    )
    .await;
    let run = bench.get("/runs/Acme/Web/77").ok().await.value();
    assert_eq!(
        (&run["repo"], &run["workflow"], &run["actor"]),
        (&json!("acme/web"), &json!("ci.yml"), &json!("ann"))
    );
    assert_eq!(
        (&run["more"], &run["counts"]["would_refuse"]),
        (&json!(false), &json!(1))
    );
    let shape: Vec<(i64, Vec<(&str, usize)>)> = run["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| {
            let jobs = attempt["jobs"].as_array().unwrap().iter();
            let jobs = jobs.map(|job| {
                (
                    job["job"].as_str().unwrap(),
                    job["legs"].as_array().unwrap().len(),
                )
            });
            (attempt["attempt"].as_i64().unwrap(), jobs.collect())
        })
        .collect();
    assert_eq!(
        shape,
        [(2, vec![("build", 1), ("test", 2)]), (1, vec![("build", 1)])]
    );
    let leg = &run["attempts"][0]["jobs"][1]["legs"][0];
    assert_eq!(
        (&leg["id"], &leg["policy"]["name"]),
        (&json!(ids[1]), &json!("base"))
    );
    assert_eq!(leg["counts"]["would_refuse"], 1);
    for path in ["/runs/acme/web/9", "/runs/beta/web/77", "/runs/acme/x/77"] {
        bench.get(path).refused(404, "not-found").await;
    }
    let beta = bench.token(&of_owners(Role::Viewer, "beta", &["beta"])).await;
    bench
        .get("/runs/acme/web/77")
        .by(&beta)
        .refused(404, "not-found")
        .await;
    bench
        .get("/runs?owner=acme")
        .by(&beta)
        .refused(403, "forbidden")
        .await;
    assert_eq!(
        bench.get("/runs").by(&beta).ok().await.value()["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_job_says_what_its_verdicts_add_up_to_but_not_to_a_provisioner() {
    let (bench, ids) = filled().await;
    told(
        &bench,
        &ids[0],
        &[json!({}), json!({"verdict": "refuse", "reason": "denied"})],
    )
    .await;
    let job = bench.get(&format!("/jobs/{}", ids[0])).ok().await.value();
    assert_eq!(
        (&job["counts"]["permit"], &job["counts"]["refuse"]),
        (&json!(1), &json!(1))
    );
    let list = bench
        .get("/jobs?job=build&run_id=77&search=77")
        .ok()
        .await
        .value();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(list["items"][1]["counts"]["refuse"], 1);
    assert_eq!(list["items"][0].get("counts"), None, "nothing was heard of it");
    let pool = NewToken {
        networks: vec!["runners".into()],
        ..wanted(Role::Provisioner, "pool")
    };
    let pool = bench.token(&pool).await;
    let seen = bench
        .get(&format!("/jobs/{}", ids[0]))
        .by(&pool)
        .ok()
        .await
        .value();
    assert_eq!(seen.get("counts"), None);
    for (query, field) in [
        ("assurance=odd", "query"),
        ("source=x", "query"),
        ("since=x", "query"),
    ] {
        let refused = bench.get(&format!("/jobs?{query}")).send().await;
        assert_eq!(refused.status, 400, "{query} {field}: {refused:?}");
    }
}

#[tokio::test]
async fn the_policy_of_a_job_is_explained_at_its_own_version() {
    let (bench, ids) = filled().await;
    let path = format!("/jobs/{}/effective", ids[0]);
    let told = bench.get(&path).ok().await.value();
    assert_eq!(told["egress"]["policy"]["version"], 1);
    assert_eq!(told["egress"]["policy"]["owner"], "acme");
    assert_eq!(
        (&told["decided_by"], &told["assurance"]),
        (&json!("policy"), &json!("declared"))
    );
    let why: Vec<&str> = told["why"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect();
    assert_eq!(why[0], "workflow:acme/web/ci.yml: nothing is attached.");
    assert!(
        why[1].contains("policy base (version 1)") && why[1].ends_with("decides egress."),
        "{why:?}"
    );
    assert_eq!(told["in_force"][0]["gateway"], "gw-1");
    // What is written for the next job is not this one's.
    let next = json!({"yaml": format!("{POLICY}icmp: true\n"), "apply": "next-job"});
    let tag = bench.get("/orgs/acme/policies/base").ok().await.tag();
    bench
        .put("/orgs/acme/policies/base")
        .header("if-match", &tag)
        .json(&next)
        .ok()
        .await;
    let told = bench.get(&path).ok().await.value();
    assert_eq!(told["egress"]["policy"]["version"], 1, "{told}");
    let now = bench
        .get("/effective?repo=acme/web&workflow=ci.yml")
        .ok()
        .await
        .value();
    assert_eq!(now["egress"]["policy"]["version"], 2);

    strict_gateway(&bench, "gw-9", "strict", "10.99.0.0/16").await;
    let weak = job(&bench, "acme/web", "ci.yml", "10.99.0.1", json!({})).await;
    let told = bench.get(&format!("/jobs/{weak}/effective")).ok().await.value();
    assert_eq!(
        (&told["decided_by"], &told["min_assurance"]),
        (&json!("network-default"), &json!("signed"))
    );
    let why = told["why"][0].as_str().unwrap();
    assert!(
        why.contains("demands signed at least") && why.contains("house (audit)"),
        "{why}"
    );
    bench
        .get("/jobs/nothing/effective")
        .refused(404, "not-found")
        .await;
    let beta = bench.token(&of_owners(Role::Viewer, "beta", &["beta"])).await;
    for what in ["effective", "endpoints", "summary"] {
        let path = format!("/jobs/{weak}/{what}");
        bench.get(&path).by(&beta).refused(404, "not-found").await;
    }
}

#[tokio::test]
async fn what_a_job_reached_is_told_as_lines_of_a_policy() {
    let (bench, ids) = filled().await;
    let events = [
        json!({"kind": "dns", "port": 53}),
        json!({}),
        json!({"name": "evil.test", "verdict": "refuse", "reason": "not-allowed", "port": 8443}),
        json!({"name": "blocked.test", "verdict": "refuse", "reason": "global-block"}),
        json!({"name": "looked.test", "kind": "dns", "port": 53, "verdict": "refuse", "reason": "not-allowed"}),
        json!({"name": "time.test", "kind": "udp", "port": 123}),
    ];
    told(&bench, &ids[0], &events).await;
    let summary = bench.get(&format!("/jobs/{}/summary", ids[0])).ok().await.value();
    assert_eq!(summary["counts"]["refuse"], 3);
    assert_eq!(summary["job"]["repo"], "acme/web");
    let list = bench
        .get(&format!("/jobs/{}/endpoints", ids[0]))
        .ok()
        .await
        .value();
    let mut lines: Vec<(&str, &str, &Value)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["endpoint"].as_str().unwrap(),
                one["transport"].as_str().unwrap(),
                &one["line"],
            )
        })
        .collect();
    lines.sort_by_key(|(endpoint, ..)| *endpoint);
    assert_eq!(
        lines,
        [
            ("blocked.test", "tcp", &Value::Null),
            ("evil.test", "tcp", &json!("evil.test:8443")),
            ("forge.test", "tcp", &json!("forge.test:443")),
            ("looked.test", "dns", &json!("looked.test:443")),
            ("time.test", "udp", &json!("time.test:123/udp")),
        ],
        "a lookup of what was reached is left out"
    );
    assert_eq!(list["unlisted"], 0);
    bench
        .get("/jobs/nothing/endpoints")
        .refused(404, "not-found")
        .await;
    let nobody = bench
        .get("/jobs/nothing/summary")
        .expect(StatusCode::NOT_FOUND)
        .await;
    assert!(nobody.detail().contains("no job"));
}
