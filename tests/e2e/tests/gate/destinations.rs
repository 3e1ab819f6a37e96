//! The name is checked against the address (invariant 4), and addresses that are never dialled.

use tidegate_e2e::hello::{self, Client, Hello};
use tidegate_e2e::{PATIENCE, block, command, event, flow_event, gateway, run, start, started};
use tidegate_lab::{Lab, Script, Site, TlsMode, plan, wait_until};

#[tokio::test]
async fn d23_n03_a_spoofed_name_towards_a_foreign_address_reaches_the_names_own_site() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "allowed.test:80"])).await;
    let mut events = gateway.events();
    for resolve in [
        "allowed.test:443:203.0.113.66",
        "allowed.test:443:[2001:db8:300::66]",
    ] {
        let line = [
            "curl",
            "-sS",
            "-m",
            "5",
            "--resolve",
            resolve,
            "https://allowed.test/",
        ];
        let page = run(&lab, &line).await.expect_success();
        assert!(page.text().contains("hello from allowed.test"), "{page}");
    }
    let line = [
        "curl",
        "-sS",
        "-m",
        "5",
        "--resolve",
        "allowed.test:80:203.0.113.66",
        "http://allowed.test/",
    ];
    let page = run(&lab, &line).await;
    assert!(page.text().contains("hello from allowed.test"), "{page}");
    for [address, original] in [
        ["192.0.2.10", "203.0.113.66"],
        ["2001:db8:200::10", "2001:db8:300::66"],
    ] {
        let fields = [
            ("kind", "tls"),
            ("original_address", original),
            ("address", address),
            ("verdict", "permit"),
        ];
        event(&mut events, &fields).await;
    }
    event(
        &mut events,
        &[
            ("kind", "http"),
            ("original_address", "203.0.113.66"),
            ("address", "192.0.2.10"),
        ],
    )
    .await;
    for attacker in plan::foreign_site(66) {
        assert!(
            lab.origins().connections_to(attacker).is_empty(),
            "the attacker was dialled"
        );
    }
}

#[tokio::test]
async fn destination_ticket_only_refuses_a_spoofed_name() {
    let lab = Lab::builder().build().unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"])).section("proxy: {destination: ticket-only}");
    let gateway = start(builder).await;
    let line = [
        "curl",
        "-sS",
        "-m",
        "2",
        "--resolve",
        "allowed.test:443:203.0.113.66",
        "https://allowed.test/",
    ];
    run(&lab, &line).await.expect_failure();
    let fields = [
        ("kind", "tls"),
        ("name", "allowed.test"),
        ("verdict", "refuse"),
        ("reason", "unticketed"),
    ];
    event(&mut gateway.events(), &fields).await;
    assert!(
        lab.origins().connections().is_empty(),
        "a refused flow was dialled"
    );
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
}

#[tokio::test]
async fn two_sites_share_an_address_and_one_is_allowed() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["cdn-a.test:443"])).await;
    run(&lab, &["curl", "-sS", "https://cdn-a.test/"])
        .await
        .expect_success();
    for resolve in ["cdn-b.test:443:192.0.2.20", "cdn-b.test:443:[2001:db8:200::20]"] {
        let shared = [
            "curl",
            "-sS",
            "-m",
            "2",
            "--resolve",
            resolve,
            "https://cdn-b.test/",
        ];
        run(&lab, &shared).await.expect_failure();
    }
    let mut events = gateway.events();
    for address in ["192.0.2.20", "2001:db8:200::20"] {
        let fields = [
            ("kind", "tls"),
            ("name", "cdn-b.test"),
            ("address", address),
            ("reason", "not-allowed"),
        ];
        event(&mut events, &fields).await;
    }
    let connections = lab.origins().connections();
    assert!(
        connections
            .iter()
            .all(|one| one.sni.as_deref() != Some("cdn-b.test")),
        "{connections:?}"
    );
}

