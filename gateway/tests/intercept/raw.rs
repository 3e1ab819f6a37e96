//! What the gateway hears and sends below TCP and UDP.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tidegate_gateway::{
    intercept::{self, InterfaceName},
    link::Mac,
    listen::{self, Family},
    raw::{
        Drops, Echo, EchoError, EchoRequest, OBSERVED_QUEUE, Observed, Observer, RawSender, Refusal,
        RefusedDatagram, Refuser, Unreachable, echo_reply,
    },
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    divert::connected_udp,
    lab::{Lab, PATIENCE, PROXY_PORT, addr, from, plan, sh, until},
    udp,
};

fn observe() -> (mpsc::Receiver<Observed>, Drops) {
    let plan = plan();
    let network = plan.networks.into_iter().next().expect("two networks");
    let observer = Observer::open(network.interface, network.addresses).expect("observes");
    let (queue, observed) = mpsc::channel(OBSERVED_QUEUE);
    let drops = Drops::default();
    tokio::spawn(observer.run(queue, drops.clone()));
    (observed, drops)
}

async fn next(observed: &mut mpsc::Receiver<Observed>) -> Observed {
    let waited = timeout(PATIENCE, observed.recv()).await;
    waited
        .expect("something observed in time")
        .expect("the observer lives")
}

/// A packet of any protocol, from a runner.
fn send_protocol(protocol: i32, to: IpAddr) {
    let domain = socket2::Domain::for_address(SocketAddr::new(to, 0));
    let socket = socket2::Socket::new(domain, socket2::Type::RAW, Some(protocol.into())).expect("root");
    socket
        .send_to(&[0; 16], &SocketAddr::new(to, 0).into())
        .expect("sent");
}

#[test]
fn l05_other_protocols_are_dropped_and_observed_with_their_machine() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    let mac: Mac = lab
        .exec("a", "cat /sys/class/net/eth0/address")
        .trim()
        .parse()
        .expect("a hardware address");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        let (mut observed, _) = observe();
        // What must not be observed goes first: it would arrive first.
        let client = from(&runner, || connected_udp(addr("203.0.113.9:99"))).await;
        client.send(b"udp").expect("sent");
        for (to, source) in [
            ("203.0.113.9", "10.77.1.2"),
            ("2001:db8::9", "fd77:1::2"),
            ("10.77.1.1", "10.77.1.2"),
        ] {
            for protocol in [47, 50, 132, 253] {
                let to: IpAddr = to.parse().expect("an address");
                from(&runner, move || send_protocol(protocol, to)).await;
                match next(&mut observed).await {
                    Observed::Foreign(seen) => {
                        assert_eq!(i32::from(seen.protocol), protocol);
                        assert_eq!(
                            (seen.destination, seen.source.to_string()),
                            (to, source.to_owned())
                        );
                        assert_eq!(seen.mac, Some(mac));
                    }
                    Observed::Echo(echo) => panic!("{echo:?}"),
                }
            }
        }
    });
}

#[test]
fn an_interface_made_anew_is_heard_again() {
    let lab = Lab::new();
    let (runner, gateway) = (lab.ns("a"), lab.ns("gw"));
    lab.gateway(move || async move {
        let (mut observed, _) = observe();
        sh(&format!(
            "ip -n {gateway} link del runners0; \
             ip -n {gateway} link add runners0 type veth peer name eth0 netns {runner}; \
             ip -n {gateway} addr add 10.77.1.1/24 dev runners0; ip -n {gateway} link set runners0 up; \
             ip -n {runner} addr add 10.77.1.2/24 dev eth0; ip -n {runner} link set eth0 up"
        ));
        let deadline = Instant::now() + PATIENCE;
        loop {
            from(&runner, || {
                send_protocol(47, "10.77.1.1".parse().expect("an address"));
            })
            .await;
            if let Ok(Some(Observed::Foreign(seen))) =
                timeout(Duration::from_millis(100), observed.recv()).await
            {
                assert_eq!(seen.protocol, 47);
                return;
            }
            assert!(Instant::now() < deadline, "not heard again");
        }
    });
}

#[test]
fn a_full_queue_loses_and_counts() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let observer =
            Observer::open(InterfaceName::parse("runners0").expect("a name"), Vec::new()).expect("observes");
        let (queue, mut observed) = mpsc::channel(1);
        let drops = Drops::default();
        tokio::spawn(observer.run(queue, drops.clone()));
        for _ in 0..3 {
            from(&runner, || {
                send_protocol(47, "10.77.1.1".parse().expect("an address"));
            })
            .await;
        }
        crate::lab::until_async(async || drops.count(), |count| *count == 2).await;
        assert!(matches!(next(&mut observed).await, Observed::Foreign(_)));
    });
}

