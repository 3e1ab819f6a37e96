//! The resolver behind the gate: upstreams by every transport, failover, forward zones, hosts, stale answers,
//! coalescing, truncation; and the same resolver served to runners over TLS and HTTPS.

use tidegate_e2e::dns::{self, Dig, dig, dig_on};
use tidegate_e2e::{PATIENCE, block, event, gateway, run, start, started};
use tidegate_lab::{Behaviour, Gateway, Lab, LoggedQuery, Transport, UdpReply, wait_until};

/// A running gateway of a job that may reach everything below `ok.test`, with these keys in `dns`.
async fn with_dns<'a>(lab: &'a Lab, keys: &[&str]) -> Gateway<'a> {
    let builder = gateway(lab, &block(&["*.ok.test:443", "allowed.test:443"]));
    let builder = builder.file("ca.pem", lab.ca().pem()).unwrap();
    start(keys.iter().fold(builder, |builder, key| builder.dns(key))).await
}

/// What `status` says of the upstream at this place.
fn state_of(status: &serde_json::Value, upstream: usize) -> &str {
    status["upstreams"][upstream]["state"]
        .as_str()
        .unwrap_or("unknown")
}

#[tokio::test]
async fn the_next_upstream_answers_while_the_first_is_down() {
    let lab = Lab::builder().build().unwrap();
    lab.name("*.ok.test", &["192.0.2.10".parse().unwrap()]).unwrap();
    lab.udp("192.0.2.54:53".parse().unwrap(), UdpReply::Silence)
        .unwrap();
    // Nobody listens at the first of these, and the second is silent.
    for first in [
        "192.0.2.53",
        "192.0.2.54",
        "tcp://192.0.2.53",
        "tls://192.0.2.53#dns.lab.test",
    ] {
        let builder = gateway(&lab, &block(&["*.ok.test:443"]))
            .dns(&format!("upstreams: [\"{first}\", 198.51.100.53]"));
        let gateway = start(builder).await;
        for number in 0.. {
            let answer = dig(&lab, &[&format!("n{number}.ok.test")]).await;
            assert_eq!(answer.data(), ["192.0.2.10"], "{first}: {answer}");
            let (code, status) = gateway.status().await.unwrap();
            assert_eq!(state_of(&status, 1), "healthy", "{status}");
            assert_eq!(code, Some(0), "one upstream is enough: {status}");
            if state_of(&status, 0) == "failing" {
                break;
            }
            assert!(number < 20, "{first} still counts as healthy: {status}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_fails_a_name_is_no_answer_and_a_denial_is_one() {
    let lab = Lab::builder().build().unwrap();
    for name in [
        "servfail.ok.test",
        "refused.ok.test",
        "silent.ok.test",
        "denied.ok.test",
    ] {
        lab.name(name, &["192.0.2.10".parse().unwrap()]).unwrap();
    }
    lab.foreign_dns().behave("servfail.ok.test", Behaviour::ServFail);
    lab.foreign_dns().behave("refused.ok.test", Behaviour::Refused);
    lab.foreign_dns().behave("silent.ok.test", Behaviour::Silence);
    lab.foreign_dns().behave("denied.ok.test", Behaviour::NxDomain);
    let _gateway = with_dns(&lab, &["upstreams: [203.0.113.53, 198.51.100.53]"]).await;
    for name in ["servfail.ok.test", "refused.ok.test", "silent.ok.test"] {
        assert_eq!(dig(&lab, &[name]).await.data(), ["192.0.2.10"], "{name}");
    }
    assert_eq!(dig(&lab, &["denied.ok.test"]).await.status, "NXDOMAIN");
    assert!(
        lab.dns().asked("denied.ok.test").is_empty(),
        "NXDOMAIN is an answer"
    );
}

#[tokio::test]
async fn without_any_upstream_names_fail_explained_and_status_says_so_until_one_is_back() {
    let lab = Lab::builder().build().unwrap();
    lab.name("*.ok.test", &["192.0.2.10".parse().unwrap()]).unwrap();
    let gateway = started(&lab, &block(&["*.ok.test:443"])).await;
    lab.dns().set_down(true);
    let mut number = 0;
    loop {
        let answer = dig(&lab, &[&format!("n{number}.ok.test")]).await;
        assert_eq!(answer.status, "SERVFAIL", "{answer}");
        assert!(answer.error.is_some(), "the failure is explained: {answer}");
        let (code, status) = gateway.status().await.unwrap();
        if status["degraded"]
            .to_string()
            .contains("no upstream resolver answers")
        {
            assert_eq!(code, Some(1), "{status}");
            break;
        }
        number += 1;
        assert!(number < 10, "{status}");
    }
    let fields = [
        ("kind", "dns"),
        ("name", "n0.ok.test"),
        ("rcode", "SERVFAIL"),
        ("verdict", "permit"),
    ];
    event(&mut gateway.events(), &fields).await;
    lab.dns().set_down(false);
    let healed = wait_until("an answer again", PATIENCE, async || {
        number += 1;
        let answer = dig(&lab, &[&format!("n{number}.ok.test")]).await;
        if answer.data() == ["192.0.2.10"] {
            Ok(())
        } else {
            Err(answer)
        }
    });
    healed.await.unwrap();
    gateway
        .wait_status("health", |status| status["degraded"] == serde_json::json!([]))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upstream_that_is_back_is_asked_first_again() {
    let lab = Lab::builder().build().unwrap();
    lab.name("*.ok.test", &["192.0.2.10".parse().unwrap()]).unwrap();
    lab.foreign_dns().set("*.ok.test", &["A 192.0.2.20"]).unwrap();
    let _gateway = with_dns(&lab, &["upstreams: [203.0.113.53, 198.51.100.53]"]).await;
    assert_eq!(dig(&lab, &["first.ok.test"]).await.data(), ["192.0.2.20"]);
    lab.foreign_dns().set_down(true);
    for number in 0..4 {
        assert_eq!(
            dig(&lab, &[&format!("down{number}.ok.test")]).await.data(),
            ["192.0.2.10"]
        );
    }
    lab.foreign_dns().set_down(false);
    let mut number = 0;
    let back = wait_until("the first upstream's answers", PATIENCE * 2, async || {
        number += 1;
        let answer = dig(&lab, &[&format!("back{number}.ok.test")]).await;
        if answer.data() == ["192.0.2.20"] {
            Ok(())
        } else {
            Err(answer)
        }
    });
    back.await.unwrap();
}

fn transports(queries: &[LoggedQuery]) -> Vec<Transport> {
    queries.iter().map(|query| query.transport).collect()
}

#[tokio::test]
async fn upstreams_over_tcp_tls_and_https() {
    let lab = Lab::builder().secure_dns().build().unwrap();
    for (upstream, transport) in [
        ("tcp://198.51.100.53", Transport::Tcp),
        ("tcp://[2001:db8:100::53]:53", Transport::Tcp),
        ("tls://198.51.100.53#dns.lab.test", Transport::Tls),
        ("tls://[2001:db8:100::53]:853#dns.lab.test", Transport::Tls),
        ("https://198.51.100.53/dns-query", Transport::Https),
        (
            "https://[2001:db8:100::53]/dns-query#dns.lab.test",
            Transport::Https,
        ),
    ] {
        lab.dns().clear_log();
        let keys = [&format!("upstreams: [\"{upstream}\"]")[..], "upstream-ca: ca.pem"];
        let _gateway = with_dns(&lab, &keys).await;
        run(&lab, &["curl", "-sS", "https://allowed.test/"])
            .await
            .expect_success();
        let asked = lab.dns().asked("allowed.test");
        assert!(!asked.is_empty(), "{upstream}");
        assert!(
            transports(&asked).iter().all(|one| *one == transport),
            "{upstream}: {asked:?}"
        );
        assert!(dig(&lab, &["evil.test"]).await.is_blocked());
        assert!(lab.dns().asked("evil.test").is_empty());
    }
}

#[tokio::test]
async fn an_upstream_with_another_certificate_is_not_asked() {
    let lab = Lab::builder().secure_dns().build().unwrap();
    for keys in [
        &[
            "upstreams: [\"tls://198.51.100.53#other.test\"]",
            "upstream-ca: ca.pem",
        ][..],
        &[
            "upstreams: [\"https://198.51.100.53/dns-query#other.test\"]",
            "upstream-ca: ca.pem",
        ],
    ] {
        let _gateway = with_dns(&lab, keys).await;
        let answer = dig(&lab, &["allowed.test"]).await;
        assert_eq!(answer.status, "SERVFAIL", "{keys:?}: {answer}");
        assert!(lab.dns().log().is_empty(), "{keys:?}: {:?}", lab.dns().log());
    }
}

#[tokio::test]
async fn forward_zones_are_asked_where_they_are_told_and_the_longest_zone_wins() {
    let lab = Lab::builder().build().unwrap();
    for (name, at) in [
        ("corp.ok.test", "192.0.2.20"),
        ("*.corp.ok.test", "192.0.2.20"),
        ("notcorp.ok.test", "192.0.2.20"),
    ] {
        lab.foreign_dns().set(name, &[&format!("A {at}")]).unwrap();
    }
    lab.name("*.ok.test", &["192.0.2.10".parse().unwrap()]).unwrap();
    let zones = "forward: {corp.ok.test: [203.0.113.53], deep.corp.ok.test: [198.51.100.53]}";
    let gateway = with_dns(&lab, &[zones]).await;
    for (name, answer) in [
        ("corp.ok.test", "192.0.2.20"),
        ("db.corp.ok.test", "192.0.2.20"),
        ("db.deep.corp.ok.test", "192.0.2.10"),
        ("notcorp.ok.test", "192.0.2.10"),
        ("other.ok.test", "192.0.2.10"),
    ] {
        assert_eq!(dig(&lab, &[name]).await.data(), [answer], "{name}");
    }
    assert_eq!(
        lab.dns().asked_below("corp.ok.test").len(),
        1,
        "only the deeper zone"
    );
    assert!(dig(&lab, &["db.corp.evil.test"]).await.is_blocked());
    let (_, status) = gateway.status().await.unwrap();
    assert!(
        status["upstreams"].to_string().contains("203.0.113.53"),
        "{status}"
    );
}

#[tokio::test]
async fn a_stale_answer_is_given_while_upstreams_are_down_rfc8767() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().set("allowed.test", &["1 A 192.0.2.10"]).unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    lab.dns().set_down(true);
    let stale = wait_until("the answer to be stale", PATIENCE, async || {
        let answer = dig(&lab, &["allowed.test"]).await;
        assert_eq!(answer.data(), ["192.0.2.10"], "never without an answer: {answer}");
        if answer
            .error
            .as_ref()
            .is_some_and(|error| error.starts_with("3 (Stale Answer)"))
        {
            Ok(answer)
        } else {
            Err(answer)
        }
    });
    let stale: Dig = stale.await.unwrap();
    assert!(stale.answer[0].starts_with("allowed.test. 30 IN A"), "{stale}");
    // A stale answer is ticketed like any other.
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    lab.dns().set("allowed.test", &["1 A 192.0.2.20"]).unwrap();
    lab.dns().set_down(false);
    let fresh = wait_until("a fresh answer", PATIENCE, async || {
        let answer = dig(&lab, &["allowed.test"]).await;
        if answer.data() == ["192.0.2.20"] {
            Ok(())
        } else {
            Err(answer)
        }
    });
    fresh.await.unwrap();
}

#[tokio::test]
async fn identical_queries_in_flight_are_asked_once() {
    const CLIENTS: usize = 24;
    let lab = Lab::builder().build().unwrap();
    let gate = lab.dns().gate("allowed.test");
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let (heard, all_heard) = tokio::sync::oneshot::channel();
    let asking = lab.runner(0).enter_async(move || async move {
        let mut sockets = Vec::new();
        for id in 0..CLIENTS {
            let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
            socket.connect("10.77.1.1:53").await.unwrap();
            socket
                .send(&dns::query(id as u16, "allowed.test", 1))
                .await
                .unwrap();
            // Answered at once: with this the query before it has arrived too.
            socket.send(&dns::query(0xffff, "localhost", 1)).await.unwrap();
            let mut buffer = [0; 1500];
            socket.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..2], [0xff, 0xff]);
            sockets.push(socket);
        }
        heard.send(()).unwrap();
        let mut answered = 0;
        for socket in sockets {
            let mut buffer = [0; 1500];
            let length = socket.recv(&mut buffer).await.unwrap();
            answered += usize::from(dns::Reply(buffer[..length].to_vec()).answers() == 1);
        }
        answered
    });
    let opening = async {
        all_heard.await.unwrap();
        assert_eq!(lab.dns().asked("allowed.test").len(), 1);
        gate.open();
    };
    let answered = tokio::time::timeout(PATIENCE, async { tokio::join!(asking, opening).0 }).await;
    assert_eq!(answered.expect("answers in time").unwrap(), CLIENTS);
    assert_eq!(lab.dns().asked("allowed.test").len(), 1);
}

#[tokio::test]
async fn a_truncated_answer_is_asked_again_by_tcp_rfc7766() {
    let lab = Lab::builder().build().unwrap();
    lab.dns().behave("allowed.test", Behaviour::TruncateUdp);
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    assert_eq!(
        dig(&lab, &["+notcp", "+ignore", "allowed.test"]).await.data(),
        ["192.0.2.10"]
    );
    assert_eq!(
        transports(&lab.dns().asked("allowed.test")),
        [Transport::Udp, Transport::Tcp]
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_a_client_is_truncated_and_given_by_tcp() {
    let lab = Lab::builder().build().unwrap();
    let texts: Vec<String> = (0..40)
        .map(|number| format!("TXT \"{number:03}{}\"", "x".repeat(90)))
        .collect();
    lab.dns()
        .set(
            "allowed.test",
            &texts.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for size in ["+noedns", "+bufsize=512", "+bufsize=4096"] {
        let cut = dig(&lab, &["+notcp", "+ignore", size, "-t", "TXT", "allowed.test"]).await;
        assert!(
            cut.flags.contains(&"tc".to_owned()) && cut.answer.is_empty(),
            "{size}: {cut}"
        );
    }
    let whole = dig(&lab, &["+tcp", "-t", "TXT", "allowed.test"]).await;
    assert_eq!(whole.answer.len(), 40, "{whole}");
}

#[tokio::test]
async fn hosts_are_answered_to_every_job_and_never_upstream() {
    let lab = Lab::builder().runners(2).build().unwrap();
    let gateway = with_dns(
        &lab,
        &["hosts: {agent.example: [192.0.2.10, \"2001:db8:200::10\"]}"],
    )
    .await;
    // Runner 0 has a job that does not list the name, runner 1 has no lease at all.
    for runner in [0, 1] {
        assert_eq!(
            dig_on(&lab, runner, &["agent.example"]).await.data(),
            ["192.0.2.10"]
        );
        assert_eq!(
            dig_on(&lab, runner, &["AAAA", "agent.example"]).await.data(),
            ["2001:db8:200::10"]
        );
        assert!(
            dig_on(&lab, runner, &["-t", "MX", "agent.example"])
                .await
                .is_no_data()
        );
        assert_eq!(
            dig_on(&lab, runner, &["-x", "192.0.2.10"]).await.data(),
            ["agent.example."]
        );
    }
    assert!(lab.dns().log().is_empty(), "{:?}", lab.dns().log());
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("name", "agent.example"), ("verdict", "permit")],
    )
    .await;
}

/// The policy semantics, order of decision 1: upstreams are in the never-dial set, in audit too.
#[tokio::test]
async fn an_upstreams_own_address_is_never_dialled() {
    let lab = Lab::builder().secure_dns().build().unwrap();
    let policy = tidegate_e2e::audit(&[]);
    let builder = gateway(&lab, &policy).file("ca.pem", lab.ca().pem()).unwrap();
    let upstreams =
        "upstreams: [\"https://198.51.100.53/dns-query\", \"tls://[2001:db8:100::53]#dns.lab.test\"]";
    let gateway = start(builder.dns(upstreams).dns("upstream-ca: ca.pem")).await;
    for (target, address) in [
        ("https://198.51.100.53/dns-query", "198.51.100.53"),
        ("https://[2001:db8:100::53]/dns-query", "2001:db8:100::53"),
        ("https://198.51.100.53:853/", "198.51.100.53"),
    ] {
        run(&lab, &["curl", "-sS", "-g", "-m", "3", target])
            .await
            .expect_failure();
        let fields = [
            ("address", address),
            ("reason", "never-dial"),
            ("verdict", "refuse"),
        ];
        event(&mut gateway.events(), &fields).await;
    }
    assert!(lab.dns().log().is_empty(), "{:?}", lab.dns().log());
}

#[tokio::test]
async fn the_gateway_serves_dns_over_tls_and_https_to_runners() {
    let lab = Lab::builder().build().unwrap();
    let builder =
        gateway(&lab, &block(&["allowed.test:443"])).dns("tls: {cert: resolver.pem, key: resolver.key}");
    let files = lab
        .ca()
        .issue_files(
            &lab.dir(),
            "resolver",
            &["resolver.example", "10.77.1.1", "fd77:1::1"],
        )
        .unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let builder = builder.file("resolver.pem", &read(&files.certificate)).unwrap();
    let builder = builder.file("resolver.key", &read(&files.key)).unwrap();
    let gateway = start(builder).await;
    let ca = format!("+tls-ca={}", lab.ca_pem_path().display());
    for (server, transport) in [
        ("@10.77.1.1", "+tls"),
        ("@fd77:1::1", "+tls"),
        ("@10.77.1.1", "+https"),
    ] {
        let answer = dig(&lab, &[&ca, transport, server, "allowed.test"]).await;
        assert_eq!(answer.data(), ["192.0.2.10"], "{server} {transport}: {answer}");
        assert!(
            dig(&lab, &[&ca, transport, server, "evil.test"])
                .await
                .is_blocked(),
            "{server} {transport}"
        );
    }
    // RFC 8484 §4.1.
    for (name, rcode, answers) in [("allowed.test", 0, 1), ("evil.test", 3, 0)] {
        std::fs::write(lab.runner(0).home().join("query"), dns::query(0, name, 1)).unwrap();
        let media = [
            "-H",
            "Content-Type: application/dns-message",
            "-H",
            "Accept: application/dns-message",
        ];
        let post = ["--data-binary", "@query", "https://[fd77:1::1]/dns-query"];
        let posted = run(
            &lab,
            &[&["curl", "-sS", "-g", "--http2"], &media[..], &post].concat(),
        )
        .await
        .expect_success();
        let reply = dns::Reply(posted.stdout.clone());
        assert_eq!(
            (reply.rcode(), reply.answers()),
            (rcode, answers),
            "{name}: {posted}"
        );
    }
    assert!(lab.dns().asked("evil.test").is_empty());
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("name", "evil.test"), ("port", "853")],
    )
    .await;
    event(
        &mut gateway.events(),
        &[("kind", "dns"), ("name", "evil.test"), ("port", "443")],
    )
    .await;
}
