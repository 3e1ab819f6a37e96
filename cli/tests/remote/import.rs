//! `tidegate import harden-runner`: a tree of workflow files of all shapes against committed expectations, the way on into
//! a control plane, and trees that nobody means well with. `UPDATE_GOLDEN=1` writes the expectations anew.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::plane::{Plane, Ran, tidegate};

/// What a workflow needs besides its list.
const STEP: &str = "on: push\njobs:\n  build:\n    steps:\n      - uses: step-security/harden-runner@v2\n        with:\n          egress-policy: block\n          allowed-endpoints: ";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// Imports a tree to a new directory below `to`.
fn import(tree: &Path, to: &Path, more: &[&str]) -> Ran {
    let output = to.join("out");
    let mut command = tidegate(&["import", "harden-runner"]);
    command.arg(tree).arg("--output").arg(&output).args(more);
    Ran::of(command.output().unwrap())
}

/// The report of an import that succeeds.
fn report(tree: &Path, to: &Path, more: &[&str]) -> Value {
    let ran = import(tree, to, &[more, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

/// Every file below a directory, by its path there.
fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// Writes a workflow file of a repository.
fn workflow(root: &Path, repository: &str, file: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(repository).join(".github/workflows").join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// What was told of a file: level and the first two texts.
fn told<'r>(report: &'r Value, file: &str) -> Vec<(&'r str, &'r str, &'r str)> {
    let of = |item: &'r Value| {
        let text = |key: &str| item[key].as_str().unwrap();
        (text("level"), text("what"), text("why"))
    };
    let items = report["items"].as_array().unwrap().iter();
    items.filter(|item| item["file"] == file).map(of).collect()
}

/// Endpoints of a policy.
fn endpoints<'r>(report: &'r Value, name: &str) -> Vec<&'r str> {
    let policies = report["policies"].as_array().unwrap();
    let policy = policies.iter().find(|policy| policy["name"] == name);
    let policy = policy.unwrap_or_else(|| panic!("no policy {name}: {report:#}"));
    let endpoints = policy["endpoints"].as_array().unwrap().iter();
    endpoints.map(|one| one["endpoint"].as_str().unwrap()).collect()
}

