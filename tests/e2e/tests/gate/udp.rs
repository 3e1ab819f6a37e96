//! UDP that is not DNS, QUIC in block mode, and echo: the rows "UDP other than DNS and QUIC" and "ICMP" of
//! policy-semantics.md.

use std::io::ErrorKind;
use std::net::UdpSocket;

use tidegate_e2e::{PATIENCE, audit, block, event, gateway, run, run_on, start, started};
use tidegate_lab::{EventLog, Lab, Machine, UdpReply, UdpServer, plan, wait_until};

/// A QUIC version 1 Initial as it looks from outside (RFC 9000 §17.2.2), of the least size a client sends.
fn quic_initial() -> Vec<u8> {
    let mut datagram = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x9e];
    datagram.resize(1200, 0x5a);
    datagram
}

/// Sockets of a machine, each bound and connected to `to`.
fn sockets_of(machine: &Machine, to: &str, count: usize) -> Vec<UdpSocket> {
    let any = if to.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let open = || {
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    machine.enter(|| (0..count).map(|_| open()).collect()).unwrap()
}

fn sockets(lab: &Lab, to: &str, count: usize) -> Vec<UdpSocket> {
    sockets_of(lab.runner(0), to, count)
}

fn socket(lab: &Lab, to: &str) -> UdpSocket {
    sockets(lab, to, 1).remove(0)
}

/// What the first answer to a datagram is.
fn ask(socket: &UdpSocket, datagram: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    socket.send(datagram).map_err(|error| error.kind())?;
    hear(socket)
}

fn hear(socket: &UdpSocket) -> Result<Vec<u8>, ErrorKind> {
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer).map_err(|error| error.kind())?;
    Ok(answer[..length].to_vec())
}

async fn refusal(events: &mut EventLog, socket: &UdpSocket, fields: &[(&str, &str)]) {
    let port = socket.local_addr().unwrap().port().to_string();
    let mut all = vec![("source_port", port.as_str()), ("verdict", "refuse")];
    all.extend(fields);
    event(events, &all).await;
}

/// An echoing server at both addresses of host 80, as `raw.test`.
fn echoes(lab: &Lab, port: u16) -> [UdpServer; 2] {
    lab.name("raw.test", &plan::site(80)).unwrap();
    plan::site(80).map(|address| lab.udp((address, port).into(), UdpReply::Echo).unwrap())
}

const HOSTS: [&str; 2] = ["192.0.2.80", "[2001:db8:200::80]"];

#[tokio::test]
async fn udp_works_by_a_name_endpoint_with_a_ticket_and_by_an_address_endpoint() {
    let lab = Lab::builder().build().unwrap();
    let (by_name, by_address) = (echoes(&lab, 5000), echoes(&lab, 5001));
    let policy = block(&[
        "raw.test:5000/udp",
        "192.0.2.0/24:5001/udp",
        "[2001:db8:200::80]:5001/udp",
    ]);
    let gateway = started(&lab, &policy).await;
    for qtype in ["A", "AAAA"] {
        run(&lab, &["dig", "+short", "raw.test", qtype])
            .await
            .expect_success();
    }
    for (port, servers) in [(5000, &by_name), (5001, &by_address)] {
        for (host, server) in HOSTS.iter().zip(servers) {
            let socket = socket(&lab, &format!("{host}:{port}"));
            // Several datagrams of one association, the first while it is judged.
            for datagram in [&b"one"[..], b"two", b"", &[7; 1200]] {
                assert_eq!(ask(&socket, datagram), Ok(datagram.to_vec()), "{host}:{port}");
            }
            let sources: std::collections::BTreeSet<_> = server.received().iter().map(|one| one.0).collect();
            assert_eq!(
                sources.len(),
                1,
                "one association is one socket towards the server: {sources:?}"
            );
        }
    }
    // Nothing is spent on associations in the events before they end; that they are open shows in status.
    gateway
        .wait_status("four associations", |status| status["flows_open"] == 4)
        .await
        .unwrap();
}

