//! Wrong configurations: refused whole before anything is touched, with the place and what to do.

use tidegate_e2e::tidegate as program;
use tidegate_lab::{Lab, Output};

use super::{Folder, tidegate, untouched};

const RIGHT: &str = "version: 1
gateway:
  name: gw-1
  state-dir: state
  networks:
    - {name: runners, interface: runners0, default-policy: default.yaml}
  dns:
    upstreams: [192.0.2.1]
  static-leases:
    - {sources: [10.77.1.2], owner: acme, repo: acme/web, policy: ci.yaml}
";

/// What is replaced, by what, and what the error says; it always names the file.
const WRONG: &[(&str, &str, &[&str])] = &[
    (
        "  name: gw-1",
        "  nmae: gw-1",
        &[":3:", "nmae", "did you mean `name`?"],
    ),
    ("dns:", "dsn:", &["dsn", "did you mean `dns`?"]),
    ("upstreams:", "upstream:", &["upstream", "did you mean"]),
    (
        "default-policy:",
        "default_policy:",
        &["did you mean `default-policy`?"],
    ),
    ("version: 1", "version: 2", &["version", "write 1"]),
    ("version: 1\n", "", &["version"]),
    (
        "interface: runners0",
        "interface: \"x; drop\"",
        &["gateway.networks[0].interface", "not the name of an interface"],
    ),
    (
        "interface: runners0",
        "interface: much-too-long-for-one",
        &["not the name of an interface"],
    ),
    ("[192.0.2.1]", "[]", &["gateway.dns.upstreams", "at least one"]),
    (
        "[192.0.2.1]",
        "[192.0.2.1]\n    hosts: {\"a b\": [10.0.0.1]}",
        &["gateway.dns.hosts", "not a host name"],
    ),
    (
        "[192.0.2.1]",
        "[192.0.2.1]\n    hosts: {a.test: [10.0.0.300]}",
        &[":9:", "gateway.dns.hosts.a.test[0]", "invalid IP address"],
    ),
    (
        "[192.0.2.1]",
        "[192.0.2.1]\n    internal-domains: [10.0.0.0/8]",
        &["gateway.dns.internal-domains[0]", "write a domain"],
    ),
    (
        "[192.0.2.1]",
        "[192.0.2.1]\n    forward: {\"..\": [192.0.2.2]}",
        &["gateway.dns.forward"],
    ),
    (
        "  static-leases:",
        "  proxy: {detect-timeout: soon}\n  static-leases:",
        &["gateway.proxy.detect-timeout", "500ms"],
    ),
    (
        "  static-leases:",
        "  proxy: {detect-timeout: 2d}\n  static-leases:",
        &["gateway.proxy.detect-timeout", "out of bounds"],
    ),
    (
        "  static-leases:",
        "  proxy: {destination: anywhere}\n  static-leases:",
        &["anywhere", ":9:"],
    ),
    (
        "  static-leases:",
        "  proxy: {quic: inspect}\n  static-leases:",
        &["gateway.proxy.quic", "write refuse"],
    ),
    (
        "  static-leases:",
        "  metrics: {listen: everywhere}\n  static-leases:",
        &["gateway.metrics.listen", "invalid socket address"],
    ),
    (
        "  static-leases:",
        "  control-plane: {url: \"https://x.test\"}\n  static-leases:",
        &["gateway.control-plane", "missing field `token-file`"],
    ),
    (
        "sources: [10.77.1.2]",
        "sources: []",
        &["gateway.static-leases[0]", "sources"],
    ),
    (
        "sources: [10.77.1.2]",
        "sources: [10.77.1.2/40]",
        &["gateway.static-leases[0].sources", "expected an address such as"],
    ),
    (
        "  static-leases:",
        "  egress: {source: elsewhere}\n  static-leases:",
        &["gateway.egress", "expected `gateway`, `preserve`"],
    ),
    ("owner: acme, ", "", &["owner"]),
    (
        "policy: ci.yaml}",
        "policy: ci.yaml}\n    - {sources: [10.77.1.2], owner: acme}",
        &["static-leases[1]", "held by another"],
    ),
    ("gateway:", "gateway: {}\ngateway:", &["gateway"]),
    ("state-dir: state", "state-dir: [", &["tidegate.yaml"]),
];

