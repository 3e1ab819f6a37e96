//! Who is asking: every row of that list in the policy semantics that a static configuration can show.

mod link;
mod reload;

use tidegate_e2e::dns::{dig, dig_at, dig_on};
use tidegate_e2e::{block, event, run, run_on, start};
use tidegate_lab::{Gateway, GatewayBuilder, Lab};

/// A gateway with a lease of its own choosing: its default policy allows `cdn-a.test`, the policy `build.yaml`
/// of leases `allowed.test`, `other.yaml` `cdn-b.test`.
fn leasing<'a>(lab: &'a Lab, network: &str, leases: &[&str]) -> GatewayBuilder<'a> {
    let builder = GatewayBuilder::new(lab, tidegate_e2e::tidegate()).network(network);
    let files = [
        ("default.yaml", "cdn-a.test:443"),
        ("build.yaml", "allowed.test:443"),
        ("other.yaml", "cdn-b.test:443"),
    ];
    let builder = files.iter().fold(builder, |builder, (file, endpoint)| {
        builder.file(file, &block(&[endpoint])).unwrap()
    });
    leases
        .iter()
        .fold(builder, |builder, lease| builder.lease_of(lease))
}

/// A lease entry of job `name` over these sources.
fn lease(sources: &str, name: &str, policy: &str) -> String {
    format!(
        "{{sources: [{sources}], owner: acme, repo: acme/web, workflow: ci.yml, job: {name}, policy: {policy}}}"
    )
}

/// Which of the three policies decides for a runner's queries now, by what it may resolve.
async fn policy_of(lab: &Lab, runner: usize, args: &[&str]) -> Vec<&'static str> {
    let mut allowed = Vec::new();
    for (name, policy) in [
        ("cdn-a.test", "default"),
        ("allowed.test", "build"),
        ("cdn-b.test", "other"),
    ] {
        let answer = dig_on(lab, runner, &[args, &[name]].concat()).await;
        if !answer.data().is_empty() {
            allowed.push(policy);
        }
    }
    allowed
}

async fn started<'a>(lab: &'a Lab, network: &str, leases: &[&str]) -> Gateway<'a> {
    start(leasing(lab, network, leases)).await
}

#[tokio::test]
async fn an_event_names_the_job_of_its_source() {
    let lab = Lab::builder().build().unwrap();
    let entry =
        "{sources: [10.77.1.2], owner: Acme, repo: Web, workflow: ci.yml, job: build, policy: build.yaml}";
    let gateway = started(&lab, "cluster: prod, default-policy: default.yaml", &[entry]).await;
    run(&lab, &["curl", "-sS", "-4", "https://allowed.test/"])
        .await
        .expect_success();
    for kind in ["dns", "tls"] {
        let fields = [("kind", kind), ("name", "allowed.test"), ("verdict", "permit")];
        let record = event(&mut gateway.events(), &fields).await;
        let job = &record["job"];
        for (key, value) in [
            ("owner", "acme"),
            ("repo", "acme/web"),
            ("workflow", "ci.yml"),
            ("job", "build"),
            ("cluster", "prod"),
            ("assurance", "static"),
        ] {
            assert_eq!(job[key], value, "{key}: {record}");
        }
        assert!(job["id"].as_str().is_some_and(|id| !id.is_empty()), "{record}");
        assert_eq!(
            (&record["network"], &record["source"]),
            (&"net0".into(), &"10.77.1.2".into()),
            "{record}"
        );
        assert_eq!(
            (&record["policy"], &record["policy_version"]),
            (&"build.yaml".into(), &1.into()),
            "{record}"
        );
    }
}

#[tokio::test]
async fn a_source_without_a_lease_gets_its_networks_default_policy() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2, \"fd77:1::2\"", "build", "build.yaml");
    let gateway = started(&lab, "default-policy: default.yaml", &[&held]).await;
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(policy_of(&lab, 0, &[transport]).await, ["build"]);
        assert_eq!(policy_of(&lab, 1, &[transport]).await, ["default"]);
    }
    run_on(&lab, 1, &["curl", "-sS", "-4", "https://cdn-a.test/"])
        .await
        .expect_success();
    let fields = [("kind", "tls"), ("name", "cdn-a.test"), ("source", "10.77.1.3")];
    let record = event(&mut gateway.events(), &fields).await;
    assert!(record.get("job").is_none(), "{record}");
    assert_eq!(
        (&record["scope"], &record["policy"]),
        (&"network:net0".into(), &"default.yaml".into()),
        "{record}"
    );
}

#[tokio::test]
async fn a_network_without_a_default_policy_takes_the_gateways_and_else_denies_all() {
    let lab = Lab::builder().build().unwrap();
    {
        let builder = leasing(&lab, "", &[]).section("default-policy: default.yaml");
        let _gateway = start(builder).await;
        assert_eq!(policy_of(&lab, 1, &[]).await, ["default"]);
    }
    let gateway = started(&lab, "", &[]).await;
    assert_eq!(policy_of(&lab, 1, &[]).await, <[&str; 0]>::default());
    let answer = dig_on(&lab, 1, &["cdn-a.test"]).await;
    assert!(
        answer.is_blocked() && answer.text.contains("no-policy"),
        "{answer}"
    );
    let direct = [
        "curl",
        "-sS",
        "-m",
        "2",
        "--resolve",
        "cdn-a.test:443:192.0.2.20",
        "https://cdn-a.test/",
    ];
    run_on(&lab, 1, &direct).await.expect_failure();
    for kind in ["dns", "tls"] {
        event(
            &mut gateway.events(),
            &[("kind", kind), ("name", "cdn-a.test"), ("reason", "no-policy")],
        )
        .await;
    }
    assert!(lab.origins().connections().is_empty());
}

