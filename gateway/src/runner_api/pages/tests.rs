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
async fn a_job_is_registered_shown_explained_and_ended() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    let me = || Api::at("10.77.1.2", Some(&token));
    let (status, started) = api.post(me(), "/v1/jobs", &job("Acme/Web", "7")).await;
    assert_eq!(status, 201, "{started}");
    let id = started["id"].as_str().unwrap();
    assert!(id.starts_with("job_"), "{id}");
    assert_eq!(started["sources"], json!(["10.77.1.2"]));
    assert_eq!(started["assurance"], "declared");
    let policy =
        json!({"id": "pol_web", "name": "web", "version": 3, "mode": "block", "scope": "repo:acme/web"});
    assert_eq!(started["policy"], policy);
    assert_eq!(started["members"], json!([{"gateway": "gw-2", "has_it": true}]));
    let expires: Timestamp = started["expires_at"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(Timestamp::now()).as_hours();
    assert!((119..=121).contains(&left), "{left}");

    let (status, again) = api.post(me(), "/v1/jobs", &job("Acme/Web", "7")).await;
    assert_eq!((status, &again["id"]), (200, &started["id"]));

    let (status, current) = api.get("10.77.1.2", "/v1/jobs/current").await;
    assert_eq!(status, 200, "{current}");
    for (key, want) in [
        ("id", started["id"].clone()),
        ("owner", json!("acme")),
        ("repo", json!("acme/web")),
        ("workflow", json!("ci.yml")),
        ("cluster", json!("prod")),
        ("assurance", json!("declared")),
        ("network", json!("runners")),
        ("sources", json!(["10.77.1.2"])),
        ("policy", policy),
    ] {
        assert_eq!(current[key], want, "{key}");
    }

    let (status, why) = api.get("10.77.1.2", "/v1/why?name=web.test").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&why["verdict"], &why["line"]),
        (&json!("permit"), &json!(2)),
        "{why}"
    );
    assert_eq!(
        (&why["job"], &why["policy"], &why["scope"]),
        (&started["id"], &json!("web"), &json!("repo:acme/web"))
    );
    let (_, why) = api.get("10.77.1.2", "/v1/why?name=web.test%3A22%2Ftcp").await;
    assert_eq!(
        (&why["target"], &why["verdict"]),
        (&json!("web.test:22"), &json!("refuse")),
        "{why}"
    );

    let (status, ended) = api.post(me(), "/v1/jobs/current/end", &json!({})).await;
    assert_eq!((status, &ended["id"]), (200, &started["id"]), "{ended}");
    let (status, none) = api.get("10.77.1.2", "/v1/jobs/current").await;
    assert_eq!((status, &none["code"]), (404, &json!("no-job")));
    let (_, why) = api.get("10.77.1.2", "/v1/why?name=web.test").await;
    assert_eq!(
        (&why["verdict"], &why["reason"]),
        (&json!("refuse"), &json!("quarantined"))
    );
    let (status, refused) = api.post(me(), "/v1/jobs", &job("acme/web", "7")).await;
    assert_eq!(
        (status, &refused["code"]),
        (409, &json!("quarantined")),
        "{refused}"
    );
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
async fn who_holds_a_source_is_not_told_to_others() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    let me = || Api::at("10.77.1.2", Some(&token));
    let (_, started) = api.post(me(), "/v1/jobs", &job("acme/secret-project", "7")).await;
    let (status, problem) = api.post(me(), "/v1/jobs", &job("evil/web", "8")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("held")));
    let text = problem.to_string();
    assert!(text.contains("declared"), "{text}");
    assert!(
        !text.contains("secret") && !text.contains(started["id"].as_str().unwrap()),
        "{text}"
    );
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights_have_their_own_statuses() {
    let api = Api::new(RunnerKind::Ephemeral);
    let tokens = &api.world.tokens;
    let signed = oidc_at("acme/web", "1", "jti-1", Timestamp::now());
    for (bearer, body, want, code) in [
        (None, job("acme/web", "1"), 401, "unauthorized"),
        (Some("tgr_nonsense"), job("acme/web", "1"), 401, "unauthorized"),
        (
            Some(tokens.short.expose()),
            job("acme/web", "1"),
            401,
            "unauthorized",
        ),
        (
            Some(tokens.provisioner.expose()),
            job("acme/web", "1"),
            401,
            "unauthorized",
        ),
        (Some("a.b.c"), job("acme/web", "1"), 401, "unauthorized"),
        (Some(tokens.acme.expose()), job("evil/web", "1"), 403, "forbidden"),
        (
            Some(tokens.other_network.expose()),
            job("acme/web", "1"),
            403,
            "forbidden",
        ),
        (
            Some(tokens.other_cluster.expose()),
            job("acme/web", "1"),
            403,
            "forbidden",
        ),
        (
            Some(tokens.other_network.expose()),
            json!({"oidc_token": signed}),
            403,
            "forbidden",
        ),
        (
            Some(tokens.any.expose()),
            json!({"repo": "acme/web", "cluster": "dev"}),
            403,
            "forbidden",
        ),
        (None, json!({"oidc_token": signed}), 201, ""),
    ] {
        let (status, problem) = api.post(Api::at("10.77.1.2", bearer), "/v1/jobs", &body).await;
        assert_eq!(status, want, "{problem}");
        assert_eq!(
            problem.get("code").and_then(Value::as_str).unwrap_or_default(),
            code
        );
    }
    let (status, problem) = api
        .post(
            Api::at("10.77.1.3", None),
            "/v1/jobs",
            &json!({"oidc_token": signed}),
        )
        .await;
    assert_eq!((status, &problem["code"]), (409, &json!("replayed")));
    let weaker = Api::at("10.77.1.2", Some(tokens.any.expose()));
    let (status, problem) = api.post(weaker, "/v1/jobs/current/end", &json!({})).await;
    assert_eq!(
        (status, &problem["code"]),
        (403, &json!("forbidden")),
        "{problem}"
    );
}

