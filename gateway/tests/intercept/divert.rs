//! What is diverted, and what the gateway's sockets see of it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_gateway::{
    intercept::{self, Condition, InterceptPlan, Steering},
    listen::{self, Family},
    raw::RawSender,
};
use tokio::io::AsyncWriteExt;

use crate::{
    lab::{Lab, PATIENCE, PROXY_PORT, addr, from, plan, sh, until, until_async},
    udp,
};

/// Connects from a runner; the answer is what the "proxy" wrote.
pub(crate) fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Accepts for ever and tells each client whom it believes to speak to.
pub(crate) async fn serve_tcp(family: Family) {
    let listener = listen::proxy_tcp(family, PROXY_PORT).expect("a listener");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, peer) = listener.accept().await.expect("a connection");
        let mut stream = stream.into_std().expect("a socket");
        stream.set_nonblocking(false).expect("a socket");
        let local = stream.local_addr().expect("an address");
        let _ = write!(stream, "{} asked for {local}", peer.ip());
    }
}

#[test]
fn tcp_on_any_port_arrives_with_its_original_destination() {
    let lab = Lab::new();
    let namespace = lab.ns("a");
    lab.gateway(move || async move {
        let guard = intercept::install(plan()).await.expect("installs");
        tokio::spawn(serve_tcp(Family::V4));
        tokio::spawn(serve_tcp(Family::V6));
        for to in [
            "203.0.113.9:443",
            "203.0.113.9:53",
            "198.51.100.1:1",
            "10.88.0.2:65535",
            "169.254.169.254:80",
        ] {
            let answer = from(&namespace, move || ask_tcp(addr(to))).await;
            assert_eq!(answer.expect("diverted"), format!("10.77.1.2 asked for {to}"));
        }
        for to in [
            "[2001:db8::9]:443",
            "[2001:db8::9]:53",
            "[fd88::2]:9",
            "[64:ff9b::a9fe:a9fe]:80",
        ] {
            let answer = from(&namespace, move || ask_tcp(addr(to))).await;
            assert_eq!(answer.expect("diverted"), format!("fd77:1::2 asked for {to}"));
        }
        guard.remove().await.expect("removes");
    });
}

#[test]
fn udp_arrives_with_its_destination_and_is_answered_from_it() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        for (family, far) in [
            (Family::V4, "198.51.100.7:3478"),
            (Family::V6, "[2001:db8::7]:443"),
        ] {
            let first = listen::proxy_udp(family, PROXY_PORT).expect("a socket");
            let far = addr(far);
            let client = from(&runner, move || connected_udp(far)).await;
            client.send(b"one").expect("sent");
            let seen = udp::receive(&first).await;
            assert_eq!((seen.to, &seen.payload[..]), (far, &b"one"[..]));
            assert_eq!(seen.mark & Steering::default().spoof_mark, 0);

            let association = association(far, seen.from);
            association.send(b"two").expect("answered");
            assert_eq!(
                hear(&client),
                b"two",
                "from {far}, or the connected client would not hear it"
            );
            client.send(b"three").expect("sent");
            let mut buffer = [0; 16];
            let length = until(|| association.recv(&mut buffer), Result::is_ok).expect("heard");
            assert_eq!(&buffer[..length], b"three");
            assert!(udp::try_receive(&first).is_none(), "the association has it");
        }
    });
}

/// The socket of one UDP association, as the proxy makes it: from now on the kernel hands it the datagrams of
/// these two ends, and what it sends comes from the far address.
fn association(far: SocketAddr, runner: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(far), Type::DGRAM.nonblocking(), None).expect("a socket");
    socket.set_reuse_address(true).expect("reusable");
    match far {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
    .expect("transparent");
    socket.bind(&far.into()).expect("bound");
    socket.connect(&runner.into()).expect("connected");
    socket.into()
}

#[test]
fn l07_fragments_are_judged_whole() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        for (family, far) in [
            (Family::V4, "198.51.100.7:3478"),
            (Family::V6, "[2001:db8::7]:443"),
        ] {
            let socket = listen::proxy_udp(family, PROXY_PORT).expect("a socket");
            let client = from(&runner, move || connected_udp(addr(far))).await;
            let payload: Vec<u8> = (0..5_000_u32).map(|n| n as u8).collect();
            client.send(&payload).expect("sent");
            let seen = udp::receive(&socket).await;
            assert_eq!((seen.to, seen.payload), (addr(far), payload));
        }
    });
}

