//! Every style with every change: what is asked for comes in exactly, and nothing else changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tidegate_policy::document::{Detection, Lockdown};
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::verdict::Mode;

use super::*;

fn endpoint(text: &str) -> Endpoint {
    parse_endpoint(text, Role::Allowed).unwrap().0
}

fn allow(yaml: &str, texts: &[&str]) -> String {
    let edits = Edits {
        allow: texts.iter().map(|text| endpoint(text)).collect(),
        ..Edits::default()
    };
    edit(yaml, Kind::Policy, &edits)
        .unwrap_or_else(|error| panic!("{error} in {yaml:?}"))
        .yaml
}

#[test]
fn what_is_allowed_joins_the_list_in_its_own_style() {
    let cases = [
        (
            "# head\negress-policy: block # why\nallowed-endpoints: >\n  a.test:443\n  # later\n  b.test:443\n\n# tail\nicmp: true\n",
            "# head\negress-policy: block # why\nallowed-endpoints: >\n  a.test:443\n  # later\n  b.test:443\n  n.test:8443\n\n# tail\nicmp: true\n",
        ),
        (
            "allowed-endpoints:\n  - a.test:443 # one\n  # two\n  - \"b.test:443\"\negress-policy: block\n",
            "allowed-endpoints:\n  - a.test:443 # one\n  # two\n  - \"b.test:443\"\n  - n.test:8443\negress-policy: block\n",
        ),
        (
            "allowed-endpoints: [a.test, 'b.test:443'] # both\n",
            "allowed-endpoints: [a.test, 'b.test:443', n.test:8443] # both\n",
        ),
        (
            "allowed-endpoints: a.test:443 # x\n",
            "allowed-endpoints: a.test:443 n.test:8443 # x\n",
        ),
        (
            "allowed-endpoints: 'a.test, b.test'\n",
            "allowed-endpoints: 'a.test, b.test, n.test:8443'\n",
        ),
        (
            "allowed-endpoints: []\n",
            "allowed-endpoints: [\"n.test:8443\"]\n",
        ),
        (
            "egress-policy: audit\n",
            "egress-policy: audit\nallowed-endpoints: >\n  n.test:8443\n",
        ),
        (
            "- uses: step-security/harden-runner@v2\n  with:\n    egress-policy: block # w\n    allowed-endpoints: >\n      a.test:443\n",
            "- uses: step-security/harden-runner@v2\n  with:\n    egress-policy: block # w\n    allowed-endpoints: >\n      a.test:443\n      n.test:8443\n",
        ),
        (
            "egress-policy: block\r\nallowed-endpoints: |\r\n    a.test\r\n",
            "egress-policy: block\r\nallowed-endpoints: |\r\n    a.test\r\n    n.test:8443\r\n",
        ),
        (
            "{egress-policy: block, icmp: true}\n",
            "{allowed-endpoints: \"n.test:8443\", egress-policy: block, icmp: true}\n",
        ),
    ];
    for (before, after) in cases {
        assert_eq!(allow(before, &["N.test:8443"]), after, "{before}");
    }
    let six = allow("allowed-endpoints:\n- a.test\n", &["[2001:db8::1]:443"]);
    assert_eq!(six, "allowed-endpoints:\n- a.test\n- \"[2001:db8::1]:443\"\n");
}

#[test]
fn what_is_covered_is_told_with_its_line_and_not_written_again() {
    let yaml = "egress-policy: block\nallowed-endpoints: >\n  *.test:443\n  a.example:443\n";
    let edits = Edits {
        allow: ["x.test:443", "a.example", "y.example:443"]
            .map(endpoint)
            .to_vec(),
        ..Edits::default()
    };
    let edited = edit(yaml, Kind::Policy, &edits).unwrap();
    let covered: Vec<_> = edited
        .covered
        .iter()
        .map(|one| (one.endpoint.as_str(), one.by.as_str(), one.line))
        .collect();
    assert_eq!(
        covered,
        [
            ("x.test:443", "*.test:443", 3),
            ("a.example:443", "a.example:443", 4)
        ]
    );
    assert_eq!(edited.yaml, format!("{yaml}  y.example:443\n"));
}

