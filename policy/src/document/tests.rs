//! What documents mean; what they say when they are wrong is in `errors`, block by block as people see it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod properties;
mod yaml;

use super::diagnostic::Severity;
use super::*;
use crate::endpoint::parse::{Role, parse_endpoint};

const LAX: ParseOptions = ParseOptions { strict: false };

fn policy(text: &str) -> PolicyDocument {
    let parsed = PolicyDocument::parse(text, &LAX);
    let shown = render::render_all(
        &parsed.diagnostics,
        text,
        render::Style {
            file: "p.yaml",
            colour: false,
        },
    );
    parsed.document.unwrap_or_else(|| panic!("{shown}"))
}

/// A wrong policy and all that is shown about it.
fn check(text: &str, expected: &str) {
    let parsed = PolicyDocument::parse(text, &LAX);
    assert_eq!(parsed.document, None);
    let style = render::Style {
        file: "p.yaml",
        colour: false,
    };
    assert_eq!(render::render_all(&parsed.diagnostics, text, style), expected);
}

/// `line:column text` of each.
fn places(list: &[SourcedEndpoint]) -> Vec<String> {
    list.iter()
        .map(|one| format!("{}:{} {}", one.line, one.column, one.text))
        .collect()
}

#[test]
fn the_document_of_the_specification() {
    let text = "\
egress-policy: block            # block | audit
allowed-endpoints: >            # folded, literal or a YAML list; space, newline or comma separated; # comments
  github.com:443
  *.actions.githubusercontent.com:443
  10.20.0.0/16:5432
  [2001:db8::1]:8443
  ntp.example.org:123/udp
denied-endpoints: |             # refused even if allowed above; without a port: every port
  gist.github.com
use: [corp-base]                # named endpoint sets of the organization, flattened in
platform: github-actions        # default; what the Actions runner itself needs
icmp: false                     # default
lockdown-mode:
  enabled: true
  detections: [Privileged-Container, Runner-Worker-Memory-Read, Reverse-Shell]
";
    let parsed = PolicyDocument::parse(text, &LAX);
    assert_eq!(parsed.diagnostics, []);
    let document = parsed.document.unwrap();
    assert_eq!(document.mode(), Some(Mode::Block));
    assert_eq!(
        places(&document.allowed_endpoints),
        [
            "3:3 github.com:443",
            "4:3 *.actions.githubusercontent.com:443",
            "5:3 10.20.0.0/16:5432",
            "6:3 [2001:db8::1]:8443",
            "7:3 ntp.example.org:123/udp",
        ]
    );
    assert_eq!(places(&document.denied_endpoints), ["9:3 gist.github.com"]);
    let denied = &document.denied_endpoints[0].endpoint;
    assert_eq!(
        *denied,
        parse_endpoint("gist.github.com", Role::Denied).unwrap().0
    );
    assert_eq!(
        (document.use_sets.as_slice(), document.line_of_set("corp-base")),
        (&["corp-base".into()][..], Some(10))
    );
    assert_eq!(
        (document.platform, document.icmp),
        (Platform::GithubActions, false)
    );
    let lockdown = document.lockdown.unwrap();
    assert!(lockdown.enabled);
    assert_eq!(lockdown.detections, Detection::ALL);
}

#[test]
fn case_commas_and_literal_blocks_are_both_endpoints() {
    // Harden-Runner takes a silently wrong port from both.
    let document = policy("allowed-endpoints: a.example:443,b.example:8443\n");
    assert_eq!(
        places(&document.allowed_endpoints),
        ["1:20 a.example:443", "1:34 b.example:8443"]
    );
    let document = policy("allowed-endpoints: |\n  a.example:443\n  b.example:8443\n");
    assert_eq!(
        places(&document.allowed_endpoints),
        ["2:3 a.example:443", "3:3 b.example:8443"]
    );
}

