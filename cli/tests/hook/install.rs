//! `tidegate hook install`: what it writes, that it keeps what is there, and what the scripts run in which order.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use crate::gateway::{Gateway, Reply};
use crate::runner::Runner;
use crate::{Ran, installed, tidegate};

/// Registers and ends everything; has no summary.
fn gateway() -> Gateway {
    Gateway::new(|_, asked| match asked.line.as_str() {
        "POST /v1/jobs" => Reply::json(
            "201 Created",
            &json!({"id": "job_1", "assurance": "declared", "policy": null}),
        ),
        "POST /v1/jobs/current/end" => Reply::json("200 OK", &json!({"id": "job_1", "ended": true})),
        _ => Reply::problem("404 Not Found", "no-job", "none"),
    })
}

fn refusing() -> Gateway {
    Gateway::new(|_, _| Reply::problem("403 Forbidden", "forbidden", "no"))
}

/// Every file with its inode, text and mode: a file that was written again has another inode.
fn tree(dir: &Path) -> BTreeMap<String, (u64, u32, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            let meta = fs::metadata(&path).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            found.insert(
                path.display().to_string(),
                (meta.ino(), meta.mode() & 0o777, text),
            );
        }
    }
    found
}

#[test]
fn the_runner_finds_its_hooks_and_running_twice_changes_nothing() {
    let runner = Runner::new();
    fs::write(
        runner.path().join(".env"),
        "LANG=C.UTF-8\nhttp_proxy=http://proxy.test:3128",
    )
    .unwrap();
    let first = runner.install(&["--oidc", "tidegate"]).done();
    assert!(first.out.contains("restart the runner"), "{}", first.out);
    let hooks = runner.path().join("hooks");
    assert_eq!(
        runner.read(".env"),
        format!(
            "LANG=C.UTF-8\nhttp_proxy=http://proxy.test:3128\nACTIONS_RUNNER_HOOK_JOB_STARTED={0}/job-started.sh\n\
             ACTIONS_RUNNER_HOOK_JOB_COMPLETED={0}/job-completed.sh\n",
            hooks.display()
        )
    );
    assert_eq!(
        runner.read(".env.before-tidegate"),
        "LANG=C.UTF-8\nhttp_proxy=http://proxy.test:3128"
    );
    for script in ["job-started.sh", "job-completed.sh"] {
        assert_eq!(fs::metadata(hooks.join(script)).unwrap().mode() & 0o7777, 0o755);
        assert!(
            runner
                .read(&format!("hooks/{script}"))
                .contains(env!("CARGO_BIN_EXE_tidegate"))
        );
    }
    let before = tree(runner.path());
    // Without its options too: what was said once is kept.
    for args in [&["--oidc", "tidegate"][..], &[]] {
        assert_eq!(runner.install(args).done().out, "");
        assert_eq!(tree(runner.path()), before);
    }
}

#[test]
fn without_a_runner_it_says_the_lines_to_add() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = tidegate(&["hook", "install", "--oidc", "tidegate", "--dir"]);
    command
        .arg(dir.path())
        .arg("--config")
        .arg(dir.path().join("hook.yaml"));
    let ran = Ran::of(command.output().unwrap()).done();
    let line = format!(
        "ACTIONS_RUNNER_HOOK_JOB_COMPLETED={}/job-completed.sh\n",
        dir.path().display()
    );
    assert!(ran.out.contains(&line), "{}", ran.out);
    assert!(ran.err.is_empty(), "{}", ran.err);
}

#[test]
fn a_hook_that_is_there_runs_after_ours_at_the_start_and_before_ours_at_the_end() {
    let gateway = gateway();
    for way in ["env", "scripts", "directory"] {
        let runner = Runner::new();
        // A path with everything that a shell could trip over.
        let (start, end) = if way == "directory" {
            (
                "old it's/$(x) `y`/job-started.sh",
                "old it's/$(x) `y`/job-completed.sh",
            )
        } else {
            ("old it's/$(x) `y`/setup.sh", "old it's/$(x) `y`/cleanup.sh")
        };
        let say =
            |word: &str| format!("test \"$GITHUB_JOB\" = build\necho existing {word} in $(basename $PWD)\n");
        let start = runner.file(start, &say("start"));
        let end = runner.file(end, &say("end"));
        let env = format!(
            "ACTIONS_RUNNER_HOOK_JOB_STARTED={}\nACTIONS_RUNNER_HOOK_JOB_COMPLETED={}\n",
            start.display(),
            end.display()
        );
        runner.file(".env", &env);
        let refused = runner.install(&["--oidc", "x"]);
        assert_eq!(refused.code, 2, "{}", refused.out);
        assert!(refused.err.contains("--chain started="), "{}", refused.err);
        assert_eq!(runner.read(".env"), env);
        let token = runner.file("settings/token", crate::TOKEN);
        let named = match way {
            "env" => vec![runner.path().join(".env").display().to_string()],
            "directory" => vec![start.parent().unwrap().display().to_string()],
            _ => vec![
                format!("started={}", start.display()),
                format!("completed={}", end.display()),
            ],
        };
        let mut args = vec![
            "--runner-api",
            &gateway.url,
            "--token-file",
            token.to_str().unwrap(),
        ];
        let ca = gateway.ca();
        args.extend(["--ca", ca.to_str().unwrap()]);
        args.extend(named.iter().flat_map(|one| ["--chain", one.as_str()]));
        runner.install(&args).done();
        let before = tree(runner.path());
        assert_eq!(runner.install(&args[..6]).done().out, "", "{way}");
        if way == "env" {
            // It names our scripts now, which changes nothing.
            assert_eq!(runner.install(&args).done().out, "", "{way}");
        }
        assert_eq!(tree(runner.path()), before, "{way}");
        let run = runner.job_started();
        assert_eq!(run.code, 0, "{way}: {}", run.raw);
        assert!(run.annotations[0].text.contains("job_1"), "{}", run.raw);
        assert_eq!(run.log, ["existing start in web"], "{way}");
        let run = runner.job_completed();
        assert_eq!(run.code, 0, "{way}: {}", run.raw);
        assert_eq!(run.log[0], "existing end in web", "{way}");
        // Taken out again, they are the runner's as before.
        runner.install(&["--uninstall"]).done();
        assert_eq!(runner.read(".env"), env, "{way}");
        assert!(!runner.path().join("hooks/job-started.sh").exists());
    }
}

