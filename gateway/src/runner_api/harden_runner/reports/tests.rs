//! Reports as agents write them, and what too many of them come to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use serde_json::json;

use super::*;

#[derive(Default)]
struct Taken(Mutex<Vec<ProcessReport>>);

impl ReportSink for Taken {
    fn report(&self, report: ProcessReport) {
        self.0.lock().push(report);
    }
}

fn at(millis: u64) -> Now {
    Now {
        moment: Moment::from_millis(millis),
        wall: "2026-03-01T12:00:00Z".parse().unwrap(),
    }
}

fn connection(body: &Value) -> Result<Option<Said>, Problem> {
    read("networkconnection", body.to_string().as_bytes())
}

fn said(name: &str) -> Said {
    connection(&json!({"domainName": name, "tool": {"name": "curl"}}))
        .unwrap()
        .unwrap()
}

/// The agent's own spelling: ports with their service, names with a trailing dot, a parent of the same shape.
#[test]
fn a_connection_is_read_as_the_agent_writes_it() {
    let read = connection(&json!({
        "ipAddress": "::ffff:203.0.113.9", "port": "443(https)", "domainName": "GitHub.test.",
        "timestamp": "2026-03-01T12:00:00Z", "status": "Dropped", "matched_policy": "x", "reason": "y",
        "tool": {"name": "/usr/bin/curl", "sha256": "ab12", "parent": {"name": "bash", "sha256": "", "parent": null}}
    }))
    .unwrap()
    .unwrap();
    let process = ("/usr/bin/curl".into(), "ab12".into(), "bash".into());
    assert_eq!(
        read,
        Said {
            name: "github.test".into(),
            address: Some("203.0.113.9".parse().unwrap()),
            port: 443,
            process,
        }
    );
    for (port, want) in [
        (json!("22"), 22),
        (json!("65535(x)"), 65_535),
        (json!(80), 80),
        (json!(""), 0),
        (Value::Null, 0),
    ] {
        let body = json!({"ipAddress": "203.0.113.9", "port": port, "tool": {"name": "x", "parent": "sh"}});
        let read = connection(&body).unwrap().unwrap();
        assert_eq!((read.port, &*read.process.2), (want, "sh"), "{port}");
    }
}

#[test]
fn what_names_no_process_is_taken_and_says_nothing() {
    let dns =
        json!({"domainName": "a.test.", "ipAddress": "203.0.113.9", "timestamp": "x", "tool": {"name": "x"}});
    assert_eq!(read("dns", dns.to_string().as_bytes()).unwrap(), None);
    assert_eq!(connection(&json!({"domainName": "a.test"})).unwrap(), None);
    assert_eq!(
        connection(&json!({"domainName": "a.test", "tool": {"name": "", "parent": 7}})).unwrap(),
        None
    );
}

#[test]
fn what_is_no_report_is_refused_by_field() {
    for (field, body) in [
        ("domainName", json!({"tool": {"name": "x"}})),
        ("domainName", json!({"domainName": "a..b", "tool": {"name": "x"}})),
        ("domainName", json!({"domainName": "a".repeat(300)})),
        ("ipAddress", json!({"ipAddress": "203.0.113.9; rm -rf /"})),
        ("port", json!({"ipAddress": "203.0.113.9", "port": "https"})),
        ("port", json!({"ipAddress": "203.0.113.9", "port": "+443"})),
        ("port", json!({"ipAddress": "203.0.113.9", "port": "65536"})),
        ("port", json!({"ipAddress": "203.0.113.9", "port": "443(https"})),
        ("port", json!({"ipAddress": "203.0.113.9", "port": -1})),
        ("port", json!({"ipAddress": "203.0.113.9", "port": ["443"]})),
    ] {
        assert_eq!(connection(&body).unwrap_err().field, Some(field), "{body}");
    }
    for text in ["", "[]", "{", "\"x\"", "{\"domainName\": 7}"] {
        assert_eq!(
            read("dns", text.as_bytes()).unwrap_err().code,
            Code::Syntax,
            "{text}"
        );
    }
}

#[test]
fn hostile_process_names_are_escaped_and_cut() {
    let long = "x".repeat(100_000);
    let body = json!({"domainName": "a.test", "tool": {"name": "\u{1b}[2Jcurl\n::error::", "sha256": long, "parent": "\u{202e}"}});
    let (name, sha256, parent) = connection(&body).unwrap().unwrap().process;
    assert_eq!(name, "\\u{1b}[2Jcurl\\u{a}::error::");
    assert_eq!(sha256.len(), 64);
    assert_eq!(parent, "\\u{202e}");
}

#[test]
fn a_report_is_handed_on_once_with_the_gateways_time() {
    let taken = Arc::new(Taken::default());
    let reports = Reports::new(taken.clone());
    for millis in [0, 1_000] {
        reports.take("job_1", said("a.test"), at(millis));
    }
    reports.take("job_2", said("a.test"), at(0));
    let taken = taken.0.lock();
    let jobs: Vec<&str> = taken.iter().map(|report| &*report.job_id).collect();
    assert_eq!(jobs, ["job_1", "job_2"]);
    assert_eq!(taken[0].time, at(0).wall);
    assert_eq!((&*taken[0].name, &*taken[0].process.name), ("a.test", "curl"));
}

#[test]
fn a_job_has_two_thousand_different_reports() {
    let reports = Reports::new(Arc::new(Taken::default()));
    for number in 0..MAX_DISTINCT {
        let now = Moment::from_millis(number as u64 * 20);
        assert_eq!(
            reports.judge("job_1", &said(&format!("n{number}.test")), now),
            Fate::HandedOn
        );
    }
    let late = Moment::from_millis(10_000_000);
    assert_eq!(reports.judge("job_1", &said("more.test"), late), Fate::Dropped);
    assert_eq!(reports.judge("job_1", &said("n7.test"), late), Fate::Known);
    assert_eq!(reports.judge("job_2", &said("more.test"), late), Fate::HandedOn);
}

#[test]
fn two_hundred_come_at_once_and_then_fifty_a_second() {
    let reports = Reports::new(Arc::new(Taken::default()));
    let many = |from: usize, millis: u64| {
        let now = Moment::from_millis(millis);
        let fates = (from..from + 300).map(|n| reports.judge("job_1", &said(&format!("n{n}.test")), now));
        fates.filter(|fate| *fate == Fate::HandedOn).count()
    };
    assert_eq!(many(0, 0), 200);
    assert_eq!(many(1_000, 1_000), 50);
    assert_eq!(
        reports.judge("job_2", &said("a.test"), Moment::from_millis(1_000)),
        Fate::HandedOn
    );
}

#[test]
fn at_the_bound_of_jobs_the_one_that_was_silent_longest_is_forgotten() {
    let reports = Reports::new(Arc::new(Taken::default()));
    for number in 0..=MAX_JOBS {
        let now = Moment::from_millis(number as u64);
        assert_eq!(
            reports.judge(&format!("job_{number}"), &said("a.test"), now),
            Fate::HandedOn
        );
    }
    assert_eq!(reports.jobs.lock().len(), MAX_JOBS);
    let now = Moment::from_millis(9_000);
    assert_eq!(reports.judge("job_1", &said("a.test"), now), Fate::Known);
    assert_eq!(
        reports.judge("job_0", &said("a.test"), now),
        Fate::HandedOn,
        "forgotten"
    );
}