#[tokio::test]
async fn what_control_refuses_keeps_its_code() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    for (refusal, want, code) in [
        (Refusal::Replayed, 409, "replayed"),
        (Refusal::Held, 409, "held"),
        (Refusal::TokenGone, 401, "token-gone"),
        (Refusal::Invalid, 400, "invalid"),
    ] {
        api.world.control.set(Mode::Refuses(refusal));
        let (status, problem) = api
            .post(
                Api::at("10.77.1.2", Some(&token)),
                "/v1/jobs",
                &job("acme/web", "1"),
            )
            .await;
        assert_eq!((status, &problem["code"]), (want, &json!(code)), "{problem}");
    }
}

#[tokio::test]
async fn ten_wrong_credentials_are_free_and_then_an_address_waits() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    let wrong = |source| api.post(Api::at(source, Some("tgr_wrong")), "/v1/jobs", &Value::Null);
    for _ in 0..10 {
        let (status, _) = api
            .post(
                Api::at("10.77.1.2", Some("tgr_wrong")),
                "/v1/jobs",
                &job("acme/web", "1"),
            )
            .await;
        assert_eq!(status, 401);
    }
    let good = || api.post(Api::at("10.77.1.2", Some(&token)), "/v1/jobs", &JOB);
    static JOB: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| job("acme/web", "1"));
    let (status, problem) = good().await;
    assert_eq!(
        (status, &problem["code"]),
        (429, &json!("rate-limited")),
        "a good one waits too"
    );
    assert_eq!(wrong("10.77.1.3").await.0, 400, "another address does not");
    let (status, _) = api.get("10.77.1.2", "/v1/why?name=web.test").await;
    assert_eq!(status, 200, "what needs no credential goes on");
    api.millis.fetch_add(1_000, Ordering::Relaxed);
    assert_eq!(good().await.0, 201);
    assert_eq!(api.pages.counts.failed_proofs.load(Ordering::Relaxed), 10);
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

#[tokio::test]
async fn a_machine_that_nobody_sees_yet_is_asked_to_try_again() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    api.machines.0.lock().insert(ip("10.77.1.2"), Seen::Nobody);
    let me = || Api::at("10.77.1.2", Some(&token));
    let (status, problem) = api.post(me(), "/v1/jobs", &job("acme/web", "1")).await;
    assert_eq!((status, &problem["code"]), (503, &json!("busy")));
    api.machines.0.lock().insert(ip("10.77.1.2"), Seen::OffLink);
    assert_eq!(api.post(me(), "/v1/jobs", &job("acme/web", "1")).await.0, 201);
    assert!(api.world.leases.bindings().is_empty());
}

