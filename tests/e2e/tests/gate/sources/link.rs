//! Machines on the link: several addresses of one machine, one address of two machines.

use tidegate_e2e::dns::{Reply, dig_on};
use tidegate_e2e::{PATIENCE, block, bound, event, run, start};
use tidegate_lab::{Gateway, Lab, UdpReply, wait_until};

use super::{lease, leasing, policy_of, started};

/// Waits until `status` lists a source of the first lease.
async fn joined(gateway: &Gateway<'_>, source: &str) {
    let lists = |status: &serde_json::Value| {
        let sources = status["leases"][0]["sources"].as_array();
        sources.is_some_and(|sources| sources.iter().any(|one| one == source))
    };
    gateway
        .wait_status(&format!("{source} to belong to the lease"), lists)
        .await
        .unwrap();
}

#[tokio::test]
async fn v4_and_v6_of_one_machine_are_one_job() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(
        &lab,
        "default-policy: default.yaml",
        &[&lease("10.77.1.2", "build", "build.yaml")],
    )
    .await;
    assert_eq!(
        dig_on(&lab, 0, &["@10.77.1.1", "allowed.test"]).await.data(),
        ["192.0.2.10"]
    );
    // Until the machine is known an IPv6 source is refused; never is it given the default policy.
    let mine = wait_until(
        "the job's own policy over IPv6",
        PATIENCE,
        async || match policy_of(&lab, 0, &["@fd77:1::1"]).await.as_slice() {
            ["build"] => Ok(()),
            [] => Err("refused"),
            other => panic!("an address of a leased machine got {other:?}"),
        },
    );
    mine.await.unwrap();
    joined(&gateway, "fd77:1::2").await;
    let mut events = gateway.events();
    let v4 = event(&mut events, &[("source", "10.77.1.2"), ("verdict", "permit")]).await;
    let v6 = event(&mut events, &[("source", "fd77:1::2"), ("verdict", "permit")]).await;
    assert_eq!(v4["job"]["id"], v6["job"]["id"]);
    // One job, one set of tickets: what was answered over IPv4 holds for a flow over IPv6.
    let line = [
        "curl",
        "-sS",
        "-6",
        "--resolve",
        "allowed.test:443:2001:db8:200::10",
        "https://allowed.test/",
    ];
    dig_on(&lab, 0, &["@10.77.1.1", "AAAA", "allowed.test"]).await;
    run(&lab, &line).await.expect_success();
}

#[tokio::test]
async fn an_ipv6_source_that_comes_first_is_not_given_the_default_policy() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let gateway = started(&lab, "default-policy: default.yaml", &[&held]).await;
    // The machine is silent on IPv4, so nothing has shown yet that it is the lease's.
    for _ in 0..5 {
        let allowed = policy_of(&lab, 0, &["@fd77:1::1"]).await;
        assert!(!allowed.contains(&"default"), "{allowed:?}");
    }
    event(
        &mut gateway.events(),
        &[("source", "fd77:1::2"), ("reason", "unbound-source")],
    )
    .await;
    // Another machine, with an IPv4 address of its own, is told from it.
    let other = wait_until("the other machine's default policy", PATIENCE, async || {
        dig_on(&lab, 1, &["@10.77.1.1", "cdn-a.test"]).await;
        let allowed = policy_of(&lab, 1, &["@fd77:1::1"]).await;
        if allowed == ["default"] {
            Ok(())
        } else {
            Err(format!("{allowed:?}"))
        }
    });
    other.await.unwrap();
    dig_on(&lab, 0, &["@10.77.1.1", "allowed.test"]).await;
    joined(&gateway, "fd77:1::2").await;
    assert_eq!(policy_of(&lab, 0, &["@fd77:1::1"]).await, ["build"]);
}

#[tokio::test]
async fn l19_a_fresh_address_of_the_same_machine_is_the_same_job() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2, \"fd77:1::2\"", "build", "build.yaml");
    let gateway = started(&lab, "default-policy: default.yaml", &[&held]).await;
    dig_on(&lab, 0, &["@10.77.1.1", "allowed.test"]).await;
    bound(&lab, 0).await;
    for (fresh, prefix, server) in [
        ("10.77.1.200", 24, "@10.77.1.1"),
        ("fd77:1::200", 64, "@fd77:1::1"),
    ] {
        lab.runner(0).add_address(&format!("{fresh}/{prefix}")).unwrap();
        // It may take a moment until the address is seen at its machine.
        dig_on(&lab, 0, &["-b", fresh, server, "evil.test"]).await;
        joined(&gateway, fresh).await;
        assert_eq!(
            policy_of(&lab, 0, &["-b", fresh, server]).await,
            ["build"],
            "{fresh}"
        );
        event(
            &mut gateway.events(),
            &[("source", fresh), ("job.job", "build"), ("verdict", "permit")],
        )
        .await;
    }
}

