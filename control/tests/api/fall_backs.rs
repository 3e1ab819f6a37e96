//! What jobs get where no policy of their workflow, repository or organization decides: shown and tried before it is so.

use serde_json::{Value, json};
use tidegate_control::model::Role;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;

use crate::bench::{Bench, POLICY, of_owners};
use crate::coverage::{attach, job};
use crate::events::{event, store};

const HOUSE: &str = "egress-policy: block\nplatform: none\nallowed-endpoints: >\n  house.test:443\n";

/// A gateway that serves networks: their name, cluster, range, and default with its text.
async fn gateway(bench: &Bench, networks: &[(&str, &str, &str, &str, Option<&str>)]) {
    let networks = networks
        .iter()
        .map(|(name, cluster, range, default, yaml)| ServedNetwork {
            name: (*name).into(),
            cluster: (*cluster).into(),
            ranges: vec![range.parse().unwrap()],
            default_policy: Some((*default).into()),
            default_yaml: yaml.map(Into::into),
            ..ServedNetwork::default()
        });
    let hello = Hello {
        protocol: PROTOCOL,
        gateway: "gw-1".into(),
        group: None,
        version: "0.1.0".into(),
        networks: networks.collect(),
        resume: None,
    };
    let seen = bench.store.gateway_seen(&hello, "gateway:gw-1", Generation(0));
    seen.await.unwrap();
}

/// Jobs of `acme/web` in two clusters, with the policy `base` at the repository; each reached `forge.test` and `house.test`.
async fn filled(default: (&str, Option<&str>)) -> Bench {
    let bench = Bench::new().await;
    let (named, yaml) = default;
    gateway(
        &bench,
        &[
            ("runners", "prod", "10.77.0.0/16", named, yaml),
            ("others", "test", "10.78.0.0/16", "deny-all", None),
        ],
    )
    .await;
    bench.policy("base", POLICY).await;
    attach(&bench, "base", "repo:acme/web").await;
    let mut events = Vec::new();
    for (source, cluster) in [("10.77.0.1", "prod"), ("10.78.0.1", "test")] {
        let id = job(&bench, "acme/web", "ci.yml", source, json!({})).await;
        let job = json!({"id": id, "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "job": "build",
            "cluster": cluster, "run_id": "7", "assurance": "declared"});
        for name in ["forge.test", "house.test"] {
            let more = json!({"job": job, "name": name, "name_source": "sni", "address": "192.0.2.7"});
            events.push(event(&format!("{cluster}-{name}"), None, &more));
        }
    }
    store(&bench.store, events).await;
    bench
}

async fn detached(bench: &Bench) -> Value {
    let path = "/orgs/acme/policies/base/attachments?dry_run=true";
    let told = bench.post(path).json(&json!({"remove": ["repo:acme/web"]}));
    told.ok().await.value()["falls_back"][0].clone()
}

async fn tried(bench: &Bench) -> Value {
    let changes = json!({"changes": [{"scope": "repo:acme/web", "policy": null}]});
    bench.post("/simulate").json(&changes).ok().await.value()
}

/// What the simulation for a cluster says: the policy, and what it newly refuses.
fn of_cluster<'t>(told: &'t Value, cluster: &str) -> (&'t Value, Vec<&'t str>) {
    let all = told["simulations"].as_array().unwrap();
    let one = all.iter().find(|one| one["clusters"] == json!([cluster]));
    let one = one.unwrap_or_else(|| panic!("nothing of {cluster} in {told}"));
    let lines = one["newly_refused"].as_array().unwrap().iter();
    (
        &one["policy"],
        lines.map(|line| line["endpoint"].as_str().unwrap()).collect(),
    )
}

#[tokio::test]
async fn a_networks_default_is_shown_and_tried_for_the_jobs_of_its_cluster() {
    let bench = filled(("house.yaml (block)", Some(HOUSE))).await;
    let told = detached(&bench).await;
    assert_eq!(
        told["by_cluster"],
        json!([
            {"cluster": "prod", "to": null, "defaults": ["house.yaml (block)"]},
            {"cluster": "test", "to": null, "defaults": ["deny-all"]},
        ])
    );
    let told = tried(&bench).await;
    assert_eq!((&told["no_policy"], &told["unseen"]), (&json!([]), &json!([])));
    let (policy, refused) = of_cluster(&told, "prod");
    assert_eq!(
        policy,
        &json!({"name": "house.yaml (block)", "mode": "block", "network_default": true})
    );
    assert_eq!(refused, ["forge.test"]);
    let (policy, refused) = of_cluster(&told, "test");
    assert_eq!(policy["name"], "deny-all");
    assert_eq!(refused, ["forge.test", "house.test"]);
}

