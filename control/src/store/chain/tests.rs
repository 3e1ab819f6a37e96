//! That the chain notices every change of any entry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::Actor;

fn entry(seq: u64) -> AuditEntry {
    AuditEntry {
        seq,
        at: Micros(1_700_000_000_000_000 + seq.cast_signed()).timestamp(),
        actor: Actor {
            subject: "mona".into(),
            token_id: Some("tok_1".into()),
            via: "api".into(),
        },
        action: "policy.updated".into(),
        owner: "acme".into(),
        target: "policy acme/base".into(),
        policy_id: Some("pol_1".into()),
        detail: json!({"to": seq, "from": 1, "text": "ü\u{0}\"\\"}),
        previous: String::new(),
        hash: String::new(),
    }
}

fn chain(count: u64) -> Vec<AuditEntry> {
    let mut head = Head::default();
    let made = (1..=count).map(|seq| {
        let mut entry = entry(seq);
        entry.previous = head.hash.clone();
        entry.hash = entry_hash(&entry);
        head.hash = entry.hash.clone();
        entry
    });
    made.collect()
}

#[test]
fn the_form_of_an_entry_is_fixed() {
    // Computed by a separate program from the words at the head of this module; a change of the form needs another magic.
    let mut first = entry(1);
    first.previous = START.to_owned();
    assert_eq!(
        entry_hash(&first),
        "e66fff466124b95b197a6ae0b59a6daf887b49c840c75ccf213374120c7ba753"
    );
}

#[test]
fn an_untouched_chain_holds_also_after_a_way_through_json() {
    let chain = chain(20);
    let head = verify(&chain).unwrap();
    assert_eq!(head.seq, 20);
    let text = serde_json::to_string(&chain).unwrap();
    let read: Vec<AuditEntry> = serde_json::from_str(&text).unwrap();
    assert_eq!(verify(&read), Ok(head));
    assert_eq!(verify([]), Ok(Head::default()));
}

#[test]
fn removing_inserting_and_moving_break_it() {
    let whole = chain(10);
    let mut removed = whole.clone();
    removed.remove(4);
    assert_eq!(
        verify(&removed),
        Err(Broken::Order {
            expected: 5,
            found: 6
        })
    );
    let mut closed = removed.clone();
    for (at, entry) in closed.iter_mut().enumerate() {
        entry.seq = at as u64 + 1;
    }
    assert_eq!(verify(&closed), Err(Broken::Previous { seq: 5 }));
    let mut moved = whole.clone();
    moved.swap(3, 4);
    assert_eq!(
        verify(&moved),
        Err(Broken::Order {
            expected: 4,
            found: 5
        })
    );
    let mut doubled = whole.clone();
    doubled.insert(4, whole[4].clone());
    assert_eq!(
        verify(&doubled),
        Err(Broken::Order {
            expected: 6,
            found: 5
        })
    );
    let mut rehashed = whole.clone();
    rehashed[4].actor.subject = "mallory".into();
    rehashed[4].hash = entry_hash(&rehashed[4]);
    assert_eq!(verify(&rehashed), Err(Broken::Previous { seq: 6 }));
}

#[test]
fn a_remembered_head_shows_a_cut_end_and_a_rewritten_past() {
    let whole = chain(10);
    let head = verify(&whole[..8]).unwrap();
    let again = |entries: &[AuditEntry]| {
        let mut verifier = Verifier::remembering(head.clone());
        entries.iter().try_for_each(|entry| verifier.push(entry))?;
        verifier.finish()
    };
    assert_eq!(again(&whole).unwrap().seq, 10);
    assert_eq!(
        again(&whole[..7]),
        Err(Broken::Truncated {
            remembered: 8,
            found: 7
        })
    );
    let mut rewritten = whole.clone();
    let mut previous = START.to_owned();
    for entry in &mut rewritten {
        entry.actor.subject = "nobody".into();
        entry.previous = previous;
        entry.hash = entry_hash(entry);
        previous = entry.hash.clone();
    }
    assert!(verify(&rewritten).is_ok(), "consistent in itself");
    assert_eq!(again(&rewritten), Err(Broken::Rewritten { seq: 8 }));
}

#[test]
fn what_follows_a_head_is_verified_without_what_leads_to_it() {
    let whole = chain(8);
    let head = verify(&whole[..5]).unwrap();
    let follow = |entries: &[AuditEntry]| {
        let mut verifier = Verifier::following(head.clone());
        entries.iter().try_for_each(|entry| verifier.push(entry))?;
        verifier.finish()
    };
    assert_eq!(follow(&[]), Ok(head.clone()));
    assert_eq!(follow(&whole[5..]).map(|head| head.seq), Ok(8));
    assert_eq!(
        follow(&whole[6..]),
        Err(Broken::Order {
            expected: 6,
            found: 7
        })
    );
    let mut edited = whole[5..].to_vec();
    edited[0].previous = START.to_owned();
    assert_eq!(follow(&edited), Err(Broken::Previous { seq: 6 }));
}

#[test]
fn where_one_text_ends_and_the_next_begins_is_part_of_the_form() {
    let hash = |change: fn(&mut AuditEntry)| {
        let mut entry = entry(1);
        change(&mut entry);
        entry_hash(&entry)
    };
    let moved = hash(|entry| {
        entry.owner = "acm".into();
        entry.target = "epolicy acme/base".into();
    });
    assert_ne!(moved, entry_hash(&entry(1)));
    let (absent, empty) = (
        hash(|entry| entry.policy_id = None),
        hash(|entry| entry.policy_id = Some(String::new())),
    );
    assert_ne!(absent, empty);
}

proptest! {
    /// Any edit of any field of any entry is found.
    #[test]
    fn every_edit_is_found(at in 0_usize..10, field in 0..10, text in "[a-z]{0,6}") {
        let mut entries = chain(10);
        let before = entries[at].clone();
        let entry = &mut entries[at];
        match field {
            0 => entry.at = Micros(Micros::from(entry.at).0 + 1).timestamp(),
            1 => entry.actor.subject = text,
            2 => entry.actor.token_id = Some(text),
            3 => entry.actor.via = text,
            4 => entry.action = text,
            5 => entry.owner = text,
            6 => entry.target = text,
            7 => entry.policy_id = Some(text),
            8 => entry.detail = json!({ "text": text }),
            _ => entry.previous = text,
        }
        prop_assume!(*entry != before);
        prop_assert!(verify(&entries).is_err());
    }
}
