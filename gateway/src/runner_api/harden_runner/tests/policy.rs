//! Which policy the clients are told, and what stands in it.

use super::*;

/// The action calls `join` on `allowed_endpoints`, fails without `egress_policy`, and overwrites what it is told.
#[tokio::test]
async fn a_policy_has_every_key_that_the_action_reads_and_says_nothing_of_its_own() {
    let clients = Clients::with(&[("workflow:acme/web/ci.yml", "web", BLOCK)]);
    let (status, policy) = clients
        .policy(&format!(
            "{POLICY}?workflow=ci.yml&run_id=7&correlationId=c-1&something=new"
        ))
        .await;
    assert_eq!(status, 200, "{policy}");
    assert_eq!(
        policy,
        json!({
            "owner": "Acme", "policy_name": "web", "egress_policy": "block",
            "allowed_endpoints": ["github.test:443", "*.npm.test:8443", "[2001:db8::1]:22", "set.test:443"],
            "denied_endpoints": ["gist.github.test"],
            "disable_sudo": true, "disable_telemetry": false,
        })
    );
}

/// "`allowed_endpoints` must always be an array": the action throws on a missing one, and records then.
#[tokio::test]
async fn an_empty_policy_has_an_empty_array() {
    let clients = Clients::with(&[("repo:acme/web", "web", "egress-policy: audit\n")]);
    let (_, policy) = clients.policy(&format!("{POLICY}?workflow=ci.yml")).await;
    assert_eq!(
        policy,
        json!({"owner": "Acme", "policy_name": "web", "egress_policy": "audit", "allowed_endpoints": []})
    );
}

#[tokio::test]
async fn the_most_specific_scope_that_decides_egress_wins() {
    let clients = Clients::with(&[
        ("workflow:acme/web/deploy.yml", "deploy", "egress-policy: block\n"),
        ("repo:acme/web", "lockdown", "lockdown-mode: {enabled: true}\n"),
        ("org:acme", "org", "egress-policy: block\n"),
        ("cluster:prod", "cluster", "egress-policy: block\n"),
    ]);
    for (target, want) in [
        (
            "acme/web/actions/policies/workflow-policy?workflow=deploy.yml",
            "deploy",
        ),
        (
            "acme/web/actions/policies/workflow-policy?workflow=DEPLOY.yml",
            "org",
        ),
        ("ACME/WEB/actions/policies/workflow-policy?workflow=ci.yml", "org"),
        ("acme/web/actions/policies/workflow-policy", "org"),
        (
            "acme/web/actions/policies/workflow-policy?workflow=acme%2Fweb%2F.github%2Fworkflows%2Fdeploy.yml%40refs%2Fheads%2Fx",
            "deploy",
        ),
        (
            "acme/web/actions/policies/workflow-policy?workflow=dynamic%2Fpages%2Fbuild",
            "org",
        ),
        (
            "acme/web/actions/policies/workflow-policy?workflow=..%2Fdeploy.yml",
            "org",
        ),
        (
            "other/web/actions/policies/workflow-policy?workflow=deploy.yml",
            "cluster",
        ),
    ] {
        let (status, policy) = clients.policy(&format!("/v1/github/{target}")).await;
        assert_eq!(
            (status, &policy["policy_name"]),
            (200, &json!(want)),
            "{target}: {policy}"
        );
    }
}

/// 404: the action records, or keeps the workflow's own policy, and does not ask again.
#[tokio::test]
async fn without_a_policy_it_is_404_and_has_policy_is_false() {
    let clients = Clients::with(&[]);
    let (status, problem) = clients.policy(POLICY).await;
    assert_eq!(
        (status, &problem["code"]),
        (404, &json!("not-found")),
        "{problem}"
    );
    assert_eq!(
        clients.get(CHECK).await,
        (200, json!({"has_policy": false, "should_sleep": false}))
    );
}

/// The action drops a workflow's own `block` for an `audit` that it is told.
#[tokio::test]
async fn a_networks_default_is_told_when_it_blocks_and_not_when_it_records() {
    let audit = Clients::with(&[("network", "default", "egress-policy: audit\n")]);
    assert_eq!(audit.policy(POLICY).await.0, 404);
    let block = Clients::with(&[("network", "default", "egress-policy: block\n")]);
    let (status, policy) = block.policy(POLICY).await;
    assert_eq!((status, &policy["policy_name"]), (200, &json!("default")));
    assert_eq!(
        block.get(CHECK).await,
        (200, json!({"has_policy": true, "should_sleep": false})),
        "it is in force for everybody, and never becomes APPLIED for an unknown job"
    );
}

