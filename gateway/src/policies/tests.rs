//! Tests of policy files: swapping, keeping the last good version, and closed when none was ever good.

use std::path::Path;

use tidegate_policy::effective::{PolicySet, Slot};
use tidegate_policy::special::NeverDial;
use tidegate_policy::verdict::Mode;

use super::{PolicyFiles, Synced};
use crate::config::GatewayConfig;

const CONFIG: &str = "\
version: 1
gateway:
  name: gw
  networks: [{name: n, interface: r0, default-policy: p.yaml, always-allow: host.yaml}]
  endpoint-sets: {base: base.yaml}
  dns: {upstreams: [198.51.100.53]}
  global-block: [block.txt]
";

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("written");
}

fn scene() -> (tempfile::TempDir, GatewayConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        "p.yaml",
        "egress-policy: block\nallowed-endpoints: a.test:443\nuse: [base]\n",
    );
    write(folder.path(), "base.yaml", "- b.test:443\n");
    write(folder.path(), "host.yaml", "- host.test:443\n");
    write(folder.path(), "block.txt", "evil.test\n");
    let config = GatewayConfig::parse(CONFIG, &folder.path().join("tidegate.yaml")).expect("a config");
    (folder, config)
}

fn default_of(set: &PolicySet) -> &Slot {
    &set.networks["n"].default
}

fn version_of(set: &PolicySet) -> u32 {
    default_of(set).meta().map_or(0, |meta| meta.version)
}

#[test]
fn an_unchanged_file_keeps_its_compiled_policy() {
    let (_folder, config) = scene();
    let mut files = PolicyFiles::new();
    let (first, second) = (
        files.load(&config, NeverDial::default(), &Synced::default()),
        files.load(&config, NeverDial::default(), &Synced::default()),
    );
    let (Slot::Policy(a), Slot::Policy(b)) = (default_of(&first), default_of(&second)) else {
        panic!("no policies: {:?}", files.report());
    };
    assert!(std::sync::Arc::ptr_eq(a, b));
    assert!(std::sync::Arc::ptr_eq(&first.world, &second.world));
}

#[test]
fn a_broken_file_is_reported_and_its_last_good_version_stays() {
    let (folder, config) = scene();
    let mut files = PolicyFiles::new();
    files.load(&config, NeverDial::default(), &Synced::default());
    write(
        folder.path(),
        "p.yaml",
        "egress-policy: block\nallowed-endpoints: a.test:99999\n",
    );
    let set = files.load(&config, NeverDial::default(), &Synced::default());
    assert_eq!(version_of(&set), 1);
    let problem = files
        .report()
        .into_iter()
        .find_map(|file| file.problem)
        .expect("a problem");
    assert!(
        problem.contains("p.yaml") && problem.contains("99999"),
        "{problem}"
    );
    write(folder.path(), "p.yaml", "egress-policy: audit\n");
    let set = files.load(&config, NeverDial::default(), &Synced::default());
    assert_eq!(version_of(&set), 2);
    assert!(matches!(default_of(&set), Slot::Policy(policy) if policy.mode == Mode::Audit));
    assert!(files.report().iter().all(|file| file.problem.is_none()));
}

#[test]
fn a_policy_that_uses_a_missing_set_keeps_its_last_good_compilation() {
    let (folder, config) = scene();
    let mut files = PolicyFiles::new();
    files.load(&config, NeverDial::default(), &Synced::default());
    write(folder.path(), "p.yaml", "egress-policy: audit\nuse: [gone]\n");
    let set = files.load(&config, NeverDial::default(), &Synced::default());
    assert!(matches!(default_of(&set), Slot::Policy(policy) if policy.mode == Mode::Block));
    assert!(
        files
            .report()
            .iter()
            .any(|file| file.problem.as_deref().is_some_and(|text| text.contains("gone")))
    );
}

#[test]
fn a_file_that_never_was_good_is_deny_all_not_a_looser_default() {
    let (folder, config) = scene();
    write(folder.path(), "p.yaml", "egress-policy: bloc\n");
    let set = PolicyFiles::new().load(&config, NeverDial::default(), &Synced::default());
    assert!(matches!(default_of(&set), Slot::Unknown(_)));
}

/// Invariant 5: without the list nobody can say what everybody is refused.
#[test]
fn a_block_list_that_was_never_read_is_deny_all_until_it_is() {
    let (folder, config) = scene();
    std::fs::remove_file(folder.path().join("block.txt")).expect("removed");
    let mut files = PolicyFiles::new();
    let set = files.load(&config, NeverDial::default(), &Synced::default());
    assert!(matches!(default_of(&set), Slot::Unknown(_)) && set.pinned.is_empty());
    write(folder.path(), "block.txt", "");
    let set = files.load(&config, NeverDial::default(), &Synced::default());
    assert!(
        matches!(default_of(&set), Slot::Policy(_)),
        "an empty list is a list"
    );
    std::fs::remove_file(folder.path().join("block.txt")).expect("removed");
    let set = files.load(&config, NeverDial::default(), &Synced::default());
    assert!(
        matches!(default_of(&set), Slot::Policy(_)),
        "the one that was read stays in force"
    );
}

#[test]
fn a_changed_set_recompiles_the_policies_that_use_it() {
    let (folder, config) = scene();
    let mut files = PolicyFiles::new();
    let first = files.load(&config, NeverDial::default(), &Synced::default());
    write(folder.path(), "base.yaml", "- c.test:443\n");
    let second = files.load(&config, NeverDial::default(), &Synced::default());
    let (Slot::Policy(a), Slot::Policy(b)) = (default_of(&first), default_of(&second)) else {
        panic!("no policies: {:?}", files.report());
    };
    assert!(!std::sync::Arc::ptr_eq(a, b));
}
