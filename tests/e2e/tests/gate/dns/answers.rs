//! What is answered: permitted names, the links of their chains, ancestors as NODATA, PTR, `localhost`.

use tidegate_e2e::dns::{dig, dig_on};
use tidegate_e2e::{block, event, gateway, run, start, started};
use tidegate_lab::{Lab, Site, plan};

use super::{refused, unasked};

#[tokio::test]
async fn a_name_with_a_permitted_port_is_answered_and_ticketed() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let answer = dig(&lab, &["allowed.test"]).await;
    assert_eq!(answer.data(), ["192.0.2.10"], "{answer}");
    assert_eq!(
        dig(&lab, &["AAAA", "allowed.test"]).await.data(),
        ["2001:db8:200::10"]
    );
    let fields = [
        ("kind", "dns"),
        ("name", "allowed.test"),
        ("verdict", "permit"),
        ("qtype", "A"),
    ];
    let record = event(&mut gateway.events(), &fields).await;
    assert_eq!(record["rule"], "allowed.test:443", "{record}");
    assert_eq!(record["rcode"], "NOERROR", "{record}");
    assert_eq!(record["answers"], serde_json::json!(["192.0.2.10"]), "{record}");
    gateway
        .wait_status("both tickets", |status| status["leases"][0]["tickets"] == 2)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_name_is_answered_while_one_port_of_it_is_left_after_denials() {
    let lab = Lab::builder().build().unwrap();
    let policy = block(&["allowed.test:443", "allowed.test:80", "cdn-a.test:443"]);
    let gateway = started(
        &lab,
        &(policy + "denied-endpoints:\n  - \"allowed.test:80\"\n  - cdn-a.test\n"),
    )
    .await;
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    let denied = dig(&lab, &["cdn-a.test"]).await;
    assert!(
        denied.is_blocked() && denied.text.contains("denied, rule cdn-a.test"),
        "{denied}"
    );
    let record = refused(&lab, &mut gateway.events(), "cdn-a.test", "denied").await;
    assert_eq!(record["rule"], "cdn-a.test", "{record}");
}

