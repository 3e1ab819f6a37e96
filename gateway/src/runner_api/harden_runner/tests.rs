//! The clients' requests, asked without sockets. Each test names what a client does with the answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;

use hashbrown::HashMap;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_control_wire::batch::ProcessReport;
use tidegate_policy::document::{EndpointSet, ParseOptions, PolicyDocument};
use tidegate_policy::effective::{Attached, NetworkPolicies, PolicySet, Slot, Store};
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList};
use tidegate_policy::subject::RunnerKind;

use super::*;
use crate::jobs::Pending;
use crate::jobs::tests::fixture::{Mode as Plane, World, ip, oidc_at};
use crate::runner_api::machines::{Machines, Seen};
use crate::runner_api::pages::Parts;

const POLICY: &str = "/v1/github/Acme/Web/actions/policies/workflow-policy";
const CHECK: &str = "/v1/github/acme/web/actions/policies/workflow-check";
const STATUS: &str = "/v1/github/acme/web/actions/policies/workflow-policy/status?correlation_id=c-1";
const ME: &str = "10.77.1.2";

/// Every address is a machine behind a router.
struct Everywhere;

impl Machines for Everywhere {
    fn serves(&self, _: IpAddr) -> bool {
        true
    }

    fn behind(&self, _: IpAddr) -> Pending<'_, Seen> {
        Box::pin(async { Seen::OffLink })
    }
}

#[derive(Default)]
struct Taken(Mutex<Vec<ProcessReport>>);

impl ReportSink for Taken {
    fn report(&self, report: ProcessReport) {
        self.0.lock().push(report);
    }
}

struct Clients {
    world: World,
    api: Arc<RunnerApi>,
    taken: Arc<Taken>,
}

impl Clients {
    fn new() -> Self {
        let world = World::new(RunnerKind::Ephemeral);
        let taken = Arc::new(Taken::default());
        let api = Arc::new(RunnerApi::new(Parts {
            jobs: Arc::clone(&world.jobs),
            leases: Arc::clone(&world.leases),
            machines: Arc::new(Everywhere),
            clock: Clock::manual().0,
            counts: Arc::default(),
            reports: taken.clone(),
            tallies: Arc::new(crate::tally::Tallies::new("gw-1", None, jiff::Timestamp::now())),
            events: crate::events::EventPipeline::new("gw-1", 1),
        }));
        Self { world, api, taken }
    }

