//! Shows what of a feed's document is believed, in which order, and what follows from it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

struct Signer {
    pair: Ed25519KeyPair,
    key: PublicKey,
}

fn signer() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let key = STANDARD.encode(pair.public_key().as_ref()).parse().unwrap();
    Signer { pair, key }
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

impl Signer {
    fn judge(&self, document: &str, ours: Option<u64>) -> Result<Judged, DocumentError> {
        let signature = STANDARD.encode(self.pair.sign(document.as_bytes()));
        judge(document.as_bytes(), signature.as_bytes(), &self.key, ours, now())
    }

    fn update(&self, document: &Value, ours: Option<u64>) -> FeedUpdate {
        match self.judge(&document.to_string(), ours).unwrap() {
            Judged::Update(update) => update,
            other @ (Judged::Current | Judged::Gap) => panic!("no update: {other:?}"),
        }
    }
}

fn full(serial: u64, add: Value) -> Value {
    json!({"format": 1, "serial": serial, "date": "2026-02-28T00:00:00Z", "add": add})
}

fn delta(since: u64, serial: u64, add: Value, remove: Value) -> Value {
    let mut document = full(serial, add);
    document["since"] = json!(since);
    document["remove"] = remove;
    document
}

fn patterns(update: &FeedUpdate) -> Vec<&str> {
    update.add.iter().map(|one| one.pattern.as_str()).collect()
}

#[test]
fn a_full_document_is_spelled_canonically_and_its_oddities_are_counted() {
    let document = json!({
        "format": 1, "serial": 7, "date": "2026-02-28T00:00:00Z", "expires": "2026-03-02T00:00:00Z",
        "publisher": {"later": true}, "remove": ["ignored.example"],
        "add": [
            {"pattern": "Evil.Example.", "reason": " first\nline ", "weight": 3},
            {"pattern": "*.evil.example"},
            {"pattern": "203.0.113.9", "reason": "x".repeat(400)},
            {"pattern": "2001:db8::/32"},
            {"pattern": "evil.example", "reason": "again"},
            {"pattern": "evil.example:443"}, {"pattern": "a.example # b"}, {"pattern": ""},
        ]
    });
    let update = signer().update(&document, Some(3));
    assert_eq!((update.serial, update.full), (7, true));
    assert_eq!(update.date.to_string(), "2026-02-28T00:00:00Z");
    assert_eq!(
        patterns(&update),
        [
            "evil.example",
            "*.evil.example",
            "203.0.113.9/32",
            "2001:db8::/32"
        ]
    );
    assert_eq!(update.add[0].reason, "first line");
    assert_eq!(update.add[2].reason.len(), MAX_REASON);
    assert!(update.remove.is_empty());
    assert_eq!(update.unread.count, 3);
    assert!(
        update.unread.quoted[0].starts_with("\"evil.example:443\": "),
        "{:?}",
        update.unread
    );
}

#[test]
fn what_is_not_understood_is_quoted_to_a_bound() {
    let many: Vec<Value> = (0..100)
        .map(|at| json!({"pattern": format!("{at} {}", "?".repeat(500))}))
        .collect();
    let update = signer().update(&full(1, json!(many)), None);
    assert_eq!((update.add.len(), update.unread.count), (0, 100));
    assert_eq!(update.unread.quoted.len(), MAX_QUOTED);
    assert!(update.unread.quoted.iter().all(|one| one.len() < 1000));
}

#[test]
fn a_delta_adds_and_removes_in_any_spelling() {
    let add = json!([{"pattern": "new.example"}, {"pattern": "kept.example", "reason": "now known"}]);
    let remove = json!([
        "OLD.example.",
        "203.0.113.9",
        "old.example",
        "Kept.example",
        "not a name"
    ]);
    let update = signer().update(&delta(40, 42, add, remove), Some(40));
    assert!(!update.full);
    assert_eq!(patterns(&update), ["new.example", "kept.example"]);
    assert_eq!(update.remove, ["old.example", "203.0.113.9/32"]);
    assert_eq!(update.unread.count, 1);
}

