//! Shows which report an event is joined to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use serde_json::json;

use super::*;

fn event(more: serde_json::Value) -> EventRecord {
    let mut event = json!({
        "schema": 1, "time": "2026-05-01T12:00:00Z", "id": "0000000a", "gateway": "gw-1", "source": "10.77.1.2",
        "kind": "tls", "mode": "block", "verdict": "permit", "port": 443, "address": "192.0.2.1",
        "job": {"id": "job_1", "owner": "acme", "repo": "acme/web", "assurance": "declared"},
    });
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    serde_json::from_value(event).unwrap()
}

fn report((name, address, port): (&str, &str, u16), process: &str, at: i64) -> Report {
    Report {
        name: name.into(),
        address: address.into(),
        port,
        at,
        process: Process {
            name: process.into(),
            ..Process::default()
        },
    }
}

fn joined(more: serde_json::Value, reports: Vec<Report>) -> (String, String) {
    let mut event = event(more);
    join(&mut event, &HashMap::from_iter([("job_1".to_owned(), reports)]));
    let process = event.process.map(|process| process.name.to_string());
    (
        process.unwrap_or_default(),
        event.note.unwrap_or_default().to_string(),
    )
}

#[test]
fn a_report_about_the_name_goes_before_one_about_the_address() {
    let reports = || {
        vec![
            report(("", "192.0.2.1", 443), "by-address", 9),
            report(("forge.test", "", 0), "by-name", 1),
            report(("forge.test", "", 80), "other-port", 5),
        ]
    };
    let alone = |process: &str| (process.to_owned(), String::new());
    assert_eq!(joined(json!({"name": "forge.test"}), reports()), alone("by-name"));
    assert_eq!(
        joined(json!({"name": "other.test"}), reports()),
        alone("by-address")
    );
    assert_eq!(joined(json!({}), reports()), alone("by-address"));
    assert_eq!(joined(json!({"port": 22}), reports()), alone(""));
    // The process knows the address that it chose, not the one that the gateway dialled.
    let chosen = json!({"address": "198.51.100.7", "original_address": "::ffff:192.0.2.1"});
    assert_eq!(joined(chosen, reports()), alone("by-address"));
}

#[test]
fn of_several_processes_the_newest_is_named_and_the_others_are_counted() {
    let reports = vec![
        report(("forge.test", "", 443), "curl", 3),
        report(("forge.test", "", 0), "git", 7),
        report(("forge.test", "192.0.2.1", 443), "curl", 5),
    ];
    let (process, note) = joined(json!({"name": "forge.test", "note": "x"}), reports);
    assert_eq!(process, "git");
    assert_eq!(note, "x; one of 2 processes that reached for it");
}

#[test]
fn an_event_of_another_job_or_of_none_has_no_process() {
    let reports = || vec![report(("forge.test", "", 0), "curl", 1)];
    let other = json!({"name": "forge.test", "job": {"id": "job_2", "owner": "acme", "repo": "acme/web", "assurance": "declared"}});
    assert_eq!(joined(other, reports()).0, "");
    assert_eq!(
        joined(json!({"name": "forge.test", "job": null}), reports()).0,
        ""
    );
}
