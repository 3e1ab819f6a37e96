//! The policy store as the Harden-Runner clients' Terraform provider uses it: what it writes it has to read again, letter by
//! letter, or every plan has a difference.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, POLICY, of_owners, wanted};

const BASE: &str = "/v1/github/Acme/actions/policies/base";
const ATTACH: &str = "/v1/github/Acme/actions/policies/base/attach";

/// What the provider writes for a policy: every field of its own, nothing else.
fn policy(endpoints: &Value) -> Value {
    json!({
        "owner": "Acme", "policyName": "base", "allowed_endpoints": endpoints, "egress_policy": "block",
        "disable_telemetry": false, "disable_sudo": true, "disable_file_monitoring": false,
    })
}

/// What it writes for attachments.
fn attachments() -> Value {
    json!({
        "org": {"name": "Acme", "apply_to_org": false, "repos": [
            {"name": "Web", "apply_to_repo": true, "workflows": ["release.yml", "ci.yml"]},
            {"name": "API", "apply_to_repo": true},
        ]},
        "clusters": ["prod", "dev"],
    })
}

/// Its resources' life: created, read, changed, attached, moved, detached, deleted.
#[tokio::test]
async fn a_policy_lives_as_the_provider_has_it() {
    let bench = Bench::new().await;
    let first = policy(&json!(["GitHub.com:443", "*.npm.test:443"]));
    bench.get(BASE).refused(404, "not-found").await;
    let made = bench
        .post(BASE)
        .json(&first)
        .expect(StatusCode::CREATED)
        .await
        .value();
    assert_eq!(made, first, "no attachments: none is said");
    assert_eq!(bench.get(BASE).ok().await.value(), first);

    let second = policy(&Value::Null);
    let changed = bench.post(BASE).json(&second).ok().await.value();
    assert_eq!(
        changed["allowed_endpoints"],
        json!([]),
        "the provider writes null for no endpoints"
    );

    let attached = bench.post(ATTACH).json(&attachments()).ok().await.value();
    assert_eq!(attached["attachments"], attachments());
    assert_eq!(bench.get(BASE).ok().await.value()["attachments"], attachments());
    let ours = bench.get("/orgs/acme/policies/base").ok().await.value();
    assert_eq!(
        ours["attachments"],
        json!([
            "cluster:dev",
            "cluster:prod",
            "repo:acme/api",
            "repo:acme/web",
            "workflow:acme/web/ci.yml",
            "workflow:acme/web/release.yml"
        ])
    );

    // A change of the policy resource says nothing of attachments.
    bench.post(BASE).json(&first).ok().await;
    assert_eq!(bench.get(BASE).ok().await.value()["attachments"], attachments());

    // The attachment resource changes by detaching and attaching.
    bench.delete(ATTACH).expect(StatusCode::NO_CONTENT).await;
    assert_eq!(bench.get(BASE).ok().await.value(), first);
    bench.delete(ATTACH).expect(StatusCode::NO_CONTENT).await;
    let org = json!({"org": {"name": "Acme", "apply_to_org": true}});
    bench.post(ATTACH).json(&org).ok().await;
    assert_eq!(bench.get(BASE).ok().await.value()["attachments"], org);

    bench.delete(BASE).expect(StatusCode::NO_CONTENT).await;
    for (method, path) in [("GET", BASE), ("DELETE", BASE), ("DELETE", ATTACH)] {
        bench
            .call(method.parse().unwrap(), path)
            .refused(404, "not-found")
            .await;
    }
    bench.post(ATTACH).json(&org).refused(404, "not-found").await;
}

