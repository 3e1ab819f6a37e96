//! What a job gets of an answer: rows of the table "DNS" about records, hints, sizes and flags.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{RData, RecordType};
use tidegate_dns::Transport;
use tidegate_policy::verdict::{Reason, Verdict};

use crate::support::{Setup, audit, block, client, data, extended_error, name, query};

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