#[test]
fn a_tree_of_all_shapes_becomes_the_policies_and_the_report_that_are_expected() {
    let (tree, expected) = (fixtures().join("tree"), fixtures().join("expected"));
    let workflows = files(&tree).into_keys().filter(|path| {
        let folder = path.parent().unwrap();
        folder.ends_with(".github/workflows") && path.extension().is_some_and(|ending| ending != "md")
    });
    assert!(workflows.count() >= 50);
    let dir = TempDir::new().unwrap();
    let ran = import(&tree, dir.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let written = files(&dir.path().join("out"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        drop(fs::remove_dir_all(&expected));
        for (path, text) in &written {
            let path = expected.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let wanted = files(&expected);
    assert_eq!(
        written.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    for (path, text) in &wanted {
        assert_eq!(
            &written[path],
            text,
            "{} is another one; UPDATE_GOLDEN=1 renews it",
            path.display()
        );
    }
    for text in written.values() {
        assert!(
            !text.contains("this-is-a-secret"),
            "a committed key is not carried on"
        );
        assert!(
            !text.contains(['\u{1b}', '\u{202e}']),
            "nothing of a stranger's is shown raw"
        );
    }
}

#[test]
fn a_control_plane_takes_every_policy_that_is_written() {
    let plane = Plane::new();
    let ran = import(&fixtures().join("tree"), &plane.path(""), &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for (owner, count) in [("acme", 46), ("umbrella-corp", 10)] {
        let dir = format!("out/{owner}");
        let dry = plane.json(&["policy", "sync", &dir, "--owner", owner, "--dry-run"]);
        let steps = dry["plan"]["steps"].as_array().unwrap();
        let of = |kind: &str| steps.iter().filter(|step| step["step"] == kind).count();
        assert_eq!((of("create"), of("attach")), (count, count), "{owner}");
    }
    plane.ok(&["policy", "sync", "out/acme", "--owner", "acme"]);
    let shown = plane.json(&["policy", "show", "web-ci-2"]);
    assert_eq!(
        shown["attachments"],
        serde_json::json!(["workflow:acme/web/ci.yml"])
    );
    assert_eq!(shown["mode"], "block");
    let again = plane.ok(&["policy", "sync", "out/acme", "--owner", "acme", "--prune"]);
    assert!(again.ends_with("nothing to do\n"), "{again}");
}

#[test]
fn the_mode_can_be_decided_for_all() {
    let tree = fixtures().join("tree");
    for mode in ["audit", "block"] {
        let dir = TempDir::new().unwrap();
        let report = report(&tree, dir.path(), &["--mode", mode]);
        let policies = report["policies"].as_array().unwrap();
        assert!(policies.iter().all(|policy| policy["mode"] == mode), "{mode}");
        let partly = told(&report, "acme/web/.github/workflows/partly.yml");
        let why = partly.iter().any(|(_, what, _)| *what == "egress-policy: block");
        assert_eq!(
            why,
            mode == "block",
            "blocking a job that was never hardened is told: {partly:?}"
        );
    }
}

#[test]
fn whose_a_repository_is_says_its_remote_then_its_folders_then_the_command_line() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    let list = format!("{STEP}a.example:443\n");
    let remote = |folder: &str, url: &str| {
        let config = tree.join(folder).join(".git/config");
        fs::create_dir_all(config.parent().unwrap()).unwrap();
        let text = format!(
            "[core]\n\turl = no\n[remote \"origin\"]\n\tfetch = x\n\turl = {url}\n[remote \"up\"]\n\turl = y\n"
        );
        fs::write(config, text).unwrap();
    };
    for folder in ["one", "two", "team/three", "team/four"] {
        workflow(&tree, folder, "ci.yml", list.as_bytes());
    }
    remote("one", "git@github.test:Remote/First.git");
    remote("two", "/srv/two.git");
    remote("team/four", "https://github.test/moved/four");
    let report = report(&tree, dir.path(), &["--owner", "Fallback"]);
    let scopes: Vec<&str> = report["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["scope"].as_str().unwrap())
        .collect();
    assert_eq!(
        scopes,
        [
            "workflow:fallback/two/ci.yml",
            "workflow:moved/four/ci.yml",
            "workflow:remote/first/ci.yml",
            "workflow:team/three/ci.yml",
        ]
    );
    assert_eq!(
        told(&report, "team/four/")[0].0,
        "note",
        "folders that say something else are told"
    );
    // A repository by itself, whose name is its folder's.
    let alone = TempDir::new().unwrap();
    let report = self::report(&tree.join("team/three"), alone.path(), &["--owner", "acme"]);
    assert_eq!(report["policies"][0]["scope"], "workflow:acme/three/ci.yml");
    let report = self::report(&tree.join("two"), &alone.path().join("b"), &[]);
    assert_eq!(report["policies"].as_array().unwrap().len(), 0);
    assert_eq!(told(&report, ".")[0].0, "lost");
    // Two checkouts of one repository: one of them counts.
    remote("two", "https://github.test/remote/first");
    let twice = self::report(&tree, &alone.path().join("c"), &[]);
    assert_eq!(told(&twice, "two/")[0].2, "it was found before in another folder");
}

#[test]
fn hostile_files_are_told_and_the_rest_is_imported() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    let repository = "acme/web";
    let at = |file: &str| format!("acme/web/.github/workflows/{file}");
    workflow(
        &tree,
        repository,
        "good.yml",
        format!("{STEP}good.example:443\n").as_bytes(),
    );
    workflow(
        &tree,
        repository,
        "huge.yml",
        format!("{STEP}>\n{}", "            a.example:443\n".repeat(50_000)).as_bytes(),
    );
    workflow(
        &tree,
        repository,
        "latin.yml",
        b"on: push\njobs: {b\xfccher: {}}\n",
    );
    workflow(&tree, repository, "nul.yml", b"on: push\njobs: {a: \"\0\"}\n");
    workflow(&tree, repository, "escape\u{1b}[2J.yml", b"on: push\n");
    let secret = workflow(
        dir.path(),
        "elsewhere/x",
        "secret.yml",
        format!("{STEP}secret.example:443\n").as_bytes(),
    );
    symlink(&secret, tree.join(at("link.yml"))).unwrap();
    symlink(dir.path().join("elsewhere"), tree.join("acme/linked")).unwrap();
    symlink("/dev/zero", tree.join(at("zero.yml"))).unwrap();
    let pipe = tree.join(at("pipe.yml"));
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let list: Vec<String> = (0..200).map(|n| format!("https://bad{n}.example")).collect();
    workflow(
        &tree,
        repository,
        "many.yml",
        format!("{STEP}{}\n", list.join(" ")).as_bytes(),
    );
    let ran = import(&tree, dir.path(), &["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.out.contains(['\u{1b}', '\0']) && !ran.err.contains('\u{1b}'));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(endpoints(&report, "web-good"), ["good.example:443"]);
    assert!(!ran.out.contains("secret.example"), "links lead nowhere");
    for (file, why) in [
        ("huge.yml", "it is larger than 1048576 bytes"),
        ("latin.yml", "it is not in UTF-8"),
        ("link.yml", "it is a link, and links are not followed"),
        ("zero.yml", "it is a link, and links are not followed"),
        ("pipe.yml", "it is no regular file"),
    ] {
        assert_eq!(
            told(&report, &at(file)),
            [("lost", "the whole file", why)],
            "{file}"
        );
    }
    assert!(
        told(&report, &at("nul.yml"))[0].2.contains("not YAML"),
        "{report:#}"
    );
    assert_eq!(told(&report, "acme/web/")[0].1, "escape\\u{1b}[2J.yml");
    assert_eq!(told(&report, "acme/linked")[0].0, "note");
    assert_eq!(
        told(&report, &at("many.yml")).len(),
        100,
        "one file does not fill the report"
    );
    assert_eq!(
        report["left_out"], 101,
        "the rest, and that the policy audits for it"
    );
}

#[test]
fn workflows_that_call_each_other_without_end_come_to_an_end() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    for n in 0..6 {
        let calls: Vec<String> = (0..30)
            .map(|job| format!("  j{job}: {{uses: ./.github/workflows/w{}.yml}}", n + 1))
            .collect();
        let calls = calls.join("\n");
        workflow(
            &tree,
            "acme/web",
            &format!("w{n}.yml"),
            format!("on: push\njobs:\n{calls}\n").as_bytes(),
        );
    }
    workflow(
        &tree,
        "acme/web",
        "w6.yml",
        format!("{STEP}a.example:443\n").as_bytes(),
    );
    let report = report(&tree, dir.path(), &[]);
    let policy = &report["policies"][0];
    assert_eq!(policy["mode"], "audit", "what is not known is not blocked");
    assert_eq!(policy["jobs"].as_array().unwrap().len(), 1_000);
    let first = told(&report, "acme/web/.github/workflows/w0.yml");
    assert!(
        first
            .iter()
            .any(|(_, _, why)| why.contains("more than 1000 jobs")),
        "{first:?}"
    );
}

#[test]
fn an_output_that_holds_something_is_written_over_only_when_told_to() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    let file = workflow(
        &tree,
        "acme/web",
        "ci.yml",
        format!("{STEP}a.example:443\n").as_bytes(),
    );
    assert_eq!(import(&tree, dir.path(), &[]).code, 0);
    let ran = import(&tree, dir.path(), &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is not empty; --force"), "{}", ran.err);
    fs::rename(&file, file.with_file_name("new.yml")).unwrap();
    let ran = import(&tree, dir.path(), &["--force"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("web-ci.yaml is not of this import, and stays"),
        "{}",
        ran.err
    );
    assert!(dir.path().join("out/acme/web-new.yaml").exists());
    fs::write(dir.path().join("plain"), "").unwrap();
    let mut command = tidegate(&["import", "harden-runner", "tree", "--output", "plain"]);
    assert_eq!(Ran::of(command.current_dir(dir.path()).output().unwrap()).code, 2);
    let empty = TempDir::new().unwrap();
    let ran = import(empty.path(), dir.path(), &["--force"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("has no workflow files"), "{}", ran.err);
}
