//! The rows of the table "DNS" in the policy semantics, one after another.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{DNSClass, RData, RecordType};
use tidegate_dns::{Client, Transport};
use tidegate_policy::verdict::{Reason, Verdict};

use crate::support::{Setup, audit, block, client, data, extended_error, name, query};

#[tokio::test]
async fn a_permitted_name_in_every_following_type() {
    let bench = Setup::new(block("db.test:5432")).start().await;
    bench.upstream.set(
        "db.test",
        &[
            "A 192.0.2.1",
            "AAAA 2001:db8::1",
            "TXT hello",
            "MX 10 mail.test.",
            "CAA 0 issue ca.test",
        ],
    );
    for kind in [
        RecordType::A,
        RecordType::AAAA,
        RecordType::TXT,
        RecordType::MX,
        RecordType::CAA,
    ] {
        let answer = bench.ask("db.test.", kind).await;
        assert_eq!(answer.answers.len(), 1, "{kind}: {answer}");
        assert_eq!(bench.event().verdict, Verdict::Permit);
    }
    for kind in [
        RecordType::NS,
        RecordType::SOA,
        RecordType::NAPTR,
        RecordType::SSHFP,
        RecordType::TLSA,
    ] {
        assert_eq!(
            bench.ask("db.test.", kind).await.metadata.response_code,
            ResponseCode::NoError,
            "{kind}"
        );
        assert_eq!(bench.event().verdict, Verdict::Permit, "{kind}");
    }
}

#[tokio::test]
async fn leading_underscore_labels_follow_their_host() {
    let bench = Setup::new(block("db.test:27017")).start().await;
    bench
        .upstream
        .set("_mongodb._tcp.db.test", &["SRV 0 0 27017 shard.db.test."]);
    assert_eq!(
        bench
            .ask("_mongodb._tcp.db.test.", RecordType::SRV)
            .await
            .answers
            .len(),
        1
    );
    bench.events();
    // The target must be listed itself.
    bench
        .assert_refused("shard.db.test.", RecordType::A, Reason::NotAllowed)
        .await;
    bench
        .assert_refused("_mongodb._tcp.evil.test.", RecordType::SRV, Reason::NotAllowed)
        .await;
}

#[tokio::test]
async fn d21_a_name_in_the_chain_of_a_live_ticket_is_answered_and_ticketed_to_the_name_first_asked() {
    let bench = Setup::new(block("www.a.test:443")).start().await;
    bench.upstream.set("www.a.test", &["CNAME edge.cdn.test."]);
    bench.upstream.set("edge.cdn.test", &["CNAME host.cdn.test."]);
    bench.upstream.set("host.cdn.test", &["A 192.0.2.9"]);
    bench
        .assert_refused("edge.cdn.test.", RecordType::A, Reason::NotAllowed)
        .await;
    let answer = bench.assert_answered("www.a.test.").await;
    assert_eq!(data(&answer), ["edge.cdn.test.", "host.cdn.test.", "192.0.2.9"]);
    assert!(bench.holds("www.a.test", "192.0.2.9"));
    assert!(
        !bench.holds("host.cdn.test", "192.0.2.9"),
        "the target is not thereby allowed"
    );
    // A chasing resolver asks for each link.
    bench.upstream.set(
        "host.cdn.test",
        &["A 192.0.2.9", "A 192.0.2.10", "AAAA 2001:db8::9"],
    );
    bench.assert_answered("edge.cdn.test.").await;
    let v6 = bench.ask("host.cdn.test.", RecordType::AAAA).await;
    assert_eq!(data(&v6), ["2001:db8::9"]);
    assert!(bench.holds("www.a.test", "192.0.2.10") && bench.holds("www.a.test", "2001:db8::9"));
    assert!(!bench.holds("edge.cdn.test", "192.0.2.10"));
}

