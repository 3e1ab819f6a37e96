//! Messages that are not queries, or that two readers could read differently.

use tidegate_e2e::dns::{self, Reply, dig, dig_on, over_tcp, over_udp};
use tidegate_e2e::{block, event, gateway, start, started};
use tidegate_lab::Lab;

use super::unasked;

const FORMERR: u16 = 1;
const RD: u16 = 0x0100;

/// What is wrong, and the message.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let asks = |name: &str| dns::question(&dns::plain_name(name), 1);
    let (a, e) = (asks("allowed.test"), asks("evil.test"));
    let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00".to_vec();
    let body = |name: &[u8]| dns::question(name, 1);
    vec![
        ("d16 QDCOUNT 0", dns::message(1, RD, [0, 0, 0, 0], &[])),
        (
            "d16 QDCOUNT 0 with a question",
            dns::message(1, RD, [0, 0, 0, 0], &a),
        ),
        (
            "d16 QDCOUNT 2, allowed first",
            dns::message(1, RD, [2, 0, 0, 0], &[a.clone(), e.clone()].concat()),
        ),
        (
            "d16 QDCOUNT 2, the second missing",
            dns::message(1, RD, [2, 0, 0, 0], &e),
        ),
        (
            "d17 a pointer to the header",
            dns::message(1, RD, [1, 0, 0, 0], &body(b"\xc0\x00")),
        ),
        (
            "d17 a pointer to itself",
            dns::message(1, RD, [1, 0, 0, 0], &body(b"\xc0\x0c")),
        ),
        (
            "d17 a loop of two pointers",
            dns::message(1, RD, [1, 0, 0, 0], &body(b"\xc0\x0e\xc0\x0c")),
        ),
        (
            "d17 a pointer past the end",
            dns::message(1, RD, [1, 0, 0, 0], &body(b"\xff\xff")),
        ),
        (
            "d17 a label, then a pointer",
            dns::message(1, RD, [1, 0, 0, 0], &body(b"\x07allowed\xc0\x0c")),
        ),
        (
            "a label type of 01",
            dns::message(1, RD, [1, 0, 0, 0], &body(b"\x41\x03abc\x00")),
        ),
        (
            "a name without its end",
            dns::message(1, RD, [1, 0, 0, 0], b"\x07allowed\x04test"),
        ),
        (
            "a question cut in its type",
            dns::message(1, RD, [1, 0, 0, 0], &a[..a.len() - 3]),
        ),
        (
            "octets after the message",
            dns::message(1, RD, [1, 0, 0, 0], &[a.clone(), vec![0, 1, 2]].concat()),
        ),
        (
            "an answer in a query",
            dns::message(1, RD, [1, 1, 0, 0], &[a.clone(), e.clone()].concat()),
        ),
        (
            "two OPT records",
            dns::message(1, RD, [1, 0, 0, 2], &[a.clone(), opt.clone(), opt].concat()),
        ),
        ("a record that lies about its length", {
            dns::message(
                1,
                RD,
                [1, 0, 0, 1],
                &[a, b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\xff\xff".to_vec()].concat(),
            )
        }),
    ]
}

#[tokio::test]
async fn d16_d17_malformed_queries_are_format_errors_by_udp_and_tcp() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for (what, message) in malformed() {
        let by_udp = over_udp(lab.runner(0), "203.0.113.53:53", std::slice::from_ref(&message));
        let [reply] = &by_udp[..] else {
            panic!("{what}: one answer, not {by_udp:?}")
        };
        assert_eq!(
            (reply.id(), reply.rcode(), reply.answers()),
            (1, FORMERR, 0),
            "{what}: {reply:?}"
        );
        assert!(reply.0.len() <= message.len(), "{what}: an amplifier");
        let by_tcp = over_tcp(lab.runner(0), "10.77.1.1:53", &[dns::framed(&message)], 1);
        assert!(
            by_tcp.iter().all(|reply| reply.rcode() == FORMERR),
            "{what}: {by_tcp:?}"
        );
    }
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("reason", "malformed-dns"), ("rcode", "FORMERR")],
    )
    .await;
    unasked(&lab, "test");
    assert_eq!(lab.dns().log().len(), 0, "{:?}", lab.dns().log());
    assert_eq!(
        dig(&lab, &["allowed.test"]).await.data(),
        ["192.0.2.10"],
        "the next one is served"
    );
}

