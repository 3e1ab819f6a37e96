//! Sources that are not what they claim (L11).

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_gateway::{
    intercept::{self, Guard, Steering},
    link::Mac,
    listen,
};

use crate::{
    divert::connected_udp,
    lab::{Lab, addr, from, plan, until_async},
    udp,
};

/// A datagram from an address that the machine doesn't have.
fn send_forged(source: SocketAddr, to: SocketAddr) {
    let socket =
        Socket::new(Domain::for_address(source), Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).expect("root"),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).expect("root"),
    }
    socket.bind(&source.into()).expect("bound");
    socket.send_to(b"forged", &to.into()).expect("sent");
}

async fn dropped(guard: &Guard, name: &str) -> u64 {
    let counters = guard.counters().await.expect("counters");
    let found = counters.iter().find(|(counter, _)| counter == name);
    found.expect("the counter exists").1
}

#[test]
fn l11_a_source_of_another_network_or_the_gateways_own_is_dropped_and_counted() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let guard = intercept::install(plan()).await.expect("installs");
        let v4 = listen::dns_udp(addr("10.77.1.1:53")).expect("a socket");
        let v6 = listen::dns_udp(addr("[fd77:1::1]:53")).expect("a socket");
        for (n, (source, to)) in [
            ("10.77.2.2:999", "9.9.9.9:53"),
            ("10.88.0.2:999", "9.9.9.9:53"),
            ("[fd77:2::2]:999", "[2620:fe::9]:53"),
            // The kernel itself would drop its own IPv4 address, before the rules.
            ("[fd77:1::1]:999", "[2620:fe::9]:53"),
        ]
        .into_iter()
        .enumerate()
        {
            from(&runner, move || send_forged(addr(source), addr(to))).await;
            until_async(
                async || dropped(&guard, "forged_source").await,
                |count| *count > n as u64,
            )
            .await;
        }
        // A true one comes through; the forged ones did not before it.
        for (socket, to) in [(&v4, "9.9.9.9:53"), (&v6, "[2620:fe::9]:53")] {
            let client = from(&runner, move || connected_udp(addr(to))).await;
            client.send(b"true").expect("sent");
            assert_eq!(udp::receive(socket).await.payload, b"true");
        }
    });
}

#[test]
fn a_datagram_with_another_mac_than_its_sources_is_marked_as_a_spoof() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    let mac = lab.exec("a", "cat /sys/class/net/eth0/address");
    lab.gateway(move || async move {
        let own: Mac = mac.trim().parse().expect("a hardware address");
        let other = Mac([2, 0, 0, 0, 0, 0x99]);
        let spoof = Steering::default().spoof_mark;
        let guard = intercept::install(plan()).await.expect("installs");
        for (source, dns, far) in [
            ("10.77.1.2", "10.77.1.1:53", "9.9.9.9:53"),
            ("fd77:1::2", "[fd77:1::1]:53", "[2620:fe::9]:53"),
        ] {
            let socket = listen::dns_udp(addr(dns)).expect("a socket");
            let source = source.parse().expect("an address");
            for (binding, marked) in [
                (None, false),
                (Some(other), true),
                (Some(own), false),
                (Some(other), true),
            ] {
                guard.bind(source, binding).await.expect("binds");
                for to in [dns, far] {
                    let client = from(&runner, move || connected_udp(addr(to))).await;
                    client.send(b"query").expect("sent");
                    let seen = udp::receive(&socket).await;
                    assert_eq!(seen.mark & spoof != 0, marked, "{binding:?} {seen:?}");
                }
            }
            // A restored ruleset still knows.
            guard.restore().await.expect("restores");
            let client = from(&runner, move || connected_udp(addr(far))).await;
            client.send(b"query").expect("sent");
            assert_ne!(udp::receive(&socket).await.mark & spoof, 0);
            guard.bind(source, None).await.expect("unbinds");
        }
        assert_eq!(guard.bound(), 0);
    });
}