#[test]
fn icmp_row_an_echo_request_is_answered_as_the_far_host_by_the_gateways_own_echo() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        let (mut observed, _) = observe();
        let echo = Echo::open().expect("sockets");
        let sender = RawSender::open().expect("sockets");
        for far in ["10.88.0.2", "fd88::2"] {
            let pinging = tokio::task::spawn_blocking({
                let line = format!("ip netns exec {runner} ping -c 1 -W 8 -s 300 {far}");
                move || sh(&line)
            });
            let Observed::Echo(request) = next(&mut observed).await else {
                panic!("not an echo request")
            };
            assert_eq!(request.destination.to_string(), far);
            // The kernel forwarded nothing: the far host hears the gateway's own echo alone.
            echo.ping(request.destination, PATIENCE)
                .await
                .expect("the far host answers");
            let reply = echo_reply(request.destination, &request).expect("fits");
            sender
                .send(&reply, request.source, request.interface)
                .expect("sent");
            let said = pinging.await.expect("no panic");
            assert!(said.contains(&format!("from {far}: icmp_seq=1")), "{said}");
        }
        // To the gateway itself the kernel answers, and nobody else hears of it.
        sh(&format!("ip netns exec {runner} ping -c 1 -W 8 10.77.1.1"));
        assert!(observed.try_recv().is_err());
    });
}

#[test]
fn silence_ends_in_time_and_no_route_is_said() {
    let lab = Lab::new();
    let gateway = lab.ns("gw");
    lab.gateway(move || async move {
        let echo = Echo::open().expect("sockets");
        let silent: IpAddr = "203.0.113.9".parse().expect("an address");
        let error = echo.ping(silent, PATIENCE).await.expect_err("no route");
        assert!(matches!(error, EchoError::Send(..)), "{error}");
        sh(&format!("ip -n {gateway} route add blackhole 198.51.100.0/24; ip -n {gateway} route add default via 10.88.0.2"));
        let error = echo.ping(silent, Duration::from_millis(50)).await.expect_err("nobody is there");
        assert!(matches!(error, EchoError::TimedOut(_)), "{error}");
        assert_eq!(echo.in_flight(), 0);
    });
}

#[test]
fn forty_sockets_refused_at_once_all_hear_it() {
    let lab = Lab::new();
    let runner = lab.ns("a");
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        let refuser = Refuser::new(RawSender::open().expect("sockets"), Instant::now());
        for (family, far, own) in [
            (Family::V4, "203.0.113.9:443", "10.77.1.1"),
            (Family::V6, "[2001:db8::9]:443", "fd77:1::1"),
        ] {
            let socket = listen::proxy_udp(family, PROXY_PORT).expect("a socket");
            let clients = from(&runner, move || {
                (0..40).map(|_| connected_udp(addr(far))).collect::<Vec<_>>()
            })
            .await;
            for client in &clients {
                client.send(b"initial").expect("sent");
            }
            for _ in &clients {
                let seen = udp::receive(&socket).await;
                let datagram = RefusedDatagram {
                    runner: seen.from,
                    destination: seen.to,
                    payload: &seen.payload,
                };
                let refusal = refuser.refuse(
                    own.parse().expect("an address"),
                    datagram,
                    Unreachable::Port,
                    Instant::now(),
                );
                assert!(matches!(refusal, Refusal::Sent), "{refusal:?}");
            }
            for client in &clients {
                let mut buffer = [0; 16];
                let heard = client.recv(&mut buffer).expect_err("refused");
                assert_eq!(heard.kind(), ErrorKind::ConnectionRefused);
            }
        }
    });
}

#[test]
fn a_source_hears_no_more_refusals_than_its_budget() {
    let lab = Lab::new();
    lab.gateway(move || async move {
        let now = Instant::now();
        let refuser = Refuser::new(RawSender::open().expect("sockets"), now);
        let datagram = |host: u8| RefusedDatagram {
            runner: SocketAddr::new([10, 77, 1, host].into(), 4_000),
            destination: addr("203.0.113.9:443"),
            payload: b"initial",
        };
        let own = "10.77.1.1".parse().expect("an address");
        let sent = |host| {
            matches!(
                refuser.refuse(own, datagram(host), Unreachable::Port, now),
                Refusal::Sent
            )
        };
        assert_eq!((0..1_000).filter(|_| sent(2)).count(), 512);
        assert!(sent(3), "another source has its own budget");
    });
}

/// A job that asks for an echo of its own choosing never has its bytes sent on.
#[test]
fn l04_echo_payloads_of_runners_stay_here() {
    let lab = Lab::new();
    let (runner, out) = (lab.ns("a"), lab.ns("out"));
    lab.gateway(move || async move {
        let _guard = intercept::install(plan()).await.expect("installs");
        let (mut observed, _) = observe();
        let far: IpAddr = "10.88.0.2".parse().expect("an address");
        let heard = from(&out, icmp_ear).await;
        sh(&format!(
            "ip netns exec {runner} ping -c 1 -W 1 -p deadbeef {far} || true"
        ));
        let Observed::Echo(EchoRequest { payload, .. }) = next(&mut observed).await else {
            panic!("not an echo request")
        };
        assert!(payload.windows(4).any(|bytes| bytes == [0xde, 0xad, 0xbe, 0xef]));
        Echo::open()
            .expect("sockets")
            .ping(far, PATIENCE)
            .await
            .expect("answers");
        let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
        let length = until(|| heard.recv(&mut buffer), Result::is_ok).expect("the gateway's echo");
        assert_eq!(
            length,
            20 + 8 + 8,
            "the first that is heard outside is the gateway's own"
        );
    });
}

/// Hears every ICMP message of its namespace.
fn icmp_ear() -> socket2::Socket {
    let kind = socket2::Type::RAW.nonblocking();
    socket2::Socket::new(socket2::Domain::IPV4, kind, Some(socket2::Protocol::ICMPV4)).expect("root")
}
