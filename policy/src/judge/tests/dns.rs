//! Rows of "DNS" (the pure part: what is judged before and after upstreams are asked).

use std::sync::Arc;

use super::*;
use crate::endpoint::NamePattern;
use crate::fixture::{book_in, world};
use crate::judge::answer::{judge_address, judge_global};
use crate::judge::permit::Filtering;
use crate::judge::query::{PointerRuling, TypeClass, judge_pointer};
use crate::rulebook::{InternalDomains, World};

#[test]
fn dns_row_a_name_with_a_port_left_after_denials_is_answered() {
    let scene = Scene::block(
        "allowed-endpoints: 'a.test:8000-8100 b.test:443 ntp.test:123/udp c.test:443'\ndenied-endpoints: 'a.test:8000-8050 b.test:443 c.test:22'",
    );
    assert_eq!(
        answers(&scene.ask("a.test")),
        resolved("a.test"),
        "8051 to 8100 are left"
    );
    assert_eq!(answers(&scene.ask("ntp.test")), resolved("ntp.test"));
    assert_eq!(answers(&scene.ask("b.test")), Answers::Refused(Reason::Denied));
    assert_eq!(answers(&scene.ask("c.test")), resolved("c.test"));
    assert_eq!(rule(&scene.ask("a.test").judgement), "a.test:8000-8100");
}

#[test]
fn dns_row_service_labels_are_stripped_for_the_types_that_have_them() {
    let scene = Scene::block("allowed-endpoints: db.test:27017");
    for qtype in [
        rtype::SRV,
        rtype::TXT,
        rtype::SVCB,
        rtype::HTTPS,
        rtype::TLSA,
        rtype::URI,
    ] {
        let ruling = scene.ask_type("_mongodb._tcp.db.test", qtype);
        assert_eq!(answers(&ruling), resolved("db.test"), "type {qtype}");
        let QueryAction::Resolve(permit) = ruling.action else {
            panic!()
        };
        assert_eq!(
            permit.name().to_string(),
            "_mongodb._tcp.db.test",
            "asked as it was"
        );
        assert_eq!(permit.filtering(), Filtering::Enforced);
    }
    let ruling = scene.ask_type("_mongodb._tcp.db.test", rtype::A);
    assert_eq!(
        answers(&ruling),
        Answers::NoData(Some(Reason::NotAllowed)),
        "but it must exist: service names lie below"
    );
    assert_eq!(
        answers(&scene.ask_type("_tcp.other.test", rtype::A)),
        Answers::Refused(Reason::NotAllowed)
    );
    assert_eq!(
        answers(&scene.ask_type("_x._tcp.e.test", rtype::SRV)),
        Answers::Refused(Reason::NotAllowed)
    );
}

#[test]
fn dns_row_srv_and_mx_targets_must_be_listed_themselves() {
    let scene = Scene::block("allowed-endpoints: db.test:27017").chain("db.test", &[], "192.0.2.1");
    assert_eq!(
        answers(&scene.ask("shard-0.db.test")),
        Answers::Refused(Reason::NotAllowed)
    );
}

#[test]
fn dns_row_a_name_in_the_chain_of_a_live_ticket_is_answered_to_the_name_first_asked() {
    let scene = Scene::block("allowed-endpoints: www.a.test:443").chain(
        "www.a.test",
        &["a.cdn.test", "edge.cdn.test"],
        "192.0.2.1",
    );
    for link in ["a.cdn.test", "edge.cdn.test"] {
        for qtype in [rtype::A, rtype::AAAA, rtype::HTTPS, rtype::CNAME] {
            assert_eq!(
                answers(&scene.ask_type(link, qtype)),
                resolved("www.a.test"),
                "{link}"
            );
        }
    }
    let flow = scene.tcp("192.0.2.1:443", tls("edge.cdn.test"));
    assert_eq!(
        does(&flow),
        Does::Closes(Reason::NotAllowed),
        "D21: SNI to the target is not thereby allowed"
    );
    let late = judge_query(
        &scene.book,
        &name("a.cdn.test"),
        rtype::A,
        &scene.tickets,
        NOW.plus(HOLD),
    );
    assert_eq!(
        answers(&late),
        Answers::Refused(Reason::NotAllowed),
        "the ticket must live"
    );
}

