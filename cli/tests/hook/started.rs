//! `job-started`: who the job is said to be, what its log says, and when it fails.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::gateway::{Gateway, Reply};
use crate::runner::Runner;
use crate::{TOKEN, installed};

fn granted() -> Value {
    json!({"id": "job_1", "sources": ["10.77.1.2"], "assurance": "declared", "expires_at": null, "members": [],
        "policy": {"id": "pol_1", "name": "ci", "version": 3, "mode": "block", "scope": "repo:acme/web"}})
}

#[test]
fn a_job_is_registered_by_the_runners_word_and_one_line_says_its_policy() {
    let gateway = Gateway::new(|_, _| Reply::json("201 Created", &granted()));
    let mut runner = installed(&gateway, &[]);
    // A called workflow's own ref is not the job's.
    runner.give(
        "GITHUB_JOB_WORKFLOW_REF",
        "mallory/lib/.github/workflows/lax.yml@v1",
    );
    let run = runner.job_started();
    assert_eq!(run.code, 0, "{}", run.raw);
    assert_eq!(
        run.log,
        ["tidegate: policy ci (version 3, block) of repo:acme/web governs job job_1, known by declared"]
    );
    assert!(run.annotations.is_empty(), "{}", run.raw);
    let asked = gateway.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /v1/jobs");
    assert_eq!(
        asked[0].authorization.as_deref(),
        Some(format!("Bearer {TOKEN}").as_str())
    );
    assert_eq!(
        asked[0].json(),
        json!({"owner": "acme", "repo": "acme/web", "job": "build", "run_id": "1001", "run_attempt": 1,
            "workflow": "acme/web/.github/workflows/ci.yml@refs/heads/main", "runner_name": "vm-17", "event": "push",
            "ref": "refs/heads/main", "actor": "dev"})
    );
    // The same job again is the same to the gateway, which answers 200.
    assert_eq!(runner.job_started().code, 0);
}

#[test]
fn a_pull_request_says_where_it_comes_from() {
    let gateway = Gateway::new(|_, _| Reply::json("201 Created", &granted()));
    let mut runner = installed(&gateway, &[]);
    runner.give("GITHUB_EVENT_NAME", "pull_request");
    runner.event(r#"{"pull_request": {"head": {"repo": {"full_name": "mallory/web"}}}}"#);
    assert_eq!(runner.job_started().code, 0);
    // A payload of a size that nobody delivers is not read to its end.
    let title = "x".repeat(33 << 20);
    runner.event(&format!(
        r#"{{"title": "{title}", "pull_request": {{"head": {{"repo": {{"full_name": "mallory/web"}}}}}}}}"#
    ));
    assert_eq!(runner.job_started().code, 0);
    let asked = gateway.asked();
    assert_eq!(asked[0].json()["head_repo"], "mallory/web");
    assert_eq!(asked[1].json()["head_repo"], Value::Null);
}

#[test]
fn a_refused_job_fails_at_once_with_one_sentence_and_what_to_do() {
    for (status, code, detail, advice) in [
        (
            "401 Unauthorized",
            "unauthorized",
            "the token is not known here",
            "--token-file",
        ),
        (
            "403 Forbidden",
            "forbidden",
            "the token does not name acme/web",
            "owners, repositories",
        ),
        (
            "409 Conflict",
            "quarantined",
            "10.77.1.2 is in quarantine",
            "runners: persistent",
        ),
        (
            "409 Conflict",
            "held",
            "10.77.1.2 is held by another job",
            "lease end",
        ),
        ("409 Conflict", "replayed", "used before", "one job"),
        ("400 Bad Request", "invalid", "workflow: no file", "doctor"),
        ("404 Not Found", "not-found", "there are", "runner API"),
    ] {
        let gateway = Gateway::new(move |_, _| Reply::problem(status, code, detail));
        let run = installed(&gateway, &[]).job_started();
        assert_eq!(run.code, 1, "{}", run.raw);
        assert!(run.log.is_empty(), "{}", run.raw);
        let [error] = run.annotations.as_slice() else {
            panic!("{}", run.raw);
        };
        assert_eq!(error.kind, "error");
        assert!(
            error.text.contains(detail) && error.text.contains(advice),
            "{}",
            error.text
        );
        assert!(!run.raw.contains(TOKEN), "{}", run.raw);
        assert_eq!(gateway.asked().len(), 1, "asked again for nothing: {code}");
    }
}

/// The job's start ends so, and its first annotation is of this kind.
#[track_caller]
fn said(runner: &Runner, code: i32, kind: &str) {
    let run = runner.job_started();
    let first = run.annotations.first().map(|one| one.kind.as_str());
    assert_eq!((run.code, first), (code, Some(kind)), "{}", run.raw);
}

#[test]
fn with_continue_the_job_goes_on_and_is_warned() {
    let gateway = Gateway::new(|_, _| Reply::problem("403 Forbidden", "forbidden", "not this one"));
    let mut runner = installed(&gateway, &["--on-error", "continue"]);
    said(&runner, 0, "warning");
    // The variable is over the settings.
    runner.give("TIDEGATE_HOOK_ON_ERROR", "fail");
    said(&runner, 1, "error");
    runner.give("TIDEGATE_HOOK_ON_ERROR", "perhaps");
    assert_eq!(runner.job_started().code, 2);
}

#[test]
fn a_gateway_that_is_busy_is_asked_again() {
    let gateway = Gateway::new(|before, _| match before {
        0 | 1 => Reply(
            "503 Service Unavailable",
            "retry-after: 0\r\n",
            json!({"code": "busy", "detail": "the machine behind 10.77.1.2 is not known yet; try again"})
                .to_string(),
        ),
        _ => Reply::json("201 Created", &granted()),
    });
    let run = installed(&gateway, &[]).job_started();
    assert_eq!(run.code, 0, "{}", run.raw);
    assert_eq!(gateway.asked().len(), 3);
}

#[test]
fn a_gateway_that_is_not_there_is_given_up_in_time() {
    let gateway = Gateway::new(|_, _| Reply::json("201 Created", &granted()));
    // Nobody accepts, and nobody refuses.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for port in [silent.local_addr().unwrap().port(), closed] {
        let url = format!("https://localhost:{port}");
        let runner = installed(&gateway, &["--runner-api", &url, "--timeout", "300ms"]);
        let run = runner.job_started();
        assert_eq!(run.code, 1, "{}", run.raw);
        assert!(
            run.annotations[0].text.contains("can't reach the gateway"),
            "{}",
            run.raw
        );
        assert!(
            run.annotations[0].text.contains("doctor --from-runner"),
            "{}",
            run.raw
        );
    }
}

