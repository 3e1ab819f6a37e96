//! DNS in audit: unfiltered to the gateway, relayed unchanged to others, read for tickets; the global block
//! list still refuses.

use tidegate_e2e::dns::{self, dig, over_tcp};
use tidegate_e2e::{audit, event, gateway, run, start, started};
use tidegate_lab::{Lab, Site, Transport, plan};

use super::unasked;

#[tokio::test]
async fn queries_to_the_gateway_are_resolved_unfiltered() {
    let lab = Lab::builder().build().unwrap();
    let ech = "HTTPS 1 . alpn=h3,h2 ech=AEj+DQBEAQAgACAdd+scUi0IYFsXnUIU7ko2Nd9+F8M26pAGZVpz/KrWPgAEAAEAAWQVZWNoLXNpdGVzLmV4YW1wbGUubmV0AAA=";
    lab.dns()
        .set(
            "evil.test",
            &[
                "A 10.0.0.5",
                "A 192.0.2.66",
                ech,
                "TYPE65280 \\# 0a0b0c",
                "TXT \"x\"",
            ],
        )
        .unwrap();
    let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
    let mut private: Vec<_> = dig(&lab, &["evil.test"])
        .await
        .data()
        .into_iter()
        .map(str::to_owned)
        .collect();
    private.sort();
    assert_eq!(private, ["10.0.0.5", "192.0.2.66"], "rebinding is only recorded");
    let https = dig(&lab, &["-t", "HTTPS", "evil.test"]).await;
    assert!(
        https.text.contains("ech=") && https.text.contains("h3"),
        "{https}"
    );
    assert_eq!(dig(&lab, &["-t", "TYPE65280", "evil.test"]).await.answer.len(), 1);
    assert_eq!(dig(&lab, &["-t", "TXT", "evil.test"]).await.data(), ["\"x\""]);
    assert_eq!(dig(&lab, &["missing.test"]).await.status, "NXDOMAIN");
    let mut events = gateway.events();
    for qtype in ["A", "HTTPS", "TYPE65280", "TXT"] {
        let fields = [
            ("name", "evil.test"),
            ("qtype", qtype),
            ("verdict", "would-refuse"),
            ("reason", "not-allowed"),
        ];
        let record = event(&mut events, &fields).await;
        assert_eq!(
            (&record["mode"], &record["rcode"]),
            (&"audit".into(), &"NOERROR".into()),
            "{record}"
        );
    }
}

#[tokio::test]
async fn queries_to_another_server_reach_it_unchanged() {
    let lab = Lab::builder().build().unwrap();
    for (name, record) in [
        ("evil.test", "A 203.0.113.99"),
        ("allowed.test", "A 203.0.113.98"),
    ] {
        lab.foreign_dns().set(name, &[record]).unwrap();
    }
    let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
    for (server, transport) in [
        ("203.0.113.53", "+notcp"),
        ("203.0.113.53", "+tcp"),
        ("2001:db8:300::53", "+notcp"),
    ] {
        let at = format!("@{server}");
        let answer = dig(
            &lab,
            &[transport, &at, "+ednsopt=65001:c0ffee", "+cd", "EvIl.TeSt"],
        )
        .await;
        assert_eq!(answer.data(), ["203.0.113.99"], "{at} {transport}: {answer}");
    }
    let asked = lab.foreign_dns().asked("evil.test");
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[1].transport, Transport::Tcp);
    for query in &asked {
        assert_eq!(query.spelled.trim_end_matches('.'), "EvIl.TeSt", "{query:?}");
        assert!(query.checking_disabled, "{query:?}");
        assert!(
            query
                .edns
                .as_ref()
                .is_some_and(|edns| edns.options.contains(&65001)),
            "{query:?}"
        );
    }
    assert!(
        lab.dns().asked("evil.test").is_empty(),
        "the gateway's own upstream has no part in it"
    );
    let fields = [
        ("kind", "dns"),
        ("address", "203.0.113.53"),
        ("name", "evil.test"),
        ("verdict", "would-refuse"),
    ];
    event(&mut gateway.events(), &fields).await;
}

#[tokio::test]
async fn a_foreign_servers_answers_are_read_for_tickets() {
    let site = Site::new("allowed.test", plan::foreign_site(21)).without_dns();
    let lab = Lab::builder().site(site).build().unwrap();
    lab.foreign_dns()
        .set("allowed.test", &["A 203.0.113.21"])
        .unwrap();
    let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
    let line = [
        "curl",
        "-sS",
        "--resolve",
        "allowed.test:443:203.0.113.21",
        "https://allowed.test/",
    ];
    run(&lab, &line).await.expect_success();
    let fields = [
        ("kind", "tls"),
        ("name", "allowed.test"),
        ("address", "203.0.113.21"),
    ];
    let before = event(&mut gateway.events(), &fields).await;
    for (transport, tickets) in [("+notcp", 1), ("+tcp", 1)] {
        assert_eq!(
            dig(&lab, &[transport, "@203.0.113.53", "allowed.test"])
                .await
                .data(),
            ["203.0.113.21"]
        );
        gateway
            .wait_status("the ticket", |status| status["leases"][0]["tickets"] == tickets)
            .await
            .unwrap();
    }
    let mut events = gateway.events();
    events.forget();
    run(&lab, &line).await.expect_success();
    let after = event(&mut events, &fields).await;
    assert_eq!(after["verdict"], "permit", "before: {before}; after: {after}");
}

#[tokio::test]
async fn the_global_block_list_holds_towards_any_server() {
    let lab = Lab::builder().build().unwrap();
    lab.foreign_dns().set("evil.test", &["A 203.0.113.99"]).unwrap();
    lab.foreign_dns()
        .set("bad-address.test", &["A 192.0.2.66"])
        .unwrap();
    let builder = gateway(&lab, &audit(&["evil.test:443"])).section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", "evil.test\n192.0.2.66\n").unwrap()).await;
    for server in ["@10.77.1.1", "@203.0.113.53", "@2001:db8:300::53"] {
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(&lab, &[transport, server, "evil.test"]).await;
            assert!(answer.is_blocked(), "{server} {transport}: {answer}");
        }
    }
    unasked(&lab, "evil.test");
    let fields = [
        ("kind", "dns"),
        ("name", "evil.test"),
        ("reason", "global-block"),
        ("verdict", "refuse"),
    ];
    event(&mut gateway.events(), &fields).await;
}

#[tokio::test]
async fn d04_a_stream_to_another_server_is_judged_query_by_query() {
    let lab = Lab::builder().build().unwrap();
    lab.foreign_dns()
        .set("allowed.test", &["A 203.0.113.98"])
        .unwrap();
    let builder = gateway(&lab, &audit(&["allowed.test:443"])).section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", "evil.test\n").unwrap()).await;
    let stream = [
        dns::framed(&dns::query(1, "allowed.test", 1)),
        dns::framed(&dns::query(2, "evil.test", 1)),
    ]
    .concat();
    let mut replies = over_tcp(lab.runner(0), "203.0.113.53:53", &[stream], 2);
    replies.sort_by_key(dns::Reply::id);
    assert_eq!(
        replies.iter().map(dns::Reply::rcode).collect::<Vec<_>>(),
        [0, 3],
        "{replies:?}"
    );
    assert!(lab.foreign_dns().asked("evil.test").is_empty());
    event(
        &mut gateway.events(),
        &[
            ("name", "evil.test"),
            ("reason", "global-block"),
            ("verdict", "refuse"),
        ],
    )
    .await;
}