#[tokio::test]
async fn a_policy_and_its_attachments_are_written_in_one_step_or_not_at_all() {
    let bench = Bench::new().await;
    bench.policy("other", POLICY).await;
    let taken = json!({"add": ["repo:acme/api"]});
    bench
        .post("/orgs/acme/policies/other/attachments")
        .json(&taken)
        .ok()
        .await;
    let mut whole = policy(&json!(["a.test:443"]));
    whole["attachments"] = attachments();
    let told = bench.post(BASE).json(&whole).refused(409, "conflict").await;
    assert!(
        told.detail()
            .contains("repo:acme/api is held by policy acme/other")
            && !told.detail().contains("replace"),
        "{told:?}"
    );
    bench.get(BASE).refused(404, "not-found").await;
    bench
        .delete("/orgs/acme/policies/other")
        .header("if-match", "*")
        .ok()
        .await;
    assert_eq!(
        bench
            .post(BASE)
            .json(&whole)
            .expect(StatusCode::CREATED)
            .await
            .value(),
        whole
    );
    // Named, they are all that there are.
    whole["attachments"] = json!({"clusters": ["prod"]});
    assert_eq!(bench.post(BASE).json(&whole).ok().await.value(), whole);
    whole["attachments"] = json!({});
    assert_eq!(
        bench
            .post(BASE)
            .json(&whole)
            .ok()
            .await
            .value()
            .get("attachments"),
        None
    );
}

/// What the wire can't say must survive a client that reads and writes again.
#[tokio::test]
async fn what_the_wire_can_not_say_is_not_destroyed() {
    let bench = Bench::new().await;
    bench
        .put("/orgs/acme/endpoint-sets/corp")
        .header("if-none-match", "*")
        .yaml("[corp.test]")
        .expect(StatusCode::CREATED)
        .await;
    let yaml = "# kept by hand\nuse: [corp]\nicmp: true\nplatform: none\negress-policy: block\n\
                allowed-endpoints: ntp.test:123/udp\ndenied-endpoints: evil.test\nlockdown-mode: {enabled: true}\n";
    bench.policy("base", yaml).await;
    let mut read = bench.get(BASE).ok().await.value();
    assert_eq!(
        read["allowed_endpoints"],
        json!(["ntp.test:123/udp"]),
        "sets stay in `use`"
    );
    assert_eq!(read["denied_endpoints"], json!(["evil.test"]));
    // Written as it was read it is the same policy, to the letter.
    bench.post(BASE).json(&read).ok().await;
    let ours = bench.get("/orgs/acme/policies/base").ok().await.value();
    assert_eq!((&ours["version"], &ours["yaml"]), (&json!(1), &json!(yaml)));
    // Changed by a client that knows nothing of the rest, the rest stays.
    for unknown in ["denied_endpoints", "lockdown"] {
        read.as_object_mut().unwrap().remove(unknown);
    }
    read["allowed_endpoints"] = json!(["a.test:443"]);
    read["something_newer"] = 1.into();
    bench.post(BASE).json(&read).ok().await;
    let ours = bench.get("/orgs/acme/policies/base").ok().await.value();
    assert_eq!(ours["version"], 2);
    let yaml = ours["yaml"].as_str().unwrap();
    for kept in [
        "corp",
        "icmp: true",
        "platform: none",
        "evil.test",
        "enabled: true",
        "a.test:443",
    ] {
        assert!(yaml.contains(kept), "{kept}: {yaml}");
    }
    let history = bench.get("/orgs/acme/policies/base/history").ok().await.value();
    let newest = &history["items"][0];
    assert_eq!(
        (&newest["action"], &newest["actor"]["via"]),
        (&json!("policy.updated"), &json!("harden-runner")),
        "{history}"
    );
}

