//! Port 53, wherever it was sent to.

use std::net::{IpAddr, SocketAddr, TcpListener};

use tidegate_gateway::{
    intercept,
    listen::{self, Family},
};

use crate::{
    divert::{ask_tcp, connected_udp, serve_tcp},
    lab::{Lab, addr, from, plan},
    udp,
};

#[test]
fn d02_d27_a_query_to_any_address_reaches_its_networks_dns_socket() {
    let lab = Lab::new();
    let runners = [lab.ns("a"), lab.ns("b")];
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        for (position, own) in [
            (0, "10.77.1.1:53"),
            (0, "[fd77:1::1]:53"),
            (1, "10.77.2.1:53"),
            (1, "[fd77:2::1]:53"),
        ] {
            let socket = listen::dns_udp(addr(own)).expect("a socket");
            let (foreign, uplink) = match addr(own).ip() {
                IpAddr::V4(_) => ("9.9.9.9:53", "10.88.0.1:53"),
                IpAddr::V6(_) => ("[2620:fe::9]:53", "[fd88::1]:53"),
            };
            for to in [own, foreign, uplink] {
                let client = from(&runners[position], move || connected_udp(addr(to))).await;
                client.send(to.as_bytes()).expect("sent");
                let seen = udp::receive(&socket).await;
                assert_eq!((seen.to, &seen.payload[..]), (addr(to), to.as_bytes()));
            }
        }
    });
}

#[test]
fn d03_tcp_53_goes_to_the_dns_listener_for_own_addresses_and_to_the_proxy_for_others() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        tokio::spawn(serve_tcp(Family::V4));
        tokio::spawn(serve_tcp(Family::V6));
        for (own, uplink, foreign) in [
            ("10.77.1.1:53", "10.88.0.1:53", "9.9.9.9:53"),
            ("[fd77:1::1]:53", "[fd88::1]:53", "[2620:fe::9]:53"),
        ] {
            let dns = listen::dns_tcp(addr(own)).expect("a listener");
            for to in [own, uplink] {
                let client = from(&runner, move || {
                    std::net::TcpStream::connect(addr(to)).expect("connects")
                })
                .await;
                assert_eq!(accepted_for(&dns).await, addr(to));
                drop(client);
            }
            let answer = from(&runner, move || ask_tcp(addr(foreign)))
                .await
                .expect("diverted");
            assert!(answer.ends_with(&format!("asked for {foreign}")), "{answer}");
        }
    });
}

/// The local address of the next connection, which is the original destination.
async fn accepted_for(listener: &TcpListener) -> SocketAddr {
    let listener = listener.try_clone().expect("a listener");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let (stream, _) = listener.accept().await.expect("a connection");
    stream.local_addr().expect("an address")
}
