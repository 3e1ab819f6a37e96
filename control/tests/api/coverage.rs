//! Coverage, scopes and owners: what was seen and what holds for it.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;
use tidegate_policy::job::Assurance;

use crate::bench::{Bench, POLICY, eventually, of_owners};
use crate::events::{event, store};

const AUDIT: &str = "egress-policy: audit\nallowed-endpoints: >\n  registry.example.test:443\n";

/// A gateway whose network demands what provisioners can't give.
pub(crate) async fn strict_gateway(bench: &Bench, name: &str, network: &str, range: &str) {
    let hello = Hello {
        protocol: PROTOCOL,
        gateway: name.into(),
        group: None,
        version: "0.1.0".into(),
        networks: vec![ServedNetwork {
            name: network.into(),
            cluster: "prod".into(),
            ranges: vec![range.parse().unwrap()],
            min_assurance: Some(Assurance::Signed),
            default_policy: Some("house (audit)".into()),
            default_yaml: None,
            runners: Some("ephemeral".into()),
        }],
        resume: None,
    };
    let group = format!("gateway:{name}");
    bench
        .store
        .gateway_seen(&hello, &group, Generation(0))
        .await
        .unwrap();
}

/// Registers a job; its id.
pub(crate) async fn job(bench: &Bench, repo: &str, workflow: &str, source: &str, more: Value) -> String {
    let mut start = json!({
        "owner": repo.split('/').next().unwrap(), "repo": repo, "workflow": workflow, "job": "build", "run_id": "77",
        "run_attempt": 1, "event": "push", "ref": "refs/heads/main", "actor": "ann", "sources": [source],
    });
    for (key, value) in more.as_object().unwrap() {
        start[key] = value.clone();
    }
    let made = bench
        .post("/jobs")
        .json(&start)
        .expect(StatusCode::CREATED)
        .await
        .value();
    made["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn attach(bench: &Bench, name: &str, scope: &str) {
    let path = format!("/orgs/acme/policies/{name}/attachments");
    bench.post(&path).json(&json!({"add": [scope]})).ok().await;
}

/// Jobs of `acme/web`, `acme/api` and `beta/x`, the last where too little is known; events of `acme/fixed` alone.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    bench.gateway("gw-1", "runners", "10.77.0.0/16").await;
    strict_gateway(&bench, "gw-2", "strict", "10.78.0.0/16").await;
    bench.policy("base", POLICY).await;
    bench.policy("watch", AUDIT).await;
    attach(&bench, "base", "repo:acme/web").await;
    attach(&bench, "watch", "org:acme").await;
    job(&bench, "Acme/Web", "ci.yml", "10.77.0.1", json!({})).await;
    job(&bench, "acme/api", "ci.yml", "10.77.0.2", json!({})).await;
    job(&bench, "beta/x", "", "10.78.0.1", json!({})).await;
    let of = |repo: &str| {
        json!({"id": format!("acme-{repo}"), "owner": "acme", "repo": format!("acme/{repo}"), "workflow": "ci.yml",
            "job": "build", "cluster": "prod", "assurance": "static"})
    };
    let would =
        json!({"job": of("api"), "mode": "audit", "verdict": "would-refuse", "reason": "not-allowed"});
    store(
        &bench.store,
        vec![
            event("e1", None, &json!({"job": of("fixed")})),
            event("e2", None, &would),
        ],
    )
    .await;
    bench
}