#[tokio::test]
async fn l19_an_address_that_could_be_either_jobs_is_refused_and_named_by_status() {
    let lab = Lab::builder().build().unwrap();
    let leases = [
        lease("10.77.1.2", "build", "build.yaml"),
        lease("10.77.1.201", "other", "other.yaml"),
    ];
    let gateway = started(
        &lab,
        "default-policy: default.yaml",
        &leases.each_ref().map(String::as_str),
    )
    .await;
    for address in ["10.77.1.201/24", "10.77.1.202/24"] {
        lab.runner(0).add_address(address).unwrap();
    }
    assert_eq!(policy_of(&lab, 0, &["-b", "10.77.1.2"]).await, ["build"]);
    assert_eq!(policy_of(&lab, 0, &["-b", "10.77.1.201"]).await, ["other"]);
    let refused = wait_until(
        "the further address to be refused as unbound",
        PATIENCE,
        async || {
            let answer = dig_on(&lab, 0, &["-b", "10.77.1.202", "cdn-a.test"]).await;
            if answer.text.contains("unbound-source") {
                Ok(())
            } else {
                Err(answer)
            }
        },
    );
    refused.await.unwrap();
    assert_eq!(
        policy_of(&lab, 0, &["-b", "10.77.1.202"]).await,
        <[&str; 0]>::default()
    );
    event(
        &mut gateway.events(),
        &[("source", "10.77.1.202"), ("reason", "unbound-source")],
    )
    .await;
    let (_, status) = gateway.status().await.unwrap();
    let unbound = status["unbound_sources"].as_array().unwrap();
    let mac = lab.runner(0).mac().unwrap();
    let named = unbound
        .iter()
        .any(|one| one["source"] == "10.77.1.202" && one["mac"] == mac.as_str());
    assert!(named, "{status}");
}

/// Lets runner 1 send from runner 0's address without answering for it on the link.
async fn take_address(lab: &Lab) {
    let thief = lab.runner(1);
    dig_on(lab, 1, &["evil.test"]).await;
    thief.sysctl("net/ipv4/conf/all/arp_ignore", "1").unwrap();
    thief.sysctl("net/ipv4/conf/all/arp_announce", "2").unwrap();
    thief.ip("addr add 10.77.1.2/32 dev lo").unwrap();
}

#[tokio::test]
async fn l11_a_datagram_from_another_machine_than_the_leases_gets_tc_and_nothing_else() {
    let lab = Lab::builder().build().unwrap();
    let service = lab
        .udp("192.0.2.80:7000".parse().unwrap(), UdpReply::Echo)
        .unwrap();
    let builder = leasing(&lab, "", &[&lease("10.77.1.2", "build", "build.yaml")]);
    let endpoints = block(&["allowed.test:443", "192.0.2.80:7000/udp"]);
    let gateway = start(builder.file("build.yaml", &endpoints).unwrap()).await;
    dig_on(&lab, 0, &["evil.test"]).await;
    bound(&lab, 0).await;
    take_address(&lab).await;
    let (ready, listening) = tokio::sync::oneshot::channel();
    let victim = lab.runner(0).enter_async(move || async move {
        let socket = tokio::net::UdpSocket::bind("10.77.1.2:5000").await.unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 1500];
        let (length, from) = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        (Reply(buffer[..length].to_vec()), from)
    });
    let forging = async {
        listening.await.unwrap();
        dig_on(
            &lab,
            1,
            &[
                "-b",
                "10.77.1.2#5000",
                "+notcp",
                "+time=1",
                "@203.0.113.53",
                "allowed.test",
            ],
        )
        .await
    };
    let (victim, forged) = tokio::join!(victim, forging);
    let (reply, from) = victim.unwrap();
    // The answer goes to the address's owner, and says nothing but "ask by TCP".
    assert!(
        reply.is_truncated() && reply.answers() == 0 && reply.rcode() == 0,
        "{reply:?}"
    );
    assert_eq!(from.to_string(), "203.0.113.53:53");
    assert!(forged.status.is_empty(), "{forged}");
    let mut events = gateway.events();
    let fields = [
        ("kind", "dns"),
        ("source", "10.77.1.2"),
        ("reason", "spoofed-source"),
        ("verdict", "refuse"),
    ];
    event(&mut events, &fields).await;
    // TCP from a forged address never gets beyond its first packet: the answer to it goes to the owner.
    let by_tcp = dig_on(&lab, 1, &["-b", "10.77.1.2", "+tcp", "+time=1", "allowed.test"]).await;
    assert!(by_tcp.status.is_empty(), "{by_tcp}");
    assert!(lab.dns().asked("allowed.test").is_empty());
    // Any other datagram is refused, though the lease's job may send it.
    let socat = "UDP:192.0.2.80:7000,bind=10.77.1.2";
    let sent = tidegate_e2e::command_on(&lab, 1, &["socat", "-t", "0.2", "-", socat]).input("forged");
    sent.run().await.unwrap();
    event(
        &mut events,
        &[("kind", "udp"), ("port", "7000"), ("reason", "spoofed-source")],
    )
    .await;
    assert!(service.received().is_empty(), "{:?}", service.received());
    let own = tidegate_e2e::command(&lab, &["socat", "-t", "1", "-", "UDP:192.0.2.80:7000"]).input("own");
    assert_eq!(own.run().await.unwrap().text(), "own");
}
