//! Wrong documents, as `tidegate check` shows them.

use super::*;

/// All diagnostics of a policy, as shown.
fn shown(text: &str) -> String {
    let parsed = PolicyDocument::parse(text, &LAX);
    assert!(
        parsed.document.is_none(),
        "{text} is accepted: {:?}",
        parsed.diagnostics
    );
    render::render_all(
        &parsed.diagnostics,
        text,
        render::Style {
            file: "p.yaml",
            colour: false,
        },
    )
}

#[test]
fn x() {
    for text in [
        "egress-policy: block\nallowed-endpoints: >\n  github.com:443\n  # github.com:abc is a comment\n  api.github.com:443   github.com:abc\n  https://a.example/x\n",
        "allowed-endpoints: |\n  a..b\n  git hub.com:443x\n  [::1\n  169.254.169.254:80\n",
        "allowed-endpoints:\n  - a.example\n  - b.example: 443\n  - 443\n  -\n  - [::1]\n  - \"c.example:0\"\n",
        "egress-policy: block\nallowed-endpoint: a.example\nicmp: yes\nplatform: github\negress_policy: audit\nfoo: bar\n",
        "egress-policy: blok\nuse: {a: b}\nlockdown-mode:\n  detections: [Reverse-Shel, Foo]\n  mode: x\n",
        "egress-policy: block\negress-policy: audit\n",
        "allowed-endpoints:\n  - *.example.com:443\n",
        "allowed-endpoints: [a.example, *.example.com]\n",
        "allowed-endpoints: *github.com\n",
        "allowed-endpoints: *github\n",
        "allowed-endpoints:\n\t- a.example\n",
        "lockdown-mode:\n  enabled: true\n\tdetections: []\n",
        "egress-policy: block\nallowed-endpoints: a: b\n",
        "allowed-endpoints:\n  - [2001:db8::1]:443\n",
        "allowed-endpoints: [2001:db8::1]:443\n",
        "egress-policy: \"block\nallowed-endpoints: x\n",
        "egress-policy: block\n---\negress-policy: audit\n",
        "",
        "# only\n",
        "- a\n- b\n",
        "block",
        "jobs:\n  x: y\n",
        "- uses: actions/checkout@v4\n  with: {a: b}\n",
        "egress-policy: !x block\n",
        "egress-policy:\n",
        "1: x\n",
        "lockdown-mode: true\n",
        "allowed-endpoints: 443\n",
        "use: [a b, 'c/d:443']\n",
        "egress-policy: [block]\n",
        "allowed-endpoints: ${{ vars.X }}\n",
        "allowed-endpoints: >\n  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example cccccccccccccccccccccccc.example:x ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd.example\n",
        "\"allowed-endpoints\": 'a:x'\n",
        "a: \u{1}\n",
    ] {
        println!("##### {text}\n{}", shown(text));
    }
}
