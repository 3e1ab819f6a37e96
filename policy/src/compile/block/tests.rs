//! The global block list against its definition, and Harden-Runner's rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn name(text: &str) -> DnsName {
    if text.is_empty() {
        DnsName::root()
    } else {
        DnsName::parse(text).unwrap()
    }
}

fn entry(text: &str) -> BlockEntry {
    match (text, text.strip_prefix("*.")) {
        ("*", _) => BlockEntry::Name {
            name: DnsName::root(),
            below: true,
        },
        (_, Some(base)) => BlockEntry::Name {
            name: name(base),
            below: true,
        },
        (_, None) => text.parse().map_or_else(
            |_| BlockEntry::Name {
                name: name(text),
                below: false,
            },
            BlockEntry::Net,
        ),
    }
}

fn hit(list: &[&str], asked: &str) -> Option<String> {
    let block = GlobalBlock::build(list.iter().map(|text| entry(text)));
    block.find_name(&name(asked)).map(|hit| hit.text)
}

#[test]
fn harden_runner_rows_of_the_global_block_list() {
    let list = ["blocked.com", "*.blocked.example"];
    assert_eq!(hit(&list, "blocked.com").as_deref(), Some("blocked.com"));
    assert_eq!(
        hit(&list, "foo.blocked.example").as_deref(),
        Some("*.blocked.example")
    );
    assert_eq!(hit(&list, "blocked.example"), None);
    assert_eq!(hit(&["Evil.COM"], "EVIL.com").as_deref(), Some("evil.com"));
    assert_eq!(hit(&["Evil.COM"], "sub.evil.com"), None);
}

#[test]
fn harden_runner_row_a_range_of_addresses() {
    let nets = [
        "203.0.113.0/24",
        "203.0.113.8/29",
        "2001:db8::/32",
        "198.51.100.7/32",
    ];
    let block = GlobalBlock::build(nets.iter().map(|text| entry(text)));
    let hit = |text: &str| block.find_address(text.parse().unwrap()).map(|hit| hit.text);
    assert_eq!(hit("203.0.113.9").as_deref(), Some("203.0.113.8/29"));
    assert_eq!(hit("203.0.113.99").as_deref(), Some("203.0.113.0/24"));
    assert_eq!(hit("203.0.114.1"), None);
    assert_eq!(hit("2001:db8::1").as_deref(), Some("2001:db8::/32"));
    assert_eq!(hit("198.51.100.7").as_deref(), Some("198.51.100.7/32"));
    assert_eq!(hit("198.51.100.8"), None);
}

#[test]
fn the_exact_entry_is_named_before_the_deepest_wildcard() {
    let list = ["*", "*.example", "*.b.example", "a.b.example", "a.b.example"];
    assert_eq!(hit(&list, "a.b.example").as_deref(), Some("a.b.example"));
    assert_eq!(hit(&list, "c.b.example").as_deref(), Some("*.b.example"));
    assert_eq!(hit(&list, "b.example").as_deref(), Some("*.example"));
    assert_eq!(hit(&list, "example").as_deref(), Some("*"));
    assert_eq!(hit(&list, ""), None);
    assert_eq!(hit(&[], "example"), None);
}

#[test]
fn an_entry_takes_at_most_40_bytes_in_a_large_list() {
    let text = |at: usize| match at % 5 {
        0..=2 => format!("blocked-site-{at}.example"),
        3 => format!("ads.blocked-site-{}.example", at - 1),
        _ => format!("*.tracker-{at}.test"),
    };
    let count = 20_000;
    let bytes = GlobalBlock::build((0..count).map(|at| entry(&text(at)))).heap_bytes();
    assert!(bytes <= 40 * count, "{} bytes an entry", bytes / count);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn hits_what_the_definition_hits(
        list in vec((vec(select(vec!["a", "b", "ab", "a-label-beyond-the-node"]), 1..5), any::<bool>()), 0..60),
        names in vec(vec(select(vec!["a", "b", "ab", "a-label-beyond-the-node"]), 0..6), 1..20),
    ) {
        let list: Vec<(DnsName, bool)> = list.iter().map(|(labels, below)| (name(&labels.join(".")), *below)).collect();
        let block = GlobalBlock::build(list.iter().map(|(name, below)| BlockEntry::Name { name: name.clone(), below: *below }));
        for labels in names {
            let asked = name(&labels.join("."));
            let covers = |(name, below): &&(DnsName, bool)| if *below { asked.is_below(name) } else { asked == *name };
            let wanted = list.iter().filter(covers).max_by_key(|(name, _)| name.labels().len());
            let wanted = wanted.map(|(name, below)| if *below { format!("*.{name}") } else { name.to_string() });
            prop_assert_eq!(block.find_name(&asked).map(|hit| hit.text), wanted, "{}", asked);
        }
    }
}

