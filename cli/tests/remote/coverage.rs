//! `tidegate coverage`: what holds for the workflows that were seen, from a shell.

use serde_json::json;

use crate::events::{event, store};
use crate::fake::Fake;
use crate::plane::{Plane, Ran, tidegate};

/// A workflow as the API has it.
fn row(workflow: &str, more: &serde_json::Value) -> serde_json::Value {
    let mut row = json!({
        "owner": "acme", "repo": "acme/web", "workflow": workflow, "cluster": "", "network": "runners",
        "policy": {"id": "pol_1", "owner": "acme", "name": "base", "version": 3, "mode": "audit"}, "scope": "org:acme",
        "decided_by": "policy", "default_policy": null, "assurance": "signed", "min_assurance": "declared",
        "below_min_assurance": false, "first_seen": "2026-11-01T10:00:00Z", "last_seen": "2026-11-22T10:00:00Z",
        "jobs": 7, "last_job": "job_1", "baseline": null, "why_not": [], "ready_to_block": true,
        "counts": {"permit": 9, "refuse": 2, "would_refuse": 5, "search_suffix": 0},
    });
    for (key, value) in more.as_object().unwrap() {
        row[key] = value.clone();
    }
    row
}

#[test]
fn workflows_are_a_table_with_what_holds_for_them() {
    let items = [
        row("ci.yml", &json!({})),
        row(
            "\u{1b}[2Jx.yml",
            &json!({"policy": null, "default_policy": "deny-all", "ready_to_block": false, "below_min_assurance": true}),
        ),
        row(
            "",
            &json!({"repo": "", "assurance": null, "policy": {"id": "pol_2", "owner": "umbrella", "name": "all",
                "version": 1, "mode": "block", "unusable": true}}),
        ),
    ];
    let counters = json!({"all": 3, "no_policy": 1, "ready_to_block": 1, "below_min_assurance": 1});
    let body = json!({"items": items, "next": null, "counters": counters}).to_string();
    let fake = Fake::new(vec![("200 OK", "content-type: application/json\r\n", body)]);
    let ran = fake.run(&["coverage", "--org", "acme", "--below-min-assurance"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let asked = fake.asked.lock().unwrap()[0].clone();
    assert!(
        asked.starts_with("GET /api/v1/coverage?limit=100&owner=acme&filter=below-min-assurance "),
        "{asked}"
    );
    let line = |text: &str| {
        let found = ran.out.lines().find(|line| line.contains(text));
        let words = found.unwrap_or_else(|| panic!("{text} in {}", ran.out));
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line("ci.yml"),
        "acme/web ci.yml - base audit signed 2 5 2026-11-22 10:00:00Z yes"
    );
    assert!(
        line("x.yml").contains("default: deny-all signed (below)"),
        "{}",
        ran.out
    );
    assert!(
        line("umbrella/all").contains("refuses everything -"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
    assert!(
        ran.out
            .contains("3 workflows: 1 ready to block, 1 without a policy, 1 below the demanded assurance"),
        "{}",
        ran.out
    );
}

#[test]
fn the_control_plane_understands_every_filter() {
    let plane = Plane::new();
    assert_eq!(plane.ok(&["coverage"]), "no such workflow was seen\n");
    store(&plane, &[event("first000", 60, &json!({}))]);
    plane.wait(plane.store.note_seen()).unwrap();
    for filter in [
        &[][..],
        &["--no-policy"],
        &["--ready"],
        &["--below-min-assurance"],
    ] {
        let told = plane.json(&[&["coverage", "--owner", "acme"], filter].concat());
        assert!(told["counters"]["all"].is_u64(), "{told}");
        let seen = told["items"].as_array().unwrap().len();
        assert!(seen <= 1, "{told}");
    }
    let both = Ran::of(
        tidegate(&["coverage", "--ready", "--no-policy"])
            .output()
            .unwrap(),
    );
    assert_eq!(both.code, 2, "{}", both.err);
}
