//! Queries to servers other than the gateway, by UDP, TCP and what else carries DNS.

use tidegate_e2e::dns::{self, dig, dig_at, over_tcp};
use tidegate_e2e::{block, event, run, started};
use tidegate_lab::{Lab, Script, UdpReply, plan};

use super::{refused, unasked};

/// D02, D03, D27: whoever is asked, the gateway answers, from the address that was asked.
#[tokio::test]
async fn d02_d03_d27_any_other_servers_address_is_answered_under_the_same_policy() {
    let lab = Lab::builder().build().unwrap();
    lab.foreign_dns()
        .set("allowed.test", &["A 203.0.113.99"])
        .unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let servers = [
        "203.0.113.53",
        "2001:db8:300::53",
        "9.9.9.9",
        "10.99.0.1",
        "2620:fe::fe",
    ];
    for server in servers {
        for transport in ["+notcp", "+tcp"] {
            let at = format!("@{server}");
            let answer = dig(&lab, &[transport, &at, "allowed.test"]).await;
            assert_eq!(answer.data(), ["192.0.2.10"], "{at} {transport}: {answer}");
            let blocked = dig(&lab, &[transport, &at, "evil.test"]).await;
            assert!(blocked.is_blocked(), "{at} {transport}: {blocked}");
        }
    }
    refused(&lab, &mut gateway.events(), "evil.test", "not-allowed").await;
    assert!(
        lab.foreign_dns().log().is_empty(),
        "{:?}",
        lab.foreign_dns().log()
    );
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn port_53_tcp_that_is_not_dns_is_closed() {
    let lab = Lab::builder().build().unwrap();
    let server = lab
        .raw(
            "203.0.113.9:53".parse().unwrap(),
            Script::silent().banner("SSH-2.0-x\r\n"),
        )
        .unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let hello = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![7; 64],
    ]
    .concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        hello,
    ] {
        for server in ["203.0.113.9:53", "10.77.1.1:53"] {
            let replies = over_tcp(lab.runner(0), server, std::slice::from_ref(&bytes), 1);
            assert!(replies.is_empty(), "{server} answered {replies:?}");
        }
    }
    event(
        &mut gateway.events(),
        &[
            ("kind", "dns"),
            ("address", "203.0.113.9"),
            ("reason", "malformed-dns"),
        ],
    )
    .await;
    assert!(server.connections().is_empty());
}