#[tokio::test]
async fn a_clusters_policy_comes_before_its_networks_default() {
    let bench = filled(("house.yaml (block)", Some(HOUSE))).await;
    bench.policy("cluster", HOUSE).await;
    attach(&bench, "cluster", "cluster:test").await;
    let told = detached(&bench).await;
    let to = &told["by_cluster"][1]["to"];
    assert_eq!(
        (&to["policy"], &to["scope"]),
        (&json!("cluster"), &json!("cluster:test"))
    );
    let told = tried(&bench).await;
    let (policy, refused) = of_cluster(&told, "test");
    assert_eq!(
        (&policy["name"], &policy["version"]),
        (&json!("cluster"), &json!(1))
    );
    assert_eq!(refused, ["forge.test"]);

    // Both leave at once: what remains is the network's default.
    let changes = json!({"changes": [
        {"scope": "repo:acme/web", "policy": null}, {"scope": "cluster:test", "policy": null},
    ]});
    let told = bench.post("/simulate").json(&changes).ok().await.value();
    assert_eq!(of_cluster(&told, "test").0["name"], "deny-all");

    // The preview of a deletion says the same.
    let told = bench
        .delete("/orgs/acme/policies/base?dry_run=true")
        .ok()
        .await
        .value();
    assert_eq!(told["falls_back"][0]["by_cluster"][1]["to"]["policy"], "cluster");
}

#[tokio::test]
async fn a_scope_that_would_hold_two_policies_is_refused() {
    let bench = filled(("deny-all", None)).await;
    let changes = json!({"changes": [
        {"scope": "repo:acme/web", "policy": null},
        {"scope": "repo:Acme/Web", "policy": {"owner": "acme", "name": "base"}},
    ]});
    bench
        .post("/simulate")
        .json(&changes)
        .refused(422, "invalid")
        .await;
}

#[tokio::test]
async fn a_default_that_is_not_told_can_not_be_tried() {
    for text in [
        None,
        Some("use: [own]\negress-policy: block\n"),
        Some("egress-policy: ["),
    ] {
        let bench = filled(("house.yaml (block)", text)).await;
        let told = tried(&bench).await;
        assert_eq!(told["no_policy"], json!(["repo:acme/web"]), "{text:?}");
        assert_eq!(of_cluster(&told, "test").1, ["forge.test", "house.test"]);
    }
}

#[tokio::test]
async fn a_policy_that_takes_the_wider_scope_in_the_same_change_is_what_jobs_fall_back_to() {
    let bench = filled(("house.yaml (block)", Some(HOUSE))).await;
    bench.policy("wide", POLICY).await;
    let changes = json!({"changes": [
        {"scope": "repo:acme/web", "policy": null},
        {"scope": "org:acme", "policy": {"owner": "acme", "name": "wide", "yaml": HOUSE}},
    ]});
    let told = bench.post("/simulate").json(&changes).ok().await.value();
    let [one] = told["simulations"].as_array().unwrap().as_slice() else {
        panic!("{told}")
    };
    assert_eq!(one["scopes"], json!(["org:acme", "repo:acme/web"]));
    assert_eq!(one["newly_refused"][0]["endpoint"], "forge.test");
    assert_eq!(one["newly_refused"][0]["verdicts"], 2);
}

#[tokio::test]
async fn the_policy_of_a_cluster_is_not_tried_for_who_may_not_read_it() {
    let bench = filled(("deny-all", None)).await;
    let house = json!({"name": "cluster", "yaml": HOUSE});
    let made = bench.post("/orgs/house/policies").json(&house).send().await;
    assert_eq!(made.status, 201, "{made:?}");
    let take = json!({"add": ["cluster:test"]});
    bench
        .post("/orgs/house/policies/cluster/attachments")
        .json(&take)
        .ok()
        .await;
    let limited = bench.token(&of_owners(Role::Viewer, "acme", &["acme"])).await;
    let changes = json!({"changes": [{"scope": "repo:acme/web", "policy": null}]});
    let told = bench
        .post("/simulate")
        .by(&limited)
        .json(&changes)
        .ok()
        .await
        .value();
    assert_eq!(told["left_out"], json!(["repo:acme/web"]));
    assert_eq!(told["simulations"].as_array().unwrap().len(), 1);
}
