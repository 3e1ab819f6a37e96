//! The pages, asked without sockets: paths, methods, shapes and refusals as runners see them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hashbrown::HashMap;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_control_wire::claim::Refusal;
use tidegate_policy::subject::RunnerKind;

use super::*;
use crate::events::EventPipeline;
use crate::jobs::Pending;
use crate::jobs::tests::fixture::{Mode, World, ip, mac, oidc_at};
use crate::runner_api::machines::Seen;

mod change;
mod told;

/// Machines as a test says.
struct FakeMachines(Mutex<HashMap<IpAddr, Seen>>);

impl Machines for FakeMachines {
    fn serves(&self, source: IpAddr) -> bool {
        ["10.77.1.0/24", "fd77:1::/64"]
            .iter()
            .any(|net| net.parse::<ipnet::IpNet>().unwrap().contains(&source))
    }

    fn behind(&self, source: IpAddr) -> Pending<'_, Seen> {
        let own = match source {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        let seen = self.0.lock().get(&source).copied();
        Box::pin(async move { seen.unwrap_or(Seen::Machine(mac(own))) })
    }
}

struct Api {
    world: World,
    pages: Arc<RunnerApi>,
    machines: Arc<FakeMachines>,
    millis: Arc<AtomicU64>,
}

/// A runner's request on its way.
struct Said<'a> {
    source: &'a str,
    bearer: Option<&'a str>,
}

impl Api {
    fn new(runners: RunnerKind) -> Self {
        let world = World::new(runners);
        let machines = Arc::new(FakeMachines(Mutex::default()));
        let (clock, millis) = Clock::manual();
        let pages = RunnerApi::new(Parts {
            jobs: Arc::clone(&world.jobs),
            leases: Arc::clone(&world.leases),
            machines: machines.clone(),
            clock,
            counts: Arc::default(),
            reports: EventPipeline::new("gw-1", 1),
            tallies: Arc::new(Tallies::new("gw-1", None, Timestamp::now())),
            events: EventPipeline::new("gw-1", 1),
        });
        Self {
            world,
            pages: Arc::new(pages),
            machines,
            millis,
        }
    }

    fn at<'a>(source: &'a str, bearer: Option<&'a str>) -> Said<'a> {
        Said { source, bearer }
    }

    async fn ask(&self, said: Said<'_>, method: Method, target: &str, body: &str) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        if let Some(bearer) = said.bearer {
            let value = HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap();
            headers.insert(AUTHORIZATION, value);
        }
        let answer = self
            .pages
            .answer(Ask {
                source: ip(said.source),
                method,
                path: path.to_owned(),
                query: query.to_owned(),
                headers,
                body: Bytes::from(body.to_owned()),
            })
            .await;
        match answer {
            Ok(page) => (page.status.as_u16(), serde_json::from_str(&page.body).unwrap()),
            Err(problem) => (problem.status.as_u16(), serde_json::to_value(&problem).unwrap()),
        }
    }

    async fn post(&self, said: Said<'_>, path: &str, body: &Value) -> (u16, Value) {
        self.ask(said, Method::POST, path, &body.to_string()).await
    }

    async fn get(&self, source: &str, target: &str) -> (u16, Value) {
        self.ask(Self::at(source, None), Method::GET, target, "").await
    }

    fn token(&self) -> String {
        self.world.tokens.any.expose().to_owned()
    }
}

fn job(repo: &str, run: &str) -> Value {
    json!({"owner": repo.split('/').next(), "repo": repo, "workflow": "ci.yml", "job": "build", "run_id": run})
}