#[tokio::test]
async fn t65_a_second_hello_with_another_name_is_cut_off() {
    let lab = Lab::builder().build().unwrap();
    lab.add_site(Site::new("retry.test", plan::site(21)).tls(TlsMode::HelloRetry))
        .unwrap();
    let gateway = started(&lab, &block(&["retry.test:443"])).await;
    let mut events = gateway.events();
    // Honest clients get through the retry: a real one, and one with the very hellos of the attack.
    run(&lab, &["curl", "-sS", "https://retry.test/"])
        .await
        .expect_success();
    let first = hello::with_unusable_share("retry.test");
    let honest = hello::exchange(
        lab.runner(0),
        "192.0.2.21:443",
        &first,
        &hello::with_p384_share("retry.test"),
    );
    assert!(honest.retried() && honest.accepted(), "{honest:?}");
    let before = lab.origins().connections().len();
    // Dishonest ones name another site in their second hello, hide it, or name none.
    let p384 = |hello: Hello| hello.share(hello::Group::P384).wire();
    for (what, second) in [
        ("another name", p384(Hello::named("evil.test"))),
        ("no name", p384(Hello::nameless())),
        ("ECH", p384(Hello::named("retry.test").ech(7))),
    ] {
        let mut client = Client::connect(lab.runner(0), "192.0.2.21:443");
        let retried = client.say(&first).hear(hello::Outcome::retried);
        assert!(
            retried.retried(),
            "the site asked for a second hello, {what}: {retried:?}"
        );
        let outcome = client.say(&second).hear_all();
        assert!(
            outcome.closed() && !outcome.accepted(),
            "the gateway closes the flow, {what}: {outcome:?}"
        );
        assert_eq!(outcome.alert(), Some(49), "{what}: {outcome:?}");
        flow_event(
            &mut events,
            &client,
            &[("kind", "tls"), ("verdict", "refuse"), ("reason", "second-hello")],
        )
        .await;
    }
    let seen = lab.origins().connections().split_off(before);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(
        seen.iter()
            .all(|one| one.sni.as_deref() == Some("retry.test") && !one.handshaken),
        "{seen:?}"
    );
}

#[tokio::test]
async fn t66_what_comes_after_silence_is_judged_all_the_same() {
    let lab = Lab::builder().build().unwrap();
    // cdn-a's address is ticketed and allowed, so the gateway dials before the client speaks.
    let gateway = started(&lab, &block(&["cdn-a.test:443", "cdn-a.test:80"])).await;
    let mut events = gateway.events();
    run(&lab, &["curl", "-sS", "https://cdn-a.test/"])
        .await
        .expect_success();
    let open = async |port: u16| {
        let before = lab.origins().connections().len();
        let client = Client::connect(lab.runner(0), &format!("192.0.2.20:{port}"));
        wait_until("the early dial", PATIENCE, async || {
            match lab.origins().connections().len() {
                now if now > before => Ok(()),
                now => Err(now),
            }
        })
        .await
        .unwrap();
        client
    };
    let mut late = open(443).await;
    let outcome = late.say(&hello::plain("cdn-b.test")).hear_all();
    assert_eq!(
        outcome.alert(),
        Some(49),
        "the late hello is refused with an alert: {outcome:?}"
    );
    flow_event(
        &mut events,
        &late,
        &[("kind", "tls"), ("name", "cdn-b.test"), ("reason", "not-allowed")],
    )
    .await;
    let mut late = open(80).await;
    let outcome = late
        .say(b"GET / HTTP/1.1\r\nHost: cdn-b.test\r\n\r\n")
        .hear_words("cdn-b.test:80");
    assert!(outcome.text().starts_with("HTTP/1.1 403 "), "{outcome:?}");
    flow_event(
        &mut events,
        &late,
        &[
            ("kind", "http"),
            ("name", "cdn-b.test"),
            ("reason", "not-allowed"),
        ],
    )
    .await;
    // The allowed name goes on over the connection that was dialled early.
    let mut late = open(443).await;
    let before = lab.origins().connections().len();
    assert!(late.say(&hello::plain("cdn-a.test")).hear_answer().accepted());
    let connections = lab.origins().connections();
    assert_eq!(connections.len(), before, "no second dial");
    assert!(
        connections
            .iter()
            .all(|one| one.sni.as_deref() != Some("cdn-b.test")),
        "{connections:?}"
    );
    assert!(lab.origins().requests_of("cdn-b.test").is_empty());
}

