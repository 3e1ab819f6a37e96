//! What the binary says about itself.

use crate::plane::{Ran, tidegate};

#[test]
fn every_group_of_commands_has_help_with_examples() {
    for (args, said) in [
        (&["policy", "--help"][..], "sync"),
        (&["policy", "sync", "--help"], "--prune\n"),
        (&["policy", "apply", "--help"], "Examples:"),
        (&["policy", "create", "--help"], "--from-baseline"),
        (&["baseline", "show", "--help"], "Example:"),
        (&["simulate", "--help"], "Exit code 4"),
        (&["coverage", "--help"], "--below-min-assurance"),
        (&["detection", "rule", "add", "--help"], "Example:"),
        (&["import", "harden-runner", "--help"], "Examples:"),
        (&["set", "--help"], "apply"),
        (&["job", "start", "--help"], "Example:"),
        (&["events", "--help"], "Examples:"),
        (&["job", "events", "--help"], "Example:"),
        (&["lease", "end", "--help"], "Example:"),
        (&["global-block", "import", "--help"], "Example:"),
        (&["token", "create", "--help"], "Examples:"),
        (&["gateway", "list", "--help"], "TIDEGATE_SERVER"),
        (&["audit", "verify", "--help"], "SEQ:HASH"),
    ] {
        let ran = Ran::of(tidegate(args).output().unwrap());
        assert_eq!(ran.code, 0, "{args:?}");
        assert!(ran.out.contains(said), "{args:?}: {}", ran.out);
    }
}

#[test]
fn manual_pages_and_completions_know_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man1");
    let ran = Ran::of(tidegate(&["man"]).arg(&man).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let page = std::fs::read_to_string(man.join("tidegate-policy-sync.1")).unwrap();
    assert!(page.contains("prune"), "{page}");
    let ran = Ran::of(tidegate(&["completions", "bash"]).output().unwrap());
    assert!(
        ran.out.contains("global-block") && ran.out.contains("rollback"),
        "{}",
        ran.out.len()
    );
}
