//! Which refusals and new endpoints become detections, how much they matter, and what their evidence names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::baseline::sighting;

fn event(text: &str) -> EventRecord {
    let base = format!(
        r#"{{"schema":1,"time":"2026-01-01T00:00:00Z","id":"abcdefgh","gateway":"gw-1","source":"10.77.1.2",
        "kind":"tls","name":"evil.example","port":443,"mode":"block","verdict":"refuse",
        "job":{{"id":"job_1","owner":"acme","repo":"acme/web","event":"pull_request_target","assurance":"signed"}},
        {text}}}"#
    );
    serde_json::from_str(&base).unwrap()
}

#[test]
fn refusals_that_say_nothing_of_the_job_are_no_detections() {
    for (reason, severity) in [
        ("search-suffix", None),
        ("quic", None),
        ("policy-unknown", None),
        ("global-block", Some(Severity::High)),
        ("not-allowed", Some(Severity::Medium)),
        ("silent", Some(Severity::Low)),
        ("of-a-newer-gateway", Some(Severity::Medium)),
    ] {
        assert_eq!(
            of_refusal(&event(&format!(r#""reason":"{reason}""#))),
            severity,
            "{reason}"
        );
    }
}

#[test]
fn who_runs_with_the_repositorys_secrets_is_looked_at_first() {
    let event = event(r#""reason":"not-allowed""#);
    let narrow = [Scope::Repository("acme/web".into())];
    let wide = [Scope::Organization("acme".into())];
    assert_eq!(of_new_endpoint(&event, Trust::Trusted, &narrow), Severity::Medium);
    assert_eq!(of_new_endpoint(&event, Trust::Trusted, &wide), Severity::Low);
    assert_eq!(of_new_endpoint(&event, Trust::Fork, &wide), Severity::High);
    assert_eq!(of_new_endpoint(&event, Trust::Claimed, &narrow), Severity::Low);
}

#[test]
fn evidence_names_the_event_and_the_baselines_that_it_is_outside_of() {
    let event = event(r#""reason":"not-allowed","policy":"base","address":"203.0.113.9""#);
    let told = evidence(
        &event,
        &sighting::target(&event),
        Trust::Fork,
        &[Scope::Repository("acme/web".into())],
    );
    assert_eq!(
        told,
        json!({
            "endpoint": "evil.example", "port": 443, "transport": "tcp", "event_id": "abcdefgh", "gateway": "gw-1",
            "kind": "tls", "verdict": "refuse", "mode": "block", "reason": "not-allowed", "policy": "base",
            "address": "203.0.113.9", "fork": true, "outside": ["repo:acme/web"],
        })
    );
}

#[test]
fn every_word_is_read_back() {
    for kind in DetectionType::ALL {
        assert_eq!(DetectionType::parse(kind.as_str()), Some(kind));
        assert_eq!(json!(kind), kind.as_str());
    }
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
        assert_eq!(json!(status), status.as_str());
    }
    for severity in Severity::ALL {
        assert_eq!(Severity::parse(severity.as_str()), Some(severity));
        assert_eq!(json!(severity), severity.as_str());
    }
}
