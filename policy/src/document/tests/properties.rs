//! What must hold for any text.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::diagnostic::MAX_DIAGNOSTICS;
use super::*;

/// Pieces that make text a policy often enough.
fn policyish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "egress-policy: ", "block", "audit", "allowed-endpoints:", "denied-endpoints: ", "use: ", "platform: ",
            "icmp: true", "lockdown-mode:\n", "  enabled: true\n", "with:\n", "disable-sudo: 1\n", "endpoints:\n",
        ]),
        4 => prop::sample::select(vec![
            "\n", "\n  ", "\n  - ", "\n- ", " ", " # ", ",", " >\n  ", " |\n  ", " |-\n   ", "[", "]", "{", "}", ": ",
            "\"", "'", "\\", "\t", "\r\n", "&a ", "*a", "!t ", "? ", "---\n", "\u{85}", "\u{2028}", "\\x2e", "''",
        ]),
        3 => prop::sample::select(vec![
            "a.example", "*.example:443", "10.0.0.0/8", "[::1]", "b.example:0", "bücher.example", "*.com", "github.com:x",
        ]),
        1 => any::<char>().prop_map(|c| -> &'static str { Box::leak(c.to_string().into_boxed_str()) }),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Every place lies inside of the text, and the text can be shown there.
fn check(text: &str, diagnostics: &[Diagnostic]) {
    let source = place::Source::new(text);
    for one in diagnostics {
        let clamped = source.clamp(one.line, one.column);
        assert_eq!(
            (clamped.line, clamped.column),
            (one.line, one.column),
            "{text:?}: {one:?}"
        );
        assert!(one.length >= 1);
    }
    let shown = render::render_all(
        diagnostics,
        text,
        render::Style {
            file: "x",
            colour: true,
        },
    );
    assert_eq!(shown.is_empty(), diagnostics.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_panics_and_places_stay_inside(text in policyish(), strict in any::<bool>()) {
        let parsed = PolicyDocument::parse(&text, &ParseOptions { strict });
        check(&text, &parsed.diagnostics);
        prop_assert_eq!(parsed.document.is_some(), parsed.errors().next().is_none());
        let set = EndpointSet::parse(&text, &ParseOptions { strict });
        check(&text, &set.diagnostics);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        check(&text, &PolicyDocument::parse(&text, &LAX).diagnostics);
        check(&text, &blocklist::BlockList::parse(&text).diagnostics);
    }

    /// The token stands where its endpoint says, in every style.
    #[test]
    fn endpoints_stand_where_they_are_said_to(
        names in prop::collection::vec("[a-c]{1,3}\\.example(:8[0-9])?", 1..8),
        style in 0_usize..5,
        separator in prop::sample::select(vec![" ", "  ", "\n  ", ", ", "\n  # a.example\n  ", " # x\n  "]),
    ) {
        let comments = separator.contains('#');
        let joined = names.join(separator);
        let text = match style {
            0 => format!("allowed-endpoints: >\n  {joined}\n"),
            1 => format!("allowed-endpoints: |\n  {joined}\n"),
            2 if !comments => format!("allowed-endpoints: {joined}\n"),
            3 => format!("allowed-endpoints: '{joined}'\n"),
            _ => format!("allowed-endpoints:\n  - {}\n", names.join(" # c.example\n  - ")),
        };
        let document = PolicyDocument::parse(&text, &LAX).document.unwrap();
        let read: Vec<&str> = document.allowed_endpoints.iter().map(|one| one.text.as_str()).collect();
        prop_assert_eq!(&read, &names, "{}", text);
        let mut last = (0, 0);
        for one in &document.allowed_endpoints {
            let line = text.lines().nth(one.line as usize - 1).unwrap();
            let there: String = line.chars().skip(one.column as usize - 1).take(one.text.len()).collect();
            prop_assert_eq!(&there, &one.text, "{}", text);
            prop_assert!((one.line, one.column) > last, "{}", text);
            last = (one.line, one.column);
        }
    }
}

#[test]
fn a_document_at_its_bounds() {
    let long = format!(
        "allowed-endpoints: [{}]",
        "a.example, ".repeat(MAX_BYTES / 11 - 3)
    );
    let parsed = PolicyDocument::parse(&long, &LAX);
    assert_eq!(parsed.diagnostics.len(), MAX_DIAGNOSTICS + 1);
    assert!(parsed.document.unwrap().allowed_endpoints.len() > 95_000);
    let wrong = PolicyDocument::parse(&long.replace("a.example", "a.exa:mple"), &LAX);
    assert_eq!(
        (wrong.document, wrong.diagnostics.len()),
        (None, 1),
        "over the size by then"
    );
}

#[test]
fn alias_bombs_are_refused_early() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (next, last) in ('b'..='h').zip('a'..) {
        let _ = writeln!(
            text,
            "{next}: &{next} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]"
        );
    }
    let wide = format!(
        "use: &a [{}]\nallowed-endpoints: [{}]\n",
        "x,".repeat(100_000),
        "*a,".repeat(100_000)
    );
    for bomb in [text, wide] {
        let parsed = PolicyDocument::parse(&bomb, &LAX);
        assert_eq!(parsed.document, None);
        assert!(
            parsed.diagnostics[0].message.contains("aliases"),
            "{:?}",
            parsed.diagnostics[0]
        );
    }
}

#[test]
fn deep_nesting_and_long_keys_are_refused() {
    let deep = PolicyDocument::parse(&"[".repeat(100_000), &LAX);
    assert_eq!(deep.document, None);
    let key = PolicyDocument::parse(&format!("? {}\n: x\n", "k".repeat(5000)), &LAX);
    assert!(
        key.diagnostics[0].message.contains("longer than 256"),
        "{:?}",
        key.diagnostics[0]
    );
}
