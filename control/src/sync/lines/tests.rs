//! Tests of reading batches.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

fn head() -> String {
    json!({"protocol": PROTOCOL, "spool": "s1", "lane": "permits", "dropped": 0}).to_string()
}

fn event(name: &str) -> Value {
    json!({
        "schema": 1, "time": "2026-01-02T03:04:05.678Z", "id": "abc", "gateway": "gw-1", "source": "10.0.0.1",
        "kind": "tls", "name": name, "mode": "block", "verdict": "permit",
    })
}

fn line(seq: u64, name: &str) -> String {
    json!({"seq": seq, "event": event(name)}).to_string()
}

fn taken(lines: &[&str]) -> Batch {
    let mut body = head();
    for line in lines {
        body.push('\n');
        body.push_str(line);
    }
    body.push('\n');
    read(body.as_bytes(), "gw-1").unwrap()
}

/// Numbers, and whether each is stored.
fn shape(batch: &Batch) -> Vec<(u64, bool)> {
    let of = |(seq, item): &(u64, Item)| (*seq, !matches!(item, Item::Refused));
    batch.entries.iter().map(of).collect()
}

#[test]
fn events_and_reports_are_read_in_their_order() {
    let report = json!({"seq": 9, "report": {
        "time": "2026-01-02T03:04:05Z", "job_id": "job_1", "name": "a.test", "process": {"name": "curl\u{1b}"},
    }});
    let batch = taken(&[&line(3, "a.test"), &line(7, "b.test"), &report.to_string()]);
    assert_eq!(shape(&batch), [(3, true), (7, true), (9, true)]);
    assert_eq!((batch.unnumbered, batch.why), (0, None));
    match &batch.entries[2].1 {
        Item::Report(report) => assert_eq!(report.process.name, "curl\\u{1b}"),
        Item::Event(_) | Item::Refused => panic!("a report was read as something else"),
    }
}

#[test]
fn a_line_that_can_not_be_read_uses_its_number_up_and_no_other() {
    let mut foreign = event("a.test");
    foreign["gateway"] = "gw-2\u{1b}[2J".into();
    let foreign = json!({"seq": 2, "event": foreign}).to_string();
    let newer = json!({"seq": 4, "thing": {}}).to_string();
    let giant = line(6, &"x".repeat(17_000));
    let batch = taken(&[
        &line(1, "a.test"),
        &foreign,
        "{oops",
        &newer,
        "\u{1b}",
        &giant,
        &line(9, "b.test"),
        r#"{"seq": -1}"#,
    ]);
    let expected = [
        (1, true),
        (2, false),
        (3, false),
        (4, false),
        (5, false),
        (6, false),
        (9, true),
        (10, false),
    ];
    assert_eq!(shape(&batch), expected);
    let why = batch.why.unwrap();
    assert!(why.contains("gw-2") && !why.contains('\u{1b}'), "{why:?}");
}

#[test]
fn nothing_is_guessed_of_a_first_line_without_a_number() {
    let batch = taken(&[
        "{",
        r#"{"seq": 0}"#,
        r#"{"seq": 9223372036854775808}"#,
        &line(4, "a.test"),
    ]);
    assert_eq!(shape(&batch), [(4, true)]);
    assert_eq!(batch.unnumbered, 3);
}

/// Each prefix of a batch gives a beginning of its entries and refuses none: what was cut is sent again.
#[test]
fn a_batch_that_is_cut_anywhere_is_a_shorter_batch() {
    let body = format!("{}\n{}\n{}\n", head(), line(1, "a.test"), line(2, "b.test"));
    for end in 0..=body.len() {
        match read(&body.as_bytes()[..end], "gw-1") {
            Err(BatchError::Head(_)) => assert!(end < head().len(), "{end}"),
            Err(error) => panic!("{end}: {error}"),
            Ok(batch) => {
                assert_eq!(batch.unnumbered, 0, "{end}");
                let all = [(1, true), (2, true)];
                assert!(all.starts_with(&shape(&batch)), "{end}: {:?}", shape(&batch));
            }
        }
    }
    assert_eq!(shape(&read(body.as_bytes(), "gw-1").unwrap()).len(), 2);
}

#[test]
fn what_is_no_batch_says_why_and_shows_nothing_raw() {
    let refused = |body: &str| read(body.as_bytes(), "gw-1").unwrap_err();
    for body in ["", "\n", "[]\n", "{\"protocol\": 1}\n", "<html>\u{1b}[2J\n"] {
        let error = refused(body);
        assert!(matches!(error, BatchError::Head(_)), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
    let hostile = json!({"protocol": PROTOCOL, "spool": "s", "lane": "x\u{1b}[2J", "dropped": 0});
    let error = refused(&hostile.to_string());
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
    // Of a newer gateway nothing else needs to be known.
    assert!(matches!(
        refused(r#"{"protocol": 2, "new": []}"#),
        BatchError::Protocol(2)
    ));
}

#[test]
fn the_bounds_of_a_batch_are_exact() {
    let many = |count: u64| {
        let lines: Vec<String> = (1..=count).map(|seq| line(seq, "a.test")).collect();
        read(format!("{}\n{}\n", head(), lines.join("\n")).as_bytes(), "gw-1")
    };
    assert_eq!(many(MAX_ENTRIES as u64).unwrap().entries.len(), MAX_ENTRIES);
    assert!(matches!(many(MAX_ENTRIES as u64 + 1), Err(BatchError::Entries)));
    let nothing = format!("{}\n{}", head(), "{\n".repeat(MAX_ENTRIES + 1));
    assert!(matches!(
        read(nothing.as_bytes(), "gw-1"),
        Err(BatchError::Entries)
    ));
}
