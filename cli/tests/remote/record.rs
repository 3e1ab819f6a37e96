//! `tidegate baseline`, `simulate`, `detection` and `policy create`: what the record of jobs is good for, from a shell.

use serde_json::{Value, json};

use crate::events::{event, store};
use crate::plane::{Plane, Ran, tidegate};

const CANDIDATE: &str = "egress-policy: block\nplatform: none\nallowed-endpoints:\n  - forge.test:443\n";

/// A run of acme/web reaches a name, or is refused it.
fn reach(run: u32, name: &str, more: &Value) -> Value {
    let mut made = event(&format!("e{run}"), 60, more);
    made["name"] = name.into();
    made["job"]["id"] = format!("job_{run}").into();
    made["job"]["run_id"] = run.to_string().into();
    made["job"]["event"] = "push".into();
    made
}

/// A baseline that was stable before a run reached what none had; and something refused, of a hostile name.
fn filled() -> Plane {
    let plane = Plane::new();
    let none = json!({});
    let mut events = vec![reach(1, "once.test", &none)];
    events.extend((1..=120).map(|run| reach(run, "forge.test", &none)));
    store(&plane, &events);
    store(&plane, &[reach(200, "late.test", &none)]);
    let refused = json!({"verdict": "refuse", "reason": "not-allowed", "rule": null});
    store(
        &plane,
        &[
            reach(201, "\u{1b}[2Jevil.test", &refused),
            reach(202, "new.test", &refused),
        ],
    );
    plane
}

/// The binary, whatever comes of it.
fn ran(plane: &Plane, args: &[&str]) -> Ran {
    Ran::of(plane.command(args).output().unwrap())
}

fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && c != '\n')
}

/// The id of the detection of an endpoint.
fn detection(plane: &Plane, endpoint: &str) -> String {
    let list = plane.json(&["detection", "list"]);
    let found = list["items"].as_array().unwrap().iter();
    let mut of = found.filter(|one| one["evidence"]["endpoint"].as_str().unwrap().ends_with(endpoint));
    of.next().unwrap_or_else(|| panic!("{endpoint}: {list:#}"))["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_baseline_is_shown_exported_and_made_a_policy() {
    let plane = filled();
    let shown = plane.ok(&["baseline", "show", "repo:acme/web"]);
    let line = |name: &str| {
        shown
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("{name} in {shown}"))
    };
    assert!(
        line("forge.test").contains("443/tcp") && line("forge.test").contains(" yes "),
        "{shown}"
    );
    assert!(line("once.test").contains("single-run"), "{shown}");
    assert!(line("late.test").contains("open-detection"), "{shown}");
    assert!(shown.contains("repo:acme/web is unstable: 12"), "{shown}");
    assert_eq!(
        plane.json(&["baseline", "show", "repo:acme/web"])["scope"],
        "repo:acme/web"
    );
    assert_eq!(
        plane.ok(&["baseline", "export", "repo:acme/web"]),
        "forge.test:443\n"
    );
    assert_eq!(
        plane.json(&["baseline", "export", "repo:acme/web", "--min-runs", "1"]),
        json!(["forge.test:443", "once.test:443"])
    );
    let nothing = ran(&plane, &["baseline", "export", "repo:acme/other"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (0, ""));
    assert!(
        nothing.err.contains("nothing of repo:acme/other"),
        "{}",
        nothing.err
    );

    let made = plane.ok(&["policy", "create", "web", "--from-baseline", "repo:acme/web"]);
    assert!(
        made.contains("egress-policy: audit") && made.contains("forge.test:443"),
        "{made}"
    );
    assert!(
        made.contains("web is made with 1 endpoint, attached to nothing yet"),
        "{made}"
    );
    let err = plane.fails(&["policy", "create", "other", "--from-baseline", "repo:acme/other"]);
    assert!(
        err.contains("there is nothing to import from repo:acme/other"),
        "{err}"
    );
    let wrong = ran(&plane, &["baseline", "show", "acme/web"]);
    assert!(
        wrong.code == 1 && wrong.err.contains("is not a scope"),
        "{}",
        wrong.err
    );
}

#[test]
fn a_policy_is_tried_and_the_exit_code_says_whether_it_breaks_something() {
    let plane = filled();
    plane.write("web.yaml", CANDIDATE);
    let tried = [
        "simulate",
        "web",
        "--file",
        "web.yaml",
        "--scope",
        "repo:acme/web",
    ];
    let answer = ran(&plane, &tried);
    assert_eq!(answer.code, 4, "{}{}", answer.out, answer.err);
    let line = answer
        .out
        .lines()
        .find(|line| line.contains("late.test"))
        .unwrap();
    assert!(
        line.contains("not-allowed") && line.contains("acme/web/ci.yml/build/200"),
        "{line}"
    );
    for said in [
        "newly refused: 2 calls (2 verdicts)",
        "unchanged: 1 call (120 verdicts) let through, 1 call (1 verdict) refused",
        "not known: 1 call (1 verdict)",
        "note: ",
    ] {
        assert!(answer.out.contains(said), "{said}: {}", answer.out);
    }
    assert!(is_plain(&answer.out), "{}", answer.out);
    let alias = ran(&plane, &[&["policy"][..], &tried, &["--json"]].concat());
    assert_eq!(alias.code, 4, "{}", alias.err);
    let json: Value = serde_json::from_str(&alias.out).unwrap();
    assert_eq!(
        json["counts"]["newly_refused"],
        json!({"calls": 2, "verdicts": 2})
    );
    // What breaks nothing.
    plane.write(
        "wide.yaml",
        "egress-policy: block\nallowed-endpoints: [\"*.test:443\"]\n",
    );
    let wide = ran(
        &plane,
        &[
            "simulate",
            "web",
            "--file",
            "wide.yaml",
            "--scope",
            "org:acme",
            "--since",
            "2h",
        ],
    );
    assert_eq!(wide.code, 0, "{}{}", wide.out, wide.err);
    assert!(
        wide.out.contains("newly permitted: 1 call (1 verdict)"),
        "{}",
        wide.out
    );
    // What is stored, where it is attached.
    plane.policy("base", CANDIDATE);
    let err = plane.fails(&["simulate", "base"]);
    assert!(err.contains("attached to nothing"), "{err}");
    plane.ok(&["policy", "attach", "base", "org:acme"]);
    let stored = ran(&plane, &["simulate", "base"]);
    assert_eq!(stored.code, 4);
    assert!(
        stored
            .out
            .starts_with("base (version 1) in block mode at org:acme\n"),
        "{}",
        stored.out
    );
    // A document that is wrong is shown with a caret.
    plane.write("wrong.yaml", "egress-policy: maybe\n");
    let wrong = ran(
        &plane,
        &["simulate", "web", "--file", "wrong.yaml", "--scope", "org:acme"],
    );
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("--> wrong.yaml:1:16"), "{}", wrong.err);
    let usage = Ran::of(tidegate(&["simulate"]).output().unwrap());
    assert_eq!(usage.code, 2);
}

