//! The crate arrows of ARCHITECTURE.md, read from `cargo metadata`: any other arrow fails.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may know whom: `cli → {gateway} → {proxy → dns} → policy`; the lab and the tests stand outside.
const ARROWS: &[(&str, &[&str])] = &[
    ("tidegate-policy", &[]),
    ("tidegate-dns", &["tidegate-policy"]),
    ("tidegate-proxy", &["tidegate-policy", "tidegate-dns"]),
    ("tidegate-gateway", &["tidegate-policy", "tidegate-dns", "tidegate-proxy"]),
    // `tidegate demo` runs on the lab; `check` and `explain` call the decision core.
    ("tidegate", &["tidegate-gateway", "tidegate-policy", "tidegate-lab"]),
    ("tidegate-lab", &[]),
    ("tidegate-bench", &["tidegate-policy", "tidegate-dns", "tidegate-proxy", "tidegate-gateway", "tidegate-lab"]),
    ("tidegate-e2e", &["tidegate-policy", "tidegate-dns", "tidegate-proxy", "tidegate-gateway", "tidegate-lab"]),
];

/// Direct dependencies of a library crate at most, ours left out.
const MAX_DIRECT: usize = 27;

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata of this workspace")
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    for package in &metadata().packages {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            panic!("{} is not in the house's list; ARCHITECTURE.md names its crates", package.name);
        };
        let ours = package.dependencies.iter().filter(|one| one.path.is_some());
        for dependency in ours.filter(|one| one.kind != DependencyKind::Development) {
            assert!(
                allowed.contains(dependency.name.as_str()),
                "{} → {} is not an arrow of the house",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn the_decision_core_has_no_runtime_no_sockets_and_no_clock() {
    let metadata = metadata();
    let policy = metadata.packages.iter().find(|one| one.name.as_str() == "tidegate-policy").expect("policy");
    for dependency in policy.dependencies.iter().filter(|one| one.kind == DependencyKind::Normal) {
        let banned = ["tokio", "socket2", "nix", "libc", "hyper", "futures-util", "notify"];
        assert!(!banned.contains(&dependency.name.as_str()), "policy must not use {}", dependency.name);
    }
}

#[test]
fn direct_dependencies_stay_few() {
    for package in &metadata().packages {
        let theirs = package
            .dependencies
            .iter()
            .filter(|one| one.kind == DependencyKind::Normal && one.path.is_none())
            .count();
        assert!(theirs <= MAX_DIRECT, "{} has {theirs} direct dependencies", package.name);
    }
}