/// `reject` by the kernel is rate-limited per peer (7 of 40 sockets heard it): the refusal must not be.
#[tokio::test]
async fn udp_that_no_endpoint_lists_is_refused_at_once_to_every_one_of_40_sockets() {
    let lab = Lab::builder().build().unwrap();
    let servers = echoes(&lab, 5000);
    // TCP on the same port, and UDP on another, are no `/udp` endpoint for it.
    let gateway = started(&lab, &block(&["raw.test:5000", "192.0.2.80:5001/udp"])).await;
    let mut events = gateway.events();
    for host in HOSTS {
        let sockets = sockets(&lab, &format!("{host}:5000"), 40);
        for socket in &sockets {
            socket.send(b"refused").unwrap();
        }
        let heard: Vec<_> = sockets.iter().map(hear).collect();
        let told = heard
            .iter()
            .filter(|one| **one == Err(ErrorKind::ConnectionRefused))
            .count();
        assert_eq!(told, 40, "{host}: {heard:?}");
        refusal(
            &mut events,
            &sockets[39],
            &[("kind", "udp"), ("port", "5000"), ("reason", "no-name")],
        )
        .await;
    }
    run(&lab, &["dig", "+short", "raw.test"]).await.expect_success();
    let ticketed = socket(&lab, "192.0.2.80:5000");
    assert_eq!(ask(&ticketed, b"refused"), Err(ErrorKind::ConnectionRefused));
    let fields = [
        ("kind", "udp"),
        ("name", "raw.test"),
        ("name_source", "ticket"),
        ("reason", "not-allowed"),
    ];
    refusal(&mut events, &ticketed, &fields).await;
    assert!(
        servers.iter().all(|server| server.received().is_empty()),
        "a refused datagram arrived"
    );
}

