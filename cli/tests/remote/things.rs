//! `tidegate set`, `job`, `lease`, `global-block`, `token` and `gateway list`.

use std::os::unix::fs::PermissionsExt;

use tidegate_control::model::Role;

use crate::plane::{Plane, wanted};

const SET: &str = "# ours\nendpoints:\n  - mirror.example:443\n";

#[test]
fn a_set_is_written_used_and_deleted_when_nobody_uses_it() {
    let plane = Plane::new();
    assert_eq!(plane.ok(&["set", "list"]), "acme has no endpoint sets\n");
    plane.write("corp.yaml", SET);
    let out = plane.ok(&["set", "apply", "corp.yaml", "--dry-run"]);
    assert!(out.contains("corp: new, 3 lines"), "{out}");
    assert!(
        plane
            .ok(&["set", "apply", "corp.yaml"])
            .contains("endpoint set corp is at version 1")
    );
    plane.write("corp.yaml", &SET.replace("443", "8443"));
    let out = plane.ok(&["set", "apply", "corp.yaml"]);
    assert!(
        out.contains("+  - mirror.example:8443") && out.contains("is at version 2"),
        "{out}"
    );
    assert!(
        plane
            .ok(&["set", "apply", "corp.yaml"])
            .contains("corp: unchanged, version 2")
    );
    plane.policy("base", "egress-policy: block\nuse: [corp]\n");
    let out = plane.ok(&["set", "list"]);
    assert!(out.contains("corp") && out.contains("base"), "{out}");
    let out = plane.ok(&["set", "show", "corp"]);
    assert!(out.contains("used by    base\n"), "{out}");
    assert_eq!(
        plane.ok(&["set", "show", "corp", "--yaml"]),
        SET.replace("443", "8443")
    );
    assert_eq!(plane.json(&["set", "show", "corp"])["version"], 2);
    let err = plane.fails(&["set", "delete", "corp"]);
    assert!(err.contains("base") && err.contains("(HTTP 409)"), "{err}");
    plane.ok(&["policy", "delete", "base"]);
    assert_eq!(
        plane.ok(&["set", "delete", "corp"]),
        "endpoint set corp deleted\n"
    );
    assert!(plane.fails(&["set", "show", "corp"]).contains("(HTTP 404)"));
}

#[test]
fn a_set_with_errors_is_shown_with_carets() {
    let plane = Plane::new();
    plane.write("corp.yaml", "endpoints:\n  - 'mirror.example:99999'\n");
    for more in [&["--dry-run"][..], &[]] {
        let err = plane.fails(&[&["set", "apply", "corp.yaml"], more].concat());
        assert!(err.contains("--> corp.yaml:2:") && err.contains('^'), "{err}");
    }
}

#[test]
fn a_provisioner_starts_sees_and_ends_jobs() {
    let plane = Plane::new();
    plane.gateway();
    let start = [
        "job",
        "start",
        "--repo",
        "Acme/Web",
        "--workflow",
        "ci.yml",
        "--job",
        "build",
    ];
    let err = plane.fails(&[&start[..], &["--source", "192.0.2.1"]].concat());
    assert!(err.contains("sources") && err.contains("(HTTP 422)"), "{err}");
    let started = plane.json(
        &[
            &start[..],
            &["--source", "10.77.1.2", "--run-id", "77", "--ref", "main"],
        ]
        .concat(),
    );
    let id = started["id"].as_str().unwrap();
    let out = plane.ok(&["job", "list"]);
    assert!(
        out.contains(id) && out.contains("acme/web") && out.contains("runs"),
        "{out}"
    );
    let out = plane.ok(&["job", "show", id]);
    assert!(
        out.contains("assurance   declared (provisioner)\n") && out.contains("cluster     prod\n"),
        "{out}"
    );
    assert_eq!(plane.json(&["job", "show", id])["identity"]["ref"], "main");
    let out = plane.ok(&["lease", "list", "--source", "10.77.1.2"]);
    assert!(out.contains("10.77.1.2") && out.contains(id), "{out}");
    assert_eq!(plane.ok(&["job", "end", id]), format!("job {id} ended\n"));
    assert_eq!(
        plane.ok(&["job", "end", id]),
        format!("job {id} had ended before\n")
    );
    assert_eq!(plane.ok(&["lease", "list"]), "no such lease\n");
    let out = plane.ok(&["job", "list", "--ended"]);
    assert!(out.contains("by operator"), "{out}");
    assert_eq!(plane.ok(&["job", "list", "--alive"]), "no such job\n");
    let out = plane.ok(&[&start[..], &["--source", "10.77.1.3", "--source", "10.77.1.4"]].concat());
    assert!(out.contains("egress   the default of its network\n"), "{out}");
    assert!(
        plane
            .ok(&["lease", "end", "--source", "10.77.1.4", "--network", "runners"])
            .contains(" ended")
    );
    assert!(
        plane
            .fails(&["lease", "end", "--source", "10.77.1.3"])
            .contains("(HTTP 404)")
    );
    assert!(plane.fails(&["job", "show", "job_none"]).contains("(HTTP 404)"));
}