#[test]
fn dns_row_a_chain_does_not_help_a_denied_link_or_a_head_that_is_allowed_no_more() {
    let scene = Scene::block("allowed-endpoints: www.a.test:443\ndenied-endpoints: bad.cdn.test")
        .chain("www.a.test", &["bad.cdn.test"], "192.0.2.1")
        .chain("old.test", &["edge.cdn.test"], "192.0.2.2");
    assert_eq!(
        answers(&scene.ask("bad.cdn.test")),
        Answers::Refused(Reason::Denied)
    );
    assert_eq!(
        answers(&scene.ask("edge.cdn.test")),
        Answers::Refused(Reason::NotAllowed)
    );
}

#[test]
fn dns_row_a_refused_name_is_nxdomain_and_gets_no_permit_to_ask_upstream() {
    let scene = Scene::block("allowed-endpoints: a.test:443");
    for qtype in [
        1, 2, 5, 6, 13, 15, 16, 28, 33, 35, 39, 44, 46, 52, 64, 65, 99, 255, 256, 257, 65_280,
    ] {
        let ruling = scene.ask_type("base32.e.test", qtype);
        assert_eq!(
            answers(&ruling),
            Answers::Refused(Reason::NotAllowed),
            "D01 D14 D19: type {qtype}"
        );
        assert!(!matches!(ruling.action, QueryAction::Resolve(_)));
    }
}

#[test]
fn dns_row_a_refused_ancestor_of_an_allowed_pattern_is_nodata() {
    let policy = "allowed-endpoints: '*.a.test:443 ec2.*.cloud.test:443'\ndenied-endpoints: a.test";
    let scene = Scene::new(book_in(world("cloud.test"), policy));
    assert_eq!(
        answers(&scene.ask("test")),
        Answers::NoData(Some(Reason::NotAllowed))
    );
    assert_eq!(
        answers(&scene.ask("a.test")),
        Answers::NoData(Some(Reason::Denied)),
        "whyever it is refused"
    );
    assert_eq!(
        answers(&scene.ask("eu.cloud.test")),
        Answers::NoData(Some(Reason::NotAllowed))
    );
    assert_eq!(
        answers(&scene.ask("cloud.test")),
        Answers::NoData(Some(Reason::GlobalBlock))
    );
    assert_eq!(
        answers(&scene.ask("b.test")),
        Answers::Refused(Reason::NotAllowed)
    );
    let audit = Scene::block("egress-policy: audit\nallowed-endpoints: '*.a.test:443'");
    assert_eq!(answers(&audit.ask("a.test")), resolved("a.test"));
}

#[test]
fn dns_row_listed_types_follow_the_name() {
    let scene = Scene::block("allowed-endpoints: a.test:443");
    use rtype::*;
    let listed = [
        A, AAAA, HTTPS, SVCB, CNAME, DNAME, SRV, MX, TXT, CAA, NS, SOA, DS, DNSKEY, TLSA, SSHFP, NAPTR, URI,
    ];
    for qtype in listed {
        assert_eq!(
            answers(&scene.ask_type("a.test", qtype)),
            resolved("a.test"),
            "type {qtype}"
        );
        assert!(matches!(
            TypeClass::of(qtype),
            TypeClass::Follows | TypeClass::Validation
        ));
    }
}

#[test]
fn dns_row_ds_and_dnskey_are_answered_for_ancestors_too() {
    let scene = Scene::block("allowed-endpoints: '*.a.test:443'");
    for above in ["a.test", "test"] {
        assert_eq!(answers(&scene.ask_type(above, rtype::DS)), resolved(above));
        assert_eq!(answers(&scene.ask_type(above, rtype::DNSKEY)), resolved(above));
    }
    let root = judge_query(
        &scene.book,
        &crate::DnsName::root(),
        rtype::DNSKEY,
        &scene.tickets,
        NOW,
    );
    assert_eq!(answers(&root), resolved("."));
    assert_eq!(
        answers(&scene.ask_type("e.test", rtype::DS)),
        Answers::Refused(Reason::NotAllowed)
    );
}

