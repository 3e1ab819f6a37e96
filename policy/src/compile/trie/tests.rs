//! The table behind the trie at a size where runs grow long and fingerprints meet.

use super::*;
use crate::name::DnsName;

type Trie = LabelTrie<u32, 16>;

fn trie(names: &[DnsName]) -> Trie {
    let mut builder = Builder::new();
    for (number, name) in (1..).zip(names) {
        builder.push(
            name.labels().iter().rev().map(|label| Element::Literal(label)),
            false,
            number,
        );
    }
    builder.build(|endings| endings.next().map_or(0, |(_, number)| number))
}

fn names() -> Vec<DnsName> {
    let text = |at: u32| match at % 4 {
        0 => format!("host-{at}.example"),
        1 => format!("a.b.c.d-{at}.test"),
        2 => format!("a-label-longer-than-its-node-{at}.example"),
        _ => format!("www.host-{}.example", at - 3),
    };
    (0..40_000)
        .map(|at| DnsName::parse(&text(at)).expect("a name"))
        .collect()
}

/// The number stored for a name, when a plain path leads to it.
fn found(trie: &Trie, name: &DnsName) -> Option<u32> {
    let mut found = None;
    let arrive = |place: Place| {
        if place.left == 0 && trie.is_exact(place.node) {
            found = Some(trie.value(place.node));
        }
    };
    trie.walk(&NameView::new(name), arrive, |_| ());
    found
}

#[test]
fn every_name_of_a_large_list_is_found_and_no_other() {
    let names = names();
    let trie = trie(&names);
    for (number, name) in (1..).zip(&names) {
        assert_eq!(found(&trie, name), Some(number), "{name}");
    }
    for name in &names {
        let other = DnsName::parse(&format!("x{name}")).expect("a name");
        assert_eq!(found(&trie, &other), None, "{other}");
    }
}

#[test]
fn both_the_examined_lanes_and_the_search_beyond_them_are_taken() {
    let names = names();
    let trie = trie(&names);
    let (examined, searched) = names.iter().fold((0, 0), |(examined, searched), name| {
        let labels = name.labels();
        let hash = labels.iter().rev().fold(trie.hashing.context(0), |hash, label| {
            let mut element = vec![label.len() as u8];
            element.extend_from_slice(label);
            trie.hashing.extend_by(hash, &element)
        });
        let (candidate, _) = trie.slots.probe(hash);
        let direct = (candidate as usize) < trie.len() && trie.is_exact(candidate);
        if direct {
            (examined + 1, searched)
        } else {
            (examined, searched + 1)
        }
    });
    assert!(
        examined > names.len() / 2,
        "{examined} of {} at once",
        names.len()
    );
    assert!(searched > 0, "none of {} by the search", names.len());
}

#[test]
fn a_chain_without_branches_is_one_edge() {
    let chain = DnsName::parse("a.very.long.chain.of.labels.example").expect("a name");
    let trie = trie(std::slice::from_ref(&chain));
    assert_eq!(trie.len(), 2);
    assert_eq!(trie.edge_labels(1).len(), 7);
    assert_eq!(found(&trie, &chain), Some(1));
    assert_eq!(
        found(&trie, &DnsName::parse("of.labels.example").expect("a name")),
        None
    );
}