#[tokio::test]
async fn the_target_of_an_https_record_is_in_the_chain() {
    let bench = Setup::new(block("www.a.test:443")).start().await;
    bench
        .upstream
        .set("www.a.test", &["HTTPS 1 svc.cdn.test. alpn=h2"]);
    bench.upstream.set("svc.cdn.test", &["A 192.0.2.9"]);
    bench.ask("www.a.test.", RecordType::HTTPS).await;
    bench.assert_answered("svc.cdn.test.").await;
    assert!(bench.holds("www.a.test", "192.0.2.9"));
}

#[tokio::test]
async fn a_refused_name_gives_nxdomain_with_a_soa_of_its_own_and_an_explanation() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let answer = bench.ask("X.Evil.test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let soa = &answer.authorities[0];
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), ("X.Evil.test.", 5));
    let RData::SOA(soa) = &soa.data else {
        panic!("{soa}")
    };
    assert_eq!(soa.minimum, 5);
    let event = bench.event();
    let (code, text) = extended_error(&answer).unwrap();
    assert_eq!(code, 15);
    assert_eq!(text, format!("policy ci v3: not-allowed, event {}", event.id));
    // Without EDNS the client gets none.
    let mut plain = query("evil.test.", RecordType::A);
    plain.edns = None;
    let answer = bench.send(&plain).await;
    assert_eq!(
        (answer.metadata.response_code, answer.edns),
        (ResponseCode::NXDomain, None)
    );
    assert!(bench.upstream.log().is_empty());
}

#[tokio::test]
async fn the_explanation_names_the_refusing_rule() {
    let policy = block("*.a.test:443") + "denied-endpoints: gist.a.test\n";
    let bench = Setup::new(policy).start().await;
    let (_, text) = extended_error(&bench.ask("gist.a.test.", RecordType::A).await).unwrap();
    assert!(
        text.contains("denied") && text.contains("rule gist.a.test"),
        "{text}"
    );
    assert_eq!(bench.event().rule.as_deref(), Some("gist.a.test"));
}

#[tokio::test]
async fn rfc8020_a_refused_ancestor_of_an_allowed_name_is_nodata() {
    let bench = Setup::new(block("deep.below.a.test:443 *.w.test:443"))
        .start()
        .await;
    for ancestor in ["below.a.test.", "a.test.", "w.test.", "test.", "."] {
        let answer = bench.ask(ancestor, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{ancestor}");
        assert!(answer.answers.is_empty());
        assert_eq!(bench.event().verdict, Verdict::Refuse);
    }
    assert!(bench.upstream.log().is_empty());
    bench
        .assert_refused("other.a.test.", RecordType::A, Reason::NotAllowed)
        .await;
}

#[tokio::test]
async fn ds_and_dnskey_are_answered_for_ancestors() {
    let bench = Setup::new(block("deep.a.test:443")).start().await;
    let digest = NULL::with([&[0x30, 0x39, 13, 2][..], &[0; 32]].concat());
    bench.upstream.set_data(
        "a.test",
        RData::Unknown {
            code: RecordType::DS,
            rdata: digest,
        },
    );
    let answer = bench.ask("a.test.", RecordType::DS).await;
    assert_eq!(answer.answers.len(), 1, "{answer}");
    bench
        .assert_refused("b.test.", RecordType::DS, Reason::NotAllowed)
        .await;
}

#[tokio::test]
async fn d19_other_types_of_an_allowed_name_are_nodata_with_an_extended_error() {
    let bench = Setup::new(block("a.test:443")).start().await;
    for kind in [
        RecordType::Unknown(65280),
        RecordType::NULL,
        RecordType::HINFO,
        RecordType::OPENPGPKEY,
    ] {
        let answer = bench.ask("a.test.", kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{kind}");
        assert!(answer.answers.is_empty());
        assert_eq!(extended_error(&answer).unwrap().0, 15);
        let event = bench.event();
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::RecordType))
        );
    }
    assert!(bench.upstream.log().is_empty());
}

