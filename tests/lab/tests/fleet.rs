//! Shows that a lab can have a second gateway's machine and a control plane's,
//! and who of them reaches whom.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr, UdpSocket};

use tidegate_lab::{Lab, Machine, Output, PostgresServer, plan};

async fn ping(from: &Machine, to: impl Into<IpAddr>) -> Output {
    let to = to.into().to_string();
    let ping = from.command("ping").args(["-n", "-c1", "-W5", &to]);
    ping.run().await.unwrap()
}

#[tokio::test]
async fn two_gateways_stand_on_every_network_and_reach_the_internet() {
    let lab = Lab::builder().network(1).second_gateway().build().unwrap();
    for (network, runner) in [(0, lab.runner(1)), (1, lab.runner_on(1, 0))] {
        for gateway in [
            IpAddr::from(plan::gateway_v4(network)),
            plan::gateway_v6(network).into(),
            plan::second_gateway_v4(network).into(),
            plan::second_gateway_v6(network).into(),
        ] {
            ping(runner, gateway).await.expect_success();
        }
    }
    ping(lab.runner(0), plan::runner_v4(0, 1)).await.expect_success();
    for gateway in [lab.gw(), lab.gw2()] {
        for site in plan::site(10).into_iter().chain(plan::foreign_site(66)) {
            ping(gateway, site).await.expect_success();
        }
        for server in ["198.51.100.53", "2001:db8:100::53"] {
            let dig = ["+short", "+tries=1", &format!("@{server}"), "allowed.test"];
            let answer = gateway.command("dig").args(dig).run().await.unwrap();
            assert_eq!(answer.text(), "192.0.2.10\n", "{answer}");
        }
    }
    assert_eq!(lab.gw2().v4(), plan::SECOND_UPLINK_V4);
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn a_leak_through_the_second_gateway_is_counted() {
    let lab = Lab::builder().second_gateway().build().unwrap();
    ping(lab.gw2(), plan::site(66)[0]).await.expect_success();
    assert_eq!(lab.leaks().unwrap().packets, 0);
    let source = SocketAddr::new(plan::second_gateway_v4(0).into(), 0);
    let leak = || {
        let socket = UdpSocket::bind(source).unwrap();
        socket.send_to(b"leak", (plan::site(66)[0], 9)).unwrap();
    };
    lab.gw2().enter(leak).unwrap();
    assert_eq!(lab.leaks().unwrap().seen, ["10.77.1.254 192.0.2.66 udp"]);
}

#[tokio::test]
async fn runners_fail_over_and_back_also_when_a_gateways_machine_is_cut_off() {
    let lab = Lab::builder().second_gateway().build().unwrap();
    let runner = lab.runner(0);
    let routes = async || {
        let mut hops = Vec::new();
        for target in ["192.0.2.10", "2001:db8:200::10"] {
            let route = runner.command("ip").args(["-o", "route", "get", target]);
            let text = route.run().await.unwrap().expect_success().text();
            let hop = text.split(" via ").nth(1).unwrap().split(' ').next();
            hops.push(hop.unwrap().to_owned());
        }
        let resolver = runner.command("cat").arg("/etc/resolv.conf").run().await;
        hops.push(resolver.unwrap().text());
        hops
    };
    let one = ["10.77.1.1", "fd77:1::1", "nameserver 10.77.1.1\n"];
    assert_eq!(routes().await, one);
    lab.gw().ip("link set runners0 down").unwrap();
    runner.use_gateway(2).unwrap();
    let two = ["10.77.1.254", "fd77:1::fe", "nameserver 10.77.1.254\n"];
    assert_eq!(routes().await, two);
    ping(runner, plan::second_gateway_v4(0)).await.expect_success();
    ping(runner, plan::second_gateway_v6(0)).await.expect_success();
    runner.use_gateway(1).unwrap();
    assert_eq!(routes().await, one);
    assert!(runner.use_gateway(3).is_err() && lab.gw().use_gateway(2).is_err());
}

#[tokio::test]
async fn gateways_reach_control_by_name_and_control_the_internet_but_runners_nothing() {
    let lab = Lab::builder().second_gateway().control().build().unwrap();
    for gateway in [lab.gw(), lab.gw2()] {
        for (family, address) in [("-4", "10.80.0.10"), ("-6", "fd80::10")] {
            let ping = gateway
                .command("ping")
                .args(["-c1", "-W5", family, "control.test"]);
            let pong = ping.run().await.unwrap().expect_success().text();
            assert!(pong.contains(address), "{pong}");
        }
    }
    for address in [IpAddr::from(plan::CONTROL_V4), plan::CONTROL_V6.into()] {
        let runner = lab.runner(0).command("ping");
        let lost = runner.args(["-c1", "-W1", &address.to_string()]).run().await;
        lost.unwrap().expect_failure();
    }
    let issuer = lab.oidc_issuer("issuer.test", plan::site(60)).unwrap();
    for family in ["-4", "-6"] {
        let curl = lab.ctl().command("curl");
        let page = curl.args(["-sS", family, "https://issuer.test/jwks"]).run().await;
        page.unwrap().expect_success();
    }
    assert_eq!(issuer.jwks_requests(), 2);
    assert_eq!(lab.leaks().unwrap().packets, 0);
}

#[tokio::test]
async fn control_can_have_a_database_of_its_own() {
    let lab = Lab::builder().runners(0).control().build().unwrap();
    let database = PostgresServer::start_in(lab.ctl(), lab.dir().join("control-db")).unwrap();
    assert_eq!(database.url(), "postgres://postgres@127.0.0.1:5432/postgres");
    let psql = ["-XAtqc", "select 6 * 7", &database.url()];
    let inside = lab.ctl().command("psql").args(psql).run().await.unwrap();
    assert_eq!(inside.expect_success().text(), "42\n");
    let outside = lab.gw().command("psql").args(psql).run().await.unwrap();
    outside.expect_failure();
}
