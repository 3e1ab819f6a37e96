//! `tidegate policy sync`, against the real store: what it plans, does, refuses, and how it goes on.

use serde_json::{Value, json};
use tidegate_control::model::{NewToken, Role};

use crate::fake::Fake;
use crate::plane::{POLICY, Plane, Ran, tidegate, wanted};

fn file(plane: &Plane, name: &str, attach: &str, policy: &str) {
    let indented = policy.replace('\n', "\n  ");
    let indented = indented.trim_end();
    let text = format!("# about {name}\nname: {name}\nattach: [{attach}]\npolicy:\n  {indented}\n");
    plane.write(&format!("policies/{name}.yaml"), &text);
}

fn attachments(plane: &Plane, name: &str) -> Value {
    plane.json(&["policy", "show", name])["attachments"].clone()
}

#[test]
fn a_directory_is_planned_applied_and_then_in_step() {
    let plane = Plane::new();
    file(&plane, "base", "org:Acme, repo:acme/web", POLICY);
    file(&plane, "extra/deep", "", "egress-policy: audit\n");
    let text = std::fs::read_to_string(plane.path("policies/extra/deep.yaml")).unwrap();
    plane.write(
        "policies/extra/deep.yaml",
        &text.replace("name: extra/deep", "name: deep"),
    );
    let out = plane.ok(&["policy", "sync", "policies", "--dry-run"]);
    let planned = "+ create base\n+ create deep\n+ attach base: org:acme repo:acme/web\n";
    assert_eq!(out, format!("{planned}3 steps to do; this was a dry run\n"));
    assert_eq!(plane.json(&["policy", "list"])["counters"]["total"], 0);
    assert_eq!(
        plane.ok(&["policy", "sync", "policies"]),
        format!("{planned}3 steps done\n")
    );
    assert_eq!(
        plane.ok(&["policy", "show", "base", "--yaml"]),
        POLICY,
        "comments and order are kept"
    );
    assert_eq!(attachments(&plane, "base"), json!(["org:acme", "repo:acme/web"]));
    let again = plane.ok(&["policy", "sync", "policies"]);
    assert_eq!(again, "  2 policies unchanged\nnothing to do\n");
    let json = plane.json(&["policy", "sync", "policies", "--dry-run"]);
    assert_eq!(
        json,
        json!({"plan": {"steps": [], "unchanged": 2, "kept": []}, "applied": false})
    );
}

#[test]
fn scopes_move_texts_change_and_policies_without_a_file_go_only_when_pruned() {
    let plane = Plane::new();
    file(&plane, "a", "org:acme, repo:acme/web", POLICY);
    file(&plane, "b", "repo:acme/api", POLICY);
    file(&plane, "c", "cluster:prod", POLICY);
    plane.ok(&["policy", "sync", "policies"]);
    std::fs::remove_file(plane.path("policies/c.yaml")).unwrap();
    file(&plane, "a", "org:acme", &POLICY.replace("443", "8443"));
    file(&plane, "b", "repo:acme/web", POLICY);
    file(&plane, "d", "cluster:prod", POLICY);
    let out = plane.ok(&["policy", "sync", "policies"]);
    for line in [
        "+ create d\n",
        "~ move to b: repo:acme/web (from a)\n",
        "~ move to d: cluster:prod (from c)\n",
        "- detach b: repo:acme/api\n",
        "~ update a\n    @@",
        "    -  - github.com:443\n    +  - github.com:8443\n",
        "  1 policy has no file and stays: c\n",
        "5 steps done\n",
    ] {
        assert!(out.contains(line), "{line:?} in {out}");
    }
    assert_eq!(attachments(&plane, "a"), json!(["org:acme"]));
    assert_eq!(attachments(&plane, "b"), json!(["repo:acme/web"]));
    assert_eq!(attachments(&plane, "c"), json!([]));
    assert_eq!(attachments(&plane, "d"), json!(["cluster:prod"]));
    assert!(plane.ok(&["policy", "history", "b"]).contains("from=acme/a"));
    let out = plane.ok(&["policy", "sync", "policies", "--prune"]);
    assert!(
        out.contains("- delete c\n") && out.contains("1 step done\n"),
        "{out}"
    );
    assert!(plane.fails(&["policy", "show", "c"]).contains("(HTTP 404)"));
}