#[test]
fn the_block_list_grows_and_shrinks_by_the_deployments_entries() {
    let plane = Plane::new();
    let out = plane.ok(&[
        "global-block",
        "add",
        "Evil.example",
        "--reason",
        "incident 42",
        "--expires",
        "14d",
    ]);
    assert!(
        out.starts_with("evil.example is blocked everywhere (blk_"),
        "{out}"
    );
    let list = plane.json(&["global-block", "list", "--layer", "deployment"]);
    assert_eq!(list["items"][0]["pattern"], "evil.example");
    assert!(list["items"][0]["expires_at"].is_string());
    plane.write("list.txt", "# ours\na.example\nb.example\nevil.example\n");
    let out = plane.ok(&["global-block", "import", "list.txt", "--reason", "a list"]);
    assert_eq!(out, "2 entries added, 1 were there before\n");
    let out = plane.ok(&["global-block", "list", "--search", "example"]);
    assert!(
        out.contains("incident 42") && out.contains("a list") && out.contains("3 deployment"),
        "{out}"
    );
    assert_eq!(
        plane.ok(&["global-block", "remove", "A.example"]),
        "A.example is removed from the block list\n"
    );
    let id = list["items"][0]["id"].as_str().unwrap();
    plane.ok(&["global-block", "remove", id]);
    let left = plane.json(&["global-block", "list", "--layer", "deployment"]);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert!(
        plane
            .fails(&["global-block", "remove", "a.example"])
            .contains("is no entry of this deployment")
    );
    assert!(
        plane
            .fails(&["global-block", "remove", "blk_none"])
            .contains("(HTTP 404)")
    );
    plane.write("wrong.txt", "ok.example\nnot a name\n");
    let err = plane.fails(&["global-block", "import", "wrong.txt", "--reason", "x"]);
    assert!(
        err.contains("--> wrong.txt:2:") && err.contains("nothing of wrong.txt was imported"),
        "{err}"
    );
}

#[test]
fn a_token_is_shown_once_or_kept_in_a_file_of_its_owner_alone() {
    let plane = Plane::new();
    let create = ["token", "create", "--role", "viewer", "--name", "dash"];
    let ran = plane.run(&create);
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.starts_with("id     tok_") && ran.out.contains("\ntoken  tgv_"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("the only time"), "{}", ran.err);
    let quiet = plane.ok(&[&create[..], &["--quiet"]].concat());
    assert!(
        quiet.starts_with("tgv_") && quiet.trim_end().len() == 47,
        "{quiet:?}"
    );
    let out = plane.ok(&[
        &create[..],
        &["--out", "secret", "--owners", "acme,other", "--expires", "90d"],
    ]
    .concat());
    assert!(out.ends_with(" is in secret\n") && !out.contains("tgv_"), "{out}");
    let file = plane.path("secret");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("tgv_") && text.ends_with('\n'), "{text:?}");
    let before = plane.json(&["token", "list"])["items"].as_array().unwrap().len();
    let err = plane.fails(&[&create[..], &["--out", "secret"]].concat());
    assert!(err.contains("can't make the file secret"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let after = plane.json(&["token", "list"])["items"].as_array().unwrap().len();
    assert_eq!(before, after, "no token is made whose text can't be kept");
    // One that is refused leaves no file behind.
    let err = plane.fails(&[
        "token", "create", "--role", "runner", "--name", "r", "--out", "runner",
    ]);
    assert!(err.contains("(HTTP 422)"), "{err}");
    assert!(!plane.path("runner").exists());
}

#[test]
fn a_token_is_listed_used_and_taken_back() {
    let plane = Plane::new();
    plane.write("dash", &plane.token(&wanted(Role::Viewer, "dash")));
    let by = |args: &[&str]| {
        let mut command = crate::plane::tidegate(args);
        command
            .env("TIDEGATE_SERVER", &plane.server)
            .arg("--token-file")
            .arg(plane.path("dash"));
        crate::plane::Ran::of(command.output().unwrap())
    };
    assert_eq!(by(&["gateway", "list"]).out, "no gateway was ever seen\n");
    plane.gateway();
    let out = by(&["gateway", "list"]).out;
    assert!(
        out.contains("gw-1") && out.contains("away") && out.contains("runners"),
        "{out}"
    );
    assert_eq!(plane.json(&["gateway", "list"])["items"][0]["name"], "gw-1");
    let list = plane.json(&["token", "list"]);
    let dash = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["name"] == "dash")
        .unwrap();
    let id = dash["id"].as_str().unwrap();
    assert_eq!(
        plane.ok(&["token", "revoke", id]),
        format!("token {id} (dash) is good nowhere any more\n")
    );
    assert!(plane.ok(&["token", "list"]).contains("revoked 20"));
    let ran = by(&["gateway", "list"]);
    assert!(ran.code == 1 && ran.err.contains("(HTTP 401)"), "{}", ran.err);
}
