//! Evasions at the seams between rooms: a change of policy that overtakes a flow, and bytes in labels that
//! follow an allowed name. Ids as in the catalogue of what a job may try.

use tidegate_e2e::dns::{dig, framed, over_tcp, query};
use tidegate_e2e::hello::Client;
use tidegate_e2e::{PATIENCE, audit, block, event, gateway, run, start, started};
use tidegate_lab::{Gateway, Lab, RawServer, Script, wait_until};

/// Puts another policy in force for the job.
async fn swapped(gateway: &Gateway<'_>, policy: &str) {
    gateway.write("build.yaml", policy).unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
}

/// Waits until exactly these bytes have come, over all connections.
async fn received(server: &RawServer, wanted: &[u8]) {
    wait_until("the bytes", PATIENCE, async || {
        let all: Vec<u8> = server
            .connections()
            .into_iter()
            .flat_map(|one| one.received)
            .collect();
        if all == wanted {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await
    .unwrap();
}

/// L15: a flow of audit mode that has said nothing yet, or half of a hello, or half of a request, is no way
/// out once the policy blocks.
#[tokio::test]
async fn l15_half_a_hello_in_audit_is_no_way_out_under_block() {
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"POST /upload HT"] {
        let lab = Lab::builder().build().unwrap();
        let server = lab
            .raw("192.0.2.66:9443".parse().unwrap(), Script::silent())
            .unwrap();
        let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
        let mut client = Client::connect(lab.runner(0), "192.0.2.66:9443");
        client.say(begun);
        received(&server, begun).await;
        wait_until("the connection", PATIENCE, async || {
            match server.connections().len() {
                1 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await
        .unwrap();
        swapped(&gateway, &block(&["allowed.test:443"])).await;
        client.say(b"secret");
        assert!(client.hear_all().closed(), "{begun:?}");
        received(&server, begun).await;
        event(
            &mut gateway.events(),
            &[("verdict", "refuse"), ("reason", "policy-changed")],
        )
        .await;
    }
}

/// L15, D02: what audit let through to port 53 of another machine (a tunnel, say) ends with audit.
#[tokio::test]
async fn l15_a_stream_to_a_foreign_resolver_ends_with_audit() {
    let lab = Lab::builder().build().unwrap();
    let server = lab
        .raw("203.0.113.9:53".parse().unwrap(), Script::silent())
        .unwrap();
    let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
    let mut client = Client::connect(lab.runner(0), "203.0.113.9:53");
    let first = framed(&query(1, "evil.test", 16));
    client.say(&first);
    received(&server, &first).await;
    swapped(&gateway, &block(&["allowed.test:443"])).await;
    client.say(b"\x00\x00secret");
    assert!(client.hear_all().closed());
    received(&server, &first).await;
    event(
        &mut gateway.events(),
        &[("verdict", "refuse"), ("reason", "policy-changed")],
    )
    .await;
}

/// D13: labels that begin with an underscore follow the name below them, and carry bytes to its servers.
#[tokio::test]
async fn d13_service_labels_are_payload_when_there_are_too_many() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let asked = |n| framed(&query(n, &format!("_{n}.allowed.test"), 16));
    let replies = over_tcp(
        lab.runner(0),
        "203.0.113.53:53",
        &(0..600).map(asked).collect::<Vec<_>>(),
        600,
    );
    assert_eq!(replies.len(), 600);
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("verdict", "refuse"), ("reason", "dns-budget")],
    )
    .await;
    let passed = lab.dns().asked_below("allowed.test").len();
    assert!((1..=530).contains(&passed), "{passed} names reached the upstream");
    assert!(
        dig(&lab, &["allowed.test"]).await.data().contains(&"192.0.2.10"),
        "its own name costs nothing"
    );
}

/// Invariant 5: a block list that can't be read at the first start is not an empty one.
#[tokio::test]
async fn a_block_list_that_was_never_read_refuses_everybody_until_it_is() {
    let lab = Lab::builder().build().unwrap();
    let builder = gateway(&lab, &audit(&[])).section("global-block: [block.txt]");
    let gateway = start(builder).await;
    for name in ["evil.test", "allowed.test"] {
        assert!(dig(&lab, &[name]).await.text.contains("policy-unknown"), "{name}");
    }
    assert!(lab.dns().log().is_empty());
    gateway.write("block.txt", "evil.test\n").unwrap();
    gateway
        .wait_status("the list", |status| status["degraded"] == serde_json::json!([]))
        .await
        .unwrap();
    assert!(dig(&lab, &["evil.test"]).await.text.contains("global-block"));
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
}
