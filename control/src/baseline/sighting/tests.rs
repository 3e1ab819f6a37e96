//! What an event tells a baseline: what was reached, what was refused, by whom, and what counts for nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use serde_json::{Value, json};

use super::*;

fn event(change: Value) -> EventRecord {
    let mut event = json!({
        "schema": 1, "time": "2026-01-01T00:00:00Z", "id": "abcdefgh", "gateway": "gw-1", "source": "10.77.1.2",
        "kind": "tls", "name": "registry.npm.example", "port": 443, "mode": "block", "verdict": "permit",
        "job": {"id": "job_1", "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "run_id": "7",
            "cluster": "prod", "event": "push", "assurance": "signed"},
    });
    for (key, value) in change.as_object().unwrap() {
        let Some(inner) = value.as_object() else {
            event[key] = value.clone();
            continue;
        };
        for (key, value) in inner {
            event["job"][key] = value.clone();
        }
    }
    serde_json::from_value(event).unwrap()
}

#[test]
fn flows_that_went_through_are_reached_and_queries_are_not() {
    for (change, said) in [
        (json!({}), Told::Reached),
        (
            json!({"verdict": "would-refuse", "reason": "not-allowed"}),
            Told::Reached,
        ),
        (json!({"kind": "udp"}), Told::Reached),
        (json!({"kind": "dns"}), Told::Nothing),
        (json!({"kind": "icmp"}), Told::Nothing),
        (json!({"count": 0}), Told::Nothing),
        (json!({"job": null}), Told::Nothing),
        (json!({"name": null}), Told::Nothing),
        (json!({"name": null, "address": "203.0.113.9"}), Told::Reached),
        (json!({"rule_source": "platform"}), Told::Nothing),
        (json!({"rule_source": "host"}), Told::Nothing),
        (json!({"rule_source": "policy"}), Told::Reached),
        (
            json!({"verdict": "refuse", "reason": "not-allowed"}),
            Told::Refused,
        ),
        (
            json!({"verdict": "refuse", "kind": "dns", "reason": "not-allowed"}),
            Told::Refused,
        ),
        (
            json!({"verdict": "refuse", "kind": "dns", "reason": "search-suffix"}),
            Told::SearchSuffix,
        ),
        (
            json!({"verdict": "would-refuse", "kind": "dns", "reason": "search-suffix"}),
            Told::SearchSuffix,
        ),
        (
            json!({"verdict": "would-refuse", "kind": "dns", "reason": "not-allowed"}),
            Told::Nothing,
        ),
    ] {
        assert_eq!(told(&event(change.clone())), said, "{change}");
    }
}

#[test]
fn a_run_is_seen_by_its_flows_that_went_through() {
    for (change, shown) in [
        (json!({}), true),
        (json!({"rule_source": "platform"}), true),
        (json!({"verdict": "would-refuse"}), true),
        (json!({"verdict": "refuse"}), false),
        (json!({"kind": "dns"}), false),
        (json!({"count": 0}), false),
    ] {
        assert_eq!(shows_run(&event(change.clone())), shown, "{change}");
    }
}

#[test]
fn quic_reaches_what_tcp_reaches() {
    let tls = target(&event(json!({})));
    assert_eq!(tls, target(&event(json!({"kind": "quic"}))));
    assert_ne!(tls, target(&event(json!({"kind": "udp"}))));
    let asked = target(&event(json!({"kind": "dns", "port": 53})));
    assert_eq!((asked.port, asked.transport), (0, Transport::Dns));
}

#[test]
fn strangers_are_told_from_the_scopes_own() {
    for (change, trust) in [
        (json!({"event": "push"}), Trust::Trusted),
        (
            json!({"event": "pull_request", "head_repo": "acme/web"}),
            Trust::Trusted,
        ),
        (
            json!({"event": "pull_request", "head_repo": "mallory/web"}),
            Trust::Fork,
        ),
        (
            json!({"event": "pull_request_target", "head_repo": "mallory/web"}),
            Trust::Fork,
        ),
        (json!({"event": "pull_request"}), Trust::Fork),
        (json!({"assurance": "claimed"}), Trust::Claimed),
        (json!({"assurance": "declared"}), Trust::Trusted),
    ] {
        let event = event(json!({"job": change}));
        assert_eq!(Trust::of(event.job.as_ref().unwrap()), trust, "{change}");
    }
}

#[test]
fn attempts_are_one_run_and_a_job_without_one_is_its_own() {
    let run = |change| {
        let event = event(json!({"job": change}));
        let run = Run::of(event.job.as_ref().unwrap());
        run.map(|run| (run.repo.to_string(), run.run.to_string()))
    };
    assert_eq!(
        run(json!({"run_attempt": 1})),
        run(json!({"run_attempt": 2, "id": "job_2"}))
    );
    assert_eq!(
        run(json!({"run_id": ""})),
        Some(("acme/web".into(), "job_1".into()))
    );
    assert_eq!(run(json!({"repo": ""})), Some((String::new(), "job_1".into())));
    assert_eq!(run(json!({"run_id": "", "id": ""})), None);
}

#[test]
fn a_job_belongs_to_its_owners_scopes_only() {
    let names = |change| {
        let event = event(json!({"job": change}));
        let scopes = scopes(event.job.as_ref().unwrap());
        scopes.iter().map(Scope::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        names(json!({})),
        [
            "workflow:acme/web/ci.yml",
            "repo:acme/web",
            "org:acme",
            "cluster:prod"
        ]
    );
    assert_eq!(names(json!({"repo": "other/web", "cluster": ""})), ["org:acme"]);
    assert_eq!(
        names(json!({"workflow": "", "repo": "acme/"})),
        ["org:acme", "cluster:prod"]
    );
    let owners = ["org:a", "repo:a/b", "workflow:a/b/c.yml", "cluster:a"]
        .map(|scope| owner_of(&scope.parse().unwrap()).map(str::to_owned));
    assert_eq!(
        owners,
        [Some("a".to_owned()), Some("a".into()), Some("a".into()), None]
    );
}
