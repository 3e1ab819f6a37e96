//! What must not get through: the gateway's own ports, and everything when
//! interception is undone.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use tidegate_gateway::{
    intercept::{self, Guard},
    listen::{self, Family},
};

use crate::{
    divert::{ask_tcp, connected_udp, serve_tcp},
    lab::{Lab, PROXY_PORT, addr, from, plan, sh, until_async},
    udp,
};

async fn counted(guard: &Guard, name: &str) -> u64 {
    let counters = guard.counters().await.expect("counters");
    counters
        .iter()
        .find(|(counter, _)| counter == name)
        .expect("the counter exists")
        .1
}

/// Nothing answers, not even a refusal, within a time in which a SYN is sent twice.
fn is_silent(to: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&to, Duration::from_millis(1_500)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::TimedOut,
    }
}

#[test]
fn l14_the_gateways_own_ports_are_closed_on_every_address_of_it() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let guard = intercept::install(plan()).await.expect("installs");
        tokio::spawn(serve_tcp(Family::V4));
        tokio::spawn(serve_tcp(Family::V6));
        // An ssh daemon, a metrics endpoint: wildcard listeners of the machine.
        let _ssh = TcpListener::bind("[::]:22").expect("listens on both families");
        let datagrams = UdpSocket::bind("[::]:5353").expect("a socket");
        datagrams.set_nonblocking(true).expect("a socket");
        let addresses = [
            "10.77.1.1",
            "10.77.2.1",
            "10.88.0.1",
            "[fd77:1::1]",
            "[fd77:2::1]",
            "[fd88::1]",
        ];
        let silent: Vec<_> = addresses
            .iter()
            .flat_map(|address| [22, PROXY_PORT, 443].map(|port| addr(&format!("{address}:{port}"))))
            .filter(|to| ![addr("10.77.1.1:443"), addr("[fd77:1::1]:443")].contains(to))
            .map(|to| {
                thread::spawn({
                    let runner = runner.clone();
                    move || {
                        (
                            to,
                            crate::lab::spawn(&runner, move || is_silent(to))
                                .join()
                                .expect("no panic"),
                        )
                    }
                })
            })
            .collect();
        for handle in silent {
            let (to, silent) = tokio::task::spawn_blocking(|| handle.join().expect("no panic"))
                .await
                .expect("no panic");
            assert!(silent, "{to} answered");
        }
        let before = counted(&guard, "closed").await;
        for address in [
            "10.77.1.1:5353",
            "10.88.0.1:5353",
            "[fd77:1::1]:5353",
            "[ff02::1%eth0]:5353",
        ] {
            sh(&format!(
                "ip netns exec {runner} bash -c 'echo x | socat - UDP-SENDTO:{address}'"
            ));
        }
        until_async(
            async || counted(&guard, "closed").await,
            |count| *count >= before + 4,
        )
        .await;
        let mut buffer = [0; 8];
        assert!(
            datagrams.recv(&mut buffer).is_err(),
            "a wildcard socket heard a runner"
        );
    });
}

#[test]
fn the_runner_api_the_link_and_echo_to_the_gateway_are_open() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        for api in ["10.77.1.1:443", "[fd77:1::1]:443"] {
            let listener = TcpListener::bind(addr(api)).expect("listens");
            from(&runner, move || TcpStream::connect(addr(api)).expect("connects")).await;
            drop(listener);
        }
        for own in ["10.77.1.1", "fd77:1::1"] {
            sh(&format!("ip netns exec {runner} ping -c 1 -W 5 {own}"));
        }
        // Fresh neighbour discovery in both families, through the rules.
        sh(&format!(
            "ip -n {runner} neigh flush all; ip netns exec {runner} ping -c 1 -W 5 fd77:1::1"
        ));
    });
}

/// A server outside that runners could reach when the gateway's machine forwarded.
fn outside(lab: &Lab) {
    crate::lab::spawn(&lab.ns("out"), || {
        for at in ["10.88.0.2:7", "[fd88::2]:7"] {
            let listener = TcpListener::bind(addr(at)).expect("listens");
            thread::spawn(move || while listener.accept().is_ok() {});
        }
        // The listeners live as long as the test process.
    })
    .join()
    .expect("listens");
}

