//! Wrong endpoints, keys and values, as `tidegate check` shows them.

use super::*;

#[test]
fn colours_are_added_around_the_same_text() {
    let text = "icmp: maybe";
    let parsed = PolicyDocument::parse(text, &LAX);
    let one = render::render(
        &parsed.diagnostics[0],
        text,
        render::Style {
            file: "p.yaml",
            colour: true,
        },
    );
    assert!(one.starts_with("\x1b[1;31merror\x1b[0m: `icmp` is"), "{one}");
    let plain = render::render(
        &parsed.diagnostics[0],
        text,
        render::Style {
            file: "p.yaml",
            colour: false,
        },
    );
    let stripped = ["\x1b[1;31m", "\x1b[1;34m", "\x1b[0m"]
        .iter()
        .fold(one, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn errors_in_a_folded_block() {
    let text = "\
egress-policy: block
allowed-endpoints: >
  github.com:443
  # github.com:abc is a comment
  api.github.com:443   github.com:abc
  https://a.example/x
";
    let expected = "\
error: expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `abc`
 --> p.yaml:5:35
  |
5 |   api.github.com:443   github.com:abc
  |                                   ^^^

error: a URL is not an endpoint: expected `host[:ports][/udp]`
 --> p.yaml:6:3
  |
6 |   https://a.example/x
  |   ^^^^^^^^^^^^^^^^^^^
  = help: write `a.example`

p.yaml: 2 errors
";
    check(text, expected);
}

#[test]
fn errors_in_a_literal_block() {
    let text = "\
allowed-endpoints: |
  a..b
  git hub.com:443x
  [::1
  169.254.169.254:80
";
    let expected = "\
error: the name has an empty label
 --> p.yaml:2:4
  |
2 |   a..b
  |    ^^

error: expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `443x`
 --> p.yaml:3:15
  |
3 |   git hub.com:443x
  |               ^^^^

error: expected `]` after the IPv6 address
 --> p.yaml:4:3
  |
4 |   [::1
  |   ^^^^

error: the gateway never dials 169.254.169.254/32
 --> p.yaml:5:3
  |
5 |   169.254.169.254:80
  |   ^^^^^^^^^^^^^^^

p.yaml: 4 errors
";
    check(text, expected);
}

#[test]
fn errors_in_a_list() {
    let text = "\
allowed-endpoints:
  - a.example
  - b.example: 443
  - 443
  -
  - [a.example]
  - \"c.example:0\"
";
    let expected = "\
error: expected an endpoint, found a mapping
 --> p.yaml:3:5
  |
3 |   - b.example: 443
  |     ^^^^^^^^^
  = help: write `b.example:port` without a space after the colon

error: expected an endpoint, found a number
 --> p.yaml:4:5
  |
4 |   - 443
  |     ^^^
  = help: quote it if it is an endpoint

error: expected an endpoint, found nothing
 --> p.yaml:5:4
  |
5 |   -
  |    ^

error: expected an endpoint, found a list
 --> p.yaml:6:6
  |
6 |   - [a.example]
  |      ^^^^^^^^^
  = help: quote entries that begin with a bracket: \"[2001:db8::1]:443\"

error: expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `0`
 --> p.yaml:7:16
  |
7 |   - \"c.example:0\"
  |                ^

p.yaml: 5 errors
";
    check(text, expected);
}

#[test]
fn errors_in_a_flow_list() {
    let text = "\
allowed-endpoints: [a.example, 'b.example:x', \"c..example\",
  d.example/y]
";
    let expected = "\
error: expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `x`
 --> p.yaml:1:43
  |
1 | allowed-endpoints: [a.example, 'b.example:x', \"c..example\",
  |                                           ^

error: the name has an empty label
 --> p.yaml:1:49
  |
1 | allowed-endpoints: [a.example, 'b.example:x', \"c..example\",
  |                                                 ^^

error: expected `/tcp` or `/udp`, found `y`
 --> p.yaml:2:12
  |
2 |   d.example/y]
  |            ^^
  = help: endpoints name hosts and ports, not paths

p.yaml: 3 errors
";
    check(text, expected);
}

#[test]
fn warnings_stand_beside_errors() {
    let text = "\
allowed-endpoints: >
  *.com *github.com 10.1.2.3/8:443
  **.example *:443 x.example:0
";
    let expected = "\
warning: wildcard over a public suffix: anybody can register a name below `com`
 --> p.yaml:2:3
  |
2 |   *.com *github.com 10.1.2.3/8:443
  |   ^^^^^

note: covered by `*:443` on line 3
 --> p.yaml:2:3
  |
2 |   *.com *github.com 10.1.2.3/8:443
  |   ^^^^^

warning: `*github.com` matches `evilgithub.com`, which anybody can register, and nothing below `github.com`
 --> p.yaml:2:9
  |
2 |   *.com *github.com 10.1.2.3/8:443
  |         ^^^^^^^^^^^
  = help: did you mean `*.github.com`?

note: covered by `*.com` on line 2
 --> p.yaml:2:9
  |
2 |   *.com *github.com 10.1.2.3/8:443
  |         ^^^^^^^^^^^

warning: `10.1.2.3/8` has host bits set and means `10.0.0.0/8`
 --> p.yaml:2:21
  |
2 |   *.com *github.com 10.1.2.3/8:443
  |                     ^^^^^^^^^^

error: `**` has no meaning
 --> p.yaml:3:3
  |
3 |   **.example *:443 x.example:0
  |   ^^
  = help: `*.example.com` already matches every name below example.com, at any depth

warning: over-wide: `*` matches names of any domain
 --> p.yaml:3:14
  |
3 |   **.example *:443 x.example:0
  |              ^

error: expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `0`
 --> p.yaml:3:30
  |
3 |   **.example *:443 x.example:0
  |                              ^

p.yaml: 2 errors, 4 warnings, 2 notes
";
    check(text, expected);
}

#[test]
fn unknown_keys() {
    let text = "\
egress-policy: block
allowed-endpoint: a.example
icmp: yes
platform: github
egress_policy: audit
foo: bar
";
    let expected = "\
error: unknown key `allowed-endpoint`
 --> p.yaml:2:1
  |
2 | allowed-endpoint: a.example
  | ^^^^^^^^^^^^^^^^
  = help: did you mean `allowed-endpoints`?

error: `icmp` is `true` or `false`, found `yes`
 --> p.yaml:3:7
  |
3 | icmp: yes
  |       ^^^

error: `platform` is `github-actions` or `none`, found `github`
 --> p.yaml:4:11
  |
4 | platform: github
  |           ^^^^^^
  = help: did you mean `github-actions`?

error: unknown key `egress_policy`
 --> p.yaml:5:1
  |
5 | egress_policy: audit
  | ^^^^^^^^^^^^^
  = help: did you mean `egress-policy`?

error: unknown key `foo`
 --> p.yaml:6:1
  |
6 | foo: bar
  | ^^^

p.yaml: 5 errors
";
    check(text, expected);
}

#[test]
fn wrong_values() {
    let text = "\
egress-policy: blok
use: {a: b}
lockdown-mode:
  detections: [Reverse-Shel, Foo]
  mode: x
";
    let expected = "\
error: `egress-policy` is `block` or `audit`, found `blok`
 --> p.yaml:1:16
  |
1 | egress-policy: blok
  |                ^^^^
  = help: did you mean `block`?

error: expected a list of set names, found a mapping
 --> p.yaml:2:7
  |
2 | use: {a: b}
  |       ^

error: `lockdown-mode` needs `enabled`
 --> p.yaml:4:3
  |
4 |   detections: [Reverse-Shel, Foo]
  |   ^^^^^^^^^^
  = help: write `enabled: true`

error: unknown detection `Reverse-Shel`
 --> p.yaml:4:16
  |
4 |   detections: [Reverse-Shel, Foo]
  |                ^^^^^^^^^^^^
  = help: did you mean `Reverse-Shell`?

error: unknown detection `Foo`
 --> p.yaml:4:30
  |
4 |   detections: [Reverse-Shel, Foo]
  |                              ^^^
  = help: known: Privileged-Container, Runner-Worker-Memory-Read, Reverse-Shell

error: unknown key `mode`
 --> p.yaml:5:3
  |
5 |   mode: x
  |   ^^^^

p.yaml: 6 errors
";
    check(text, expected);
}

#[test]
fn wrong_shapes() {
    let text = "\
egress-policy: [block]
allowed-endpoints: 443
lockdown-mode: true
use: [a b, 'c/d:443']
icmp: !x true
1: x
";
    let expected = "\
error: `egress-policy` is `block` or `audit`, found a list
 --> p.yaml:1:17
  |
1 | egress-policy: [block]
  |                 ^^^^^

error: expected a list of endpoints, found a number
 --> p.yaml:2:20
  |
2 | allowed-endpoints: 443
  |                    ^^^

error: expected a mapping below `lockdown-mode`, found a boolean
 --> p.yaml:3:16
  |
3 | lockdown-mode: true
  |                ^^^^
  = help: write `enabled: true` below it

error: the name of an endpoint set has letters, digits, `-`, `_` and `.`
 --> p.yaml:4:13
  |
4 | use: [a b, 'c/d:443']
  |             ^^^^^^^
  = help: endpoints themselves belong to `allowed-endpoints`

error: YAML tags have no meaning here
 --> p.yaml:5:7
  |
5 | icmp: !x true
  |       ^^

error: expected a key, found a number
 --> p.yaml:6:1
  |
6 | 1: x
  | ^

p.yaml: 6 errors
";
    check(text, expected);
}