#[tokio::test]
async fn d21_the_links_of_a_chain_are_answered_and_ticketed_to_the_asked_name_only() {
    let site = Site::new("alias.test", plan::site(21))
        .alias("edge.chain.test")
        .without_dns();
    let lab = Lab::builder().site(site).build().unwrap();
    lab.dns().set("alias.test", &["CNAME mid.chain.test."]).unwrap();
    lab.dns()
        .set("mid.chain.test", &["CNAME edge.chain.test."])
        .unwrap();
    lab.dns().set("edge.chain.test", &["A 192.0.2.21"]).unwrap();
    let builder = gateway(&lab, &block(&["alias.test:443"])).section("proxy: {destination: ticket-only}");
    let gateway = start(builder).await;
    let mut events = gateway.events();
    assert!(
        dig(&lab, &["edge.chain.test"]).await.is_blocked(),
        "not before the name it belongs to was asked"
    );
    refused(&lab, &mut events, "edge.chain.test", "not-allowed").await;
    let whole = dig(&lab, &["alias.test"]).await;
    assert_eq!(
        whole.data(),
        ["mid.chain.test.", "edge.chain.test.", "192.0.2.21"],
        "{whole}"
    );
    for link in ["mid.chain.test", "edge.chain.test"] {
        let answer = dig(&lab, &[link]).await;
        assert_eq!(answer.data().last(), Some(&"192.0.2.21"), "{answer}");
        event(
            &mut events,
            &[("kind", "dns"), ("name", link), ("verdict", "permit")],
        )
        .await;
    }
    run(&lab, &["curl", "-sS", "https://alias.test/"])
        .await
        .expect_success();
    // The link is not thereby allowed: its own name towards its own address is refused.
    run(&lab, &["curl", "-sS", "-m", "2", "https://edge.chain.test/"])
        .await
        .expect_failure();
    event(
        &mut events,
        &[
            ("kind", "tls"),
            ("name", "edge.chain.test"),
            ("reason", "not-allowed"),
        ],
    )
    .await;
    // The address is ticketed, so the gateway may have dialled before the client spoke; nothing was said.
    let seen = lab.origins().connections_to("192.0.2.21".parse().unwrap());
    assert!(
        seen.iter()
            .all(|one| one.sni.as_deref().is_none_or(|name| name == "alias.test")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn an_svcb_target_belongs_to_the_chain() {
    let site = Site::new("service.test", plan::site(21)).without_dns();
    let lab = Lab::builder().site(site).build().unwrap();
    lab.dns()
        .set("service.test", &["HTTPS 1 pool.chain.test. alpn=h2"])
        .unwrap();
    lab.dns().set("pool.chain.test", &["A 192.0.2.21"]).unwrap();
    let builder = gateway(&lab, &block(&["service.test:443"])).section("proxy: {destination: ticket-only}");
    let gateway = start(builder).await;
    assert!(dig(&lab, &["pool.chain.test"]).await.is_blocked());
    assert_eq!(dig(&lab, &["HTTPS", "service.test"]).await.answer.len(), 1);
    assert_eq!(dig(&lab, &["pool.chain.test"]).await.data(), ["192.0.2.21"]);
    // The address is a ticket of the asked name: a client that follows the service binding gets through.
    let line = [
        "curl",
        "-sS",
        "--resolve",
        "service.test:443:192.0.2.21",
        "https://service.test/",
    ];
    run(&lab, &line).await.expect_success();
    event(
        &mut gateway.events(),
        &[("kind", "tls"), ("name", "service.test"), ("verdict", "permit")],
    )
    .await;
}

#[tokio::test]
async fn a_refused_ancestor_of_an_allowed_pattern_is_no_data() {
    let lab = Lab::builder().build().unwrap();
    lab.name("a.deep.parent.test", &plan::site(10)).unwrap();
    let gateway = started(&lab, &block(&["a.deep.parent.test:443", "*.wild.test:443"])).await;
    let mut events = gateway.events();
    for ancestor in ["deep.parent.test", "parent.test", "wild.test", "test"] {
        let answer = dig(&lab, &[ancestor]).await;
        assert!(answer.is_no_data(), "{answer}");
        assert!(
            answer.authority[0].starts_with(&format!("{ancestor}. 5 IN SOA ")),
            "{answer}"
        );
        let fields = [
            ("kind", "dns"),
            ("name", ancestor),
            ("verdict", "refuse"),
            ("rcode", "NOERROR"),
        ];
        event(&mut events, &fields).await;
        assert!(lab.dns().asked(ancestor).is_empty());
    }
    assert_eq!(dig(&lab, &["a.deep.parent.test"]).await.data(), ["192.0.2.10"]);
    assert!(dig(&lab, &["b.deep.parent.test"]).await.is_blocked());
}

#[tokio::test]
async fn ptr_comes_from_the_jobs_own_tickets() {
    let lab = Lab::builder().runners(2).build().unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"]));
    let gateway = start(builder.lease(1, "other", "build.yaml")).await;
    let before = dig(&lab, &["-x", "192.0.2.10"]).await;
    assert_eq!(before.status, "NXDOMAIN", "{before}");
    dig(&lab, &["allowed.test"]).await;
    dig(&lab, &["AAAA", "allowed.test"]).await;
    for address in ["192.0.2.10", "2001:db8:200::10"] {
        assert_eq!(dig(&lab, &["-x", address]).await.data(), ["allowed.test."]);
        let neighbour = dig_on(&lab, 1, &["-x", address]).await;
        assert_eq!(neighbour.status, "NXDOMAIN", "{neighbour}");
    }
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("qtype", "PTR"), ("verdict", "permit")],
    )
    .await;
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("qtype", "PTR"), ("verdict", "refuse")],
    )
    .await;
    unasked(&lab, "arpa");
}

#[tokio::test]
async fn ptr_is_forwarded_for_private_addresses_that_an_address_endpoint_covers() {
    let lab = Lab::builder().build().unwrap();
    for (name, target) in [
        ("5.0.20.10", "db.corp.test"),
        ("5.0.21.10", "other.corp.test"),
        ("1.113.0.203", "far.test"),
    ] {
        lab.dns()
            .set(&format!("{name}.in-addr.arpa"), &[&format!("PTR {target}.")])
            .unwrap();
    }
    let _gateway = started(&lab, &block(&["10.20.0.0/16:5432", "203.0.113.0/24:443"])).await;
    assert_eq!(dig(&lab, &["-x", "10.20.0.5"]).await.data(), ["db.corp.test."]);
    for address in ["10.21.0.5", "203.0.113.1"] {
        let answer = dig(&lab, &["-x", address]).await;
        assert_eq!(answer.status, "NXDOMAIN", "{answer}");
    }
    unasked(&lab, "21.10.in-addr.arpa");
    unasked(&lab, "203.in-addr.arpa");
}

#[tokio::test]
async fn localhost_is_answered_locally_to_everybody() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = started(&lab, &block(&[])).await;
    for runner in [0, 1] {
        for name in ["localhost", "db.localhost"] {
            assert_eq!(dig_on(&lab, runner, &[name]).await.data(), ["127.0.0.1"]);
            assert_eq!(dig_on(&lab, runner, &["AAAA", name]).await.data(), ["::1"]);
        }
        assert_eq!(
            dig_on(&lab, runner, &["-x", "127.0.0.1"]).await.data(),
            ["localhost."]
        );
    }
    unasked(&lab, "localhost");
    unasked(&lab, "arpa");
}
