//! The name is checked against the address (invariant 4), and addresses that are never dialled.

use tidegate_e2e::{PATIENCE, block, event, gateway, run, start, started};
use tidegate_lab::{Lab, Script, Site, TlsMode, plan, wait_until};

#[tokio::test]
async fn d23_n03_a_spoofed_name_towards_a_foreign_address_reaches_the_names_own_site() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "allowed.test:80"])).await;
    for resolve in ["allowed.test:443:203.0.113.66", "allowed.test:443:[2001:db8:300::66]"] {
        let page = run(&lab, &["curl", "-sS", "-m", "5", "--resolve", resolve, "https://allowed.test/"]).await.expect_success();
        assert!(page.text().contains("hello from allowed.test"), "{page}");
    }
    let page = run(&lab, &["curl", "-sS", "-m", "5", "--resolve", "allowed.test:80:203.0.113.66", "http://allowed.test/"]).await;
    assert!(page.text().contains("hello from allowed.test"), "{page}");
    assert!(lab.origins().connections_to("203.0.113.66".parse().unwrap()).is_empty(), "the attacker was dialled");
    let fields = [("kind", "tls"), ("original_address", "203.0.113.66"), ("address", "192.0.2.10")];
    event(&mut gateway.events(), &fields).await;
}

#[tokio::test]
async fn destination_ticket_only_refuses_a_spoofed_name() {
    let lab = Lab::builder().build().unwrap();
    let builder = gateway(&lab, &block(&["allowed.test:443"])).section("proxy: {destination: ticket-only}");
    let gateway = start(builder).await;
    let line = ["curl", "-sS", "-m", "2", "--resolve", "allowed.test:443:203.0.113.66", "https://allowed.test/"];
    run(&lab, &line).await.expect_failure();
    event(&mut gateway.events(), &[("kind", "tls"), ("reason", "unticketed")]).await;
    run(&lab, &["curl", "-sS", "https://allowed.test/"]).await.expect_success();
}

#[tokio::test]
async fn two_sites_share_an_address_and_one_is_allowed() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["cdn-a.test:443"])).await;
    run(&lab, &["curl", "-sS", "https://cdn-a.test/"]).await.expect_success();
    let shared = ["curl", "-sS", "-m", "2", "--resolve", "cdn-b.test:443:192.0.2.20", "https://cdn-b.test/"];
    run(&lab, &shared).await.expect_failure();
    event(&mut gateway.events(), &[("name", "cdn-b.test"), ("reason", "not-allowed")]).await;
    assert!(lab.origins().requests().iter().all(|request| request.sni.as_deref() == Some("cdn-a.test")));
}

#[tokio::test]
async fn t65_a_second_hello_with_another_name_is_cut_off() {
    let lab = Lab::builder().build().unwrap();
    lab.add_site(Site::new("retry.test", plan::site(21)).tls(TlsMode::HelloRetry)).unwrap();
    let gateway = started(&lab, &block(&["retry.test:443"])).await;
    // An honest client gets through the retry.
    run(&lab, &["curl", "-sS", "https://retry.test/"]).await.expect_success();
    // A dishonest one names another site in its second hello.
    let hello = tidegate_e2e::hello::with_unusable_share("retry.test");
    let second = tidegate_e2e::hello::with_p384_share("evil.test");
    let outcome = lab
        .runner(0)
        .enter(move || tidegate_e2e::hello::exchange("192.0.2.21:443", &hello, &second))
        .unwrap();
    assert!(outcome.retried, "the site asked for a second hello: {outcome:?}");
    assert!(outcome.closed, "the gateway closes the flow: {outcome:?}");
    event(&mut gateway.events(), &[("kind", "tls"), ("reason", "second-hello")]).await;
    let seen = lab.origins().connections_to("192.0.2.21".parse().unwrap());
    assert_eq!(seen.iter().filter(|one| one.handshaken).count(), 1, "{seen:?}");
}