/// What can't be compiled refuses everything; the agent must not record instead.
#[tokio::test]
async fn a_policy_that_can_not_be_used_is_told_as_the_refusal_that_it_is() {
    let clients = Clients::with(&[(
        "repo:acme/web",
        "broken",
        "egress-policy: audit\nuse: [missing]\n",
    )]);
    let (status, policy) = clients.policy(POLICY).await;
    assert_eq!(status, 200);
    assert_eq!(
        policy,
        json!({"owner": "Acme", "policy_name": "broken", "egress_policy": "block", "allowed_endpoints": []})
    );
    clients.register("acme/web", "ci.yml").await;
    let (_, policy) = clients.get(POLICY).await;
    assert_eq!(
        (
            &policy["egress_policy"],
            policy["policy_name"].as_str().unwrap().is_empty()
        ),
        (&json!("block"), false)
    );
    assert_eq!(clients.get(STATUS).await.1, json!({"status": "NOT_APPLIED"}));
}

#[tokio::test]
async fn before_the_store_was_heard_nothing_is_said_of_policies() {
    let clients = Clients::new();
    let never = PolicySet {
        store: Store::NeverRead,
        ..PolicySet::default()
    };
    clients.world.leases.set_policies(Arc::new(never));
    for target in [POLICY, CHECK] {
        let (status, problem) = clients.policy(target).await;
        assert_eq!(
            (status, &problem["code"]),
            (503, &json!("unavailable")),
            "{target}"
        );
    }
    assert_eq!(clients.get(STATUS).await.1, json!({"status": "NOT_APPLIED"}));
}

/// `policy: NAME` in a workflow: the job's own OIDC token shows whose it is, and stays good for its registration.
#[tokio::test]
async fn a_named_policy_is_told_to_jobs_of_its_owner_and_their_token_stays_good() {
    let clients = Clients::with(&[
        ("", "base line", BLOCK),
        ("", "locked", "lockdown-mode: {enabled: true}\n"),
        ("", "broken", "use: [missing]\n"),
    ]);
    let token = oidc_at("acme/web", "1", "jti-1", jiff::Timestamp::now());
    let bearer = format!("Bearer {token}");
    let ask = async |target: &str, bearer: &str| {
        clients
            .send(Method::GET, target, &[("authorization", bearer)], "")
            .await
    };
    let (status, policy) = ask("/v1/github/Acme/actions/policies/base%20line", &bearer).await;
    assert_eq!(
        (status, &policy["policy_name"], &policy["owner"]),
        (200, &json!("base line"), &json!("Acme"))
    );
    assert_eq!(policy["allowed_endpoints"][3], "set.test:443");
    for (target, bearer, want) in [
        ("/v1/github/acme/actions/policies/none", &*bearer, 404),
        ("/v1/github/acme/actions/policies/locked", &bearer, 404),
        ("/v1/github/acme/actions/policies/broken", &bearer, 200),
        ("/v1/github/other/actions/policies/base%20line", &bearer, 403),
        (
            "/v1/github/acme/actions/policies/base%20line",
            "Bearer a.b.c",
            401,
        ),
        (
            "/v1/github/acme/actions/policies/base%20line",
            &format!("vm-api-key {token}"),
            401,
        ),
        ("/v1/github/a%2Fb/actions/policies/base%20line", &bearer, 400),
    ] {
        let (status, answer) = ask(target, bearer).await;
        assert_eq!(status, want, "{target}: {answer}");
    }
    let runner = format!("Bearer {}", clients.world.tokens.any.expose());
    assert_eq!(
        ask("/v1/github/acme/actions/policies/broken", &runner).await.0,
        401
    );
    assert_eq!(
        clients.get("/v1/github/acme/actions/policies/broken").await.0,
        401
    );
    let registers = json!({"oidc_token": token}).to_string();
    let (status, job) = clients.send(Method::POST, "/v1/jobs", &[], &registers).await;
    assert_eq!(status, 201, "{job}");
}
