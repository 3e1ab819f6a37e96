//! Several requests on one connection: each is decided anew and goes to its own server.

use tidegate_e2e::hello::Client;
use tidegate_e2e::{PATIENCE, block, event, run, started};
use tidegate_lab::{Lab, wait_until};

use super::{Stage, statuses, unharmed};

#[tokio::test]
async fn h20_a_later_request_with_another_host_is_decided_anew() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80"])).await;
    let part = |host: &'static str| {
        [
            "-sS",
            "-w",
            " %{http_code} %{num_connects}\n",
            "-H",
            host,
            "http://allowed.test/",
        ]
    };
    let mut line = vec!["curl", "-m", "5"];
    line.extend(part("Host: allowed.test"));
    for host in ["Host: evil.test", "Host: allowed.test"] {
        line.push("--next");
        line.extend(part(host));
    }
    let pages = run(&lab, &line).await.expect_success();
    let text = pages.text();
    let ends: Vec<&str> = text
        .lines()
        .filter(|line| line.ends_with(" 0") || line.ends_with(" 1"))
        .collect();
    assert_eq!(
        ends,
        [" 200 1", " 403 0", " 200 0"],
        "one connection, three answers: {pages}"
    );
    assert!(
        text.contains("add this line to allowed-endpoints") && text.contains("evil.test:80"),
        "{pages}"
    );
    let fields = [
        ("kind", "http"),
        ("name", "evil.test"),
        ("reason", "not-allowed"),
        ("verdict", "refuse"),
    ];
    let record = event(&mut gateway.events(), &fields).await;
    assert_eq!(record["name_source"], "host", "{record}");
    unharmed(&lab);
}

#[tokio::test]
async fn each_request_of_a_connection_goes_to_its_own_server() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80", "cdn-a.test:80"])).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
    for (answers, name) in [
        "allowed.test",
        "cdn-a.test",
        "evil.test",
        "cdn-a.test",
        "allowed.test",
    ]
    .iter()
    .enumerate()
    {
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let outcome = client
            .say(request.as_bytes())
            .hear(|outcome| statuses(outcome).len() > answers);
        let status = if *name == "evil.test" { 403 } else { 200 };
        assert_eq!(
            statuses(outcome).get(answers),
            Some(&status),
            "{name}: {outcome:?}"
        );
    }
    let text = client.shut().hear_all().text();
    assert_eq!(text.matches("hello from cdn-a.test").count(), 2, "{text}");
    let to = |address: &str| lab.origins().connections_to(address.parse().unwrap()).len();
    assert!(to("192.0.2.10") >= 1 && to("192.0.2.20") >= 1);
    unharmed(&lab);
    // One event for each (authority, verdict), with how many there were.
    for (name, verdict, count) in [
        ("allowed.test", "permit", "2"),
        ("cdn-a.test", "permit", "2"),
        ("evil.test", "refuse", "1"),
    ] {
        let fields = [
            ("kind", "http"),
            ("name", name),
            ("verdict", verdict),
            ("count", count),
        ];
        event(&mut gateway.events(), &fields).await;
    }
    let record = event(&mut gateway.events(), &[("kind", "http"), ("name", "cdn-a.test")]).await;
    assert_eq!(
        (&record["address"], &record["original_address"]),
        (&"192.0.2.20".into(), &"192.0.2.10".into()),
        "{record}"
    );
}

#[tokio::test]
async fn h21_pipelined_requests_are_judged_one_by_one_and_answered_in_order() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80"])).await;
    let request = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for order in [
        ["allowed.test", "evil.test", "allowed.test"],
        ["evil.test", "allowed.test", "evil.test"],
    ] {
        let all: String = order.iter().map(|host| request(host, "/")).collect();
        let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
        let outcome = client
            .say(all.as_bytes())
            .hear(|outcome| statuses(outcome).len() == 3);
        let wanted = order.map(|host| if host == "evil.test" { 403 } else { 200 });
        assert_eq!(statuses(outcome), wanted, "{outcome:?}");
    }
    event(
        &mut gateway.events(),
        &[("kind", "http"), ("name", "evil.test"), ("verdict", "refuse")],
    )
    .await;
    assert_eq!(lab.origins().requests_of("allowed.test").len(), 3);
    unharmed(&lab);
}