fn repos(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|row| row["repo"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_workflow_that_was_seen_is_shown_with_what_decides_about_it() {
    let bench = filled().await;
    let list = bench.get("/coverage?sort=name").ok().await.value();
    assert_eq!(repos(&list), ["acme/api", "acme/fixed", "acme/web", "beta/x"]);
    let rows = list["items"].as_array().unwrap();
    let (api, fixed, web, x) = (&rows[0], &rows[1], &rows[2], &rows[3]);
    assert_eq!(web["policy"]["name"], "base");
    assert_eq!(web["policy"]["owner"], "acme");
    assert_eq!(web["policy"]["mode"], "block");
    assert_eq!(web["scope"], "repo:acme/web");
    assert_eq!(
        (&web["decided_by"], &web["assurance"]),
        (&json!("policy"), &json!("declared"))
    );
    assert_eq!((&web["network"], &web["jobs"]), (&json!("runners"), &json!(1)));
    assert!(web["last_job"].is_string());
    assert_eq!(api["policy"]["mode"], "audit");
    assert_eq!(api["counts"]["would_refuse"], 1);
    assert_eq!(api["ready_to_block"], false);
    assert!(
        api["why_not"][0]
            .as_str()
            .unwrap()
            .starts_with("1 verdict of the last seven days would"),
        "{api}"
    );
    assert_eq!(
        (&fixed["assurance"], &fixed["last_job"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(fixed["policy"]["name"], "watch");
    assert_eq!(
        (&x["policy"], &x["below_min_assurance"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(
        (&x["min_assurance"], &x["default_policy"]),
        (&json!("signed"), &json!("house (audit)"))
    );
    let counters = json!({"all": 4, "no_policy": 1, "audit": 2, "block": 1, "ready_to_block": 0,
        "below_min_assurance": 1});
    assert_eq!(list["counters"], counters);
    for (query, wanted) in [
        ("filter=no-policy", &["beta/x"][..]),
        ("filter=below-min-assurance", &["beta/x"]),
        ("filter=audit", &["acme/api", "acme/fixed"]),
        ("filter=block", &["acme/web"]),
        ("filter=ready-to-block", &[]),
        ("owner=ACME&search=WE", &["acme/web"]),
        ("repo=Acme/API&days=30", &["acme/api"]),
        ("cluster=nowhere", &[]),
    ] {
        let found = bench
            .get(&format!("/coverage?sort=name&{query}"))
            .ok()
            .await
            .value();
        assert_eq!(repos(&found), wanted, "{query}");
        assert_eq!(
            found["counters"]["all"] == 4,
            query.starts_with("filter"),
            "a filter leaves the counters: {found}"
        );
    }
    let most = bench.get("/coverage?sort=refusals&limit=1").ok().await.value();
    assert_eq!(repos(&most), ["acme/api"]);
    let escaped = |c: char| match c {
        ' ' | '"' | '[' | ']' | '%' | '&' | '+' | '#' => format!("%{:02X}", u32::from(c)),
        _ => c.to_string(),
    };
    let next: String = most["next"].as_str().unwrap().chars().map(escaped).collect();
    let rest = bench
        .get(&format!("/coverage?sort=refusals&after={next}"))
        .ok()
        .await
        .value();
    assert_eq!(rest["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_workflow_is_judged_by_a_week_whatever_days_are_shown() {
    let bench = filled().await;
    bench.pass(Duration::from_hours(5 * 24));
    let shown = bench.get("/coverage?repo=acme/api&days=1").ok().await.value();
    let row = &shown["items"][0];
    assert_eq!(row["counts"]["would_refuse"], 0, "{row}");
    assert!(
        row["why_not"][0].as_str().unwrap().starts_with("1 verdict"),
        "{row}"
    );
}

#[tokio::test]
async fn what_is_written_counts_at_once_and_what_is_seen_soon() {
    let bench = filled().await;
    let policy = async |repo: &str| {
        let list = bench.get(&format!("/coverage?repo={repo}")).ok().await.value();
        list["items"][0]["policy"]["name"].clone()
    };
    assert_eq!(policy("acme/api").await, "watch");
    attach(&bench, "base", "workflow:acme/api/ci.yml").await;
    assert_eq!(policy("acme/api").await, "base");
    job(&bench, "acme/late", "ci.yml", "10.77.0.9", json!({})).await;
    bench.pass(Duration::from_secs(10));
    assert_eq!(policy("acme/late").await, "watch");
}

#[tokio::test]
async fn a_limited_token_sees_its_own_owners() {
    let bench = filled().await;
    let acme = bench.token(&of_owners(Role::Viewer, "acme", &["Acme"])).await;
    let list = bench.get("/coverage").by(&acme).ok().await.value();
    assert_eq!(list["counters"]["all"], 3);
    bench
        .get("/coverage?owner=beta")
        .by(&acme)
        .refused(403, "forbidden")
        .await;
    bench
        .get("/scopes?owner=beta")
        .by(&acme)
        .refused(403, "forbidden")
        .await;
    let scopes = bench.get("/scopes").by(&acme).ok().await.value();
    let all: Vec<&str> = scopes["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["scope"].as_str().unwrap())
        .collect();
    assert!(
        !all.is_empty() && all.iter().all(|scope| scope.contains(":acme")),
        "{all:?}"
    );
    let orgs = bench.get("/orgs").by(&acme).ok().await.value();
    assert_eq!(orgs["items"].as_array().unwrap().len(), 1, "{orgs}");
    let lone = bench.token(&of_owners(Role::Viewer, "lone", &["nobody"])).await;
    let orgs = bench.get("/orgs").by(&lone).ok().await.value();
    assert_eq!(
        orgs["items"][0]["owner"], "nobody",
        "its own is there though nothing was seen of it"
    );
}

#[tokio::test]
async fn scopes_are_picked_by_kind_text_pattern_and_policy() {
    let bench = filled().await;
    for (query, wanted) in [
        ("kind=org", &["org:acme", "org:beta"][..]),
        (
            "kind=repo&owner=ACME",
            &["repo:acme/api", "repo:acme/fixed", "repo:acme/web"],
        ),
        ("kind=workflow&search=WEB", &["workflow:acme/web/ci.yml"]),
        ("kind=cluster", &["cluster:prod"]),
        (
            "pattern=acme/*/ci.yml&kind=workflow&attached=false",
            &[
                "workflow:acme/api/ci.yml",
                "workflow:acme/fixed/ci.yml",
                "workflow:acme/web/ci.yml",
            ],
        ),
        ("attached=true", &["org:acme", "repo:acme/web"]),
        ("policy=base", &["repo:acme/web"]),
        ("pattern=ACME/%3Fpi", &["repo:acme/api"]),
    ] {
        let list = bench.get(&format!("/scopes?{query}")).ok().await.value();
        let found: Vec<&str> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["scope"].as_str().unwrap())
            .collect();
        assert_eq!(found, wanted, "{query}");
        assert_eq!(list["total"], wanted.len(), "{query}");
    }
    let held = bench.get("/scopes?policy=watch").ok().await.value();
    assert_eq!(held["items"][0]["policy"]["owner"], "acme");
    assert_eq!(held["items"][0]["workflows"], 3);
    let first = bench.get("/scopes?limit=1&kind=repo").ok().await.value();
    assert_eq!(first["next"], "repo:acme/api");
    let orgs = bench.get("/orgs").ok().await.value();
    let acme = &orgs["items"][0];
    assert_eq!(
        (
            &acme["owner"],
            &acme["policies"],
            &acme["unattached"],
            &acme["workflows"],
            &acme["jobs_alive"]
        ),
        (&json!("acme"), &json!(2), &json!(0), &json!(3), &json!(2))
    );
    let page = bench.get("/orgs?limit=1").ok().await.value();
    assert_eq!(page["next"], "acme");
    let rest = bench.get("/orgs?limit=1&after=acme").ok().await.value();
    assert_eq!(
        (&rest["items"][0]["owner"], &rest["next"]),
        (&json!("beta"), &Value::Null)
    );
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_with_their_field() {
    let bench = Bench::new().await;
    for (path, field) in [
        ("/coverage?days=2", "days"),
        ("/coverage?after=x", "after"),
        ("/coverage?limit=0", "limit"),
        ("/scopes?limit=1001", "limit"),
    ] {
        let refused = bench.get(path).refused(400, "invalid").await.value();
        assert_eq!(refused["field"], field, "{path}");
    }
    let long = "a".repeat(256);
    for path in [
        format!("/coverage?search={long}"),
        format!("/scopes?pattern={long}"),
    ] {
        bench.get(&path).refused(400, "invalid").await;
    }
    for path in [
        "/coverage?filter=x",
        "/coverage?oops=1",
        "/scopes?kind=x",
        "/orgs?x=1",
    ] {
        assert_eq!(bench.get(path).send().await.status, 400, "{path}");
    }
    let empty = bench.get("/coverage").ok().await.value();
    assert_eq!(
        (&empty["items"], &empty["counters"]["all"]),
        (&json!([]), &json!(0))
    );
}

#[tokio::test]
async fn a_large_table_is_shown_while_the_next_is_read() {
    let bench = Bench::new().await;
    let of = |name: &str| {
        json!({"job": {"id": "acme-1", "owner": "acme", "repo": "acme/web", "workflow": name, "job": "build",
            "cluster": "prod", "assurance": "static"}})
    };
    let many = (0..=1_000).map(|at| event(&format!("e{at}"), None, &of(&format!("w{at}.yml"))));
    store(&bench.store, many.collect()).await;
    let all = async || bench.get("/coverage?limit=1").ok().await.value()["counters"]["all"].clone();
    assert_eq!(all().await, 1_001);
    store(&bench.store, vec![event("late", None, &of("late.yml"))]).await;
    assert_eq!(all().await, 1_001, "it is fresh");
    bench.pass(Duration::from_secs(2));
    assert_eq!(all().await, 1_001, "the last one, and somebody reads");
    eventually("the next table", async || match all().await {
        seen if seen == 1_002 => Ok(()),
        seen => Err(seen),
    })
    .await;
    store(&bench.store, vec![event("last", None, &of("last.yml"))]).await;
    bench.pass(Duration::from_mins(1));
    assert_eq!(all().await, 1_003, "what is too old is shown to nobody");
}