#[tokio::test]
async fn a_ranges_tickets_are_kept_by_source_address() {
    let lab = Lab::builder().build().unwrap();
    let builder = leasing(&lab, "", &[&lease("10.77.1.0/24", "fleet", "build.yaml")]);
    let gateway = start(builder.section("proxy: {destination: ticket-only}")).await;
    assert_eq!(dig_on(&lab, 0, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    let direct = [
        "curl",
        "-sS",
        "-m",
        "2",
        "--resolve",
        "allowed.test:443:192.0.2.10",
        "https://allowed.test/",
    ];
    run_on(&lab, 0, &direct).await.expect_success();
    run_on(&lab, 1, &direct).await.expect_failure();
    let fields = [
        ("kind", "tls"),
        ("source", "10.77.1.3"),
        ("reason", "unticketed"),
        ("job.job", "fleet"),
    ];
    event(&mut gateway.events(), &fields).await;
    assert_eq!(dig_on(&lab, 1, &["-x", "192.0.2.10"]).await.status, "NXDOMAIN");
    assert_eq!(dig_on(&lab, 1, &["allowed.test"]).await.data(), ["192.0.2.10"]);
    run_on(&lab, 1, &direct).await.expect_success();
}

#[tokio::test]
async fn the_longest_prefix_wins_whatever_comes_first() {
    let lab = Lab::builder().runners(3).build().unwrap();
    let wide = lease("10.77.0.0/16", "wide", "default.yaml");
    let narrow = lease("10.77.1.0/30", "narrow", "build.yaml");
    let single = lease("10.77.1.2", "single", "other.yaml");
    for order in [[&wide, &narrow, &single], [&single, &narrow, &wide]] {
        let gateway = started(&lab, "", &order.map(String::as_str)).await;
        assert_eq!(
            policy_of(&lab, 0, &[]).await,
            ["other"],
            "10.77.1.2 has a lease of its own"
        );
        assert_eq!(
            policy_of(&lab, 1, &[]).await,
            ["build"],
            "10.77.1.3 lies in the /30"
        );
        assert_eq!(
            policy_of(&lab, 2, &[]).await,
            ["default"],
            "10.77.1.4 lies in the /16 only"
        );
        event(
            &mut gateway.events(),
            &[("source", "10.77.1.4"), ("job.job", "wide")],
        )
        .await;
    }
}

#[tokio::test]
async fn a_lease_of_the_networks_min_assurance_counts() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    for least in ["claimed", "forge", "static"] {
        let network = format!("min-assurance: {least}, default-policy: default.yaml");
        let _gateway = started(&lab, &network, &[&held]).await;
        assert_eq!(policy_of(&lab, 0, &[]).await, ["build"], "{least}");
        assert_eq!(policy_of(&lab, 1, &[]).await, ["default"], "{least}");
    }
}

/// L11: a source that is another network's is dropped at the door, whatever lease that network has for it.
#[tokio::test]
async fn a_leases_source_counts_in_its_own_network_only() {
    let lab = Lab::builder().runners(1).network(1).build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let builder = leasing(&lab, "", &[&held]).network("default-policy: default.yaml");
    let gateway = start(builder).await;
    let far = lab.runner_on(1, 0);
    // It asks for the gateway's machine in its own name; only its packets are forged.
    far.sysctl("net/ipv4/conf/all/arp_announce", "2").unwrap();
    far.add_address("10.77.1.2/32").unwrap();
    for transport in ["+notcp", "+tcp"] {
        let forged = dig_at(
            far,
            &[
                "-b",
                "10.77.1.2",
                transport,
                "+time=1",
                "@203.0.113.53",
                "allowed.test",
            ],
        )
        .await;
        assert!(forged.status.is_empty(), "{forged}");
    }
    // Its own address is the other network's, and that network's default policy.
    let own = dig_at(far, &["-b", "10.77.2.2", "cdn-a.test"]).await;
    assert_eq!(own.data(), ["192.0.2.20"], "{own}");
    let record = event(
        &mut gateway.events(),
        &[("source", "10.77.2.2"), ("name", "cdn-a.test")],
    )
    .await;
    assert_eq!(record["network"], "net1", "{record}");
    let forged = gateway.events().matching(|event| event["source"] == "10.77.1.2");
    assert_eq!(forged, Vec::<serde_json::Value>::new());
    assert!(lab.dns().asked("allowed.test").is_empty());
    assert_eq!(
        dig(&lab, &["allowed.test"]).await.data(),
        ["192.0.2.10"],
        "the lease's own machine is served"
    );
}

#[tokio::test]
async fn always_allow_holds_for_every_job_of_the_network() {
    let lab = Lab::builder().build().unwrap();
    let held = lease("10.77.1.2", "build", "build.yaml");
    let builder = leasing(
        &lab,
        "always-allow: host.yaml, default-policy: default.yaml",
        &[&held],
    );
    let gateway = start(
        builder
            .file("host.yaml", "endpoints: [\"cdn-b.test:443\"]\n")
            .unwrap(),
    )
    .await;
    assert_eq!(policy_of(&lab, 0, &[]).await, ["build", "other"]);
    assert_eq!(policy_of(&lab, 1, &[]).await, ["default", "other"]);
    let record = event(
        &mut gateway.events(),
        &[("name", "cdn-b.test"), ("verdict", "permit")],
    )
    .await;
    assert_eq!(record["rule_source"], "host", "{record}");
}