#[tokio::test]
async fn a_body_is_a_body_whatever_it_spells() {
    let lab = Lab::builder().build().unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:80"])).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    let length = hidden.len();
    let posts = [
        format!("POST /echo HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!(
            "POST /echo HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"
        ),
    ];
    for post in posts {
        let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
        let outcome = client.say(post.as_bytes()).shut().hear_all();
        assert!(
            outcome.text().contains(hidden),
            "the echo of the body: {outcome:?}"
        );
        assert_eq!(statuses(outcome)[0], 200);
    }
    assert!(
        lab.origins()
            .requests()
            .iter()
            .all(|request| request.path == "/echo")
    );
    unharmed(&lab);
}

#[tokio::test]
async fn h26_a_websocket_is_judged_by_its_request_and_then_carries_anything() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:80"])).await;
    let upgrade = |host: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    };
    let mut client = Client::connect(lab.runner(0), "192.0.2.10:80");
    let opened = client
        .say(upgrade("allowed.test").as_bytes())
        .hear(|outcome| outcome.text().contains("\r\n\r\n"));
    assert!(opened.text().starts_with("HTTP/1.1 101"), "{opened:?}");
    client.say(b"\x81\x05hello\0\xff GET / HTTP/1.1");
    let echoed = client.hear(|outcome| outcome.received.ends_with(b"\x81\x05hello\0\xff GET / HTTP/1.1"));
    assert!(!echoed.closed(), "{echoed:?}");
    let refused = Client::connect(lab.runner(0), "192.0.2.10:80")
        .say(upgrade("evil.test").as_bytes())
        .hear(|outcome| !statuses(outcome).is_empty())
        .clone();
    assert_eq!(statuses(&refused), [403], "{refused:?}");
    event(
        &mut gateway.events(),
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    unharmed(&lab);
}

/// H34: routed by nobody here, so it passes, and the event says that it was there.
#[tokio::test]
async fn h34_x_forwarded_host_passes_untouched_and_is_noted() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, 80).await;
    let outcome = stage.ask(
        "GET / HTTP/1.1\r\nHost: raw.test\r\nX-Forwarded-Host: evil.test\r\nConnection: close\r\n\r\n",
        1,
    );
    assert_eq!(statuses(&outcome), [200], "{outcome:?}");
    stage.receives("evil.test").await;
    assert!(
        stage
            .received()
            .to_ascii_lowercase()
            .contains("x-forwarded-host: evil.test"),
        "{}",
        stage.received()
    );
    let record = event(
        &mut stage.events,
        &[("kind", "http"), ("name", "raw.test"), ("verdict", "permit")],
    )
    .await;
    assert!(
        record["note"]
            .as_str()
            .is_some_and(|note| note.contains("X-Forwarded-Host names evil.test")),
        "{record}"
    );
}

#[tokio::test]
async fn a_host_that_names_another_port_is_noted_and_the_flows_port_decides() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, 80).await;
    let outcome = stage.ask(
        "GET / HTTP/1.1\r\nHost: raw.test:8443\r\nConnection: close\r\n\r\n",
        1,
    );
    assert_eq!(statuses(&outcome), [200], "{outcome:?}");
    let record = event(
        &mut stage.events,
        &[("kind", "http"), ("name", "raw.test"), ("port", "80")],
    )
    .await;
    assert_eq!(record["note"], "Host names port 8443", "{record}");
}

