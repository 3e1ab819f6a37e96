//! Jobs that begin, end and are claimed: what is answered, to whom, and how often.

use super::*;

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
