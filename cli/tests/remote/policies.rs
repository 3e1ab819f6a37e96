//! `tidegate policy`, command by command.

use serde_json::Value;
use tidegate_control::model::Role;

use crate::fake::Fake;
use crate::plane::{POLICY, Plane, fed, wanted};

const OTHER: &str = "egress-policy: audit\nallowed-endpoints:\n  - pypi.example:443\n";

#[test]
fn a_file_becomes_a_policy_then_its_next_version_then_nothing() {
    let plane = Plane::new();
    plane.write("ci.yaml", POLICY);
    let out = plane.ok(&["policy", "apply", "ci.yaml"]);
    assert!(
        out.contains("ci: new, 4 lines") && out.contains("policy ci is at version 1"),
        "{out}"
    );
    let changed = POLICY.replace("443", "8443");
    plane.write("ci.yaml", &changed);
    let out = plane.ok(&["policy", "apply", "ci.yaml", "--dry-run"]);
    assert!(
        out.contains("-  - github.com:443\n+  - github.com:8443\n"),
        "{out}"
    );
    assert_eq!(
        plane.json(&["policy", "show", "ci"])["version"],
        1,
        "a dry run writes nothing"
    );
    let out = plane.ok(&["policy", "apply", "ci.yaml", "--next-job"]);
    assert!(
        out.contains("ci: version 1 with +1 -1 lines") && out.contains("is at version 2"),
        "{out}"
    );
    let versions = plane.json(&["policy", "show", "ci", "--version", "2"]);
    assert_eq!(versions["apply"], "next-job");
    let out = plane.ok(&["policy", "apply", "ci.yaml"]);
    assert!(out.contains("ci: unchanged, version 2"), "{out}");
    assert_eq!(plane.json(&["policy", "apply", "ci.yaml"])["version"], 2);
    let stdin = fed(plane.command(&["policy", "apply", "-", "--name", "piped"]), OTHER);
    assert_eq!(stdin.code, 0, "{}", stdin.err);
    assert_eq!(plane.ok(&["policy", "show", "piped", "--yaml"]), OTHER);
}

#[test]
fn a_policy_with_errors_is_shown_with_carets_and_not_stored() {
    let plane = Plane::new();
    plane.write(
        "ci.yaml",
        "egress-policy: block\nallowed-endpoint:\n  - github.com:443\n",
    );
    for more in [&["--dry-run"][..], &[]] {
        let err = plane.fails(&[&["policy", "apply", "ci.yaml"], more].concat());
        assert!(err.contains("--> ci.yaml:2:1"), "{err}");
        assert!(err.contains("2 | allowed-endpoint:\n  | ^^^^"), "{err}");
        assert!(err.contains("did you mean `allowed-endpoints`"), "{err}");
    }
    let err = plane.fails(&["policy", "apply", "ci.yaml"]);
    assert!(
        err.contains("tidegate: policy \"ci\" was not applied: the document has errors"),
        "{err}"
    );
    assert!(err.contains("(HTTP 422)"), "{err}");
    assert!(plane.fails(&["policy", "show", "ci"]).contains("(HTTP 404)"));
}

#[test]
fn a_policy_with_warnings_is_stored_and_they_are_shown() {
    let plane = Plane::new();
    plane.write(
        "ci.yaml",
        "egress-policy: block\nallowed-endpoints:\n  - '*.com:443'\n",
    );
    let ran = plane.run(&["policy", "apply", "ci.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("warning: ") && ran.err.contains("--> ci.yaml:3:"),
        "{}",
        ran.err
    );
}

#[test]
fn lists_show_what_is_asked_for() {
    let plane = Plane::new();
    assert!(
        plane
            .ok(&["policy", "list"])
            .starts_with("no such policy\n\nacme has 0 policies")
    );
    plane.policy("base", POLICY);
    plane.policy("loose", OTHER);
    plane.ok(&["policy", "attach", "base", "repo:acme/web"]);
    let all = plane.ok(&["policy", "list"]);
    assert!(all.contains("NAME") && all.contains("repo:acme/web"), "{all}");
    assert!(
        all.contains("acme has 2 policies: 1 in block mode, 1 in audit mode, 1 unattached"),
        "{all}"
    );
    let names = |args: &[&str]| -> Vec<String> {
        let list = plane.json(&[&["policy", "list"], args].concat());
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&["--search", "OO"]), ["loose"]);
    assert_eq!(names(&["--mode", "block"]), ["base"]);
    assert_eq!(names(&["--unattached"]), ["loose"]);
    assert_eq!(names(&["--endpoint", "github.com:443"]), ["base"]);
    assert_eq!(names(&[]), ["base", "loose"]);
}