#[test]
fn detections_are_listed_looked_at_and_dealt_with() {
    let plane = filled();
    let list = plane.ok(&["detection", "list", "--owner", "acme", "--status", "new"]);
    for said in [
        "New-Outbound-Network-Call",
        "late.test:443",
        "Domain-Blocked",
        "acme/web/ci.yml/build/200",
    ] {
        assert!(list.contains(said), "{said}: {list}");
    }
    assert!(is_plain(&list) && list.contains("\\u{1b}[2Jevil.test"), "{list}");
    let (late, evil) = (detection(&plane, "late.test"), detection(&plane, "evil.test"));
    let shown = plane.ok(&["detection", "show", &late]);
    assert!(
        shown.contains("evidence\n") && shown.contains("  endpoint: late.test\n"),
        "{shown}"
    );
    let done = plane.ok(&["detection", "suppress", &late, "--note", "the new mirror"]);
    assert_eq!(
        done,
        format!("{late} is suppressed; late.test:443 belongs to the baseline\n")
    );
    assert!(plane.ok(&["detection", "show", &late]).contains("the new mirror"));
    assert_eq!(
        plane.ok(&["baseline", "export", "repo:acme/web", "--min-runs", "1"]),
        "forge.test:443\nlate.test:443\nonce.test:443\n"
    );
    let done = plane.ok(&["detection", "resolve", &evil]);
    assert!(
        done.starts_with(&format!("{evil} is resolved; ")) && is_plain(&done),
        "{done}"
    );
    let resolved = plane.json(&["detection", "list", "--status", "resolved"]);
    assert_eq!(resolved["items"][0]["id"], evil.as_str());
    plane.ok(&["detection", "reopen", &evil]);
    assert_eq!(
        plane.ok(&["detection", "list", "--status", "resolved"]),
        "no such detection\n"
    );
    let err = plane.fails(&["detection", "show", "det_nothing"]);
    assert!(err.contains("(HTTP 404)"), "{err}");
}

#[test]
fn rules_suppress_what_is_new_and_what_comes() {
    let plane = filled();
    assert_eq!(plane.ok(&["detection", "rule", "list"]), "no such rule\n");
    let add = [
        "detection",
        "rule",
        "add",
        "late.test:443",
        "--repo",
        "acme/web",
        "--reason",
        "mirrors",
        "--expires",
        "30d",
    ];
    let made = plane.ok(&add);
    assert!(
        made.contains("suppresses late.test:443 from now on, and 1 detection that were new"),
        "{made}"
    );
    let id = made.split(' ').next().unwrap();
    let list = plane.ok(&["detection", "rule", "list"]);
    assert!(
        list.contains(id) && list.contains("mirrors") && list.contains("acme/web"),
        "{list}"
    );
    let shown = plane.json(&["detection", "show", &detection(&plane, "late.test")]);
    assert_eq!(
        (&shown["status"], &shown["suppression"]),
        (&json!("suppressed"), &json!(id))
    );
    let removed = plane.ok(&["detection", "rule", "remove", id]);
    assert_eq!(removed, format!("{id} is removed; what it suppressed stays so\n"));
    let err = plane.fails(&["detection", "rule", "add", "a..test", "--reason", "x"]);
    assert!(err.contains("empty label"), "{err}");
}