#[test]
fn without_ipv6_upstream_v6_is_refused_before_it_is_accepted_and_v4_is_not() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let guard = intercept::install(plan()).await.expect("installs");
        tokio::spawn(serve_tcp(Family::V4));
        tokio::spawn(serve_tcp(Family::V6));
        let v6 = addr("[2001:db8::9]:443");
        assert!(from(&runner, move || ask_tcp(v6)).await.is_ok());
        let refusing = InterceptPlan {
            refuse_v6_tcp: true,
            ..plan()
        };
        guard.replace(refusing).await.expect("replaces");
        let refused = from(&runner, move || ask_tcp(v6)).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(
            from(&runner, move || ask_tcp(addr("203.0.113.9:443")))
                .await
                .is_ok()
        );
        guard.replace(plan()).await.expect("replaces");
        assert!(from(&runner, move || ask_tcp(v6)).await.is_ok());
    });
}

#[test]
fn runner_flows_take_no_place_in_the_conntrack_table() {
    let lab = Lab::new();
    let (runner, gateway) = (lab.ns("a"), lab.ns("gw"));
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        // Somebody's firewall, which turns tracking on.
        sh(&format!(
            "ip netns exec {gateway} nft 'table inet other {{ chain input {{ \
             type filter hook input priority 0; ct state established counter; }}; }}'"
        ));
        let tracked = || {
            let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
                .expect("tracking is on");
            count.trim().parse::<u32>().expect("a number")
        };
        sh(&format!("ip netns exec {gateway} ping -c 1 -W 8 10.88.0.2"));
        let others = tracked();
        assert!(others > 0, "the uplink is tracked, or this shows nothing");
        tokio::spawn(serve_tcp(Family::V4));
        let socket = listen::proxy_udp(Family::V4, PROXY_PORT).expect("a socket");
        for port in 1..=20 {
            let far = SocketAddr::new([203, 0, 113, 9].into(), port);
            from(&runner, move || ask_tcp(far)).await.expect("diverted");
            let client = from(&runner, move || connected_udp(far)).await;
            client.send(b"datagram").expect("sent");
            udp::receive(&socket).await;
        }
        assert!(tracked() <= others, "{} tracked", tracked());
    });
}

#[test]
fn egress_preserve_a_connection_under_the_runners_address_gets_its_answers() {
    let lab = Lab::new();
    let outside = lab.ns("out");
    lab.gateway(move || async move {
        let listening = from(&outside, || {
            ["10.88.0.2:7", "[fd88::2]:7"].map(|at| TcpListener::bind(addr(at)).expect("listens"))
        })
        .await;
        let guard = intercept::install(plan()).await.expect("installs");
        let preserving = InterceptPlan {
            preserve_source: true,
            ..plan()
        };
        guard.replace(preserving).await.expect("replaces");
        for (listener, runner) in listening.iter().zip(["10.77.1.2:0", "[fd77:1::2]:0"]) {
            let to = listener.local_addr().expect("an address");
            dial_as(addr(runner), to).expect("the answer comes back");
            let (_, from) = listener.accept().expect("a connection");
            assert_eq!(from.ip(), addr(runner).ip());
        }
        assert_eq!(guard.verify().await.expect("readable"), Condition::Intact);
        guard.replace(plan()).await.expect("replaces");
        let rules = sh("ip rule; ip -6 rule");
        assert!(!rules.contains("7455:") && rules.contains("7453:"), "{rules}");
    });
}

fn dial_as(own: SocketAddr, to: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(own), Type::STREAM, Some(Protocol::TCP))?;
    if own.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.bind(&own.into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    Ok(socket)
}

/// A tuple in TIME-WAIT at the gateway must not make the next connection fail: the
/// fast path for open connections would find the dead one.
#[test]
fn a_tuple_in_time_wait_can_be_used_again() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    // As hardened machines have it. Without, Linux clients reset the dead tuple and try again.
    lab.exec("gw", "sysctl -qw net.ipv4.tcp_rfc1337=1");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        tokio::spawn(serve_tcp(Family::V4));
        tokio::spawn(serve_tcp(Family::V6));
        for (own, far) in [
            ("10.77.1.2:40000", "203.0.113.9:443"),
            ("[fd77:1::2]:40000", "[2001:db8::9]:443"),
        ] {
            for attempt in 0..3 {
                let answer = from(&runner, move || ask_tcp_from(addr(own), addr(far))).await;
                let answer = answer.unwrap_or_else(|error| panic!("attempt {attempt}: {error}"));
                assert!(answer.ends_with(&format!("asked for {far}")), "{answer}");
            }
        }
    });
}

