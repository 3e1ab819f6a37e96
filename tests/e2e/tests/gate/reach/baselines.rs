//! What jobs reach becomes normal, what is not normal is told, and what is normal becomes a policy.

use serde_json::{Value, json};
use tidegate_e2e::store::{Fleet, OWNER, start_of};
use tidegate_e2e::{PATIENCE, audit};
use tidegate_lab::{Lab, wait_until};

/// Runs without anything new after which a baseline is stable.
const QUIET: u32 = 100;

/// A fleet of machines that run one job after another, whose jobs are recorded and never stopped.
async fn fleet(lab: &Lab) -> Fleet<'_> {
    let fleet = Fleet::builder(lab).network("cluster: prod, runners: persistent");
    let fleet = Box::pin(fleet.start()).await;
    fleet
        .attached("watch", &audit(&["allowed.test:443"]), "repo:acme/web")
        .await;
    fleet
}

/// A run of acme/web's ci.yml on runner 0 that reaches `names`; `of` says more of who it is.
async fn run(fleet: &Fleet<'_>, number: u32, of: &Value, names: &[&str]) {
    let mut start = start_of("acme/web", "ci.yml");
    start["run_id"] = number.into();
    for (field, value) in of.as_object().into_iter().flatten() {
        start[field] = value.clone();
    }
    fleet
        .try_register(0, Some(&fleet.runner), &start)
        .await
        .expect(201);
    assert_eq!(fleet.reached(0, names).await, names, "run {number}");
    fleet.end(0).await.expect(200);
}

/// Waits until a page of the API is as it should be, and gives it back.
async fn shows(fleet: &Fleet<'_>, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let seen = wait_until(what, PATIENCE, async || {
        let page = fleet.api("GET", path, None).await.expect(200).json();
        if is(&page) {
            Ok(page)
        } else {
            Err(page.to_string())
        }
    });
    seen.await.unwrap_or_else(|error| panic!("{error}"))
}

/// The endpoints of the repository's baseline that an import takes.
async fn imported(fleet: &Fleet<'_>) -> String {
    let path = "/baselines?scope=repo:acme/web&format=txt";
    let export = fleet.api("GET", path, None).await.expect(200);
    export.text()
}

/// Open detections of a type, by what they are about.
fn about(page: &Value, kind: &str) -> Vec<String> {
    let items = page["items"].as_array().expect("items").iter();
    items
        .filter(|detection| detection["type"] == kind && detection["status"] == "new")
        .map(|detection| {
            detection["evidence"]["endpoint"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_stable_baseline_tells_what_is_new_and_becomes_a_policy_that_refuses_it() {
    let lab = Lab::builder().control().build().unwrap();
    let fleet = fleet(&lab).await;
    let baseline = "/baselines?scope=repo:acme/web";
    for number in 1..=QUIET {
        run(&fleet, number, &json!({}), &["allowed.test"]).await;
    }
    // The first run was the one that something new was seen in.
    let creating = shows(&fleet, baseline, "all runs to be counted", |page| {
        page["runs"] == QUIET
    })
    .await;
    assert_eq!(creating["state"], "creating", "{creating}");
    run(&fleet, QUIET + 1, &json!({}), &["allowed.test"]).await;
    let stable = shows(&fleet, baseline, "the baseline to be stable", |page| {
        page["state"] == "stable"
    })
    .await;
    assert_eq!(stable["endpoints"][0]["endpoint"], "allowed.test", "{stable}");
    assert_eq!(stable["endpoints"][0]["runs"], QUIET + 1, "{stable}");

    // A fork's pull request reaches for what nobody did before, and so does a run of the branch.
    let fork = json!({"event": "pull_request", "ref": "refs/pull/7/merge", "head_repo": "mallory/web"});
    run(&fleet, QUIET + 2, &fork, &["allowed.test", "cdn-a.test"]).await;
    run(
        &fleet,
        QUIET + 3,
        &json!({"event": "push"}),
        &["allowed.test", "cdn-b.test"],
    )
    .await;
    run(
        &fleet,
        QUIET + 4,
        &json!({"event": "push"}),
        &["allowed.test", "cdn-b.test"],
    )
    .await;
    let kind = "New-Outbound-Network-Call";
    let detections = "/detections?owner=acme&status=new";
    let found = shows(&fleet, detections, "both calls to be detected", |page| {
        let found = about(page, kind);
        found.contains(&"cdn-a.test".to_owned()) && found.contains(&"cdn-b.test".to_owned())
    })
    .await;
    // A run counts with its first event; what it reached after that may come with the next batch.
    let unstable = shows(
        &fleet,
        baseline,
        "the new call of both runs to be counted",
        |page| {
            let endpoints = page["endpoints"].as_array().into_iter().flatten();
            let twice = |one: &Value| one["endpoint"] == "cdn-b.test" && one["runs"] == 2;
            page["state"] == "unstable" && endpoints.filter(|one| twice(one)).count() == 1
        },
    )
    .await;
    let of = |name: &str| {
        let endpoints = unstable["endpoints"].as_array().expect("endpoints");
        endpoints.iter().find(|one| one["endpoint"] == name).cloned()
    };
    let forked = of("cdn-a.test").expect("what a fork reached is shown");
    assert_eq!(forked["imported"], false, "{forked}");
    assert!(forked["left_out"].to_string().contains("fork"), "{forked}");
    assert_eq!(imported(&fleet).await, "allowed.test:443\n");

    // Somebody knows the new call and says so: from now on it is normal. The fork's stays what it is.
    let items = found["items"].as_array().unwrap();
    let known = items
        .iter()
        .find(|one| one["type"] == kind && one["evidence"]["endpoint"] == "cdn-b.test")
        .expect("the detection");
    let path = format!("/detections/{}", known["id"].as_str().unwrap());
    let change = json!({"status": "resolved", "expected": true, "note": "the new artifact store"});
    let changed = fleet.api("PATCH", &path, Some(&change)).await.expect(200);
    println!("{changed}");
    println!(
        "{}",
        fleet.api("GET", "/detections?owner=acme", None).await.text()
    );
    println!("{}", fleet.api("GET", baseline, None).await.text());
    assert_eq!(imported(&fleet).await, "allowed.test:443\ncdn-b.test:443\n");

    // The policy of what is normal refuses the rest, and that is told, too.
    let new = json!({"name": "web", "from_baseline": {"scope": "repo:acme/web", "mode": "block"}});
    let made = fleet
        .api("POST", &format!("/orgs/{OWNER}/policies"), Some(&new))
        .await
        .expect(201)
        .json();
    assert!(!made["yaml"].to_string().contains("cdn-a.test:443"), "{made}");
    let moved = json!({"add": ["repo:acme/web"], "replace": true});
    fleet.attachments("web", &moved).await.expect(200);
    fleet.register(0, "acme/web", "ci.yml").await;
    let names = ["allowed.test", "cdn-a.test", "cdn-b.test"];
    assert_eq!(fleet.reached(0, &names).await, ["allowed.test", "cdn-b.test"]);
    shows(&fleet, detections, "the refusal to be detected", |page| {
        about(page, "Domain-Blocked").contains(&"cdn-a.test".to_owned())
    })
    .await;
}