fn layer(entries: &[&str]) -> Arc<GlobalBlock> {
    Arc::new(GlobalBlock::build(entries.iter().map(|text| entry(text))))
}

#[test]
fn layers_are_asked_in_order_and_the_first_hit_names_its_entry() {
    let blocks = GlobalBlocks::new([
        layer(&["*.evil.test", "203.0.113.0/24"]),
        layer(&["a.evil.test", "own.test", "203.0.113.9", "2001:db8::/32"]),
    ]);
    let name = |text: &str| {
        blocks
            .find_name(&DnsName::parse(text).unwrap())
            .map(|hit| hit.text)
    };
    assert_eq!(name("a.evil.test").as_deref(), Some("*.evil.test"));
    assert_eq!(name("own.test").as_deref(), Some("own.test"));
    assert_eq!(name("evil.test"), None);
    let address = |text: &str| blocks.find_address(text.parse().unwrap()).map(|hit| hit.text);
    assert_eq!(address("203.0.113.9").as_deref(), Some("203.0.113.0/24"));
    assert_eq!(address("2001:db8::1").as_deref(), Some("2001:db8::/32"));
    assert_eq!(address("192.0.2.1"), None);
}

#[test]
fn layers_are_the_same_when_each_is_the_same_compilation() {
    let (feed, own) = (layer(&["evil.test"]), layer(&["own.test"]));
    let blocks = GlobalBlocks::new([Arc::clone(&feed), Arc::clone(&own)]);
    assert!(blocks.is_same(&GlobalBlocks::new([Arc::clone(&feed), Arc::clone(&own)])));
    let empty = layer(&[]);
    assert!(
        blocks.is_same(&GlobalBlocks::new([empty, Arc::clone(&feed), Arc::clone(&own)])),
        "an empty layer says nothing"
    );
    assert!(!blocks.is_same(&GlobalBlocks::new([Arc::clone(&feed), layer(&["own.test"])])));
    assert!(
        !blocks.is_same(&GlobalBlocks::new([own, feed])),
        "another order names other entries"
    );
    assert!(!blocks.is_same(&GlobalBlocks::default()));
}

#[test]
fn a_layer_is_empty_only_when_it_covers_nothing() {
    assert!(layer(&[]).is_empty());
    for one in ["evil.test", "*.evil.test", "*", "203.0.113.0/24", "::/0"] {
        assert!(!layer(&[one]).is_empty(), "{one}");
    }
}

#[test]
fn a_short_list_is_kept_as_it_is_and_a_long_one_only_asked() {
    let texts = ["evil.test", "*.evil.test", "203.0.113.9/32"];
    let short = layer(&texts);
    let kept: Vec<String> = short.listed().iter().map(ToString::to_string).collect();
    assert_eq!(kept, texts);
    let many = |count: usize| {
        let entries = (0..count).map(|number| entry(&format!("n{number}.test")));
        Arc::new(GlobalBlock::build(entries))
    };
    let (most, long) = (many(MAX_LISTED), many(MAX_LISTED + 1));
    assert_eq!((most.listed().len(), long.listed().len()), (MAX_LISTED, 0));
    assert!(long.find_name(&DnsName::parse("n5000.test").unwrap()).is_some());
    let blocks = GlobalBlocks::new([short, long]);
    assert_eq!(
        blocks.listed().count(),
        texts.len(),
        "a long layer leaves the short ones theirs"
    );
}
