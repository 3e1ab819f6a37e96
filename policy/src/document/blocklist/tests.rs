//! Tests of block lists in every format; no line is dropped in silence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

fn shown(list: &BlockList) -> Vec<String> {
    let one = |block: &SourcedBlock| match &block.entry {
        BlockEntry::Name { name, below: true } => format!("{}: *.{name}", block.line),
        BlockEntry::Name { name, below: false } => format!("{}: {name}", block.line),
        BlockEntry::Net(net) => format!("{}: {net}", block.line),
    };
    list.entries.iter().map(one).collect()
}

fn said(list: &BlockList) -> Vec<String> {
    let one = |d: &Diagnostic| {
        format!(
            "{}:{}+{} {}: {}",
            d.line,
            d.column,
            d.length,
            d.severity.as_str(),
            d.message
        )
    };
    list.diagnostics.iter().map(one).collect()
}

#[test]
fn plain_list() {
    let text = "# list\nEvil.COM\n*.blocked.example # why\n203.0.113.0/24\r\n\n 2001:db8::/32\n[2001:db8::5]\n\
                192.0.2.1\nbücher.example.\n_x.example\n1password.example\n";
    assert_eq!(Format::detect(text), Format::Plain);
    let list = BlockList::parse(text);
    assert_eq!(said(&list), [""; 0]);
    assert_eq!(
        shown(&list),
        [
            "2: evil.com",
            "3: *.blocked.example",
            "4: 203.0.113.0/24",
            "6: 2001:db8::/32",
            "7: 2001:db8::5/128",
            "8: 192.0.2.1/32",
            "9: xn--bcher-kva.example",
            "10: _x.example",
            "11: 1password.example",
        ]
    );
}

#[test]
fn plain_list_keeps_the_good_lines_and_names_the_bad_ones() {
    let text = "good.example\n  ||bad.example^\nevil.example:443\nev*l.example\n*\n1.2.3\n10.1.2.3/8\na b\nlast.example";
    let list = BlockList::parse(text);
    assert_eq!(
        shown(&list),
        ["1: good.example", "7: 10.0.0.0/8", "9: last.example"]
    );
    assert_eq!(
        said(&list),
        [
            "2:3+14 error: '|' can't stand in a host name",
            "3:1+16 error: a block list refuses names and addresses whole, without ports, found `evil.example:443`",
            "4:1+12 error: a block list holds names and `*.names`, found `ev*l.example`",
            "5:1+1 error: a block list holds names and `*.names`, found `*`",
            "6:1+5 error: expected an IPv4 address, found `1.2.3`",
            "7:1+10 warning: `10.1.2.3/8` has host bits set and means `10.0.0.0/8`",
            "8:1+3 error: ' ' can't stand in a host name",
        ]
    );
}

#[test]
fn hosts_file() {
    let text = "127.0.0.1 localhost\n::1 localhost ip6-loopback\n0.0.0.0 0.0.0.0\n\
                0.0.0.0 evil.example Other.example # two\n:: six.example\n192.0.2.1 real.example\noops\n0.0.0.0\n";
    assert_eq!(Format::detect(text), Format::Hosts);
    let list = BlockList::parse(text);
    assert_eq!(
        shown(&list),
        ["4: evil.example", "4: other.example", "5: six.example"]
    );
    assert_eq!(
        said(&list),
        [
            "1:11+9 note: the machine's own name is left out",
            "2:5+9 note: the machine's own name is left out",
            "2:15+12 note: the machine's own name is left out",
            "3:9+7 note: a sink address is left out",
            "6:11+12 error: this line gives an address (192.0.2.1), it does not sink the name",
            "7:1+4 error: a line of a hosts file begins with an address",
            "8:1+7 error: expected a name after the address",
        ]
    );
}