#[test]
fn a_mode_is_switched_where_it_stands_or_put_at_the_head() {
    let cases = [
        (
            "# c\negress-policy: audit # why\nicmp: true\n",
            "# c\negress-policy: block # why\nicmp: true\n",
        ),
        ("egress-policy: \"audit\"\n", "egress-policy: \"block\"\n"),
        (
            "# c\nallowed-endpoints: a.test\n",
            "# c\negress-policy: block\nallowed-endpoints: a.test\n",
        ),
        ("{egress-policy: audit}", "{egress-policy: block}"),
    ];
    for (before, after) in cases {
        let edits = Edits {
            mode: Some(Mode::Block),
            ..Edits::default()
        };
        assert_eq!(edit(before, Kind::Policy, &edits).unwrap().yaml, after);
    }
}

#[test]
fn what_is_removed_goes_from_both_lists_and_leaves_the_rest() {
    let yaml = "allowed-endpoints: # list\n  - a.test:443 # one\n  # stays\n  - b.test:443\ndenied-endpoints: x.test b.test:443/tcp\n";
    let remove = |yaml: &str, what: &str| {
        let edits = Edits {
            remove: vec![what.to_owned()],
            ..Edits::default()
        };
        edit(yaml, Kind::Policy, &edits)
    };
    let gone = remove(yaml, "a.test:443").unwrap().yaml;
    assert_eq!(
        gone,
        "allowed-endpoints: # list\n  # stays\n  - b.test:443\ndenied-endpoints: x.test b.test:443/tcp\n"
    );
    let flow = remove(
        "allowed-endpoints: [\"a.test:443\", b.test:443, c.test:443]\n",
        "b.test:443",
    )
    .unwrap()
    .yaml;
    assert_eq!(flow, "allowed-endpoints: [\"a.test:443\", c.test:443]\n");
    let first = remove("allowed-endpoints: [\"a.test:443\", b.test:443]\n", "a.test:443")
        .unwrap()
        .yaml;
    assert_eq!(first, "allowed-endpoints: [b.test:443]\n");
    let last = remove(
        "egress-policy: block\nallowed-endpoints: a.test:443\n",
        "a.test:443",
    )
    .unwrap()
    .yaml;
    assert_eq!(last, "egress-policy: block\nallowed-endpoints:\n");
    assert!(matches!(remove(yaml, "q.test:443"), Err(EditError::NotListed(name)) if name == "q.test:443"));
}

#[test]
fn lockdown_is_added_changed_and_taken_away() {
    let set = |yaml: &str, lockdown: Option<Lockdown>| {
        let edits = Edits {
            lockdown: lockdown.map_or(LockdownEdit::Drop, LockdownEdit::Write),
            ..Edits::default()
        };
        edit(yaml, Kind::Policy, &edits)
            .unwrap_or_else(|error| panic!("{error} in {yaml}"))
            .yaml
    };
    let on = |detections: &[Detection]| {
        Some(Lockdown {
            enabled: true,
            detections: detections.to_vec(),
        })
    };
    let base = "egress-policy: block # b\n";
    let added = set(base, on(&[Detection::ReverseShell]));
    assert_eq!(
        added,
        "egress-policy: block # b\nlockdown-mode:\n  enabled: true\n  detections:\n    - Reverse-Shell\n"
    );
    let more = set(&added, on(&[Detection::PrivilegedContainer]));
    assert!(
        more.contains("    - Privileged-Container\n") && !more.contains("Reverse-Shell"),
        "{more}"
    );
    let off = set(
        &added,
        Some(Lockdown {
            enabled: false,
            detections: vec![Detection::ReverseShell],
        }),
    );
    assert_eq!(off, added.replace("true", "false"));
    assert_eq!(set(&added, None), base);
    let all = set("lockdown-mode: {enabled: true}\n", on(&[Detection::ReverseShell]));
    assert!(all.contains("Reverse-Shell"), "{all}");
}

#[test]
fn a_set_is_a_list_or_has_one() {
    let edits = Edits {
        allow: vec![endpoint("n.test")],
        remove: vec!["a.test:443".into()],
        ..Edits::default()
    };
    let cases = [
        (
            "# c\n- a.test\n- b.test # b\n",
            "# c\n- b.test # b\n- n.test:443\n",
        ),
        (
            "description: mine\nendpoints:\n  - a.test\n  - b.test\n",
            "description: mine\nendpoints:\n  - b.test\n  - n.test:443\n",
        ),
        ("a.test b.test\n", "b.test n.test:443\n"),
    ];
    for (before, after) in cases {
        assert_eq!(edit(before, Kind::Set, &edits).unwrap().yaml, after);
    }
}