#[test]
fn more_than_twenty_policies_are_synced_in_one_go() {
    let plane = Plane::new();
    for n in 0..120 {
        file(&plane, &format!("p{n:03}"), &format!("repo:acme/r{n}"), POLICY);
    }
    let out = plane.ok(&["policy", "sync", "policies"]);
    assert!(out.ends_with("240 steps done\n"), "{out}");
    assert!(
        plane
            .ok(&["policy", "sync", "policies", "--prune"])
            .ends_with("nothing to do\n")
    );
}

#[test]
fn whatever_is_wrong_with_any_file_ends_it_before_anything_is_changed() {
    let plane = Plane::new();
    file(&plane, "good", "", POLICY);
    let nothing_changed = |said: &[&str]| {
        let err = plane.fails(&["policy", "sync", "policies"]);
        for text in said {
            assert!(err.contains(text), "{text:?} in {err}");
        }
        assert_eq!(plane.json(&["policy", "list"])["counters"]["total"], 0, "{err}");
    };
    // The grammar, here: the caret stands in the file as it is.
    plane.write(
        "policies/bad.yaml",
        "name: bad\npolicy:\n    egress-policy: block\n    allowed-endpoint: []\n",
    );
    nothing_changed(&[
        "--> policies/bad.yaml:4:5",
        "4 |     allowed-endpoint: []\n  |     ^^^^",
        "1 file has errors",
    ]);
    // What only the control plane knows: there is no such set.
    plane.write(
        "policies/bad.yaml",
        "name: bad\npolicy:\n    egress-policy: block\n    use: [nowhere]\n",
    );
    nothing_changed(&[
        "--> policies/bad.yaml:4:11",
        "acme has no endpoint set `nowhere`",
        "1 file has errors",
    ]);
    let err = plane.fails(&["policy", "sync", "policies", "--dry-run"]);
    assert!(err.contains("no endpoint set"), "{err}");
    // Names and scopes that two files have.
    plane.write(
        "policies/bad.yaml",
        "name: good\npolicy: {egress-policy: audit}\n",
    );
    nothing_changed(&["policies/good.yaml:2: the name \"good\" stands in policies/bad.yaml:1 too"]);
    plane.write(
        "policies/bad.yaml",
        "name: ../bad\npolicy: {egress-policy: audit}\n",
    );
    let err = plane.fails(&["policy", "sync", "policies"]);
    assert!(
        err.contains("is not allowed") && err.contains("+ create ../bad"),
        "{err}"
    );
}

#[test]
fn an_empty_directory_does_not_delete_everything() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    std::fs::create_dir(plane.path("empty")).unwrap();
    let err = plane.fails(&["policy", "sync", "empty", "--prune"]);
    assert!(err.contains("would delete every policy of acme"), "{err}");
    assert!(plane.ok(&["policy", "sync", "empty"]).contains("nothing to do"));
    assert!(
        plane
            .fails(&["policy", "sync", "none", "--prune"])
            .contains("can't read the directory none")
    );
}

