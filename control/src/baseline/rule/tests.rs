//! What a suppression rule covers: endpoints as policies mean them, and only detections of its place, type and process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use crate::baseline::sighting::Transport;

fn rule(endpoint: &str) -> Suppression {
    Suppression {
        id: "sup_1".into(),
        kind: None,
        owner: None,
        repo: None,
        workflow: None,
        endpoint: endpoint.into(),
        process: None,
        reason: "ours".into(),
        created_by: "ada".into(),
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
    }
}

fn covers(rule: Suppression, endpoint: &str, port: u16, transport: Transport) -> bool {
    let target = Target {
        endpoint: endpoint.into(),
        port,
        transport,
    };
    let subject = Subject {
        kind: DetectionType::DomainBlocked,
        owner: "acme",
        repo: "acme/web",
        workflow: "ci.yml",
        target: &target,
        process: Some("/usr/bin/curl"),
    };
    Rule::new(rule).unwrap().covers(&subject, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_pattern_means_what_it_means_in_a_policy() {
    for (pattern, endpoint, port, transport, covered) in [
        ("*.corp.example", "a.b.corp.example", 22, Transport::Tcp, true),
        ("*.corp.example", "corp.example", 22, Transport::Tcp, false),
        ("x.example:443", "x.example", 443, Transport::Tcp, true),
        ("x.example:443", "x.example", 80, Transport::Tcp, false),
        ("x.example:443", "x.example", 0, Transport::Dns, true),
        ("10.0.0.0/8", "10.1.2.3", 5432, Transport::Udp, true),
        ("10.0.0.0/8", "11.1.2.3", 5432, Transport::Tcp, false),
        ("[2001:db8::/32]:443", "2001:db8::1", 443, Transport::Tcp, true),
        // The metadata address is asked for by every cloud's tools.
        ("169.254.169.254", "169.254.169.254", 80, Transport::Tcp, true),
        ("*", "evil.example", 1, Transport::Tcp, true),
        ("*", "203.0.113.9", 1, Transport::Tcp, false),
        ("*", "no name", 1, Transport::Tcp, false),
    ] {
        let said = covers(rule(pattern), endpoint, port, transport);
        assert_eq!(said, covered, "{pattern} {endpoint}:{port}");
    }
    assert!(Rule::new(rule("https://x.example/")).is_err());
}

#[test]
fn a_rule_covers_its_own_type_scope_process_and_time_only() {
    let base = || rule("x.example");
    let of = |rule| covers(rule, "x.example", 443, Transport::Tcp);
    let text = |text: &str| Some(text.to_owned());
    assert!(of(Suppression {
        owner: text("acme"),
        repo: text("acme/web"),
        workflow: text("ci.yml"),
        process: text("curl"),
        expires_at: Some("1970-01-01T00:00:01Z".parse().unwrap()),
        ..base()
    }));
    for other in [
        Suppression {
            owner: text("other"),
            ..base()
        },
        Suppression {
            repo: text("acme/api"),
            ..base()
        },
        Suppression {
            workflow: text("cd.yml"),
            ..base()
        },
        Suppression {
            process: text("bin/curl"),
            ..base()
        },
        Suppression {
            expires_at: Some(Timestamp::UNIX_EPOCH),
            ..base()
        },
        Suppression {
            kind: Some(DetectionType::NewOutboundNetworkCall),
            ..base()
        },
    ] {
        assert!(!of(other.clone()), "{other:?}");
    }
}