#[tokio::test]
async fn rfc8482_any_is_answered_minimally() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1", "TXT x"]);
    let answer = bench.ask("a.test.", RecordType::ANY).await;
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(answer.answers[0].record_type(), RecordType::HINFO);
    bench.events();
    assert!(bench.upstream.log().is_empty());
    bench
        .assert_refused("evil.test.", RecordType::ANY, Reason::NotAllowed)
        .await;
}

#[tokio::test]
async fn d18_transfers_meta_types_classes_and_opcodes_are_refused_or_not_implemented() {
    let bench = Setup::new(block("a.test:443")).start().await;
    for (kind, code) in [
        (RecordType::AXFR, ResponseCode::Refused),
        (RecordType::IXFR, ResponseCode::Refused),
        (RecordType::Unknown(249), ResponseCode::NotImp),
        (RecordType::Unknown(128), ResponseCode::NotImp),
    ] {
        assert_eq!(
            bench.ask("a.test.", kind).await.metadata.response_code,
            code,
            "{kind}"
        );
        assert_eq!(bench.event().verdict, Verdict::Refuse);
    }
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        bench.send(&chaos).await.metadata.response_code,
        ResponseCode::Refused
    );
    let mut bytes = query("a.test.", RecordType::A).to_vec().unwrap();
    for opcode in [1, 2, 4, 5, 6, 15] {
        bytes[2] = opcode << 3;
        let reply = bench
            .handler
            .handle_bytes(&bytes, &client(Transport::Udp))
            .await
            .unwrap();
        assert_eq!((reply[2] >> 3 & 15, reply[3] & 15), (opcode, 4), "NOTIMP");
    }
    assert!(bench.upstream.log().is_empty());
}