#[test]
fn an_alias_that_others_share_is_left_to_people() {
    let yaml = "allowed-endpoints: &l [a.test]\ndenied-endpoints: *l\n";
    let edits = Edits {
        allow: vec![endpoint("n.test")],
        ..Edits::default()
    };
    // Denied endpoints cover every port there, so the two never say the same.
    let outcome = edit(yaml, Kind::Policy, &edits);
    assert!(matches!(outcome, Err(EditError::ByHand(_))), "{outcome:?}");
}

#[test]
fn a_document_with_errors_is_not_touched() {
    let outcome = edit("allowed-endpoints: 'a b:c'\n", Kind::Policy, &Edits::default());
    assert!(matches!(outcome, Err(EditError::Unreadable(all)) if !all.is_empty()));
}

/// A list in one of the styles, with comments where the style has room for them.
fn list(key: &'static str) -> impl Strategy<Value = String> {
    let words = proptest::collection::vec("[a-d]{1,3}\\.(test|example):(443|8443)", 0..5);
    (words, 0..8_u8, any::<bool>()).prop_map(move |(words, style, notes)| {
        let note = if notes { " # note: why" } else { "" };
        let lines = |before: &str, note: &str| -> String {
            let lines = words.iter().map(|word| format!("{before}{word}{note}\n"));
            lines.collect::<Vec<_>>().concat()
        };
        match style {
            0 => format!(
                "{key}: >{note}\n{}{}",
                if notes { "  # inside\n" } else { "" },
                lines("  ", "")
            ),
            1 => format!("{key}: |\n{}", lines("    ", note)),
            2 => format!("{key}:{note}\n{}", lines("  - ", note)),
            3 => format!("{key}:\n{}", lines("- ", note)),
            4 => format!(
                "{key}: [{}]{note}\n",
                words
                    .iter()
                    .map(|word| format!("\"{word}\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            5 => format!("{key}: {}{note}\n", words.join(" ")),
            6 => format!("{key}: '{}'{note}\n", words.join(", ")),
            _ => format!(
                "{key}: [\n{}]\n",
                words
                    .iter()
                    .map(|word| format!("  {word},{note}\n"))
                    .collect::<Vec<_>>()
                    .concat()
            ),
        }
    })
}

fn document() -> impl Strategy<Value = String> {
    let mode = prop_oneof![
        Just("egress-policy: audit\n"),
        Just("# head\negress-policy: block # b\n"),
        Just("egress-policy: 'audit'\n\n"),
    ];
    let lockdown = prop_oneof![
        Just(""),
        Just("lockdown-mode:\n  enabled: false # l\n"),
        Just("lockdown-mode: {enabled: true, detections: [Reverse-Shell]}\n"),
        Just("lockdown-mode:\n  detections:\n    - Reverse-Shell # d\n  # e\n  enabled: true\n"),
    ];
    (
        mode,
        list("allowed-endpoints"),
        list("denied-endpoints"),
        lockdown,
        any::<[bool; 3]>(),
    )
        .prop_map(|(mode, allowed, denied, lockdown, [a, d, order])| {
            let parts = [
                if a { allowed } else { String::new() },
                if d { denied } else { String::new() },
            ];
            if order {
                format!("{mode}{}{lockdown}# between\n{}# end\n", parts[0], parts[1])
            } else {
                format!("{}{lockdown}{mode}# between\n{}", parts[1], parts[0])
            }
        })
}

fn changes() -> impl Strategy<Value = Edits> {
    let fresh = || proptest::collection::vec("[m-q]{1,3}\\.(test|example):(443|8443)", 0..4);
    let modes = prop_oneof![Just(None), Just(Some(Mode::Audit)), Just(Some(Mode::Block))];
    let lockdown = prop_oneof![
        Just(LockdownEdit::Keep),
        Just(LockdownEdit::Drop),
        proptest::collection::vec(proptest::sample::select(&Detection::ALL[..]), 0..3).prop_map(
            |mut detections| {
                detections.dedup();
                if detections.len() > 1 && detections.first() == detections.last() {
                    detections.pop();
                }
                LockdownEdit::Write(Lockdown {
                    enabled: true,
                    detections,
                })
            }
        ),
    ];
    (modes, fresh(), fresh(), lockdown, any::<bool>()).prop_map(|(mode, allow, deny, lockdown, sets)| Edits {
        mode,
        allow: allow.iter().map(|text| endpoint(text)).collect(),
        deny: deny
            .iter()
            .map(|text| parse_endpoint(text, Role::Denied).unwrap().0)
            .collect(),
        remove: Vec::new(),
        use_sets: if sets {
            vec!["corp-base".into()]
        } else {
            Vec::new()
        },
        lockdown,
    })
}

/// Every comment of a text, with those inside of block texts.
fn comments(text: &str) -> Vec<&str> {
    let mut all: Vec<&str> = text
        .lines()
        .filter_map(|line| line.find('#').and_then(|at| line.get(at..)))
        .collect();
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Whatever is asked of whatever style: the text read again differs by exactly that, and no comment is lost.
    #[test]
    fn the_difference_is_exactly_what_was_asked(yaml in document(), edits in changes()) {
        let before = match Meaning::of(&yaml, Kind::Policy) {
            Ok(before) => before,
            Err(errors) => return Err(TestCaseError::reject(format!("{errors:?}"))),
        };
        let edited = edit(&yaml, Kind::Policy, &edits).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}\n{edits:?}")))?;
        let after = Meaning::of(&edited.yaml, Kind::Policy).unwrap();
        let mut wanted = before.clone();
        wanted.mode = edits.mode.or(before.mode);
        let covered: Vec<&String> = edited.covered.iter().map(|one| &one.endpoint).collect();
        let unique = |texts: Vec<String>, held: &[String]| {
            let mut unique: Vec<String> = Vec::new();
            for text in texts {
                if !unique.contains(&text) && !held.contains(&text) {
                    unique.push(text);
                }
            }
            unique
        };
        let fresh: Vec<String> = written(&edits.allow).into_iter().filter(|text| !covered.contains(&text)).collect();
        wanted.add(List::Allowed, &unique(fresh, &[]));
        wanted.add(List::Denied, &unique(written(&edits.deny), &before.denied));
        wanted.add(List::Use, &edits.use_sets);
        match &edits.lockdown {
            LockdownEdit::Keep => {}
            LockdownEdit::Drop => wanted.set_lockdown(None),
            LockdownEdit::Write(lockdown) => wanted.set_lockdown(Some(lockdown)),
        }
        prop_assert_eq!(&after, &wanted, "{}\n->\n{}", yaml, edited.yaml);
        if edits.lockdown == LockdownEdit::Keep {
            prop_assert_eq!(comments(&edited.yaml), comments(&yaml), "{}\n->\n{}", yaml, edited.yaml);
        }
        // The same again changes nothing more.
        let again = edit(&edited.yaml, Kind::Policy, &edits).unwrap();
        prop_assert_eq!(again.yaml, edited.yaml);
    }

    /// Whatever stands there can be taken away, and all else stays.
    #[test]
    fn what_stands_there_can_be_removed(yaml in document(), which in any::<proptest::sample::Index>()) {
        let Ok(before) = Meaning::of(&yaml, Kind::Policy) else {
            return Err(TestCaseError::reject("no policy"));
        };
        let all: Vec<&String> = before.allowed.iter().chain(&before.denied).collect();
        prop_assume!(!all.is_empty());
        let gone = (*which.get(&all)).clone();
        let edits = Edits { remove: vec![gone.clone()], ..Edits::default() };
        let edited = edit(&yaml, Kind::Policy, &edits).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}\n{gone}")))?;
        let mut wanted = before.clone();
        wanted.drop_endpoint(&gone);
        prop_assert_eq!(Meaning::of(&edited.yaml, Kind::Policy).unwrap(), wanted);
        let whole = |text: &str| -> Vec<String> {
            text.lines().map(str::trim).filter(|line| line.starts_with('#')).map(str::to_owned).collect()
        };
        prop_assert_eq!(whole(&edited.yaml), whole(&yaml));
    }

    /// No text, however strange, makes it panic.
    #[test]
    fn no_text_makes_it_panic(yaml in "[a-z:#\\[\\]{}>|'\"\\n\\r, &*-]{0,120}", edits in changes()) {
        let _ = edit(&format!("allowed-endpoints: {yaml}"), Kind::Policy, &edits);
        let _ = edit(&yaml, Kind::Set, &edits);
    }
}