#[test]
fn exit_codes_count_as_before() {
    let chained = |gateway: &Gateway, start: &str, end: &str| {
        let runner = installed(gateway, &[]);
        let start = runner.file("old/job-started.sh", start);
        runner.file("old/job-completed.sh", end);
        let old = start.parent().unwrap().to_str().unwrap().to_owned();
        runner.install(&["--chain", &old]).done();
        runner
    };
    let (open, closed) = (gateway(), refusing());
    // As the runner runs it: with `-e` and `pipefail`.
    let runner = chained(&open, "false | true\necho not reached\n", "exit 7\n");
    let run = runner.job_started();
    assert_eq!((run.code, run.log.len()), (1, 0), "{}", run.raw);
    let run = runner.job_completed();
    assert_eq!(run.code, 7, "{}", run.raw);
    let ended = open
        .asked()
        .iter()
        .any(|one| one.line == "POST /v1/jobs/current/end");
    assert!(ended, "ours runs though the other failed");
    let mut runner = chained(&closed, "echo existing\n", "echo existing\n");
    let run = runner.job_started();
    assert_eq!(
        (run.code, run.log.len()),
        (1, 0),
        "the other does not run for a refused job: {}",
        run.raw
    );
    let run = runner.job_completed();
    assert_eq!((run.code, run.log[0].as_str()), (0, "existing"), "{}", run.raw);
    runner.give("TIDEGATE_HOOK_ON_ERROR", "fail");
    assert_eq!(runner.job_completed().code, 1);
    runner.give("TIDEGATE_HOOK_ON_ERROR", "continue");
    let run = runner.job_started();
    assert_eq!((run.code, run.log[0].as_str()), (0, "existing"), "{}", run.raw);
}

#[test]
fn what_can_not_work_is_refused_before_anything_is_written() {
    let runner = Runner::new();
    let other = runner.file("other/job-started.sh", "echo somebody's\n");
    let empty = runner.file("empty.pem", "");
    let dir = other.parent().unwrap().to_str().unwrap();
    let with_space = runner.path().join("my hooks");
    let before = tree(runner.path());
    for (args, said) in [
        (&["--dir", with_space.to_str().unwrap()][..], "spaces"),
        (&["--dir", dir], "somebody else's"),
        (&["--chain", "/nonexistent/job-started.sh"], "No such file"),
        (&["--chain", "/bin/sh"], "started="),
        (&["--ca", empty.to_str().unwrap()], "no certificate"),
        (&["--runner-api", "http://gw.test"], "https://"),
        (&["--timeout", "soon"], "timeout"),
        (&["--on-error", "explode"], "explode"),
        (&["--runner-dir", "/nonexistent"], "--runner-dir"),
        (&["--uninstall", "--chain", "none"], "--chain"),
    ] {
        // Of an option that is said twice, the last one is refused by the parser: each of these stands alone.
        let config = runner.path().join("hook.yaml");
        let mut command = tidegate(&["hook", "install", "--config", config.to_str().unwrap()]);
        if args[0] != "--dir" {
            command.arg("--dir").arg(runner.path().join("hooks"));
        }
        let ran = Ran::of(command.args(args).output().unwrap());
        assert_eq!(ran.code, 2, "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
        assert_eq!(tree(runner.path()), before, "{args:?}");
    }
}

#[test]
fn scripts_that_moved_are_not_left_behind_and_modes_are_mended() {
    let runner = Runner::new();
    runner.install(&["--oidc", "x"]).done();
    let script = runner.path().join("hooks/job-started.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o600)).unwrap();
    let env_mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(runner.path().join(".env"), env_mode).unwrap();
    assert!(runner.install(&[]).done().out.contains("job-started.sh"));
    assert_eq!(fs::metadata(&script).unwrap().mode() & 0o777, 0o755);
    let config = runner.path().join("settings/hook.yaml");
    let mut command = tidegate(&["hook", "install", "--config", config.to_str().unwrap(), "--dir"]);
    command
        .arg(runner.path().join("moved"))
        .arg("--runner-dir")
        .arg(runner.path());
    Ran::of(command.output().unwrap()).done();
    // Run again without a word about where, they stay there.
    let mut again = tidegate(&["hook", "install", "--config", config.to_str().unwrap()]);
    let ran = Ran::of(again.arg("--runner-dir").arg(runner.path()).output().unwrap()).done();
    assert_eq!(ran.out, "");
    assert!(!script.exists() && runner.path().join("moved/job-started.sh").exists());
    assert!(runner.read(".env").contains("/moved/job-started.sh"));
    assert!(!runner.read(".env").contains("/hooks/job-started.sh"));
    assert_eq!(
        fs::metadata(runner.path().join(".env")).unwrap().mode() & 0o777,
        0o640
    );
}
