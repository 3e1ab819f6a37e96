//! `tidegate audit`: the log as it is, and logs that were tampered with.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::plane::{POLICY, Plane};

/// A control plane with a few entries, and all of them.
fn log() -> (Plane, Vec<Value>) {
    let plane = Plane::new();
    for n in 0..3 {
        plane.policy(&format!("p{n}"), POLICY);
    }
    plane.ok(&["policy", "attach", "p0", "org:acme"]);
    let list = plane.json(&["audit", "list", "--limit", "1000"]);
    let mut entries = list["items"].as_array().unwrap().clone();
    entries.reverse();
    (plane, entries)
}

/// A server that shows these entries.
fn showing(entries: &[Value]) -> Fake {
    Fake::new(vec![(
        "200 OK",
        "",
        json!({"items": entries, "next": null}).to_string(),
    )])
}

#[test]
fn entries_are_listed_newest_first() {
    let (plane, _) = log();
    let out = plane.ok(&["audit", "list", "--owner", "acme"]);
    let first = out.lines().nth(1).unwrap();
    assert!(
        first.contains("policy.attached") && first.contains("root") && first.contains("cli"),
        "{out}"
    );
}

#[test]
fn a_good_chain_is_verified_and_its_head_remembered() {
    let (plane, entries) = log();
    let out = plane.ok(&["audit", "verify"]);
    let head = out.lines().last().unwrap().to_owned();
    let last = entries.last().unwrap();
    assert_eq!(
        head,
        format!("{}:{}", last["seq"], last["hash"].as_str().unwrap())
    );
    let json = plane.json(&["audit", "verify"]);
    assert_eq!(
        (&json["seq"], &json["hash"], &json["entries"]),
        (&last["seq"], &last["hash"], &last["seq"])
    );
    plane.policy("later", POLICY);
    plane.ok(&["audit", "verify", "--head", &head]);
    plane.ok(&["audit", "verify", "--head", last["hash"].as_str().unwrap()]);
    let out = plane.ok(&["audit", "verify", "--since", &head]);
    assert!(
        out.starts_with("2 entries follow from each other"),
        "the remembered one and the new one: {out}"
    );
}

#[test]
fn more_entries_than_a_page_holds_are_verified() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    let scopes: Vec<String> = (0..450).map(|n| format!("repo:acme/r{n}")).collect();
    let mut args = vec!["policy", "attach", "base"];
    args.extend(scopes.iter().map(String::as_str));
    plane.ok(&args);
    let json = plane.json(&["audit", "verify"]);
    assert!(json["entries"].as_u64().unwrap() > 450, "{json}");
    let since = format!("{}:{}", json["seq"], json["hash"].as_str().unwrap());
    assert_eq!(plane.json(&["audit", "verify", "--since", &since])["entries"], 1);
}

#[test]
fn every_kind_of_tampering_is_found_here_whatever_the_server_says() {
    let (_plane, entries) = log();
    let verify = |entries: &[Value], more: &[&str]| {
        let ran = showing(entries).run(&[&["audit", "verify"], more].concat());
        (ran.code, ran.err)
    };
    assert_eq!(verify(&entries, &[]).0, 0);
    let mut edited = entries.clone();
    edited[1]["actor"]["subject"] = "nobody".into();
    let mut removed = entries.clone();
    removed.remove(2);
    let mut moved = entries.clone();
    moved.swap(1, 2);
    let mut forged = entries.clone();
    forged[1]["hash"] = "0".repeat(64).into();
    for (entries, said) in [
        (edited, "entry 2 was edited"),
        (removed, "entry 3 is missing"),
        (moved, "entry 2 is missing"),
        (forged, "entry 2 was edited"),
    ] {
        let (code, err) = verify(&entries, &[]);
        assert_eq!(code, 1);
        assert!(
            err.contains("the audit log is not what it was") && err.contains(said),
            "{err}"
        );
    }
    let last = entries.last().unwrap();
    let head = format!("{}:{}", last["seq"], last["hash"].as_str().unwrap());
    let short = &entries[..entries.len() - 1];
    assert_eq!(verify(short, &[]).0, 0, "nobody remembers the last one");
    for more in [
        ["--head", &head],
        ["--head", last["hash"].as_str().unwrap()],
        ["--since", &head],
    ] {
        let shown = if more[0] == "--since" { &[] } else { short };
        let (code, err) = verify(shown, &more);
        assert_eq!(code, 1, "{more:?}: {err}");
        assert!(err.contains("the audit log is not what it was"), "{err}");
    }
}

#[test]
fn a_token_that_sees_a_part_of_the_log_is_told_why_it_cannot_verify() {
    let (plane, _) = log();
    let limited = plane.ok(&[
        "token", "create", "--role", "viewer", "--name", "v", "--owners", "acme", "--quiet",
    ]);
    plane.write("limited", &limited);
    let mut command = crate::plane::tidegate(&["audit", "verify", "--token-file"]);
    command
        .arg(plane.path("limited"))
        .env("TIDEGATE_SERVER", &plane.server);
    let ran = crate::plane::Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("a token that is limited to owners sees a part of the log only"),
        "{}",
        ran.err
    );
}