#[tokio::test]
async fn d28_responses_and_stubs_get_silence() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let question = dns::question(&dns::plain_name("allowed.test"), 1);
    let silent = [
        dns::message(1, 0x8180, [1, 0, 0, 0], &question),
        dns::message(1, 0x8180, [1, 1, 0, 0], &question),
        b"\x00\x01\x01\x00\x00\x01".to_vec(),
        vec![0],
        vec![],
    ];
    let replies = over_udp(lab.runner(0), "10.77.1.1:53", &silent);
    assert_eq!(replies, Vec::<Reply>::new());
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("reason", "malformed-dns")],
    )
    .await;
    assert!(lab.dns().log().is_empty());
}

/// D15: labels that read like an allowed name to a sloppy reader, and are none.
#[tokio::test]
async fn d15_odd_bytes_in_labels_never_equal_a_rule() {
    let lab = Lab::builder().build().unwrap();
    lab.name("*.wild.test", &["192.0.2.10".parse().unwrap()]).unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "*.wild.test:443"])).await;
    let odd: [&[&[u8]]; 10] = [
        &[b"allowed.test"],
        &[b"allowed\\", b"test"],
        &[b"allowed\0", b"test"],
        &[b"allowed ", b"test"],
        &[b" allowed", b"test"],
        &[b"allowed\n", b"test"],
        &[b"allowed", b"test\0"],
        &[b"allowed.test\0", b"evil", b"test"],
        &[b"x.wild.test", b"evil", b"test"],
        &[b"\xc3\xa1llowed", b"test"],
    ];
    for labels in odd {
        let message = dns::message(9, RD, [1, 0, 0, 0], &dns::question(&dns::name(labels), 1));
        let replies = over_tcp(lab.runner(0), "10.77.1.1:53", &[dns::framed(&message)], 1);
        let [reply] = &replies[..] else {
            panic!("{labels:?}: one answer, not {replies:?}")
        };
        assert!(
            reply.rcode() != 0 && reply.answers() == 0,
            "{labels:?}: {reply:?}"
        );
    }
    assert!(lab.dns().log().is_empty(), "{:?}", lab.dns().log());
    // A trailing dot is the root, and the same name.
    assert_eq!(dig(&lab, &["allowed.test."]).await.data(), ["192.0.2.10"]);
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("verdict", "refuse"), ("reason", "not-allowed")],
    )
    .await;
}

#[tokio::test]
async fn d28_a_flood_of_malformed_datagrams_leaves_the_neighbour_served() {
    const FLOOD: usize = 30_000;
    let lab = Lab::builder().runners(2).build().unwrap();
    let gateway = start(gateway(&lab, &block(&["allowed.test:443"])).lease(1, "other", "build.yaml")).await;
    let flooding = lab.runner(1).enter_async(|| async {
        let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.connect("10.77.1.1:53").await.unwrap();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..FLOOD {
            // xorshift64: any bytes will do, the same in every run.
            let bytes: Vec<u8> = (0..8)
                .flat_map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed.to_be_bytes()
                })
                .collect();
            // A full buffer or an ICMP error is what a flooder has to expect.
            let _lost = socket.send(&bytes).await;
        }
    });
    let asking = async {
        let mut served = 0;
        for _ in 0..40 {
            let answer = dig_on(&lab, 0, &["+time=2", "+tries=3", "allowed.test"]).await;
            served += usize::from(answer.data() == ["192.0.2.10"]);
        }
        served
    };
    let (flooded, served) = tokio::join!(flooding, asking);
    flooded.unwrap();
    assert_eq!(served, 40);
    assert!(
        gateway.process().pid().is_some(),
        "{}",
        gateway.process().stderr()
    );
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("job.job", "other"), ("reason", "malformed-dns")],
    )
    .await;
    assert_eq!(
        dig_on(&lab, 1, &["+tries=3", "allowed.test"]).await.data(),
        ["192.0.2.10"]
    );
}
