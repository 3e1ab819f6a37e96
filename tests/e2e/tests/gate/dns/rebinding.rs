//! Addresses in answers: some refused, all refused, and public names that answer with private addresses.

use tidegate_e2e::dns::dig;
use tidegate_e2e::{block, event, gateway, run, start, started};
use tidegate_lab::{Lab, Site, plan};

/// Addresses that a public name must not have.
const PRIVATE: [&str; 16] = [
    "A 10.1.2.3",
    "A 172.16.0.1",
    "A 192.168.1.1",
    "A 169.254.1.1",
    "A 0.1.2.3",
    "A 100.64.0.1",
    "A 192.0.0.5",
    "A 198.18.0.1",
    "A 169.254.169.254",
    "AAAA fc00::1",
    "AAAA fd77:1::2",
    "AAAA fe80::1",
    "AAAA ::ffff:10.1.2.3",
    "AAAA ::ffff:169.254.169.254",
    "AAAA 64:ff9b::a01:203",
    "AAAA 2002:a01:203::1",
];

#[tokio::test]
async fn d22_m08_a_public_name_with_a_private_address_is_rebinding() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["*.rebind.test:80"])).await;
    let mut events = gateway.events();
    for (number, record) in PRIVATE.iter().enumerate() {
        let name = format!("n{number}.rebind.test");
        lab.dns().set(&name, &[record]).unwrap();
        let kind = record.split(' ').next().unwrap();
        let answer = dig(&lab, &["-t", kind, &name]).await;
        assert!(answer.is_no_data(), "{record}: {answer}");
        assert!(
            answer
                .error
                .as_ref()
                .is_some_and(|error| error.contains("rebinding")),
            "{record}: {answer}"
        );
        let fields = [
            ("kind", "dns"),
            ("name", name.as_str()),
            ("reason", "rebinding"),
            ("verdict", "refuse"),
        ];
        event(&mut events, &fields).await;
    }
    // What an answer could not give is not reached by the name either.
    lab.dns().set("direct.rebind.test", &["A 10.77.1.1"]).unwrap();
    let line = [
        "curl",
        "-sS",
        "-m",
        "3",
        "-H",
        "Host: direct.rebind.test",
        "http://192.0.2.10/",
    ];
    run(&lab, &line).await;
    assert!(
        lab.origins().requests().is_empty(),
        "{:?}",
        lab.origins().requests()
    );
}

#[tokio::test]
async fn only_the_refused_addresses_of_an_answer_are_left_out() {
    let lab = Lab::builder().build().unwrap();
    lab.dns()
        .set(
            "mixed.test",
            &["A 192.0.2.10", "A 192.0.2.66", "A 203.0.113.9", "A 10.0.0.9"],
        )
        .unwrap();
    lab.dns().set("listed.test", &["A 192.0.2.66"]).unwrap();
    lab.dns().set("denied.test", &["A 203.0.113.9"]).unwrap();
    let policy =
        block(&["mixed.test:443", "listed.test:443", "denied.test:443"]) + "denied-endpoints: 203.0.113.9\n";
    let builder = gateway(&lab, &policy).section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", "192.0.2.66\n").unwrap()).await;
    let mut events = gateway.events();
    let mixed = dig(&lab, &["mixed.test"]).await;
    assert_eq!(mixed.data(), ["192.0.2.10"], "{mixed}");
    let record = event(&mut events, &[("name", "mixed.test"), ("verdict", "permit")]).await;
    assert_eq!(record["answers"], serde_json::json!(["192.0.2.10"]), "{record}");
    for (name, reason) in [("listed.test", "global-block"), ("denied.test", "denied")] {
        let answer = dig(&lab, &[name]).await;
        assert!(answer.is_no_data(), "{answer}");
        assert!(
            answer.error.as_ref().is_some_and(|error| error.contains(reason)),
            "{answer}"
        );
        event(
            &mut events,
            &[
                ("kind", "dns"),
                ("name", name),
                ("reason", reason),
                ("verdict", "refuse"),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn internal_domains_may_have_private_addresses() {
    let lab = Lab::builder().build().unwrap();
    let zone = [
        ("db.corp.test", "A 10.20.0.5"),
        ("corp.test", "A 10.20.0.6"),
        ("public.test", "CNAME db.corp.test."),
        ("db.corp.test.evil.test", "A 10.20.0.5"),
        ("other.test", "A 10.20.0.5"),
    ];
    for (name, record) in zone {
        lab.dns().set(name, &[record]).unwrap();
    }
    let names: Vec<String> = zone.iter().map(|(name, _)| format!("{name}:80")).collect();
    let policy = block(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = start(gateway(&lab, &policy).dns("internal-domains: [\"*.corp.test\"]")).await;
    assert_eq!(dig(&lab, &["db.corp.test"]).await.data(), ["10.20.0.5"]);
    let chained = dig(&lab, &["public.test"]).await;
    assert_eq!(
        chained.data(),
        ["db.corp.test.", "10.20.0.5"],
        "the final name of the chain counts"
    );
    for name in ["corp.test", "db.corp.test.evil.test", "other.test"] {
        assert!(dig(&lab, &[name]).await.is_no_data(), "{name}");
        event(
            &mut gateway.events(),
            &[("kind", "dns"), ("name", name), ("reason", "rebinding")],
        )
        .await;
    }
}

#[tokio::test]
async fn loopback_passes_without_a_ticket() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().set("lo.test", &["A 127.0.0.1", "AAAA ::1"]).unwrap();
    let gateway = started(&lab, &block(&["lo.test:80"])).await;
    assert_eq!(dig(&lab, &["lo.test"]).await.data(), ["127.0.0.1"]);
    assert_eq!(dig(&lab, &["AAAA", "lo.test"]).await.data(), ["::1"]);
    event(
        &mut gateway.events(),
        &[("name", "lo.test"), ("qtype", "AAAA"), ("verdict", "permit")],
    )
    .await;
    let (_, status) = gateway.status().await.unwrap();
    assert_eq!(status["leases"][0]["tickets"], 0, "{status}");
}

#[tokio::test]
async fn address_hints_are_answers_too() {
    let site = Site::new("hint.test", plan::site(21)).without_dns();
    let lab = Lab::builder().site(site).build().unwrap();
    let record = "HTTPS 1 . alpn=h2 ipv4hint=192.0.2.21,10.0.0.9 ipv6hint=fd00::9";
    lab.dns().set("hint.test", &[record]).unwrap();
    let builder = gateway(&lab, &block(&["hint.test:443"])).section("proxy: {destination: ticket-only}");
    let gateway = start(builder).await;
    let answer = dig(&lab, &["-t", "HTTPS", "hint.test"]).await;
    assert!(answer.text.contains("ipv4hint=192.0.2.21"), "{answer}");
    assert!(
        !answer.text.contains("10.0.0.9") && !answer.text.contains("fd00::9"),
        "{answer}"
    );
    // A hinted address is ticketed like an answered one.
    let line = [
        "curl",
        "-sS",
        "--resolve",
        "hint.test:443:192.0.2.21",
        "https://hint.test/",
    ];
    run(&lab, &line).await.expect_success();
    let fields = [
        ("kind", "tls"),
        ("name", "hint.test"),
        ("address", "192.0.2.21"),
        ("verdict", "permit"),
    ];
    event(&mut gateway.events(), &fields).await;
}