#[test]
fn more_policies_than_a_page_holds_are_all_listed() {
    let plane = Plane::new();
    let files: Vec<String> = (0..230).map(|n| format!("made/p{n:03}.yaml")).collect();
    for file in &files {
        plane.write(file, "egress-policy: audit\n");
    }
    let mut args = vec!["policy", "apply"];
    args.extend(files.iter().map(String::as_str));
    plane.ok(&args);
    let list = plane.json(&["policy", "list"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 230);
    assert_eq!(list["next"], Value::Null);
    assert_eq!(list["counters"]["total"], 230);
}

#[test]
fn a_policy_is_shown_as_it_was_written() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    plane.policy("base", OTHER);
    let out = plane.ok(&["policy", "show", "base"]);
    assert!(
        out.contains("policy       acme/base\n") && out.contains("version      2\n"),
        "{out}"
    );
    assert!(out.ends_with(&format!("\n{OTHER}")), "{out}");
    assert_eq!(plane.ok(&["policy", "show", "base", "--yaml"]), OTHER);
    assert_eq!(
        plane.ok(&["policy", "show", "base", "--version", "1", "--yaml"]),
        POLICY
    );
    let out = plane.ok(&["policy", "show", "base", "--version", "1"]);
    assert!(out.contains("version  1\n") && out.contains("by root"), "{out}");
    assert!(
        plane
            .fails(&["policy", "show", "base", "--version", "9"])
            .contains("(HTTP 404)")
    );
}

#[test]
fn a_scope_that_is_held_names_its_holder_and_is_taken_when_that_is_meant() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    plane.policy("other", OTHER);
    let out = plane.ok(&["policy", "attach", "base", "repo:Acme/Web", "org:acme"]);
    assert!(
        out.contains("policy base is attached to org:acme repo:acme/web"),
        "{out}"
    );
    let err = plane.fails(&["policy", "attach", "other", "repo:acme/web"]);
    assert!(
        err.contains("repo:acme/web") && err.contains("base") && err.contains("(HTTP 409)"),
        "{err}"
    );
    let out = plane.ok(&["policy", "attach", "other", "repo:acme/web", "--replace"]);
    assert!(
        out.contains("repo:acme/web was taken from policy acme/base"),
        "{out}"
    );
    let out = plane.ok(&["policy", "detach", "base", "org:acme"]);
    assert!(out.contains("policy base is attached nowhere"), "{out}");
    assert!(
        plane
            .fails(&["policy", "attach", "base", "team:x"])
            .contains("is not a scope")
    );
}

#[test]
fn who_changed_what_is_in_the_history_with_its_differences() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    plane.policy("base", &POLICY.replace("443", "8443"));
    plane.ok(&["policy", "attach", "base", "org:acme"]);
    let out = plane.ok(&["policy", "history", "base"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[1].contains("policy.attached") && lines[1].contains("scope=org:acme"),
        "{out}"
    );
    assert!(
        lines[2].contains("policy.updated") && lines[2].contains("from=1") && lines[2].contains("cli"),
        "{out}"
    );
    assert!(
        lines[3].contains("policy.created") && lines[3].contains("root"),
        "{out}"
    );
    let out = plane.ok(&["policy", "history", "base", "--diff"]);
    assert!(
        out.contains("-  - github.com:443\n+  - github.com:8443\n"),
        "{out}"
    );
    let ran = plane.run(&["policy", "history", "base", "--limit", "1"]);
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);
    assert!(ran.err.contains("and more; --limit"), "{}", ran.err);
    assert_eq!(
        plane.json(&["policy", "history", "base"])["items"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let diff = plane.ok(&["policy", "diff", "base"]);
    assert!(
        diff.contains("--- acme/base (version 1)\n+++ acme/base (version 2)\n"),
        "{diff}"
    );
    let diff = plane.ok(&["policy", "diff", "base", "--from", "2", "--to", "2"]);
    assert_eq!(diff, "versions 2 and 2 have the same text\n");
    assert_eq!(plane.json(&["policy", "diff", "base", "--from", "1"])["added"], 1);
}

#[test]
fn a_policy_goes_back_and_is_deleted_and_its_history_stays() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    plane.policy("base", OTHER);
    plane.ok(&["policy", "attach", "base", "org:acme"]);
    let out = plane.ok(&["policy", "rollback", "base", "--to", "1"]);
    assert_eq!(out, "policy base is at version 3, with the text of version 1\n");
    assert_eq!(plane.ok(&["policy", "show", "base", "--yaml"]), POLICY);
    let policy = plane.json(&["policy", "show", "base"]);
    let out = plane.ok(&["policy", "delete", "base"]);
    assert_eq!(out, "policy base deleted; detached from org:acme\n");
    assert!(plane.fails(&["policy", "delete", "base"]).contains("(HTTP 404)"));
    let out = plane.ok(&[
        "policy",
        "history",
        "base",
        "--id",
        policy["id"].as_str().unwrap(),
    ]);
    assert!(out.contains("policy.deleted"), "{out}");
}

