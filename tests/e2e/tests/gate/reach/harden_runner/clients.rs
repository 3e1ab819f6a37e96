//! Doubles of the Harden-Runner clients: each asks what the real one asks, in its order, and makes of an answer what the
//! real one makes of it.
//!
//! Owns their requests, over TLS by the vendor's host name as a runner resolves it, and what they conclude. Expects nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::store::Fleet;
use tidegate_lab::{Answer, Api, plan};

/// What stands for the vendor's API host.
pub(super) const HOST: &str = "agent.harden.test";
/// What stands for its telemetry host.
pub(super) const TELEMETRY: &str = "app.harden.test";

/// The action and the hooks give up after this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// A client on a runner.
pub(super) struct Client {
    api: Api,
}

/// What the action makes of what it was told of a policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// Its own configuration stays; it does not ask again.
    NoPolicy,
    /// It records, after three tries.
    Audit(u16),
    /// These replace its own where it has none.
    Policy { egress: String, allowed: Vec<String> },
}

impl Client {
    /// On this runner of the fleet, which resolved the host to its gateway.
    pub(super) fn new(fleet: &Fleet<'_>, runner: usize) -> Self {
        let door = (plan::gateway_v4(0), 443).into();
        let api = fleet.lab.api(fleet.lab.runner(runner), door, HOST);
        Self {
            api: api.expect("a client on the runner"),
        }
    }

    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.api.request(method, &format!("/v1{path}"));
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        request
            .timeout(PATIENCE)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Answer {
        let request = self.api.request("POST", &format!("/v1{path}")).timeout(PATIENCE);
        let request = key
            .into_iter()
            .fold(request, |request, key| request.header("x-one-time-key", key));
        let answer = request
            .body("application/json; charset=UTF-8", body.to_string())
            .send()
            .await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The action's `workflow-policy`, by its `api-key`.
    pub(super) async fn workflow_policy(&self, repo: &str, workflow: &str, key: &str) -> Answer {
        let path = format!(
            "/github/{repo}/actions/policies/workflow-policy?workflow={workflow}&run_id=1001&correlationId=c-1"
        );
        let key = format!("vm-api-key {key}");
        self.ask(
            "GET",
            &path,
            &[("authorization", &key), ("source", "github-actions")],
        )
        .await
    }

    /// The action's `policy`, by the job's OIDC token.
    pub(super) async fn named_policy(&self, owner: &str, name: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let path = format!("/github/{owner}/actions/policies/{name}");
        self.ask(
            "GET",
            &path,
            &[("authorization", &bearer), ("source", "github-actions")],
        )
        .await
    }

    /// Tells that the job is monitored; gives back the key for reports.
    pub(super) async fn monitor(&self, repo: &str) -> String {
        let path = format!("/github/{repo}/actions/runs/1001/monitor");
        let body = json!({"correlation_id": "c-1", "job": "build"});
        let answer = self.post(&path, None, &body).await.expect(200).json();
        assert_eq!(answer["monitoring_started"], true, "{answer}");
        answer["one_time_key"].as_str().expect("a key").to_owned()
    }

    /// The agent's reports.
    pub(super) async fn report(&self, repo: &str, kind: &str, key: &str, body: &Value) -> Answer {
        self.post(
            &format!("/github/{repo}/actions/jobs/c-1/{kind}"),
            Some(key),
            body,
        )
        .await
    }

    /// The hooks' three questions.
    pub(super) async fn check(&self, repo: &str, workflow: &str) -> (bool, bool) {
        let path = format!(
            "/github/{repo}/actions/policies/workflow-check?workflow={workflow}&run_id=1001&correlationId=runner-7"
        );
        let answer = self.get(&path).await.expect(200).json();
        // What is not `true` is false to them.
        (answer["has_policy"] == true, answer["should_sleep"] == true)
    }

    pub(super) async fn status(&self, repo: &str) -> String {
        let path = format!("/github/{repo}/actions/policies/workflow-policy/status?correlation_id=runner-7");
        let answer = self.get(&path).await.expect(200).json();
        answer["status"].as_str().unwrap_or("SLEEP").to_owned()
    }

    /// What goes into `$GITHUB_STEP_SUMMARY`, by the action and by the hooks.
    pub(super) async fn summary(&self, repo: &str, rest: &str) -> Answer {
        let path = format!("/github/{repo}/actions/runs/1001/correlation/c-1/job-markdown-summary{rest}");
        self.get(&path).await
    }
}

/// What the action decides, by its own code: `join` on `allowed_endpoints`, 404 at once, all else after three tries.
pub(super) fn decided(answer: &Answer) -> Decided {
    if answer.status == 404 {
        return Decided::NoPolicy;
    }
    let told = answer.json();
    let list = told["allowed_endpoints"].as_array();
    let (200, Some(list), Some(egress)) = (answer.status, list, told["egress_policy"].as_str()) else {
        return Decided::Audit(answer.status);
    };
    Decided::Policy {
        egress: egress.to_owned(),
        allowed: list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}