/// D06–D10: DNS over TLS, HTTPS (by name and by address), QUIC, and DNSCrypt.
#[tokio::test]
async fn d06_d07_d08_d09_d10_other_ways_to_ask_are_refused() {
    let lab = Lab::builder().build().unwrap();
    let dot = lab
        .raw("203.0.113.9:853".parse().unwrap(), Script::silent())
        .unwrap();
    let doq = lab
        .udp("203.0.113.9:853".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let crypt = lab
        .udp("203.0.113.9:443".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut events = gateway.events();
    run(
        &lab,
        &[
            "openssl",
            "s_client",
            "-connect",
            "203.0.113.9:853",
            "-noservername",
        ],
    )
    .await
    .expect_failure();
    event(
        &mut events,
        &[
            ("kind", "tls"),
            ("port", "853"),
            ("reason", "no-name"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    let by_name = [
        "curl",
        "-sS",
        "-m",
        "4",
        "--doh-url",
        "https://attacker.test/dns-query",
        "https://allowed.test/",
    ];
    run(&lab, &by_name).await.expect_failure();
    refused(&lab, &mut events, "attacker.test", "not-allowed").await;
    let by_address = [
        "curl",
        "-sS",
        "-m",
        "4",
        "--doh-insecure",
        "--doh-url",
        "https://203.0.113.66/dns-query",
        "https://allowed.test/",
    ];
    run(&lab, &by_address).await.expect_failure();
    event(
        &mut events,
        &[
            ("kind", "tls"),
            ("address", "203.0.113.66"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    for port in ["853", "443"] {
        let socat = format!("UDP:203.0.113.9:{port}");
        tidegate_e2e::command(&lab, &["socat", "-t", "0.2", "-", &socat])
            .input("q6fnvWj8....")
            .run()
            .await
            .unwrap();
        let fields = [("address", "203.0.113.9"), ("port", port), ("verdict", "refuse")];
        let wanted = |one: &serde_json::Value| {
            tidegate_e2e::has(one, &fields) && matches!(one["kind"].as_str(), Some("udp" | "quic"))
        };
        events
            .wait_for("a refused datagram", tidegate_e2e::PATIENCE, wanted)
            .await
            .unwrap();
    }
    assert!(dot.connections().is_empty() && doq.received().is_empty() && crypt.received().is_empty());
    assert!(
        lab.origins().connections().is_empty(),
        "{:?}",
        lab.origins().connections()
    );
}

#[tokio::test]
async fn d06_dns_over_tls_is_permitted_where_an_endpoint_says_so() {
    let lab = Lab::builder().build().unwrap();
    let dot = lab
        .raw("203.0.113.9:853".parse().unwrap(), Script::echo())
        .unwrap();
    let gateway = started(&lab, &block(&["203.0.113.9:853"])).await;
    let line = [
        "openssl",
        "s_client",
        "-connect",
        "203.0.113.9:853",
        "-noservername",
    ];
    run(&lab, &line).await;
    assert!(!dot.connections().is_empty());
    event(
        &mut gateway.events(),
        &[("address", "203.0.113.9"), ("port", "853"), ("verdict", "permit")],
    )
    .await;
}

#[tokio::test]
async fn d24_multicast_and_broadcast_names_do_not_cross() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let question = dns::query(1, "evil.test", 1);
    let targets = [
        "224.0.0.251:5353",
        "224.0.0.252:5355",
        "255.255.255.255:137",
        "10.77.1.255:137",
        "255.255.255.255:53",
        "[ff02::fb%eth0]:5353",
        "239.1.2.3:53",
        "[ff02::1:3%eth0]:5355",
    ];
    for target in targets {
        let line = format!("UDP-DATAGRAM:{target},broadcast");
        let sent = tidegate_e2e::command(&lab, &["socat", "-u", "-", &line]).input(question.clone());
        sent.run().await.unwrap().expect_success();
    }
    // A later query of the same machine is through: what came before it was dealt with.
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    event(
        &mut gateway.events(),
        &[("name", "allowed.test"), ("verdict", "permit")],
    )
    .await;
    unasked(&lab, "evil.test");
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn d26_odd_ports_are_not_dns_and_odd_source_ports_are() {
    let lab = Lab::builder().build().unwrap();
    let odd = lab
        .udp("203.0.113.53:5353".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let refused = dig(&lab, &["@203.0.113.53", "-p", "5353", "+time=1", "allowed.test"]).await;
    assert!(refused.status.is_empty(), "{refused}");
    event(
        &mut gateway.events(),
        &[
            ("address", "203.0.113.53"),
            ("port", "5353"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    assert!(odd.received().is_empty());
    for port in ["53", "1", "853"] {
        let from = format!("10.77.1.2#{port}");
        assert_eq!(
            dig(&lab, &["-b", &from, "allowed.test"]).await.data(),
            ["192.0.2.10"],
            "{from}"
        );
        assert!(
            dig(&lab, &["-b", &from, "evil.test"]).await.is_blocked(),
            "{from}"
        );
    }
}

#[tokio::test]
async fn every_network_asks_its_own_address() {
    let lab = Lab::builder().network(1).build().unwrap();
    let builder = tidegate_e2e::gateway(&lab, &block(&["allowed.test:443"]));
    let builder = builder
        .network("default-policy: second.yaml")
        .file("second.yaml", &block(&["cdn-a.test:443"]))
        .unwrap();
    let gateway = tidegate_e2e::start(builder).await;
    let far = lab.runner_on(1, 0);
    let (v4, v6) = (
        format!("@{}", plan::gateway_v4(1)),
        format!("@{}", plan::gateway_v6(1)),
    );
    for server in [&v4[..], &v6, "@203.0.113.53", "@10.77.1.1"] {
        for transport in ["+notcp", "+tcp"] {
            let answer = dig_at(far, &[transport, server, "cdn-a.test"]).await;
            assert_eq!(answer.data(), ["192.0.2.20"], "{server} {transport}: {answer}");
            assert!(
                dig_at(far, &[transport, server, "allowed.test"])
                    .await
                    .is_blocked()
            );
        }
    }
    let fields = [
        ("kind", "dns"),
        ("network", "net1"),
        ("name", "allowed.test"),
        ("verdict", "refuse"),
    ];
    let record = event(&mut gateway.events(), &fields).await;
    assert_eq!(record["scope"], "network:net1", "{record}");
    unasked(&lab, "allowed.test");
}
