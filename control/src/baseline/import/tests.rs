//! What of a baseline becomes a policy, how it is written, and that whatever is written is read as it was meant.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use proptest::prelude::*;
use tidegate_policy::document::{ParseOptions, PolicyDocument};

use super::*;

fn target(endpoint: &str, port: u16, transport: Transport) -> Target {
    Target {
        endpoint: endpoint.into(),
        port,
        transport,
    }
}

fn seen(runs: u64) -> Seen {
    Seen {
        target: target("registry.npm.example", 443, Transport::Tcp),
        first_at: Timestamp::UNIX_EPOCH,
        last_at: Timestamp::UNIX_EPOCH,
        calls: 1,
        runs,
        fork_runs: 0,
        claimed_runs: 0,
        late: false,
        accepted: false,
        suffix: false,
        detection: None,
    }
}

#[test]
fn endpoints_are_written_as_policies_name_them() {
    for (endpoint, port, transport, written) in [
        (
            "registry.npm.example",
            443,
            Transport::Tcp,
            Some("registry.npm.example:443"),
        ),
        ("ntp.example", 123, Transport::Udp, Some("ntp.example:123/udp")),
        ("2001:db8::1", 8443, Transport::Tcp, Some("[2001:db8::1]:8443")),
        ("203.0.113.9", 22, Transport::Tcp, Some("203.0.113.9:22")),
        (
            "_x.rr4---sn-x.example",
            443,
            Transport::Tcp,
            Some("_x.rr4---sn-x.example:443"),
        ),
        // A job may ask for any of these.
        ("*.evil.example", 443, Transport::Tcp, None),
        ("*", 443, Transport::Tcp, None),
        ("a\\.b.example", 443, Transport::Tcp, None),
        ("a b.example", 443, Transport::Tcp, None),
        ("a.example:80 b.example", 443, Transport::Tcp, None),
        ("a.example\\u{a}b.example", 443, Transport::Tcp, None),
        ("10.0.0.0/8", 443, Transport::Tcp, None),
        ("169.254.169.254", 80, Transport::Tcp, None),
        ("", 443, Transport::Tcp, None),
        ("x.example", 0, Transport::Tcp, None),
        ("x.example", 0, Transport::Dns, None),
    ] {
        let rule = rule(&target(endpoint, port, transport));
        assert_eq!(rule.as_deref(), written, "{endpoint}");
    }
}

#[test]
fn what_could_be_a_trick_or_an_accident_is_left_out_and_said() {
    let default = Wanted::default();
    let of = |change: fn(&mut Seen)| {
        let mut one = seen(5);
        change(&mut one);
        left_out(&one, &default)
    };
    assert_eq!(of(|_| ()), []);
    assert_eq!(
        of(|one| (one.runs, one.fork_runs) = (0, 9)),
        [LeftOut::ForkPullRequest]
    );
    assert_eq!(
        of(|one| (one.runs, one.claimed_runs) = (0, 9)),
        [LeftOut::Claimed]
    );
    assert_eq!(of(|one| one.runs = 0), [LeftOut::FewRuns]);
    assert_eq!(of(|one| (one.runs, one.fork_runs) = (2, 9)), []);
    assert_eq!(of(|one| one.runs = 1), [LeftOut::SingleRun]);
    assert_eq!(of(|one| one.suffix = true), [LeftOut::SearchSuffix]);
    assert_eq!(of(|one| one.late = true), [LeftOut::OpenDetection]);
    assert_eq!(
        of(|one| (one.late, one.detection) = (true, Some(Status::New))),
        [LeftOut::OpenDetection]
    );
    assert_eq!(
        of(|one| (one.late, one.detection) = (true, Some(Status::Resolved))),
        [LeftOut::Unexpected]
    );
    assert_eq!(of(|one| (one.late, one.accepted) = (true, true)), []);
    let wanted = Wanted {
        since: Some("1970-01-02T00:00:00Z".parse().unwrap()),
        min_runs: 6,
    };
    assert_eq!(left_out(&seen(5), &wanted), [LeftOut::FewRuns, LeftOut::NotSince]);
    let single = Wanted {
        min_runs: 1,
        ..default
    };
    assert_eq!(left_out(&seen(1), &single), [], "somebody asked for it");
}

#[test]
fn the_document_says_where_it_comes_from() {
    let counts = [(LeftOut::SingleRun, 2)];
    let draft = Draft {
        scope: "workflow:acme/web/a\nb.yml",
        now: "2026-02-03T04:05:06.789Z".parse().unwrap(),
        state: State::Stable,
        runs: 120,
        wanted: Wanted::default(),
        mode: Mode::Audit,
        left_out: &counts,
    };
    let text = draft.document(vec!["b.example:443".into(), "[2001:db8::1]:8443".into()]);
    assert_eq!(
        text,
        "# From the baseline of workflow:acme/web/a\\u{a}b.yml on 2026-02-03T04:05:06Z.\n\
         # It was stable after 120 runs; 2 endpoints, each reached in 2 runs or more.\n\
         # Left out: 2 reached in a single run.\n\
         # It only records yet; `egress-policy: block` enforces it.\n\
         egress-policy: audit\n\
         allowed-endpoints: >\n  \
         [2001:db8::1]:8443\n  \
         b.example:443\n"
    );
    let parsed = PolicyDocument::parse(&text, &ParseOptions { strict: true });
    let document = parsed.document.unwrap();
    assert_eq!(document.allowed_endpoints.len(), 2);
    assert_eq!(document.mode(), Some(Mode::Audit));
}

proptest! {
    /// Whatever a job asks for, a line of an export is one endpoint: this one.
    #[test]
    fn no_name_writes_more_than_its_own_endpoint(name in "\\PC{0,60}", port in any::<u16>()) {
        let target = target(&name, port, Transport::Tcp);
        if let Some(line) = rule(&target) {
            let (read, _) = parse_endpoint(&line, Role::Allowed).unwrap();
            prop_assert!(!line.contains(char::is_whitespace) && !line.contains([',', '#', '*']));
            prop_assert_eq!(read.ports, Ports::one(port));
            prop_assert_eq!(read.to_string(), line);
        }
    }
}
