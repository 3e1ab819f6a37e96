//! The clients' requests, asked without sockets. Each test names what a client does with the answer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod policy;

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