#[tokio::test]
async fn t66_silence_and_then_a_hello_for_a_name_that_is_not_allowed() {
    let lab = Lab::builder().build().unwrap();
    // cdn-a's address is ticketed and allowed, so the gateway dials before the client speaks.
    let gateway = started(&lab, &block(&["cdn-a.test:443"])).await;
    run(&lab, &["curl", "-sS", "https://cdn-a.test/"]).await.expect_success();
    let dialled = lab.origins().connections().len();
    let hello = tidegate_e2e::hello::plain("cdn-b.test");
    let (open, opened) = std::sync::mpsc::sync_channel(1);
    let (speak, spoken) = std::sync::mpsc::sync_channel::<()>(1);
    let runner = lab.runner(0);
    let outcome = std::thread::scope(|scope| {
        let flow = scope.spawn(move || {
            runner.enter(move || tidegate_e2e::hello::late("192.0.2.20:443", &hello, &open, &spoken)).unwrap()
        });
        opened.recv_timeout(PATIENCE).expect("the flow is open");
        let waited = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(wait_until("the early dial", PATIENCE, async || {
                let now = lab.origins().connections().len();
                if now > dialled { Ok(()) } else { Err(now) }
            }))
        });
        speak.send(()).unwrap();
        waited.unwrap();
        flow.join().unwrap()
    });
    assert!(outcome.alert, "the late hello is refused with an alert: {outcome:?}");
    event(&mut gateway.events(), &[("name", "cdn-b.test"), ("reason", "not-allowed")]).await;
    assert!(lab.origins().connections().iter().all(|one| one.sni.as_deref() != Some("cdn-b.test")));
}

/// L14, M01–M07: the gateway's own addresses and metadata in every spelling that a socket takes.
#[tokio::test]
async fn l14_m_own_addresses_and_metadata_in_every_spelling() {
    let lab = Lab::builder().build().unwrap();
    let policy = "egress-policy: audit\nplatform: none\n";
    let gateway = started(&lab, policy).await;
    let mut events = gateway.events();
    for (host, address) in [
        ("169.254.169.254", "169.254.169.254"),
        ("[::ffff:169.254.169.254]", "169.254.169.254"),
        ("[64:ff9b::a9fe:a9fe]", "64:ff9b::a9fe:a9fe"),
        ("[2002:a9fe:a9fe::1]", "2002:a9fe:a9fe::1"),
        ("[fd00:ec2::254]", "fd00:ec2::254"),
        ("168.63.129.16", "168.63.129.16"),
        ("[64:ff9b::c633:6401]", "64:ff9b::c633:6401"),
    ] {
        let url = format!("http://{host}/");
        run(&lab, &["curl", "-sS", "-g", "-m", "1", &url]).await.expect_failure();
        event(&mut events, &[("address", address), ("reason", "never-dial"), ("verdict", "refuse")]).await;
    }
    // The gateway's own addresses are not diverted: closed by the input hook.
    for target in ["10.77.1.1:22", "10.77.1.1:7453", "10.77.1.1:9464", "198.51.100.1:22", "198.51.100.1:9464"] {
        let url = format!("http://{target}/");
        run(&lab, &["curl", "-sS", "-m", "1", &url]).await.expect_failure();
    }
    let url = "http://[fd77:1::1]:7453/";
    run(&lab, &["curl", "-sS", "-g", "-m", "1", url]).await.expect_failure();
}

#[tokio::test]
async fn a_name_that_resolves_to_the_gateway_or_to_private_space_is_rebinding() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().set("rebind.test", &["A 10.0.0.5", "A 169.254.169.254", "AAAA fd00:ec2::254"]).unwrap();
    lab.dns().set("uplink.test", &["A 198.51.100.1"]).unwrap();
    let gateway = started(&lab, &block(&["rebind.test:80", "uplink.test:9464"])).await;
    let mut events = gateway.events();
    let answer = run(&lab, &["dig", "rebind.test"]).await;
    assert!(!answer.text().contains("10.0.0.5") && !answer.text().contains("169.254"), "{answer}");
    event(&mut events, &[("kind", "dns"), ("name", "rebind.test"), ("reason", "rebinding")]).await;
    run(&lab, &["curl", "-sS", "-m", "1", "http://uplink.test:9464/metrics"]).await.expect_failure();
}

#[tokio::test]
async fn a_direct_address_needs_an_address_endpoint() {
    let lab = Lab::builder().build().unwrap();
    let server = lab.raw("192.0.2.80:7000".parse().unwrap(), Script::echo()).unwrap();
    let gateway = started(&lab, &block(&["192.0.2.80:7000"])).await;
    let sent = tidegate_e2e::command(&lab, &["ncat", "-w", "1", "192.0.2.80", "7000"]).input("ping\n").run().await.unwrap();
    assert!(sent.text().contains("ping"), "{sent}");
    gateway.write("build.yaml", &block(&["192.0.2.81:7000"])).unwrap();
    gateway.wait_status("the new policy", |status| status["policy_generation"] == 2).await.unwrap();
    let before = server.connections().len();
    tidegate_e2e::command(&lab, &["ncat", "-w", "1", "192.0.2.80", "7000"]).input("ping\n").run().await.unwrap();
    event(&mut gateway.events(), &[("address", "192.0.2.80"), ("verdict", "refuse"), ("reason", "no-name")]).await;
    assert_eq!(server.connections().len(), before);
}
