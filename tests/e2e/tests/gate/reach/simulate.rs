//! A policy is tried against what a job did under another, then put in force, and the same job comes out as foreseen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};
use tidegate_e2e::dns::dig;
use tidegate_e2e::store::{Fleet, start_of};
use tidegate_e2e::{PATIENCE, audit, run};
use tidegate_lab::{Lab, plan, wait_until};

/// A call: whom, which port, what kind of traffic.
type Call = (String, u64, String);

const CANDIDATE: &str = "\
egress-policy: block
platform: none
allowed-endpoints:
  - allowed.test:443
  - \"*.allowed.test:80\"
  - cdn-b.test:443
  - 203.0.113.66:443
denied-endpoints:
  - cdn-b.test:80
";

fn v4(addresses: [IpAddr; 2]) -> String {
    addresses[0].to_string()
}

/// A job of acme/web on runner 0: names by TLS and by HTTP, an address that is nobody's name, names that are only asked
/// for. Its flows go where they go without asking, so that a refused name does not keep them from being judged.
async fn job(fleet: &Fleet<'_>, number: u32) -> String {
    let mut start = start_of("acme/web", "ci.yml");
    start["run_id"] = number.into();
    let registered = fleet.try_register(0, Some(&fleet.runner), &start).await;
    let id = registered.expect(201).json()["id"]
        .as_str()
        .expect("the job's id")
        .to_owned();
    let sites = [
        ("https", "allowed.test", v4(plan::site(10))),
        ("https", "evil.test", v4(plan::site(66))),
        ("https", "cdn-a.test", v4(plan::site(20))),
        ("https", "cdn-b.test", v4(plan::site(20))),
        ("http", "www.allowed.test", v4(plan::site(10))),
        ("http", "cdn-b.test", v4(plan::site(20))),
        ("http", "evil.test", v4(plan::site(66))),
    ];
    for (scheme, name, address) in &sites {
        let port = if *scheme == "https" { 443 } else { 80 };
        let resolve = format!("{name}:{port}:{address}");
        let url = format!("{scheme}://{name}/");
        run(
            fleet.lab,
            &[
                "curl",
                "-sk",
                "-m",
                "5",
                "-o",
                "/dev/null",
                "--resolve",
                &resolve,
                &url,
            ],
        )
        .await;
    }
    for address in [plan::foreign_site(66), plan::site(66)] {
        let url = format!("https://{}/", address[0]);
        run(fleet.lab, &["curl", "-sk", "-m", "5", "-o", "/dev/null", &url]).await;
    }
    for name in ["allowed.test", "attacker.test"] {
        dig(fleet.lab, &[name, "A"]).await;
    }
    id
}

fn calls(list: &Value) -> BTreeSet<Call> {
    let of = |line: &Value| {
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        let whom = text("endpoint")
            .or_else(|| text("name"))
            .or_else(|| text("address"));
        let port = line["port"].as_u64().expect("a port");
        (whom.expect("whom"), port, text("kind").expect("a kind"))
    };
    list.as_array().expect("a list").iter().map(of).collect()
}

/// What a job did by now, by its verdicts: flows, and queries for names that no flow went to.
async fn seen(fleet: &Fleet<'_>, job: &str, verdict: &str) -> BTreeSet<Call> {
    let path = format!("/events?limit=1000&job={job}&verdict={verdict}");
    let page = fleet.api("GET", &path, None).await.expect(200).json();
    calls(&page["items"])
}

/// Waits until all of a job's calls are stored.
async fn stored(fleet: &Fleet<'_>, job: &str, verdicts: &[&str], calls: usize) {
    let all = wait_until("the job's calls to be stored", PATIENCE, async || {
        let mut seen = BTreeSet::new();
        for verdict in verdicts {
            seen.extend(self::seen(fleet, job, verdict).await);
        }
        if seen.len() >= calls {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    all.await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn what_a_simulation_foresees_comes_true_when_the_policy_is_enforced() {
    /// Seven flows to names, two to addresses, two queries.
    const CALLS: usize = 11;
    let lab = Lab::builder().control().build().unwrap();
    let fleet = Fleet::builder(&lab).network("cluster: prod, runners: persistent");
    let fleet = Box::pin(fleet.start()).await;
    fleet.attached("watch", &audit(&[]), "repo:acme/web").await;
    let watched = job(&fleet, 1).await;
    stored(&fleet, &watched, &["permit", "would-refuse"], CALLS).await;
    fleet.end(0).await.expect(200);

    let asked = json!({"yaml": CANDIDATE, "scopes": ["repo:acme/web"]});
    let path = "/orgs/acme/policies/watch/simulate";
    let foreseen = fleet.api("POST", path, Some(&asked)).await.expect(200).json();
    assert_eq!(foreseen["jobs"], 1, "{foreseen}");
    assert_eq!(
        foreseen["newly_permitted"],
        json!([]),
        "audit refused nothing: {foreseen}"
    );
    assert_eq!(foreseen["undecided"], json!([]), "{foreseen}");
    let refused = calls(&foreseen["newly_refused"]);
    assert!(
        refused.contains(&("evil.test".into(), 443, "tls".into()))
            && refused.contains(&("cdn-b.test".into(), 80, "http".into()))
            && refused.contains(&("attacker.test".into(), 53, "dns".into())),
        "{refused:?}"
    );

    fleet.edit("watch", CANDIDATE).await;
    let enforced = job(&fleet, 2).await;
    stored(&fleet, &enforced, &["permit", "refuse"], CALLS).await;
    assert_eq!(seen(&fleet, &enforced, "refuse").await, refused, "{foreseen:#}");
    let mut all = seen(&fleet, &watched, "would-refuse,permit").await;
    all.retain(|call| !refused.contains(call));
    assert_eq!(
        seen(&fleet, &enforced, "permit").await,
        all,
        "what is not refused goes through as before"
    );
}