const OUTSIDE: [&str; 2] = ["10.88.0.2:7", "[fd88::2]:7"];

async fn nothing_crosses(runner: &str, when: &str) {
    for to in OUTSIDE {
        let silent = from(runner, move || is_silent(addr(to))).await;
        assert!(silent, "{to} was reached {when}");
    }
}

#[test]
fn invariant_1_each_belt_alone_keeps_everything_closed() {
    let lab = Lab::new();
    outside(&lab);
    let (runner, gateway) = (lab.ns("a"), lab.ns("gw"));
    lab.gateway(move || async move {
        for to in OUTSIDE {
            // The test can fail: this machine does forward before installation.
            from(&runner, move || {
                TcpStream::connect_timeout(&addr(to), Duration::from_secs(5))
            })
            .await
            .expect("forwarded");
        }
        let guard = intercept::install(plan()).await.expect("installs");
        nothing_crosses(&runner, "with no proxy listening").await;

        let forwarding = format!(
            "ip netns exec {gateway} sysctl -qw net.ipv4.conf.runners0.forwarding=1 net.ipv6.conf.all.forwarding=1"
        );
        let flush = format!("ip netns exec {gateway} nft flush ruleset");
        let unrule = format!(
            "for f in -4 -6; do while ip -n {gateway} $f rule del protocol 84 2>/dev/null; do :; done; done"
        );

        sh(&flush);
        nothing_crosses(&runner, "after a flush").await;
        sh(&unrule);
        nothing_crosses(&runner, "with forwarding off alone").await;

        guard.restore().await.expect("restores");
        sh(&flush);
        sh(&forwarding);
        nothing_crosses(&runner, "with the routing rules alone").await;

        guard.restore().await.expect("restores");
        sh(&unrule);
        sh(&forwarding);
        nothing_crosses(&runner, "with the ruleset alone").await;

        sh(&flush);
        for to in OUTSIDE {
            // With every belt off it crosses: each of the above did its part.
            from(&runner, move || {
                TcpStream::connect_timeout(&addr(to), Duration::from_secs(5))
            })
            .await
            .expect("forwarded");
        }
    });
}

#[test]
fn cleanup_leaves_nothing_of_ours_and_forwarding_off() {
    let lab = Lab::new();
    outside(&lab);
    let (runner, gateway) = (lab.ns("a"), lab.ns("gw"));
    lab.gateway(move || async move {
        let state = || {
            sh(&format!(
                "ip netns exec {gateway} sh -c 'nft list tables; ip rule; ip -6 rule; \
                 ip route show table all; ip -6 route show table all'"
            ))
        };
        // Forwarding gives IPv6 interfaces anycast addresses, and stays off: not part of the comparison.
        sh(&format!(
            "ip netns exec {gateway} sysctl -qw net.ipv6.conf.all.forwarding=0"
        ));
        let before = state();
        intercept::install(plan()).await.expect("installs");
        assert_ne!(state(), before);
        // Not through the guard: a later process knows nothing of the plan.
        intercept::cleanup().await.expect("cleans");
        assert_eq!(state(), before);
        intercept::cleanup().await.expect("twice is fine");
        for setting in ["ipv4/conf/runners0/forwarding", "ipv6/conf/all/forwarding"] {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{setting}")).expect("readable");
            assert_eq!(value.trim(), "0", "{setting}");
        }
        nothing_crosses(&runner, "after clean-up").await;
    });
}

#[test]
fn an_established_flow_does_not_outlive_its_socket_into_forwarding() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        let serving = tokio::spawn(serve_tcp(Family::V4));
        let answer = from(&runner, || ask_tcp(addr("10.88.0.2:7")))
            .await
            .expect("diverted");
        assert_eq!(answer, "10.77.1.2 asked for 10.88.0.2:7");
        serving.abort();
        let _ = serving.await;
        nothing_crosses(&runner, "after the proxy ended").await;
        // And datagrams without a socket.
        let client = from(&runner, || connected_udp(addr("198.51.100.7:99"))).await;
        client.send(b"lost").expect("sent");
        let socket = listen::proxy_udp(Family::V4, PROXY_PORT).expect("a socket");
        client.send(b"seen").expect("sent");
        assert_eq!(udp::receive(&socket).await.payload, b"seen");
    });
}
