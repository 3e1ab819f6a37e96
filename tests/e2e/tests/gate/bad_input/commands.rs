//! The command line, without root and without a running gateway.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Folder, tidegate};

const CLEAN: &str =
    "egress-policy: block\nplatform: none\nallowed-endpoints:\n  - github.test:443\n  - \"*.npm.test:443\"\n";

#[test]
fn check_is_silent_about_a_clean_policy() {
    let folder = Folder::new();
    let said = tidegate(&["check", &folder.file("ci.yaml", CLEAN)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("block, 2 allowed, 0 denied") && said.err.is_empty(),
        "{said:?}"
    );
}

#[test]
fn check_shows_line_column_and_caret_of_every_error() {
    let folder = Folder::new();
    let text = "egress-policy: block\nplatform: none\nallowed-endpoints: >\n  github.test:443\n  https://x.test/y\n  github.test:0\n  a..b\n";
    let file = folder.file("ci.yaml", text);
    let said = tidegate(&["check", &file]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for (place, token, marked) in [
        ("5:3", "https://x.test/y", "https://x.test/y"),
        ("6:15", "github.test:0", "0"),
        ("7:4", "a..b", "..b"),
    ] {
        let at = said
            .out
            .find(&format!("{file}:{place}\n"))
            .unwrap_or_else(|| panic!("{place}: {}", said.out));
        let mut shown = said.out[at..].lines().skip_while(|line| !line.contains(token));
        let (source, caret) = (shown.next().unwrap(), shown.next().unwrap());
        assert_eq!(
            caret.find('^'),
            source.rfind(marked),
            "the caret stands below {marked}:\n{source}\n{caret}"
        );
    }
}

#[test]
fn check_names_the_nearest_known_key_and_fails_on_warnings_when_strict() {
    let folder = Folder::new();
    let misspelled = folder.file("misspelled.yaml", "egress-polcy: block\n");
    let said = tidegate(&["check", &misspelled]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.contains("egress-policy") && said.out.contains(":1:1"),
        "{said:?}"
    );
    let warned = folder.file("warned.yaml", &format!("{CLEAN}  - 10.0.0.1/8:443\n"));
    assert_eq!(tidegate(&["check", &warned]).code, Some(0));
    let strict = tidegate(&["check", "--strict", &warned]);
    assert_eq!(strict.code, Some(3), "{strict:?}");
    assert!(strict.out.contains("warning"), "{strict:?}");
    let suffix = folder.file("suffix.yaml", &format!("{CLEAN}  - \"*.com:443\"\n"));
    assert_eq!(
        tidegate(&["check", "--strict", &suffix]).code,
        Some(1),
        "a wildcard over a public suffix"
    );
}

#[test]
fn check_reads_several_files_and_speaks_json() {
    let folder = Folder::new();
    let files = [
        folder.file("good.yaml", CLEAN),
        folder.file("bad.yaml", "allowed-endpoints: x.test:99999\n"),
    ];
    let said = tidegate(&["check", "--json", &files[0], &files[1]]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report[0]["diagnostics"], serde_json::json!([]), "{report}");
    let first = &report[1]["diagnostics"][0];
    assert!(
        first.to_string().contains("99999") && first.to_string().contains("\"line\":1"),
        "{report}"
    );
}

#[test]
fn what_is_no_policy_at_all_is_an_error_and_not_a_crash() {
    let folder = Folder::new();
    let deep = "a: ".to_owned() + &"[".repeat(5_000);
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (one, before) in ('b'..='k').zip('a'..) {
        let many = vec![format!("*{before}"); 9].join(",");
        bomb.extend([&one.to_string(), ": &", &one.to_string(), " [", &many, "]\n"]);
    }
    for (name, text) in [
        ("empty", ""),
        ("binary", "\u{1}\u{2}\u{0}\u{7f}"),
        ("scalar", "hello"),
        ("list", "- a\n- b\n"),
        ("unclosed", "allowed-endpoints: [a.test:443"),
        ("tab", "egress-policy:\tblock\n\tx: y\n"),
        ("twice", "egress-policy: block\negress-policy: audit\n"),
        ("deep", &deep),
        ("bomb", &bomb),
        ("wrong type", "allowed-endpoints: {a: b}\n"),
    ] {
        let said = tidegate(&["check", &folder.file("ci.yaml", text)]);
        assert!(matches!(said.code, Some(0 | 1)), "{name}: {said:?}");
        assert!(!said.err.contains("panicked"), "{name}: {said:?}");
        if name != "empty" {
            assert_eq!(said.code, Some(1), "{name}: {said:?}");
        }
    }
    let missing = tidegate(&["check", "/nonexistent/ci.yaml"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(
        missing.err.contains("/nonexistent/ci.yaml") && missing.err.contains("No such file"),
        "{missing:?}"
    );
    assert_eq!(
        missing.err.lines().count(),
        1,
        "one line, no backtrace: {missing:?}"
    );
}

#[test]
fn explain_says_verdict_rule_line_and_nearest() {
    let folder = Folder::new();
    let file = folder.file("ci.yaml", &format!("{CLEAN}denied-endpoints: bad.npm.test\n"));
    let permitted = tidegate(&["explain", "--policy", &file, "GITHUB.test", "x.npm.test:443"]);
    assert_eq!(permitted.code, Some(0), "{permitted:?}");
    assert!(
        permitted.out.contains("github.test:443: permit") && permitted.out.contains("line 4"),
        "{permitted:?}"
    );
    for (target, reason) in [
        ("npm.test", "not-allowed"),
        ("github.test:80", "not-allowed"),
        ("bad.npm.test", "denied"),
        ("169.254.169.254:80", "never-dial"),
        ("192.0.2.1", "no-name"),
        ("github.test:443/udp", "not-allowed"),
    ] {
        let refused = tidegate(&["explain", "--policy", &file, "github.test", target]);
        assert_eq!(refused.code, Some(4), "{target}: {refused:?}");
        assert!(refused.out.contains(reason), "{target}: {refused:?}");
    }
    let json = tidegate(&[
        "explain",
        "--json",
        "--policy",
        &file,
        "github.test",
        "bad.npm.test",
    ]);
    assert_eq!(json.code, Some(4));
    let all: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&all[0]["verdict"], &all[0]["rule"], &all[0]["line"]),
        (&"permit".into(), &"github.test:443".into(), &4.into())
    );
    assert_eq!(
        (&all[1]["verdict"], &all[1]["reason"], &all[1]["mode"]),
        (&"refuse".into(), &"denied".into(), &"block".into())
    );
}

#[test]
fn explain_reads_endpoint_sets_and_audit_policies() {
    let folder = Folder::new();
    let set = folder.file("corp.yaml", "endpoints: [db.corp.test:5432]\n");
    let file = folder.file("ci.yaml", &format!("{CLEAN}use: [corp]\n"));
    let named = format!("corp={set}");
    let said = tidegate(&["explain", "--policy", &file, "--set", &named, "db.corp.test:5432"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let without = tidegate(&["explain", "--policy", &file, "db.corp.test:5432"]);
    assert_eq!(without.code, Some(2), "{without:?}");
    assert!(without.err.contains("corp"), "{without:?}");
    let audit = folder.file("audit.yaml", "egress-policy: audit\nplatform: none\n");
    let would = tidegate(&["explain", "--policy", &audit, "github.test"]);
    assert_eq!(would.code, Some(4), "{would:?}");
    assert!(would.out.contains("would-refuse"), "{would:?}");
}

#[test]
fn wrong_usage_is_exit_code_2_with_a_hint() {
    let folder = Folder::new();
    let file = folder.file("ci.yaml", CLEAN);
    let broken = folder.file("broken.yaml", "egress-policy: sometimes\n");
    for args in [
        &[][..],
        &["chek", &file],
        &["check"],
        &["check", "--no-such-flag", &file],
        &["explain", "github.test"],
        &["explain", "--policy", &file],
        &["explain", "--policy", &file, "https://github.test/"],
        &["explain", "--policy", &file, "*.npm.test"],
        &["explain", "--policy", &broken, "github.test"],
        &["explain", "--policy", "/nonexistent.yaml", "github.test"],
        &["explain", "--policy", &file, "--set", "corp", "github.test"],
        &["completions", "no-such-shell"],
        &["gateway", "--config", "/nonexistent/tidegate.yaml"],
        &["up", "--config", "/nonexistent/tidegate.yaml"],
        &["status", "--config", "/nonexistent/tidegate.yaml"],
    ] {
        let said = tidegate(args);
        assert_eq!(said.code, Some(2), "{args:?}: {said:?}");
        assert!(
            !said.err.trim().is_empty() && !said.err.contains("panicked"),
            "{args:?}: {said:?}"
        );
    }
}

#[test]
fn status_without_a_gateway_says_so() {
    let folder = Folder::new();
    let config = folder.file(
        "tidegate.yaml",
        "version: 1\ngateway:\n  name: x\n  state-dir: state\n  networks: [{name: n, interface: r0}]\n  dns: {upstreams: [192.0.2.1]}\n",
    );
    for args in [
        &["status", "--config", &config][..],
        &["explain", "--config", &config, "--job", "10.0.0.1", "x.test"],
    ] {
        let said = tidegate(args);
        assert_eq!(said.code, Some(1), "{args:?}: {said:?}");
        assert!(said.err.contains("no gateway answers"), "{args:?}: {said:?}");
        assert_eq!(
            said.err.trim_end().lines().count(),
            1,
            "one cause chain on a line: {said:?}"
        );
    }
}

#[test]
fn help_version_and_completions_work_for_everybody() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["gateway", "--help"],
        &["check", "--help"],
    ] {
        let said = tidegate(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
        assert!(
            said.out.contains("tidegate") || said.out.contains("Usage"),
            "{args:?}: {said:?}"
        );
    }
    let script = tidegate(&["completions", "bash"]);
    assert_eq!(script.code, Some(0), "{script:?}");
    for word in ["gateway", "check", "explain", "status", "demo", "--strict"] {
        assert!(script.out.contains(word), "{word} is not completed");
    }
    let mut bash = Command::new("bash")
        .arg("-n")
        .env_clear()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin
        .take()
        .unwrap()
        .write_all(script.out.as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success(), "bash can read it");
    for shell in ["zsh", "fish"] {
        assert_eq!(tidegate(&["completions", shell]).code, Some(0), "{shell}");
    }
}

/// A reader that goes away early is no error to shout about, and the exit code still tells the outcome.
#[test]
fn a_closed_pipe_is_no_panic() {
    let folder = Folder::new();
    let file = folder.file("ci.yaml", "allowed-endpoints: a..b\n");
    for (args, code) in [
        (&["completions", "bash"][..], 0),
        (&["check", &file], 1),
        (&["check", "--json", &file], 1),
        (
            &[
                "explain",
                "--policy",
                &folder.file("good.yaml", CLEAN),
                "evil.test",
            ],
            4,
        ),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(tidegate_e2e::tidegate());
        let output = command
            .args(args)
            .env_clear()
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && err.is_empty(),
            "{args:?}: {:?}: {err}",
            output.status
        );
    }
}
