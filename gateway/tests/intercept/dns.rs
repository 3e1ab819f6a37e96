//! Port 53, wherever it was sent to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};

use tidegate_gateway::{
    intercept,
    listen::{self, Family},
};

use crate::{
    divert::{ask_tcp, connected_udp, hear, serve_tcp},
    lab::{Lab, PATIENCE, addr, from, plan},
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
                udp::answer_from(&socket, seen.to, seen.from, b"answer");
                assert_eq!(
                    hear(&client),
                    b"answer",
                    "from {to}, or the connected client would not hear it"
                );
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

#[test]
fn dhcp_reaches_a_server_on_the_gateway_and_multicast_names_do_not_d24() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        let v4 = UdpSocket::bind("0.0.0.0:67").expect("a socket");
        let v6 = UdpSocket::bind("[::]:547").expect("a socket");
        let index = nix::net::if_::if_nametoindex("runners0").expect("it is there");
        let servers: Ipv6Addr = "ff02::1:2".parse().expect("an address");
        v6.join_multicast_v6(&servers, index).expect("joined");
        let names = UdpSocket::bind("0.0.0.0:5353").expect("a socket");
        names
            .join_multicast_v4(&[224, 0, 0, 251].into(), &[10, 77, 1, 1].into())
            .expect("joined");
        from(&runner, || {
            for (own, to) in [
                ("0.0.0.0:5353", "224.0.0.251:5353"),
                ("0.0.0.0:68", "255.255.255.255:67"),
                ("[::]:546", "DHCPv6 servers on this link"),
            ] {
                let socket = UdpSocket::bind(own).expect("a socket");
                socket.set_broadcast(true).expect("a socket");
                let to: SocketAddr = to.parse().unwrap_or_else(|_| {
                    let index = nix::net::if_::if_nametoindex("eth0").expect("it is there");
                    SocketAddrV6::new("ff02::1:2".parse().expect("an address"), 547, 0, index).into()
                });
                socket.send_to(b"hello", to).expect("sent");
            }
        })
        .await;
        for server in [v4, v6] {
            server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let mut buffer = [0; 16];
            assert_eq!(server.recv(&mut buffer).expect("the client's message"), 5);
        }
        names.set_nonblocking(true).expect("a socket");
        assert!(
            names.recv(&mut [0; 16]).is_err(),
            "mDNS, sent before both, was delivered"
        );
    });
}
