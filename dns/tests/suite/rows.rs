//! The rows of the table "DNS" in the policy semantics, one after another.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{DNSClass, RData, RecordType};
use tidegate_dns::{Client, Transport};
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::verdict::{Reason, Verdict};

use crate::support::{Setup, audit, block, client, data, extended_error, name, query};

#[tokio::test]
async fn a_permitted_name_is_answered_ticketed_and_recorded() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["CNAME edge.test."]);
    bench.upstream.set("edge.test", &["A 192.0.2.1", "A 192.0.2.2"]);
    let answer = bench.ask("A.test.", RecordType::A).await;
    assert_eq!(data(&answer), ["edge.test.", "192.0.2.1", "192.0.2.2"]);
    assert!(bench.holds("a.test", "192.0.2.1") && bench.holds("a.test", "192.0.2.2"));
    let event = bench.event();
    assert_eq!(
        (event.verdict, event.rule.as_ref().map(RuleRef::text)),
        (Verdict::Permit, Some("a.test:443"))
    );
    assert_eq!(event.answers.as_slice(), ["edge.test", "192.0.2.1", "192.0.2.2"]);
    assert_eq!(
        (event.qtype.as_deref(), event.rcode),
        (Some("A"), Some("NOERROR"))
    );
    assert_eq!(
        (event.address, event.port),
        (Some("127.0.0.1".parse().unwrap()), 53)
    );
    assert_eq!(
        (event.source.to_string().as_str(), event.source_port),
        ("127.0.0.1", 40_000)
    );
    assert_eq!(event.name, Some(name("a.test")));
}

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
    assert_eq!(
        bench.event().rule.as_ref().map(RuleRef::text),
        Some("gist.a.test")
    );
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
    let malformed = [0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0];
    assert!(bench.handler.handle_bytes(&malformed, &spoofed).await.is_none());
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
async fn d13_payload_in_service_labels_ends_with_the_budget_too() {
    for host in ["exact.test", "x.w.test"] {
        let mut setup = Setup::new(block("*.w.test:443 exact.test:443"));
        setup.config.budget.burst = 2;
        let bench = setup.start().await;
        bench.ask(&format!("_one.{host}."), RecordType::TXT).await;
        bench.ask(&format!("_two._tcp.{host}."), RecordType::SRV).await;
        bench.events();
        bench
            .assert_refused(&format!("_three.{host}."), RecordType::TXT, Reason::DnsBudget)
            .await;
        bench.ask(&format!("_one.{host}."), RecordType::TXT).await;
        assert_eq!(bench.event().verdict, Verdict::Permit, "a name asked for before");
    }
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