/// harden-runner-wire.md: `POST …/monitor` carries no credential; 409 is "unavailable".
#[tokio::test]
async fn harden_runner_monitor_claims_and_never_decides() {
    let api = Api::new(RunnerKind::Ephemeral);
    let path = "/v1/github/Acme/Web/actions/runs/42/monitor";
    let said = json!({"correlation_id": "c-1", "job": "build"});
    let (status, answer) = api.post(Api::at("10.77.1.2", None), path, &said).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["runner_ip_address"], "10.77.1.2");
    assert_eq!(answer["monitoring_started"], true);
    let key = answer["one_time_key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 64);
    let (_, current) = api.get("10.77.1.2", "/v1/jobs/current").await;
    assert_eq!(
        (&current["assurance"], &current["repo"]),
        (&json!("claimed"), &json!("acme/web"))
    );
    assert_eq!(current["policy"]["name"], "default", "a claim chooses no policy");
    let (_, again) = api.post(Api::at("10.77.1.2", None), path, &said).await;
    assert_eq!(again["one_time_key"], key.as_str());
    let (_, other) = api.post(Api::at("10.77.1.3", None), path, &said).await;
    assert_ne!(other["one_time_key"], key.as_str(), "each machine has its own");

    let (status, problem) = api
        .post(
            Api::at("10.77.1.4", None),
            "/v1/github/a%2f..%2fb/web/actions/runs/42/monitor",
            &said,
        )
        .await;
    assert_eq!((status, &problem["field"]), (400, &json!("owner")));

    let (status, _) = api
        .post(Api::at("10.77.1.2", None), "/v1/jobs/current/end", &Value::Null)
        .await;
    assert_eq!(status, 400, "null is no object");
    let (status, _) = api
        .post(Api::at("10.77.1.2", None), "/v1/jobs/current/end", &json!({}))
        .await;
    assert_eq!(status, 200);
    let (status, problem) = api.post(Api::at("10.77.1.2", None), path, &said).await;
    assert_eq!((status, &problem["code"]), (409, &json!("quarantined")));
}

/// On a persistent machine every claim of another run is another job: a loop of them must not fill the control plane.
#[tokio::test]
async fn claims_of_other_jobs_are_limited_and_repeated_ones_are_not() {
    let api = Api::new(RunnerKind::Persistent);
    let said = json!({"job": "build"});
    let claim = async |source: &str, run: u32| {
        let path = format!("/v1/github/acme/web/actions/runs/{run}/monitor");
        api.post(Api::at(source, None), &path, &said).await
    };
    for _ in 0..30 {
        assert_eq!(claim("10.77.1.2", 1).await.0, 200, "the same job");
    }
    for run in 2..=10 {
        assert_eq!(claim("10.77.1.2", run).await.0, 200, "run {run}");
    }
    let (status, problem) = claim("10.77.1.2", 11).await;
    assert_eq!(
        (status, &problem["code"]),
        (429, &json!("rate-limited")),
        "{problem}"
    );
    assert_eq!(claim("10.77.1.3", 11).await.0, 200, "another address");
    api.millis.fetch_add(1_000, Ordering::Relaxed);
    assert_eq!(claim("10.77.1.2", 11).await.0, 200);
}

#[tokio::test]
async fn one_address_can_not_take_every_turn() {
    let api = Api::new(RunnerKind::Ephemeral);
    let slots: Vec<_> = (0..MAX_CHANGES_A_SOURCE)
        .map(|_| api.pages.changes.take(ip("10.77.1.2")).unwrap())
        .collect();
    let token = api.token();
    let (status, problem) = api
        .post(
            Api::at("10.77.1.2", Some(&token)),
            "/v1/jobs",
            &job("acme/web", "1"),
        )
        .await;
    assert_eq!((status, &problem["code"]), (503, &json!("busy")));
    let (status, _) = api
        .post(
            Api::at("10.77.1.3", Some(&token)),
            "/v1/jobs",
            &job("acme/web", "1"),
        )
        .await;
    assert_eq!(status, 201);
    drop(slots);
    let (status, _) = api
        .post(
            Api::at("10.77.1.2", Some(&token)),
            "/v1/jobs",
            &job("acme/web", "1"),
        )
        .await;
    assert_eq!(status, 201);
}

/// A client that goes away in the middle leaves no lease that control knows and the gateway doesn't.
#[tokio::test]
async fn a_change_that_began_is_carried_through() {
    let api = Api::new(RunnerKind::Ephemeral);
    let token = api.token();
    let body = job("acme/web", "1");
    {
        let mut asked = Box::pin(api.post(Api::at("10.77.1.2", Some(&token)), "/v1/jobs", &body));
        for _ in 0..4 {
            assert!(futures_util::poll!(&mut asked).is_pending());
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    assert_eq!(api.world.control.claims.lock().len(), 1);
    assert_eq!(api.world.judged("10.77.1.2", 0), "web");
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
