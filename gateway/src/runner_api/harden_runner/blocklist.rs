//! The global block list for agents: what is short enough to be handed out.
//!
//! An agent loads it whole at each job's start, and puts every address in its host's firewall. So a layer of more than
//! [`MAX_LISTED`](tidegate_policy::compile::block::MAX_LISTED) entries, such as a feed of a million names, is not sent; the
//! gateway refuses all of it anyway. The others are: the program's own list, the deployment's entries, and the files of
//! `gateway.global-block`.

use ipnet::IpNet;
use serde::Serialize;
use tidegate_policy::compile::block::BlockEntry;
use tidegate_policy::rulebook::World;

const REASON: &str = "on Tidegate's global block list";

/// The list by kinds of entries; each array is always there.
#[derive(Debug, Default, Serialize)]
pub(super) struct BlocklistView {
    /// An address, or a range in CIDR notation.
    ip_addresses: Vec<Entry>,
    domains: Vec<Entry>,
    /// `*.example.test`: the names below, not the name itself.
    wildcard_domains: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Entry {
    endpoint: String,
    reason: &'static str,
}

/// What is refused to everybody, as far as it is listed; each entry once, sorted.
pub(super) fn of(world: &World) -> BlocklistView {
    let mut view = BlocklistView::default();
    for entry in world.global.listed() {
        let (list, endpoint) = match entry {
            BlockEntry::Net(net) => (&mut view.ip_addresses, address(net)),
            BlockEntry::Name { below: false, .. } => (&mut view.domains, entry.to_string()),
            // "Every name" is no wildcard that an agent knows.
            BlockEntry::Name { name, below: true } if name.is_root() => continue,
            BlockEntry::Name { below: true, .. } => (&mut view.wildcard_domains, entry.to_string()),
        };
        list.push(Entry {
            endpoint,
            reason: REASON,
        });
    }
    for list in [
        &mut view.ip_addresses,
        &mut view.domains,
        &mut view.wildcard_domains,
    ] {
        list.sort_unstable();
        list.dedup();
    }
    view
}

/// Agents compare an address by its text, so a range of one is written as the address.
fn address(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.trunc().to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use serde_json::json;
    use tidegate_policy::DnsName;
    use tidegate_policy::compile::block::{GlobalBlock, GlobalBlocks, MAX_LISTED};
    use tidegate_policy::document::blocklist::parse_pattern;

    use super::*;

    fn layer<'a>(entries: impl IntoIterator<Item = &'a str>) -> Arc<GlobalBlock> {
        Arc::new(GlobalBlock::build(
            entries.into_iter().map(|text| parse_pattern(text).unwrap()),
        ))
    }

    fn shown(layers: [Arc<GlobalBlock>; 2]) -> serde_json::Value {
        let world = World {
            global: GlobalBlocks::new(layers),
            ..World::default()
        };
        serde_json::to_value(of(&world)).unwrap()
    }

    #[test]
    fn entries_are_parted_by_kind_each_once() {
        let one = layer(["evil.test", "*.evil.test", "203.0.113.9", "203.0.113.0/24"]);
        let other = ["2001:db8::1", "evil.test", "Other.TEST."].map(|text| parse_pattern(text).unwrap());
        let every = BlockEntry::Name {
            name: DnsName::root(),
            below: true,
        };
        let other = Arc::new(GlobalBlock::build(other.into_iter().chain([every])));
        let entry = |endpoint| json!({"endpoint": endpoint, "reason": REASON});
        assert_eq!(
            shown([one, other]),
            json!({
                "ip_addresses": [entry("2001:db8::1"), entry("203.0.113.0/24"), entry("203.0.113.9")],
                "domains": [entry("evil.test"), entry("other.test")],
                "wildcard_domains": [entry("*.evil.test")],
            })
        );
    }

    #[test]
    fn a_feed_is_left_out_and_every_array_is_there() {
        let names: Vec<String> = (0..=MAX_LISTED).map(|n| format!("n{n}.test")).collect();
        let feed = layer(names.iter().map(String::as_str));
        assert_eq!(
            shown([feed, layer([])]),
            json!({"ip_addresses": [], "domains": [], "wildcard_domains": []})
        );
    }
}
