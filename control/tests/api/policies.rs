//! Policies: made, listed, read, changed, deleted.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::bench::{Bench, POLICY};

const AUDIT: &str = "egress-policy: audit\n";

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_policy_is_made_from_json_and_read_as_it_was_written() {
    let bench = Bench::new().await;
    let made = bench.policy("base", POLICY).await;
    assert_eq!(made.headers["location"], "/api/v1/orgs/acme/policies/base");
    let policy = made.value();
    assert_eq!(policy["version"], 1);
    assert_eq!(policy["mode"], "block");
    assert_eq!(policy["owner"], "acme");
    assert_eq!(policy["endpoints"], 1);
    assert_eq!(policy["yaml"], POLICY);
    assert!(policy["id"].as_str().unwrap().starts_with("pol_"));
    assert_eq!(policy["updated_by"], "root");
    let read = bench.get("/orgs/ACME/policies/base").ok().await;
    assert_eq!(read.value()["id"], policy["id"]);
    assert_eq!(read.value()["parsed"]["egress-policy"], "block");
}

#[tokio::test]
async fn a_policy_is_made_from_a_file_and_read_as_one() {
    let bench = Bench::new().await;
    let made = bench
        .post("/orgs/acme/policies?name=B%C3%BCro%20base")
        .yaml(POLICY)
        .expect(StatusCode::CREATED)
        .await;
    assert_eq!(
        made.headers["location"],
        "/api/v1/orgs/acme/policies/B%C3%BCro%20base"
    );
    let read = bench
        .get("/orgs/acme/policies/B%C3%BCro%20base")
        .header("accept", "application/yaml")
        .ok()
        .await;
    assert_eq!(
        (read.text.as_str(), read.media()),
        (POLICY, "application/yaml"),
        "comments and order included"
    );
    assert_eq!(read.headers["vary"], "Accept, Authorization");
    let none = bench
        .get("/orgs/acme/policies/B%C3%BCro%20base")
        .header("accept", "text/html");
    none.refused(406, "not-acceptable").await;
}

#[tokio::test]
async fn warnings_come_with_what_was_written() {
    let bench = Bench::new().await;
    let made = bench
        .policy("wide", "allowed-endpoints: '*.com:443'\n")
        .await
        .value();
    let warning = &made["diagnostics"][0];
    assert_eq!(
        (warning["severity"].as_str(), warning["line"].as_u64()),
        (Some("warning"), Some(1)),
        "{made}"
    );
}

#[tokio::test]
async fn lists_are_filtered_counted_and_cut_into_pages() {
    let bench = Bench::new().await;
    bench.policy("base", POLICY).await;
    bench.policy("Base-audit", AUDIT).await;
    bench.policy("lock", "lockdown-mode: {enabled: true}\n").await;
    let scope = json!({"add": ["repo:acme/web"]});
    bench
        .post("/orgs/acme/policies/base/attachments")
        .json(&scope)
        .ok()
        .await;
    bench
        .post("/orgs/beta/policies")
        .json(&json!({"name": "foreign", "yaml": POLICY}))
        .expect(StatusCode::CREATED)
        .await;
    let list = async |query: &str| {
        bench
            .get(&format!("/orgs/acme/policies{query}"))
            .ok()
            .await
            .value()
    };
    let all = list("").await;
    assert_eq!(names(&all).len(), 3, "{all}");
    assert_eq!(
        all["counters"],
        json!({"total": 3, "block": 1, "audit": 1, "unattached": 2})
    );
    assert_eq!(names(&list("?search=bASE").await).len(), 2);
    assert_eq!(
        names(&list("?search=%25").await),
        [""; 0],
        "a wildcard of SQL is a letter here"
    );
    assert_eq!(names(&list("?mode=audit").await), ["Base-audit"]);
    assert_eq!(names(&list("?mode=none").await), ["lock"]);
    assert_eq!(names(&list("?attached=true").await), ["base"]);
    assert_eq!(names(&list("?attached=false").await).len(), 2);
    let first = list("?limit=2").await;
    assert_eq!(names(&first).len(), 2);
    let rest = list(&format!("?limit=2&after={}", first["next"].as_str().unwrap())).await;
    assert_eq!((names(&rest).len(), &rest["next"]), (1, &Value::Null));
}

#[tokio::test]
async fn who_allows_this() {
    let bench = Bench::new().await;
    bench
        .policy(
            "npm",
            "allowed-endpoints: '*.npm.example.test:443'\nplatform: none\n",
        )
        .await;
    bench
        .policy(
            "db",
            "allowed-endpoints: db.example.test:5432 10.0.0.0/8:5432\nplatform: none\n",
        )
        .await;
    bench
        .policy(
            "denied",
            "allowed-endpoints: db.example.test:5432\ndenied-endpoints: db.example.test\n",
        )
        .await;
    bench.policy("audit", AUDIT).await;
    let put = bench
        .put("/orgs/acme/endpoint-sets/corp")
        .yaml("[set.example.test]");
    put.expect(StatusCode::CREATED).await;
    bench.policy("uses", "use: [corp]\n").await;
    let allow = async |endpoint: &str| {
        let list = bench
            .get(&format!("/orgs/acme/policies?endpoint={endpoint}"))
            .ok()
            .await
            .value();
        names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(allow("registry.npm.example.test").await, ["npm"]);
    assert_eq!(allow("db.example.test:5432").await, ["db"]);
    assert_eq!(allow("db.example.test").await, [""; 0], "another port");
    assert_eq!(allow("10.1.2.3:5432").await, ["db"]);
    assert_eq!(allow("set.example.test").await, ["uses"], "by a set");
    assert_eq!(allow("db.example.test:5432/udp").await, [""; 0]);
    bench.delete("/orgs/acme/policies/npm").ok().await;
    assert_eq!(allow("registry.npm.example.test").await, [""; 0], "at once");
    let wrong = bench
        .get("/orgs/acme/policies?endpoint=*.example.test")
        .refused(400, "invalid")
        .await;
    assert_eq!(wrong.value()["field"], "endpoint");
}

#[tokio::test]
async fn a_change_is_a_new_version_and_a_deleted_name_is_free_for_another_policy() {
    let bench = Bench::new().await;
    let made = bench.policy("base", POLICY).await;
    let changed = bench
        .put("/orgs/acme/policies/base")
        .header("if-match", &made.tag())
        .json(&json!({"yaml": AUDIT, "apply": "next-job"}))
        .ok()
        .await;
    assert_eq!(
        (
            changed.value()["version"].as_u64(),
            changed.value()["mode"].as_str()
        ),
        (Some(2), Some("audit"))
    );
    let changed = bench
        .put("/orgs/acme/policies/base?apply=now")
        .header("if-match", &changed.tag())
        .yaml(POLICY)
        .ok()
        .await;
    assert_eq!(changed.value()["version"], 3);
    let scope = json!({"add": ["org:acme"]});
    bench
        .post("/orgs/acme/policies/base/attachments")
        .json(&scope)
        .ok()
        .await;
    let gone = bench.delete("/orgs/acme/policies/base").ok().await.value();
    assert_eq!(gone["detached"], json!(["org:acme"]));
    assert_eq!(gone["id"], made.value()["id"]);
    bench
        .get("/orgs/acme/policies/base")
        .refused(404, "not-found")
        .await;
    bench
        .delete("/orgs/acme/policies/base")
        .refused(404, "not-found")
        .await;
    let again = bench.policy("base", POLICY).await.value();
    assert_ne!(again["id"], made.value()["id"]);
    assert_eq!(
        (again["version"].as_u64(), &again["attachments"]),
        (Some(1), &json!([]))
    );
}