#[test]
fn every_style_of_a_list_keeps_its_places() {
    let expected = ["a.example:443", "b.example", "c.example:80"];
    for (text, at) in [
        (
            "allowed-endpoints: [a.example:443, \"b.example\",\n  'c.example:80']\n",
            ["1:21", "1:37", "2:4"],
        ),
        (
            "allowed-endpoints:\n- a.example:443\n# no.example\n-   \"b.example\" # x\n- 'c.example:80'\n",
            ["2:3", "4:6", "5:4"],
        ),
        (
            "allowed-endpoints: a.example:443\n  b.example\n  c.example:80\n",
            ["1:20", "2:3", "3:3"],
        ),
        (
            "allowed-endpoints: \"a.example:443 b.example\\\n   \\x20c.example:80\"\n",
            ["1:21", "1:35", "2:8"],
        ),
        (
            "allowed-endpoints: \"a.example:443 \\x62.example,\\n\\u0063.example:80\"\n",
            ["1:21", "1:35", "1:50"],
        ),
        (
            "allowed-endpoints: 'a.example:443\n\n   b.example c.example:80'\n",
            ["1:21", "3:4", "3:14"],
        ),
        (
            "allowed-endpoints: >-\n    a.example:443\n\n    b.example   c.example:80\n",
            ["2:5", "4:5", "4:17"],
        ),
        (
            "allowed-endpoints: |+2\n    a.example:443, # b.example\n  b.example\n  c.example:80\n\n",
            ["2:5", "3:3", "4:3"],
        ),
        (
            "allowed-endpoints: &list >\n  a.example:443 # c.example:80\n  b.example #x\n  # b.example\n  c.example:80",
            ["2:3", "3:3", "5:3"],
        ),
        (
            "\u{feff}allowed-endpoints: >\r\n  a.example:443\r\n  b.example\r\n  c.example:80\r\n",
            ["2:3", "3:3", "4:3"],
        ),
        (
            "{allowed-endpoints: [a.example:443, b.example, c.example:80]}",
            ["1:22", "1:37", "1:48"],
        ),
        (
            "? allowed-endpoints\n: - a.example:443\n  - b.example, c.example:80\n",
            ["2:5", "3:5", "3:16"],
        ),
    ] {
        let got = places(&policy(text).allowed_endpoints);
        let want: Vec<String> = at
            .iter()
            .zip(expected)
            .map(|(at, token)| format!("{at} {token}"))
            .collect();
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn a_token_that_occurs_twice_has_two_places() {
    let text =
        "# a.example\nallowed-endpoints: > # a.example\n  a.example # a.example\n  b.example\n  a.example\n";
    let parsed = PolicyDocument::parse(text, &LAX);
    assert_eq!(
        places(&parsed.document.unwrap().allowed_endpoints),
        ["3:3 a.example", "4:3 b.example", "5:3 a.example"]
    );
    let note = &parsed.diagnostics[0];
    assert_eq!(
        (note.severity, note.line, note.column, note.length),
        (Severity::Note, 5, 3, 9)
    );
    assert_eq!(note.message, "the same endpoint stands on line 3 already");
}

#[test]
fn aliases_point_at_what_they_repeat() {
    let document = policy("allowed-endpoints: &list\n- a.example\ndenied-endpoints: []\nuse: []\n");
    assert_eq!(places(&document.allowed_endpoints), ["2:3 a.example"]);
    let parsed = PolicyDocument::parse(
        "denied-endpoints: &x >\n  a.example\nallowed-endpoints: *x\n",
        &LAX,
    );
    assert_eq!(
        places(&parsed.document.unwrap().allowed_endpoints),
        ["2:3 a.example"]
    );
}

#[test]
fn facets() {
    let lockdown = policy("lockdown-mode: {enabled: false}\n");
    assert!(!lockdown.decides_egress() && lockdown.decides_lockdown());
    assert_eq!(lockdown.mode(), None);
    assert_eq!(
        lockdown.lockdown.unwrap(),
        Lockdown {
            enabled: false,
            detections: vec![]
        }
    );

    for block in [
        "allowed-endpoints: a.example",
        "allowed-endpoints:\n",
        "denied-endpoints: a.example",
        "use: x",
    ] {
        let document = policy(block);
        assert_eq!(
            (document.decides_egress(), document.decides_lockdown()),
            (true, false),
            "{block}"
        );
        assert_eq!(document.mode(), Some(Mode::Block), "{block}");
    }
    assert_eq!(policy("egress-policy: audit").mode(), Some(Mode::Audit));
    assert_eq!(policy("egress-policy: 'block'").mode(), Some(Mode::Block));
}

#[test]
fn platform_and_icmp() {
    let document = policy("egress-policy: block\nplatform: none\nicmp: 'true'\n");
    assert_eq!((document.platform, document.icmp), (Platform::None, true));
}

#[test]
fn inputs_of_the_action_are_accepted_kept_and_reported() {
    let text = "\
egress-policy: audit
disable-sudo: true
disable-sudo-and-containers: true
disable-telemetry: ${{ github.event_name == 'push' }}
disable-file-monitoring: 'false'
policy: our-policy
use-policy-store: true
api-key: ${{ secrets.KEY }}
exempt-files: |
  a/b
token: x
deploy-on-self-hosted-vm: true
";
    let parsed = PolicyDocument::parse(text, &LAX);
    assert!(
        parsed
            .diagnostics
            .iter()
            .all(|one| one.severity == Severity::Note)
    );
    let lines: Vec<u32> = parsed.diagnostics.iter().map(|one| one.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]);
    assert_eq!(
        parsed.diagnostics[0].message,
        "`disable-sudo` is not enforced by the gateway"
    );
    let document = parsed.document.unwrap();
    assert_eq!(document.not_enforced.len(), 10);
    assert_eq!(document.mode(), Some(Mode::Audit));
}

#[test]
fn a_pasted_step_is_read_by_its_with() {
    let step = "\
- name: Harden the runner
  uses: step-security/harden-runner@v2 # pinned
  with:
    egress-policy: block
    allowed-endpoints: >
      github.com:443
      api.github.com:443
";
    let parsed = PolicyDocument::parse(step, &LAX);
    assert_eq!(
        places(&parsed.document.unwrap().allowed_endpoints),
        ["6:7 github.com:443", "7:7 api.github.com:443"]
    );
    assert_eq!(
        parsed.diagnostics[0].message,
        "the `with:` block of a step is read as the policy"
    );
    assert_eq!(
        policy("with:\n  egress-policy: audit\n").mode(),
        Some(Mode::Audit)
    );
    assert_eq!(
        policy("uses: step-security/harden-runner@v2\nwith: {egress-policy: audit}\n").mode(),
        Some(Mode::Audit)
    );
}

#[test]
fn strict_refuses_what_strangers_can_register() {
    for text in [
        "'*.com'",
        "'*.github.io'",
        "'*:443'",
        "'*github.com'",
        "'x*.blob.core.windows.net'",
    ] {
        let text = format!("allowed-endpoints: [{text}]");
        let lax = PolicyDocument::parse(&text, &LAX);
        assert_eq!(
            (lax.document.is_some(), lax.count(Severity::Warning)),
            (true, 1),
            "{text}"
        );
        let strict = PolicyDocument::parse(&text, &ParseOptions { strict: true });
        assert_eq!(
            (strict.document.is_some(), strict.count(Severity::Error)),
            (false, 1),
            "{text}"
        );
    }
    let denied = PolicyDocument::parse("denied-endpoints: '*github.com'", &ParseOptions { strict: true });
    assert_eq!(
        (denied.document.is_some(), denied.count(Severity::Warning)),
        (true, 1)
    );
    let masked = PolicyDocument::parse("allowed-endpoints: 10.1.0.0/8", &ParseOptions { strict: true });
    assert_eq!(
        (masked.document.is_some(), masked.count(Severity::Warning)),
        (true, 1)
    );
}

#[test]
fn covered_and_contradicting_endpoints_are_told() {
    let text =
        "allowed-endpoints: a.example *.x.test b.x.test\ndenied-endpoints: |\n  *.example\n  b.x.test:80\n";
    let parsed = PolicyDocument::parse(text, &LAX);
    let said: Vec<_> = parsed
        .diagnostics
        .iter()
        .map(|d| (d.severity, d.line, d.column, d.message.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (
                Severity::Warning,
                1,
                20,
                "allowed here, but refused by `denied-endpoints` on line 3"
            ),
            (Severity::Note, 1, 39, "covered by `*.x.test` on line 1"),
        ]
    );
}

#[test]
fn endpoint_sets() {
    for text in [
        "- a.example\n- b.example:80\n",
        "a.example\nb.example:80\n",
        "endpoints:\n  - a.example\n  - b.example:80\ndescription: what all need\n",
        "endpoints: a.example, b.example:80\n",
        "|\n  a.example # x\n  b.example:80\n",
    ] {
        let set = EndpointSet::parse(text, &LAX).document.unwrap();
        let texts: Vec<_> = set.endpoints.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["a.example", "b.example:80"], "{text}");
    }
    let wrong = EndpointSet::parse("endpoint: a.example", &LAX);
    assert_eq!(wrong.document, None);
    assert_eq!(
        wrong.diagnostics[0].hint.as_deref(),
        Some("did you mean `endpoints`?")
    );
    assert_eq!(EndpointSet::parse("description: x", &LAX).document, None);
}
