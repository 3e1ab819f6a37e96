//! Streams of queries, payload in labels, and other uses of DNS that it is not for.

use tidegate_e2e::dns::{self, Reply, dig, over_tcp};
use tidegate_e2e::{block, event, started};
use tidegate_lab::Lab;

use super::{refused, unasked};

const NXDOMAIN: u16 = 3;

fn codes(replies: &[Reply]) -> Vec<(u16, u16)> {
    let mut codes: Vec<_> = replies.iter().map(|reply| (reply.id(), reply.rcode())).collect();
    codes.sort_unstable();
    codes
}

#[tokio::test]
async fn d04_every_query_of_a_pipelined_stream_is_judged() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let stream = [
        dns::framed(&dns::query(1, "allowed.test", 1)),
        dns::framed(&dns::query(2, "evil.test", 1)),
        dns::framed(&dns::query(3, "allowed.test", 28)),
        dns::framed(&dns::query(4, "secret.evil.test", 16)),
    ]
    .concat();
    for server in ["10.77.1.1:53", "203.0.113.53:53", "[2001:db8:300::53]:53"] {
        let replies = over_tcp(lab.runner(0), server, std::slice::from_ref(&stream), 4);
        assert_eq!(
            codes(&replies),
            [(1, 0), (2, NXDOMAIN), (3, 0), (4, NXDOMAIN)],
            "{server}"
        );
    }
    refused(&lab, &mut gateway.events(), "evil.test", "not-allowed").await;
    refused(&lab, &mut gateway.events(), "secret.evil.test", "not-allowed").await;
    assert!(!lab.dns().asked("allowed.test").is_empty());
}

#[tokio::test]
async fn d05_octet_by_octet_is_judged_the_same() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let stream = [
        dns::framed(&dns::query(1, "allowed.test", 1)),
        dns::framed(&dns::query(2, "evil.test", 1)),
    ]
    .concat();
    let octets: Vec<Vec<u8>> = stream.iter().map(|octet| vec![*octet]).collect();
    for server in ["10.77.1.1:53", "203.0.113.53:53"] {
        let replies = over_tcp(lab.runner(0), server, &octets, 2);
        assert_eq!(codes(&replies), [(1, 0), (2, NXDOMAIN)], "{server}");
    }
    refused(&lab, &mut gateway.events(), "evil.test", "not-allowed").await;
}

#[tokio::test]
async fn d05_an_unfinished_length_prefix_is_given_up() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let ended = lab.runner(0).enter_async(|| async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect("10.77.1.1:53").await.unwrap();
        stream.write_all(&[0]).await.unwrap();
        // The gateway's own bound is shorter than this patience.
        tokio::time::timeout(std::time::Duration::from_secs(30), stream.read(&mut [0; 1])).await
    });
    let ended = ended.await.unwrap().expect("the gateway ends it");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(dig(&lab, &["+tcp", "allowed.test"]).await.data(), ["192.0.2.10"]);
    drop(gateway);
}

/// D13: distinct names below an allowed wildcard are payload when there are too many.
#[tokio::test]
async fn d13_payload_in_labels_under_a_wildcard_exhausts_the_budget() {
    const NAMES: u16 = 900;
    let lab = Lab::builder().build().unwrap();
    lab.name("*.wild.test", &["192.0.2.10".parse().unwrap()]).unwrap();
    let gateway = started(&lab, &block(&["*.wild.test:443", "allowed.test:443"])).await;
    let named = |id: u16| format!("mfrggzdfmztwq2lk{id}.wild.test");
    let stream: Vec<u8> = (0..NAMES)
        .flat_map(|id| dns::framed(&dns::query(id, &named(id), 1)))
        .collect();
    let replies = over_tcp(lab.runner(0), "10.77.1.1:53", &[stream], NAMES.into());
    assert_eq!(replies.len(), usize::from(NAMES));
    let answered = replies.iter().filter(|reply| reply.rcode() == 0).count();
    let refused = replies.iter().filter(|reply| reply.rcode() == NXDOMAIN).count();
    // 512 at once and 60 a minute; the test takes less than that.
    assert!(
        (512..=572).contains(&answered),
        "{answered} of {NAMES} were answered"
    );
    assert_eq!(answered + refused, usize::from(NAMES));
    assert_eq!(
        lab.dns().asked_below("wild.test").len(),
        answered,
        "a refused name went upstream"
    );
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("reason", "dns-budget"), ("verdict", "refuse")],
    )
    .await;
    // What was asked for before, and exact names, cost nothing.
    assert_eq!(dig(&lab, &[&named(0)]).await.data(), ["192.0.2.10"]);
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
}

#[tokio::test]
async fn d21_an_answer_that_points_to_a_refused_name_does_not_allow_it() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().set("allowed.test", &["CNAME evil.test."]).unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    assert_eq!(
        dig(&lab, &["allowed.test"]).await.data(),
        ["evil.test.", "192.0.2.66"]
    );
    let line = [
        "curl",
        "-sS",
        "-m",
        "2",
        "--resolve",
        "evil.test:443:192.0.2.66",
        "https://evil.test/",
    ];
    tidegate_e2e::run(&lab, &line).await.expect_failure();
    event(
        &mut gateway.events(),
        &[("kind", "tls"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    // The address is ticketed for the allowed name, so it may be dialled; the refused hello is not passed on.
    let seen = lab.origins().connections();
    assert!(
        seen.iter().all(|one| one.sni.is_none() && !one.handshaken),
        "{seen:?}"
    );
}

/// A name that is refused stays refused while an allowed one of the same stream is still being resolved.
#[tokio::test]
async fn d04_a_slow_answer_does_not_hold_a_refusal_back() {
    let lab = Lab::builder().build().unwrap();
    let gate = lab.dns().gate("allowed.test");
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let stream = [
        dns::framed(&dns::query(1, "allowed.test", 1)),
        dns::framed(&dns::query(2, "evil.test", 1)),
    ]
    .concat();
    let first = over_tcp(lab.runner(0), "10.77.1.1:53", &[stream], 1);
    assert_eq!(codes(&first), [(2, NXDOMAIN)]);
    gate.open();
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    unasked(&lab, "evil.test");
}
