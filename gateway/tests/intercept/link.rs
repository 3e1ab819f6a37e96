//! The picture of the links, against a changing kernel.

use std::net::IpAddr;

use tidegate_gateway::{
    intercept::InterfaceName,
    link::{Mac, Monitor},
};

use crate::lab::{Lab, sh, until_async};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

async fn monitor() -> Monitor {
    let runners = vec![InterfaceName::parse("runners0").expect("a name")];
    Monitor::start(runners).await.expect("starts")
}

#[test]
fn own_addresses_are_known_at_once_and_kept_current() {
    let lab = Lab::new();
    let gateway = lab.ns("gw");
    lab.gateway(move || async move {
        let monitor = monitor().await;
        let first = monitor.snapshot();
        for own in [
            "127.0.0.1",
            "::1",
            "10.77.1.1",
            "10.77.2.1",
            "10.88.0.1",
            "fd77:1::1",
            "fd88::1",
        ] {
            assert!(first.local.contains(&ip(own)), "{own} in {:?}", first.local);
        }
        assert_eq!(first.interface("runners0").expect("it is there").mtu, 1_500);
        for (change, own, present) in [
            ("addr add 198.51.100.77/32 dev lo", "198.51.100.77", true),
            ("addr add fd99::1/128 dev uplink", "fd99::1", true),
            ("addr del 198.51.100.77/32 dev lo", "198.51.100.77", false),
            ("link del uplink", "10.88.0.1", false),
        ] {
            sh(&format!("ip -n {gateway} {change}"));
            until_async(
                async || monitor.snapshot(),
                |now| now.local.contains(&ip(own)) == present,
            )
            .await;
        }
    });
}

#[test]
fn neighbours_of_runner_interfaces_are_known_by_all_their_addresses() {
    let lab = Lab::new();
    let (runner, other, gateway) = (lab.ns("a"), lab.ns("b"), lab.ns("gw"));
    let mac: Mac = lab
        .exec("a", "cat /sys/class/net/eth0/address")
        .trim()
        .parse()
        .expect("a hardware address");
    lab.gateway(move || async move {
        let monitor = monitor().await;
        let index = monitor
            .snapshot()
            .interface("runners0")
            .expect("it is there")
            .index;
        assert_eq!(
            monitor
                .lookup_neighbour(index, ip("10.77.1.200"))
                .await
                .expect("asked"),
            None
        );
        sh(&format!(
            "ip netns exec {runner} ping -c 1 -W 8 10.77.1.1; ip netns exec {runner} ping -c 1 -W 8 fd77:1::1"
        ));
        sh(&format!("ip netns exec {other} ping -c 1 -W 8 10.77.2.1"));
        for address in ["10.77.1.2", "fd77:1::2"] {
            assert_eq!(
                monitor.lookup_neighbour(index, ip(address)).await.expect("asked"),
                Some(mac),
                "{address}"
            );
        }
        let both = |now: &std::sync::Arc<tidegate_gateway::link::LinkSnapshot>| {
            let addresses: Vec<_> = now.addresses_of(index, mac).collect();
            ["10.77.1.2", "fd77:1::2"]
                .iter()
                .all(|address| addresses.contains(&ip(address)))
        };
        let now = until_async(async || monitor.snapshot(), both).await;
        assert_eq!(now.mac_of(index, ip("10.77.1.2")), Some(mac));
        assert!(
            now.neighbours
                .iter()
                .all(|neighbour| neighbour.interface == index),
            "{now:?}"
        );

        // Another machine under the address: the poisoned or re-used one is seen.
        sh(&format!(
            "ip -n {gateway} neigh replace 10.77.1.2 lladdr 02:00:00:00:00:99 dev runners0"
        ));
        until_async(
            async || monitor.snapshot(),
            |now| now.mac_of(index, ip("10.77.1.2")) == Some(Mac([2, 0, 0, 0, 0, 0x99])),
        )
        .await;
        sh(&format!("ip -n {gateway} neigh del 10.77.1.2 dev runners0"));
        until_async(
            async || monitor.snapshot(),
            |now| now.mac_of(index, ip("10.77.1.2")).is_none(),
        )
        .await;
    });
}
