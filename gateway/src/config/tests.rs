//! Tests of reading the configuration.

use std::path::Path;

use super::{Egress, GatewayConfig};

const SMALL: &str = "\
version: 1
gateway:
  name: gw-1
  networks:
    - {name: runners, interface: runners0, default-policy: default.yaml}
  dns: {upstreams: [198.51.100.53]}
";

fn parse(text: &str) -> Result<GatewayConfig, String> {
    GatewayConfig::parse(text, Path::new("/etc/tidegate/tidegate.yaml")).map_err(|error| error.to_string())
}

#[test]
fn a_small_file_is_completed_with_defaults() {
    let config = parse(SMALL).expect("accepted");
    assert_eq!(
        config.networks[0].default_policy.as_deref(),
        Some(Path::new("/etc/tidegate/default.yaml"))
    );
    assert_eq!(config.proxy.egress, Egress::Gateway);
    assert_eq!(config.proxy.ticket_hold.as_secs(), 3600);
    assert!(config.events.is_none() && config.metrics.is_none());
}

#[test]
fn the_interfaces_own_example_is_accepted_but_for_the_control_planes_keys() {
    let text = "\
version: 1
gateway:
  name: gw-1
  state-dir: /var/lib/tidegate
  networks:
    - {name: runners, interface: runners0, cluster: prod, runners: ephemeral, default-policy: default.yaml,
       min-assurance: declared, always-allow: host.yaml}
  default-policy: default.yaml
  endpoint-sets: {corp-base: corp.yaml}
  dns:
    upstreams: [10.0.0.2, \"tls://9.9.9.9#dns.quad9.net\", \"https://1.1.1.1/dns-query\"]
    forward: {corp.example: [10.0.0.2]}
    internal-domains: [corp.example]
    hosts: {agent.example: [10.0.0.5, \"fd00::5\"]}
  proxy: {detect-timeout: 3s, destination: resolve, ticket-hold: 1h, quic: refuse}
  egress: {source: gateway}
  global-block: [block.txt]
  static-leases:
    - {sources: [10.77.1.2, \"fd77:1::2\"], owner: Acme, repo: acme/Web, workflow: ci.yml, job: build, policy: ci.yaml}
    - {sources: [10.77.3.0/24], owner: acme, repo: acme/api}
  runner-api:
    listen: [\"10.77.1.1:443\", \"[fd77:1::1]:443\"]
    tls: {cert: runner.pem, key: runner.key}
    job-page: https://control.example/jobs/{job}
  events: {file: /var/log/tidegate/events.ndjson}
  metrics: {listen: \"127.0.0.1:9464\"}
control:
  listen: 127.0.0.1:8443
";
    let config = parse(text).expect("accepted");
    assert_eq!(config.static_leases[0].identity.repo, "acme/web");
    assert_eq!(config.static_leases[0].sources.len(), 2);
    assert!(config.dns.internal_domains[0].as_exact().is_some());
    let api = config.runner_api.expect("is read");
    assert_eq!(api.listen.len(), 2);
    assert_eq!(api.cert, Path::new("/etc/tidegate/runner.pem"));
    assert_eq!(
        api.job_page.as_deref(),
        Some("https://control.example/jobs/{job}")
    );
}

#[test]
fn an_unknown_key_names_line_and_the_key_that_was_meant() {
    let error = parse(&SMALL.replace("default-policy", "defualt-policy")).expect_err("refused");
    assert!(error.starts_with("/etc/tidegate/tidegate.yaml:5:"), "{error}");
    assert!(error.ends_with("did you mean `default-policy`?"), "{error}");
}

#[test]
fn wrong_values_name_their_key_and_what_to_write() {
    for (from, to, want) in [
        ("version: 1", "version: 2", "version: 2 is not a version"),
        (
            "[198.51.100.53]",
            "[]",
            "gateway.dns.upstreams: name at least one",
        ),
        ("runners0", "run/ners0", "gateway.networks[0].interface"),
        ("name: gw-1", "name: ''", "gateway.name: write a name"),
        (
            "  dns:",
            "  proxy: {detect-timeout: soon}\n  dns:",
            "gateway.proxy.detect-timeout: \"soon\" is not a time span",
        ),
        ("  dns:", "  proxy: {quic: inspect}\n  dns:", "gateway.proxy.quic"),
        ("  dns:", "  name: twice\n  dns:", "duplicate"),
        (
            "  dns:",
            "  runner-api: {listen: [\"10.77.1.1:443\"]}\n  dns:",
            "missing field `tls`",
        ),
        (
            "  dns:",
            "  runner-api: {listen: [], tls: {cert: c, key: k}}\n  dns:",
            "gateway.runner-api.listen: write 1 to 16",
        ),
        (
            "  dns:",
            "  runner-api: {listen: [\"0.0.0.0:443\"], tls: {cert: c, key: k}}\n  dns:",
            "gateway.runner-api.listen[0]: 0.0.0.0 can't be listened on",
        ),
        (
            "  dns:",
            "  runner-api: {listen: [\"10.77.1.1:443\", \"10.77.1.1:443\"], tls: {cert: c, key: k}}\n  dns:",
            "gateway.runner-api.listen[1]: 10.77.1.1:443 is named twice",
        ),
        (
            "  dns:",
            "  runner-api: {listen: [\"10.77.1.1:0\"], tls: {cert: c, key: k}}\n  dns:",
            "has no port",
        ),
        (
            "  dns:",
            "  runner-api: {listen: [\"10.77.1.1:443\"], tls: {cert: c, key: k}, job-page: \"javascript:x\"}\n  dns:",
            "gateway.runner-api.job-page: \"javascript:x\" is no URL",
        ),
    ] {
        let error = parse(&SMALL.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(want), "{to}: {error}");
    }
}

fn control_plane(line: &str) -> Result<GatewayConfig, String> {
    parse(&SMALL.replacen(
        "  dns:",
        &format!("  group: zone-a\n  control-plane: {line}\n  dns:"),
        1,
    ))
}

#[test]
fn the_control_planes_url_is_taken_apart() {
    for (url, want) in [
        ("https://control.example:8443", (true, "control.example", 8443)),
        ("https://control.example/", (true, "control.example", 443)),
        ("https://[2001:db8::1]:8443", (true, "2001:db8::1", 8443)),
        ("http://127.0.0.1:8443", (false, "127.0.0.1", 8443)),
        ("http://[::1]:8443", (false, "::1", 8443)),
        ("http://localhost", (false, "localhost", 80)),
    ] {
        let config = control_plane(&format!("{{url: \"{url}\", token-file: token, ca: ca.pem}}"));
        let config = config.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(config.group.as_deref(), Some("zone-a"));
        let plane = config.control_plane.expect("there is one");
        assert_eq!((plane.tls, plane.host.as_str(), plane.port), want, "{url}");
        assert_eq!(plane.token_file, Path::new("/etc/tidegate/token"));
        assert_eq!(plane.ca.as_deref(), Some(Path::new("/etc/tidegate/ca.pem")));
    }
}

#[test]
fn a_url_that_would_show_the_token_or_means_nothing_is_refused() {
    for (url, want) in [
        ("http://control.example:8443", "plain http is for loopback only"),
        ("http://127.0.0.1.example:8443", "plain http is for loopback only"),
        ("https://control.example/sync", "scheme, host and port only"),
        ("https://me:secret@control.example", "scheme, host and port only"),
        ("https://control.example?x=1", "scheme, host and port only"),
        ("control.example:8443", "is not a URL"),
        ("ftp://control.example", "is not a URL"),
        ("https://", "is not a URL"),
        ("/var/run/control", "is not a URL"),
    ] {
        let error = control_plane(&format!("{{url: \"{url}\", token-file: token}}")).expect_err(url);
        assert!(
            error.contains("gateway.control-plane.url") && error.contains(want),
            "{url}: {error}"
        );
    }
    let error = control_plane("{url: \"https://control.example\"}").expect_err("no token");
    assert!(error.contains("token-file"), "{error}");
}

#[test]
fn the_spool_has_a_bound_that_holds_something() {
    let spool =
        |events: &str| parse(&SMALL.replacen("  dns:", &format!("  events: {{{events}}}\n  dns:"), 1));
    assert_eq!(spool("").expect("parses").spool_bytes, 1 << 30);
    assert_eq!(spool("spool-bytes: 65536").expect("parses").spool_bytes, 65_536);
    let error = spool("spool-bytes: 65535").expect_err("too small");
    assert!(
        error.contains("gateway.events.spool-bytes") && error.contains("65536 or more"),
        "{error}"
    );
    let error = spool("spool-byte: 65536").expect_err("no such key");
    assert!(error.contains("spool-byte"), "{error}");
}
