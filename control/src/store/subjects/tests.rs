//! Shows that an event comes together again as it was parted, and by what it is found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use serde_json::json;

use super::*;

fn event(more: serde_json::Value) -> EventRecord {
    let mut event = json!({
        "schema": 1, "time": "2026-05-01T12:00:00.000Z", "id": "i1", "gateway": "gw-1", "source": "10.77.1.2",
        "kind": "tls", "mode": "block", "verdict": "permit",
    });
    if let (serde_json::Value::Object(event), serde_json::Value::Object(more)) = (&mut event, more) {
        event.extend(more);
    }
    serde_json::from_value(event).unwrap()
}

#[test]
fn an_event_comes_together_again_as_it_was() {
    let least = event(json!({}));
    let most = event(json!({
        "network": "runners", "source_port": 1, "name": "a}{,\"b", "name_source": "ticket", "qtype": "A",
        "rcode": "NOERROR", "answers": ["192.0.2.1"], "address": "192.0.2.1", "port": 443,
        "original_address": "192.0.2.2", "reason": "r", "rule": "ru", "rule_source": "set", "nearest": "n",
        "policy": "p", "policy_version": 3, "scope": "org:acme", "ech_present": true, "note": "no", "bytes_up": 1,
        "bytes_down": 2, "duration_ms": 3, "count": 0, "ja4": "j", "process": {"name": "curl", "sha256": "aa"},
        "job": {"id": "job_1", "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "job": "build",
            "run_id": "7", "run_attempt": 2, "runner_name": "r", "cluster": "prod", "event": "push",
            "ref": "refs/heads/main", "actor": "ada", "head_repo": "acme/web}", "assurance": "signed"},
    }));
    for event in [least, most] {
        let (head, own) = (to_json(&part(&event).0).unwrap(), body(&event).unwrap());
        assert_eq!(joined(&head, &own).unwrap(), event, "{head} {own}");
        // Each field is in one of the two: filters look for it there.
        let of = |text: &str| serde_json::from_str::<serde_json::Map<_, _>>(text).unwrap();
        let twice: Vec<_> = of(&head)
            .into_iter()
            .filter(|(key, _)| of(&own).contains_key(key))
            .collect();
        assert_eq!(twice, []);
    }
}

#[test]
fn a_key_is_the_same_everywhere_and_nothing_has_none() {
    assert_eq!(key(""), 0);
    // The first eight bytes of the SHA-256 of `abc` (FIPS 180-2, B.1).
    assert_eq!(key("abc"), 0xba78_16bf_8f01_cfea_u64.cast_signed());
}