/// T66's other half: the first bytes of a hello, then nothing until the gateway stops to wait, at an address
/// that an endpoint permits whatever it says, except for a name that is refused to everyone.
#[tokio::test]
async fn t66_the_rest_of_a_hello_after_the_timeout_is_judged_too() {
    let lab = Lab::builder().build().unwrap();
    let server = lab
        .raw("192.0.2.80:443".parse().unwrap(), Script::silent())
        .unwrap();
    let builder = gateway(&lab, &block(&["192.0.2.80:443"])).section("proxy: {detect-timeout: 300ms}");
    let builder = builder
        .section("global-block: [block.txt]")
        .file("block.txt", "cdn-b.test\n")
        .unwrap();
    let gateway = start(builder).await;
    let hello = hello::plain("cdn-b.test");
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:443");
    client.say(&hello[..5]);
    wait_until("the gateway to stop waiting", PATIENCE, async || {
        match server.connections() {
            seen if seen.iter().any(|one| one.received == hello[..5]) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await
    .unwrap();
    let outcome = client.say(&hello[5..]).hear_all();
    assert_eq!(outcome.alert(), Some(49), "{outcome:?}");
    let fields = [
        ("name", "cdn-b.test"),
        ("verdict", "refuse"),
        ("reason", "global-block"),
    ];
    flow_event(&mut gateway.events(), &client, &fields).await;
    assert!(
        server.connections().iter().all(|one| one.length <= 5),
        "{:?}",
        server.connections()
    );
}

/// The same where the policy denies names: a flow that does not say whose it is can't show that it is none of
/// them.
#[tokio::test]
async fn a_begun_hello_is_not_permitted_by_address_where_names_are_denied() {
    let lab = Lab::builder().build().unwrap();
    let server = lab
        .raw("192.0.2.80:443".parse().unwrap(), Script::silent())
        .unwrap();
    let policy = block(&["192.0.2.80:443"]) + "denied-endpoints: [cdn-b.test]\n";
    let gateway = start(gateway(&lab, &policy).section("proxy: {detect-timeout: 300ms}")).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.80:443");
    let outcome = client.say(&hello::plain("allowed.test")[..5]).hear_all();
    assert_eq!(outcome.alert(), Some(49), "{outcome:?}");
    flow_event(
        &mut gateway.events(),
        &client,
        &[("verdict", "refuse"), ("reason", "detect-timeout")],
    )
    .await;
    assert!(
        server.connections().iter().all(|one| one.length == 0),
        "{:?}",
        server.connections()
    );
}

/// L14, M01–M07: the gateway's own addresses and metadata in every spelling that a socket takes.
#[tokio::test]
async fn l14_m_own_addresses_and_metadata_in_every_spelling() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, "egress-policy: audit\nplatform: none\n").await;
    let mut events = gateway.events();
    for (host, address) in [
        ("169.254.169.254", "169.254.169.254"),
        ("[::ffff:169.254.169.254]", "169.254.169.254"),
        ("[64:ff9b::a9fe:a9fe]", "64:ff9b::a9fe:a9fe"),
        ("[2002:a9fe:a9fe::1]", "2002:a9fe:a9fe::1"),
        ("[fd00:ec2::254]", "fd00:ec2::254"),
        ("168.63.129.16", "168.63.129.16"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("[64:ff9b::c633:6401]", "64:ff9b::c633:6401"),
        ("[2002:c633:6401::1]", "2002:c633:6401::1"),
        ("[64:ff9b::a4d:101]", "64:ff9b::a4d:101"),
        // Teredo: the client's IPv4 address stands inverted in its last 32 bits.
        ("[2001:0:0:0:0:0:39cc:9bfe]", "2001::39cc:9bfe"),
        ("198.51.100.53", "198.51.100.53"),
        ("240.0.0.1", "240.0.0.1"),
    ] {
        events.forget();
        let url = format!("http://{host}/");
        run(&lab, &["curl", "-sS", "-g", "-m", "2", &url])
            .await
            .expect_failure();
        event(
            &mut events,
            &[
                ("address", address),
                ("reason", "never-dial"),
                ("verdict", "refuse"),
            ],
        )
        .await;
    }
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

/// L14: the gateway's own ports, and whatever else listens on its machine.
#[tokio::test]
async fn l14_the_gateways_own_ports_are_closed_to_runners() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = started(&lab, "egress-policy: audit\nplatform: none\n").await;
    let server = ["-m", "http.server", "2222", "--bind", "::"];
    let server = lab.gw().command("python3").args(server).spawn().unwrap();
    let gets = async |machine: &tidegate_lab::Machine, host: &str, port: u16| {
        let url = format!("http://{host}:{port}/");
        machine
            .command("curl")
            .args(["-sS", "-g", "-m", "1", &url])
            .run()
            .await
            .unwrap()
    };
    wait_until("a server on the gateway's machine", PATIENCE, async || {
        let page = gets(lab.gw(), "10.77.1.1", 2222).await;
        if page.success() {
            Ok(())
        } else {
            Err(format!("{page}; {}", server.stderr()))
        }
    })
    .await
    .unwrap();
    let served = server.stderr();
    for host in [
        "10.77.1.1",
        "198.51.100.1",
        "[::ffff:10.77.1.1]",
        "[fd77:1::1]",
        "[2001:db8:100::1]",
    ] {
        for port in [2222, 7453] {
            let outcome = gets(lab.runner(0), host, port).await;
            assert!(!outcome.success() && outcome.stdout.is_empty(), "{outcome}");
        }
    }
    assert_eq!(server.stderr(), served, "a runner's request arrived");
}

#[tokio::test]
async fn a_name_that_resolves_to_the_gateway_or_to_private_space_is_rebinding() {
    let lab = Lab::builder().build().unwrap();
    lab.dns()
        .set(
            "rebind.test",
            &["A 10.0.0.5", "A 169.254.169.254", "AAAA fd00:ec2::254"],
        )
        .unwrap();
    lab.dns().set("uplink.test", &["A 198.51.100.1"]).unwrap();
    let gateway = started(&lab, &block(&["rebind.test:80", "uplink.test:443"])).await;
    let mut events = gateway.events();
    for qtype in ["A", "AAAA"] {
        let answer = run(&lab, &["dig", "rebind.test", qtype]).await;
        for address in ["10.0.0.5", "169.254.", "fd00:"] {
            assert!(!answer.text().contains(address), "{answer}");
        }
    }
    event(
        &mut events,
        &[("kind", "dns"), ("name", "rebind.test"), ("reason", "rebinding")],
    )
    .await;
    // The address actually dialled counts: the gateway resolves the name itself, and does not dial itself.
    let mut client = Client::connect(lab.runner(0), "203.0.113.66:443");
    let outcome = client.say(&hello::plain("uplink.test")).hear_all();
    assert_eq!(outcome.alert(), Some(49), "{outcome:?}");
    let fields = [
        ("name", "uplink.test"),
        ("verdict", "refuse"),
        ("reason", "never-dial"),
    ];
    flow_event(&mut events, &client, &fields).await;
    assert!(lab.origins().connections().is_empty());
}

#[tokio::test]
async fn a_direct_address_needs_an_address_endpoint() {
    let lab = Lab::builder().build().unwrap();
    let server = lab
        .raw("192.0.2.80:7000".parse().unwrap(), Script::echo())
        .unwrap();
    let gateway = started(&lab, &block(&["192.0.2.80:7000"])).await;
    let mut events = gateway.events();
    let ncat = ["ncat", "-w", "1", "192.0.2.80", "7000"];
    let sent = command(&lab, &ncat).input("ping\n").run().await.unwrap();
    assert!(sent.text().contains("ping"), "{sent}");
    gateway.write("build.yaml", &block(&["192.0.2.81:7000"])).unwrap();
    gateway
        .wait_status("the new policy", |status| status["policy_generation"] == 2)
        .await
        .unwrap();
    let before = server.connections().len();
    command(&lab, &ncat).input("ping\n").run().await.unwrap();
    event(
        &mut events,
        &[
            ("address", "192.0.2.80"),
            ("verdict", "refuse"),
            ("reason", "no-name"),
        ],
    )
    .await;
    assert_eq!(server.connections().len(), before);
}
