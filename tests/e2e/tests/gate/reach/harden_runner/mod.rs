//! The Harden-Runner clients on runners behind Tidegate, unmodified: their hosts lead to the gateway, whose answers do what
//! the clients need, and whose own enforcement does not depend on them (harden-runner-wire.md).

mod clients;

use serde_json::{Value, json};
use tidegate_e2e::store::{AUDIENCE, Fleet};
use tidegate_e2e::{PATIENCE, block, run_on};
use tidegate_lab::{GatewayBuilder, Lab, plan, wait_until};

use self::clients::{Client, Decided, HOST, TELEMETRY, decided};

const REPO: &str = "acme/web";

fn lab(runners: usize) -> Lab {
    Lab::builder().runners(runners).control().build().unwrap()
}

async fn fleet(lab: &Lab) -> Fleet<'_> {
    Fleet::builder(lab).hosts(&[HOST, TELEMETRY]).start().await
}

/// Every answer that a client parses is JSON, whatever its status.
fn json_of(answer: &tidegate_lab::Answer) -> Value {
    let media = answer.header("content-type").unwrap_or_default();
    assert!(
        media == "application/json" || media == "application/problem+json",
        "{answer}"
    );
    answer.json()
}

/// The action: `pre` asks monitor, tls-inspection-status and workflow-policy, `post` the summary.
#[tokio::test]
async fn the_action_gets_its_policy_before_the_job_and_the_summary_after() {
    let lab = lab(1);
    let fleet = fleet(&lab).await;
    let yaml = format!("{}disable-sudo: true\n", block(&["cdn-a.test:443"]));
    fleet
        .synced(fleet.attached("web", &yaml, "workflow:acme/web/ci.yml"))
        .await;
    fleet.register(0, REPO, "ci.yml").await;
    let action = Client::new(&fleet, 0);

    action.monitor("Acme/Web").await;
    // Anything but 200 makes the action install a network agent of its own.
    let tls = action
        .get("/github/acme/actions/tls-inspection-status")
        .await
        .expect(200);
    json_of(&tls);
    // An image's old key is none of ours; the lease shows whose job it is.
    let told = action
        .workflow_policy("Acme/Web", "ci.yml", "step_0123456789")
        .await;
    assert_eq!(
        decided(&told),
        Decided::Policy {
            egress: "block".into(),
            allowed: vec!["cdn-a.test:443".into()]
        }
    );
    let told = json_of(&told);
    assert_eq!(
        (&told["owner"], &told["policy_name"], &told["disable_sudo"]),
        (&json!("Acme"), &json!("web"), &json!(true)),
        "{told}"
    );

    assert_eq!(
        fleet.reached(0, &["cdn-a.test", "evil.test"]).await,
        ["cdn-a.test"]
    );
    for rest in ["", "?environment=ARC&start_time=1&end_time=9999999999"] {
        let summary = action.summary(REPO, rest).await.expect(200);
        assert_eq!(
            summary.header("content-type"),
            Some("text/markdown; charset=utf-8")
        );
        let text = summary.text();
        for name in ["cdn-a.test", "evil.test"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }
    // Nothing is appended of another repository's job.
    json_of(&action.summary("acme/other", "").await.expect(404));
}

/// 404: no policy, not asked again. 401: three tries, then audit. An empty list is a list.
#[tokio::test]
async fn the_action_is_told_apart_no_policy_a_wrong_key_and_an_empty_policy() {
    let lab = lab(1);
    let fleet = fleet(&lab).await;
    let action = Client::new(&fleet, 0);
    let ask = async |repo: &str, key: &str| {
        let told = action.workflow_policy(repo, "ci.yml", key).await;
        json_of(&told);
        decided(&told)
    };
    assert_eq!(ask(REPO, &fleet.runner).await, Decided::NoPolicy);
    let empty = "egress-policy: audit\nlockdown-mode: {enabled: true}\n";
    fleet.synced(fleet.attached("empty", empty, "org:acme")).await;
    let nothing = Decided::Policy {
        egress: "audit".into(),
        allowed: Vec::new(),
    };
    assert_eq!(ask("ACME/Web", &fleet.runner).await, nothing);
    for (repo, key) in [
        ("other/web", &*fleet.runner),
        (REPO, "step_0123456789"),
        (REPO, &fleet.provisioner),
    ] {
        assert_eq!(ask(repo, key).await, Decided::Audit(401), "{repo}");
    }
    // What a client says without a credential opens nothing.
    action.monitor(REPO).await;
    assert_eq!(ask(REPO, "step_0123456789").await, Decided::Audit(401));
}

/// Precedence is the store's, with the cluster of the network that the runner stands in; sets are flattened in.
#[tokio::test]
async fn the_policy_is_the_one_that_precedence_picks() {
    let lab = lab(1);
    let fleet = fleet(&lab).await;
    let action = Client::new(&fleet, 0);
    fleet.set("corp", &["corp.test", "*.corp.test:8443"]).await;
    let used = "egress-policy: block\nuse: [corp]\nallowed-endpoints: Own.test. ntp.test:123/udp\n";
    fleet
        .attached("prod", &block(&["prod.test:443"]), "cluster:prod")
        .await;
    fleet
        .attached("deploy", used, "workflow:acme/web/deploy.yml")
        .await;
    fleet
        .synced(fleet.attached("org", &block(&["org.test:443"]), "org:acme"))
        .await;
    for (repo, workflow, want) in [
        (
            REPO,
            "deploy.yml",
            &["own.test:443", "corp.test:443", "*.corp.test:8443"][..],
        ),
        (REPO, "ci.yml", &["org.test:443"]),
        (REPO, "dynamic/pages/build", &["org.test:443"]),
    ] {
        let told = action
            .workflow_policy(repo, workflow, &fleet.runner)
            .await
            .expect(200)
            .json();
        assert_eq!(told["allowed_endpoints"], json!(want), "{workflow}: {told}");
    }
    let foreign = fleet
        .synced(fleet.token(&json!({"role": "runner", "name": "other", "owners": ["other"]})))
        .await;
    let told = action
        .workflow_policy("other/x", "ci.yml", &foreign)
        .await
        .expect(200)
        .json();
    assert_eq!(told["policy_name"], "prod", "{told}");
}

/// `policy: NAME`, with the job's OIDC token: for jobs of the owner only, and not used up by it.
#[tokio::test]
async fn a_named_policy_is_told_by_the_jobs_own_token() {
    let lab = lab(1);
    let issuer = lab.oidc_issuer("issuer.test", plan::site(60)).unwrap();
    let fleet = Fleet::builder(&lab)
        .hosts(&[HOST, TELEMETRY])
        .issuer(&issuer)
        .start()
        .await;
    fleet
        .synced(fleet.policy("named", &block(&["cdn-a.test:443"])))
        .await;
    let action = Client::new(&fleet, 0);
    let token = issuer.sign(&issuer.claims(REPO, "ci.yml", AUDIENCE)).unwrap();
    let told = action.named_policy("Acme", "named", &token).await;
    assert_eq!(
        decided(&told),
        Decided::Policy {
            egress: "block".into(),
            allowed: vec!["cdn-a.test:443".into()]
        }
    );
    assert_eq!(
        decided(&action.named_policy("acme", "none", &token).await),
        Decided::NoPolicy
    );
    let foreign = issuer
        .sign(&issuer.claims("other/web", "ci.yml", AUDIENCE))
        .unwrap();
    let stale = issuer
        .token()
        .bad_signature()
        .sign(&issuer.claims(REPO, "ci.yml", AUDIENCE))
        .unwrap();
    for (token, want) in [(foreign, 403), (stale, 401), ("nonsense".into(), 401)] {
        let told = action.named_policy("acme", "named", &token).await;
        json_of(&told);
        assert_eq!(decided(&told), Decided::Audit(want));
    }
    let registered = fleet.try_register(0, None, &json!({"oidc_token": token})).await;
    registered.expect(201);
}

/// The job hooks: HEAD on the base, workflow-check, status until APPLIED, workflow-policy. When they hear APPLIED and let
/// the job begin, the gateway enforces.
#[tokio::test]
async fn the_hooks_hear_applied_only_once_the_gateway_enforces() {
    let lab = lab(1);
    let fleet = fleet(&lab).await;
    let hook = Client::new(&fleet, 0);
    assert_eq!(hook.ask("HEAD", "", &[]).await.expect(200).text(), "");
    assert_eq!(hook.check(REPO, "ci.yml").await, (false, false));
    fleet
        .synced(fleet.attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web"))
        .await;
    assert_eq!(hook.check("Acme/Web", "ci.yml").await, (true, true));
    assert_eq!(hook.status(REPO).await, "NOT_APPLIED");
    // A claim decides nothing, so it applies nothing.
    hook.monitor(REPO).await;
    assert_eq!(hook.status(REPO).await, "NOT_APPLIED");
    let registering = fleet.register(0, REPO, "ci.yml");
    let polling = wait_until("the hook to hear APPLIED", PATIENCE, async || {
        match &*hook.status(REPO).await {
            "APPLIED" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let (_, polled) = tokio::join!(registering, polling);
    polled.unwrap();
    assert_eq!(
        fleet.reached(0, &["cdn-a.test", "evil.test"]).await,
        ["cdn-a.test"]
    );
    let told = hook.workflow_policy(REPO, "ci.yml", "").await.expect(200).json();
    assert_eq!(
        told["policy_name"], "web",
        "an empty name would mean that there is none"
    );
    assert_eq!(
        hook.status("acme/other").await,
        "NOT_APPLIED",
        "not of that repository"
    );
    let summary = hook
        .summary(REPO, "?environment=SelfHostedVM&start_time=0&end_time=1")
        .await;
    assert!(summary.expect(200).text().contains("evil.test"));
}

/// The agent: flags, block list and subscription at its start, then its reports, which carry what a gateway can't see: the
/// process. It joins the job's events in the store.
#[tokio::test]
async fn the_agents_reports_give_the_jobs_events_their_process() {
    let lab = lab(1);
    let fleet = fleet(&lab).await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet.block("*.blocked.test", None).await;
    fleet.block("203.0.113.77", None).await;
    fleet.synced(fleet.block("blocked.test", None)).await;
    let job = fleet.register(0, REPO, "ci.yml").await;
    let agent = Client::new(&fleet, 0);

    let flags = agent
        .get("/global-feature-flags?agent_type=agent-oss&version=v0.16.0")
        .await
        .expect(200);
    assert_eq!(
        json_of(&flags),
        json!({"agent_type": "agent-oss", "enable_armour": false, "enable_custom_detection_rules": false})
    );
    let list = json_of(&agent.get("/global-blocklist").await.expect(200));
    for (kind, entry) in [
        ("domains", "blocked.test"),
        ("wildcard_domains", "*.blocked.test"),
        ("ip_addresses", "203.0.113.77"),
    ] {
        let entries = list[kind].as_array().unwrap();
        assert!(
            entries.iter().any(|one| one["endpoint"] == entry),
            "{kind}: {list}"
        );
    }
    json_of(
        &agent
            .get("/github/acme/web/actions/subscription")
            .await
            .expect(200),
    );

    let key = agent.monitor(REPO).await;
    assert_eq!(
        fleet.reached(0, &["cdn-a.test", "evil.test"]).await,
        ["cdn-a.test"]
    );
    let time = "2026-03-01T12:00:00Z";
    let dns =
        json!({"domainName": "cdn-a.test.", "ipAddress": plan::site(0)[0].to_string(), "timestamp": time});
    agent.report(REPO, "dns", &key, &dns).await.expect(200);
    let tool = json!({"name": "curl\u{1b}[2J", "sha256": "ab12", "parent": {"name": "bash", "sha256": "", "parent": null}});
    for name in ["cdn-a.test.", "evil.test."] {
        let connection = json!({"domainName": name, "port": "443(https)", "timestamp": time, "tool": tool});
        agent
            .report(REPO, "networkconnection", &key, &connection)
            .await
            .expect(200);
    }
    // Its key is this machine's, for this job: anything else is not 200, and the agent tries in vain.
    let wrong = agent.report(REPO, "networkconnection", "0", &dns).await;
    json_of(&wrong.expect(403));

    let path = format!("/jobs/{}/events", job["id"].as_str().unwrap());
    let joined = wait_until("the processes to join the events", PATIENCE, async || {
        let events = fleet.api("GET", &path, None).await.expect(200).json();
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let of = |name: &str, verdict: &str| {
            items.iter().any(|event| {
                event["name"] == name
                    && event["verdict"] == verdict
                    && event["process"]
                        == json!({"name": "curl\\u{1b}[2J", "sha256": "ab12", "parent": "bash"})
            })
        };
        if of("cdn-a.test", "permit") && of("evil.test", "refuse") {
            Ok(())
        } else {
            Err(events.to_string())
        }
    });
    joined.await.unwrap();
}

/// The vendor's own hosts, as the clients have them in their code: a runner whose resolver is the gateway and whose image
/// trusts its CA needs nothing else.
#[tokio::test]
async fn the_vendors_hosts_lead_to_the_gateway_by_both_families() {
    const HOSTS: [&str; 2] = ["agent.api.stepsecurity.io", "prod.app-api.stepsecurity.io"];
    let lab = lab(1);
    let fleet = Fleet::builder(&lab).hosts(&HOSTS).start().await;
    fleet.register(0, REPO, "ci.yml").await;
    for host in HOSTS {
        for family in ["-4", "-6"] {
            let url = format!("https://{host}/v1/global-feature-flags?agent_type=agent-oss");
            let output = run_on(&lab, 0, &["curl", "-sS", "-f", "-m", "5", family, &url]).await;
            assert!(output.text().contains("agent-oss"), "{host} {family}: {output}");
        }
        let base = format!("https://{host}/v1");
        let output = run_on(&lab, 0, &["curl", "-sS", "-f", "-m", "5", "-I", &base]).await;
        assert_eq!(output.code(), Some(0), "{host}: {output}");
    }
}

/// Without a control plane the policies are files: what a lease names itself is told, and no key is known.
#[tokio::test]
async fn a_gateway_with_files_only_tells_the_policy_that_it_enforces() {
    let lab = Lab::builder().runners(2).build().unwrap();
    let gateway = tidegate_e2e::start(
        GatewayBuilder::new(&lab, tidegate_e2e::tidegate())
            .file("default.yaml", "egress-policy: audit\n")
            .unwrap()
            .file("build.yaml", &block(&["cdn-a.test:443"]))
            .unwrap()
            .network("default-policy: default.yaml")
            .lease(0, "build", "build.yaml")
            .runner_api()
            .hosts(&[HOST]),
    )
    .await;
    let ask = async |runner: usize, path: &str| {
        let api = lab
            .api(lab.runner(runner), (plan::gateway_v4(0), 443).into(), HOST)
            .unwrap();
        let request = api
            .request("GET", path)
            .header("authorization", "vm-api-key step_0123456789");
        request.send().await.unwrap()
    };
    let policy = "/v1/github/acme/web/actions/policies/workflow-policy?workflow=ci.yml";
    let told = ask(0, policy).await.expect(200).json();
    assert_eq!(
        told,
        json!({
            "owner": "acme", "policy_name": "build.yaml", "egress_policy": "block", "allowed_endpoints": ["cdn-a.test:443"]
        })
    );
    let status = ask(0, "/v1/github/acme/web/actions/policies/workflow-policy/status")
        .await
        .json();
    assert_eq!(status, json!({"status": "APPLIED"}));
    // A machine without a lease has no repository, and a default that records must not replace its workflow's own policy.
    json_of(&ask(1, policy).await.expect(401));
    let check = ask(1, "/v1/github/acme/web/actions/policies/workflow-check")
        .await
        .expect(200)
        .json();
    assert_eq!(check, json!({"has_policy": false, "should_sleep": false}));
    drop(gateway);
}
