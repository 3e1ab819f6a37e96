//! Texts that are no YAML, or YAML of something else, as `tidegate check` shows them.

use super::*;

#[test]
fn a_key_twice() {
    let text = "\
egress-policy: block
icmp: true
egress-policy: audit
";
    let expected = "\
error: `egress-policy` is written twice, first on line 1
 --> p.yaml:3:1
  |
3 | egress-policy: audit
  | ^^^^^^^^^^^^^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_key_without_a_value() {
    let text = "\
egress-policy:
";
    let expected = "\
error: `egress-policy` is `block` or `audit`, found nothing
 --> p.yaml:1:1
  |
1 | egress-policy:
  | ^^^^^^^^^^^^^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_unquoted_star_in_a_list() {
    let text = "\
allowed-endpoints:
  - a.example
  - *.example.com:443
";
    let expected = "\
error: YAML reads an unquoted `*` as an alias
 --> p.yaml:3:5
  |
3 |   - *.example.com:443
  |     ^^^^^^^^^^^^^^^^^
  = help: quote it: \"*.example.com:443\"

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_unquoted_star_in_a_flow_list() {
    let text = "\
allowed-endpoints: [a.example, *.example.com]
";
    let expected = "\
error: YAML reads an unquoted `*` as an alias
 --> p.yaml:1:32
  |
1 | allowed-endpoints: [a.example, *.example.com]
  |                                ^^^^^^^^^^^^^
  = help: quote it: \"*.example.com\"

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_unquoted_star_as_value() {
    let text = "\
allowed-endpoints: *github
";
    let expected = "\
error: YAML reads an unquoted `*` as an alias
 --> p.yaml:1:20
  |
1 | allowed-endpoints: *github
  |                    ^^^^^^^
  = help: quote it: \"*github\"

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_tab() {
    let text = "\
lockdown-mode:
  enabled: true
\tdetections: []
";
    let expected = "\
error: YAML indents with spaces, here is a tab
 --> p.yaml:3:1
  |
3 |  detections: []
  | ^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_colon_too_much() {
    let text = "\
egress-policy: block
allowed-endpoints: a: b
";
    let expected = "\
error: this is not YAML: mapping values are not allowed in this context
 --> p.yaml:2:21
  |
2 | allowed-endpoints: a: b
  |                     ^
  = help: is a quote, a `|` or a line break missing before this?

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_unquoted_bracket() {
    let text = "\
allowed-endpoints:
  - [2001:db8::1]:443
";
    let expected = "\
error: this is not YAML: did not find expected '-' indicator
 --> p.yaml:2:18
  |
2 |   - [2001:db8::1]:443
  |                  ^^^^
  = help: quote entries that begin with a bracket: \"[2001:db8::1]:443\"

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_unquoted_bracket_with_nothing_before() {
    let text = "\
allowed-endpoints: [::1]:443
";
    let expected = "\
error: this is not YAML: did not find expected node content
 --> p.yaml:1:21
  |
1 | allowed-endpoints: [::1]:443
  |                     ^^^
  = help: quote entries that begin with a bracket: \"[2001:db8::1]:443\"

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_open_quote() {
    let text = "\
icmp: true
egress-policy: \"block
allowed-endpoints: x
";
    let expected = "\
error: this quote is never closed
 --> p.yaml:2:16
  |
2 | egress-policy: \"block
  |                ^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_second_document() {
    let text = "\
egress-policy: block
---
egress-policy: audit
";
    let expected = "\
error: a second document begins here
 --> p.yaml:2:1
  |
2 | ---
  | ^^^
  = help: one file holds one policy

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn an_empty_document() {
    let text = "\
# only a comment
";
    let expected = "\
error: the document is empty
 --> p.yaml:1:1
  |
1 | # only a comment
  | ^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_list_instead_of_a_policy() {
    let text = "\
- a.example
- b.example
";
    let expected = "\
error: expected a policy, a mapping with keys like `egress-policy`, found a list
 --> p.yaml:1:3
  |
1 | - a.example
  |   ^^^^^^^^^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_workflow() {
    let text = "\
on: push
jobs:
  x: y
";
    let expected = "\
error: this is a workflow
 --> p.yaml:2:1
  |
2 | jobs:
  | ^^^^
  = help: paste the `with:` block of its Harden-Runner step

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_step_of_another_action() {
    let text = "\
- uses: actions/checkout@v4
  with: {fetch-depth: 0}
";
    let expected = "\
error: only the `with:` of a Harden-Runner step is a policy
 --> p.yaml:1:9
  |
1 | - uses: actions/checkout@v4
  |         ^^^^^^^^^^^^^^^^^^^

note: the `with:` block of a step is read as the policy
 --> p.yaml:2:3
  |
2 |   with: {fetch-depth: 0}
  |   ^^^^

error: unknown key `fetch-depth`
 --> p.yaml:2:10
  |
2 |   with: {fetch-depth: 0}
  |          ^^^^^^^^^^^

p.yaml: 2 errors, 1 note
";
    check(text, expected);
}

#[test]
fn a_github_expression() {
    let text = "\
allowed-endpoints: ${{ vars.X }}
";
    let expected = "\
error: '$' can't stand in a host name
 --> p.yaml:1:20
  |
1 | allowed-endpoints: ${{ vars.X }}
  |                    ^^^
  = help: GitHub expressions are not evaluated here: write the endpoint itself

error: '}' can't stand in a host name
 --> p.yaml:1:31
  |
1 | allowed-endpoints: ${{ vars.X }}
  |                               ^

p.yaml: 2 errors
";
    check(text, expected);
}

#[test]
fn a_control_character() {
    let text = "\
icmp: true
use: \u{1}
";
    let expected = "\
error: this is not YAML: control characters are not allowed
 --> p.yaml:2:6
  |
2 | use: ·
  |      ^

p.yaml: 1 error
";
    check(text, expected);
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = "\
allowed-endpoints: >
  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example cccccccccccccccccccccccc.example:x dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd.example
";
    let expected = "\
error: expected a port from 1 to 65535, a range like `8000-8100`, or `*`, found `x`
 --> p.yaml:2:154
  |
2 | …xample cccccccccccccccccccccccc.example:x dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd.example
  |                                          ^

p.yaml: 1 error
";
    check(text, expected);
}
