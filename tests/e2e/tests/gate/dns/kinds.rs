//! Record types, classes, opcodes and EDNS: what follows the name, what is never forwarded.

use tidegate_e2e::dns::{self, Dig, dig, over_tcp, over_udp};
use tidegate_e2e::{block, event, gateway, start, started};
use tidegate_lab::{Behaviour, Lab, plan};

use super::{refused, unasked};

const REFUSED: u16 = 5;
const NOTIMP: u16 = 4;

#[tokio::test]
async fn the_types_that_follow_the_name_are_answered() {
    let lab = Lab::builder().build().unwrap();
    let digest = "ab".repeat(32);
    let (tlsa, sshfp) = (format!("TLSA 3 1 1 {digest}"), format!("SSHFP 4 2 {digest}"));
    let records = [
        ("A", "A 192.0.2.10"),
        ("AAAA", "AAAA 2001:db8:200::10"),
        ("HTTPS", "HTTPS 1 . alpn=h2"),
        ("SVCB", "SVCB 1 . alpn=h2"),
        ("SRV", "SRV 1 1 443 node.test."),
        ("MX", "MX 10 mx.test."),
        ("TXT", "TXT \"hello\""),
        ("CAA", "CAA 0 issue \"ca.test\""),
        ("NS", "NS ns.test."),
        ("SOA", "SOA ns.test. hostmaster.test. 1 2 3 4 5"),
        ("TLSA", &tlsa),
        ("SSHFP", &sshfp),
        ("NAPTR", "NAPTR 1 1 \"u\" \"s\" \"\" sip.test."),
        ("URI", "TYPE256 \\# 0001000168747470733a2f2f782e74657374"),
        ("DNAME", "TYPE39 \\# 056f74686572047465737400"),
        (
            "DS",
            "TYPE43 \\# 12340d02abababababababababababababababababababababababababababababababab",
        ),
        ("DNSKEY", "TYPE48 \\# 0100030dabababab"),
    ];
    let zone: Vec<&str> = records.iter().map(|(_, record)| *record).collect();
    lab.dns().set("types.test", &zone).unwrap();
    lab.dns().set("alias.test", &["CNAME other.test."]).unwrap();
    let _gateway = started(&lab, &block(&["types.test:443", "alias.test:443"])).await;
    for (kind, _) in records {
        let answer = dig(&lab, &["-t", kind, "types.test"]).await;
        assert_eq!(answer.status, "NOERROR", "{kind}: {answer}");
        assert_eq!(answer.answer.len(), 1, "{kind}: {answer}");
    }
    assert_eq!(
        lab.dns().asked("types.test").len(),
        records.len(),
        "each type is asked upstream, once"
    );
    assert_eq!(
        dig(&lab, &["-t", "CNAME", "alias.test"]).await.data(),
        ["other.test."]
    );
}

#[tokio::test]
async fn leading_service_labels_follow_their_host() {
    let lab = Lab::builder().build().unwrap();
    lab.dns()
        .set("_mongodb._tcp.db.test", &["SRV 1 1 27017 node.other.test."])
        .unwrap();
    lab.dns().set("_dmarc.db.test", &["TXT \"v=DMARC1\""]).unwrap();
    lab.dns()
        .set("_8443._https.db.test", &["HTTPS 1 . alpn=h2"])
        .unwrap();
    lab.dns().set("_x.db.test", &["A 192.0.2.10"]).unwrap();
    lab.name("node.other.test", &plan::site(10)).unwrap();
    let gateway = started(&lab, &block(&["db.test:27017"])).await;
    for (kind, name) in [
        ("SRV", "_mongodb._tcp.db.test"),
        ("TXT", "_dmarc.db.test"),
        ("HTTPS", "_8443._https.db.test"),
    ] {
        let answer = dig(&lab, &["-t", kind, name]).await;
        assert_eq!(answer.answer.len(), 1, "{answer}");
    }
    // Not in a type without service labels, and the target must be listed itself.
    let unstripped = dig(&lab, &["-t", "A", "_x.db.test"]).await;
    assert!(
        unstripped.is_no_data() && unstripped.error.is_some(),
        "{unstripped}"
    );
    refused(&lab, &mut gateway.events(), "_x.db.test", "not-allowed").await;
    assert!(dig(&lab, &["node.other.test"]).await.is_blocked());
    refused(&lab, &mut gateway.events(), "node.other.test", "not-allowed").await;
    // What stands above the service names exists.
    assert!(dig(&lab, &["-t", "A", "_tcp.db.test"]).await.is_no_data());
    for (kind, name) in [("SRV", "_mongodb._tcp.evil.test"), ("TXT", "_dmarc.evil.test")] {
        assert!(dig(&lab, &["-t", kind, name]).await.is_blocked(), "{name}");
    }
    unasked(&lab, "evil.test");
}