#[tokio::test]
async fn ptr_from_tickets_or_covered_private_addresses_else_nxdomain() {
    let bench = Setup::new(block("a.test:443 10.1.0.0/16:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    bench
        .upstream
        .set("5.0.1.10.in-addr.arpa", &["PTR host.corp.test."]);
    bench
        .assert_refused("1.2.0.192.in-addr.arpa.", RecordType::PTR, Reason::NotAllowed)
        .await;
    bench.assert_answered("a.test.").await;
    let answer = bench.ask("1.2.0.192.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(data(&answer), ["a.test."]);
    let answer = bench.ask("5.0.1.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(data(&answer), ["host.corp.test."]);
    bench
        .assert_refused("5.0.2.10.in-addr.arpa.", RecordType::PTR, Reason::NotAllowed)
        .await;
    bench
        .assert_refused("8.8.8.8.in-addr.arpa.", RecordType::PTR, Reason::NotAllowed)
        .await;
}

#[tokio::test]
async fn refused_addresses_of_an_answer_are_dropped_and_none_left_is_nodata_with_the_reason() {
    let mut setup = Setup::new(block("a.test:443 b.test:443") + "denied-endpoints: 198.51.100.0/24\n");
    setup.blocked = vec!["203.0.113.0/24"];
    let bench = setup.start().await;
    bench.upstream.set(
        "a.test",
        &["A 192.0.2.1", "A 203.0.113.9", "A 198.51.100.7", "A 10.0.0.1"],
    );
    bench.upstream.set("b.test", &["A 203.0.113.9"]);
    let answer = bench.assert_answered("a.test.").await;
    assert_eq!(data(&answer), ["192.0.2.1"]);
    assert_eq!(bench.event().verdict, Verdict::Permit);
    for dropped in ["203.0.113.9", "198.51.100.7", "10.0.0.1"] {
        assert!(!bench.holds("a.test", dropped), "{dropped}");
    }
    let answer = bench.ask("b.test.", RecordType::A).await;
    assert_eq!(
        (answer.metadata.response_code, answer.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert!(extended_error(&answer).unwrap().1.contains("global-block"));
    let event = bench.event();
    assert_eq!(
        (event.verdict, event.reason),
        (Verdict::Refuse, Some(Reason::GlobalBlock))
    );
}

#[tokio::test]
async fn d22_rebinding_is_dropped_unless_internal_domains_lists_the_name_or_the_final_cname() {
    let mut setup = Setup::new(block(
        "pub.test:443 alias.test:443 host.corp.test:443 lo.test:443",
    ));
    setup.internal = vec!["corp.test"];
    let bench = setup.start().await;
    let special = [
        "10.0.0.1",
        "169.254.169.254",
        "0.1.2.3",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
    ];
    let lines: Vec<String> = special.iter().map(|address| format!("A {address}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    bench.upstream.set("pub.test", &lines);
    let answer = bench.ask("pub.test.", RecordType::A).await;
    assert!(answer.answers.is_empty());
    assert!(extended_error(&answer).unwrap().1.contains("rebinding"));
    assert_eq!(bench.event().reason, Some(Reason::Rebinding));
    bench.upstream.set("pub.test", &["AAAA fd00::1"]);
    assert!(bench.ask("pub.test.", RecordType::AAAA).await.answers.is_empty());
    bench.upstream.set("host.corp.test", &["A 10.0.0.1"]);
    bench.assert_answered("host.corp.test.").await;
    assert!(bench.holds("host.corp.test", "10.0.0.1"));
    bench.upstream.set("alias.test", &["CNAME in.corp.test."]);
    bench.upstream.set("in.corp.test", &["A 10.0.0.2"]);
    bench.assert_answered("alias.test.").await;
    // Loopback passes unticketed.
    bench.upstream.set("lo.test", &["A 127.0.0.1"]);
    bench.assert_answered("lo.test.").await;
    assert!(!bench.holds("lo.test", "127.0.0.1"));
}

#[tokio::test]
async fn hints_of_https_records_are_answers_too() {
    let bench = Setup::new(block("a.test:443") + "denied-endpoints: 198.51.100.0/24\n")
        .start()
        .await;
    bench.upstream.set(
        "a.test",
        &["HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,198.51.100.7 ipv6hint=2001:db8::1,fd00::1"],
    );
    let answer = bench.ask("a.test.", RecordType::HTTPS).await;
    let text = data(&answer).join(" ");
    assert!(
        text.contains("192.0.2.1") && text.contains("2001:db8::1"),
        "{text}"
    );
    assert!(
        !text.contains("198.51.100.7") && !text.contains("fd00::1"),
        "{text}"
    );
    assert!(bench.holds("a.test", "192.0.2.1") && bench.holds("a.test", "2001:db8::1"));
    assert!(!bench.holds("a.test", "198.51.100.7"));
}

#[tokio::test]
async fn localhost_is_answered_locally() {
    let bench = Setup::new(block("a.test:443")).start().await;
    assert_eq!(data(&bench.ask("localhost.", RecordType::A).await), ["127.0.0.1"]);
    assert_eq!(data(&bench.ask("db.localhost.", RecordType::AAAA).await), ["::1"]);
    let other = bench.ask("localhost.", RecordType::MX).await;
    assert_eq!(
        (other.metadata.response_code, other.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert_eq!(
        data(&bench.ask("1.0.0.127.in-addr.arpa.", RecordType::PTR).await),
        ["localhost."]
    );
    assert!(bench.upstream.log().is_empty());
}

#[tokio::test]
async fn hosts_are_answered_to_every_job_from_here() {
    let mut setup = Setup::new("DENY".into());
    setup.config.hosts = vec![(
        name("agent.test"),
        vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
    )];
    let bench = setup.start().await;
    assert_eq!(data(&bench.ask("agent.test.", RecordType::A).await), ["10.0.0.5"]);
    assert_eq!(
        data(&bench.ask("agent.test.", RecordType::AAAA).await),
        ["fd00::5"]
    );
    assert_eq!(
        data(&bench.ask("5.0.0.10.in-addr.arpa.", RecordType::PTR).await),
        ["agent.test."]
    );
    assert!(
        bench
            .events()
            .iter()
            .all(|event| event.verdict == Verdict::Permit)
    );
    bench
        .assert_refused("x.agent.test.", RecordType::A, Reason::PolicyUnknown)
        .await;
}

#[tokio::test]
async fn d02_any_other_servers_address_is_answered_by_us_under_the_same_policy_in_block() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    for asked in ["8.8.8.8:53", "[2001:4860:4860::8888]:53", "169.254.169.254:53"] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let foreign = Client {
                asked: asked.parse().unwrap(),
                ..client(transport)
            };
            let answer = bench.send_as(&query("a.test.", RecordType::A), &foreign).await;
            assert_eq!(data(&answer), ["192.0.2.1"]);
            let answer = bench.send_as(&query("evil.test.", RecordType::A), &foreign).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
            assert!(
                bench
                    .events()
                    .iter()
                    .all(|event| event.address == Some(foreign.asked.ip()))
            );
        }
    }
}

#[tokio::test]
async fn audit_to_the_gateway_resolves_unfiltered_and_records_would_refuse() {
    let mut setup = Setup::new(audit("a.test:443"));
    setup.blocked = vec!["blocked.test", "*.blocked.test", "203.0.113.0/24"];
    let bench = setup.start().await;
    bench.upstream.set(
        "evil.test",
        &["A 10.0.0.1", "A 203.0.113.9", "HTTPS 1 . alpn=h3 ech=AAA="],
    );
    bench.upstream.set_data(
        "evil.test",
        RData::Unknown {
            code: RecordType::Unknown(65280),
            rdata: NULL::with(vec![1, 2]),
        },
    );
    bench.upstream.set("alias.test", &["CNAME x.blocked.test."]);
    bench.upstream.set("x.blocked.test", &["A 192.0.2.66"]);
    let answer = bench.ask("evil.test.", RecordType::A).await;
    assert_eq!(
        data(&answer),
        ["10.0.0.1"],
        "only the global block list still refuses"
    );
    let event = bench.event();
    assert_eq!(
        (event.verdict, event.reason),
        (Verdict::WouldRefuse, Some(Reason::NotAllowed))
    );
    assert!(
        bench.holds("evil.test", "10.0.0.1"),
        "ticketed: flows are named by it"
    );
    let text = data(&bench.ask("evil.test.", RecordType::HTTPS).await).join(" ");
    assert!(text.contains("h3") && text.contains("ech"), "{text}");
    assert_eq!(
        bench
            .ask("evil.test.", RecordType::Unknown(65280))
            .await
            .answers
            .len(),
        1
    );
    assert_eq!(
        bench
            .ask("9.100.51.198.in-addr.arpa.", RecordType::PTR)
            .await
            .metadata
            .response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(
        bench.upstream.asked("9.100.51.198.in-addr.arpa").len(),
        1,
        "forwarded"
    );
    bench.events();
    for refused in ["blocked.test.", "x.blocked.test.", "alias.test."] {
        let answer = bench.ask(refused, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{refused}");
        let event = bench.event();
        assert_eq!(
            (event.verdict, event.reason),
            (Verdict::Refuse, Some(Reason::GlobalBlock)),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn audit_says_that_block_mode_would_refuse_a_rebinding_answer() {
    let bench = Setup::new(audit("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 10.0.0.1"]);
    bench.assert_answered("a.test.").await;
    let event = bench.event();
    assert_eq!(
        (event.verdict, event.reason),
        (Verdict::WouldRefuse, Some(Reason::Rebinding))
    );
}

#[tokio::test]
async fn d20_client_options_are_not_forwarded_do_and_cd_are_honoured_ad_is_cleared_0x20_is_kept() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let mut message = query("a.TeSt.", RecordType::A);
    let edns = message.edns.as_mut().unwrap();
    edns.options_mut()
        .insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(
            65001,
            b"secret".to_vec(),
        ));
    edns.set_dnssec_ok(true);
    message.metadata.checking_disabled = true;
    let answer = bench.send(&message).await;
    assert_eq!(answer.queries[0].name().to_ascii(), "a.TeSt.");
    assert_eq!(answer.answers[0].name.to_ascii(), "a.TeSt.");
    assert!(!answer.metadata.authentic_data && answer.metadata.checking_disabled);
    assert!(answer.edns.unwrap().flags().dnssec_ok);
    let seen = &bench.upstream.asked("a.test")[0].message;
    assert!(seen.metadata.checking_disabled);
    let edns = seen.edns.as_ref().unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
    assert_eq!(edns.max_payload(), 1232);
}

#[tokio::test]
async fn the_cache_is_keyed_by_do_and_cd() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let variants = [(false, false), (true, false), (false, true), (true, true)];
    for _ in 0..2 {
        for (dnssec_ok, checking_disabled) in variants {
            let mut message = query("a.test.", RecordType::A);
            message.edns.as_mut().unwrap().set_dnssec_ok(dnssec_ok);
            message.metadata.checking_disabled = checking_disabled;
            bench.send(&message).await;
        }
    }
    assert_eq!(bench.upstream.asked("a.test").len(), 4);
}

#[tokio::test]
async fn search_suffixes_are_counted_apart() {
    let bench = Setup::new(block("registry.npm.test:443")).start().await;
    bench
        .assert_refused(
            "registry.npm.test.corp.example.",
            RecordType::A,
            Reason::SearchSuffix,
        )
        .await;
}

#[tokio::test]
async fn d25_ech_and_h3_are_stripped_in_block_and_the_ids_are_kept() {
    // ECHConfigList: one config of version 0xfe0d with id 42.
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set(
        "a.test",
        &[
            "HTTPS 1 . mandatory=alpn,ech alpn=h3,h2 ipv4hint=192.0.2.1 ech=AAb+DQACKgA=",
            "A 192.0.2.2",
        ],
    );
    let mut rrsig = 65u16.to_be_bytes().to_vec();
    rrsig.extend([13, 2, 0, 0, 0, 60, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xaa]);
    bench.upstream.set_data(
        "a.test",
        RData::Unknown {
            code: RecordType::RRSIG,
            rdata: NULL::with(rrsig),
        },
    );
    // Asked before the HTTPS record was seen: its address must count all the same.
    bench.assert_answered("a.test.").await;
    let mut message = query("a.test.", RecordType::HTTPS);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = bench.send(&message).await;
    assert_eq!(bench.upstream.asked("a.test").len(), 2);
    let records = data(&answer);
    assert_eq!(
        records.len(),
        1,
        "the signature of the rewritten set is dropped: {records:?}"
    );
    assert!(
        !records[0].contains("ech") && !records[0].contains("h3") && records[0].contains("h2"),
        "{records:?}"
    );
    let ledger = &bench.world.ech;
    let elsewhere = "198.51.100.1".parse().unwrap();
    assert!(ledger.published(42, Some(&name("a.test")), elsewhere));
    for address in ["192.0.2.1", "192.0.2.2"] {
        assert!(
            ledger.published(42, Some(&name("public.test")), address.parse().unwrap()),
            "{address}"
        );
    }
    assert!(!ledger.published(41, Some(&name("a.test")), elsewhere));
}

#[tokio::test]
async fn a_spoofed_datagram_gets_tc_only_and_tcp_the_answer() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let spoofed = Client {
        spoofed: true,
        ..client(Transport::Udp)
    };
    let answer = bench.send_as(&query("a.test.", RecordType::A), &spoofed).await;
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    assert_eq!(bench.event().reason, Some(Reason::SpoofedSource));
    assert!(!bench.holds("a.test", "192.0.2.1") && bench.upstream.log().is_empty());
    let answer = bench
        .send_as(&query("a.test.", RecordType::A), &client(Transport::Tcp))
        .await;
    assert_eq!(data(&answer), ["192.0.2.1"]);
}

#[tokio::test]
async fn no_policy_known_is_deny_all() {
    let bench = Setup::new("DENY".into()).start().await;
    bench
        .assert_refused("a.test.", RecordType::A, Reason::PolicyUnknown)
        .await;
}

#[tokio::test]
async fn two_jobs_share_the_cache_and_not_the_verdict() {
    let mut setup = Setup::new(block("a.test:443"));
    setup.others = vec![("127.0.0.9", block("b.test:443"))];
    let bench = setup.start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    bench.assert_answered("a.test.").await;
    let other = Client {
        source: "127.0.0.9:1".parse().unwrap(),
        ..client(Transport::Udp)
    };
    let answer: Message = bench.send_as(&query("a.test.", RecordType::A), &other).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn an_answer_too_large_for_the_clients_buffer_is_truncated_and_grants_nothing() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let lines: Vec<String> = (1..=100).map(|n| format!("A 192.0.2.{n}")).collect();
    bench
        .upstream
        .set("a.test", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = bench.ask("a.test.", RecordType::A).await;
    assert!(
        answer.metadata.truncation && answer.answers.is_empty(),
        "{answer}"
    );
    assert!(!bench.holds("a.test", "192.0.2.1"));
    let answer = bench
        .send_as(&query("a.test.", RecordType::A), &client(Transport::Tcp))
        .await;
    assert_eq!(answer.answers.len(), 100);
    assert!(bench.holds("a.test", "192.0.2.100"));
}

#[tokio::test]
async fn rfc6891_6_2_5_sizes_without_edns_and_below_512_mean_512() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let lines: Vec<String> = (1..=40).map(|n| format!("A 192.0.2.{n}")).collect();
    bench
        .upstream
        .set("a.test", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut plain = query("a.test.", RecordType::A);
    plain.edns = None;
    assert!(bench.send(&plain).await.metadata.truncation);
    let mut small = query("a.test.", RecordType::A);
    small.edns.as_mut().unwrap().set_max_payload(100);
    assert!(bench.send(&small).await.metadata.truncation);
    assert!(!bench.ask("a.test.", RecordType::A).await.metadata.truncation);
}

#[tokio::test]
async fn rfc6891_6_1_3_another_edns_version_is_badvers() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let mut message = query("a.test.", RecordType::A);
    message.edns.as_mut().unwrap().set_version(1);
    let answer = bench.send(&message).await;
    assert_eq!(u16::from(answer.metadata.response_code), 16);
}

#[tokio::test]
async fn d13_payload_in_labels_below_a_wildcard_ends_with_the_budget() {
    let mut setup = Setup::new(block("*.w.test:443 exact.w.test:443"));
    setup.config.budget.burst = 5;
    setup.config.budget.per_minute = 60;
    let bench = setup.start().await;
    for n in 0..5 {
        bench.ask(&format!("n{n}.w.test."), RecordType::A).await;
    }
    bench.events();
    bench
        .assert_refused("n5.w.test.", RecordType::A, Reason::DnsBudget)
        .await;
    bench.ask("n0.w.test.", RecordType::AAAA).await;
    assert_eq!(bench.event().verdict, Verdict::Permit, "a name asked for before");
    bench.ask("exact.w.test.", RecordType::A).await;
    assert_eq!(bench.event().verdict, Verdict::Permit, "an exact rule");
    bench.pass(Duration::from_secs(1));
    bench.ask("n5.w.test.", RecordType::A).await;
    assert_eq!(bench.event().verdict, Verdict::Permit, "regained");
}

#[tokio::test]
async fn d13_in_audit_the_budget_is_only_recorded() {
    let mut setup = Setup::new(audit("*.w.test:443"));
    setup.config.budget.burst = 1;
    let bench = setup.start().await;
    bench.upstream.set("b.w.test", &["A 192.0.2.1"]);
    bench.ask("a.w.test.", RecordType::A).await;
    bench.events();
    bench.assert_answered("b.w.test.").await;
    let event = bench.event();
    assert_eq!(
        (event.verdict, event.reason),
        (Verdict::WouldRefuse, Some(Reason::DnsBudget))
    );
}