#[test]
fn names_with_spaces_and_other_scripts_reach_their_policy() {
    let plane = Plane::new();
    for name in ["büro netz", "налог 7", "50.percent"] {
        plane.policy(name, OTHER);
        assert_eq!(plane.json(&["policy", "show", name])["name"], name);
        plane.ok(&["policy", "delete", name]);
    }
}

#[test]
fn a_name_is_one_segment_of_the_path_whatever_is_in_it() {
    for (name, segment) in [
        ("a/b", "a%2Fb"),
        ("../tokens", "..%2Ftokens"),
        ("50%2F?x#y", "50%252F%3Fx%23y"),
        ("büro netz", "b%C3%BCro%20netz"),
        ("a\\b;c", "a%5Cb;c"),
    ] {
        let fake = Fake::new(vec![("404 Not Found", "", "{\"detail\": \"none\"}".into())]);
        let ran = fake.run(&["policy", "show", name, "--owner", "acme"]);
        assert_eq!(ran.err, "tidegate: none (HTTP 404)\n");
        let asked = fake.asked.lock().unwrap()[0].clone();
        let line = format!("GET /api/v1/orgs/acme/policies/{segment} HTTP/1.1\r\n");
        assert!(asked.starts_with(&line), "{asked}");
    }
}

#[test]
fn the_effective_policy_is_told_by_facet() {
    let plane = Plane::new();
    plane.policy("base", POLICY);
    plane.ok(&["policy", "attach", "base", "org:acme"]);
    let out = plane.ok(&[
        "policy",
        "effective",
        "--repo",
        "Acme/Web",
        "--workflow",
        "ci.yml",
        "--cluster",
        "prod",
    ]);
    assert!(
        out.contains("egress    policy base version 1 (block), from org:acme\n"),
        "{out}"
    );
    assert!(out.contains("lockdown  nothing decides it\n"), "{out}");
    for scope in [
        "workflow:acme/web/ci.yml",
        "repo:acme/web",
        "org:acme",
        "cluster:prod",
    ] {
        assert!(out.contains(scope), "{out}");
    }
    let json = plane.json(&["policy", "effective", "--owner", "acme"]);
    assert_eq!(json["egress"]["scope"], "org:acme");
    let out = plane.ok(&["policy", "effective", "--cluster", "prod"]);
    assert!(out.contains("the default of the job's network"), "{out}");
}

#[test]
fn a_viewer_can_check_a_file_but_not_apply_it() {
    let plane = Plane::new();
    plane.write("viewer", &plane.token(&wanted(Role::Viewer, "dash")));
    plane.write("ci.yaml", POLICY);
    let by = |args: &[&str]| {
        let mut command = crate::plane::tidegate(args);
        command
            .env("TIDEGATE_SERVER", &plane.server)
            .arg("--token-file")
            .arg(plane.path("viewer"));
        command.current_dir(plane.path(""));
        crate::plane::Ran::of(command.output().unwrap())
    };
    assert_eq!(
        by(&["policy", "apply", "ci.yaml", "--owner", "acme", "--dry-run"]).code,
        0
    );
    let ran = by(&["policy", "apply", "ci.yaml", "--owner", "acme"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("needs admin or editor (HTTP 403)"),
        "{}",
        ran.err
    );
}
