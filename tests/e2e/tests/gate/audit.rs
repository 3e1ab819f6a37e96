//! Audit is inert (invariant 6): nothing observable changes, `would-refuse` is recorded, and the few documented
//! exceptions hold.

use tidegate_e2e::{audit, event, gateway, run, start, started};
use tidegate_lab::{Lab, Script, UdpReply};

#[tokio::test]
async fn names_that_block_would_refuse_work_and_are_recorded() {
    let lab = Lab::builder().direct().build().unwrap();
    let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
    let mut events = gateway.events();
    for line in [
        &["curl", "-sS", "-4", "https://evil.test/"][..],
        &["curl", "-sS", "-6", "https://evil.test/"],
        &["curl", "-sS", "--http2", "https://evil.test/headers"],
        &["curl", "-sS", "http://evil.test/"],
        &["dig", "+noall", "+answer", "@203.0.113.53", "evil.test"],
        &["dig", "+noall", "+answer", "+tcp", "@203.0.113.53", "evil.test"],
        &["dig", "+short", "TXT", "evil.test"],
    ] {
        let (through, direct) = (run(&lab, line).await, direct(&lab, line).await);
        assert_eq!(
            stable(&through.text()),
            stable(&direct.text()),
            "{line:?}: {through}"
        );
        assert_eq!(through.code(), direct.code(), "{line:?}: {through}");
    }
    for kind in ["dns", "tls", "http"] {
        let fields = [
            ("kind", kind),
            ("name", "evil.test"),
            ("verdict", "would-refuse"),
            ("mode", "audit"),
        ];
        event(&mut events, &fields).await;
    }
    event(
        &mut events,
        &[
            ("kind", "dns"),
            ("address", "203.0.113.53"),
            ("verdict", "would-refuse"),
        ],
    )
    .await;
    assert!(
        !lab.foreign_dns().asked("evil.test").is_empty(),
        "the foreign resolver was asked itself"
    );
}

async fn direct(lab: &Lab, line: &[&str]) -> tidegate_lab::Output {
    let (program, args) = line.split_first().unwrap();
    lab.direct().command(program).args(args).run().await.unwrap()
}

/// Without what differs between two runs of the same command: TTLs.
fn stable(text: &str) -> String {
    let number = |word: &&str| word.parse::<u32>().is_err();
    text.lines()
        .map(|line| {
            line.split_whitespace()
                .filter(number)
                .collect::<Vec<_>>()
                .join(" ")
                + "\n"
        })
        .collect()
}

#[tokio::test]
async fn a_spoofed_name_keeps_the_address_that_the_client_chose() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &audit(&["allowed.test:443"])).await;
    let line = [
        "curl",
        "-ksS",
        "-m",
        "5",
        "--resolve",
        "allowed.test:443:203.0.113.66",
        "https://allowed.test/",
    ];
    run(&lab, &line).await;
    assert!(
        !lab.origins()
            .connections_to("203.0.113.66".parse().unwrap())
            .is_empty(),
        "the client's choice counts"
    );
    event(
        &mut gateway.events(),
        &[("kind", "tls"), ("address", "203.0.113.66")],
    )
    .await;
}