#[test]
fn the_token_goes_to_the_gateway_and_nowhere_else() {
    let elsewhere = Gateway::new(|_, _| Reply::json("201 Created", &granted()));
    let there = format!("location: {}/v1/jobs\r\n", elsewhere.url);
    let there: &'static str = there.leak();
    let gateway = Gateway::new(move |_, _| Reply("307 Temporary Redirect", there, String::new()));
    let mut runner = installed(&gateway, &[]);
    // By no proxy: it would be asked to reach `localhost`.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        runner.give(name, &format!("http://{}", proxy.local_addr().unwrap()));
    }
    let run = runner.job_started();
    assert_eq!(run.code, 1, "{}", run.raw);
    assert_eq!(gateway.asked().len(), 1);
    assert!(elsewhere.asked().is_empty());
    assert!(proxy.accept().is_err());
    // To nobody whose certificate is another CA's.
    let run = installed(&gateway, &["--ca", elsewhere.ca().to_str().unwrap()]).job_started();
    assert_eq!(run.code, 1);
    assert!(run.annotations[0].text.contains("--ca"), "{}", run.raw);
    assert_eq!(gateway.asked().len(), 1);
}

#[test]
fn answers_that_are_none_are_told_and_never_shown_raw() {
    let hostile = "x\u{1b}[2J\n::add-mask::y##[add-path]/tmp";
    for (reply, said) in [
        (Reply("200 OK", "", "<html>".into()), "is not understood"),
        (Reply::problem("403 Forbidden", "forbidden", hostile), "\\u{1b}"),
        (Reply("502 Bad Gateway", "", hostile.to_owned()), "Bad Gateway"),
        (
            Reply::json(
                "201 Created",
                &json!({"id": hostile, "assurance": "declared",
                    "policy": {"name": hostile, "version": 1, "mode": "block", "scope": hostile}}),
            ),
            "\\u{1b}",
        ),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let gateway = Gateway::new(move |_, _| reply.lock().unwrap().take().unwrap());
        let run = installed(&gateway, &["--timeout", "5s"]).job_started();
        assert!(run.raw.contains(said), "{}", run.raw);
        assert!(!run.raw.contains('\u{1b}'), "{}", run.raw);
        assert!(
            run.annotations.iter().all(|one| one.kind == "error"),
            "{:?}",
            run.annotations
        );
    }
}

#[test]
fn settings_that_are_wrong_fail_the_job_by_their_name() {
    let gateway = Gateway::new(|_, _| Reply::json("201 Created", &granted()));
    let runner = installed(&gateway, &[]);
    let settings = runner.read("settings/hook.yaml");
    runner.file("settings/hook.yaml", &format!("{settings}tokenfile: x\n"));
    let run = runner.job_started();
    assert_eq!(run.code, 2, "{}", run.raw);
    assert!(run.annotations[0].text.contains("tokenfile"), "{}", run.raw);
    runner.file("settings/hook.yaml", &settings);
    runner.file("settings/token", "");
    let run = runner.job_started();
    assert_eq!(run.code, 2, "{}", run.raw);
    assert!(run.annotations[0].text.contains("token is empty"), "{}", run.raw);
    assert!(gateway.asked().is_empty());
}