#[test]
fn serials_never_fall() {
    let signer = signer();
    for document in [full(6, json!([])), delta(5, 6, json!([]), json!([]))] {
        let error = signer.judge(&document.to_string(), Some(7)).unwrap_err();
        assert!(
            matches!(error, DocumentError::Rollback { found: 6, ours: 7 }),
            "{error}"
        );
    }
    for document in [
        full(7, json!([{"pattern": "x.example"}])),
        delta(7, 7, json!([]), json!([])),
    ] {
        assert_eq!(
            signer.judge(&document.to_string(), Some(7)).unwrap(),
            Judged::Current
        );
    }
    let error = signer
        .judge(&delta(9, 8, json!([]), json!([])).to_string(), Some(7))
        .unwrap_err();
    assert!(
        matches!(error, DocumentError::Backwards { serial: 8, since: 9 }),
        "{error}"
    );
}

#[test]
fn a_delta_from_elsewhere_is_a_gap() {
    let signer = signer();
    for (since, ours) in [(40, Some(39)), (40, Some(41)), (40, None), (0, None)] {
        let document = delta(since, 42, json!([{"pattern": "x.example"}]), json!([]));
        assert_eq!(
            signer.judge(&document.to_string(), ours).unwrap(),
            Judged::Gap,
            "{since} {ours:?}"
        );
    }
    // The first of all may well have the serial 0.
    assert_eq!(signer.update(&full(0, json!([])), None).serial, 0);
}

#[test]
fn nothing_is_parsed_before_its_signature_was_checked() {
    let signer = signer();
    let good = full(1, json!([])).to_string();
    let signature = STANDARD.encode(signer.pair.sign(good.as_bytes()));
    let other = self::signer();
    for (document, signature, key) in [
        (good.replace('1', "2"), signature.clone(), &signer.key),
        (format!("{good} "), signature.clone(), &signer.key),
        ("not even JSON".into(), signature.clone(), &signer.key),
        (good.clone(), String::new(), &signer.key),
        (good.clone(), signature.clone(), &other.key),
        (String::new(), signature.clone(), &signer.key),
    ] {
        let error = judge(document.as_bytes(), signature.as_bytes(), key, None, now()).unwrap_err();
        assert!(matches!(error, DocumentError::Signature), "{document}: {error}");
    }
    assert!(judge(good.as_bytes(), signature.as_bytes(), &signer.key, None, now()).is_ok());
}

#[test]
fn a_signed_document_that_is_wrong_is_told_why() {
    let signer = signer();
    let with = |field: &str, value: Value| {
        let mut document = full(1, json!([]));
        document[field] = value;
        document.to_string()
    };
    for (document, message) in [
        ("{}".to_owned(), "the document can't be read"),
        ("[]".into(), "the document can't be read"),
        (with("serial", json!(-1)), "the document can't be read"),
        (with("serial", json!("7")), "the document can't be read"),
        (with("add", json!(["evil.example"])), "the document can't be read"),
        (with("format", json!(2)), "format 2, this program reads 1"),
        (with("date", json!("yesterday")), "`date` is \"yesterday\""),
        (with("expires", json!("")), "`expires` is \"\""),
        (
            with("expires", json!("2026-03-01T12:00:00Z")),
            "the document expired at 2026-03-01T12:00:00Z",
        ),
    ] {
        let error = signer.judge(&document, None).unwrap_err().to_string();
        assert!(error.contains(message), "{document}: {error}");
    }
}

proptest! {
    #[test]
    fn any_signed_text_is_read_or_refused(text in "\\PC{0,100}", ours in prop::option::of(0u64..4)) {
        let signer = signer();
        let _ = signer.judge(&text, ours);
        let _ = signer.judge(&full(3, json!([{"pattern": text, "reason": text}])).to_string(), ours);
    }

    #[test]
    fn additions_and_removals_are_disjoint_and_unique(
        add in prop::collection::vec("[a-cA-C]\\.[a-c]\\.test\\.?", 0..12),
        remove in prop::collection::vec("[a-cA-C]\\.[a-c]\\.test\\.?", 0..12),
    ) {
        let add: Vec<Value> = add.into_iter().map(|pattern| json!({"pattern": pattern})).collect();
        let update = signer().update(&delta(1, 2, json!(add), json!(remove)), Some(1));
        let mut seen = HashSet::new();
        for pattern in patterns(&update).into_iter().chain(update.remove.iter().map(String::as_str)) {
            prop_assert!(seen.insert(pattern.to_owned()), "{} comes twice", pattern);
        }
    }
}