#[test]
fn a_wrong_configuration_is_exit_code_2_with_place_and_hint() {
    let folder = Folder::new();
    for (from, to, said) in WRONG {
        assert!(RIGHT.contains(from), "{from}");
        let file = folder.file("tidegate.yaml", &RIGHT.replacen(from, to, 1));
        for command in ["gateway", "up", "status"] {
            let outcome = tidegate(&[command, "--config", &file]);
            assert_eq!(outcome.code, Some(2), "{command} with {to:?}: {outcome:?}");
            assert!(
                outcome.err.starts_with("tidegate: ") && outcome.err.contains(&file),
                "{to:?}: {outcome:?}"
            );
            for part in *said {
                assert!(
                    outcome.err.contains(part),
                    "{part:?} is not said of {to:?}: {outcome:?}"
                );
            }
        }
    }
}

/// Runs a gateway that can't start to its end.
async fn fails(lab: &Lab, config: &str) -> Output {
    let dir = lab.dir().join("wrong");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("tidegate.yaml");
    std::fs::write(&file, config).unwrap();
    let outcome = lab
        .gw()
        .command(program())
        .args(["gateway", "--config"])
        .arg(&file)
        .run()
        .await
        .unwrap();
    assert!(!outcome.errors().contains("panicked"), "{outcome}");
    untouched(lab).await;
    outcome
}

#[tokio::test]
async fn what_the_machine_lacks_is_said_and_nothing_is_touched() {
    let lab = Lab::builder().build().unwrap();
    lab.gw().ip("link add bare0 type veth peer name bare1").unwrap();
    std::fs::write(lab.dir().join("a-file"), "").unwrap();
    for (from, to, said) in [
        (
            "interface: runners0",
            "interface: nothere0",
            "interface nothere0 does not exist or has no address",
        ),
        (
            "interface: runners0",
            "interface: bare0",
            "interface bare0 does not exist or has no address",
        ),
        ("state-dir: state", "state-dir: ../a-file/state", "a-file/state"),
        (
            "static-leases:",
            "metrics: {listen: \"203.0.113.1:9464\"}\n  static-leases:",
            "203.0.113.1:9464",
        ),
        (
            "static-leases:",
            "events: {file: ../a-file/events}\n  static-leases:",
            "event log",
        ),
        (
            "[192.0.2.1]",
            "[192.0.2.1]\n    upstream-ca: nothere.pem",
            "nothere.pem",
        ),
        (
            "[192.0.2.1]",
            "[192.0.2.1]\n    tls: {cert: nothere.pem, key: nothere.key}",
            "nothere.pem",
        ),
    ] {
        let outcome = fails(&lab, &RIGHT.replacen(from, to, 1)).await;
        assert_eq!(outcome.code(), Some(1), "{to}: {outcome}");
        assert!(outcome.errors().contains(said), "{to}: {outcome}");
    }
    // An upstream's spelling is the configuration's fault.
    let outcome = fails(&lab, &RIGHT.replacen("[192.0.2.1]", "[\"quic://192.0.2.1\"]", 1)).await;
    assert!(matches!(outcome.code(), Some(1 | 2)), "{outcome}");
    assert!(
        outcome.errors().contains("quic://192.0.2.1") && outcome.errors().contains("expected an address"),
        "{outcome}"
    );
}

#[tokio::test]
async fn without_privileges_it_says_so() {
    let lab = Lab::builder().build().unwrap();
    let config = lab.dir().join("tidegate.yaml");
    std::fs::write(&config, RIGHT).unwrap();
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--no-new-privs",
        "--",
    ];
    let command = lab.gw().command("setpriv").args(nobody).arg(program());
    let outcome = command
        .args(["gateway", "--config"])
        .arg(&config)
        .run()
        .await
        .unwrap();
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert!(outcome.errors().to_lowercase().contains("permi"), "{outcome}");
    assert!(!outcome.errors().contains("panicked"), "{outcome}");
    untouched(&lab).await;
}