#[tokio::test]
async fn a_refusal_is_a_problem_document_that_says_what_and_where() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    let refused = |body: &str| {
        let (body, token) = (body.to_owned(), token.clone());
        let api = &api;
        async move {
            api.ask(
                Api::at("10.77.1.2", Some(&token)),
                Method::POST,
                "/v1/jobs",
                &body,
            )
            .await
        }
    };
    let (status, problem) = refused("{\"owner\": \"..\", \"repo\": \"web\"}").await;
    assert_eq!(
        (status, problem),
        (
            400,
            json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid", "field": "owner",
                "detail": "owner: write 1 to 100 letters, digits, `.`, `_` and `-`"
            })
        )
    );
    for (body, code, field) in [
        (
            "{\"repo\": \"acme/web\", \"sources\": [\"10.77.1.9\"]}",
            "invalid",
            json!("sources"),
        ),
        ("{\"repo\": \"acme/../web\"}", "invalid", json!("repo")),
        (
            "{\"repo\": \"acme/web\", \"workflow\": \"a/b.yml\"}",
            "invalid",
            json!("workflow"),
        ),
        ("{\"repo\": \"acme/web\", \"repos\": 1}", "syntax", Value::Null),
        ("repo=acme/web", "syntax", Value::Null),
    ] {
        let (status, problem) = refused(body).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{problem}");
        assert_eq!(
            problem.get("field").cloned().unwrap_or_default(),
            field,
            "{problem}"
        );
    }
    assert!(api.world.control.claims.lock().is_empty());
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_say_so() {
    let api = Api::new(RunnerKind::Ephemeral);
    for (method, path, want) in [
        (Method::GET, "/v1/jobs", 405),
        (Method::DELETE, "/v1/jobs/current", 405),
        (Method::GET, "/v1/jobs/current/end", 405),
        (Method::POST, "/v1/why", 405),
        (Method::GET, "/v1/github/acme/web/actions/runs/1/monitor", 405),
        (Method::POST, "/", 404),
        (Method::GET, "/why", 404),
        (Method::POST, "/why/a.test", 405),
        (Method::POST, "/v1/summary.md", 405),
        (Method::POST, "/v1", 404),
        (Method::GET, "/v1/jobs/job_1", 404),
        (Method::POST, "/v1/jobs/job_1/end", 404),
        (Method::GET, "/v1/jobs/../jobs", 404),
        (Method::GET, "/v1/github/acme/actions/nonsense", 404),
        (Method::GET, "/v1/github/acme/web/actions/policies/x", 404),
        (Method::GET, "/v1/github/acme/web/actions/jobs/c-1/dns", 405),
        (Method::POST, "/v1/github/acme/web/x/actions/runs/1/monitor", 404),
    ] {
        let (status, problem) = api
            .ask(Api::at("10.77.1.2", None), method.clone(), path, "")
            .await;
        assert_eq!(status, want, "{method} {path}: {problem}");
        assert_eq!(problem["status"], want);
    }
}

#[tokio::test]
async fn questions_that_mean_nothing_are_refused_by_parameter() {
    let api = Api::new(RunnerKind::Ephemeral);
    let long = format!("/v1/why?name={}", "a".repeat(400));
    for target in [
        "/v1/why",
        "/v1/why?name=",
        "/v1/why?name=*.test",
        "/v1/why?name=a..b",
        "/v1/why?x=1",
        &long,
    ] {
        let (status, problem) = api.get("10.77.1.2", target).await;
        assert_eq!(
            (status, &problem["field"]),
            (400, &json!("name")),
            "{target}: {problem}"
        );
    }
}

#[tokio::test]
async fn nobody_from_elsewhere_is_answered() {
    let api = Api::new(RunnerKind::Ephemeral);
    for source in ["192.0.2.1", "127.0.0.1", "fd77:2::1"] {
        let (status, problem) = api.get(source, "/v1/why?name=web.test").await;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "{source}");
    }
}

#[test]
fn only_one_bearer_is_read() {
    let mut headers = HeaderMap::new();
    assert_eq!(bearer(&headers).unwrap(), None);
    for (value, want) in [
        ("Bearer abc", Some("abc")),
        ("bearer  abc ", Some("abc")),
        ("vm-api-key abc", None),
        ("abc", None),
    ] {
        headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        assert_eq!(bearer(&headers).ok().flatten(), want, "{value}");
    }
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer other"));
    assert_eq!(bearer(&headers).unwrap_err().status.as_u16(), 401);
}