#[tokio::test]
async fn d19_types_that_are_not_forwarded_are_no_data_with_the_extended_error() {
    let lab = Lab::builder().build().unwrap();
    lab.dns()
        .set(
            "allowed.test",
            &["A 192.0.2.10", "TYPE65280 \\# 0a0b0c", "TYPE10 \\# 736563726574"],
        )
        .unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for (kind, shown) in [
        ("TYPE65280", "TYPE65280"),
        ("NULL", "TYPE10"),
        ("HINFO", "HINFO"),
        ("LOC", "TYPE29"),
    ] {
        let answer = dig(&lab, &["-t", kind, "allowed.test"]).await;
        assert!(answer.is_no_data(), "{kind}: {answer}");
        assert!(
            answer
                .error
                .as_ref()
                .is_some_and(|error| error.contains("record-type")),
            "{kind}: {answer}"
        );
        let fields = [
            ("kind", "dns"),
            ("qtype", shown),
            ("reason", "record-type"),
            ("verdict", "refuse"),
        ];
        event(&mut gateway.events(), &fields).await;
    }
    unasked(&lab, "allowed.test");
}

#[tokio::test]
async fn rfc8482_any_gets_one_hinfo_record() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for transport in ["+notcp", "+tcp"] {
        let answer = dig(&lab, &[transport, "-t", "ANY", "allowed.test"]).await;
        assert_eq!(answer.data(), ["\"RFC8482\" \"\""], "{answer}");
    }
    assert!(
        dig(&lab, &["+notcp", "-t", "ANY", "evil.test"])
            .await
            .is_blocked()
    );
    unasked(&lab, "test");
}

#[tokio::test]
async fn d18_transfers_meta_types_classes_and_opcodes_are_refused_or_not_implemented() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let name = dns::plain_name("allowed.test");
    let of = |qtype, qclass| dns::message(0, 0x0100, [1, 0, 0, 0], &dns::question_of(&name, qtype, qclass));
    let opcode = |opcode: u16| dns::message(0, opcode << 11, [1, 0, 0, 0], &dns::question(&name, 6));
    let (axfr, ixfr, tkey, mailb, opt) = (252, 251, 249, 253, 41);
    let (chaos, hesiod, any, none) = (3, 4, 255, 254);
    let (iquery, status, notify, update, stateful) = (1, 2, 4, 5, 6);
    let cases = [
        ("AXFR", of(axfr, 1), REFUSED),
        ("IXFR", of(ixfr, 1), REFUSED),
        ("TKEY", of(tkey, 1), NOTIMP),
        ("MAILB", of(mailb, 1), NOTIMP),
        ("OPT", of(opt, 1), NOTIMP),
        ("class CH", of(16, chaos), REFUSED),
        ("class HS", of(1, hesiod), REFUSED),
        ("class ANY", of(1, any), REFUSED),
        ("class NONE", of(1, none), REFUSED),
        ("opcode IQUERY", opcode(iquery), NOTIMP),
        ("opcode STATUS", opcode(status), NOTIMP),
        ("opcode NOTIFY", opcode(notify), NOTIMP),
        ("opcode UPDATE", opcode(update), NOTIMP),
        ("opcode DSO", opcode(stateful), NOTIMP),
        ("opcode 15", opcode(15), NOTIMP),
    ];
    for (what, message, rcode) in cases {
        let by_udp = over_udp(lab.runner(0), "10.77.1.1:53", std::slice::from_ref(&message));
        let by_tcp = over_tcp(lab.runner(0), "203.0.113.53:53", &[dns::framed(&message)], 1);
        for replies in [by_udp, by_tcp] {
            let [reply] = &replies[..] else {
                panic!("{what}: one answer, not {replies:?}")
            };
            assert_eq!((reply.rcode(), reply.answers()), (rcode, 0), "{what}: {reply:?}");
        }
    }
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("qtype", "AXFR"), ("verdict", "refuse")],
    )
    .await;
    unasked(&lab, "test");
}

#[tokio::test]
async fn d20_edns_options_of_a_client_are_not_forwarded() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let options = [
        "+ednsopt=65001:c0ffee",
        "+subnet=192.0.2.0/24",
        "+padding=128",
        "+cookie",
        "+nsid",
    ];
    let answer = dig(&lab, &[&options[..], &["allowed.test"]].concat()).await;
    assert_eq!(answer.data(), ["192.0.2.10"], "{answer}");
    let asked = lab.dns().asked("allowed.test");
    assert!(!asked.is_empty());
    for query in asked {
        assert!(
            query.edns.as_ref().is_none_or(|edns| edns.options.is_empty()),
            "{query:?}"
        );
    }
    let shown = dig(&lab, &["+subnet=192.0.2.0/24", "+nsid", "allowed.test"]).await;
    assert!(
        !shown.text.contains("CLIENT-SUBNET") && !shown.text.contains("NSID"),
        "{shown}"
    );
}

