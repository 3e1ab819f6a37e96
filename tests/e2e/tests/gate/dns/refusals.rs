//! How a refusal looks: the code, the authority record, the extended error, and where it comes from.

use tidegate_e2e::dns::dig;
use tidegate_e2e::{block, event, gateway, start, started};
use tidegate_lab::Lab;

use super::{refused, unasked};

#[tokio::test]
async fn a_refused_name_is_nxdomain_at_once_with_soa_ttl_5_and_the_extended_error() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for transport in ["+notcp", "+tcp"] {
        let answer = dig(&lab, &[transport, "evil.test"]).await;
        assert_eq!(answer.status, "NXDOMAIN", "{answer}");
        assert!(answer.is_blocked() && answer.answer.is_empty(), "{answer}");
        let [soa] = &answer.authority[..] else {
            panic!("one SOA record: {answer}")
        };
        assert!(
            soa.starts_with("evil.test. 5 IN SOA ") && soa.ends_with(" 5"),
            "{soa}"
        );
        let fields = [
            ("kind", "dns"),
            ("name", "evil.test"),
            ("verdict", "refuse"),
            ("reason", "not-allowed"),
        ];
        let mut events = gateway.events();
        let found = |events: &mut tidegate_lab::EventLog| {
            events.matching(|event| {
                tidegate_e2e::has(event, &fields)
                    && answer.text.contains(event["id"].as_str().unwrap_or("none"))
            })
        };
        event(&mut events, &fields).await;
        let shown = tidegate_lab::wait_until(
            "the event that the answer names",
            tidegate_e2e::PATIENCE,
            async || found(&mut events).pop().ok_or_else(|| answer.text.clone()),
        );
        let record = shown.await.unwrap();
        assert_eq!(record["policy"], "build.yaml", "{record}");
        assert!(
            answer.text.contains("policy build.yaml v1: not-allowed"),
            "{answer}"
        );
    }
    unasked(&lab, "evil.test");
}

#[tokio::test]
async fn a_refusal_names_the_rule_that_refuses_and_the_nearest_one_that_does_not() {
    let lab = Lab::builder().build().unwrap();
    let policy = block(&["*.npm.test:443"]) + "denied-endpoints: bad.npm.test\n";
    let gateway = started(&lab, &policy).await;
    let denied = dig(&lab, &["bad.npm.test"]).await;
    assert!(denied.text.contains("denied, rule bad.npm.test"), "{denied}");
    refused(&lab, &mut gateway.events(), "bad.npm.test", "denied").await;
    let near = dig(&lab, &["registry.nmp.test"]).await;
    assert!(near.is_blocked(), "{near}");
    refused(&lab, &mut gateway.events(), "registry.nmp.test", "not-allowed").await;
}

#[tokio::test]
async fn a_query_without_edns_gets_no_edns_back() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&[])).await;
    let answer = dig(&lab, &["+noedns", "evil.test"]).await;
    assert_eq!(answer.status, "NXDOMAIN", "{answer}");
    assert!(
        !answer.text.contains("EDNS") && answer.error.is_none(),
        "{answer}"
    );
    refused(&lab, &mut gateway.events(), "evil.test", "not-allowed").await;
}

#[tokio::test]
async fn d01_d11_d12_d14_a_refused_name_leaks_nothing_in_any_type() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let kinds = [
        "A",
        "AAAA",
        "TXT",
        "MX",
        "SRV",
        "CNAME",
        "NS",
        "SOA",
        "HTTPS",
        "SVCB",
        "CAA",
        "DS",
        "DNSKEY",
        "TLSA",
        "SSHFP",
        "NAPTR",
        "URI",
        "PTR",
        "NULL",
        "HINFO",
        "TYPE65280",
        "ANY",
    ];
    for kind in kinds {
        let leak = format!("{}.t.evil.test", "mfrggzdfmztwq2lknnwg23tpoa".repeat(2));
        let answer = dig(&lab, &["+notcp", "-t", kind, &leak]).await;
        assert!(answer.is_blocked(), "{kind}: {answer}");
    }
    unasked(&lab, "evil.test");
    let fields = [
        ("kind", "dns"),
        ("verdict", "refuse"),
        ("reason", "not-allowed"),
        ("qtype", "TXT"),
    ];
    event(&mut gateway.events(), &fields).await;
}

#[tokio::test]
async fn a_refusal_that_a_search_suffix_caused_has_its_own_reason() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let suffixed = dig(&lab, &["allowed.test.corp.example"]).await;
    assert!(suffixed.is_blocked(), "{suffixed}");
    refused(
        &lab,
        &mut gateway.events(),
        "allowed.test.corp.example",
        "search-suffix",
    )
    .await;
    // The suffix alone is nobody's mistake.
    assert!(dig(&lab, &["corp.example"]).await.is_blocked());
    refused(&lab, &mut gateway.events(), "corp.example", "not-allowed").await;
}

#[tokio::test]
async fn a_global_block_entry_in_a_chain_refuses_the_asked_name() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().set("alias.test", &["CNAME tracker.bad.test."]).unwrap();
    lab.dns().set("tracker.bad.test", &["A 192.0.2.21"]).unwrap();
    let builder = gateway(&lab, &block(&["alias.test:443", "tracker.bad.test:443"]))
        .section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", "*.bad.test\n").unwrap()).await;
    let answer = dig(&lab, &["alias.test"]).await;
    assert!(answer.is_blocked(), "{answer}");
    let fields = [
        ("kind", "dns"),
        ("name", "alias.test"),
        ("reason", "global-block"),
        ("rule", "*.bad.test"),
    ];
    event(&mut gateway.events(), &fields).await;
    assert!(dig(&lab, &["tracker.bad.test"]).await.is_blocked());
    refused(&lab, &mut gateway.events(), "tracker.bad.test", "global-block").await;
}