#[test]
fn dns_row_other_types_of_an_allowed_name_are_nodata_and_any_is_minimal() {
    let scene = Scene::block("allowed-endpoints: a.test:443");
    for qtype in [10, 13, 46, 47, 99, 258, 65_280, 65_534] {
        assert_eq!(
            answers(&scene.ask_type("a.test", qtype)),
            Answers::NoData(Some(Reason::RecordType)),
            "{qtype}"
        );
    }
    assert_eq!(answers(&scene.ask_type("a.test", rtype::ANY)), Answers::Minimal);
    for qtype in [0, 41, 128, 249, 250, 251, 252, 253, 254] {
        assert_eq!(
            TypeClass::of(qtype),
            TypeClass::Meta,
            "AXFR, IXFR and other meta types: {qtype}"
        );
    }
    assert_eq!(TypeClass::of(12), TypeClass::Pointer);
}

fn pointer(scene: &Scene, address: &str) -> String {
    match judge_pointer(
        &scene.book,
        &name("1.2.0.192.in-addr.arpa"),
        ip(address),
        &scene.tickets,
        NOW,
    ) {
        PointerRuling::Ticketed(names) => names
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        PointerRuling::Forward(permit, rule) => format!("{:?} by {rule}", permit.filtering()),
        PointerRuling::Observe(permit) => format!("{:?}", permit.filtering()),
        PointerRuling::Refuse(refusal) => refusal.reason.as_str().into(),
    }
}

#[test]
fn dns_row_ptr_from_tickets_or_forwarded_for_covered_private_addresses() {
    let policy =
        "allowed-endpoints: 'a.test:443 10.0.0.0/8:5432 192.0.2.0/24:443'\ndenied-endpoints: 10.9.0.0/16";
    let scene = Scene::new(book_in(world("203.0.113.0/24"), policy)).ticket("a.test", "192.0.2.1");
    assert_eq!(pointer(&scene, "192.0.2.1"), "a.test");
    assert_eq!(pointer(&scene, "10.1.2.3"), "Enforced by 10.0.0.0/8:5432");
    assert_eq!(pointer(&scene, "10.9.2.3"), "denied");
    assert_eq!(pointer(&scene, "192.0.2.7"), "not-allowed", "covered, but public");
    assert_eq!(
        pointer(&scene, "172.16.0.1"),
        "not-allowed",
        "private, but not covered"
    );
    assert_eq!(pointer(&scene, "203.0.113.1"), "global-block");
    let audit = Scene::new(book_in(
        world("203.0.113.0/24\n1.2.0.192.in-addr.arpa"),
        "egress-policy: audit",
    ));
    assert_eq!(pointer(&audit, "203.0.113.1"), "global-block");
    assert_eq!(
        pointer(&Scene::block("egress-policy: audit"), "192.0.2.7"),
        "Observed"
    );
    let nobody = Scene::new(Rulebook::deny_all(Arc::default(), Reason::NoPolicy));
    assert_eq!(pointer(&nobody, "10.1.2.3"), "no-policy");
}

fn record(scene: &Scene, asked: &str, chain: &[&str], address: &str) -> Result<(), Reason> {
    let chain: Vec<_> = chain.iter().map(|one| name(one)).collect();
    judge_address(&scene.book, &name(asked), &chain, ip(address)).map_err(|refusal| refusal.reason)
}

#[test]
fn dns_row_refused_addresses_of_an_answer_are_dropped() {
    let policy =
        "allowed-endpoints: a.test:443\ndenied-endpoints: '192.0.2.66 192.0.2.67:22 [2001:db8:6::/48]'";
    let scene = Scene::new(book_in(world("203.0.113.0/24"), policy));
    for (address, wanted) in [
        ("192.0.2.1", Ok(())),
        ("2001:db8::1", Ok(())),
        ("192.0.2.66", Err(Reason::Denied)),
        ("192.0.2.67", Ok(())),
        ("2001:db8:6::1", Err(Reason::Denied)),
        ("64:ff9b::192.0.2.66", Err(Reason::Denied)),
        ("203.0.113.200", Err(Reason::GlobalBlock)),
        ("::ffff:203.0.113.200", Err(Reason::GlobalBlock)),
    ] {
        assert_eq!(record(&scene, "a.test", &[], address), wanted, "{address}");
    }
}

