//! The crate arrows of ARCHITECTURE.md, read from `cargo metadata`: any other arrow fails. And who opens
//! connections, read from the sources.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may know whom: `cli → {gateway, control} → {proxy → dns} → policy`, and what gateway and control say to each
/// other in a crate of its own; the lab and the tests stand outside.
const ARROWS: &[(&str, &[&str])] = &[
    ("tidegate-policy", &[]),
    ("tidegate-dns", &["tidegate-policy"]),
    ("tidegate-proxy", &["tidegate-policy", "tidegate-dns"]),
    (
        "tidegate-gateway",
        &[
            "tidegate-policy",
            "tidegate-dns",
            "tidegate-proxy",
            "tidegate-control-wire",
        ],
    ),
    ("tidegate-control-wire", &["tidegate-policy"]),
    // The web UI is a client of the API, which hands it its router: it knows neither store nor model.
    ("tidegate-control-ui", &["tidegate-control-wire"]),
    (
        "tidegate-control",
        &["tidegate-policy", "tidegate-control-wire", "tidegate-control-ui"],
    ),
    // `tidegate demo` runs on the lab; `check` and `explain` call the decision core; hooks read what a gateway answers,
    // and show it by the wire's rules for text from strangers.
    (
        "tidegate",
        &[
            "tidegate-gateway",
            "tidegate-control",
            "tidegate-control-wire",
            "tidegate-policy",
            "tidegate-lab",
        ],
    ),
    ("tidegate-lab", &[]),
    (
        "tidegate-bench",
        &[
            "tidegate-policy",
            "tidegate-dns",
            "tidegate-proxy",
            "tidegate-gateway",
            "tidegate-control",
            "tidegate-control-wire",
            "tidegate-lab",
        ],
    ),
    (
        "tidegate-fleet",
        &[
            "tidegate-bench",
            "tidegate-policy",
            "tidegate-control",
            "tidegate-control-wire",
            "tidegate-lab",
        ],
    ),
    (
        "tidegate-e2e",
        &[
            "tidegate-policy",
            "tidegate-dns",
            "tidegate-proxy",
            "tidegate-gateway",
            "tidegate-control",
            "tidegate-control-wire",
            "tidegate-lab",
        ],
    ),
];

/// Direct dependencies of a library crate at most, ours left out. The gateway needs the most of them: kernel interfaces,
/// HTTP, and TLS towards runners and the control plane.
const MAX_DIRECT: usize = 28;
/// The control plane's: a database, a web framework with its OpenAPI and middleware, and a client for feeds and issuers
/// meet in it and nowhere else.
const MAX_DIRECT_CONTROL: usize = 36;

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata of this workspace")
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<_, BTreeSet<_>> = ARROWS
        .iter()
        .map(|(from, to)| (*from, to.iter().copied().collect()))
        .collect();
    for package in &metadata().packages {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            panic!(
                "{} is not in the house's list; ARCHITECTURE.md names its crates",
                package.name
            );
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
    let policy = metadata
        .packages
        .iter()
        .find(|one| one.name.as_str() == "tidegate-policy")
        .expect("policy");
    for dependency in policy
        .dependencies
        .iter()
        .filter(|one| one.kind == DependencyKind::Normal)
    {
        let banned = [
            "tokio",
            "socket2",
            "nix",
            "libc",
            "hyper",
            "futures-util",
            "notify",
        ];
        assert!(
            !banned.contains(&dependency.name.as_str()),
            "policy must not use {}",
            dependency.name
        );
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
        let most = if package.name.as_str() == "tidegate-control" {
            MAX_DIRECT_CONTROL
        } else {
            MAX_DIRECT
        };
        assert!(
            theirs <= most,
            "{} has {theirs} direct dependencies",
            package.name
        );
    }
}

/// Invariant 2: the files that connect anything to another machine. Each takes a permit that only `policy`
/// makes; a new one needs a reviewer's eye, and its line here. (Upstreams are asked through a library, in
/// `dns/src/resolver`, for a `QueryPermit`.)
const DIALLERS: [&str; 3] = [
    "dns/src/front/relay.rs",
    "dns/src/front/relay_tcp.rs",
    "proxy/src/dial.rs",
];

#[test]
fn invariant_2_connections_are_opened_where_a_permit_is_taken_and_nowhere_else() {
    let root = metadata().workspace_root;
    let mut diallers = BTreeSet::new();
    let mut folders = vec![root.join("dns/src"), root.join("proxy/src")];
    while let Some(folder) = folders.pop() {
        for entry in folder
            .read_dir_utf8()
            .expect("a folder of sources")
            .map(|entry| entry.expect("its entries"))
        {
            let path = entry.path();
            let inner = path
                .strip_prefix(&root)
                .expect("a path of the workspace")
                .to_string();
            if path.is_dir() {
                folders.push(path.to_owned());
            } else if path.extension() == Some("rs")
                && !inner.contains("/tests")
                && !inner.contains("/testing")
            {
                let text = std::fs::read_to_string(path).expect("a source file");
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                if [
                    "TcpStream::connect(",
                    "TcpSocket::",
                    "UdpSocket::bind(",
                    "socket.connect(",
                ]
                .iter()
                .any(|call| product.contains(call))
                {
                    diallers.insert(inner);
                }
            }
        }
    }
    // It connects to the gateway's own server on the loopback address.
    diallers.retain(|file| file != "dns/src/front/encrypted.rs");
    assert_eq!(diallers, DIALLERS.iter().map(|file| (*file).to_owned()).collect());
}
