//! What agents ask and report, and what needs no credential.

use serde_json::json;
use tidegate_policy::compile::block::{GlobalBlock, GlobalBlocks};
use tidegate_policy::document::blocklist::parse_pattern;
use tidegate_policy::rulebook::World as Shared;

use super::*;

/// The action asks 200 or not; the hooks, whether anybody is there; the agent, what it may do.
#[tokio::test]
async fn what_needs_no_credential_is_answered_to_whoever_asks() {
    let clients = Clients::with(&[]);
    for (target, want) in [
        ("/v1", json!({})),
        ("/v1/", json!({})),
        (
            "/v1/github/acme/actions/tls-inspection-status",
            json!({"enforced_by": "gateway"}),
        ),
        (
            "/v1/github/acme/web/actions/subscription",
            json!({"status": "active"}),
        ),
        (
            "/v1/global-feature-flags?agent_type=agent-oss&version=v0.16.0",
            json!({"agent_type": "agent-oss", "enable_armour": false, "enable_custom_detection_rules": false}),
        ),
        (
            "/v1/global-blocklist",
            json!({"ip_addresses": [], "domains": [], "wildcard_domains": []}),
        ),
    ] {
        assert_eq!(clients.get(target).await, (200, want.clone()), "{target}");
        assert_eq!(
            clients.send(Method::HEAD, target, &[], "").await,
            (200, want),
            "{target}"
        );
    }
}

#[tokio::test]
async fn the_blocklist_is_what_everybody_is_refused() {
    let clients = Clients::new();
    let entries = ["evil.test", "*.evil.test", "203.0.113.9"].map(|text| parse_pattern(text).unwrap());
    let world = Shared {
        global: GlobalBlocks::new([Arc::new(GlobalBlock::build(entries))]),
        ..Shared::default()
    };
    let set = PolicySet {
        world: Arc::new(world),
        ..PolicySet::default()
    };
    clients.world.leases.set_policies(Arc::new(set));
    let (_, list) = clients.get("/v1/global-blocklist").await;
    for (kind, want) in [
        ("ip_addresses", "203.0.113.9"),
        ("domains", "evil.test"),
        ("wildcard_domains", "*.evil.test"),
    ] {
        assert_eq!(list[kind][0]["endpoint"], want, "{list}");
        assert!(list[kind][0]["reason"].is_string(), "{list}");
    }
}

/// Reports need exactly 200, and carry the key that monitor gave out to this machine for this job.
#[tokio::test]
async fn a_report_reaches_the_events_with_its_job_by_the_key_of_monitor() {
    let clients = Clients::with(&[]);
    clients.register("acme/web", "ci.yml").await;
    let key = clients.monitor("Acme/Web").await;
    let (_, current) = clients.get("/v1/jobs/current").await;
    let path = "/v1/github/acme/web/actions/jobs/c-1/networkconnection";
    let body = json!({"domainName": "a.test.", "port": "443(https)", "tool": {"name": "curl"}}).to_string();
    let send = async |target: &str, key: &str| {
        clients
            .send(Method::POST, target, &[("x-one-time-key", key)], &body)
            .await
    };
    for (target, key) in [
        (path, "0"),
        ("/v1/github/acme/other/actions/jobs/c-1/networkconnection", &*key),
    ] {
        let (status, problem) = send(target, key).await;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "{target}");
    }
    assert_eq!(clients.send(Method::POST, path, &[], &body).await.0, 403);
    assert_eq!(send(path, &key).await, (200, json!({})));
    assert_eq!(send(path, &key).await.0, 200, "the same again");
    assert_eq!(
        send("/v1/github/acme/web/actions/jobs/c-1/dns", &key).await.0,
        200
    );
    let (status, problem) = clients
        .send(Method::POST, path, &[("x-one-time-key", &key)], "{")
        .await;
    assert_eq!((status, &problem["code"]), (400, &json!("syntax")));
    let taken = clients.taken.0.lock();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(
        (&*taken[0].job_id, &*taken[0].name, taken[0].port),
        (current["id"].as_str().unwrap(), "a.test", 443)
    );
}

/// An agent that outlived the gateway sends on with its old key; its job must still be able to end.
#[tokio::test]
async fn wrong_one_time_keys_cost_the_job_nothing() {
    let clients = Clients::with(&[]);
    let path = "/v1/github/acme/web/actions/jobs/c-1/dns";
    for _ in 0..30 {
        let (status, _) = clients
            .send(Method::POST, path, &[("x-one-time-key", "old")], "{}")
            .await;
        assert_eq!(status, 403);
    }
    clients.register("acme/web", "ci.yml").await;
}

/// The action and the hooks append what they get to the job's summary when it is 200, and nothing otherwise.
#[tokio::test]
async fn the_summary_is_markdown_of_the_calling_machines_own_job() {
    let clients = Clients::with(&[("repo:acme/web", "web", BLOCK)]);
    let summary = async |repo: &str, rest: &str| {
        let path = format!("/v1/github/{repo}/actions/runs/7/correlation/c-1/job-markdown-summary");
        let ask = Ask {
            source: ip(ME),
            method: Method::GET,
            path,
            query: rest.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        clients.api.answer(ask).await
    };
    assert_eq!(summary("acme/web", "").await.unwrap_err().status.as_u16(), 404);
    clients.register("acme/web", "ci.yml").await;
    for rest in [
        "",
        "environment=ARC",
        "environment=SelfHostedVM&start_time=1&end_time=2",
    ] {
        let page = summary("Acme/Web", rest).await.unwrap();
        assert_eq!(page.content_type, "text/markdown; charset=utf-8");
        assert!(page.body.contains('#'), "{}", page.body);
    }
    assert_eq!(summary("acme/other", "").await.unwrap_err().status.as_u16(), 404);
}
