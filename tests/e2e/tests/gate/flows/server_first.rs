//! Protocols in which the server speaks first, and those that the gateway does not know.

use tidegate_e2e::hello::{Client, End};
use tidegate_e2e::{block, command, event, flow_event, started};
use tidegate_lab::{Lab, Script, plan};

use super::{BINARY, raw, received};

/// Row "server-first or unknown protocol": a ticket whose name is allowed on that port.
#[tokio::test]
async fn server_first_by_a_ticket() {
    let lab = Lab::builder().build().unwrap();
    let servers = raw(
        &lab,
        25,
        &Script::reply_to("\r\n", "221 bye\r\n").banner("220 raw.test ESMTP\r\n"),
    );
    let gateway = started(&lab, &block(&["raw.test:25"])).await;
    for (family, server) in ["-4", "-6"].into_iter().zip(&servers) {
        let line = ["ncat", family, "-w", "2", "raw.test", "25"];
        let talk = command(&lab, &line).input("QUIT\r\n").run().await.unwrap();
        assert!(
            talk.text().contains("220 raw.test") && talk.text().contains("221 bye"),
            "{talk}"
        );
        received("the client's line", server, b"QUIT\r\n").await;
    }
    let fields = [
        ("kind", "tcp"),
        ("name", "raw.test"),
        ("name_source", "ticket"),
        ("verdict", "permit"),
    ];
    event(&mut gateway.events(), &fields).await;
    // The same address on a port for which no name is allowed.
    let other = lab
        .raw(
            "192.0.2.80:26".parse().unwrap(),
            Script::silent().banner("220 other\r\n"),
        )
        .unwrap();
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:26");
    let outcome = client.hear_all();
    assert_eq!(
        (outcome.end, outcome.received.len()),
        (End::Reset, 0),
        "{outcome:?}"
    );
    flow_event(
        &mut gateway.events(),
        &client,
        &[("port", "26"), ("verdict", "refuse"), ("reason", "silent")],
    )
    .await;
    assert!(other.connections().is_empty());
}

/// Row "server-first or unknown protocol": an address endpoint.
#[tokio::test]
async fn server_first_by_an_address_endpoint() {
    let lab = Lab::builder().build().unwrap();
    let servers = raw(&lab, 5432, &Script::echo().banner("hello\n"));
    let _gateway = started(&lab, &block(&["192.0.2.0/24:5432", "[2001:db8:200::80]:5432"])).await;
    for (to, server) in ["192.0.2.80:5432", "[2001:db8:200::80]:5432"]
        .into_iter()
        .zip(&servers)
    {
        let mut client = Client::connect(lab.runner(0), to);
        let greeted = client.hear(|outcome| outcome.received.ends_with(b"\n"));
        assert_eq!(greeted.text(), "hello\n");
        let echoed = client
            .say(BINARY)
            .hear(|outcome| outcome.received.ends_with(BINARY));
        assert!(echoed.received.ends_with(BINARY), "{echoed:?}");
        received("the client's bytes", server, BINARY).await;
    }
}

/// Row "server-first or unknown protocol": clients that answer from an old cache.
#[tokio::test]
async fn an_exact_name_that_the_gateway_resolves_stands_for_a_lost_ticket() {
    let lab = Lab::builder().build().unwrap();
    let servers = raw(&lab, 22, &Script::silent().banner("SSH-2.0-lab\r\n"));
    let gateway = started(&lab, &block(&["raw.test:22", "*.wild.test:23"])).await;
    let mut events = gateway.events();
    lab.runner(0)
        .set_hosts("192.0.2.80 raw.test\n2001:db8:200::80 raw.test\n")
        .unwrap();
    for (family, server) in ["-4", "-6"].into_iter().zip(&servers) {
        let talk = command(&lab, &["ncat", family, "-w", "2", "raw.test", "22"])
            .input("hi")
            .run()
            .await
            .unwrap();
        assert!(talk.text().contains("SSH-2.0-lab"), "{talk}");
        received("the client's bytes", server, b"hi").await;
    }
    assert!(
        !lab.dns().asked("raw.test").is_empty(),
        "the gateway asked itself"
    );
    event(
        &mut events,
        &[
            ("kind", "tcp"),
            ("name", "raw.test"),
            ("verdict", "permit"),
            ("port", "22"),
        ],
    )
    .await;
    // A client that speaks first, of a protocol without names, is confirmed too.
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:22");
    client
        .say(b"SSH-2.0-client\r\n")
        .hear(|outcome| !outcome.received.is_empty());
    received("the client's banner", &servers[0], b"SSH-2.0-client\r\n").await;
    // An address that the name does not have is not confirmed.
    let foreign = lab
        .raw(
            "192.0.2.81:22".parse().unwrap(),
            Script::silent().banner("SSH-2.0-evil\r\n"),
        )
        .unwrap();
    let mut client = Client::connect(lab.runner(0), "192.0.2.81:22");
    let outcome = client.say(b"SSH-2.0-client\r\n").hear_all();
    assert_eq!(
        (outcome.end, outcome.received.len()),
        (End::Reset, 0),
        "{outcome:?}"
    );
    flow_event(
        &mut events,
        &client,
        &[("verdict", "refuse"), ("reason", "no-name")],
    )
    .await;
    assert!(foreign.connections().is_empty());
    // A wildcard names no host to resolve.
    lab.name("a.wild.test", &plan::site(82)).unwrap();
    let wild = lab
        .raw(
            "192.0.2.82:23".parse().unwrap(),
            Script::silent().banner("login: "),
        )
        .unwrap();
    let mut client = Client::connect(lab.runner(0), "192.0.2.82:23");
    client.say(b"\xff\xfd\x03").hear_all();
    flow_event(
        &mut events,
        &client,
        &[("port", "23"), ("verdict", "refuse"), ("reason", "no-name")],
    )
    .await;
    assert!(wild.connections().is_empty() && lab.dns().asked_below("wild.test").is_empty());
}
