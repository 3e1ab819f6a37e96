//! Flows without a usable name, and what the first bytes of a flow may be: the rows of "Name and address:
//! what a flow needs" (policy-semantics.md) that no other module names.

mod life;
mod server_first;

use tidegate_e2e::hello::{self, Client, End, Hello};
use tidegate_e2e::{PATIENCE, block, event, flow_event, gateway, run, start, started};
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
        for bytes in [
            hello::plain("evil.test"),
            Hello::nameless().wire(),
            Hello::named("192.0.2.66").wire(),
        ] {
            let outcome = hello::send(lab.runner(0), to, &bytes);
            assert!(outcome.accepted(), "{to}: {outcome:?}");
        }
        let own = lab
            .origins()
            .connections_to(to.parse::<std::net::SocketAddr>().unwrap().ip());
        assert!(
            own.iter().any(|one| one.sni.as_deref() == Some("evil.test")),
            "{own:?}"
        );
        for (name, reason) in [("cdn-a.test", "denied"), ("cdn-b.test", "global-block")] {
            let mut client = Client::connect(lab.runner(0), to);
            let outcome = client.say(&hello::plain(name)).hear_all();
            assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{name}: {outcome:?}");
            flow_event(
                &mut events,
                &client,
                &[("name", name), ("verdict", "refuse"), ("reason", reason)],
            )
            .await;
        }
    }
    let line = [
        "curl",
        "-sS",
        "--resolve",
        "evil.test:80:192.0.2.10",
        "http://evil.test/",
    ];
    run(&lab, &line).await.expect_success();
    let requests = lab.origins().requests();
    assert!(
        requests
            .iter()
            .all(|one| one.local.ip().to_string() == "192.0.2.10"),
        "{requests:?}"
    );
    event(
        &mut events,
        &[("kind", "http"), ("name", "evil.test"), ("rule", "192.0.2.10:80")],
    )
    .await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.10:8080");
    client
        .say(b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        .hear_words("denied");
    flow_event(
        &mut events,
        &client,
        &[("verdict", "refuse"), ("reason", "denied")],
    )
    .await;
    let sni: Vec<_> = lab
        .origins()
        .connections()
        .into_iter()
        .filter_map(|one| one.sni)
        .collect();
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
        run(&lab, &["dig", "+short", "cdn-a.test", qtype])
            .await
            .expect_success();
        let mut client = Client::connect(lab.runner(0), to);
        assert!(client.say(&nameless).hear_answer().accepted(), "{to}");
        client.shut();
        let fields = [
            ("verdict", "permit"),
            ("name", "cdn-a.test"),
            ("name_source", "ticket"),
        ];
        flow_event(&mut events, &client, &fields).await;
        run(&lab, &["dig", "+short", "cdn-b.test", qtype])
            .await
            .expect_success();
        let seen = lab.origins().connections().len();
        let mut client = Client::connect(lab.runner(0), to);
        let outcome = client.say(&nameless).hear_all();
        assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{outcome:?}");
        flow_event(
            &mut events,
            &client,
            &[("verdict", "refuse"), ("reason", "no-name")],
        )
        .await;
        // The opaque row permits an early dial for cdn-a; the refused hello is not in it.
        let new = lab.origins().connections().split_off(seen);
        assert!(
            new.iter().all(|one| one.tls_error.is_some() || !one.handshaken),
            "{new:?}"
        );
    }
}

/// Rows "direct to an address that no DNS answer gave" and "private ranges".
#[tokio::test]
async fn private_ranges_need_an_address_endpoint_like_any_other_address() {
    let lab = Lab::builder().build().unwrap();
    lab.net()
        .ip("route add local 10.20.0.0/16 dev lo\nroute add local fd20::/64 dev lo")
        .unwrap();
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
        flow_event(
            &mut events,
            &client,
            &[("kind", "tcp"), ("verdict", "refuse"), ("reason", "no-name")],
        )
        .await;
        assert!(server.connections().is_empty(), "{to} was dialled");
    }
}

/// Row "client-first bytes on 80, 8000, 8080".
#[tokio::test]
async fn client_first_bytes_on_web_ports_are_tls_or_http() {
    let lab = Lab::builder().build().unwrap();
    let servers = [80, 8000, 8080, 7000].map(|port| raw(&lab, port, &Script::silent())[0].clone());
    let gateway = started(
        &lab,
        &block(&["raw.test:80", "raw.test:8000-8080", "raw.test:7000"]),
    )
    .await;
    let mut events = gateway.events();
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    for (port, server) in [80, 8000, 8080].into_iter().zip(&servers) {
        let to = format!("192.0.2.80:{port}");
        let mut client = Client::connect(lab.runner(0), &to);
        assert_eq!(client.say(BINARY).hear_all().end, End::Reset, "{port}");
        flow_event(
            &mut events,
            &client,
            &[("verdict", "refuse"), ("reason", "unknown-protocol")],
        )
        .await;
        assert!(
            server.connections().iter().all(|one| one.length == 0),
            "{:?}",
            server.connections()
        );
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
        wait_until("HTTP on a web port", PATIENCE, async || {
            match server.connections() {
                seen if seen
                    .iter()
                    .any(|one| one.received.starts_with(b"GET / HTTP/1.1\r\n")) =>
                {
                    Ok(())
                }
                seen => Err(format!("{seen:?}")),
            }
        })
        .await
        .unwrap();
    }
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:7000");
    client.say(BINARY);
    received("the same bytes on another port", &servers[3], BINARY).await;
}