#[test]
fn dns_row_rebinding_is_dropped_unless_an_internal_domain_lists_it() {
    let patterns = vec![
        NamePattern::exact(&name("corp.test")),
        NamePattern {
            below: true,
            labels: NamePattern::exact(&name("lab.test")).labels,
        },
    ];
    let world = World {
        internal: InternalDomains::new(patterns),
        ..World::default()
    };
    let scene = Scene::new(book_in(world, "allowed-endpoints: '*.test:443'"));
    for private in [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::1",
    ] {
        assert_eq!(
            record(&scene, "a.test", &[], private),
            Err(Reason::Rebinding),
            "D22 M08 {private}"
        );
        assert_eq!(record(&scene, "corp.test", &[], private), Ok(()), "{private}");
        assert_eq!(record(&scene, "x.lab.test", &[], private), Ok(()), "{private}");
        assert_eq!(
            record(&scene, "lab.test", &[], private),
            Err(Reason::Rebinding),
            "below only, as written"
        );
        assert_eq!(
            record(&scene, "a.test", &["edge.test", "db.lab.test"], private),
            Ok(()),
            "the final CNAME"
        );
        assert_eq!(
            record(&scene, "a.test", &["db.lab.test", "edge.test"], private),
            Err(Reason::Rebinding),
            "not the others"
        );
    }
}

#[test]
fn dns_row_loopback_passes_unticketed() {
    let scene = Scene::block("allowed-endpoints: a.test:443");
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(record(&scene, "a.test", &[], address), Ok(()), "{address}");
    }
}

#[test]
fn dns_row_in_audit_everything_is_resolved_unfiltered_but_the_global_block_list() {
    let scene = Scene::new(book_in(
        world("evil.test\n203.0.113.0/24"),
        "egress-policy: audit\nallowed-endpoints: a.test:443",
    ));
    for (asked, qtype, verdict) in [
        ("a.test", rtype::A, Verdict::Permit),
        ("e.test", rtype::A, Verdict::WouldRefuse),
        ("e.test", rtype::TXT, Verdict::WouldRefuse),
        ("a.test", rtype::ANY, Verdict::Permit),
        ("a.test", 65_280, Verdict::WouldRefuse),
    ] {
        let ruling = scene.ask_type(asked, qtype);
        assert_eq!(ruling.judgement.verdict(), verdict, "{asked} {qtype}");
        let QueryAction::Resolve(permit) = &ruling.action else {
            panic!("{ruling:?}")
        };
        assert_eq!(permit.filtering(), Filtering::Observed);
    }
    assert_eq!(
        answers(&scene.ask("evil.test")),
        Answers::Refused(Reason::GlobalBlock)
    );
    assert!(judge_global(&scene.book, ip("10.0.0.1")).is_ok());
    assert_eq!(
        judge_global(&scene.book, ip("203.0.113.1")).unwrap_err().reason,
        Reason::GlobalBlock
    );
}

#[test]
fn dns_row_search_suffixes_are_told_apart() {
    let scene = Scene::block("allowed-endpoints: 'registry.test:443 *.npm.test:443 db:5432'");
    for suffixed in [
        "registry.test.corp.example",
        "a.npm.test.corp.example",
        "db.corp.example",
        "registry.test.example",
    ] {
        assert_eq!(
            answers(&scene.ask(suffixed)),
            Answers::Refused(Reason::SearchSuffix),
            "{suffixed}"
        );
    }
    for other in [
        "evilregistry.test",
        "npm.test.corp.example",
        "x.registry.test",
        "corp.example",
    ] {
        assert_eq!(
            answers(&scene.ask(other)),
            Answers::Refused(Reason::NotAllowed),
            "{other}"
        );
    }
    let flow = scene.tcp("192.0.2.1:443", tls("registry.test.corp.example"));
    assert_eq!(
        does(&flow),
        Does::Closes(Reason::NotAllowed),
        "nobody appends suffixes to an SNI"
    );
}

#[test]
fn d15_odd_bytes_never_equal_a_rule() {
    let scene = Scene::block("allowed-endpoints: allowed.test:443");
    for labels in [
        vec![&b"allowed.test"[..]],
        vec![b"allowed\0", b"test"],
        vec![b"allowed ", b"test"],
    ] {
        let odd = crate::DnsName::from_labels(labels).unwrap();
        let ruling = judge_query(&scene.book, &odd, rtype::A, &scene.tickets, NOW);
        assert_eq!(answers(&ruling), Answers::Refused(Reason::NotAllowed), "{odd}");
    }
    let cased = crate::DnsName::from_labels([&b"ALLowed"[..], b"TeST"]).unwrap();
    assert_eq!(
        answers(&judge_query(&scene.book, &cased, rtype::A, &scene.tickets, NOW)),
        resolved("allowed.test")
    );
}