/// The gateway closes first, so that it and not the runner keeps the tuple.
fn ask_tcp_from(own: SocketAddr, to: SocketAddr) -> std::io::Result<String> {
    let domain = Domain::for_address(own);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&own.into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// IPv6 extension headers neither hide a datagram from diversion nor steer it past.
#[test]
fn l06_ipv6_extension_headers_change_nothing_and_routing_headers_are_dropped() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let guard = intercept::install(plan()).await.expect("installs");
        let socket = listen::proxy_udp(Family::V6, PROXY_PORT).expect("a socket");
        // An empty segment list towards the gateway itself; hop-by-hop and destination options.
        let routing: &[u8] = &[17, 0, 4, 0, 0, 0, 0, 0];
        let options: &[u8] = &[60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
        from(&runner, move || send_extended(43, routing, b"routed")).await;
        until_async(
            async || guard.counters().await.expect("counters"),
            |counters| {
                counters
                    .iter()
                    .any(|(name, packets)| name == "not_diverted" && *packets > 0)
            },
        )
        .await;
        from(&runner, move || send_extended(0, options, b"extended")).await;
        let seen = udp::receive(&socket).await;
        assert_eq!(
            (seen.to, &seen.payload[..]),
            (addr("[2001:db8::9]:99"), &b"extended"[..])
        );
    });
}

/// From `[fd77:1::2]:99` to `[2001:db8::9]:99`, with extension headers before UDP.
fn send_extended(first: u8, extensions: &[u8], payload: &[u8]) {
    let (from, to): (Ipv6Addr, Ipv6Addr) = (
        "fd77:1::2".parse().expect("one"),
        "2001:db8::9".parse().expect("one"),
    );
    let length = (8 + payload.len()) as u16;
    let mut udp = [&[0, 99, 0, 99][..], &length.to_be_bytes(), &[0, 0], payload].concat();
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &u32::from(length).to_be_bytes(),
        &[0, 0, 0, 17],
    ]
    .concat();
    let words = [&pseudo[..], &udp, &[0][..udp.len() % 2]].concat();
    let mut sum: u32 = words
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    udp[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let body = [extensions, &udp].concat();
    let head = [
        &[0x60, 0, 0, 0][..],
        &(body.len() as u16).to_be_bytes(),
        &[first, 64],
        &from.octets(),
        &to.octets(),
    ]
    .concat();
    let sender = RawSender::open().expect("root");
    sender.send(&[head, body].concat(), to.into(), 0).expect("sent");
}

/// The runner `a` routes for `out` behind a link of 1 280 bytes: what the gateway
/// sends from a foreign address is too big, and the router says so to that address.
#[test]
fn a_path_mtu_error_to_a_foreign_address_reaches_the_gateways_socket() {
    let lab = Lab::new();
    // `b` becomes a client behind the router `a`.
    sh(&format!(
        "ip -n {a} link add behind mtu 1500 type veth peer name eth1 netns {b}",
        a = lab.ns("a"),
        b = lab.ns("b")
    ));
    for (role, line) in [
        ("a", "ip addr add 10.77.9.1/24 dev behind"),
        ("a", "ip addr add fd77:9::1/64 dev behind nodad"),
        ("a", "ip link set behind up mtu 1280"),
        (
            "a",
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        ),
        ("b", "ip addr add 10.77.9.2/24 dev eth1"),
        ("b", "ip addr add fd77:9::2/64 dev eth1 nodad"),
        ("b", "ip link set eth1 up"),
        ("b", "ip route replace default via 10.77.9.1"),
        ("b", "ip -6 route replace default via fd77:9::1"),
        ("gw", "ip route add 10.77.9.0/24 via 10.77.1.2"),
        ("gw", "ip -6 route add fd77:9::/64 via fd77:1::2"),
    ] {
        lab.exec(role, line);
    }
    let client = lab.ns("b");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        for (family, far) in [(Family::V4, "203.0.113.9:80"), (Family::V6, "[2001:db8::9]:80")] {
            let listener = listen::proxy_tcp(family, PROXY_PORT).expect("a listener");
            let download = tokio::task::spawn_blocking({
                let client = client.clone();
                move || {
                    crate::lab::spawn(&client, move || ask_tcp(addr(far)))
                        .join()
                        .expect("no panic")
                }
            });
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let (mut stream, _) = listener.accept().await.expect("a connection");
            // Letters: the client reads text.
            let text = vec![b'x'; 300_000];
            let upload = tokio::time::timeout(PATIENCE, stream.write_all(&text)).await;
            upload.expect("the packets shrink until they fit").expect("sent");
            drop(stream);
            assert_eq!(
                download.await.expect("no panic").expect("all of it").len(),
                300_000,
                "{far}"
            );
        }
    });
}

pub(crate) fn connected_udp(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.connect(to).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

pub(crate) fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer.truncate(length);
    buffer
}