#[tokio::test]
async fn raw_tcp_and_udp_pass_untouched() {
    let lab = Lab::builder().build().unwrap();
    let tcp = lab
        .raw("192.0.2.80:7000".parse().unwrap(), Script::echo())
        .unwrap();
    let udp = lab
        .udp("192.0.2.80:443".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let gateway = started(&lab, &audit(&[])).await;
    let sent = tidegate_e2e::command(&lab, &["ncat", "-w", "1", "192.0.2.80", "7000"])
        .input("\u{1}\u{2}raw\n")
        .run()
        .await
        .unwrap();
    assert!(sent.text().contains("raw"), "{sent}");
    assert!(tcp.connections()[0].received.starts_with(b"\x01\x02raw"));
    let sent = tidegate_e2e::command(&lab, &["socat", "-t", "1", "-", "UDP:192.0.2.80:443"])
        .input("datagram")
        .run()
        .await
        .unwrap();
    assert!(sent.text().contains("datagram"), "{sent}");
    assert_eq!(udp.received().len(), 1);
    let mut events = gateway.events();
    event(
        &mut events,
        &[
            ("kind", "tcp"),
            ("address", "192.0.2.80"),
            ("verdict", "would-refuse"),
        ],
    )
    .await;
    event(
        &mut events,
        &[
            ("address", "192.0.2.80"),
            ("port", "443"),
            ("verdict", "would-refuse"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_global_block_list_holds_in_audit_too() {
    let lab = Lab::builder().build().unwrap();
    let builder = gateway(&lab, &audit(&["evil.test:443"])).section("global-block: [block.txt]");
    let builder = builder
        .file("block.txt", "evil.test\n*.evil.test\n192.0.2.20/31\n")
        .unwrap();
    let gateway = start(builder).await;
    let mut events = gateway.events();
    let refused = run(&lab, &["dig", "evil.test"]).await;
    assert!(
        refused.text().contains("NXDOMAIN") && refused.text().contains("EDE: 15"),
        "{refused}"
    );
    event(
        &mut events,
        &[
            ("kind", "dns"),
            ("name", "evil.test"),
            ("reason", "global-block"),
            ("verdict", "refuse"),
        ],
    )
    .await;
    let spoofed = [
        "curl",
        "-sS",
        "-m",
        "2",
        "--resolve",
        "evil.test:443:192.0.2.66",
        "https://evil.test/",
    ];
    run(&lab, &spoofed).await.expect_failure();
    event(
        &mut events,
        &[("kind", "tls"), ("name", "evil.test"), ("reason", "global-block")],
    )
    .await;
    run(
        &lab,
        &[
            "curl",
            "-sS",
            "-m",
            "2",
            "--resolve",
            "cdn-a.test:443:192.0.2.20",
            "https://cdn-a.test/",
        ],
    )
    .await
    .expect_failure();
    event(
        &mut events,
        &[
            ("address", "192.0.2.20"),
            ("reason", "global-block"),
            ("rule", "192.0.2.20/31"),
        ],
    )
    .await;
    assert!(lab.dns().asked("evil.test").is_empty());
}

/// Every client of the clients suite under a policy that allows nothing: all of them work as if there were no
/// gateway, and each flow is recorded.
#[tokio::test]
async fn every_client_works_under_an_empty_audit_policy() {
    let lab = Lab::builder().git().ssh().index().postgres().build().unwrap();
    lab.raw(
        "192.0.2.80:7000".parse().unwrap(),
        Script::echo().then(tidegate_lab::Ending::Close),
    )
    .unwrap();
    let gateway = started(&lab, &audit(&[])).await;
    let mut events = gateway.events();
    let (https, ssh, index, ca) = (
        lab.git_https_url(),
        lab.git_ssh_url(),
        lab.index_url(),
        lab.ca_pem_path().display().to_string(),
    );
    let fetch = "import urllib.request; urllib.request.urlopen('https://allowed.test/')";
    let pip = [
        "python3",
        "-m",
        "pip",
        "--cert",
        &ca,
        "download",
        "-q",
        "--no-deps",
        "--index-url",
        &index,
    ];
    for line in [
        &["git", "clone", "-q", &https, "by-https"][..],
        &["git", "clone", "-q", &ssh, "by-ssh"],
        &["python3", "-c", fetch],
        &[&pip[..], &["-d", "wheels", "tidegate-lab-demo"]].concat(),
        &["psql", "-h", "db.test", "-U", "postgres", "-tAc", "select 1"],
    ] {
        run(&lab, line).await.expect_success();
    }
    let bare = [
        "openssl",
        "s_client",
        "-connect",
        "192.0.2.10:443",
        "-noservername",
    ];
    assert!(run(&lab, &bare).await.text().contains("BEGIN CERTIFICATE"));
    for (name, port) in [
        ("git.test", "443"),
        ("git.test", "22"),
        ("allowed.test", "443"),
        ("index.test", "443"),
        ("db.test", "5432"),
    ] {
        event(
            &mut events,
            &[("name", name), ("port", port), ("verdict", "would-refuse")],
        )
        .await;
    }
    assert!(
        events.matching(|event| event["verdict"] == "refuse").is_empty(),
        "audit refused something"
    );
}

/// A tunnel that stays open is told of while it is open, as one verdict however often its bytes are told.
#[tokio::test]
async fn what_audit_lets_through_is_told_while_the_flow_is_open() {
    use std::io::Write;
    let lab = Lab::builder().build().unwrap();
    lab.raw("192.0.2.80:7000".parse().unwrap(), Script::echo())
        .unwrap();
    let gateway = started(&lab, &audit(&[])).await;
    let mut events = gateway.events();
    let connect = || std::net::TcpStream::connect("192.0.2.80:7000").unwrap();
    let mut tunnel = lab.runner(0).enter(connect).unwrap();
    tunnel.write_all(b"\x01first").unwrap();
    let told = event(
        &mut events,
        &[("address", "192.0.2.80"), ("verdict", "would-refuse")],
    )
    .await;
    assert_eq!(told["count"], 1, "{told}");
    tunnel.write_all(b"second").unwrap();
    drop(tunnel);
    let rest = event(
        &mut events,
        &[
            ("address", "192.0.2.80"),
            ("verdict", "would-refuse"),
            ("count", "0"),
        ],
    )
    .await;
    assert_eq!(
        (&told["bytes_up"], &rest["bytes_up"]),
        (&6.into(), &6.into()),
        "{told} {rest}"
    );
}
