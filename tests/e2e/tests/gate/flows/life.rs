//! A flow's life besides its verdict: how long is waited for it, how it is dialled, how it ends.

use tidegate_e2e::hello::{self, Client, End};
use tidegate_e2e::{PATIENCE, block, flow_event, gateway, run, start, started};
use tidegate_lab::{Ending, Lab, RawServer, Script, plan, wait_until};

use super::{ACCESS_DENIED, BINARY, raw, received};

/// "Silence is refused after 800 ms" where the opaque row does not permit.
#[tokio::test]
async fn t64_silence_is_refused_where_no_server_may_speak_first() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for to in ["192.0.2.66:443", "[2001:db8:200::66]:443", "192.0.2.66:22"] {
        let mut client = Client::connect(lab.runner(0), to);
        let outcome = client.hear_all();
        assert!(
            outcome.closed() && outcome.received.is_empty(),
            "{to}: {outcome:?}"
        );
        flow_event(
            &mut gateway.events(),
            &client,
            &[("verdict", "refuse"), ("reason", "silent")],
        )
        .await;
    }
    assert!(lab.origins().connections().is_empty());
}

/// "A timeout on an undecided TLS or HTTP prefix is a refusal", at a ticketed address too.
#[tokio::test]
async fn a_begun_hello_or_request_is_refused_after_the_detect_timeout() {
    let lab = Lab::builder().build().unwrap();
    let ports = [443, 80].map(|port| raw(&lab, port, &Script::silent())[0].clone());
    let policy = block(&["raw.test:443", "raw.test:80"]);
    let gateway = start(gateway(&lab, &policy).section("proxy: {detect-timeout: 300ms}")).await;
    let mut events = gateway.events();
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    for cut in [1, 6, 40] {
        let mut client = Client::connect(lab.runner(0), "192.0.2.80:443");
        let outcome = client.say(&hello::plain("raw.test")[..cut]).hear_all();
        assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{cut} bytes: {outcome:?}");
        let fields = [
            ("kind", "tls"),
            ("verdict", "refuse"),
            ("reason", "detect-timeout"),
        ];
        flow_event(&mut events, &client, &fields).await;
    }
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:80");
    let outcome = client.say(b"GET / HTTP/1.1\r\nHost: raw.te").hear_all();
    assert!(outcome.text().starts_with("HTTP/1.1 4"), "{outcome:?}");
    let fields = [
        ("kind", "http"),
        ("verdict", "refuse"),
        ("reason", "detect-timeout"),
    ];
    flow_event(&mut events, &client, &fields).await;
    let seen: Vec<_> = ports.iter().flat_map(RawServer::connections).collect();
    assert!(seen.iter().all(|one| one.length == 0), "{seen:?}");
}