#[test]
fn another_owners_scope_is_never_taken_and_the_failure_says_what_was_done() {
    let plane = Plane::new();
    let theirs = plane.write("theirs.yaml", POLICY);
    let theirs = theirs.to_str().unwrap();
    plane.ok(&["policy", "apply", theirs, "--name", "theirs", "--owner", "other"]);
    plane.ok(&["policy", "attach", "theirs", "cluster:prod", "--owner", "other"]);
    file(&plane, "a", "org:acme", POLICY);
    file(&plane, "b", "cluster:prod", POLICY);
    file(&plane, "c", "repo:acme/web", POLICY);
    let err = plane.fails(&["policy", "sync", "policies"]);
    assert!(
        err.contains("4 steps were done:\n  + create a\n  + create b\n  + create c\n  + attach a: org:acme"),
        "{err}"
    );
    assert!(
        err.contains("1 step was not done:\n  + attach c: repo:acme/web\n"),
        "{err}"
    );
    assert!(
        err.contains("+ attach b: cluster:prod: ") && err.contains("theirs") && err.contains("(HTTP 409)"),
        "{err}"
    );
    // Running again goes on where it stopped.
    plane.ok(&["policy", "detach", "theirs", "cluster:prod", "--owner", "other"]);
    let out = plane.ok(&["policy", "sync", "policies"]);
    assert_eq!(
        out,
        "+ attach b: cluster:prod\n+ attach c: repo:acme/web\n  1 policy unchanged\n2 steps done\n"
    );
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_written_over() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    let one = plane.json(&["policy", "show", "base"]);
    let mut newer = one.clone();
    newer["version"] = 2.into();
    newer["updated_by"] = "ann".into();
    let mut attached = one.clone();
    attached["attachments"] = json!(["org:acme"]);
    let list = json!({"items": [one], "next": null}).to_string();
    let checked = json!({"ok": true, "diagnostics": []}).to_string();
    let etag = "etag: \"1\"\r\n";
    file(&plane, "base", "", "egress-policy: audit\n");
    let dir = plane.path("policies");
    let fake = Fake::new(vec![
        ("200 OK", "", list.clone()),
        ("200 OK", "", checked),
        ("200 OK", etag, newer.to_string()),
    ]);
    let ran = fake.run(&["policy", "sync", dir.to_str().unwrap(), "--owner", "acme"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("nothing was changed yet"), "{}", ran.err);
    assert!(
        ran.err
            .contains("~ update base: policy base was changed meanwhile, by ann"),
        "{}",
        ran.err
    );
    assert_eq!(fake.asked.lock().unwrap().len(), 3);
    // A policy that is to be deleted was attached since: its scope would be without one.
    std::fs::remove_file(dir.join("base.yaml")).unwrap();
    plane.write(
        "policies/other.yaml",
        "name: other\npolicy: {egress-policy: audit}\n",
    );
    let mut other = one.clone();
    other["name"] = "other".into();
    other["yaml"] = "{egress-policy: audit}\n".into();
    let list = json!({"items": [one, other], "next": null}).to_string();
    let fake = Fake::new(vec![("200 OK", "", list), ("200 OK", etag, attached.to_string())]);
    let ran = fake.run(&[
        "policy",
        "sync",
        dir.to_str().unwrap(),
        "--owner",
        "acme",
        "--prune",
    ]);
    assert!(
        ran.err.contains("policy base was attached to org:acme meanwhile"),
        "{}",
        ran.err
    );
    assert!(
        fake.asked
            .lock()
            .unwrap()
            .iter()
            .all(|head| head.starts_with("GET "))
    );
}

#[test]
fn a_viewer_can_make_a_dry_run() {
    let plane = Plane::new();
    let viewer = NewToken {
        owners: vec!["acme".into()],
        ..wanted(Role::Viewer, "ci")
    };
    plane.write("viewer", &plane.token(&viewer));
    file(&plane, "base", "org:acme", POLICY);
    let sync = |more: &[&str]| {
        let mut command = tidegate(&[
            "policy",
            "sync",
            "policies",
            "--owner",
            "Acme",
            "--token-file",
            "viewer",
        ]);
        command
            .args(more)
            .current_dir(plane.path(""))
            .env("TIDEGATE_SERVER", &plane.server);
        Ran::of(command.output().unwrap())
    };
    assert_eq!(sync(&["--dry-run"]).code, 0);
    let ran = sync(&[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("nothing was changed yet") && ran.err.contains("(HTTP 403)"),
        "{}",
        ran.err
    );
}