#[tokio::test]
async fn do_and_cd_are_honoured_and_key_the_cache() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().sign("allowed.test");
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let signed = |answer: &Dig| answer.answer.iter().any(|record| record.contains(" RRSIG "));
    let plain = dig(&lab, &["allowed.test"]).await;
    assert!(!signed(&plain), "{plain}");
    let with_do = dig(&lab, &["+dnssec", "allowed.test"]).await;
    assert!(
        signed(&with_do) && with_do.text.contains("flags: do"),
        "{with_do}"
    );
    let with_cd = dig(&lab, &["+cd", "allowed.test"]).await;
    assert!(with_cd.flags.contains(&"cd".to_owned()), "{with_cd}");
    assert!(
        !signed(&dig(&lab, &["allowed.test"]).await),
        "the answer with DO must not serve a client without"
    );
    let asked = lab.dns().asked("allowed.test");
    let seen: Vec<_> = asked
        .iter()
        .map(|one| {
            (
                one.edns.as_ref().is_some_and(|edns| edns.dnssec_ok),
                one.checking_disabled,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(false, false), (true, false), (false, true)],
        "one query for each (DO, CD)"
    );
}

#[tokio::test]
async fn an_upstreams_ad_is_cleared() {
    let lab = Lab::builder().build().unwrap();
    let answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x0a";
    let body = [&dns::question(&dns::plain_name("ad.test"), 1)[..], answer].concat();
    lab.dns().behave(
        "ad.test",
        Behaviour::Raw(dns::message(0, 0x81a0, [1, 1, 0, 0], &body)),
    );
    // By TCP: over UDP the gateway mixes the question's case, which these bytes could not follow.
    let _gateway =
        start(gateway(&lab, &block(&["ad.test:443"])).dns("upstreams: [\"tcp://198.51.100.53\"]")).await;
    for asking in ["+adflag", "+dnssec"] {
        let authentic = dig(&lab, &[asking, "ad.test"]).await;
        assert_eq!(authentic.data(), ["192.0.2.10"], "{authentic}");
        assert!(!authentic.flags.contains(&"ad".to_owned()), "{authentic}");
    }
}

#[tokio::test]
async fn d15_the_casing_of_the_question_is_kept() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for spelled in ["AlLoWeD.tEsT", "ALLOWED.TEST", "allowed.test"] {
        let question = dns::question(&dns::plain_name(spelled), 1);
        let message = dns::framed(&dns::message(3, 0x0100, [1, 0, 0, 0], &question));
        let replies = over_tcp(lab.runner(0), "10.77.1.1:53", &[message], 1);
        assert_eq!(replies[0].answers(), 1, "{spelled}");
        assert_eq!(&replies[0].0[12..12 + question.len()], &question[..], "{spelled}");
    }
    assert_eq!(
        lab.dns().asked("allowed.test").len(),
        1,
        "one name in the cache, however it is spelled"
    );
    assert!(dig(&lab, &["EvIl.TeSt"]).await.is_blocked());
    refused(&lab, &mut gateway.events(), "evil.test", "not-allowed").await;
}

#[tokio::test]
async fn d25_ech_and_h3_leave_the_https_records_of_a_blocking_job() {
    let lab = Lab::builder().build().unwrap();
    let record = "HTTPS 1 . alpn=h3,h2 ipv4hint=192.0.2.10 ech=AEj+DQBEAQAgACAdd+scUi0IYFsXnUIU7ko2Nd9+F8M26pAGZVpz/KrWPgAEAAEAAWQVZWNoLXNpdGVzLmV4YW1wbGUubmV0AAA=";
    lab.dns().set("allowed.test", &[record, "A 192.0.2.10"]).unwrap();
    lab.dns().sign("allowed.test");
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let answer = dig(&lab, &["+dnssec", "-t", "HTTPS", "allowed.test"]).await;
    let https: Vec<_> = answer
        .answer
        .iter()
        .filter(|record| record.contains(" HTTPS "))
        .collect();
    let [https] = &https[..] else {
        panic!("one HTTPS record: {answer}")
    };
    assert!(
        !https.contains("ech=") && !https.contains("h3") && https.contains("alpn=\"h2\""),
        "{answer}"
    );
    assert!(https.contains("ipv4hint=192.0.2.10"), "{answer}");
    assert!(
        !answer.text.contains("RRSIG"),
        "a signature over a changed record only fails: {answer}"
    );
}
