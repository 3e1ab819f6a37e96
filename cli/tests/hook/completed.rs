//! `job-completed`: the job ends, its summary is appended, refusals are annotated; and what happens when it can't be.

use serde_json::{Value, json};

use crate::gateway::{Asked, Gateway, Reply};
use crate::{TOKEN, installed};

fn destination(endpoint: &str, verdict: &str) -> Value {
    json!({"endpoint": endpoint, "port": 443, "kind": "tls", "verdict": verdict, "reason": "not-allowed", "count": 2,
        "ids": ["ev1"], "first": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:00:00Z"})
}

fn summary(refused: &[Value]) -> Value {
    json!({"job": null, "policies": [{"name": "ci", "version": 3, "mode": "block", "scope": "repo:acme/web"}],
        "counts": {"permit": 5, "would_refuse": 0, "refuse": 2 * refused.len(), "search_suffix": 0, "bytes_up": 10,
            "bytes_down": 20},
        "refused": refused, "would_refuse": [], "permitted": [destination("allowed.test", "permit")],
        "unlisted": {"refused": 0, "would_refuse": 0, "permitted": 0}})
}

/// Ends the job and has this summary.
fn answering(refused: Vec<Value>) -> Gateway {
    Gateway::new(move |_, asked| match asked.line.as_str() {
        "POST /v1/jobs/current/end" => Reply::json("200 OK", &json!({"id": "job_1", "ended": true})),
        "GET /v1/summary.json" => Reply::json("200 OK", &summary(&refused)),
        _ => Reply::problem("404 Not Found", "not-found", "no such page"),
    })
}

fn lines(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|one| one.line.as_str()).collect()
}

#[test]
fn the_job_ends_before_its_summary_is_read_and_refusals_are_errors() {
    let gateway = answering(vec![destination("evil.test", "refuse")]);
    let run = installed(&gateway, &[]).job_completed();
    assert_eq!(run.code, 0, "{}", run.raw);
    let asked = gateway.asked();
    assert_eq!(
        lines(&asked),
        ["POST /v1/jobs/current/end", "GET /v1/summary.json"]
    );
    assert_eq!(
        asked[0].authorization.as_deref(),
        Some(format!("Bearer {TOKEN}").as_str())
    );
    assert_eq!(
        run.log,
        ["tidegate: 5 permitted, 2 refused, 0 would be refused; policy ci (version 3)"]
    );
    let [error] = run.annotations.as_slice() else {
        panic!("{}", run.raw);
    };
    assert_eq!(
        (error.kind.as_str(), error.title.as_str()),
        ("error", "Refused: evil.test:443")
    );
    assert!(error.text.contains("ev1"), "{}", error.text);
    let (refused, allowed) = (run.summary.find("evil.test"), run.summary.find("allowed.test"));
    assert!(refused.is_some() && refused < allowed, "{}", run.summary);
    assert!(run.summary.ends_with('\n'));
}

#[test]
fn many_refusals_are_ten_errors_and_a_number() {
    let many = (0..40)
        .map(|n| destination(&format!("evil{n}.test"), "refuse"))
        .collect();
    let run = installed(&answering(many), &[]).job_completed();
    assert_eq!(run.annotations.len(), 10, "{}", run.raw);
    assert!(run.annotations[9].text.contains("31 more"), "{}", run.raw);
}

#[test]
fn what_a_hostile_job_asked_for_is_text_in_the_log_and_in_the_summary() {
    let hostile = [
        "\u{1b}[2Jevil.test",
        "a\n::set-env name=X::y",
        "x##[add-path]/tmp/z",
        "<img src=x onerror=alert(1)>",
        "](https://evil.test) @acme/everyone",
        "a%0A::error::b",
    ];
    let refused = hostile.iter().map(|name| destination(name, "refuse")).collect();
    let run = installed(&answering(refused), &[]).job_completed();
    assert_eq!(run.code, 0, "{}", run.raw);
    assert_eq!(run.annotations.len(), hostile.len());
    for one in &run.annotations {
        assert_eq!(one.kind, "error", "{one:?}");
        assert!(one.title.starts_with("Refused: "), "{one:?}");
        assert!(!one.text.contains(['\n', '\r', '\u{1b}']), "{one:?}");
    }
    for raw in ["\u{1b}", "<img", "](http", "@acme"] {
        assert!(
            !run.summary.contains(raw) && !run.log.join("").contains(raw),
            "{raw:?}: {}",
            run.summary
        );
    }
}

#[test]
fn a_finished_job_does_not_fail_because_the_gateway_is_away() {
    let gateway = Gateway::new(|_, _| Reply::problem("503 Service Unavailable", "unavailable", "not now"));
    let mut runner = installed(&gateway, &["--timeout", "300ms"]);
    let run = runner.job_completed();
    assert_eq!(run.code, 0, "{}", run.raw);
    assert!(
        run.annotations.iter().all(|one| one.kind == "warning"),
        "{}",
        run.raw
    );
    assert!(
        run.annotations[0].text.contains("the job is not ended"),
        "{}",
        run.raw
    );
    assert!(run.summary.is_empty());
    // Nor because of a variable that somebody left empty, or misspelled.
    for said in ["", "perhaps"] {
        runner.give("TIDEGATE_HOOK_ON_ERROR", said);
        let run = runner.job_completed();
        assert_eq!(run.code, 0, "{said:?}: {}", run.raw);
        assert!(
            run.annotations.iter().all(|one| one.kind == "warning"),
            "{}",
            run.raw
        );
        let told = run.annotations.iter().any(|one| one.text.contains("perhaps"));
        assert_eq!(told, !said.is_empty(), "{}", run.raw);
    }
    runner.give("TIDEGATE_HOOK_ON_ERROR", "fail");
    let run = runner.job_completed();
    assert_eq!(
        (run.code, run.annotations[0].kind.as_str()),
        (1, "error"),
        "{}",
        run.raw
    );
}

#[test]
fn a_summary_is_shown_though_the_job_can_not_be_ended_and_the_other_way_round() {
    let gateway = Gateway::new(|_, asked| match asked.line.as_str() {
        "GET /v1/summary.json" => Reply::json("200 OK", &summary(&[])),
        _ => Reply::problem("403 Forbidden", "forbidden", "a job that is known by signed"),
    });
    let run = installed(&gateway, &[]).job_completed();
    assert_eq!(run.code, 0);
    assert!(run.summary.contains("allowed.test"), "{}", run.summary);
    assert!(run.annotations[0].text.contains("is not ended"), "{}", run.raw);
    let gateway = Gateway::new(|_, asked| match asked.line.as_str() {
        "POST /v1/jobs/current/end" => Reply::json("200 OK", &json!({"id": "job_1", "ended": true})),
        _ => Reply("200 OK", "", "no summary".into()),
    });
    let run = installed(&gateway, &[]).job_completed();
    assert_eq!(run.code, 0);
    let [warning] = run.annotations.as_slice() else {
        panic!("{}", run.raw);
    };
    assert!(warning.text.contains("summary can't be read"), "{}", run.raw);
}

#[test]
fn an_end_whose_answer_was_lost_is_an_end() {
    let gateway = Gateway::new(|before, asked| match (before, asked.line.as_str()) {
        (0, _) => Reply::problem("503 Service Unavailable", "busy", "try again"),
        (_, "POST /v1/jobs/current/end") => Reply::problem("404 Not Found", "no-job", "no job is registered"),
        _ => Reply::json("200 OK", &summary(&[])),
    });
    let run = installed(&gateway, &[]).job_completed();
    assert_eq!(run.code, 0);
    assert!(run.annotations.is_empty(), "{}", run.raw);
}

#[test]
fn without_a_file_for_the_summary_the_log_has_it_all_the_same() {
    let gateway = answering(vec![destination("evil.test", "refuse")]);
    let runner = installed(&gateway, &[]);
    let config = runner.path().join("settings/hook.yaml");
    let mut command = crate::tidegate(&["hook", "job-completed", "--config"]);
    let ran = crate::Ran::of(command.arg(config).output().unwrap()).done();
    assert!(
        ran.out.contains("2 refused") && ran.out.contains("::error"),
        "{}",
        ran.out
    );
    assert!(ran.err.is_empty(), "{}", ran.err);
}
