//! What is cut out of a file, and what is wrong with one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> PolicyFile {
    PolicyFile::parse("f.yaml", text).unwrap()
}

fn refused(text: &str) -> String {
    PolicyFile::parse("f.yaml", text).unwrap_err().to_string()
}

#[test]
fn a_block_is_cut_out_with_its_comments_order_and_empty_lines() {
    let file = read(
        "# team web\n\
         name: base\n\
         attach: [repo:Acme/Web, org:acme]   # both\n\
         policy:   # what follows is the policy\n\
         \x20   # first words\n\
         \x20   egress-policy: block\n\
         # at the very beginning, yet in the middle\n\
         \n\
         \x20   allowed-endpoints:\n\
         \x20     - github.com:443 # the forge\n\
         \n\
         # about something else\n",
    );
    assert_eq!(
        file.document.yaml,
        "# first words\negress-policy: block\n# at the very beginning, yet in the middle\n\n\
         allowed-endpoints:\n  - github.com:443 # the forge\n"
    );
    assert_eq!((file.document.first_line, file.document.indent), (5, 4));
    assert_eq!(file.name_line, 2);
    let scopes: Vec<_> = file.scopes.into_iter().collect();
    assert_eq!(
        scopes,
        [("org:acme".to_owned(), 3), ("repo:acme/web".to_owned(), 3)]
    );
}

#[test]
fn keys_may_stand_in_any_order() {
    let file =
        read("policy:\n  egress-policy: audit\n\n# where\nattach:\n- org:acme\n- cluster:prod\nname: base\n");
    assert_eq!(file.document.yaml, "egress-policy: audit\n");
    assert_eq!((file.name.as_str(), file.name_line), ("base", 8));
    assert_eq!(
        file.scopes,
        BTreeMap::from([("cluster:prod".into(), 7), ("org:acme".into(), 6)])
    );
    assert!(
        read("name: base\nattach:\npolicy: {egress-policy: audit}\n")
            .scopes
            .is_empty()
    );
}

#[test]
fn block_text_and_flow_are_read_as_well() {
    let file = read("name: a\npolicy: |\n\n  # words\n  egress-policy: audit\n");
    assert_eq!(file.document.yaml, "\n# words\negress-policy: audit\n");
    assert_eq!((file.document.first_line, file.document.indent), (3, 2));
    let file =
        read("name: a\npolicy:  {egress-policy: audit, # why\n  allowed-endpoints: [a.example:443]}\n");
    assert_eq!(
        file.document.yaml,
        "{egress-policy: audit, # why\n  allowed-endpoints: [a.example:443]}\n"
    );
    assert_eq!(
        (
            file.document.first_line,
            file.document.first_indent,
            file.document.indent
        ),
        (2, 9, 0)
    );
}

#[test]
fn line_ends_and_a_byte_order_mark_are_no_hindrance() {
    let file = read("\u{feff}name: a\r\npolicy:\r\n  egress-policy: audit\r\n  icmp: true\r\n");
    assert_eq!(file.document.yaml, "egress-policy: audit\r\nicmp: true\r\n");
    let file = read("---\nname: a\npolicy:\n  egress-policy: audit");
    assert_eq!(file.document.yaml, "egress-policy: audit");
}

#[test]
fn names_are_in_form_c() {
    assert_eq!(read("name: cafe\u{301}\npolicy: {a: b}\n").name, "caf\u{e9}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, line, said) in [
        ("name: a\n", 1, "missing field `policy`"),
        ("policy: {a: b}\n", 1, "missing field `name`"),
        ("name: a\npolicy:\n", 2, "`policy` is empty"),
        ("name: a\npolicy: {a: b}\nsets: []\n", 3, "unknown field `sets`"),
        ("name: a\nname: b\npolicy: {a: b}\n", 2, "duplicate field `name`"),
        (
            "name: a\nattach:\n- org:x\n- team:y\npolicy: {a: b}\n",
            4,
            "\"team:y\" is not a scope",
        ),
        (
            "name: a\nattach:\n- org:x\n- org:X\npolicy: {a: b}\n",
            4,
            "stands here twice",
        ),
        ("name: a\nattach: org:x\npolicy: {a: b}\n", 2, "invalid type"),
        (
            "name: a\n\"policy\": {a: b}\n",
            1,
            "write `policy:` at the beginning of a line",
        ),
        ("x: &x {a: b}\n", 1, "unknown field `x`"),
        ("name: &n a\npolicy:\n  a: *n\n", 2, "can't be told from the rest"),
        ("name: a\npolicy: 'a: b'\n", 2, "is a mapping"),
        ("name: a\npolicy: >\n  a: b\n", 2, "is a mapping"),
        ("name: a\npolicy: !t |\n  a: b\n", 2, "is a mapping"),
        ("name: a\npolicy: [a]\n", 2, "is a mapping"),
        ("name: a\npolicy: [\n", 3, "while parsing a flow node"),
        ("", 1, "missing field"),
    ] {
        let error = refused(text);
        assert!(error.contains(said), "{text:?}: {error}");
        assert!(
            error.starts_with(&format!("f.yaml:{line}: ")),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("name: a\npolicy:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let before = n - 1;
        let aliases = vec![format!("*a{before}"); 9].join(", ");
        text = format!("{text}  a{n}: &a{n} [{aliases}]\n");
    }
    assert!(refused(&text).contains("repetition limit"), "{}", refused(&text));
}

proptest! {
    /// What is cut out of a file is what was put into it, but for empty lines at its ends.
    #[test]
    fn an_indented_policy_comes_back_as_it_was(
        lines in proptest::collection::vec("( {0,3}# [a-z]{0,5}|)", 0..6),
        at in 0_usize..6,
        indent in 1_usize..6,
        after: bool,
    ) {
        let mut lines = lines;
        lines.insert(at.min(lines.len()), "egress-policy: audit".into());
        while lines.first().is_some_and(String::is_empty) {
            lines.remove(0);
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let policy = lines.join("\n") + "\n";
        let put = |line: &String| match line.as_str() {
            "" => "\n".to_owned(),
            line => format!("{}{line}\n", " ".repeat(indent)),
        };
        let indented: String = lines.iter().map(put).collect();
        let text = format!("name: a\npolicy:\n{indented}{}", if after { "attach: [org:x]\n" } else { "" });
        prop_assert_eq!(read(&text).document.yaml, policy);
    }

    /// Any text is read or refused; none panics.
    #[test]
    fn any_text_is_read_or_refused(text in "(name: a\n|policy:|attach:| |\n|- |\\||x: y|#|\\{|\\}|é|\r|\t|&a|\\*a){0,24}") {
        drop(PolicyFile::parse("f.yaml", &text));
    }
}