#[tokio::test]
async fn q_quic_is_refused_in_block_and_permitted_by_a_udp_endpoint_on_443() {
    let lab = Lab::builder().build().unwrap();
    let servers = echoes(&lab, 443);
    let other = lab
        .udp("192.0.2.81:443".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    lab.name("quic.test", &plan::site(81)).unwrap();
    // A plain endpoint is TCP and judged QUIC, which this gateway refuses.
    let gateway = started(&lab, &block(&["raw.test:443", "quic.test:443/udp"])).await;
    let mut events = gateway.events();
    for (host, qtype) in HOSTS.into_iter().zip(["A", "AAAA"]) {
        for ticketed in [false, true] {
            if ticketed {
                run(&lab, &["dig", "+short", "raw.test", qtype])
                    .await
                    .expect_success();
            }
            let sockets = sockets(&lab, &format!("{host}:443"), 40);
            for socket in &sockets {
                socket.send(&quic_initial()).unwrap();
            }
            let heard: Vec<_> = sockets.iter().map(hear).collect();
            let told = heard
                .iter()
                .filter(|one| **one == Err(ErrorKind::ConnectionRefused))
                .count();
            assert_eq!(told, 40, "{host}: {heard:?}");
            refusal(
                &mut events,
                &sockets[0],
                &[("kind", "quic"), ("port", "443"), ("reason", "quic")],
            )
            .await;
        }
    }
    assert!(
        servers.iter().all(|server| server.received().is_empty()),
        "a refused datagram arrived"
    );
    run(&lab, &["dig", "+short", "quic.test"]).await.expect_success();
    let permitted = socket(&lab, "192.0.2.81:443");
    assert_eq!(ask(&permitted, &quic_initial()), Ok(quic_initial()));
    assert_eq!(other.received().len(), 1);
}

/// Associations are bounded for each job (1 024): past the bound new ones are refused, and other jobs go on.
#[tokio::test]
async fn the_associations_of_a_job_are_bounded() {
    const BOUND: u16 = 1024;
    let lab = Lab::builder().build().unwrap();
    let silent = lab
        .udp("192.0.2.80:2000".parse().unwrap(), UdpReply::Silence)
        .unwrap();
    // Ports without a server must not end an association by their errors.
    let quiet = "table ip quiet { chain out { type filter hook output priority 0; \
                 icmp type destination-unreachable drop; }; }";
    lab.net()
        .command("nft")
        .args(["-f", "-"])
        .input(quiet)
        .run()
        .await
        .unwrap()
        .expect_success();
    let echo = lab
        .udp("192.0.2.81:5000".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let builder = gateway(&lab, &block(&["192.0.2.80:1000-5000/udp"])).lease(1, "other", "other.yaml");
    let builder = builder
        .file("other.yaml", &block(&["192.0.2.81:5000/udp"]))
        .unwrap();
    let gateway = start(builder).await;
    let socket = lab
        .runner(0)
        .enter(|| UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    for port in 0..BOUND {
        socket.send_to(b"fill", ("192.0.2.80", 2000 + port)).unwrap();
        // A burst would be lost in the socket's buffer, and the bound not be reached.
        if port % 64 == 63 {
            let open = u64::from(port) + 1;
            gateway
                .wait_status("the associations", |status| status["flows_open"] == open)
                .await
                .unwrap();
        }
    }
    socket.send_to(b"past it", "192.0.2.80:4999").unwrap();
    let fields = [
        ("kind", "udp"),
        ("port", "4999"),
        ("verdict", "refuse"),
        ("reason", "limit"),
    ];
    event(&mut gateway.events(), &fields).await;
    let status = gateway.status().await.unwrap().1;
    assert_eq!(status["flows_open"], BOUND, "{status}");
    // Open ones go on, and so does another job.
    socket.send_to(b"again", "192.0.2.80:2000").unwrap();
    wait_until(
        "a datagram of an open association",
        PATIENCE,
        async || match silent.received().len() {
            2 => Ok(()),
            seen => Err(seen),
        },
    )
    .await
    .unwrap();
    let other = sockets_of(lab.runner(1), "192.0.2.81:5000", 1).remove(0);
    assert_eq!(ask(&other, b"another job"), Ok(b"another job".to_vec()));
    assert_eq!(echo.received().len(), 1);
}

/// Counts echo requests that reach the internet.
async fn count_echo(lab: &Lab) {
    let table = "table inet echo { counter requests { }; chain in { type filter hook prerouting priority 0; \
                 icmp type echo-request counter name requests; icmpv6 type echo-request counter name requests; }; }";
    lab.net()
        .command("nft")
        .args(["-f", "-"])
        .input(table)
        .run()
        .await
        .unwrap()
        .expect_success();
}

async fn echo_requests(lab: &Lab) -> u64 {
    let listing = lab
        .net()
        .command("nft")
        .args(["-j", "list", "counter", "inet", "echo", "requests"])
        .run();
    let listing = listing.await.unwrap().expect_success();
    let listing: serde_json::Value = serde_json::from_slice(&listing.stdout).unwrap();
    let counter = listing["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|one| one["counter"]["packets"].as_u64());
    counter.expect("a counter")
}

const PING: [[&str; 7]; 2] = [
    ["ping", "-4", "-c", "1", "-W", "2", "192.0.2.10"],
    ["ping", "-6", "-c", "1", "-W", "2", "2001:db8:200::10"],
];

#[tokio::test]
async fn l04_icmp_echo_is_originated_by_the_gateway_for_ticketed_addresses() {
    let lab = Lab::builder().build().unwrap();
    count_echo(&lab).await;
    let gateway = started(
        &lab,
        &(block(&["allowed.test:443", "[2001:db8:200::66]:443"]) + "icmp: true\n"),
    )
    .await;
    let mut events = gateway.events();
    for ping in &PING {
        run(&lab, ping).await.expect_failure();
        event(
            &mut events,
            &[
                ("kind", "icmp"),
                ("address", ping[6]),
                ("verdict", "refuse"),
                ("reason", "icmp"),
            ],
        )
        .await;
    }
    assert_eq!(echo_requests(&lab).await, 0);
    for (ping, qtype) in PING.iter().zip(["A", "AAAA"]) {
        run(&lab, &["dig", "+short", "allowed.test", qtype])
            .await
            .expect_success();
        // A payload of the job's own must not leave.
        let line = [&ping[..], &["-p", "c0ffee", "-s", "900"]].concat();
        run(&lab, &line).await.expect_success();
        let fields = [
            ("kind", "icmp"),
            ("address", ping[6]),
            ("name", "allowed.test"),
            ("verdict", "permit"),
        ];
        event(&mut events, &fields).await;
    }
    assert_eq!(echo_requests(&lab).await, 2);
    run(&lab, &["ping", "-6", "-c", "1", "-W", "2", "2001:db8:200::66"])
        .await
        .expect_success();
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn l04_icmp_is_refused_without_the_policys_word() {
    let lab = Lab::builder().build().unwrap();
    count_echo(&lab).await;
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut events = gateway.events();
    for (ping, qtype) in PING.iter().zip(["A", "AAAA"]) {
        run(&lab, &["dig", "+short", "allowed.test", qtype])
            .await
            .expect_success();
        run(&lab, ping).await.expect_failure();
        event(
            &mut events,
            &[
                ("kind", "icmp"),
                ("address", ping[6]),
                ("verdict", "refuse"),
                ("reason", "icmp"),
            ],
        )
        .await;
    }
    // The gateway's own address answers: a runner may see that its router is there.
    run_on(&lab, 0, &["ping", "-c", "1", "-W", "2", "10.77.1.1"])
        .await
        .expect_success();
    assert_eq!(echo_requests(&lab).await, 0);
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

/// Audit changes nothing that worked: any address answers, and what block would refuse is recorded.
#[tokio::test]
async fn in_audit_every_echo_works_and_quic_passes() {
    let lab = Lab::builder().build().unwrap();
    let servers = echoes(&lab, 443);
    let gateway = started(&lab, &audit(&[])).await;
    let mut events = gateway.events();
    for ping in &PING {
        run(&lab, ping).await.expect_success();
        let fields = [
            ("kind", "icmp"),
            ("address", ping[6]),
            ("verdict", "would-refuse"),
            ("reason", "icmp"),
        ];
        event(&mut events, &fields).await;
    }
    for (host, server) in HOSTS.into_iter().zip(&servers) {
        let quic = socket(&lab, &format!("{host}:443"));
        assert_eq!(ask(&quic, &quic_initial()), Ok(quic_initial()));
        assert_eq!(server.received().len(), 1);
    }
    assert_eq!(lab.leaks().unwrap().packets, 0);
}
