//! Flows without a usable name, and what the first bytes of a flow may be: the rows of "Name and address:
//! what a flow needs" (policy-semantics.md) that no other module names.

use tidegate_e2e::hello::{self, Client, End, Hello};
use tidegate_e2e::{PATIENCE, block, command, event, flow_event, gateway, run, start, started};
use tidegate_lab::{Lab, RawServer, Script, plan, wait_until};

/// Bytes of no protocol that the gateway knows.
const BINARY: &[u8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";
const ACCESS_DENIED: u8 = 49;

/// A scripted server at both addresses of host 80 of the internet, as `raw.test`.
fn raw(lab: &Lab, port: u16, script: &Script) -> [RawServer; 2] {
    lab.name("raw.test", &plan::site(80)).unwrap();
    plan::site(80).map(|address| lab.raw((address, port).into(), script.clone()).unwrap())
}

async fn received(what: &str, server: &RawServer, wanted: &[u8]) {
    wait_until(what, PATIENCE, async || match server.connections() {
        seen if seen.iter().any(|one| one.received == wanted) => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await
    .unwrap();
}

/// Row "any flow to an address that an address endpoint covers".
#[tokio::test]
async fn an_address_endpoint_permits_that_very_address_whatever_the_name() {
    let lab = Lab::builder().build().unwrap();
    let policy = block(&["192.0.2.10:443", "192.0.2.10:80", "[2001:db8:200::10]:443"])
        + "denied-endpoints: [cdn-a.test, \"192.0.2.10:8080\"]\n";
    let builder = gateway(&lab, &policy).section("global-block: [block.txt]");
    let gateway = start(builder.file("block.txt", "cdn-b.test\n").unwrap()).await;
    let mut events = gateway.events();
    for to in ["192.0.2.10:443", "[2001:db8:200::10]:443"] {
        for bytes in [hello::plain("evil.test"), Hello::nameless().wire(), Hello::named("192.0.2.66").wire()] {
            let outcome = hello::send(lab.runner(0), to, &bytes);
            assert!(outcome.accepted(), "{to}: {outcome:?}");
        }
        let own = lab.origins().connections_to(to.parse::<std::net::SocketAddr>().unwrap().ip());
        assert!(own.iter().any(|one| one.sni.as_deref() == Some("evil.test")), "{own:?}");
        for (name, reason) in [("cdn-a.test", "denied"), ("cdn-b.test", "global-block")] {
            let mut client = Client::connect(lab.runner(0), to);
            let outcome = client.say(&hello::plain(name)).hear_all();
            assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{name}: {outcome:?}");
            flow_event(&mut events, &client, &[("name", name), ("verdict", "refuse"), ("reason", reason)]).await;
        }
    }
    let line = ["curl", "-sS", "--resolve", "evil.test:80:192.0.2.10", "http://evil.test/"];
    run(&lab, &line).await.expect_success();
    let requests = lab.origins().requests();
    assert!(requests.iter().all(|one| one.local.ip().to_string() == "192.0.2.10"), "{requests:?}");
    event(&mut events, &[("kind", "http"), ("name", "evil.test"), ("rule", "192.0.2.10:80")]).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.10:8080");
    client.say(b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n").hear_all();
    flow_event(&mut events, &client, &[("verdict", "refuse"), ("reason", "denied")]).await;
    let sni: Vec<_> = lab.origins().connections().into_iter().filter_map(|one| one.sni).collect();
    assert!(!sni.iter().any(|name| name.starts_with("cdn-")), "{sni:?}");
}

/// Row "TLS without SNI".
#[tokio::test]
async fn tls_without_sni_needs_every_ticketed_name_of_the_address_allowed() {
    let lab = Lab::builder().build().unwrap();
    // cdn-b is allowed on another port only: its address may be asked for, its site on 443 may not be reached.
    let gateway = started(&lab, &block(&["cdn-a.test:443", "cdn-b.test:80"])).await;
    let mut events = gateway.events();
    let nameless = Hello::nameless().wire();
    for (qtype, to) in [("A", "192.0.2.20:443"), ("AAAA", "[2001:db8:200::20]:443")] {
        run(&lab, &["dig", "+short", "cdn-a.test", qtype]).await.expect_success();
        let mut client = Client::connect(lab.runner(0), to);
        assert!(client.say(&nameless).hear_answer().accepted(), "{to}");
        client.shut();
        let fields = [("verdict", "permit"), ("name", "cdn-a.test"), ("name_source", "ticket")];
        flow_event(&mut events, &client, &fields).await;
        run(&lab, &["dig", "+short", "cdn-b.test", qtype]).await.expect_success();
        let seen = lab.origins().connections().len();
        let mut client = Client::connect(lab.runner(0), to);
        let outcome = client.say(&nameless).hear_all();
        assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{outcome:?}");
        flow_event(&mut events, &client, &[("verdict", "refuse"), ("reason", "no-name")]).await;
        // The opaque row permits an early dial for cdn-a; the refused hello is not in it.
        let new = lab.origins().connections().split_off(seen);
        assert!(new.iter().all(|one| one.tls_error.is_some() || !one.handshaken), "{new:?}");
    }
}

/// Row "server-first or unknown protocol": a ticket whose name is allowed on that port.
#[tokio::test]
async fn server_first_by_a_ticket() {
    let lab = Lab::builder().build().unwrap();
    let servers = raw(&lab, 25, &Script::reply_to("\r\n", "221 bye\r\n").banner("220 raw.test ESMTP\r\n"));
    let gateway = started(&lab, &block(&["raw.test:25"])).await;
    for (family, server) in ["-4", "-6"].into_iter().zip(&servers) {
        let line = ["ncat", family, "-w", "2", "raw.test", "25"];
        let talk = command(&lab, &line).input("QUIT\r\n").run().await.unwrap();
        assert!(talk.text().contains("220 raw.test") && talk.text().contains("221 bye"), "{talk}");
        received("the client's line", server, b"QUIT\r\n").await;
    }
    let fields = [("kind", "tcp"), ("name", "raw.test"), ("name_source", "ticket"), ("verdict", "permit")];
    event(&mut gateway.events(), &fields).await;
    // The same address on a port for which no name is allowed.
    let other = lab.raw("192.0.2.80:26".parse().unwrap(), Script::silent().banner("220 other\r\n")).unwrap();
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:26");
    let outcome = client.hear_all();
    assert_eq!((outcome.end, outcome.received.len()), (End::Reset, 0), "{outcome:?}");
    flow_event(&mut gateway.events(), &client, &[("port", "26"), ("verdict", "refuse"), ("reason", "silent")]).await;
    assert!(other.connections().is_empty());
}

/// Row "server-first or unknown protocol": an address endpoint.
#[tokio::test]
async fn server_first_by_an_address_endpoint() {
    let lab = Lab::builder().build().unwrap();
    let servers = raw(&lab, 5432, &Script::echo().banner("hello\n"));
    let _gateway = started(&lab, &block(&["192.0.2.0/24:5432", "[2001:db8:200::80]:5432"])).await;
    for (to, server) in ["192.0.2.80:5432", "[2001:db8:200::80]:5432"].into_iter().zip(&servers) {
        let mut client = Client::connect(lab.runner(0), to);
        let greeted = client.hear(|outcome| outcome.received.ends_with(b"\n"));
        assert_eq!(greeted.text(), "hello\n");
        let echoed = client.say(BINARY).hear(|outcome| outcome.received.ends_with(BINARY));
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
    lab.runner(0).set_hosts("192.0.2.80 raw.test\n2001:db8:200::80 raw.test\n").unwrap();
    for (family, server) in ["-4", "-6"].into_iter().zip(&servers) {
        let talk = command(&lab, &["ncat", family, "-w", "2", "raw.test", "22"]).input("hi").run().await.unwrap();
        assert!(talk.text().contains("SSH-2.0-lab"), "{talk}");
        received("the client's bytes", server, b"hi").await;
    }
    assert!(!lab.dns().asked("raw.test").is_empty(), "the gateway asked itself");
    event(&mut events, &[("kind", "tcp"), ("name", "raw.test"), ("verdict", "permit"), ("port", "22")]).await;
    // A client that speaks first, of a protocol without names, is confirmed too.
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:22");
    client.say(b"SSH-2.0-client\r\n").hear(|outcome| !outcome.received.is_empty());
    received("the client's banner", &servers[0], b"SSH-2.0-client\r\n").await;
    // An address that the name does not have is not confirmed.
    let foreign = lab.raw("192.0.2.81:22".parse().unwrap(), Script::silent().banner("SSH-2.0-evil\r\n")).unwrap();
    let mut client = Client::connect(lab.runner(0), "192.0.2.81:22");
    let outcome = client.say(b"SSH-2.0-client\r\n").hear_all();
    assert_eq!((outcome.end, outcome.received.len()), (End::Reset, 0), "{outcome:?}");
    flow_event(&mut events, &client, &[("verdict", "refuse"), ("reason", "no-name")]).await;
    assert!(foreign.connections().is_empty());
    // A wildcard names no host to resolve.
    lab.name("a.wild.test", &plan::site(82)).unwrap();
    let wild = lab.raw("192.0.2.82:23".parse().unwrap(), Script::silent().banner("login: ")).unwrap();
    let mut client = Client::connect(lab.runner(0), "192.0.2.82:23");
    client.say(b"\xff\xfd\x03").hear_all();
    flow_event(&mut events, &client, &[("port", "23"), ("verdict", "refuse"), ("reason", "no-name")]).await;
    assert!(wild.connections().is_empty() && lab.dns().asked_below("wild.test").is_empty());
}

/// Rows "direct to an address that no DNS answer gave" and "private ranges".
#[tokio::test]
async fn private_ranges_need_an_address_endpoint_like_any_other_address() {
    let lab = Lab::builder().build().unwrap();
    lab.net().ip("route add local 10.20.0.0/16 dev lo\nroute add local fd20::/64 dev lo").unwrap();
    let at = |address: &str| lab.raw(address.parse().unwrap(), Script::echo()).unwrap();
    let listed = [at("10.20.0.5:5432"), at("[fd20::5]:5432")];
    let unlisted = [at("10.20.0.5:5433"), at("[fd20::6]:5432")];
    let gateway = started(&lab, &block(&["10.20.0.0/16:5432", "[fd20::5]:5432"])).await;
    let mut events = gateway.events();
    for (to, server) in ["10.20.0.5:5432", "[fd20::5]:5432"].into_iter().zip(&listed) {
        let mut client = Client::connect(lab.runner(0), to);
        let echoed = client.say(BINARY).hear(|outcome| outcome.received == BINARY);
        assert_eq!(echoed.received, BINARY, "{to}: {echoed:?}");
        received("the client's bytes", server, BINARY).await;
    }
    for (to, server) in ["10.20.0.5:5433", "[fd20::6]:5432"].into_iter().zip(&unlisted) {
        let mut client = Client::connect(lab.runner(0), to);
        assert_eq!(client.say(BINARY).hear_all().end, End::Reset, "{to}");
        flow_event(&mut events, &client, &[("kind", "tcp"), ("verdict", "refuse"), ("reason", "no-name")]).await;
        assert!(server.connections().is_empty(), "{to} was dialled");
    }
}

/// Row "client-first bytes on 80, 8000, 8080".
#[tokio::test]
async fn client_first_bytes_on_web_ports_are_tls_or_http() {
    let lab = Lab::builder().build().unwrap();
    let servers = [80, 8000, 8080, 7000].map(|port| raw(&lab, port, &Script::silent())[0].clone());
    let gateway = started(&lab, &block(&["raw.test:80", "raw.test:8000-8080", "raw.test:7000"])).await;
    let mut events = gateway.events();
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    for (port, server) in [80, 8000, 8080].into_iter().zip(&servers) {
        let to = format!("192.0.2.80:{port}");
        let mut client = Client::connect(lab.runner(0), &to);
        assert_eq!(client.say(BINARY).hear_all().end, End::Reset, "{port}");
        flow_event(&mut events, &client, &[("verdict", "refuse"), ("reason", "unknown-protocol")]).await;
        assert!(server.connections().iter().all(|one| one.length == 0), "{:?}", server.connections());
        // H38: TLS there is judged by its name.
        let hello = hello::plain("raw.test");
        let mut client = Client::connect(lab.runner(0), &to);
        client.say(&hello);
        received("TLS on a web port", server, &hello).await;
        let mut client = Client::connect(lab.runner(0), &to);
        let outcome = client.say(&hello::plain("evil.test")).hear_all();
        assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{outcome:?}");
        let mut client = Client::connect(lab.runner(0), &to);
        client.say(b"GET / HTTP/1.1\r\nHost: raw.test\r\n\r\n");
        wait_until("HTTP on a web port", PATIENCE, async || match server.connections() {
            seen if seen.iter().any(|one| one.received.starts_with(b"GET / HTTP/1.1\r\n")) => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await
        .unwrap();
    }
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:7000");
    client.say(BINARY);
    received("the same bytes on another port", &servers[3], BINARY).await;
}

/// "Silence is refused after 800 ms" where the opaque row does not permit.
#[tokio::test]
async fn t64_silence_is_refused_where_no_server_may_speak_first() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for to in ["192.0.2.66:443", "[2001:db8:200::66]:443", "192.0.2.66:22"] {
        let mut client = Client::connect(lab.runner(0), to);
        let outcome = client.hear_all();
        assert!(outcome.closed() && outcome.received.is_empty(), "{to}: {outcome:?}");
        flow_event(&mut gateway.events(), &client, &[("verdict", "refuse"), ("reason", "silent")]).await;
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
        let fields = [("kind", "tls"), ("verdict", "refuse"), ("reason", "detect-timeout")];
        flow_event(&mut events, &client, &fields).await;
    }
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:80");
    let outcome = client.say(b"GET / HTTP/1.1\r\nHost: raw.te").hear_all();
    assert!(outcome.text().starts_with("HTTP/1.1 4"), "{outcome:?}");
    let fields = [("kind", "http"), ("verdict", "refuse"), ("reason", "detect-timeout")];
    flow_event(&mut events, &client, &fields).await;
    let seen: Vec<_> = ports.iter().flat_map(RawServer::connections).collect();
    assert!(seen.iter().all(|one| one.length == 0), "{seen:?}");
}

/// A relay keeps each direction's end apart (RFC 9293 §3.6).
#[tokio::test]
async fn a_half_close_is_preserved_in_both_directions() {
    let lab = Lab::builder().build().unwrap();
    let [late, _] = raw(&lab, 7000, &Script::reply_at_end("the answer after the client's end"));
    let [early, _] = raw(&lab, 7001, &Script::reply_to("hi", "bye").then(tidegate_lab::Ending::HalfClose));
    let _gateway = started(&lab, &block(&["192.0.2.80:7000-7001"])).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:7000");
    let outcome = client.say(BINARY).shut().hear_all();
    assert_eq!(outcome.text(), "the answer after the client's end", "{outcome:?}");
    assert_eq!(outcome.end, End::Closed);
    received("the client's bytes", &late, BINARY).await;
    assert!(late.connections().iter().any(|one| one.ended && one.received == BINARY), "{:?}", late.connections());
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
    lab.gw().ip(&format!("route del default via {}", plan::NEXT_HOP_V6)).unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let client = Client::connect(lab.runner(0), "[2001:db8:200::10]:443");
    assert_eq!(client.port(), 0, "accepted all the same: {client:?}");
    let line = ["curl", "-sS", "-m", "5", "-w", "%{remote_ip}", "https://allowed.test/"];
    let page = run(&lab, &line).await.expect_success();
    assert!(page.text().ends_with("192.0.2.10"), "{page}");
    assert!(lab.origins().connections_to(plan::site(10)[1]).is_empty());
}

/// "`h3` leaves the ALPN hints of HTTPS answers, so that clients use TCP."
#[tokio::test]
async fn h3_leaves_https_answers_and_https_keeps_working() {
    let lab = Lab::builder().build().unwrap();
    let both = ["A 192.0.2.10", "HTTPS 1 . alpn=h3,h2 ipv4hint=192.0.2.10", "HTTPS 2 . alpn=h3"];
    lab.dns().set("allowed.test", &both).unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let answer = run(&lab, &["dig", "+short", "HTTPS", "allowed.test"]).await.expect_success();
    assert!(answer.text().contains("alpn=\"h2\"") && !answer.text().contains("h3"), "{answer}");
    assert!(answer.text().contains("ipv4hint=192.0.2.10"), "{answer}");
    let page = run(&lab, &["curl", "-sS", "--http2", "https://allowed.test/"]).await.expect_success();
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
    lab.net().command("nft").args(["-f", "-"]).input(lossy).run().await.unwrap().expect_success();
    let _gateway = started(&lab, &block(&["raw.test:443"])).await;
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    let ports = async || {
        let listing = lab.net().command("nft").args(["list", "set", "ip", "syns", "ports"]).run().await.unwrap();
        let elements = listing.text().split_once("elements = {").map_or(0, |(_, rest)| rest.split(',').count());
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
    lab.net().command("nft").args(["flush", "chain", "ip", "syns", "lost"]).run().await.unwrap().expect_success();
    received("the hello", &server, &hello).await;
    let (count, listing) = ports().await;
    assert_eq!(count, 1, "one flow, so many source ports: {listing}");
}
