//! SIGHUP: leases change under open flows; a configuration that is wrong is refused whole.

use tidegate_e2e::dns::dig_on;
use tidegate_e2e::{PATIENCE, block, command_on, event, run, start};
use tidegate_lab::{Gateway, Lab, Process, Signal, wait_until};

use super::{lease, leasing, policy_of};

/// Rewrites the configuration, sends SIGHUP, and waits until the log says so `outcome`.
async fn reload(gateway: &Gateway<'_>, from: &str, to: &str, outcome: &str) {
    let path = gateway.path("tidegate.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in:\n{text}");
    gateway.write("tidegate.yaml", &text.replace(from, to)).unwrap();
    let count = |log: &str| log.matches(outcome).count();
    let before = count(&gateway.process().stderr());
    gateway.process().signal(Signal::SIGHUP).unwrap();
    let said = wait_until("the reload", PATIENCE, async || {
        let log = gateway.process().stderr();
        if count(&log) > before { Ok(()) } else { Err(log) }
    });
    said.await.unwrap();
}

const DONE: &str = "the configuration was re-read";
const REFUSED: &str = "the new configuration is refused, the old one stays";

/// A slow download on a runner, begun and flowing.
async fn download(lab: &Lab, runner: usize, name: &str) -> Process {
    let url = format!("https://{name}/slow/1000000?pace=600");
    let process = command_on(lab, runner, &["curl", "-sS", "-4", "-o", "got", &url])
        .spawn()
        .unwrap();
    let path = lab.runner(runner).home().join("got");
    let begun = wait_until("the first bytes", PATIENCE, async || {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > 0 => Ok(()),
            other => Err(format!("{other:?}; {}", process.stderr())),
        }
    });
    begun.await.unwrap();
    process
}

#[tokio::test]
async fn l15_a_reload_that_changes_a_lease_judges_its_open_flows_again() {
    let lab = Lab::builder().build().unwrap();
    let leases = [
        lease("10.77.1.2", "build", "build.yaml"),
        lease("10.77.1.3", "steady", "build.yaml"),
    ];
    let builder = leasing(
        &lab,
        "default-policy: default.yaml",
        &leases.each_ref().map(String::as_str),
    );
    let gateway = start(builder).await;
    let mut changing = download(&lab, 0, "allowed.test").await;
    let mut steady = download(&lab, 1, "allowed.test").await;
    let second = lease("10.77.1.2", "second", "other.yaml");
    reload(&gateway, &leases[0], &second, DONE).await;
    let ended = changing
        .wait(PATIENCE)
        .await
        .expect("the old lease's download is cut off");
    assert!(!ended.success());
    let fields = [
        ("name", "allowed.test"),
        ("source", "10.77.1.2"),
        ("reason", "lease-changed"),
    ];
    event(&mut gateway.events(), &fields).await;
    assert_eq!(policy_of(&lab, 0, &[]).await, ["other"]);
    event(
        &mut gateway.events(),
        &[("source", "10.77.1.2"), ("job.job", "second")],
    )
    .await;
    assert!(
        steady.pid().is_some(),
        "another lease's flow goes on: {}",
        steady.stderr()
    );
    lab.origins().release_downloads();
    assert!(
        steady.wait(PATIENCE).await.expect("its end").success(),
        "{}",
        steady.stderr()
    );
}

#[tokio::test]
async fn a_reload_that_leaves_a_lease_as_it_was_keeps_its_tickets_and_flows() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let builder = leasing(&lab, "", &[&held]).section("proxy: {destination: ticket-only}");
    let gateway = start(builder).await;
    let mut process = download(&lab, 0, "allowed.test").await;
    reload(
        &gateway,
        &held,
        &format!("{held}\n    - {}", lease("10.77.1.3", "new", "other.yaml")),
        DONE,
    )
    .await;
    assert_eq!(policy_of(&lab, 1, &[]).await, ["other"]);
    let direct = [
        "curl",
        "-sS",
        "-m",
        "3",
        "--resolve",
        "allowed.test:443:192.0.2.10",
        "https://allowed.test/",
    ];
    run(&lab, &direct).await.expect_success();
    lab.origins().release_downloads();
    assert!(
        process.wait(PATIENCE).await.expect("its end").success(),
        "{}",
        process.stderr()
    );
}

#[tokio::test]
async fn a_flow_that_the_new_lease_allows_lives_on() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let builder = leasing(&lab, "", &[&held])
        .file("wider.yaml", &block(&["allowed.test:443", "cdn-b.test:443"]))
        .unwrap();
    let gateway = start(builder).await;
    let mut process = download(&lab, 0, "allowed.test").await;
    // Neither the old policy nor the old job is left; no moment in between may refuse the flow.
    reload(&gateway, &held, &lease("10.77.1.2", "second", "wider.yaml"), DONE).await;
    assert_eq!(policy_of(&lab, 0, &[]).await, ["build", "other"]);
    lab.origins().release_downloads();
    let log = gateway.process().stderr();
    assert!(
        process.wait(PATIENCE).await.expect("its end").success(),
        "{}; {log}",
        process.stderr()
    );
}

