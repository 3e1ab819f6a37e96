//! Policies drafted from endpoints and baselines, without being stored.

use serde_json::{Value, json};
use tidegate_control::model::Role;

use crate::bench::{Bench, of_owners};

async fn draft(bench: &Bench, body: Value) -> Value {
    let before = bench.dump().await;
    let told = bench.post("/baselines/draft").json(&body).ok().await.value();
    assert_eq!(bench.dump().await, before, "nothing is stored");
    told
}

#[tokio::test]
async fn a_list_becomes_a_policy_with_wildcards_where_they_are_asked_for() {
    let bench = Bench::new().await;
    let given = json!({"endpoints": [
        "a.cdn.example.com", "b.cdn.example.com:443", "c.cdn.example.com:443", "Other.org:8443", "no endpoint", "",
        "a.github.io", "b.github.io", "c.github.io",
    ]});
    let told = draft(&bench, json!({"owner": "acme", "from": given})).await;
    let yaml = told["yaml"].as_str().unwrap();
    assert!(
        yaml.contains("egress-policy: audit\nallowed-endpoints: >\n  a.cdn.example.com:443\n"),
        "{yaml}"
    );
    assert!(yaml.contains("  other.org:8443\n"), "{yaml}");
    assert_eq!(told["unreadable"], json!(["no endpoint"]));
    assert_eq!(told["suggestions"][0]["pattern"], "*.cdn.example.com:443");
    assert_eq!(
        told["suggestions"].as_array().unwrap().len(),
        1,
        "never across a registrable domain: {told}"
    );
    let told = draft(
        &bench,
        json!({"owner": "acme", "from": given, "mode": "block", "collapse": "auto", "exclude": ["other.org:8443"]}),
    )
    .await;
    let yaml = told["yaml"].as_str().unwrap();
    assert!(
        yaml.contains("egress-policy: block\n") && yaml.contains("  *.cdn.example.com:443\n"),
        "{yaml}"
    );
    assert!(
        !yaml.contains("  a.cdn.") && !yaml.contains("other.org"),
        "{yaml}"
    );
    assert_eq!(
        (&told["collapsed"][0]["covers"], &told["diagnostics"]),
        (&json!(3), &json!([]))
    );
    let public = json!({"owner": "acme", "from": given, "collapse": ["*.github.io"]});
    let refused = bench
        .post("/baselines/draft")
        .json(&public)
        .refused(422, "invalid")
        .await;
    assert!(refused.detail().contains("registrable"), "{refused:?}");
}

#[tokio::test]
async fn a_draft_has_its_bounds_and_keeps_to_its_owner() {
    let bench = Bench::new().await;
    for (body, field) in [
        (json!({"owner": "acme", "from": {}}), "from"),
        (
            json!({"owner": "acme", "from": {"scope": "repo:acme"}}),
            "from.scopes",
        ),
        (
            json!({"owner": "acme", "from": {"endpoints": vec!["a.test"; 5_001]}}),
            "from.endpoints",
        ),
        (
            json!({"owner": "acme", "from": {"scope": "org:acme"}, "min_runs": 0}),
            "min_runs",
        ),
    ] {
        let told = bench
            .post("/baselines/draft")
            .json(&body)
            .refused(422, "invalid")
            .await;
        assert_eq!(told.value()["field"], field, "{told:?}");
    }
    let told = draft(
        &bench,
        json!({"owner": "acme", "from": {"scope": "repo:Acme/Web", "scopes": ["org:acme"]}}),
    )
    .await;
    assert_eq!(told["endpoints"], json!([]));
    assert_eq!(told["baselines"].as_array().unwrap().len(), 2);
    let limited = bench.token(&of_owners(Role::Viewer, "beta", &["beta"])).await;
    for from in [json!({"scope": "org:acme"}), json!({"scope": "cluster:prod"})] {
        let body = json!({"owner": "beta", "from": from});
        bench
            .post("/baselines/draft")
            .by(&limited)
            .json(&body)
            .refused(403, "forbidden")
            .await;
    }
}