    /// With these policies: scope or `network`, name, document.
    fn with(policies: &[(&str, &str, &str)]) -> Self {
        let clients = Self::new();
        let sets = [("corp".to_owned(), "endpoints: [set.test]\n")];
        let sets = sets.map(|(name, text)| {
            let parsed = EndpointSet::parse(text, &ParseOptions::default());
            (name, parsed.document.unwrap())
        });
        let sets: HashMap<_, _> = sets.into_iter().collect();
        let mut set = PolicySet::default();
        let mut named = HashMap::new();
        for (scope, name, yaml) in policies {
            let slot = slot(name, yaml, &sets);
            named.insert(format!("acme/{name}").into(), slot.clone());
            match *scope {
                "" => {}
                "network" => {
                    let network = NetworkPolicies {
                        default: slot,
                        always_allow: None,
                    };
                    set.networks.insert("runners".into(), network);
                }
                scope => {
                    set.attached
                        .insert(scope.parse().unwrap(), Attached::always(slot, None));
                }
            }
        }
        set.named = Arc::new(named);
        clients.world.leases.set_policies(Arc::new(set));
        clients
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = headers.iter().map(|(name, value)| {
            let name = hyper::header::HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        let answer = self.api.answer(Ask {
            source: ip(ME),
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers.collect(),
            body: Bytes::from(body.to_owned()),
        });
        match answer.await {
            Ok(page) => {
                assert_eq!(page.content_type, "application/json", "{target}");
                (page.status.as_u16(), serde_json::from_str(&page.body).unwrap())
            }
            Err(problem) => (problem.status.as_u16(), serde_json::to_value(&problem).unwrap()),
        }
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.send(Method::GET, target, &[], "").await
    }

    async fn with_key(&self, target: &str, key: &str) -> (u16, Value) {
        let header = format!("vm-api-key {key}");
        self.send(
            Method::GET,
            target,
            &[("authorization", &header), ("source", "github-actions")],
            "",
        )
        .await
    }

    /// With the key of a runner token that is good for everybody.
    async fn policy(&self, target: &str) -> (u16, Value) {
        let key = self.world.tokens.any.expose().to_owned();
        self.with_key(target, &key).await
    }

    async fn register(&self, repo: &str, workflow: &str) {
        let token = format!("Bearer {}", self.world.tokens.any.expose());
        let body = json!({"repo": repo, "workflow": workflow, "run_id": "7"}).to_string();
        let (status, job) = self
            .send(Method::POST, "/v1/jobs", &[("authorization", &token)], &body)
            .await;
        assert_eq!(status, 201, "{job}");
    }

    async fn monitor(&self, repo: &str) -> String {
        let path = format!("/v1/github/{repo}/actions/runs/7/monitor");
        let said = json!({"correlation_id": "c-1", "job": "build"}).to_string();
        let (status, answer) = self.send(Method::POST, &path, &[], &said).await;
        assert_eq!(status, 200, "{answer}");
        answer["one_time_key"].as_str().unwrap().to_owned()
    }
}

fn slot(name: &str, yaml: &str, sets: &HashMap<String, EndpointSet>) -> Slot {
    let meta = PolicyMeta {
        id: format!("pol_{name}").into(),
        name: name.into(),
        version: 1,
    };
    let document = PolicyDocument::parse(yaml, &ParseOptions::default())
        .document
        .unwrap();
    if !document.decides_egress() {
        return Slot::Vacant;
    }
    let pack = Arc::new(RuleList::compile([]));
    match CompiledPolicy::compile(&document, meta.clone(), sets, &pack) {
        Ok(policy) => Slot::Policy(Arc::new(policy)),
        Err(_) => Slot::Unknown(meta),
    }
}

const BLOCK: &str = "egress-policy: block\nallowed-endpoints: GitHub.test. *.npm.test:8443 ntp.test:123/udp [2001:db8::1]:22\n\
                     denied-endpoints: gist.github.test\nuse: [corp]\ndisable-sudo: true\ndisable-telemetry: 'false'\n";

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

/// 401: three tries, then the action records.
#[tokio::test]
async fn a_key_that_could_not_register_the_job_is_401() {
    let clients = Clients::with(&[("org:acme", "org", BLOCK), ("org:evil", "evil", BLOCK)]);
    let tokens = &clients.world.tokens;
    for (key, target, want) in [
        (tokens.any.expose(), POLICY, 200),
        (tokens.acme.expose(), POLICY, 200),
        (
            tokens.acme.expose(),
            "/v1/github/evil/web/actions/policies/workflow-policy",
            401,
        ),
        (tokens.other_network.expose(), POLICY, 401),
        (tokens.other_cluster.expose(), POLICY, 401),
        (tokens.short.expose(), POLICY, 401),
        (tokens.provisioner.expose(), POLICY, 401),
        ("step_0123456789", POLICY, 401),
    ] {
        let (status, answer) = clients.with_key(target, key).await;
        assert_eq!(status, want, "{answer}");
    }
    for headers in [
        &[][..],
        &[("authorization", "vm-api-key")],
        &[("authorization", "vm-api-key ")],
        &[("authorization", "Bearer x")],
    ] {
        let (status, problem) = clients.send(Method::GET, POLICY, headers, "").await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
    }
    let (status, _) = clients.policy(POLICY).await;
    assert_eq!(status, 429, "ten wrong ones are free");
}

/// An image's old key is none of ours: the lease of its job is what counts.
#[tokio::test]
async fn who_holds_a_lease_of_the_repository_needs_no_key_and_a_claim_is_none() {
    let clients = Clients::with(&[("repo:acme/web", "web", BLOCK)]);
    clients.monitor("acme/web").await;
    assert_eq!(
        clients.with_key(POLICY, "step_0123456789").await.0,
        401,
        "it only says so"
    );
    clients.register("acme/web", "ci.yml").await;
    let (status, policy) = clients
        .with_key(&format!("{POLICY}?workflow=ci.yml"), "step_0123456789")
        .await;
    assert_eq!((status, &policy["policy_name"]), (200, &json!("web")));
    let (status, _) = clients
        .with_key(
            "/v1/github/acme/other/actions/policies/workflow-policy",
            "step_0123456789",
        )
        .await;
    assert_eq!(status, 401, "another repository's");
}

/// The hook goes on when it hears APPLIED: it must be true only once the gateway enforces for this very source.
#[tokio::test]
async fn applied_is_said_only_of_a_lease_that_decides_for_this_repository() {
    let clients = Clients::with(&[
        ("repo:acme/web", "web", BLOCK),
        ("network", "default", "egress-policy: audit\n"),
    ]);
    let status = async || clients.get(STATUS).await;
    let not = (200, json!({"status": "NOT_APPLIED"}));
    assert_eq!(
        clients.get(CHECK).await,
        (200, json!({"has_policy": true, "should_sleep": true}))
    );
    assert_eq!(status().await, not, "nobody registered");
    clients.monitor("acme/web").await;
    assert_eq!(status().await, not, "a claim decides nothing");
    clients.register("acme/web", "ci.yml").await;
    assert_eq!(status().await, (200, json!({"status": "APPLIED"})));
    let other = STATUS.replace("acme/web", "acme/other");
    assert_eq!(clients.get(&other).await, not, "another repository's");
    assert_eq!(
        clients.get(&STATUS.replace("acme/web", "ACME/Web")).await.1["status"],
        "APPLIED"
    );
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

/// A gateway without a control plane knows no credentials; the clients know 401.
#[tokio::test]
async fn without_a_control_plane_a_key_is_401() {
    let clients = Clients::with(&[("repo:acme/web", "web", BLOCK)]);
    clients.world.control.set(Plane::Off);
    let (status, problem) = clients.with_key(POLICY, "step_0123456789").await;
    assert_eq!(
        (status, &problem["code"]),
        (401, &json!("unauthorized")),
        "{problem}"
    );
    assert!(
        problem["detail"].as_str().unwrap().contains("no control plane"),
        "{problem}"
    );
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

#[tokio::test]
async fn odd_owners_repositories_and_paths_are_refused_in_json() {
    let clients = Clients::with(&[]);
    for (target, want) in [
        ("/v1/github/..%2f/web/actions/policies/workflow-check", 400),
        ("/v1/github/acme/%00/actions/policies/workflow-check", 400),
        ("/v1/github/acme/web/actions/policies", 404),
        ("/v1/github/acme/web/actions/runs/1/correlation/c", 404),
        ("/v1/github/acme/actions", 404),
        ("/v1/github", 404),
        ("/v1/github/acme/web/actions/jobs/c/networkconnection", 405),
        ("/v1/global-blocklist/x", 404),
    ] {
        let (status, problem) = clients.get(target).await;
        assert_eq!(status, want, "{target}: {problem}");
        assert_eq!(problem["status"], want, "{target}");
    }
    assert_eq!(clients.send(Method::POST, CHECK, &[], "{}").await.0, 404);
}
