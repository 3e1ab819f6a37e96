//! Evasions of the DNS verdict that no other module shows.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tidegate_dns::Transport;
use tidegate_policy::verdict::{Reason, Verdict};

use crate::support::{Setup, block, client, query};

#[tokio::test]
async fn d01_d14_a_secret_in_a_refused_name_reaches_no_upstream_in_any_type() {
    let bench = Setup::new(block("a.test:443")).start().await;
    for number in (1..=65_535u16)
        .step_by(7)
        .chain([1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255, 256, 257])
    {
        let kind = RecordType::from(number);
        let mut message = query("onswg4tfoq.evil.test.", RecordType::A);
        message.queries[0].set_query_type(kind);
        let bytes = message.to_vec().unwrap();
        let reply = bench
            .handler
            .handle_bytes(&bytes, &client(Transport::Udp))
            .await
            .unwrap();
        let rcode = reply[3] & 15;
        assert!(
            [3, 4, 5].contains(&rcode) || number == 41,
            "type {number}: rcode {rcode}"
        );
    }
    assert!(bench.upstream.log().is_empty(), "{:?}", bench.upstream.log());
    assert!(
        bench
            .events()
            .iter()
            .all(|event| event.verdict == Verdict::Refuse)
    );
}

#[tokio::test]
async fn d11_d12_tunnels_below_a_foreign_domain_are_refused_at_the_first_query() {
    let bench = Setup::new(block("a.test:443")).start().await;
    for kind in [
        RecordType::NULL,
        RecordType::TXT,
        RecordType::SRV,
        RecordType::MX,
        RecordType::CNAME,
        RecordType::A,
    ] {
        bench
            .assert_refused("vaaaakardli.t.evil.test.", kind, Reason::NotAllowed)
            .await;
    }
}

#[tokio::test]
async fn d15_odd_bytes_in_labels_never_equal_a_rule() {
    let bench = Setup::new(block("allowed.test:443 *.w.test:443")).start().await;
    for labels in [
        &[&b"allowed.test"[..]][..],
        &[b"allowed\0", b"test"],
        &[b"allowed ", b"test"],
        &[b"allowed", b"test "],
        &[b"\xe1llowed", b"test"],
        &[b"allowed.test", b"evil"],
        &[b"x.w.test"],
        &[b"x", b"w.test"],
    ] {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.extend([0, 0, 1, 0, 1]);
        let reply = bench
            .handler
            .handle_bytes(&bytes, &client(Transport::Udp))
            .await
            .unwrap();
        assert_eq!(reply[3] & 15, 3, "{labels:?}");
        assert_eq!(bench.event().verdict, Verdict::Refuse);
    }
    assert!(bench.upstream.log().is_empty());
    bench.upstream.set("allowed.test", &["A 192.0.2.1"]);
    bench.assert_answered("ALLOWED.Test.").await;
}

#[tokio::test]
async fn d28_no_reply_exceeds_what_the_client_takes() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let lines: Vec<String> = (1..=60).map(|n| format!("A 192.0.2.{n}")).collect();
    bench
        .upstream
        .set("a.test", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    for payload in [None, Some(0), Some(512), Some(700), Some(1232), Some(65_535)] {
        for asked in ["a.test.", "evil.test."] {
            let mut message = query(asked, RecordType::A);
            match payload {
                None => message.edns = None,
                Some(size) => _ = message.edns.as_mut().unwrap().set_max_payload(size),
            }
            let bytes = message.to_vec().unwrap();
            let reply = bench
                .handler
                .handle_bytes(&bytes, &client(Transport::Udp))
                .await
                .unwrap();
            let limit = payload.map_or(512, |size| size.clamp(512, 1232));
            assert!(
                reply.len() <= usize::from(limit),
                "{asked} {payload:?}: {}",
                reply.len()
            );
        }
    }
}

#[tokio::test]
async fn a_refused_name_stays_refused_when_another_job_has_it_in_the_cache() {
    let mut setup = Setup::new(block("a.test:443"));
    setup.others = vec![("127.0.0.9", block("b.test:443"))];
    let bench = setup.start().await;
    bench.upstream.set("b.test", &["A 192.0.2.1"]);
    let other = tidegate_dns::Client {
        source: "127.0.0.9:1".parse().unwrap(),
        ..client(Transport::Udp)
    };
    let answer = bench.send_as(&query("b.test.", RecordType::A), &other).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    bench.events();
    bench
        .assert_refused("b.test.", RecordType::A, Reason::NotAllowed)
        .await;
    assert!(!bench.holds("b.test", "192.0.2.1"));
}