#[tokio::test]
async fn a_removed_static_lease_leaves_its_address_to_the_networks_default_policy() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let gateway = start(leasing(&lab, "default-policy: default.yaml", &[&held])).await;
    let mut process = download(&lab, 0, "allowed.test").await;
    reload(
        &gateway,
        &format!("static-leases:\n    - {held}"),
        "static-leases: []",
        DONE,
    )
    .await;
    // Quarantine is for leases that jobs get and lose; this one an operator took away.
    assert!(
        !process
            .wait(PATIENCE)
            .await
            .expect("the download is cut off")
            .success()
    );
    assert_eq!(policy_of(&lab, 0, &[]).await, ["default"]);
    let record = event(
        &mut gateway.events(),
        &[("source", "10.77.1.2"), ("reason", "lease-changed")],
    )
    .await;
    assert_eq!(record["name"], "allowed.test", "{record}");
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_whole_and_the_old_one_stays() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let gateway = start(leasing(&lab, "default-policy: default.yaml", &[&held])).await;
    let right = std::fs::read_to_string(gateway.path("tidegate.yaml")).unwrap();
    let second = lease("10.77.1.2", "second", "other.yaml");
    for (from, to, said) in [
        (
            "  name: lab-gw",
            "  name: lab-gw\n  evnets: {}",
            "did you mean `events`",
        ),
        (
            "upstreams: [198.51.100.53]",
            "upstreams: [resolver.example]",
            "gateway.dns",
        ),
        (
            "upstreams: [198.51.100.53]",
            "upstreams: []",
            "at least one upstream",
        ),
        (
            "interface: runners0",
            "interface: runners9",
            "can't change while the gateway runs",
        ),
        (
            "interface: runners0",
            "interface: runners0, min-assurance: static",
            "can't change while the gateway runs",
        ),
        ("static-leases:", "static-leases: nonsense", "tidegate.yaml"),
    ] {
        // A change that is right comes along with each that is not: neither counts.
        gateway
            .write("tidegate.yaml", &right.replace(&held, &second))
            .unwrap();
        reload(&gateway, from, to, REFUSED).await;
        assert!(
            gateway.process().stderr().contains(said),
            "{said}: {}",
            gateway.process().stderr()
        );
        assert_eq!(policy_of(&lab, 0, &[]).await, ["build"], "{to}");
    }
    gateway
        .write("tidegate.yaml", &right.replace(&held, &second))
        .unwrap();
    reload(&gateway, "lab-gw", "lab-gw", DONE).await;
    assert_eq!(
        policy_of(&lab, 0, &[]).await,
        ["other"],
        "and a right one is taken over"
    );
}

/// `status` asks the running gateway: that the file beside it is broken is what it should say, not why it fails.
#[tokio::test]
async fn status_tells_of_a_refused_configuration() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let gateway = start(leasing(&lab, "", &[&held])).await;
    reload(
        &gateway,
        "upstreams: [198.51.100.53]",
        "upstreams: [\"198.51.100.53:none\"]",
        REFUSED,
    )
    .await;
    let (code, status) = gateway.status().await.unwrap();
    assert_eq!(code, Some(1), "{status}");
    assert!(
        status["degraded"].to_string().contains("198.51.100.53:none"),
        "{status}"
    );
    reload(&gateway, "[\"198.51.100.53:none\"]", "[198.51.100.53]", DONE).await;
    gateway
        .wait_status("health", |status| status["degraded"] == serde_json::json!([]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reload_takes_over_what_dns_is_told() {
    let lab = Lab::builder().build().unwrap();
    lab.name("allowed.test", &["192.0.2.10".parse().unwrap()])
        .unwrap();
    lab.foreign_dns().set("allowed.test", &["A 192.0.2.20"]).unwrap();
    let builder = leasing(&lab, "", &[&lease("10.77.1.2", "build", "build.yaml")])
        .dns("hosts: {a.example: [192.0.2.1]}");
    let gateway = start(builder).await;
    assert_eq!(dig_on(&lab, 0, &["a.example"]).await.data(), ["192.0.2.1"]);
    reload(
        &gateway,
        "{a.example: [192.0.2.1]}",
        "{a.example: [192.0.2.2]}",
        DONE,
    )
    .await;
    assert_eq!(dig_on(&lab, 0, &["a.example"]).await.data(), ["192.0.2.2"]);
    reload(
        &gateway,
        "upstreams: [198.51.100.53]",
        "upstreams: [203.0.113.53]",
        DONE,
    )
    .await;
    assert_eq!(dig_on(&lab, 0, &["allowed.test"]).await.data(), ["192.0.2.20"]);
    let (_, status) = gateway.status().await.unwrap();
    assert!(
        status["upstreams"].to_string().contains("203.0.113.53"),
        "{status}"
    );
    // A new upstream is as unreachable for jobs as the old one was.
    let line = ["curl", "-sS", "-m", "2", "http://203.0.113.53/"];
    run(&lab, &line).await.expect_failure();
    event(
        &mut gateway.events(),
        &[("address", "203.0.113.53"), ("reason", "never-dial")],
    )
    .await;
}