#[test]
fn response_policy_zone() {
    let text = "; a zone\n$TTL 60\n$ORIGIN rpz.example.\n@ IN SOA localhost. root.rpz.example. (\n 1 ; serial\n 2 3 4 5 )\n\
                \tIN NS localhost.\nevil.example CNAME .\n*.evil.example 60 IN CNAME *.\n  IN TXT \"why\"\n\
                Drop.example CNAME rpz-drop.\nabsolute.example.rpz.example. A 127.0.0.1\n\
                32.1.2.0.192.rpz-ip CNAME .\n48.zz.1.db8.2001.rpz-ip CNAME .\n128.1.zz.db8.2001.rpz-ip CNAME .\n";
    assert_eq!(Format::detect(text), Format::Rpz);
    let list = BlockList::parse(text);
    assert_eq!(
        shown(&list),
        [
            "8: evil.example",
            "9: *.evil.example",
            "11: drop.example",
            "12: absolute.example",
            "13: 192.0.2.1/32",
            "14: 2001:db8:1::/48",
            "15: 2001:db8::1/128",
        ]
    );
    assert_eq!(
        said(&list),
        ["10:6+3 warning: left out: records of this type refuse nothing"]
    );
}

#[test]
fn response_policy_zone_without_an_origin_and_with_errors() {
    let text = "@ 3600 IN SOA a. b. 1 2 3 4 5\n@ IN NS a.\nevil.example CNAME .\nok.example CNAME rpz-passthru.\n\
                99.x.rpz-ip CNAME .\n32.1.2.0.192.rpz-client-ip CNAME .\na..b CNAME .\nlone\n$INCLUDE x\nx.example CNAME\n";
    let list = BlockList::parse(text);
    assert_eq!(shown(&list), ["3: evil.example"]);
    assert_eq!(
        said(&list),
        [
            "4:18+13 warning: left out: a block list has no exceptions",
            "5:1+11 error: not an address range in RPZ's reversed form",
            "6:1+26 warning: left out: this kind of trigger is not supported",
            "7:1+4 error: the name has an empty label",
            "8:1+4 error: expected a record: `name CNAME .`",
            "9:1+10 error: only $TTL and $ORIGIN are read here",
            "10:11+5 error: expected `.`, `*.` or a name after CNAME",
        ]
    );
    let outside = BlockList::parse("$ORIGIN rpz.example.\nevil.example. CNAME .\n");
    assert_eq!(
        said(&outside),
        ["2:1+13 error: this name is outside of the zone rpz.example"]
    );
}

#[test]
fn diagnostics_are_bounded_and_counted() {
    let list = BlockList::parse(&"|\n".repeat(20_000));
    assert_eq!(list.entries, []);
    assert_eq!(
        list.diagnostics.len(),
        super::super::diagnostic::MAX_DIAGNOSTICS + 1
    );
    assert_eq!(
        list.diagnostics.last().unwrap().message,
        "… and 19500 more errors"
    );
}

#[test]
fn a_long_list_is_read_whole() {
    let text: Vec<String> = (0..100_000).map(|at| format!("host-{at}.bad.example")).collect();
    let list = BlockList::parse(&text.join("\n"));
    assert_eq!((list.entries.len(), list.diagnostics.len()), (100_000, 0));
    assert_eq!(list.entries.last().unwrap().line, 100_000);
}

#[test]
fn one_pattern_is_spelled_as_its_hit() {
    for (written, canonical, asked) in [
        ("Evil.Example.", "evil.example", "evil.example"),
        ("*.Evil.example", "*.evil.example", "a.b.evil.example"),
        ("bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("203.0.113.9", "203.0.113.9/32", "203.0.113.9"),
        ("203.0.113.9/24", "203.0.113.0/24", "203.0.113.77"),
        ("2001:db8::1", "2001:db8::1/128", "2001:db8::1"),
    ] {
        let entry = parse_pattern(written).unwrap();
        assert_eq!(entry.to_string(), canonical);
        let block = crate::compile::block::GlobalBlock::build([entry]);
        let hit = match asked.parse() {
            Ok(address) => block.find_address(address),
            Err(_) => block.find_name(&crate::DnsName::parse(asked).unwrap()),
        };
        assert_eq!(hit.unwrap().text, canonical);
        assert_eq!(parse_pattern(canonical).unwrap().to_string(), canonical);
    }
    for wrong in [
        "",
        "*",
        "a.example b.example",
        "a.example\nb.example",
        "a.example # why",
        "a.example:443",
        "https://a.example/x",
    ] {
        assert!(parse_pattern(wrong).is_err(), "{wrong:?}");
    }
}
