//! Jobs that show their own OIDC token, asked of the forge by what the runner gives.

use serde_json::json;

use crate::gateway::{Gateway, Reply};
use crate::{TOKEN, installed};

/// A runner API and a forge's token endpoint in one.
fn forge_and_gateway() -> Gateway {
    Gateway::new(|before, asked| match asked.line.as_str() {
        line if line.starts_with("GET /token") => {
            assert_eq!(asked.authorization.as_deref(), Some("Bearer the-request-token"));
            Reply::json(
                "200 OK",
                &json!({"value": format!("eyJ.{before}.sig"), "count": 1}),
            )
        }
        "POST /v1/jobs" => Reply::json(
            "201 Created",
            &json!({"id": "job_1", "assurance": "signed", "policy": null, "refused": "no-policy"}),
        ),
        "POST /v1/jobs/current/end" => Reply::json("200 OK", &json!({"id": "job_1", "ended": true})),
        _ => Reply::problem("404 Not Found", "no-job", "none"),
    })
}

#[test]
fn a_job_with_a_token_shows_that_at_its_start_and_at_its_end() {
    let gateway = forge_and_gateway();
    let mut runner = installed(&gateway, &["--oidc", "tidegate"]);
    runner.give(
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        &format!("{}/token?v=2", gateway.url),
    );
    runner.give("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-request-token");
    runner.give("SSL_CERT_FILE", gateway.ca().to_str().unwrap());
    let run = runner.job_started();
    assert_eq!(run.code, 0, "{}", run.raw);
    let asked = gateway.asked();
    assert_eq!(asked[0].line, "GET /token?v=2&audience=tidegate");
    assert_eq!(asked[1].json()["oidc_token"], "eyJ.0.sig");
    assert_eq!(asked[1].authorization, None);
    let ended = runner.job_completed();
    let asked = gateway.asked();
    assert_eq!(asked[3].line, "POST /v1/jobs/current/end");
    // Each token is good once.
    assert_eq!(asked[3].json()["oidc_token"], "eyJ.2.sig");
    for raw in [run.raw, ended.raw] {
        for secret in ["eyJ", "the-request-token", TOKEN] {
            assert!(!raw.contains(secret), "{raw}");
        }
    }
}

#[test]
fn without_one_the_runner_token_says_whose_job_it_is_and_the_log_that_it_did() {
    let gateway = forge_and_gateway();
    let mut runner = installed(&gateway, &["--oidc", "tidegate"]);
    for (url, token) in [
        (None, None),
        (
            Some(format!("{}/nothing", gateway.url)),
            Some("the-request-token"),
        ),
        (
            Some("http://localhost:1/token".to_owned()),
            Some("the-request-token"),
        ),
        (Some("no address".to_owned()), Some("the-request-token")),
        (Some(format!("{}/token", gateway.url)), None),
    ] {
        for (name, value) in [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_deref()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token),
        ] {
            match value {
                Some(value) => runner.give(name, value),
                None => drop(runner.environment.remove(name)),
            }
        }
        runner.give("SSL_CERT_FILE", gateway.ca().to_str().unwrap());
        let run = runner.job_started();
        assert_eq!(run.code, 0, "{url:?}: {}", run.raw);
        assert_eq!(run.annotations[0].kind, "notice", "{}", run.raw);
        assert!(!run.raw.contains("the-request-token"), "{}", run.raw);
        let asked = gateway.asked();
        let last = asked.last().unwrap();
        assert_eq!(
            last.authorization.as_deref(),
            Some(format!("Bearer {TOKEN}").as_str())
        );
        assert!(last.json().get("oidc_token").is_none());
    }
}

#[test]
fn without_any_credential_the_job_fails_and_says_what_is_missing() {
    let gateway = forge_and_gateway();
    let runner = installed(&gateway, &["--oidc", "tidegate"]);
    let settings = runner.read("settings/hook.yaml");
    let (with, without): (Vec<&str>, Vec<&str>) = settings
        .lines()
        .partition(|line| line.starts_with("token-file") || line.starts_with("oidc"));
    runner.file("settings/hook.yaml", &without.join("\n"));
    let run = runner.job_started();
    assert_eq!(run.code, 2, "{with:?} {}", run.raw);
    assert!(run.annotations[0].text.contains("token-file"), "{}", run.raw);
    runner.file(
        "settings/hook.yaml",
        &format!("{}\noidc: tidegate\n", without.join("\n")),
    );
    let run = runner.job_started();
    assert_eq!(run.code, 1, "{}", run.raw);
    assert!(run.annotations[0].text.contains("id-token: write"), "{}", run.raw);
    assert!(gateway.asked().is_empty());
}