#[tokio::test]
async fn a_refusal_says_what_to_mend_in_the_words_of_the_wire() {
    let bench = Bench::new().await;
    for (field, change) in [
        ("egress_policy", json!({"egress_policy": "deny"})),
        ("egress_policy", json!({"egress_policy": null})),
        (
            "allowed_endpoints[1]",
            json!({"allowed_endpoints": ["a.test", "b.test c.test"]}),
        ),
        ("owner", json!({"owner": "other"})),
        ("policyName", json!({"policyName": "Base"})),
        (
            "org.name",
            json!({"attachments": {"org": {"name": "other", "apply_to_org": true}}}),
        ),
    ] {
        let mut wrong = policy(&json!([]));
        wrong
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let told = bench.post(BASE).json(&wrong).refused(422, "invalid").await;
        assert_eq!(told.value()["field"], field, "{told:?}");
    }
    let told = bench
        .post(BASE)
        .json(&policy(&json!(["a.test", "https://b.test/x"])))
        .refused(422, "document")
        .await;
    assert!(
        told.value()["rendered"]
            .as_str()
            .unwrap()
            .contains("https://b.test/x"),
        "{told:?}"
    );
    bench
        .post(BASE)
        .json(&policy(&json!([])))
        .expect(StatusCode::CREATED)
        .await;
    for nothing in [
        json!({}),
        json!({"org": {"name": "Acme", "apply_to_org": false, "repos": [{"name": "web", "apply_to_repo": false}]}}),
    ] {
        let told = bench.post(ATTACH).json(&nothing).refused(422, "invalid").await;
        assert!(told.detail().contains("apply_to_repo"), "{told:?}");
    }
    bench
        .post(BASE)
        .body("application/json", "{")
        .refused(400, "syntax")
        .await;
    bench
        .post("/v1/github/a%20b/actions/policies/base")
        .json(&policy(&json!([])))
        .refused(422, "invalid")
        .await;
}

#[tokio::test]
async fn a_limited_editor_stays_within_its_owners() {
    let bench = Bench::new().await;
    let editor = bench
        .token(&of_owners(Role::Editor, "acme-editor", &["acme"]))
        .await;
    bench
        .post(BASE)
        .by(&editor)
        .json(&policy(&json!([])))
        .expect(StatusCode::CREATED)
        .await;
    let other = "/v1/github/other/actions/policies/base";
    bench.get(other).by(&editor).refused(403, "forbidden").await;
    bench
        .post(other)
        .by(&editor)
        .json(&json!({"egress_policy": "audit"}))
        .refused(403, "forbidden")
        .await;
    let cluster = json!({"clusters": ["prod"]});
    bench
        .post(ATTACH)
        .by(&editor)
        .json(&cluster)
        .refused(403, "forbidden")
        .await;
    bench.post(ATTACH).json(&cluster).ok().await;
    let mut all = policy(&json!([]));
    all["attachments"] = json!({"org": {"apply_to_org": true}});
    for (method, path, body) in [
        ("DELETE", ATTACH, None),
        ("DELETE", BASE, None),
        ("POST", BASE, Some(&all)),
    ] {
        let call = bench.call(method.parse().unwrap(), path).by(&editor);
        let call = match body {
            Some(body) => call.json(body),
            None => call,
        };
        let told = call.refused(403, "forbidden").await;
        assert!(told.detail().contains("cluster:prod"), "{told:?}");
    }
    let viewer = bench.token(&wanted(Role::Viewer, "viewer")).await;
    bench.get(BASE).by(&viewer).ok().await;
    bench
        .post(BASE)
        .by(&viewer)
        .json(&all)
        .refused(403, "forbidden")
        .await;
}

/// Two clients that write at once: each write is whole, and both get through.
#[tokio::test]
async fn writes_at_the_same_time_are_both_whole() {
    let bench = Bench::new().await;
    let one = policy(&json!(["one.test:443"]));
    let two = policy(&json!(["two.test:443"]));
    let (first, second) = tokio::join!(
        bench.post(BASE).json(&one).send(),
        bench.post(BASE).json(&two).send()
    );
    let mut made = [first.status, second.status];
    made.sort_unstable();
    assert_eq!(made, [200, 201]);
    let versions = bench.get("/orgs/acme/policies/base/versions").ok().await.value();
    assert_eq!(versions["items"].as_array().unwrap().len(), 2);
}