/// A relay keeps each direction's end apart (RFC 9293 §3.6).
#[tokio::test]
async fn a_half_close_is_preserved_in_both_directions() {
    let lab = Lab::builder().build().unwrap();
    let [late, _] = raw(
        &lab,
        7000,
        &Script::reply_at_end("the answer after the client's end"),
    );
    let [early, _] = raw(&lab, 7001, &Script::reply_to("hi", "bye").then(Ending::HalfClose));
    let _gateway = started(&lab, &block(&["192.0.2.80:7000-7001"])).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:7000");
    let outcome = client.say(BINARY).shut().hear_all();
    assert_eq!(outcome.text(), "the answer after the client's end", "{outcome:?}");
    assert_eq!(outcome.end, End::Closed);
    received("the client's bytes", &late, BINARY).await;
    assert!(
        late.connections()
            .iter()
            .any(|one| one.ended && one.received == BINARY),
        "{:?}",
        late.connections()
    );
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:7001");
    let outcome = client.say(b"hi").hear_all();
    assert_eq!((outcome.text().as_str(), outcome.end), ("bye", End::Closed));
    client.say(b" and more");
    received("bytes after the server's end", &early, b"hi and more").await;
    client.shut();
    wait_until("the client's end", PATIENCE, async || match early.connections() {
        seen if seen.iter().any(|one| one.ended && one.received == b"hi and more") => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
    .unwrap();
}

/// "No usable IPv6 upstream: v6 connections are refused before they are accepted, so clients fall back."
#[tokio::test]
async fn without_a_usable_ipv6_upstream_clients_fall_back_to_ipv4() {
    let lab = Lab::builder().build().unwrap();
    lab.gw()
        .ip(&format!("route del default via {}", plan::NEXT_HOP_V6))
        .unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let client = Client::connect(lab.runner(0), "[2001:db8:200::10]:443");
    assert_eq!(client.port(), 0, "accepted all the same: {client:?}");
    let line = [
        "curl",
        "-sS",
        "-m",
        "5",
        "-w",
        "%{remote_ip}",
        "https://allowed.test/",
    ];
    let page = run(&lab, &line).await.expect_success();
    assert!(page.text().ends_with("192.0.2.10"), "{page}");
    assert!(lab.origins().connections_to(plan::site(10)[1]).is_empty());
}

/// "`h3` leaves the ALPN hints of HTTPS answers, so that clients use TCP."
#[tokio::test]
async fn h3_leaves_https_answers_and_https_keeps_working() {
    let lab = Lab::builder().build().unwrap();
    let both = [
        "A 192.0.2.10",
        "HTTPS 1 . alpn=h3,h2 ipv4hint=192.0.2.10",
        "HTTPS 2 . alpn=h3",
    ];
    lab.dns().set("allowed.test", &both).unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let answer = run(&lab, &["dig", "+short", "HTTPS", "allowed.test"])
        .await
        .expect_success();
    assert!(
        answer.text().contains("alpn=\"h2\"") && !answer.text().contains("h3"),
        "{answer}"
    );
    assert!(answer.text().contains("ipv4hint=192.0.2.10"), "{answer}");
    let page = run(&lab, &["curl", "-sS", "--http2", "https://allowed.test/"])
        .await
        .expect_success();
    assert!(page.text().contains("hello from allowed.test"), "{page}");
}

/// Dialling early must not mean dialling twice: a hello that comes while the dial is under way goes on over it.
#[tokio::test]
async fn one_flow_is_one_connection_towards_the_origin() {
    let lab = Lab::builder().build().unwrap();
    let [server, _] = raw(&lab, 443, &Script::silent());
    // A dial that takes as long as the rule stands: SYNs are seen, and lost.
    let lossy = "table ip syns { set ports { type inet_service; flags dynamic; }; \
                 chain seen { type filter hook prerouting priority -1; \
                 tcp dport 443 tcp flags & (syn | ack) == syn update @ports { tcp sport }; }; \
                 chain lost { type filter hook prerouting priority 0; \
                 tcp dport 443 tcp flags & (syn | ack) == syn drop; }; }";
    lab.net()
        .command("nft")
        .args(["-f", "-"])
        .input(lossy)
        .run()
        .await
        .unwrap()
        .expect_success();
    let _gateway = started(&lab, &block(&["raw.test:443"])).await;
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    let ports = async || {
        let listing = lab
            .net()
            .command("nft")
            .args(["list", "set", "ip", "syns", "ports"])
            .run()
            .await
            .unwrap();
        let elements = listing
            .text()
            .split_once("elements = {")
            .map_or(0, |(_, rest)| rest.split(',').count());
        (elements, listing)
    };
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:443");
    wait_until("the early dial", PATIENCE, async || match ports().await {
        (0, listing) => Err(listing),
        _ => Ok(()),
    })
    .await
    .unwrap();
    let hello = hello::plain("raw.test");
    client.say(&hello);
    lab.net()
        .command("nft")
        .args(["flush", "chain", "ip", "syns", "lost"])
        .run()
        .await
        .unwrap()
        .expect_success();
    received("the hello", &server, &hello).await;
    let (count, listing) = ports().await;
    assert_eq!(count, 1, "one flow, so many source ports: {listing}");
}