/// What is allowed works like without a gateway: bodies in both directions, trailers, HEAD, 100 Continue.
#[tokio::test]
async fn real_clients_see_no_difference() {
    let lab = Lab::builder().direct().build().unwrap();
    let _gateway = started(&lab, &block(&["allowed.test:80", "allowed.test:8080"])).await;
    let body = "x".repeat(300_000);
    std::fs::write(lab.runner(0).home().join("body"), &body).unwrap();
    std::fs::write(lab.direct().home().join("body"), &body).unwrap();
    for line in [
        &["curl", "-sS", "http://allowed.test/headers"][..],
        &["curl", "-sS", "-6", "http://allowed.test:8080/"],
        &["curl", "-sSI", "http://allowed.test/bytes/100"],
        &["curl", "-sS", "--raw", "http://allowed.test/trailers"],
        &["curl", "-sS", "http://allowed.test/bytes/1000000"],
        &[
            "curl",
            "-sS",
            "--data-binary",
            "@body",
            "http://allowed.test/echo",
        ],
        &[
            "curl",
            "-sS",
            "-T",
            "body",
            "-H",
            "Expect: 100-continue",
            "http://allowed.test/echo",
        ],
        &["curl", "-sS", "-T", "-", "http://allowed.test/echo"],
        &[
            "curl",
            "-sS",
            "-w",
            "%{http_code}",
            "http://allowed.test/status/404",
        ],
        &[
            "curl",
            "-sS",
            "-w",
            "%{http_code} %{redirect_url}",
            "http://allowed.test/redirect?to=http://allowed.test/",
        ],
        &["curl", "-sS", "--http1.0", "http://allowed.test/"],
    ] {
        let through = run(&lab, line).await.expect_success();
        let (program, args) = line.split_first().unwrap();
        let direct = lab
            .direct()
            .command(program)
            .args(args)
            .run()
            .await
            .unwrap()
            .expect_success();
        let stable = |text: &str| {
            text.lines()
                .filter(|line| !line.starts_with("date:"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert!(
            stable(&through.text()) == stable(&direct.text()),
            "{line:?}: {through}\ndirect: {direct}"
        );
    }
}

#[tokio::test]
async fn h35_h36_a_late_or_slow_host_is_judged_and_a_head_without_end_is_431() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, 80).await;
    let line = |number: u32| format!("X-Pad-{number}: {}\r\n", "p".repeat(1_000));
    let padding = (0..20).map(line).collect::<Vec<_>>().concat();
    let late = |host: &str| format!("GET / HTTP/1.1\r\n{padding}Host: {host}\r\n\r\n");
    assert_eq!(statuses(&stage.ask(late("raw.test"), 1)), [200]);
    assert_eq!(statuses(&stage.ask(late("evil.test"), 1)), [403]);
    event(
        &mut stage.events,
        &[("kind", "http"), ("name", "evil.test"), ("reason", "not-allowed")],
    )
    .await;
    let endless = format!(
        "GET / HTTP/1.1\r\nHost: raw.test\r\nX-Pad: {}",
        "p".repeat(70_000)
    );
    assert_eq!(statuses(&stage.ask(endless, 1)), [431]);
    event(
        &mut stage.events,
        &[
            ("kind", "http"),
            ("reason", "malformed-http"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    for (host, status) in [("raw.test", 200), ("evil.test", 403)] {
        let slow = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let octets: Vec<&[u8]> = slow.as_bytes().chunks(1).collect();
        let mut client = stage.client();
        let outcome = client
            .say_apart(lab.net(), &octets)
            .hear(|outcome| !statuses(outcome).is_empty());
        assert_eq!(statuses(outcome), [status], "{host}: {outcome:?}");
    }
    assert!(!stage.received().contains("evil.test"), "{}", stage.received());
    let settled = wait_until("both good requests", PATIENCE, async || {
        let all = stage.received();
        if all.matches("GET / ").count() == 2 {
            Ok(())
        } else {
            Err(all)
        }
    });
    settled.await.unwrap();
}
